"""Parquet files: read by what is in them alone, and not at all where they are something else."""

from __future__ import annotations

import os
import tracemalloc
from contextlib import suppress
from pathlib import Path

import duckdb
import numpy as np
import pytest

from pairbench.errors import PairBenchError
from pairbench.experiments.tuning.trials import fold
from pairbench.language.data.load import _records
from pairbench.results.columns import read_series, read_texts, write_series, write_texts
from pairbench.results.folder import Store
from pairbench.results.load import load_records, load_series
from pairbench.results.parquet import connect, rows_of
from pairbench.results.query import query
from tests.support.records import record

NAMES = ("loss=5", "loss=5,seed=1", "filename=x", "a*b", "x[1]", "b'c", "d?", "{a,b}", "e\\f", "~x")
"""Names that folders of experiments have, and that DuckDB reads more in than a name."""

SERIES = {"loss": np.array([1.0, np.nan, 3.0], np.float32)}
TEXTS = {"completion": ["x", "y=1"]}


@pytest.mark.parametrize("name", NAMES)
def test_the_path_of_a_file_is_not_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(name)
    one = Store(folder).write(record("grpo", 0), SERIES, TEXTS)
    place = Store(folder).path(one)
    for found in (
        read_series(place.with_suffix(".parquet")),
        load_series(folder, [one])[one.identity],
    ):
        assert list(found) == ["loss"]
        assert np.array_equal(found["loss"], SERIES["loss"], equal_nan=True)
    assert read_texts(place.with_suffix(".texts.parquet")) == TEXTS
    assert query("SELECT iteration, loss FROM series WHERE loss = 3", folder).fetchall() == [(2, 3)]
    (_, pair), *_ = _records(place.with_suffix(".texts.parquet"))
    assert pair == {"completion": "x"}
    (folder / "study").mkdir()
    fold(folder / "study", folder)
    with connect() as connection:
        table = rows_of(connection, [folder / "study" / "series.parquet"])
        assert connection.execute(f"SELECT sum(iteration) FROM {table}").fetchall() == [(3,)]


@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "nothing", "no Parquet"])
def test_what_is_no_ordinary_file_is_one_sentence_and_stops_no_other(
    kind: str, tmp_path: Path
) -> None:
    good, bad = (Store(tmp_path).write(record("grpo", seed), SERIES) for seed in range(2))
    path = Store(tmp_path).path(bad).with_suffix(".parquet")
    path.rename(tmp_path / "elsewhere")
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "link":
            path.symlink_to(tmp_path / "elsewhere")
        case "folder":
            path.mkdir()
        case "no Parquet":
            path.write_bytes(b"PAR1")
    for read in (read_series, read_texts):
        with pytest.raises(PairBenchError, match="cannot be read as"):
            read(path)
    assert list(load_series(tmp_path, [good, bad])) == [good.identity]
    assert query("SELECT count(DISTINCT identity) FROM series", tmp_path).fetchall() == [(1,)]
    assert len(load_records(tmp_path).records) == 2
    if kind == "pipe":
        with pytest.raises(PairBenchError, match="not a readable Parquet file"):
            next(iter(_records(path)))


def test_columns_that_a_question_has_of_its_own_stop_no_question(tmp_path: Path) -> None:
    good, bad = (Store(tmp_path).write(record("grpo", seed), SERIES) for seed in range(2))
    write_series(Store(tmp_path).path(bad).with_suffix(".parquet"), {"Seed": SERIES["loss"]})
    assert query("SELECT DISTINCT identity FROM series", tmp_path).fetchall() == [(good.identity,)]


def test_a_long_text_that_is_said_once_and_meant_often_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_texts(path, {"completion": ["x"]})
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT repeat('x', 100_000) AS completion FROM range(100_000)) TO '{path}' "
            "(FORMAT parquet, DICTIONARY_SIZE_LIMIT 10, COMPRESSION zstd)"
        )
    assert path.stat().st_size < 2**16
    with pytest.raises(PairBenchError, match="unpacks to 10000000000 letters"):
        read_texts(path)


def varint(number: int) -> bytes:
    """Returns a number as a Parquet footer has it: twice it, in groups of seven bits."""
    number, out = 2 * number, []
    while number >= 128:
        out.append(number % 128 + 128)
        number //= 128
    return bytes([*out, number])


@pytest.mark.parametrize("says", [1, 30_000_001, 900_000_001])
@pytest.mark.parametrize("where", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_footer_that_lies_about_its_rows_costs_no_memory_and_no_other(
    says: int, where: tuple[int, ...], tmp_path: Path
) -> None:
    """It has the number of rows in three places: of the file, of a column, of a group of rows."""
    good, bad = (Store(tmp_path).write(record("grpo", seed), SERIES) for seed in range(2))
    path, rows = Store(tmp_path).path(bad).with_suffix(".parquet"), 100_003
    write_series(path, {"loss": np.ones(rows, np.float32)})
    data = path.read_bytes()
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    parts = data[start:-8].split(varint(rows))
    assert len(parts) == 4
    footer = parts[0] + b"".join(
        varint(says if place in where else rows) + part for place, part in enumerate(parts[1:])
    )
    path.write_bytes(data[:start] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with suppress(PairBenchError):
        assert len(read_series(path)["loss"]) in (1, rows)  # it may say less than it has
    assert np.array_equal(
        load_series(tmp_path, [good, bad])[good.identity]["loss"], SERIES["loss"], equal_nan=True
    )


def test_many_rows_in_few_bytes_are_read_as_the_numbers_they_are(tmp_path: Path) -> None:
    good, bad = (Store(tmp_path).write(record("grpo", seed), SERIES) for seed in range(2))
    path = Store(tmp_path).path(bad).with_suffix(".parquet")
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT 1.0::FLOAT AS loss FROM range(1_000_000)) TO '{path}' (FORMAT parquet)"
        )
    assert path.stat().st_size < 2**16
    tracemalloc.start()
    found = load_series(tmp_path, [good, bad])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert {len(series["loss"]) for series in found.values()} == {3, 1_000_000}
    assert most < 40 * 2**20  # of 4 MB of numbers, and what they are made of


def test_there_is_one_way_to_read_a_file() -> None:
    """Whoever asks DuckDB for a file by himself reads more than is in it."""
    root = Path(__file__).resolve().parents[2]
    sources = [
        path for top in ("pairbench", "algorithms", "tasks") for path in root.glob(f"{top}/**/*.py")
    ]
    asking = {path.name for path in sources if "read_parquet(" in path.read_text(encoding="utf-8")}
    assert asking == {"parquet.py"}
