"""exact-rlhf: what is computed against what is drawn, one price for all, and what each is told."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from pairbench import shared
from pairbench.algorithm import Algorithm, Method
from pairbench.errors import PairBenchError
from pairbench.registry import entries, get_algorithm
from pairbench.results.record import Budget, Protocol, RunRecord, RunSpec
from pairbench.seeding import Streams
from pairbench.tasks.exact_rlhf import SHARE, ExactRLHF, ExactSession
from pairbench.training.train import train

COMPARISONS = {"feedback": "comparisons", "temperature": 1.0}
PRICES = ("kl_coef", "kl_reward", "beta")


def made(name: str, **settings: Any) -> Method:
    cls = get_algorithm(name)
    return cls(cls.Config.model_validate({**cls.presets.get("exact", {}), **settings}))


def begin(
    name: str, task: dict[str, Any] | None = None, seed: int = 0, **settings: Any
) -> ExactSession:
    place = ExactRLHF(ExactRLHF.Config.model_validate(task or {}))
    return place.begin(made(name, **settings), Streams(seed))


def run(
    name: str, iterations: int, task: dict[str, Any] | None = None, **settings: Any
) -> RunRecord:
    method = made(name, **settings)
    spec = RunSpec(
        algorithm=name,
        algorithm_config=method.config.model_dump(mode="json"),
        task="exact-rlhf",
        task_version=ExactRLHF.version,
        task_config=ExactRLHF.Config.model_validate(task or {}).model_dump(mode="json"),
        protocol=Protocol(budget=Budget(steps=768 * iterations), evaluations=1, probes=0),
        seed=0,
        row=name,
    )
    record = train(spec).record
    assert record.status == "finished", record.failure
    return record


def end(record: RunRecord) -> dict[str, float]:
    assert record.evaluation is not None
    return {SHARE: record.evaluation.reward, **record.evaluation.measures}


def test_floors_stand_where_they_are_by_definition() -> None:
    told = end(run("reference", 1))
    assert told.pop("optimum") > 0.5
    assert told.pop("entropy") == pytest.approx(5.951, abs=1e-3)
    assert list(told.values()) == pytest.approx([0, 0, 0, 0], abs=1e-6)
    best = end(run("optimum", 1))
    assert best[SHARE] == pytest.approx(1.0, abs=1e-12)
    assert best["objective"] == pytest.approx(best["optimum"])
    assert end(run("random", 1))[SHARE] < -1
    nearly = end(run("best-of-n", 1))
    assert nearly["kl_ref"] < math.log(8) - 7 / 8
    assert 0.6 < nearly[SHARE] < 1


@pytest.mark.slow
def test_what_is_reported_is_what_sampling_estimates() -> None:
    """Within three standard errors, on the optimum and on a policy that has moved."""
    session = begin("optimum")
    for policy in (session.optimum, session.policy):
        session.policy = policy
        told = session.evaluate(True).measures
        where = torch.arange(64).repeat_interleave(400)
        responses, dist = policy.sample(where, np.random.default_rng(0))
        numbers = session.space.numbers(responses)
        reward = session.reward[where, numbers]
        moved = dist.gather(-1, responses.unsqueeze(-1)).double().sum((1, 2))
        moved = moved - session.reference.log[where, numbers]
        for name, drawn in (("reward", reward), ("kl_ref", moved)):
            error = float(drawn.std()) / math.sqrt(len(drawn))
            assert abs(float(drawn.mean()) - told[name]) <= 3 * error + 1e-5, name


def test_a_seed_is_a_problem_and_all_rows_of_it_face_the_same() -> None:
    one, same, other = begin("grpo"), begin("ppo"), begin("grpo", seed=1)
    assert torch.equal(one.reward, same.reward)
    assert not torch.equal(one.reward, other.reward)
    assert torch.equal(one.policy.state()["norm"], other.policy.state()["norm"])
    validation = begin("grpo", {"held_out": "validation"})
    assert not torch.equal(one.reward, validation.reward)


def test_every_method_that_asks_for_the_reference_charges_the_price() -> None:
    """By its own setting; the task takes it off the others' scores."""
    charged, place = set(), ExactRLHF(ExactRLHF.Config.model_validate(COMPARISONS))
    for name in entries("algorithm"):
        method = made(name)
        if place.refusal(method) is None and method.needs.reference:
            prices = [getattr(method.config, key, None) for key in PRICES]
            steps = 6 if name == "dpo-norm" else 1  # its log-ratios are means over six steps
            assert steps * shared.PRICE in prices, name
            charged.add(name)
    assert ExactRLHF.Config().beta == shared.PRICE
    assert {"ppo", "grpo", "rloo", "dpo", "brain"} <= charged
    assert charged.isdisjoint({"soft-pair-grpo", "hard-pair-grpo", "gvpo", "tpo", "raft"})


def test_scores_are_rewards_less_the_price_where_the_method_charges_none() -> None:
    for name, priced in (("grpo", False), ("gvpo", True)):
        session = begin(name)
        with torch.no_grad():
            session.policy.flat += 0.02  # type: ignore[union-attr]
        batch = session.collect(0)
        where, numbers = batch.contexts[:, 0], session.space.numbers(batch.responses)
        moved = session.policy.enumerate() - session.reference.log
        expected = session.reward[where, numbers] - priced * 0.5 * moved[where, numbers]
        assert float(moved[where, numbers].abs().max()) > 0.1
        torch.testing.assert_close(batch.need("score"), expected.float(), atol=1e-4, rtol=1e-4)
        assert session.cost.scores == 128 and session.cost.steps == 768


@pytest.mark.slow
def test_a_score_made_of_comparisons_is_nearly_the_difference_it_stands_for() -> None:
    """One answer, +-2 T: unbiased to first order, and less where differences are large."""
    session = begin("ppo", COMPARISONS, contexts=12_800)
    batch = session.collect(0)
    score = batch.need("step_reward")[:, -1].view(-1, 2)
    assert set(score.unique().tolist()) == {-2.0, 0.0, 2.0}  # 0: the same response twice
    assert torch.equal(score[:, 0], -score[:, 1])
    assert torch.equal(batch.contexts[0::2], batch.contexts[1::2])
    numbers = session.space.numbers(batch.responses)
    reward = session.reward[batch.contexts[:, 0], numbers].view(-1, 2)
    gap = reward[:, 0] - reward[:, 1]
    near = gap.abs() < 0.7
    error = 2 / math.sqrt(int(near.sum()))
    slope = float((score[near, 0] * gap[near]).sum() / gap[near].square().sum())
    assert slope == pytest.approx(1.0, abs=3 * error / float(gap[near].square().mean().sqrt()))
    assert session.cost.comparisons == 6_400 and session.cost.scores == 0
    groups = begin("rloo", COMPARISONS)
    groups.collect(0)
    assert groups.cost.comparisons == 16 * 4 and groups.cost.scores == 0


@pytest.mark.parametrize("name", ["dpo", "f-hal"])
def test_offline_pairs_are_draws_of_the_reference_compared_with_noise(name: str) -> None:
    session = begin(name, COMPARISONS)
    assert session.data_set is not None
    where, numbers = session.data_set
    reward = session.reward[where.unsqueeze(1), numbers]
    odds = (reward[:, 0] - reward[:, 1]).sigmoid()
    wrong = float((reward[:, 0] < reward[:, 1]).double().mean())
    assert 0.2 < wrong < 0.35
    assert float(odds.mean()) > 0.6
    batch = session.collect(0)
    pairs = batch if batch.offline is None else batch.offline
    assert pairs.pairs is not None and len(pairs.pairs) == session.sizes.contexts


@pytest.mark.parametrize("covered", ["random", "better", "worse", "prefix"])
def test_offline_pairs_leave_out_what_they_should(covered: str) -> None:
    session = begin("dpo", {**COMPARISONS, "covered": covered, "pairs": 500})
    assert session.data_set is not None
    where, numbers = session.data_set
    reward, base = session.reward[where.unsqueeze(1), numbers], session.reference.log.exp()
    if covered == "prefix":
        assert int(session.space.responses[numbers, 0].max()) == 1
    elif covered == "random":
        assert numbers.unique().numel() < 1000
    else:
        seen = reward.mean()
        assert float(seen) > 0.5 if covered == "better" else float(seen) < -0.5
        mass = [float(base[w][session.reward[w] >= r.min()].sum()) for w, r in zip(where, reward)]
        assert max(mass) <= 0.5 + 1e-9 or covered == "worse"


@pytest.mark.parametrize("name", ["grpo", "gvpo", "ppo", "rloo", "soft-pair-grpo", "dpo"])
def test_where_every_second_answer_is_wrong_nothing_is_told(name: str) -> None:
    """Neither scores nor pairs say anything of the reward, within three standard errors."""
    task = {**(COMPARISONS if name not in ("grpo", "gvpo") else {}), "mistake": 0.5}
    session = begin(name, task, contexts=2_000)
    batch = session.collect(0)
    reward = session.reward[batch.contexts[:, 0], session.space.numbers(batch.responses)]
    if batch.pairs is not None:
        right = (reward[batch.pairs[:, 0]] > reward[batch.pairs[:, 1]]).double()
        groups = len(reward) // batch.group_size
        assert abs(float(right.mean()) - 0.5) < 1.5 / math.sqrt(groups)
    else:
        told = (batch.step_reward if batch.score is None else batch.score).double()
        product = told.view(len(reward), -1).sum(1) * reward
        product = product.view(-1, 8).mean(1)  # those of a group are not independent
        assert abs(float(product.mean())) < 3 * float(product.std()) / math.sqrt(len(product))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rloo", "soft-pair-grpo"])
def test_where_nothing_is_told_rows_stay_near_the_reference(name: str) -> None:
    blind = end(run(name, 20, {**COMPARISONS, "mistake": 0.5}, lr=2e-4))
    seeing = end(run(name, 20, COMPARISONS, lr=2e-4))
    assert abs(blind["reward"]) < 0.1 and blind["kl_ref"] < 0.1
    assert seeing["reward"] > 0.25


@pytest.mark.slow
def test_runs_repeat_bit_for_bit() -> None:
    for name, task in (("ppo", {}), ("dpo", COMPARISONS)):
        assert run(name, 3, task).weights_sha256 == run(name, 3, task).weights_sha256


def test_what_does_not_fit_is_refused_in_a_sentence() -> None:
    scores, answers = (
        ExactRLHF(ExactRLHF.Config()),
        ExactRLHF(ExactRLHF.Config.model_validate(COMPARISONS)),
    )
    assert "no anchor" in (answers.refusal(made("orpo")) or "")
    assert "learns from answers" in (scores.refusal(made("dpo")) or "")
    assert answers.refusal(made("dpo")) is None
    assert "one reward" in (scores.refusal(made("gdpo")) or "")
    assert "one step" in (scores.refusal(made("hard-pair-grpo", target="tabular")) or "")
    for name in ("optimum", "distilled", "best-of-n", "random"):
        assert scores.refusal(made(name)) is None
    with pytest.raises(PairBenchError, match="lower contexts"):
        _ = ExactRLHF(ExactRLHF.Config(symbols=2)).space
    with pytest.raises(PairBenchError, match="even number"):
        begin("ppo", COMPARISONS, contexts=5).collect(0)
    with pytest.raises(PairBenchError, match="offline pairs"):
        begin("dpo", {**COMPARISONS, "pairs": 9}).collect(0)


def test_every_method_that_fits_runs_on_both_boards() -> None:
    for name in entries("algorithm"):
        for task in ({}, COMPARISONS):
            method = made(name)
            place = ExactRLHF(ExactRLHF.Config.model_validate(task))
            if not isinstance(method, Algorithm) or place.refusal(method):
                continue
            session = place.begin(method, Streams(0))
            batch, _ = method.study(session.collect(0).check(), 0.0, 0)
            assert batch.steps == 6, name
