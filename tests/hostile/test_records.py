"""Records and series as an attacker would write them: refused in one sentence, or made harmless."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, strategies as st

from pairbench.errors import PairBenchError
from pairbench.experiments.status import look, render as render_status
from pairbench.experiments.submission import copy, look as look_at
from pairbench.leaderboard import FORMATS, build, render, write_site
from pairbench.results.columns import read_series, read_texts
from pairbench.results.files import strict_json
from pairbench.results.folder import Store
from pairbench.results.load import load_records
from pairbench.results.marks import MARKS, marks
from pairbench.results.query import query
from pairbench.results.record import RunRecord, digest
from pairbench.results.record_file import Unreadable, as_json, read_record
from tests.support.records import record

GOOD = as_json(record("grpo", 0)).decode()

UP = ("..", "../..", "../../outside", "/etc/outside", "a/../../outside", ".", ".hidden", "")

BAD: dict[str, Callable[[str], bytes]] = {
    "a key twice": lambda text: text.replace('"seed": 0', '"seed": 0, "seed": 1').encode(),
    "NaN": lambda text: text.replace('"drawdown": ', '"drawdown": NaN, "x": ').encode(),
    "infinity": lambda text: text.replace('"cores": 2', '"cores": -Infinity').encode(),
    "beyond a float": lambda text: text.replace('"cores": 2', '"cores": 1e999').encode(),
    "4000 digits": lambda text: text.replace('"seed": 0', f'"seed": {"9" * 4000}').encode(),
    "5000 digits": lambda text: text.replace('"seed": 0', f'"seed": {"9" * 5000}').encode(),
    "100,000 lists deep": lambda text: b"[" * 100_000,
    "100,000 objects deep": lambda text: b'{"a":' * 100_000,
    "true as a number": lambda text: re.sub(r'_version": \d', '_version": true', text).encode(),
    "no text": lambda text: b"\xff\xfe\x00",
    "nothing": lambda text: b"",
    "a list": lambda text: b"[]",
    "negative": lambda text: text.replace('"seed": 0', '"seed": -1').encode(),
    "another run": lambda text: text.replace('"seed": 0', '"seed": 1').encode(),
    "an unknown key": lambda text: text.replace("{", '{"__class__": "os.system",', 1).encode(),
}  # fmt: skip


@pytest.mark.parametrize("how", BAD)
def test_what_is_no_record_is_named_and_left_out(how: str, tmp_path: Path) -> None:
    good = record("grpo", 1)
    store = Store(tmp_path)
    store.write(good)
    path = store.path(record("grpo", 0))
    path.write_bytes(BAD[how](GOOD))
    with pytest.raises(Unreadable):
        read_record(path)
    records, problems = load_records(tmp_path)
    assert records == [good]
    (problem,) = problems
    assert len(problem) < 500 + len(str(path))
    assert "\n" not in problem


@pytest.mark.parametrize("kind", ["link", "link to a device", "pipe", "huge", "folder"])
def test_what_is_no_ordinary_file_is_not_read(kind: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text(GOOD)
    path = Store(tmp_path / "results").path(record("grpo", 0))
    path.parent.mkdir(parents=True)
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(2**40)  # a hole, which takes no room
    records, problems = load_records(tmp_path / "results")
    assert records == []
    assert len(problems) == 1


def renamed(**names: str) -> RunRecord:
    """A record of an algorithm or a task by a hostile name, with the identity that goes with it."""
    return record("grpo", 0, algorithm=names.get("algorithm", "grpo"), task=names.get("task", "t"))


@pytest.mark.parametrize("name", UP)
@pytest.mark.parametrize("what", ["algorithm", "task"])
def test_no_name_leads_out_of_the_folder(what: str, name: str, tmp_path: Path) -> None:
    hostile = renamed(**{what: name})
    store = Store(tmp_path / "a" / "b" / "results")
    written = store.write(hostile)
    place = store.path(written)
    assert place.is_file()
    assert place.resolve().relative_to(store.root.resolve()).parts[0] not in ("..", ".")
    assert len(place.relative_to(store.root).parts) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"a"}
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {"results"}
    assert load_records(store.root).records == [written]  # it is not hidden from readers either
    into = tmp_path / "a" / "b" / "into"
    found = look_at([place], into)
    found[0].problems.clear()  # whatever else is wrong with it
    for path in copy(found, into):
        assert path.resolve().is_relative_to(into.resolve())
    site = tmp_path / "a" / "site"
    pages = write_site([written], site).files
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"b", "site"}
    assert {path.name for path in site.iterdir() if path.is_dir()} <= {"runs"}
    assert all(page.resolve().relative_to(site.resolve()) for page in pages)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    outside, store = tmp_path / "outside", Store(tmp_path / "results")
    (outside / "grpo").mkdir(parents=True)
    store.root.mkdir()
    (store.root / "halfcheetah-v4").symlink_to(outside)
    with pytest.raises(PairBenchError, match="is a link out of "):
        store.write(record("grpo", 0))
    assert list((outside / "grpo").iterdir()) == []


NASTY = (
    '=HYPERLINK("http://x","y")', "+1+1", "-2+3", "@SUM(A1)", "\t=1", "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>', "\\input{/etc/passwd}", "$\\write18{x}$", "100% #1 & _x^2~",
    "\x1b]0;title\x07\x1b[31m", "a|b|c\n\n# head", "\u202egnp.exe", "{{ 7*7 }}", "'; DROP TABLE x",
)  # fmt: skip


@pytest.mark.parametrize("name", NASTY)
def test_a_name_is_a_name_in_every_format(name: str, tmp_path: Path) -> None:
    records = [record(name, seed, algorithm="a", task=f"t@{name}") for seed in range(2)]
    records.append(record(name, 2, algorithm="b", status="failed", reason=name, task=f"t@{name}"))
    board = build(records)[0]
    texts = {form: render(board, form) for form in FORMATS}
    for form in ("table", "markdown", "csv", "latex", "html"):
        assert "\x1b" not in texts[form]
    assert "<script>alert(1)" not in texts["html"] + texts["markdown"]
    assert "<img src=x" not in texts["html"] + texts["markdown"]
    body = [line for line in texts["latex"].splitlines() if not line.startswith("%")]
    assert not any("\\input" in line or "\\write18" in line for line in body)
    assert "{{ 7*7 }}" in texts["html"] or "7*7" not in name
    for line in csv.reader(io.StringIO(texts["csv"])):
        for cell in line:
            with contextlib.suppress(ValueError):
                float(cell)
                continue
            assert not cell.lstrip().startswith(("=", "+", "-", "@"))
    query("SELECT count(*) FROM records", _stored(records, tmp_path))


def _stored(records: list[RunRecord], folder: Path) -> Path:
    for one in records:
        Store(folder).write(one)
    return folder


def test_a_small_file_that_unpacks_to_a_huge_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT 0::FLOAT AS loss FROM range(100_000_000)) TO '{path}' "
            "(FORMAT parquet, COMPRESSION zstd)"
        )
    assert path.stat().st_size < 2**21
    for read in (read_series, read_texts):
        with pytest.raises(PairBenchError, match=r"cannot be read as .* unpacks to 100000000"):
            read(path)


def test_series_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    for column in ("'x'", "[1, 2]", "{'a': 1}"):
        with duckdb.connect() as connection:
            connection.execute(f"COPY (SELECT {column} AS loss) TO '{path}' (FORMAT parquet)")
        with pytest.raises(PairBenchError, match="holds other things than numbers"):
            read_series(path)


def test_signs_of_life_and_marks_that_are_none_do_no_harm(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(record("grpo", 0))
    store.driver_heartbeat.parent.mkdir()
    signs = [b"", b"[]", b"[" * 100_000, b'{"identity": {"a": 1}, "spent": "x", "idle": NaN}',
             b'{"identity": "x", "row": "\\u001b[31m", "seconds": 1e999, "idle": 1e300}',
             b'{"runs": [1]}', b'{"runs": {"a": {"b": 1}}}']  # fmt: skip
    for number, sign in enumerate(signs):
        (store.driver_heartbeat.parent / f"{number:016x}.json").write_bytes(sign)
        store.driver_heartbeat.write_bytes(sign)
        (tmp_path / MARKS).write_bytes(sign + b"\n\xff\n")
        assert "\x1b" not in render_status(look(tmp_path))
        assert marks(tmp_path) == []


# Fuzzing: no exception but our own, whatever the bytes.

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from([10**400, -(10**20), 1e308, "..", "\x00", "=1", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def _paths(tree: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [where] if where else []
    items: Any = ()
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, item in items:
        found += _paths(item, (*where, key))
    return found


PLACES = _paths(json.loads(GOOD))


def survives(data: bytes, folder: Path) -> None:
    """Reads a file in a record's place, and all that is made of records; only our errors leave."""
    path = folder / "t" / "a" / f"{record('grpo', 0).identity[:16]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    records, problems = load_records(folder)
    assert len(records) + len(problems) == 1
    for one in records:
        as_json(one)
        with contextlib.suppress(PairBenchError):
            for board in build([one]):
                for form in FORMATS:
                    render(board, form)
        look_at([path], folder)


@given(st.data())
def test_records_with_any_value_in_any_place(tmp_path_factory: Any, data: st.DataObject) -> None:
    tree = json.loads(GOOD)
    for place in data.draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=3)):
        target = tree
        try:
            for key in place[:-1]:
                target = target[key]
            target[place[-1]] = data.draw(VALUES)
        except (TypeError, KeyError, IndexError):
            continue
    if data.draw(st.booleans()):  # as an attacker would, who can compute a hash
        with contextlib.suppress(Exception):
            names = ("algorithm", "algorithm_config", "task", "task_version", "task_config",
                     "protocol", "seed")  # fmt: skip
            tree["identity"] = digest({name: tree[name] for name in names})
    survives(json.dumps(tree).encode(), tmp_path_factory.mktemp("fuzz"))


@given(st.binary(max_size=200))
def test_records_of_any_bytes(tmp_path_factory: Any, data: bytes) -> None:
    survives(data, tmp_path_factory.mktemp("fuzz"))


@given(st.integers(0, len(GOOD)), st.integers(0, 255))
def test_records_with_a_byte_changed(tmp_path_factory: Any, place: int, byte: int) -> None:
    data = bytearray(GOOD.encode())
    data[place : place + 1] = bytes([byte])
    survives(bytes(data), tmp_path_factory.mktemp("fuzz"))


@given(st.binary(max_size=300), st.integers(0, 10_000), st.booleans())
def test_series_of_any_bytes(tmp_path_factory: Any, data: bytes, place: int, framed: bool) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "s.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT 1.0::FLOAT AS loss, 2 AS x) TO '{path}' (FORMAT parquet)")
    whole = path.read_bytes()
    place %= len(whole)
    path.write_bytes(whole[:place] + data[:4] + whole[place + 4 :] if framed else data)
    for read in (read_series, read_texts):
        with contextlib.suppress(PairBenchError):
            read(path)


def test_json_says_one_thing() -> None:
    assert strict_json('{"a": [1, 2.5, null, true, "x"]}') == {"a": [1, 2.5, None, True, "x"]}
    with pytest.raises(ValueError, match="the key 'a' stands in it twice"):
        strict_json('{"b": {"a": 1, "a": 1}}')
