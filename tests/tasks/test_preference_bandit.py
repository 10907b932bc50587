"""The bandit: every method learns, batches are what was asked for, runs repeat and resume."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pairbench.algorithm import Algorithm
from pairbench.algorithms.dpo import DPO
from pairbench.algorithms.f_hal import FHAL
from pairbench.algorithms.gdpo import GDPO
from pairbench.algorithms.grpo import GRPO
from pairbench.algorithms.hard_pair_grpo import HardPairGRPO
from pairbench.algorithms.orpo import ORPO
from pairbench.algorithms.ppo import PPO
from pairbench.algorithms.soft_pair_grpo import SoftPairGRPO
from pairbench.batch import Batch, minibatches
from pairbench.registry import get_algorithm
from pairbench.results.record import Budget, Protocol, RunRecord, RunSpec
from pairbench.seeding import Streams, generator
from pairbench.tabular import Categorical
from pairbench.tasks.preference_bandit import BanditSession, PreferenceBandit
from pairbench.training.train import train
from tests.support.fixtures import close

METHODS: list[type[Algorithm]] = [PPO, GRPO, SoftPairGRPO, HardPairGRPO, DPO, ORPO]
OFFLINE = {"data": "offline", "reference": "sft"}


def begin(
    cls: type[Algorithm], seed: int = 0, task: dict[str, Any] | None = None, **settings: Any
) -> tuple[BanditSession, Algorithm, Streams]:
    method = cls(cls.Config.model_validate({**cls.presets.get("tabular", {}), **settings}))
    bandit = PreferenceBandit(PreferenceBandit.Config.model_validate(task or {}))
    streams = Streams(seed)
    return bandit.begin(method, streams), method, streams


def run(cls: type[Algorithm], steps: int = 20_000, seed: int = 0, **settings: Any) -> RunRecord:
    config = cls.Config.model_validate({**cls.presets.get("tabular", {}), **settings})
    spec = RunSpec(
        algorithm=cls.name,
        algorithm_config=config.model_dump(),
        task="preference-bandit",
        task_version=PreferenceBandit.version,
        task_config=PreferenceBandit.Config().model_dump(),
        protocol=Protocol(budget=Budget(steps=steps), evaluations=2, probes=0),
        seed=seed,
        row=cls.name,
    )
    return train(spec).record


@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.name)
def test_every_method_learns(cls: type[Algorithm]) -> None:
    """From regret 1.447 of the reference to less than a fifth of it, by reward and by choice."""
    record = run(cls)
    assert record.status == "finished", record.failure
    assert record.evaluation is not None
    assert record.evaluation.measures["regret"] < 0.29
    assert set(record.evaluation.scores) == {"stochastic", "mean"}


@pytest.mark.parametrize(
    "name",
    [
        "dr-grpo", "gspo", "tic-grpo", "rloo", "krpo", "corpo", "rlrr", "gvpo",
        "policy-mirror-descent", "f-grpo", "f-hal",
    ],
)  # fmt: skip
def test_methods_of_one_family_learn_within_a_few_iterations(name: str) -> None:
    """From regret 1.447 to less than a third of it in 4,000 steps."""
    record = run(get_algorithm(name), steps=4000)
    assert record.status == "finished", record.failure
    assert record.evaluation is not None
    assert record.evaluation.measures["regret"] < 0.48


def test_offline_pairs_beside_groups_are_the_data_sets_and_paid_for() -> None:
    """32 groups of 8 arms and 32 pairs; contexts are those of any other method of the seed."""
    bandit, _, _ = begin(FHAL)
    scored, _, _ = begin(GRPO)
    for iteration in range(2):
        batch = bandit.collect(iteration)
        check_rows(batch, bandit, bandit.policy)
        assert torch.equal(batch.contexts, scored.collect(iteration).contexts)
    assert batch.score is not None and batch.pairs is None and batch.sampler == 1
    offline = batch.offline
    assert offline is not None and offline.pairs is not None
    check_rows(offline, bandit, bandit.policy)
    assert (offline.n_groups, offline.group_size, offline.sampler) == (32, 2, -1)
    reward = bandit.problem.rewards[offline.contexts[:, 0], offline.responses[:, 0]]
    assert bool((reward[offline.pairs[:, 0]] > reward[offline.pairs[:, 1]]).all())
    steps, scores = 2 * (256 + 64), 2 * 256
    assert (bandit.cost.steps, bandit.cost.scores) == (steps, scores)
    assert 0 < bandit.cost.comparisons <= 64
    assert bandit.cost.labels == scores + bandit.cost.comparisons
    small, _, _ = begin(FHAL, task={"pairs": 5})
    assert small.collect(0).check().n_groups == 5


def test_the_papers_tabular_target_learns_too() -> None:
    record = run(HardPairGRPO, target="tabular", mode="best-worst")
    assert record.evaluation is not None
    assert record.evaluation.measures["regret"] < 0.29


def test_offline_dpo_learns_from_the_data_set() -> None:
    record = run(DPO, **OFFLINE, beta=0.1, steps=10_000)
    assert record.evaluation is not None
    assert record.evaluation.measures["regret"] < 0.29
    assert record.regime == "offline pairs"


def check_rows(batch: Batch, bandit: BanditSession, policy: Categorical) -> None:
    batch.check()
    where = batch.contexts[:, 0]
    close(batch.old_logp, policy.log_probabilities()[where].gather(1, batch.responses).tolist())
    assert batch.ref_logp is not None
    reference = bandit.problem.reference.log_probabilities()[where]
    close(batch.ref_logp, reference.gather(1, batch.responses).tolist())
    members = where.view(batch.n_groups, -1)
    assert bool((members == members[:, :1]).all())  # one context per group


def test_step_batches() -> None:
    bandit, _, _ = begin(PPO, contexts=50)
    batch = bandit.collect(0)
    check_rows(batch, bandit, bandit.policy)
    assert len(batch) == batch.n_groups == 50
    assert batch.step_reward is not None
    reward = bandit.problem.rewards[batch.contexts[:, 0], batch.responses[:, 0]]
    close(batch.step_reward[:, 0], reward.tolist(), 1e-12)
    assert batch.score is None
    assert (bandit.cost.steps, bandit.cost.scores, bandit.cost.comparisons) == (50, 50, 0)


def test_group_batches_hold_scores_or_comparisons_never_both() -> None:
    bandit, _, _ = begin(GRPO, contexts=10)
    batch = bandit.collect(0)
    check_rows(batch, bandit, bandit.policy)
    assert batch.score is not None
    assert batch.pairs is None
    assert (bandit.cost.steps, bandit.cost.scores, bandit.cost.comparisons) == (80, 80, 0)
    bandit, _, _ = begin(SoftPairGRPO, contexts=10)
    batch = bandit.collect(0)
    check_rows(batch, bandit, bandit.policy)
    assert batch.score is None
    assert batch.pairs is not None
    reward = bandit.problem.rewards[batch.contexts[:, 0], batch.responses[:, 0]]
    assert bool((reward[batch.pairs[:, 0]] > reward[batch.pairs[:, 1]]).all())
    equal = sum(
        int(reward[start + i] == reward[start + j])
        for start in range(0, 80, 8)
        for i in range(8)
        for j in range(i)
    )
    assert len(batch.pairs) == 280 - equal
    assert (bandit.cost.steps, bandit.cost.scores, bandit.cost.comparisons) == (80, 0, 280)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_components_sum_to_the_score(noise: float) -> None:
    bandit, _, _ = begin(GDPO, contexts=10, task={"reward_noise": noise})
    plain, _, _ = begin(GRPO, contexts=10, task={"reward_noise": noise})
    batch, scored = bandit.collect(0).check(), plain.collect(0)
    assert batch.score is None and batch.components is not None and scored.score is not None
    close(batch.components.sum(1), scored.score.tolist(), 1e-12)
    assert float(batch.components.diff(dim=1).abs().min()) > 0
    assert (bandit.cost.steps, bandit.cost.scores) == (80, 160)


@pytest.mark.parametrize("size", [4, 5])
def test_disjoint_pairs_use_a_member_once(size: int) -> None:
    bandit, _, _ = begin(SoftPairGRPO, contexts=30, group_size=size, pairing="disjoint-pairs")
    pairs = bandit.collect(0).pairs
    assert pairs is not None
    assert len(set(pairs.reshape(-1).tolist())) == pairs.numel()
    assert bandit.cost.comparisons == 60


@pytest.mark.parametrize("cls", [HardPairGRPO, DPO])
def test_best_against_worst(cls: type[Algorithm]) -> None:
    """Without noise the pair is the largest and the smallest reward drawn; a DPO group keeps both.

    A group of one arm alone has no pair; DPO still gets its two rows.
    """
    settings = {"mode": "best-worst"} if cls is HardPairGRPO else {}
    bandit, _, _ = begin(cls, contexts=40, group_size=3, task={"arms": 2}, **settings)
    batch = bandit.collect(0)
    check_rows(batch, bandit, bandit.policy)
    assert batch.group_size == (3 if cls is HardPairGRPO else 2)
    assert batch.pairs is not None
    reward = bandit.problem.rewards[batch.contexts[:, 0], batch.responses[:, 0]].view(40, -1)
    tied = reward.amax(1) == reward.amin(1)
    assert 0 < int(tied.sum()) < 40
    groups = batch.group[batch.pairs[:, 0]]
    assert groups.tolist() == (~tied).nonzero().squeeze(1).tolist()
    flat = reward.reshape(-1)
    close(flat[batch.pairs[:, 0]], reward.amax(1)[~tied].tolist(), 0.0)
    close(flat[batch.pairs[:, 1]], reward.amin(1)[~tied].tolist(), 0.0)
    assert (bandit.cost.steps, bandit.cost.comparisons) == (120, 120)


def test_pairs_survive_minibatches() -> None:
    bandit, method, _ = begin(DPO, contexts=12)
    batch = bandit.collect(0)
    assert batch.pairs is not None
    seen = 0
    signal = method.prepare(batch, 0.0, 0)
    for part, part_signal in minibatches(batch, signal, 4, generator(0, "minibatch")):
        assert part.pairs is not None
        seen += len(part.pairs)
        assert part_signal["reference"].shape == part.mask.shape
    assert seen == len(batch.pairs)


def test_the_offline_data_set_is_the_tasks_own() -> None:
    """The same whatever the run's seed; a batch has distinct pairs; each read is paid for."""
    one, _, _ = begin(DPO, seed=0, **OFFLINE)
    other, _, _ = begin(ORPO, seed=9, data="offline")
    assert torch.equal(one.data_set.responses, other.data_set.responses)
    batch = one.collect(3)
    check_rows(batch, one, one.policy)
    assert batch.sampler == -1
    assert batch.pairs is not None
    reward = one.problem.rewards[batch.contexts[:, 0], batch.responses[:, 0]]
    assert bool((reward[batch.pairs[:, 0]] > reward[batch.pairs[:, 1]]).all())
    assert (one.cost.steps, one.cost.comparisons) == (64, len(batch.pairs))
    small, _, _ = begin(DPO, **OFFLINE, task={"pairs": 5})
    assert len(small.collect(0)) == 10


def test_bradley_terry_comparisons_err_as_often_as_the_model_says() -> None:
    """Two arms 1 apart at temperature 1: the better wins sigmoid(1) = .731, to three s.e."""
    task = {"contexts": 1, "arms": 2, "comparison": "bradley-terry", "reference_scale": 0.0}
    bandit, _, _ = begin(SoftPairGRPO, contexts=2000, group_size=2, task=task)
    bandit.problem.rewards = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    batch = bandit.collect(0)
    assert batch.pairs is not None
    assert len(batch.pairs) == 2000  # equal arms too get an answer
    arms = batch.responses[:, 0][batch.pairs]
    unequal = arms[arms[:, 0] != arms[:, 1]]
    assert len(unequal) > 500
    error = 3 * (0.731 * 0.269 / len(unequal)) ** 0.5
    assert abs(float((unequal[:, 0] == 0).double().mean()) - 0.731) < error


@pytest.mark.parametrize("comparison", ["scores", "bradley-terry"])
def test_a_share_of_the_answers_is_turned_round(comparison: str) -> None:
    """28,000 answers, of which .2 are wrong, to three s.e.; scores and arms stay what they were."""
    task = {"comparison": comparison, "temperature": 1e-6}
    bandit, _, _ = begin(SoftPairGRPO, contexts=1000, task={**task, "mistake": 0.2})
    exact, _, _ = begin(SoftPairGRPO, contexts=1000, task=task)
    batch, truth = bandit.collect(0), exact.collect(0)
    assert torch.equal(batch.responses, truth.responses)
    assert batch.pairs is not None
    reward = bandit.problem.rewards[batch.contexts[:, 0], batch.responses[:, 0]][batch.pairs]
    unequal = reward[reward[:, 0] != reward[:, 1]]
    assert len(unequal) > 10_000
    wrong = float((unequal[:, 0] < unequal[:, 1]).double().mean())
    assert abs(wrong - 0.2) < 3 * (0.16 / len(unequal)) ** 0.5
    assert bandit.cost.comparisons == exact.cost.comparisons


def test_a_teacher_without_mistakes_has_the_identity_it_had_before_there_were_any() -> None:
    assert list(PreferenceBandit.Config().model_dump()) == [
        "contexts", "arms", "data_seed", "reference_scale", "reward_noise", "comparison",
        "temperature", "pairs",
    ]  # fmt: skip
    assert PreferenceBandit.Config(mistake=0.1).model_dump()["mistake"] == 0.1


def test_noisy_scores_have_the_rewards_as_their_mean() -> None:
    bandit, _, _ = begin(GRPO, contexts=500, task={"reward_noise": 2.0})
    batch = bandit.collect(0)
    assert batch.score is not None
    noise = batch.score - bandit.problem.rewards[batch.contexts[:, 0], batch.responses[:, 0]]
    assert abs(float(noise.mean())) < 3 * 2.0 / 4000**0.5
    assert abs(float(noise.std()) - 2.0) < 0.1


def test_evaluation_is_exact_and_the_optimum_has_no_regret() -> None:
    bandit, _, _ = begin(GRPO)
    probabilities = bandit.policy.log_probabilities().exp()
    evaluation = bandit.evaluate(final=False)
    close(
        torch.tensor(evaluation.primary, dtype=torch.float64),
        (probabilities * bandit.problem.rewards).sum(1).tolist(),
        1e-12,
    )
    close(torch.tensor(evaluation.measures["kl_ref"]), 0.0)
    bandit.policy = Categorical(1e4 * bandit.problem.rewards)
    best = bandit.evaluate(final=True)
    close(torch.tensor(best.measures["regret"], dtype=torch.float64), 0.0, 1e-9)
    close(torch.tensor(best.reward, dtype=torch.float64), bandit.problem.optimum, 1e-9)
    origin = bandit.problem.provenance(bandit.needs)
    assert origin["optimum"] == bandit.problem.optimum
    assert origin["reference"] == pytest.approx(evaluation.reward)
    bandit.policy = bandit.problem.random_policy()
    random = bandit.evaluate(final=True).reward
    assert random < evaluation.reward < best.reward  # the floors rank as they must


def test_a_probe_changes_nothing() -> None:
    """Two runs, one of them probed in between, collect the same next batch at the same cost."""
    batches = []
    for probed in (False, True):
        bandit, _, streams = begin(SoftPairGRPO, task={"reward_noise": 1.0})
        bandit.collect(0)
        if probed:
            assert bandit.probe(100, streams).n_groups == 100
        batch = bandit.collect(1)
        batches.append((batch.responses, batch.pairs, bandit.cost))
    assert torch.equal(batches[0][0], batches[1][0])
    assert batches[0][1] is not None
    assert batches[1][1] is not None
    assert torch.equal(batches[0][1], batches[1][1])
    assert batches[0][2] == batches[1][2]


def test_contexts_are_shared_across_algorithms_and_the_start_across_seeds() -> None:
    first, _, _ = begin(GRPO, seed=4)
    second, _, _ = begin(SoftPairGRPO, seed=4)
    assert torch.equal(first.policy.logits, second.policy.logits)
    assert torch.equal(first.collect(0).contexts, second.collect(0).contexts)
    third, _, _ = begin(GRPO, seed=5)
    assert torch.equal(third.problem.rewards, first.problem.rewards)
    assert not torch.equal(third.collect(0).responses, first.collect(1).responses)


@pytest.mark.parametrize("offline", [False, True])
def test_collection_resumes_bit_for_bit(offline: bool) -> None:
    settings = OFFLINE if offline else {}
    bandit, _, streams = begin(DPO, task={"reward_noise": 1.0}, **settings)
    bandit.collect(0)
    saved, drawn = bandit.state(), streams.state()
    after = bandit.collect(1)
    again, _, restored = begin(DPO, task={"reward_noise": 1.0}, **settings)
    restored.load_state(drawn)
    again.load_state(saved)
    repeated = again.collect(1)
    assert torch.equal(after.responses, repeated.responses)
    assert after.pairs is not None
    assert repeated.pairs is not None
    assert torch.equal(after.pairs, repeated.pairs)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    hashes = [run(HardPairGRPO, steps=2000, seed=seed).weights_sha256 for seed in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_validation_is_another_problem_and_the_boards_is_as_it_was() -> None:
    board, *_ = begin(DPO, **OFFLINE)
    other, *_ = begin(DPO, task={"held_out": "validation"}, **OFFLINE)
    assert not (board.problem.rewards == other.problem.rewards).any()
    assert not torch.equal(board.problem.reference.logits, other.problem.reference.logits)
    assert not torch.equal(board.data_set.responses, other.data_set.responses)
    assert board.problem.rewards.flatten()[0] == generator(0, "data").normal()
    assert "held_out" not in board.problem.config.model_dump()


def test_it_skips_a_library_that_brings_its_own_trainer() -> None:
    bandit, method, _ = begin(GRPO)
    assert bandit.problem.skip(method) is None
    cls = get_algorithm("sb3-ppo")
    assert "sb3-ppo" in (bandit.problem.skip(cls(cls.Config())) or "")
