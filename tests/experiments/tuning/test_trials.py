"""The runs of a study in few files: nothing is lost, even by a kill, and nothing is trusted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pairbench.errors import PairBenchError
from pairbench.experiments.tuning import trials
from pairbench.results.columns import read_texts, write_series
from pairbench.results.folder import Store
from pairbench.results.layout import record_path
from pairbench.results.record import RunRecord
from tests.support.records import record
from tests.support.study_series import read_series

KL = np.array([0.5, np.nan, 0.25], dtype=np.float32)
NOTHING = np.full(2, np.nan, dtype=np.float32)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A folder of three runs: of other columns and lengths, one with texts, one failed twice."""
    store = Store(tmp_path / "runs")
    store.write(record("grpo"), {"kl": KL, "loss": KL}, {"text": ["é \n", ""]})
    store.write(record("ppo"), {"kl": KL[:2], "value_loss": NOTHING})
    for reason in ("the loss is not finite", "killed"):
        store.write(record("online-dpo", status="failed", reason=reason))
    return tmp_path


def kept(runs: Path) -> dict[Path, bytes]:
    """Returns the records of a results folder by their place."""
    return {path.relative_to(runs): path.read_bytes() for path in runs.rglob("*.json")}


def unfolded(study: Path) -> dict[Path, bytes]:
    """Returns the records of a study as the files that they were."""
    files: dict[Path, bytes] = {}
    attempts: Counter[str] = Counter()
    lines = (study / trials.RECORDS).read_text().splitlines()
    for line, one in zip(lines, trials.read_records(study), strict=True):
        place = record_path(Path(), one)
        if one.status == "failed":
            attempts[one.identity] += 1
            place = place.with_suffix(f".failed-{attempts[one.identity]}.json")
        files[place] = trials.as_file(line)
    return files


def test_every_record_and_every_number_comes_back(study: Path, tmp_path: Path) -> None:
    before = kept(study / "runs")
    trials.fold(study, study / "runs")
    assert sorted(path.name for path in study.iterdir()) == [
        trials.SERIES, trials.TEXTS, trials.RECORDS,
    ]  # fmt: skip
    assert unfolded(study) == before
    found = read_series(study)
    records = {one.row: one for one in trials.read_records(study)}
    assert list(found[records["grpo"].identity]) == ["kl", "loss"]
    assert list(found[records["ppo"].identity]) == ["kl", "value_loss"]
    for name in ("grpo", "ppo"):
        again = write_series(tmp_path / "again.parquet", found[records[name].identity])
        assert again == records[name].series_sha256
    texts = read_texts(study / trials.TEXTS)
    assert texts["text"] == ["é \n", ""]
    assert set(texts["identity"]) == {records["grpo"].identity}


def test_what_is_folded_later_joins_what_is_there(study: Path) -> None:
    trials.fold(study, study / "runs")
    first, series = unfolded(study), read_series(study)
    Store(study / "runs").write(record("random"), {"noise": KL})
    second = kept(study / "runs")
    trials.fold(study, study / "runs")
    assert unfolded(study) == first | second
    joined = read_series(study)
    assert len(joined) == 3
    for identity, columns in series.items():
        assert list(joined[identity]) == list(columns)
        for name, values in columns.items():
            np.testing.assert_array_equal(joined[identity][name], values)


def test_one_that_is_killed_halfway_is_made_whole_by_the_next(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept(study / "runs")

    def full(path: Path, data: bytes) -> None:
        if path.name == trials.RECORDS:
            raise OSError(28, "No space left on device")
        path.write_bytes(data)

    with monkeypatch.context() as patch:
        patch.setattr(trials, "atomic_write", full)
        with pytest.raises(PairBenchError, match=r"No space left.*every run is kept in"):
            trials.fold(study, study / "runs")
    assert kept(study / "runs") == before
    trials.fold(study, study / "runs")
    assert unfolded(study) == before
    assert len(read_series(study)) == 2


def test_what_is_no_record_stays_where_it_is(study: Path) -> None:
    stray = study / "runs" / "halfcheetah-v4" / "grpo" / f"{'0' * 16}.json"
    stray.write_text("{")
    trials.fold(study, study / "runs")
    assert kept(study / "runs") == {stray.relative_to(study / "runs"): b"{"}


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"identity": "x", "schema_version": 1}'])
def test_a_line_that_is_no_record_is_refused_in_one_sentence(study: Path, line: str) -> None:
    trials.fold(study, study / "runs")
    with open(study / trials.RECORDS, "a") as file:
        file.write(f"{line}\n")
    with pytest.raises(PairBenchError, match="line 5, is no record: "):
        trials.read_records(study)


def test_a_record_whose_settings_were_changed_is_refused(study: Path) -> None:
    trials.fold(study, study / "runs")
    path = study / trials.RECORDS
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(PairBenchError, match=r"line 1, is no record: .*identity"):
        trials.read_records(study)


@pytest.mark.parametrize("content", [b"PAR1", b"", b"{}"])
def test_columns_that_are_no_parquet_are_refused(study: Path, content: bytes) -> None:
    (study / trials.SERIES).write_bytes(content)
    with pytest.raises(PairBenchError, match=r"series\.parquet cannot be written"):
        trials.fold(study, study / "runs")
    assert (study / trials.SERIES).read_bytes() == content


def test_a_study_without_runs_is_empty(tmp_path: Path) -> None:
    trials.fold(tmp_path, tmp_path / "runs")
    records: list[RunRecord] = trials.read_records(tmp_path)
    assert records == [] and read_series(tmp_path) == {}
