"""Committed tuned rows are those that the committed studies chose."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairbench.experiments.tuning.study import read_study
from pairbench.experiments.tuning.trials import read_records
from pairbench.results.columns import write_series
from pairbench.results.load import load_records
from tests.support.study_series import read_series

ROOT = Path(__file__).resolve().parents[2]
STUDIES = sorted((ROOT / "results" / "tuning").glob("*/study.json"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.parent.name)
def test_every_row_had_as_many_trials_and_its_records_say_so(path: Path) -> None:
    study = read_study(path)
    (count,) = {len(search.trials) for search in study.rows.values()}
    records = load_records(ROOT / "results", study.terms.task).records
    runs = {run.identity: run for run in read_records(path.parent)}
    for name, search in study.rows.items():
        spent = {
            (run.tuning.trials, run.tuning.study)
            for run in records
            if run.row == f"{name}+tuned" and run.tuning is not None
        }
        assert spent == {(count, study.sha256)}
        for trial in search.trials:
            assert {runs[i].seed for i in trial.runs.values()} == set(study.terms.seeds)
            for seed, reward in trial.rewards.items():
                found = runs[trial.runs[seed]].evaluation
                assert found is not None and found.reward == reward


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.parent.name)
def test_a_study_is_four_files_with_the_series_that_its_records_name(
    path: Path, tmp_path: Path
) -> None:
    assert len(list(path.parent.iterdir())) == 4
    series = read_series(path.parent)
    for record in read_records(path.parent):
        again = write_series(tmp_path / "series.parquet", series[record.identity])
        assert again == record.series_sha256
