"""Where preference data come from: files, folders and the hub."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError, URLError

import duckdb
import pytest

from pairbench.errors import PairBenchError
from pairbench.language.data import load as data
from pairbench.language.data.load import SUFFIXES, load
from pairbench.language.data.pairs import SHARES, Pair, Preferences
from tests.support.preferences import MESSAGES, SIDES, Row, lines, plain, talk, write

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAIRBENCH_DATA", raising=False)


REAL = os.environ.get("PAIRBENCH_DATA")


@pytest.fixture(scope="module")
def real() -> Path:
    folder = Path(REAL) if REAL else ROOT.parent / "shared" / "data"
    if not (folder / "hh_helpful_base_test.jsonl.gz").is_file():
        pytest.skip("no real data: neither PAIRBENCH_DATA nor ../shared/data has the HH files")
    return folder


def test_every_file_format_gives_the_same_pairs(tmp_path: Path) -> None:
    rows = [
        {
            **row,
            "score_chosen": 2.5,
            "score_rejected": -1.0,
            "prompt": f"{row['prompt']}, “π”\nline",
        }
        for row in plain(20)
    ]
    expected = load(str(write(tmp_path / "a.jsonl", rows)))
    assert len(expected.pairs) == 20 and expected.name == "a" and expected.revision == "local"
    (tmp_path / "b.json").write_text(json.dumps(rows), encoding="utf-8")
    with open(tmp_path / "c.csv", "w", encoding="utf-8-sig", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * FROM read_json('{tmp_path / 'a.jsonl'}')) "
            f"TO '{tmp_path / 'd.parquet'}' (FORMAT parquet)"
        )
    for name in ("a.jsonl", "b.json", "c.csv"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    (tmp_path / "e.json").write_bytes((tmp_path / "a.jsonl").read_bytes())
    for name in ("b.json", "e.json", "c.csv", "d.parquet", "a.jsonl.gz", "b.json.gz", "c.csv.gz"):
        loaded = load(str(tmp_path / name))
        assert loaded.sha256 == expected.sha256
        assert [p.prompt for p in loaded.pairs] == [p.prompt for p in expected.pairs]
        assert loaded.name == name[0]


def test_parquet_keeps_lists_of_messages(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"prompt": MESSAGES, **SIDES}])
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * FROM read_json('{tmp_path / 'a.jsonl'}')) "
            f"TO '{tmp_path / 'b.parquet'}' (FORMAT parquet)"
        )
    assert load(str(tmp_path / "b.parquet")).sha256 == load(str(tmp_path / "a.jsonl")).sha256


# Bad input.


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", lines(plain()) + b'{"prompt": "\xff"}\n', r"a\.jsonl, line 4 is not UTF-8"),
        ("a.csv", b"prompt,chosen,rejected\nq,\xe9,r\n", r"a\.csv is not UTF-8 \(byte 25\)"),
        ("a.json", b'[{"prompt": "\xff"}]', r"a\.json is not UTF-8"),
        ("a.jsonl", lines(plain()) + b'{"prompt": \n', r"a\.jsonl, line 4 is not valid JSON"),
        ("a.jsonl", b"[1, 2]\n", r"a\.jsonl, line 1 is not an object"),
        ("a.json", b'{"prompt": 1}', r"a\.json, row 1 has no 'chosen'"),
        ("a.json", b"[" * 200_000, r"a\.json, row 1 is not valid JSON"),
        ("a.csv", b"prompt,chosen\nq,c\n", r"a\.csv, line 2 has no 'rejected'"),
        ("a.csv", b"prompt,chosen,rejected\nq,c,r, s\n", r"a\.csv, line 2 has more cells than"),
        ("a.json", lines(plain()) + b"{", r"a\.json, row 4 is not valid JSON"),
        ("a.csv", b'prompt,chosen,rejected\nq,"c,r\n', r"is not valid CSV: unexpected end"),
        ("a.jsonl.gz", gzip.compress(lines(plain()), mtime=0)[:-12], r"is not a whole gzip"),
        ("a.jsonl.gz", lines(plain()), r"a\.jsonl\.gz is not a whole gzip file"),
        ("a.jsonl.gz", b"", r"no pair left"),
        ("a.jsonl.gz", gzip.compress(b"x" * 999, mtime=0)[:12] + b"\xff" * 40, r"not a whole gzip"),
        ("a.parquet", b"PAR1 but not really", r"a\.parquet is not a readable Parquet file"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PairBenchError, match=message):
        load(str(tmp_path / name))


def test_empty_cells_are_alike_in_every_format(tmp_path: Path) -> None:
    """Of a row without id, source and scores, and of one without an answer."""
    rows = [
        {"id": none, "source": none, "prompt": "q", "chosen": "c", "rejected": "r",
         "score_chosen": none, "score_rejected": none}
        for none in (None, "", " ")
    ]  # fmt: skip
    rows += [{**rows[0], "rejected": none} for none in (None, "", " ")]
    rows += [{**rows[0], "prompt": none} for none in (None, "", " ")]
    write(tmp_path / "a.jsonl", rows)
    (tmp_path / "a.json").write_text(json.dumps(rows))
    with open(tmp_path / "a.csv", "w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * FROM read_json('{tmp_path / 'a.jsonl'}')) "
            f"TO '{tmp_path / 'a.parquet'}' (FORMAT parquet)"
        )
    for suffix in SUFFIXES:
        loaded = load(str(tmp_path / f"a{suffix}"))
        assert [pair.id for pair in loaded.pairs] == ["a-0", "a-1", "a-2"], suffix
        assert {(p.source, p.score_chosen) for p in loaded.pairs} == {("file", None)}
        assert loaded.dropped == {"empty side": 3, "empty turn in the prompt": 3}


def test_a_long_csv_field_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"prompt,chosen,rejected\nq," + b"c" * 200_000 + b",r\n")
    assert len(load(str(tmp_path / "a.csv")).pairs[0].chosen) == 200_000


@pytest.mark.parametrize("suffix", [".jsonl", ".json.gz", ".csv", ".parquet"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(PairBenchError, match=rf"none{re.escape(suffix)} cannot be read: "):
        load(str(tmp_path / f"none{suffix}"))


def test_an_unknown_data_set_suggests_a_near_one() -> None:
    with pytest.raises(PairBenchError, match="'hh-rlhf-helpfull'; did you mean hh-rlhf-helpful"):
        load("hh-rlhf-helpfull")
    with pytest.raises(PairBenchError, match=r"known are .*hh-rlhf-helpful, toy-dialogue"):
        load("zzz")
    with pytest.raises(PairBenchError, match="ultrafeedback has no online part"):
        load("ultrafeedback", online=True)


# Folders.

HELPFUL = ("helpful-base", "helpful-rejection-sampled")


def hh_rows(part: str, n: int = 30) -> list[dict[str, Any]]:
    return [
        {"chosen": talk(f"{part} {k}?", "hm", f"go {k}", "yes"),
         "rejected": talk(f"{part} {k}?", "hm", f"go {k}", "no" if k else "yes")}
        for k in range(n)
    ]  # fmt: skip


def in_schema(rows: Iterable[Row], part: str) -> list[dict[str, Any]]:
    cut = [row["chosen"].rindex("\n\nAssistant:") + len("\n\nAssistant:") for row in rows]
    return [
        {"id": f"hh-{part}-test-{k}", "prompt": row["chosen"][:n], "source": "elsewhere",
         "chosen": row["chosen"][n:], "rejected": row["rejected"][n:]}
        for k, (n, row) in enumerate(zip(cut, rows))
    ]  # fmt: skip


def schema_folder(folder: Path, parts: Iterable[str] = HELPFUL) -> Path:
    for part in parts:
        name = f"hh_{part.replace('-', '_')}_test.jsonl.gz"
        write(folder / name, in_schema(hh_rows(part), part))
    return folder


def original_folder(folder: Path, parts: Iterable[str] = HELPFUL) -> Path:
    for part in parts:
        write(folder / f"hh-{part}-test.jsonl.gz", hh_rows(part))
    return folder


def test_schema_and_originals_give_the_same_pairs(tmp_path: Path) -> None:
    schema = load("hh-rlhf-helpful", schema_folder(tmp_path / "a"))
    original_folder(tmp_path / "b" / "original")
    for folder in (tmp_path / "b", tmp_path / "b" / "original"):
        assert load("hh-rlhf-helpful", folder) == schema
    assert len(schema.pairs) == 58 and schema.dropped == {"identical sides": 2}
    assert {p.source for p in schema.pairs} == {"helpful-base", "rejection-sampled"}


def test_parts_of_each_data_set(tmp_path: Path) -> None:
    every = (*HELPFUL, "helpful-online", "harmless-base")
    schema_folder(tmp_path, every)

    def sources(name: str, online: bool = False) -> set[str]:
        return {p.source for p in load(name, tmp_path, online=online).pairs}

    helpful = {"helpful-base", "rejection-sampled"}
    assert sources("hh-rlhf-helpful", online=True) == helpful | {"online"}
    assert sources("hh-rlhf-harmless") == {"harmless-base"}
    assert sources("hh-rlhf") == helpful | {"harmless-base"}
    assert sources("hh-rlhf", online=True) == helpful | {"harmless-base", "online"}


def test_a_copy_of_the_hubs_repository_and_train_files_are_read(tmp_path: Path) -> None:
    for part in HELPFUL:
        rows = hh_rows(part)
        write(tmp_path / "hub" / part / "train.jsonl.gz", rows[:20])
        write(tmp_path / "hub" / part / "test.jsonl.gz", rows[20:])
        stem = f"hh-{part}"
        write(tmp_path / "own" / f"{stem}-train.jsonl.gz", rows[:20])
        write(tmp_path / "own" / f"{stem}-test.jsonl.gz", rows[20:])
    expected = load("hh-rlhf-helpful", schema_folder(tmp_path / "schema"))
    for name in ("hub", "own"):
        assert load("hh-rlhf-helpful", tmp_path / name).sha256 == expected.sha256


def test_a_folder_that_lacks_a_file_says_which(tmp_path: Path) -> None:
    with pytest.raises(PairBenchError, match=r"needs hh_helpful_base_test\.jsonl\.gz in the fold"):
        load("hh-rlhf", tmp_path)
    schema_folder(tmp_path, HELPFUL[:1])
    missing = r"hh_helpful_rejection_sampled_test\.jsonl\.gz"
    with pytest.raises(PairBenchError, match=rf"needs {missing}.*Anthropic/hh-rlhf"):
        load("hh-rlhf", tmp_path)
    write(tmp_path / "uf" / "original" / "ultrafeedback-train_clean.jsonl.gz", plain())
    with pytest.raises(PairBenchError, match=r"original/ultrafeedback-eval_clean\.jsonl\.gz"):
        load("ultrafeedback", tmp_path / "uf")


def test_the_folder_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAIRBENCH_DATA", str(schema_folder(tmp_path)))
    assert len(load("hh-rlhf-helpful").pairs) == 58
    monkeypatch.setenv("PAIRBENCH_DATA", str(tmp_path / "none"))
    with pytest.raises(PairBenchError, match="named by the environment's PAIRBENCH_DATA, is not"):
        load("hh-rlhf-helpful")
    with pytest.raises(PairBenchError, match="named by --data-dir, is not a folder"):
        load("hh-rlhf-helpful", tmp_path / "neither")


def test_a_row_that_is_no_transcript_is_dropped_from_a_named_data_set(tmp_path: Path) -> None:
    schema_folder(tmp_path)
    rows = [{"chosen": "what", "rejected": "ever"}, *hh_rows("x", 2)]
    write(tmp_path / "hh_helpful_base_test.jsonl.gz", rows)
    assert load("hh-rlhf-helpful", tmp_path).dropped["first turn not the user's"] == 1


# The hub.


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[dict[str, Any]]]:
    """Stands in for the hub: `load_dataset` becomes the given function; returns its calls."""
    datasets = pytest.importorskip("datasets", reason="pairbench[language] is not installed")
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(data, "_answers", lambda url: True)
    calls: list[dict[str, Any]] = []

    def install(answer: Callable[..., Any]) -> list[dict[str, Any]]:
        def load_dataset(name: str, **settings: Any) -> Any:
            calls.append({"name": name, **settings})
            return answer(name, **settings)

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return calls

    return install


def test_the_hub_is_read_at_a_pinned_commit_train_and_test(hub: Any, tmp_path: Path) -> None:
    def answer(name: str, data_dir: str, revision: str, split: list[str]) -> Any:
        rows = hh_rows(data_dir)
        return [rows[:20], rows[20:]]

    calls = hub(answer)
    loaded = load("hh-rlhf-helpful")
    assert [call["data_dir"] for call in calls] == list(HELPFUL)
    for call in calls:
        assert call["name"] == "Anthropic/hh-rlhf" and call["split"] == ["train", "test"]
        assert re.fullmatch("[0-9a-f]{40}", call["revision"])
        assert call["revision"] == loaded.revision
    local = load("hh-rlhf-helpful", schema_folder(tmp_path))
    assert loaded.sha256 == local.sha256 and loaded.dropped == local.dropped
    assert loaded.pairs[0].id == "hh-helpful-base-train-1"


def test_ultrafeedback_on_the_hub_is_lists_of_messages(hub: Any) -> None:
    def row(k: int) -> dict[str, Any]:
        ask = {"role": "user", "content": f"q{k}"}
        sides = {
            side: [ask, {"role": "assistant", "content": f"{side} {k}"}]
            for side in ("chosen", "rejected")
        }
        scores = {"score_chosen": 8.0, "score_rejected": 8.0 - k}
        return {"prompt": f"q{k}", "prompt_id": "0", **sides, "messages": [], **scores}

    calls = hub(lambda *args, **settings: [[row(k) for k in range(4)], [row(4)]])
    loaded = load("ultrafeedback")
    (call,) = calls
    assert call["name"] == "HuggingFaceH4/ultrafeedback_binarized" and call["data_dir"] is None
    assert call["split"] == ["train_prefs", "test_prefs"] and len(call["revision"]) == 40
    assert loaded.dropped == {"score tie": 1}
    assert loaded.pairs[0] == Pair(
        "uf-train_prefs-1", "ultrafeedback", (("user", "q1"),), "chosen 1", "rejected 1", 8.0, 7.0
    )
    assert loaded.pairs[-1].id == "uf-test_prefs-0"


@pytest.mark.parametrize("error", [ConnectionError, FileNotFoundError, ValueError])
def test_a_failure_of_the_hub_names_both_ways(hub: Any, error: type[Exception]) -> None:
    def answer(*args: Any, **settings: Any) -> Any:
        raise error("it\nbroke")

    hub(answer)
    with pytest.raises(PairBenchError, match=r"\(it broke\): connect.*hub.*--data-dir or PAIRBE"):
        load("hh-rlhf")


def test_a_hub_that_does_not_answer_fails_at_once(
    hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = hub(lambda *args, **settings: pytest.fail("asked a hub that does not answer"))
    monkeypatch.setattr(data, "_answers", lambda url: False)
    with pytest.raises(PairBenchError, match=r"does not answer: connect.*--data-dir or PAIRBENCH"):
        load("ultrafeedback")
    assert calls == []


def test_offline_mode_asks_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="pairbench[language] is not installed")
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    asked: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: asked.append(address))
    with pytest.raises(PairBenchError, match=r"Anthropic/hh-rlhf at 09be8c5b.*PAIRBENCH_DATA"):
        load("hh-rlhf-harmless")
    assert asked == []


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PairBenchError, match=r'pip install "pairbench\[language\]", or name a'):
        load("hh-rlhf")


@pytest.mark.parametrize(
    ("outcome", "answers"),
    [
        (None, True),
        (HTTPError("", 401, "", None, None), True),  # type: ignore[arg-type]
        (URLError("no such host"), False),
        (TimeoutError(), False),
        (ConnectionResetError(), False),
    ],
)
def test_a_server_answers_even_with_an_error(
    monkeypatch: pytest.MonkeyPatch, outcome: Exception | None, answers: bool
) -> None:
    def urlopen(request: Any, timeout: float) -> Any:
        assert timeout <= 5 and request.get_method() == "HEAD"
        if outcome is not None:
            raise outcome
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(data, "urlopen", urlopen)
    assert data._answers("https://hub.invalid") is answers


# The real files.


@pytest.mark.parametrize(
    "name", ["hh-rlhf-helpful", "hh-rlhf-harmless", "hh-rlhf", "ultrafeedback"]
)
def test_real_schema_and_originals_give_the_same_pairs(real: Path, name: str) -> None:
    online = name == "hh-rlhf"
    one, two = load(name, real, online=online), load(name, real / "original", online=online)
    assert one.sha256 == two.sha256 and one.dropped == two.dropped

    def content(preferences: Preferences) -> list[Any]:
        return [
            (p.source, p.prompt, p.chosen, p.rejected, p.score_chosen) for p in preferences.pairs
        ]

    assert content(one) == content(two)


@pytest.mark.parametrize(
    ("name", "rows", "at_most"),
    [("hh-rlhf-helpful", 5103, 60), ("hh-rlhf-harmless", 2312, 15), ("ultrafeedback", 1200, 150)],
)
def test_every_real_row_is_kept_or_counted(real: Path, name: str, rows: int, at_most: int) -> None:
    loaded = load(name, real)
    assert len(loaded.pairs) + sum(loaded.dropped.values()) == rows
    assert sum(loaded.dropped.values()) <= at_most
    for pair in loaded.pairs:
        roles = [role for role, _ in pair.prompt]
        assert roles == [("user", "assistant")[k % 2] for k in range(len(roles))]
        assert len(roles) % 2 == 1 and all(text for _, text in pair.prompt)
        assert pair.chosen and pair.rejected and pair.chosen != pair.rejected
        assert pair.chosen.strip() == pair.chosen
    parts = loaded.split()
    for split, part in parts.items():
        share = SHARES[split]
        spread = (share * (1 - share) / len(loaded.pairs)) ** 0.5
        assert abs(len(part) / len(loaded.pairs) - share) < 5 * spread


@pytest.mark.performance
def test_helpful_pairs_load_in_well_under_two_seconds(real: Path) -> None:
    began = time.process_time()  # of this process: other work on the machine does not count
    load("hh-rlhf-helpful", real)
    assert time.process_time() - began < 2
