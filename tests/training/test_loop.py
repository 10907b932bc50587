"""The loop: budgets, repeats, resumes bit for bit, and stops with a record when a number breaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pairbench.algorithm import Loss
from pairbench.algorithms.grpo import GRPO
from pairbench.errors import Interrupted, PairBenchError
from pairbench.experiments.suite import Row, Suite, expand
from pairbench.results.record import Budget, Protocol, RunRecord, RunSpec
from pairbench.tasks.preference_bandit import BanditSession
from pairbench.training import train as training
from pairbench.training.checkpoint import load_state, save_state
from pairbench.training.run import Progress, Run
from pairbench.training.series import SERIES
from pairbench.training.train import train

LEARNERS = ("ppo", "grpo", "soft-pair-grpo", "hard-pair-grpo", "dpo", "orpo", "gdpo", "pods")


def cell(algorithm: str = "grpo", seed: int = 0, **protocol: Any) -> RunSpec:
    """Returns a small run on the bandit: eight iterations of 256 pulls unless told otherwise."""
    protocol = {"budget": Budget(steps=2048), "evaluations": 2, "probes": 1, **protocol}
    row = Row(name=algorithm, algorithm=algorithm, tasks=("preference-bandit",))
    suite = Suite(name="t", protocol=Protocol(**protocol), rows=(row,), seeds=(seed,))
    return expand(suite).specs[0]


def outcome(record: RunRecord) -> dict[str, Any]:
    """Returns all of a record that must repeat: everything but time and place."""
    kept = record.model_dump(exclude={"provenance": True, "cost": {"seconds"}})
    assert kept["status"] == "finished"
    return kept


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_one_seed_repeats_bit_for_bit_and_another_does_not(algorithm: str) -> None:
    first, again = train(cell(algorithm)), train(cell(algorithm))
    assert outcome(first.record) == outcome(again.record)
    for name in SERIES:
        assert np.array_equal(first.series[name], again.series[name], equal_nan=True), name
    assert train(cell(algorithm, seed=1)).record.weights_sha256 != first.record.weights_sha256


@pytest.mark.parametrize("algorithm", LEARNERS)
@pytest.mark.parametrize("stop", [1, 5])
def test_a_killed_run_ends_as_if_it_had_not_been(
    algorithm: str, stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies while collecting iteration `stop`; the checkpoint before it is used."""
    path = tmp_path / "run.safetensors"
    collect = BanditSession.collect

    def dies(self: BanditSession, iteration: int) -> Any:
        if iteration == stop:
            raise KeyboardInterrupt
        return collect(self, iteration)

    monkeypatch.setattr(BanditSession, "collect", dies)
    with pytest.raises(KeyboardInterrupt):
        train(cell(algorithm), checkpoint=path, checkpoint_seconds=0.0)
    assert load_state(path)["cost"]["iterations"] == stop
    monkeypatch.setattr(BanditSession, "collect", collect)
    resumed = train(cell(algorithm), checkpoint=path)
    whole = train(cell(algorithm))
    assert outcome(resumed.record) == outcome(whole.record)
    for name in SERIES:
        assert np.array_equal(resumed.series[name], whole.series[name], equal_nan=True), name


@pytest.mark.parametrize("damage", ["truncated", "other run", "other code"])
def test_a_checkpoint_that_cannot_be_used_is_set_aside(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.safetensors"
    with monkeypatch.context() as patch:
        if damage == "other code":
            patch.setattr(
                training,
                "code_version",
                lambda origin, read: {"read": {"source of grpo": "a" * 64}},
            )
        train(cell(seed=3 if damage == "other run" else 0), checkpoint=path, checkpoint_seconds=0.0)
    kept = path.read_bytes()[:200] if damage == "truncated" else path.read_bytes()
    path.write_bytes(kept)
    record = train(cell(), checkpoint=path).record
    assert outcome(record) == outcome(train(cell()).record)
    assert (tmp_path / "run.safetensors.aside-1").read_bytes() == kept


@pytest.mark.parametrize(
    ("budget", "iterations"),
    [
        ({"steps": 1000}, 4),
        ({"labels": 700}, 3),
        ({"gradient_steps": 40}, 3),
        ({"steps": 10_000, "gradient_steps": 17}, 2),
    ],
)
def test_whichever_limit_is_reached_first_ends_the_run(
    budget: dict[str, int], iterations: int
) -> None:
    """GRPO on the bandit: 256 pulls, 256 scores and 16 gradient steps an iteration."""
    record = train(cell(budget=Budget(**budget))).record
    assert record.status == "finished"
    assert record.cost.iterations == iterations
    assert record.cost.steps == 256 * iterations
    assert record.cost.labels == record.cost.scores == 256 * iterations
    assert record.cost.gradient_steps == 16 * iterations


def test_a_budget_that_nothing_spends_ends_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "progress", lambda run: 0.0)
    record = train(cell(budget=Budget(labels=10), probes=0)).record
    assert record.status == "failed"
    assert record.reason is not None and "spent nothing of the budget" in record.reason


def test_seconds_end_a_run_and_leave_the_learning_rate_alone() -> None:
    result = train(cell(budget=Budget(seconds=0.2), probes=0))
    assert result.record.cost.seconds >= 0.2
    assert len(set(result.series["lr"].tolist())) == 1


def test_the_learning_rate_falls_linearly_for_all_or_stays_for_all() -> None:
    lr = train(cell()).series["lr"]
    assert lr == pytest.approx(0.03 * (1 - np.arange(8) / 8))
    assert set(train(cell(anneal=False)).series["lr"].tolist()) == {np.float32(0.03)}


def test_evaluating_or_probing_more_often_changes_nothing_else() -> None:
    few = train(cell(evaluations=1, probes=0))
    many = train(cell(evaluations=8, probes=4))
    assert few.record.weights_sha256 == many.record.weights_sha256
    assert [point.steps for point in few.record.curve] == [2048]
    assert [point.steps for point in many.record.curve] == [256 * n for n in range(1, 9)]
    assert few.record.stability.gradient_noise is None
    assert (many.record.stability.gradient_noise or 0) > 0


def test_all_methods_of_a_seed_start_from_the_same_policy() -> None:
    starts = set()
    for algorithm in LEARNERS:
        record = train(cell(algorithm, budget=Budget(steps=1), evaluations=1)).record
        assert record.cost.iterations == 1
        starts.add(train(cell("reference")).record.evaluation.reward)  # type: ignore[union-attr]
    assert len(starts) == 1


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loss, calls = GRPO.loss, []

    def breaks(self: GRPO, *arguments: Any) -> Loss:
        calls.append(1)
        good = loss(self, *arguments)
        return Loss(good.value * float("nan")) if len(calls) > 16 * 3 + 5 + 32 else good

    monkeypatch.setattr(GRPO, "loss", breaks)
    record = train(cell(probes=0)).record
    assert record.status == "failed"
    assert record.failure is not None and record.failure.kind == "DivergedError"
    assert record.failure.iteration == 5
    assert record.reason == "the loss is not finite in iteration 5"
    assert record.evaluation is None and record.weights_sha256 is None


def test_an_error_inside_a_run_becomes_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(self: GRPO, *arguments: Any) -> Loss:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(GRPO, "prepare", breaks)
    record = train(cell(probes=0)).record
    assert record.status == "failed" and record.reason == "out of luck"
    assert record.failure is not None and record.failure.iteration == 0


def test_another_task_version_is_refused() -> None:
    spec = cell().model_copy(update={"task_version": "0"})
    with pytest.raises(PairBenchError, match=r"at version .* the run asks for 0"):
        train(spec)


def test_progress_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Progress] = []
    train(cell(), on_progress=seen.append)
    assert seen[-1].spent == 1.0 and seen[-1].iteration == 8 and seen[-1].reward is not None


@pytest.mark.parametrize("part", ["policy", "optimiser", "streams", "cost", "curve", "series"])
@pytest.mark.parametrize("value", [None, 1.5], ids=str)
def test_a_checkpoint_of_a_run_by_name_alone_is_set_aside(
    part: str, value: object, tmp_path: Path
) -> None:
    path = tmp_path / "c.safetensors"
    answers = iter([False, False, True])
    with pytest.raises(Interrupted):
        train(cell("grpo"), checkpoint=path, stopping=lambda: next(answers))
    save_state(path, {**load_state(path), part: value})
    failure = train(cell("grpo"), checkpoint=path).record.failure
    assert failure is not None and "holds no state of this run" in failure.message
    assert not path.exists() and (tmp_path / "c.safetensors.aside-1").exists()
    assert train(cell("grpo"), checkpoint=path).record.status == "finished"
