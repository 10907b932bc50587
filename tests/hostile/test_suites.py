"""Suites, data files and plug-ins as an attacker would write them, and command lines likewise."""

from __future__ import annotations

import contextlib
import gzip
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pairbench.errors import PairBenchError
from pairbench.experiments.suite import expand, load_suite, parse_seeds
from pairbench.language.data import load as data
from pairbench.registry import Entry, _described, _load

GOOD = """
[protocol]
budget = { steps = 2000 }

[[rows]]
name = "grpo"
algorithm = "grpo"
tasks = ["preference-bandit"]
"""

BAD = {
    "a key twice": GOOD.replace('name = "grpo"', 'name = "a"\nname = "b"'),
    "a table twice": GOOD + "[protocol]\n",
    "too deep": f"x = {'[' * 5000}{']' * 5000}",
    "too many digits": GOOD.replace("2000", "9" * 5000),
    "nan": GOOD + "settings = { lr = nan }",
    "infinity": GOOD + "settings = { lr = inf }",
    "a date": GOOD + "settings = { lr = 2026-01-01 }",
    "a budget of infinity": GOOD.replace("steps = 2000", "seconds = inf"),
    "billions of seeds": 'seeds = "0-99999999999"\n' + GOOD,
    "a trillion seeds in parts": f'seeds = "{",".join(["0-99999"] * 3)}"\n' + GOOD,
    "a path as algorithm": GOOD.replace('"grpo"\nt', '"../../../bin/sh"\nt'),
    "a path as task": GOOD.replace('"preference-bandit"', '"../../x"'),
    "a nul": GOOD.replace('"preference-bandit"', '"a\\u0000b"'),
    "another key": GOOD + '__class__ = "os.system"',
    "no name": GOOD.replace('name = "grpo"', 'name = ""'),
}


@pytest.mark.parametrize("how", BAD)
def test_a_bad_suite_is_one_sentence(how: str, tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(BAD[how])
    with pytest.raises(PairBenchError) as caught:
        expand(load_suite(str(path)))
    assert "\n" not in str(caught.value).rstrip()


def test_a_suite_that_is_no_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "huge.toml").touch()
    with (tmp_path / "huge.toml").open("wb") as file:
        file.truncate(2**40)
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "text.toml").write_bytes(b"\xff")
    for name in ("huge", "folder", "text", "none"):
        with pytest.raises(PairBenchError, match="cannot be read"):
            load_suite(str(tmp_path / f"{name}.toml"))
    with pytest.raises(PairBenchError, match=r"cannot be read: .*no ordinary file"):
        load_suite("/dev/../dev/zero")


@given(st.text(max_size=30))
def test_seeds_of_any_text(text: str) -> None:
    with contextlib.suppress(PairBenchError):
        assert len(parse_seeds(text)) <= 100_000


TOML = st.sampled_from([
    "0", "-1", "1e400", "nan", "-inf", "true", '""', '"../x"', "[]", "[[]]", "{}", "1979-05-27",
    '"\\u0000"', "9223372036854775807", "99999999999999999999", '["grpo"]', "{ steps = 1 }",
])  # fmt: skip


@given(st.sampled_from(GOOD.split("\n")[1:-1]), TOML, st.sampled_from(["seeds", "name", "anneal"]))
def test_suites_with_any_value(tmp_path_factory: Any, line: str, value: str, extra: str) -> None:
    key, equals, _ = line.partition(" = ")
    text = GOOD.replace(line, f"{key} = {value}" if equals else f"{line}\n{extra} = {value}")
    path = tmp_path_factory.mktemp("fuzz") / "s.toml"
    path.write_text(text)
    with contextlib.suppress(PairBenchError):
        expand(load_suite(str(path)))


def test_data_that_unpack_to_too_much_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "MOST_BYTES", 2**20)
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(b"\0" * 2**24))
    assert path.stat().st_size < 2**16
    with pytest.raises(PairBenchError, match="unpacks to more than 1048576 bytes"):
        list(data._records(path))
    bomb = tmp_path / "bomb.parquet"
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT 0 AS x FROM range(10_000_000)) TO '{bomb}'")
    with pytest.raises(PairBenchError, match="unpacks to 10000000 values"):
        list(data._records(bomb))


@pytest.mark.parametrize("text", ["[" * 100_000, "\0", '{"prompt": 1', "9" * 5000])
def test_data_of_bad_json_are_one_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(text)
    with pytest.raises(PairBenchError):
        list(data._records(path))


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("", "cannot be imported"),
        ("../../etc/passwd:X", "cannot be imported"),
        ("os:nothing", "cannot be imported"),
        (":", "cannot be imported"),
        ("leaves:X", "cannot be imported: SystemExit"),
    ],
)
def test_a_plug_in_that_is_none_stops_nobody(
    target: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PairBenchError, match=says):
        _load(Entry("algorithm", "x", target, origin="evil"))
    assert "leaves" not in sys.modules


@pytest.mark.parametrize(
    "code",
    [
        "raise KeyboardInterrupt",
        "class Stop(BaseException): pass\nraise Stop",
        "raise SystemExit(0)",
        "class K(type):\n  variants = property(lambda cls: 1 / 0)\nclass X(metaclass=K): pass",
    ],
)  # fmt: skip
def test_a_plug_in_stops_only_its_own_rows_and_prints_into_no_json(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "evil_module.py").write_text(f"print('hello')\n{code}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "evil_module", raising=False)
    entry = _described(Entry("task", "x", "evil_module:X", origin="evil"))
    assert entry.error is not None and "(evil) cannot be imported" in entry.error
    out, err = capsys.readouterr()
    assert (out, err) == ("", "hello\n")


def test_control_c_during_an_import_is_no_fault_of_the_plug_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_module.py").write_text(
        "import signal\nsignal.raise_signal(signal.SIGINT)\nX = 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            _load(Entry("algorithm", "x", "slow_module:X", origin="good"))
    finally:
        signal.signal(signal.SIGINT, before)
