"""Collection, probing, evaluation and resuming of the control tasks."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from pairbench.algorithm import Algorithm, AlgorithmConfig, Loss, Needs, Presets
from pairbench.batch import Batch, Signal, join
from pairbench.control.gaussian import GaussianPolicy, log_density
from pairbench.control.mujoco_env import Simulations
from pairbench.control.session import ControlSession
from pairbench.control.task import ControlTask
from pairbench.errors import PairBenchError
from pairbench.policy import PolicyOutput
from pairbench.seeding import Streams, generator
from pairbench.tasks.halfcheetah_v4 import HalfCheetah
from pairbench.tasks.hopper_v4 import Hopper
from pairbench.training.checkpoint import load_state, save_state


class Asks(Algorithm):
    """An algorithm that only asks for data."""

    name = "asks"
    source = "tests"
    presets: ClassVar[Presets] = {}

    def __init__(self, needs: Needs, **config: Any) -> None:
        super().__init__(AlgorithmConfig(**config))
        self._needs = needs

    @property
    def needs(self) -> Needs:
        return self._needs

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        return {}

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        return Loss(output.logp.mean())


STEPS = Asks(Needs("steps", "rewards", critic=True), contexts=4, segment=30)
GROUPS = Asks(Needs("groups", "scores"), contexts=6, group_size=3, segment=8)
COMPARED = Asks(Needs("groups", "comparisons", "all-pairs"), contexts=6, group_size=3, segment=8)
COMPONENTS = Asks(Needs("groups", "scores", components=True), contexts=6, group_size=3, segment=8)
PAIRS = Asks(Needs("pairs", "comparisons", "best-worst"), contexts=6, group_size=4, segment=8)


def begin(
    algorithm: Algorithm, kind: type[ControlTask] = HalfCheetah, threads: int = 1, **config: Any
) -> ControlSession:
    """Returns a session that has just begun."""
    return kind(kind.Config(**config)).begin(algorithm, Streams(11), threads)


def bits(batch: Batch) -> dict[str, bytes]:
    """Returns the bytes of every tensor of a batch."""
    return {
        name: value.numpy().tobytes()
        for name, value in vars(batch).items()
        if isinstance(value, torch.Tensor)
    }


@pytest.mark.parametrize("algorithm", [STEPS, GROUPS, COMPARED, PAIRS])
@pytest.mark.parametrize("kind", [HalfCheetah, Hopper])
def test_batches_are_whole_and_say_what_was_sampled(
    algorithm: Asks, kind: type[ControlTask]
) -> None:
    session = begin(algorithm, kind)
    for iteration in range(3):
        batch = session.collect(iteration).check()
        assert batch.sampler == iteration
    # statistics moved after collection; the batch was normalised with those before
    assert session.learner.normaliser.count > 0
    again = session.learner(batch)
    real = batch.mask > 0
    torch.testing.assert_close(again.logp[real], batch.old_logp[real], atol=1e-4, rtol=1e-4)
    assert batch.old_dist is not None and again.kl_old is not None
    dist = session.learner.distribution(batch.contexts.flatten(0, 1))
    torch.testing.assert_close(batch.old_dist.flatten(0, 1), dist)
    logp = log_density(batch.responses.flatten(0, 1), dist).view(batch.mask.shape)
    torch.testing.assert_close(logp, batch.old_logp)
    assert float(again.kl_old.detach().abs().max()) < 1e-5
    assert float((batch.responses.abs() > 1).float().mean()) > 0  # before clipping


def test_steps_carry_rewards_values_and_boundaries() -> None:
    session = begin(STEPS)
    batch = session.collect(0)
    assert batch.mask.shape == (4, 30)
    assert batch.score is None and batch.pairs is None
    assert batch.value is not None and batch.next_value is not None
    assert batch.boundary is not None
    torch.testing.assert_close(batch.next_value[:, :-1], batch.value[:, 1:])
    assert batch.boundary[:, -1].tolist() == [1.0] * 4
    assert float(batch.boundary[:, :-1].sum()) == 0.0
    assert (session.cost.steps, session.cost.scores, session.cost.comparisons) == (120, 120, 0)


def test_step_rewards_are_those_of_the_clipped_actions() -> None:
    session = begin(STEPS)
    start = session.chains.states.copy()
    batch = session.collect(0)
    sims = Simulations(HalfCheetah.walker, 4)
    sims.state[...] = start
    actions = batch.responses.numpy().clip(-1, 1)
    for t in range(30):
        before = sims.physics.copy()
        sims.control[...] = actions[:, t]
        sims.step()
        reward = HalfCheetah.walker.reward(before, sims.physics, actions[:, t], sims.dt)
        assert batch.step_reward is not None
        np.testing.assert_array_equal(batch.step_reward[:, t], reward.astype(np.float32))
    np.testing.assert_array_equal(session.chains.states, sims.state)


def test_the_time_limit_bootstraps_and_a_fall_does_not() -> None:
    session = begin(STEPS)
    session.chains.ages[:] = [990, 0, 975, 0]
    batch = session.collect(0)
    assert batch.boundary is not None and batch.next_value is not None and batch.value is not None
    assert batch.boundary.nonzero().tolist() == [
        [0, 9],
        [0, 29],
        [1, 29],
        [2, 24],
        [2, 29],
        [3, 29],
    ]
    assert session.chains.ages.tolist() == [20, 30, 5, 30]
    # the value after the cut is that of the episode that was cut, not of the new one
    assert float((batch.next_value[0, 9] - batch.value[0, 10]).abs()) > 1e-6
    fallen = begin(Asks(Needs("steps", "rewards", critic=True), contexts=4, segment=300), Hopper)
    batch = fallen.collect(0)
    assert batch.boundary is not None and batch.next_value is not None
    ends = (batch.boundary > 0) & (batch.next_value == 0)
    assert int(ends.sum()) >= 4


def test_members_of_a_group_branch_from_one_state() -> None:
    session = begin(GROUPS)
    states = session.chains.states.copy()
    batch = session.collect(0)
    first = batch.contexts[:, 0].view(6, 3, -1)
    assert torch.equal(first, first[:, :1].expand_as(first))
    assert not torch.equal(batch.contexts[0, 1], batch.contexts[1, 1])
    assert batch.step_reward is None and batch.value is None and batch.pairs is None
    assert batch.score is not None and batch.score.shape == (18,)
    assert (session.cost.steps, session.cost.scores, session.cost.comparisons) == (144, 18, 0)
    # each chain goes on from the end of one of its members, warm start included
    sims = Simulations(HalfCheetah.walker, 18)
    sims.state[...] = np.repeat(states, 3, axis=0)
    for t in range(8):
        sims.control[...] = batch.responses[:, t].numpy().clip(-1, 1)
        sims.step()
    ends = sims.state.reshape(6, 3, -1)
    same = (ends == session.chains.states[:, None]).all(-1)
    assert same.sum(1).tolist() == [1] * 6
    assert len(set(same.argmax(1).tolist())) > 1


def test_the_critic_free_score_is_the_segments_return() -> None:
    session = begin(GROUPS, oracle="return")
    states = session.chains.states.copy()
    batch = session.collect(0)
    sims = Simulations(HalfCheetah.walker, 18)
    sims.state[...] = np.repeat(states, 3, axis=0)
    total = np.zeros(18)
    for t in range(8):
        actions, before = batch.responses[:, t].numpy().clip(-1, 1), sims.physics.copy()
        sims.control[...] = actions
        sims.step()
        total += HalfCheetah.walker.reward(before, sims.physics, actions, sims.dt)
    assert batch.score is not None
    np.testing.assert_allclose(batch.score, total, rtol=1e-5, atol=1e-5)
    assert session.state()["teacher"] is None


def test_the_critic_score_is_closed_by_the_teachers_value() -> None:
    free = begin(GROUPS, oracle="return", log_std=-0.5, log_std_floor=-1.6)
    scored = begin(GROUPS)
    a, b = free.collect(0), scored.collect(0)
    assert torch.equal(a.responses, b.responses)
    assert a.score is not None and b.score is not None
    assert not torch.allclose(a.score, b.score)
    before = {k: v for k, v in scored.state()["teacher"].items() if k != "normaliser"}
    scored.collect(1)
    after = scored.state()["teacher"]
    assert after["updates"] == before["updates"] + 20
    assert not torch.equal(before["flat"], after["flat"])


@pytest.mark.parametrize("oracle", ["return", "value"])
@pytest.mark.parametrize("kind", [HalfCheetah, Hopper])
def test_components_are_progress_and_the_cost_of_actions(
    oracle: str, kind: type[ControlTask]
) -> None:
    plain = begin(GROUPS, kind, oracle=oracle)
    apart = begin(COMPONENTS, kind, oracle=oracle)
    score = plain.collect(0).score
    batch = apart.collect(0).check()
    assert batch.score is None and batch.components is not None and score is not None
    torch.testing.assert_close(batch.components.sum(1), score, rtol=1e-5, atol=1e-4)
    effort = batch.responses.clamp(-1, 1).square().sum(2) * batch.mask
    discount = torch.full((8,), 1.0 if oracle == "return" else 0.99) ** torch.arange(8)
    cost = kind.walker.control_cost * (effort * discount).sum(1)
    torch.testing.assert_close(batch.components[:, 1], -cost, rtol=1e-5, atol=1e-6)
    assert (plain.cost.scores, apart.cost.scores) == (18, 36)


def test_a_method_may_replace_the_floor_of_the_standard_deviation() -> None:
    session = begin(GROUPS)
    assert session.learner.floor == -1.6
    session = begin(Asks(GROUPS.needs, contexts=6, group_size=3, log_std_floor=-20.0))
    assert session.learner.floor == -20.0


def test_chains_start_anew_before_the_time_limit_and_are_staggered() -> None:
    session = begin(GROUPS)
    assert session.chains.ages.tolist() == [0, 166, 333, 500, 666, 833]
    session.chains.ages[:] = [984, 985, 992, 0, 0, 0]
    session.collect(0)
    assert session.chains.ages.tolist() == [992, 0, 0, 8, 8, 8]


def test_steps_after_a_fall_are_masked_and_their_chain_starts_anew() -> None:
    session = begin(Asks(Needs("groups", "scores"), contexts=5, group_size=4, segment=200), Hopper)
    batch = session.collect(0)
    lengths = batch.mask.sum(1)
    assert 2 < float(lengths.min()) < 200
    assert torch.equal(batch.mask, batch.mask.cummin(1).values)
    assert session.cost.steps == int(lengths.sum())
    assert (session.chains.ages == 0).all()


def test_comparisons_show_no_score() -> None:
    session = begin(COMPARED)
    batch = session.collect(0).check()
    assert batch.score is None
    assert batch.pairs is not None and len(batch.pairs) == 18
    assert (session.cost.scores, session.cost.comparisons) == (0, 18)
    scored = begin(GROUPS)
    score = scored.collect(0).score
    assert score is not None  # the same seed samples the same segments
    assert bool((score[batch.pairs[:, 0]] > score[batch.pairs[:, 1]]).all())


def test_scores_and_comparisons_of_one_draw_agree() -> None:
    both = Asks(Needs("groups+pairs", "scores", "all-pairs"), contexts=6, group_size=3, segment=8)
    session = begin(both, temperature=5.0, draw="segment")
    batch = session.collect(0).check()
    assert batch.score is not None and batch.pairs is not None
    assert bool((batch.score[batch.pairs[:, 0]] > batch.score[batch.pairs[:, 1]]).all())
    assert (session.cost.scores, session.cost.comparisons) == (18, 18)


def test_pairs_keep_the_best_and_the_worst() -> None:
    session = begin(PAIRS)
    batch = session.collect(0).check()
    assert len(batch) == 12 and batch.group_size == 2
    assert batch.pairs is not None
    assert batch.pairs.tolist() == [[2 * k, 2 * k + 1] for k in range(6)]
    assert session.cost.comparisons == 36
    assert session.cost.steps == 6 * 4 * 8
    wide = Asks(Needs("groups", "scores"), contexts=6, group_size=4, segment=8)
    scored = begin(wide)
    whole = scored.collect(0)
    assert whole.score is not None
    best = whole.score.view(6, 4).argmax(1) + 4 * torch.arange(6)
    assert torch.equal(batch.responses[::2], whole.responses[best])


def test_one_seed_gives_all_algorithms_the_same_start() -> None:
    states, weights = [], []
    for algorithm in (GROUPS, COMPARED, PAIRS):
        session = begin(algorithm)
        states.append(session.chains.states.tobytes())
        weights.append(session.learner.state()["policy"].numpy().tobytes())
    steps = begin(Asks(Needs("steps", "rewards", critic=True), contexts=6, segment=8))
    states.append(steps.chains.states.tobytes())
    weights.append(steps.learner.state()["policy"].numpy().tobytes())
    assert len(set(states)) == len(set(weights)) == 1


@pytest.mark.parametrize("algorithm", [STEPS, GROUPS, PAIRS])
def test_threads_change_no_bit(algorithm: Asks) -> None:
    results = []
    for threads in (1, 2):
        session = begin(algorithm, threads=threads)
        results.append([bits(session.collect(i)) for i in range(2)])
    assert results[0] == results[1]


@pytest.mark.parametrize("algorithm", [STEPS, GROUPS, PAIRS])
def test_resuming_is_exact(algorithm: Asks, tmp_path: Any) -> None:
    session = begin(algorithm, temperature=0.5)
    for iteration in range(2):
        session.collect(iteration)
    file = tmp_path / "state"
    save_state(
        file, {"t": session.state(), "p": session.learner.state(), "s": session.streams.state()}
    )
    expected = bits(session.collect(2))
    other = begin(algorithm, temperature=0.5)
    saved = load_state(file)
    other.load_state(saved["t"])
    other.learner.load_state(saved["p"])
    other.streams.load_state(saved["s"])
    assert bits(other.collect(2)) == expected


@pytest.mark.parametrize("algorithm", [STEPS, GROUPS, COMPARED, PAIRS])
@pytest.mark.parametrize("kind", [HalfCheetah, Hopper])
def test_a_probe_disturbs_nothing(algorithm: Asks, kind: type[ControlTask]) -> None:
    def run(probing: bool) -> tuple[dict[str, bytes], Any, Any]:
        session = begin(algorithm, kind, temperature=0.5)
        session.collect(0)
        if probing:
            probe = session.probe(10, session.streams).check()
            assert probe.n_groups >= 10
            session.evaluate(final=False)
        batch = bits(session.collect(1))
        kept = {k: v for k, v in session.streams.state().items() if k != "probe"}
        cost = session.cost.model_copy(update={"evaluation_steps": 0})
        return batch, kept, cost

    assert run(True) == run(False)


def test_joined_batches_number_groups_and_pairs_anew() -> None:
    session = begin(COMPARED)
    parts = [session.collect(i) for i in range(3)]
    whole = join(parts).check()
    assert whole.n_groups == 18 and whole.group_size == 3
    assert whole.pairs is not None and parts[1].pairs is not None
    assert torch.equal(whole.pairs[18:36] - 18, parts[1].pairs)


def test_evaluation_is_fixed_and_adds_the_mean_policy_at_the_end() -> None:
    session = begin(GROUPS)
    first = session.evaluate(final=False)
    before = session.streams.state()
    session.collect(0)
    session.learner.normaliser.load_state(GaussianPolicy(17, 6, seed=0).normaliser.state())
    last = session.evaluate(final=True)
    assert list(first.scores) == ["stochastic"] and list(last.scores) == ["stochastic", "mean"]
    assert first.scores["stochastic"] == last.scores["stochastic"]
    assert len(last.scores["mean"]) == 16
    assert session.cost.evaluation_steps == 48_000
    assert set(before) == {"contexts"}
    other = begin(STEPS)
    other.policy = session.learner
    assert other.evaluate(final=False) == first


def test_validation_starts_and_noise_are_none_of_the_evaluations() -> None:
    """And the boards' own come from the streams they have always come from."""
    seen = {}
    for held_out in ("evaluation", "validation"):
        session = begin(GROUPS, evaluation_episodes=4, held_out=held_out)
        scores = session.evaluate(final=False).primary
        _, out = session._evaluators[4]
        (noise,) = session._evaluation_noise.values()
        seen[held_out] = out.physics[0].copy(), noise, scores
    (starts, noise, scores), (other_starts, other_noise, other_scores) = seen.values()
    assert not {tuple(row) for row in starts} & {tuple(row) for row in other_starts}
    assert len({tuple(row) for row in other_starts}) == 4
    assert not (noise == other_noise).any()
    assert not set(scores) & set(other_scores)
    again = generator(0, "evaluation/noise").standard_normal(noise.shape, np.float32)
    assert np.array_equal(noise, again)
    assert "held_out" not in HalfCheetah.Config().model_dump()
    assert HalfCheetah.Config(held_out="validation").model_dump()["held_out"] == "validation"


def test_evaluation_returns_are_gymnasiums() -> None:
    session = begin(GROUPS, evaluation_episodes=2)
    returns = session.evaluate(final=True).scores["mean"]
    sims, out = session._evaluators[4]
    total = np.zeros(4)
    for t in range(1000):
        total += HalfCheetah.walker.reward(
            out.physics[t], out.physics[t + 1], out.clipped[t], sims.dt
        )
    np.testing.assert_allclose(returns, total[2:])
    hopper = begin(GROUPS, Hopper, evaluation_episodes=4)
    evaluation = hopper.evaluate(final=False)
    assert 2 < evaluation.measures["episode_length"] < 1000
    assert hopper.cost.evaluation_steps == 4 * evaluation.measures["episode_length"]
    assert max(evaluation.primary) < 1000


def test_the_random_policy_is_evaluated_like_any_other() -> None:
    session = begin(Asks(Needs("nothing", "none")))
    session.policy = HalfCheetah(HalfCheetah.Config()).random_policy()
    evaluation = session.evaluate(final=True)
    assert -500 < evaluation.reward < -100  # what uniform actions are known to earn
    assert max(evaluation.scores["mean"]) < 100


@pytest.mark.parametrize(
    ("needs", "config", "reason"),
    [
        (Needs("pairs", "comparisons", offline=True), {}, "no data set"),
        (Needs("groups", "scores", enumerable=True), {}, "continuous"),
        (Needs("pairs", "comparisons", "best-worst", probabilities=True), {}, "densities"),
        (Needs("steps", "rewards", critic=True), {"oracle": "return"}, "critic or step rewards"),
    ],
)
def test_what_does_not_apply_is_skipped_with_a_reason(
    needs: Needs, config: dict[str, Any], reason: str
) -> None:
    task = HalfCheetah(HalfCheetah.Config(**config))
    told = task.skip(Asks(needs))
    assert told is not None and reason in told
    assert task.skip(GROUPS) is None


@pytest.mark.parametrize(
    ("needs", "sizes", "message"),
    [
        (Needs("groups", "scores"), {"segment": 1001}, "longer than an episode"),
        (Needs("groups", "comparisons", "all-pairs"), {"group_size": 1}, "at least 2"),
        (Needs("groups", "comparisons"), {"group_size": 4}, "name the queries"),
        (Needs("pairs", "comparisons", "all-pairs"), {"group_size": 4}, "best-worst"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    needs: Needs, sizes: dict[str, int], message: str
) -> None:
    with pytest.raises(PairBenchError, match=message):
        begin(Asks(needs, **sizes))


def test_variant_and_provenance() -> None:
    config = HalfCheetah.Config(**HalfCheetah.variants["critic-free"])
    assert (config.oracle, config.log_std, config.log_std_floor) == ("return", -1.0, -1.4)
    assert HalfCheetah(config).provenance(GROUPS.needs)["xml"] == "half_cheetah.xml"
