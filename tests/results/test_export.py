"""Exports, read back by the trackers' own readers."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pairbench.cli.main import main
from pairbench.errors import PairBenchError
from pairbench.experiments.runner import execute
from pairbench.experiments.suite import plan
from pairbench.results.export import export
from pairbench.results.folder import Store
from pairbench.results.load import load_records, load_series
from pairbench.results.record import RunRecord
from tests.faults.forked import Here
from tests.support.records import record


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


def offline(path: Path) -> Iterator[tuple[str, Any]]:
    """Yields the kinds and contents of what Weights & Biases wrote: LevelDB's log of protobufs."""
    from wandb.proto import wandb_internal_pb2

    data, at, record = path.read_bytes(), 7, b""  # after the file's own header
    while at + 7 <= len(data):
        if (left := 2**15 - at % 2**15) < 7:
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        record += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            message = wandb_internal_pb2.Record.FromString(record)
            yield message.WhichOneof("record_type"), message
            record = b""


def test_weights_and_biases_holds_them_too(results: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    records = load_records(results).records
    assert export(records, results, "wandb", str(tmp_path)) == (2, 0)
    assert export(records, results, "wandb", str(tmp_path)) == (0, 2)
    run, series = first(results)
    (path,) = tmp_path.glob(f"wandb/offline-run-*-{run.identity[:16]}/run-*.wandb")
    told: dict[str, list[tuple[float, float]]] = {}
    final, settings = {}, {}
    for kind, message in offline(path):
        if kind == "history":
            line = {
                item.key or item.nested_key[0]: json.loads(item.value_json)
                for item in message.history.item
            }
            axis = line.get("steps", line.get("iteration"))
            for key, value in line.items():
                told.setdefault(key, []).append((axis, value))
        if kind == "summary":
            final |= {i.key or i.nested_key[0]: i.value_json for i in message.summary.update}
        if kind == "run":
            settings |= {item.key: item.value_json for item in message.run.config.update}
    assert told["curve/reward"] == [(point.steps, point.reward) for point in run.curve]
    for name, column in series.items():
        kept = [(at, value) for at, value in enumerate(column.tolist()) if np.isfinite(value)]
        assert told.get(f"series/{name}", []) == kept
    assert run.evaluation is not None
    assert json.loads(final["final/reward"]) == run.evaluation.reward
    assert json.loads(settings["identity"]) == run.identity
    assert not list(tmp_path.glob(".*"))


def test_what_cannot_be_exported_is_one_sentence(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = [one for one in load_records(results).records if one.status == "failed"]
    with pytest.raises(PairBenchError, match=r"no run in .* has finished"):
        export(failed, results, "tensorboard", str(tmp_path))
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        PairBenchError, match=r"needs its package .* pip install 'pairbench\[track\]'"
    ):
        export([record("grpo", 0)], results, "wandb", str(tmp_path))
    if sys.modules.get("tensorboard"):
        (tmp_path / "file").write_text("")
        with pytest.raises(PairBenchError, match="tensorboard cannot write to"):
            export([record("grpo", 0)], results, "tensorboard", str(tmp_path / "file"))
