"""Exports, read back by the trackers' own readers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from pairbench.cli import main
from pairbench.errors import PairBenchError
from pairbench.export import export
from pairbench.record import RunRecord
from pairbench.runner import execute, plan
from pairbench.store import Store, load_records, load_series
from tests.faults.forked import Here
from tests.records import record


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "results"
    runs = plan(
        algorithms=["grpo"], tasks=["preference-bandit"], seeds="0-1", budget={"steps": 1280},
        protocol={"evaluations": 2, "probes": 1},
    )  # fmt: skip
    execute(runs, Store(folder), Here())
    Store(folder).write(record("grpo", 7, status="failed", reason="it diverged"))
    return folder


def first(results: Path) -> tuple[RunRecord, dict[str, np.ndarray]]:
    done = [one for one in load_records(results).records if one.status == "finished"]
    return done[0], load_series(results, done)[done[0].identity]


def test_event_files_hold_the_curve_the_series_and_the_profile(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    command = ["export", "--to", "tensorboard", "--out", str(tmp_path), "--results", str(results)]
    for said in ("2 runs added to ", "0 runs added to "):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith(said)
    run, series = first(results)
    folder = tmp_path / run.task / run.row / f"seed-0-{run.identity[:16]}"
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    curve = [(one.step, one.value) for one in events.Scalars("curve/reward")]
    assert curve == [(p.steps, pytest.approx(p.reward, rel=1e-6)) for p in run.curve]
    assert run.evaluation is not None
    (final,) = events.Scalars("final/reward")
    assert (final.step, final.value) == (run.cost.steps, pytest.approx(run.evaluation.reward))
    for name, column in series.items():
        kept = [(at, value) for at, value in enumerate(column.tolist()) if np.isfinite(value)]
        tag = f"series/{name}"
        told = events.Scalars(tag) if tag in events.Tags()["scalars"] else []
        assert [(one.step, one.value) for one in told] == kept
    assert "seconds/collect" in events.Tags()["scalars"]
    (text,) = events.Tensors("settings/text_summary")
    assert run.identity.encode() in text.tensor_proto.string_val[0]
    assert len(list(tmp_path.rglob("events.*"))) == 2
    assert not list(tmp_path.rglob(".seed*"))


def test_mlflow_holds_them_too(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    where = (tmp_path / "mlruns").as_uri()
    records = load_records(results).records
    assert export(records, results, "mlflow", where) == (2, 0)
    assert export(records, results, "mlflow", where) == (0, 2)
    run, series = first(results)
    client = mlflow.MlflowClient(tracking_uri=where)
    place = client.get_experiment_by_name(f"pairbench {run.task}").experiment_id
    (there,) = client.search_runs([place], f"tags.identity = '{run.identity}'")
    assert there.data.params["algorithm_config/lr"] == str(run.algorithm_config["lr"])
    curve = client.get_metric_history(there.info.run_id, "curve/reward")
    assert sorted((one.step, one.value) for one in curve) == [
        (p.steps, p.reward) for p in run.curve
    ]
    name = min(name for name, column in series.items() if np.isfinite(column).all())
    history = client.get_metric_history(there.info.run_id, f"series/{name}")
    assert [one.value for one in sorted(history, key=lambda m: m.step)] == series[name].tolist()


def test_what_cannot_be_exported_is_one_sentence(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = [one for one in load_records(results).records if one.status == "failed"]
    with pytest.raises(PairBenchError, match=r"no run in .* has finished"):
        export(failed, results, "tensorboard", str(tmp_path))
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(PairBenchError, match=r"needs its package .* pip install mlflow-skinny"):
        export([record("grpo", 0)], results, "mlflow", str(tmp_path))
    if sys.modules.get("tensorboard"):
        (tmp_path / "file").write_text("")
        with pytest.raises(PairBenchError, match="tensorboard cannot write to"):
            export([record("grpo", 0)], results, "tensorboard", str(tmp_path / "file"))
