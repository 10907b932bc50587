"""Preference data: every form reads alike, cleaning is counted, splits depend on prompts only."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError, URLError

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairbench.errors import PairBenchError
from pairbench.language.data import load as data
from pairbench.language.data.load import Pair, Preferences, Turn, load, render, split_of

ROOT = Path(__file__).resolve().parents[3]
Row = Mapping[str, Any]


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


def talk(*texts: str) -> str:
    """A transcript in HH-RLHF's form: the human's turn first, then in turn."""
    return "".join(f"\n\n{('Human', 'Assistant')[k % 2]}: {text}" for k, text in enumerate(texts))


def lines(rows: Iterable[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def write(path: Path, rows: Iterable[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = lines(rows)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def plain(n: int = 3) -> list[dict[str, Any]]:
    return [{"prompt": f"q{k}", "chosen": f"good {k}", "rejected": f"bad {k}"} for k in range(n)]


def load_rows(tmp_path: Path, *rows: Row) -> Preferences:
    return load(str(write(tmp_path / "rows.jsonl", rows)))


def one_left(tmp_path: Path, row: Row) -> Mapping[str, int]:
    """What is dropped of `row` and a good row, of which the good one must be left."""
    loaded = load_rows(tmp_path, row, plain(1)[0])
    assert [p.chosen for p in loaded.pairs] == ["good 0"]
    return loaded.dropped


# Forms.


def test_a_transcript_becomes_alternating_turns_and_two_stripped_answers(tmp_path: Path) -> None:
    row = {"chosen": talk("a?", "b.", "c?", "d \n"), "rejected": talk("a?", "b.", "c?", "e")}
    (pair,) = load_rows(tmp_path, row).pairs
    assert pair == Pair(
        "rows-0", "file", (("user", "a?"), ("assistant", "b."), ("user", "c?")), "d", "e"
    )


EXPECTED = Pair("x", "s", (("user", "a?"), ("assistant", "b."), ("user", "c?")), "d", "e", 2, 1)
MESSAGES = [{"role": role, "content": text} for role, text in EXPECTED.prompt]
SIDES = {
    side: [{"role": "assistant", "content": text}]
    for side, text in (("chosen", "d"), ("rejected", "e"))
}


@pytest.mark.parametrize(
    "form",
    [
        {"chosen": talk("a?", "b.", "c?", "d"), "rejected": talk("a?", "b.", "c?", "e")},
        {"prompt": talk("a?", "b.", "c?", "")[:-1], "chosen": " d", "rejected": " e "},
        {"prompt": talk("a?", "b.", "c?"), "chosen": "d", "rejected": "e"},
        {"prompt": MESSAGES, "chosen": "d", "rejected": "e"},
        {"prompt": MESSAGES, **SIDES},
        {"prompt": talk("a?", "b.", "c?"), **SIDES},
        {side: [*MESSAGES, *answer] for side, answer in SIDES.items()},
        {"prompt": "c?", **{side: [*MESSAGES, *answer] for side, answer in SIDES.items()}},
    ],
)
@pytest.mark.parametrize("scores", [{"score_chosen": 2, "score_rejected": 1.0}, None])
def test_every_form_of_a_row_gives_the_same_pair(tmp_path: Path, form: Row, scores: Any) -> None:
    more = scores or {"metadata": {"score_chosen": "2", "score_rejected": 1}}
    assert load_rows(tmp_path, {"id": "x", "source": "s", **form, **more}).pairs == (EXPECTED,)


def test_a_plain_prompt_is_one_turn_and_a_system_turn_may_come_first(tmp_path: Path) -> None:
    system = {"role": "system", "content": "be kind"}
    ask = {"role": "user", "content": "q"}
    loaded = load_rows(
        tmp_path, {**plain(1)[0], "prompt": "  says\n\nHuman: in a text "},
        {"prompt": [system, ask], "chosen": "c", "rejected": "r"},
    )  # fmt: skip
    assert loaded.pairs[0].prompt == (("user", "says\n\nHuman: in a text"),)
    assert loaded.pairs[1].prompt == (("system", "be kind"), ("user", "q"))


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
    for name in ("b.json", "c.csv", "d.parquet", "a.jsonl.gz", "b.json.gz", "c.csv.gz"):
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


# Cleaning.

SHARED = {"prompt": talk("a?", "b.", "c?", "")}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"chosen": talk("a", "b"), "rejected": talk("x", "c")}, "no shared prompt"),
        (
            {"chosen": talk("a", "b", "c", "d"), "rejected": talk("a", "b", "x", "y")},
            "no shared prompt",
        ),
        ({"chosen": talk("a", "b"), "rejected": talk("a", "b", "c", "d")}, "no shared prompt"),
        ({"chosen": talk("a"), "rejected": talk("a")}, "no shared prompt"),
        ({**SHARED, "chosen": f"d{talk('e', 'f')}", "rejected": "g"}, "no shared prompt"),
        (
            {"chosen": "\n\nAssistant: hi\n\nHuman: a\n\nAssistant: b", "rejected": talk("a", "c")},
            "first turn not the user's",
        ),
        (
            {"prompt": "\n\nAssistant: hi\n\nHuman: a", "chosen": "b", "rejected": "c"},
            "first turn not the user's",
        ),
        ({"prompt": [], "chosen": "b", "rejected": "c"}, "first turn not the user's"),
        (
            {"prompt": MESSAGES[1:], "chosen": "b", "rejected": "c"},
            "first turn not the user's",
        ),
        (
            {"prompt": "\n\nHuman: a\n\nHuman: b\n\nAssistant:", "chosen": "c", "rejected": "d"},
            "turns do not alternate",
        ),
        ({"prompt": talk("a", "So,"), "chosen": "c", "rejected": "d"}, "turns do not alternate"),
        (
            {"prompt": talk("a", " ", "b"), "chosen": "c", "rejected": "d"},
            "empty turn in the prompt",
        ),
        ({"prompt": " ", "chosen": "c", "rejected": "d"}, "empty turn in the prompt"),
        ({"prompt": "q", "chosen": "", "rejected": "d"}, "empty side"),
        ({"prompt": "q", "chosen": "d", "rejected": " \n"}, "empty side"),
        ({**SHARED, "chosen": "", "rejected": ""}, "empty side"),
        ({"prompt": "q", "chosen": "d ", "rejected": " d"}, "identical sides"),
        ({"chosen": talk("a", "b"), "rejected": talk("a", "b")}, "identical sides"),
        (
            {"prompt": "q", "chosen": "d", "rejected": "e", "score_chosen": 1, "score_rejected": 1},
            "score tie",
        ),
        (
            {"prompt": "q", "chosen": "d", "rejected": "e", "score_chosen": 1, "score_rejected": 2},
            "score against the label",
        ),
    ],
)  # fmt: skip
def test_what_cleaning_drops_is_counted_by_reason(tmp_path: Path, row: Row, reason: str) -> None:
    assert one_left(tmp_path, row) == {reason: 1}


def test_nothing_left_after_cleaning_says_why(tmp_path: Path) -> None:
    row = {"prompt": "q", "chosen": "d", "rejected": "d"}
    with pytest.raises(PairBenchError, match=r"rows has no pair left.*2 for 'identical sides'"):
        load_rows(tmp_path, row, row)
    with pytest.raises(PairBenchError, match="it has no rows"):
        load_rows(tmp_path)


# Bad input.


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "q", "chosen": "c"}, r"line 2 has no 'rejected'"),
        ({"prompt": "q", "rejected": "r"}, r"line 2 has no 'chosen'"),
        ({"prompt": "q", "chosen": None, "rejected": "r"}, r"line 2 has no 'chosen'"),
        ({"chosen": "c", "rejected": "r"}, r"line 2 has no 'prompt'.*add the column prompt"),
        ({"prompt": "q", "chosen": 3, "rejected": "r"}, r"line 2: 'chosen' holds 3, .*not text"),
        ({"prompt": 1, "chosen": "c", "rejected": "r"}, r"line 2: 'prompt' holds 1"),
        ({"prompt": "q", "chosen": "\ud800", "rejected": "r"}, r"line 2: 'chosen' is not valid"),
        (
            {"prompt": [{"role": "tool", "content": ""}], "chosen": "c", "rejected": "r"},
            r"line 2: a message of 'prompt' has the role 'tool'; .* user, assistant, system",
        ),
        ({"prompt": ["q"], "chosen": "c", "rejected": "r"}, r"line 2: .* has the role None"),
        (
            {"prompt": [{"role": "user"}], "chosen": "c", "rejected": "r"},
            r"line 2: 'prompt' holds None, which is not text",
        ),
        (
            {"prompt": "q", "chosen": "c", "rejected": "r", "score_chosen": float("nan")},
            r"line 2: 'score_chosen' holds nan, not a finite number",
        ),
        (
            {"prompt": "q", "chosen": "c", "rejected": "r", "score_rejected": "high"},
            r"line 2: 'score_rejected' holds 'high', not a finite number",
        ),
    ],
)  # fmt: skip
def test_a_row_that_is_wrong_is_named_with_its_line(tmp_path: Path, row: Row, message: str) -> None:
    with pytest.raises(PairBenchError, match=rf"rows\.jsonl, {message}"):
        load_rows(tmp_path, plain(1)[0], row)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", lines(plain()) + b'{"prompt": "\xff"}\n', r"a\.jsonl, line 4 is not UTF-8"),
        ("a.csv", b"prompt,chosen,rejected\nq,\xe9,r\n", r"a\.csv is not UTF-8 \(byte 25\)"),
        ("a.json", b'[{"prompt": "\xff"}]', r"a\.json is not UTF-8"),
        ("a.jsonl", lines(plain()) + b'{"prompt": \n', r"a\.jsonl, line 4 is not valid JSON"),
        ("a.jsonl", b"[1, 2]\n", r"a\.jsonl, line 1 is not an object"),
        ("a.json", b'{"prompt": 1}', r"a\.json is not a JSON list"),
        ("a.json", b"[" * 200_000, r"a\.json is not valid JSON"),
        ("a.csv", b"prompt,chosen\nq,c\n", r"a\.csv, line 2 has no 'rejected'"),
        ("a.csv", b"prompt,chosen,rejected\nq," + b"c" * 200_000 + b",r\n", r"is not valid CSV"),
        ("a.jsonl.gz", gzip.compress(lines(plain()))[:-12], r"a\.jsonl\.gz is not a whole gzip"),
        ("a.jsonl.gz", lines(plain()), r"a\.jsonl\.gz is not a whole gzip file"),
        ("a.jsonl.gz", b"", r"no pair left"),
        ("a.jsonl.gz", gzip.compress(b"x" * 999)[:12] + b"\xff" * 40, r"is not a whole gzip file"),
        ("a.parquet", b"PAR1 but not really", r"a\.parquet is not a readable Parquet file"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PairBenchError, match=message):
        load(str(tmp_path / name))


def test_a_long_csv_field_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"prompt,chosen,rejected\nq," + b"c" * 100_000 + b",r\n")
    assert len(load(str(tmp_path / "a.csv")).pairs[0].chosen) == 100_000


@pytest.mark.parametrize("suffix", [".jsonl", ".json.gz", ".csv", ".parquet"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(PairBenchError, match=rf"none{re.escape(suffix)} cannot be read: "):
        load(str(tmp_path / f"none{suffix}"))


def test_two_rows_with_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PairBenchError, match="two rows with the id 'x'"):
        load_rows(tmp_path, *({"id": "x", **row} for row in plain(2)))


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


def test_offline_mode_fails_in_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="pairbench[language] is not installed")
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    began = time.monotonic()
    with pytest.raises(PairBenchError, match=r"Anthropic/hh-rlhf at 09be8c5b.*PAIRBENCH_DATA"):
        load("hh-rlhf-harmless")
    assert time.monotonic() - began < 10


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


# Splits and hashes.

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(str.strip)
QUESTIONS = st.lists(st.sampled_from([f"Question {k}?" for k in range(40)]) | TEXTS, min_size=1)


def of(questions: Iterable[str]) -> Preferences:
    pairs = tuple(
        Pair(str(k), "s", (("user", question),), f"a{k}", "b")
        for k, question in enumerate(questions)
    )
    return data._preferences("p", pairs, {}, "local")


def places(preferences: Preferences) -> dict[str, str]:
    return {p.chosen: name for name, part in preferences.split().items() for p in part}


@given(QUESTIONS)
def test_no_prompt_is_in_two_splits_and_every_pair_is_in_one(questions: list[str]) -> None:
    parts = of(questions).split()
    assert sum(len(part) for part in parts.values()) == len(questions)
    prompts = [{p.prompt[0][1] for p in part} for part in parts.values()]
    assert len(set().union(*prompts)) == sum(len(each) for each in prompts)


@given(QUESTIONS, QUESTIONS, st.randoms())
def test_neither_order_nor_more_rows_move_a_pair(
    questions: list[str], more: list[str], shuffle: Any
) -> None:
    first = of(questions)
    pairs = list(first.pairs)
    shuffle.shuffle(pairs)
    moved = Preferences("p", tuple(pairs), {}, "local", data.content_hash(pairs))
    assert places(moved) == places(first) and moved.sha256 == first.sha256
    longer = places(of([*questions, *more]))
    assert {key: longer[key] for key in places(first)} == places(first)


@given(TEXTS, TEXTS)
def test_case_space_and_later_turns_do_not_change_the_split(first: str, later: str) -> None:
    turns: tuple[Turn, ...] = (("user", first), ("assistant", "x"), ("user", later))
    variant = f"  {' '.join(first.split())}\n".replace(" ", "  \t")
    assert split_of(turns) == split_of((("system", later), ("user", first)))
    assert split_of((("user", variant),)) == split_of(turns)


def test_case_does_not_change_the_split() -> None:
    for k in range(100):
        assert split_of((("user", f"Straße {k}"),)) == split_of((("user", f"STRASSE {k}"),))


def test_shares_of_the_splits() -> None:
    parts = of(f"question {k}" for k in range(20_000)).split()
    for name, share in data.SHARES.items():
        assert abs(len(parts[name]) / 20_000 - share) < 4 * (share * (1 - share) / 20_000) ** 0.5
    assert sum(data.SHARES.values()) == pytest.approx(1)


def test_where_a_prompt_goes_never_changes() -> None:
    # records name a split; moving prompts between splits would make old records wrong
    asked = ["What is 2 + 2?", "Hello", "How do I boil an egg?", "Why is the sky blue?"]
    assert [split_of((("user", q),)) for q in asked] == ["policy", "gold", "policy", "gold"]


@pytest.mark.parametrize("field", ["prompt", "chosen", "rejected", "score_chosen", "source"])
def test_the_hash_sees_content_and_not_ids(tmp_path: Path, field: str) -> None:
    base = {"id": "a", "source": "s", "prompt": "q", "chosen": "c", "rejected": "r",
            "score_chosen": 2.0, "score_rejected": 1.0}  # fmt: skip
    one = load_rows(tmp_path, base).sha256
    assert load_rows(tmp_path, {**base, "id": "b"}).sha256 == one
    changed = 3.0 if field == "score_chosen" else f"{base[field]}!"
    assert load_rows(tmp_path, {**base, field: changed}).sha256 != one


# Prompts as text.


def test_render_uses_the_chat_template_where_there_is_one() -> None:
    def apply(messages: list[Row], tokenize: bool, add_generation_prompt: bool) -> str:
        assert not tokenize and add_generation_prompt
        return "|".join(f"{m['role']}={m['content']}" for m in messages) + "|assistant="

    turns: tuple[Turn, ...] = (("user", "a"), ("assistant", "b"), ("user", "c"))
    with_template = SimpleNamespace(chat_template="...", apply_chat_template=apply)
    assert render(turns, with_template) == "user=a|assistant=b|user=c|assistant="
    transcript = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    assert render(turns, SimpleNamespace(chat_template=None)) == transcript
    assert render((("system", "s"), *turns), object()) == "\n\nSystem: s" + transcript


def test_a_rendered_prompt_reads_back(tmp_path: Path) -> None:
    prompt = render(EXPECTED.prompt, object())
    (pair,) = load_rows(tmp_path, {"prompt": prompt, "chosen": " d", "rejected": " e"}).pairs
    assert pair.prompt == EXPECTED.prompt


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
        share = data.SHARES[split]
        spread = (share * (1 - share) / len(loaded.pairs)) ** 0.5
        assert abs(len(part) / len(loaded.pairs) - share) < 5 * spread


def test_helpful_pairs_load_in_well_under_two_seconds(real: Path) -> None:
    began = time.process_time()  # of this process: other work on the machine does not count
    load("hh-rlhf-helpful", real)
    assert time.process_time() - began < 2
