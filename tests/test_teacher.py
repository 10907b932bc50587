"""The scripted teacher: each noise model against its definition, and its value estimate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pairbench.algorithm import Needs
from pairbench.batch import Batch
from pairbench.control.value import ValueEstimate
from pairbench.errors import PairBenchError
from pairbench.teacher import FIRST, SECOND, SKIPPED, TIE, Teacher, TeacherConfig, queries


def random() -> np.random.Generator:
    """Returns the same generator every time."""
    return np.random.default_rng(5)


def test_the_oracle_never_errs_and_ties_only_equals() -> None:
    answer = Teacher(TeacherConfig()).compare(
        np.array([1.0, 0.0, 2.0]), np.array([0.0, 1.0, 2.0]), random()
    )
    assert answer.tolist() == [FIRST, SECOND, TIE]


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_bradley_terry_frequency(temperature: float) -> None:
    n, gap = 40_000, 1.0
    expected = 1 / (1 + np.exp(-gap / temperature))
    per_query = Teacher(TeacherConfig(temperature=temperature))
    answer = per_query.compare(np.full(n, gap), np.zeros(n), random())
    assert (answer == FIRST).mean() == pytest.approx(expected, abs=0.01)
    per_segment = Teacher(TeacherConfig(temperature=temperature, draw="segment"))
    scores = np.tile([gap, 0.0], (n, 1))
    answers = per_segment.ask(scores, "all-pairs", random())
    assert (answers.pairs[:, 0] % 2 == 0).mean() == pytest.approx(expected, abs=0.01)
    seen = per_query.perceive(scores, random())
    assert (seen[:, 0] > seen[:, 1]).mean() == pytest.approx(expected, abs=0.01)


def test_mistakes_thresholds_and_skips() -> None:
    n = 40_000
    wrong = Teacher(TeacherConfig(mistake=0.2)).compare(np.ones(n), np.zeros(n), random())
    assert (wrong == SECOND).mean() == pytest.approx(0.2, abs=0.01)
    near = Teacher(TeacherConfig(equal=0.5))
    assert near.compare(np.array([1.0, 1.0]), np.array([0.6, 0.4]), random()).tolist() == [
        TIE,
        FIRST,
    ]
    dull = Teacher(TeacherConfig(skip=1.0))
    answer = dull.compare(np.array([0.9, 1.1]), np.array([0.2, 0.2]), random())
    assert answer.tolist() == [SKIPPED, FIRST]


def test_ties_are_labels_without_a_pair_and_skips_are_neither() -> None:
    scores = np.array([[1.0, 1.0, 3.0], [0.1, 0.2, 0.3]])
    answers = Teacher(TeacherConfig(skip=0.5)).ask(scores, "all-pairs", random())
    assert (answers.asked, answers.answered) == (6, 3)
    assert answers.pairs.tolist() == [[2, 0], [2, 1]]


def test_components_are_shown_in_place_of_scores_and_each_is_a_label() -> None:
    parts = np.arange(12.0).reshape(2, 3, 2)
    rows = torch.zeros(6, 1)
    batch = Batch(rows, rows, rows, rows, torch.arange(2).repeat_interleave(3))
    needs = Needs("groups", "scores", components=True)
    for temperature in (0.0, 1.0):
        teacher = Teacher(TeacherConfig(temperature=temperature))
        told, comparisons, scores = teacher.label(batch, parts.sum(-1), needs, random(), parts)
        assert (comparisons, scores) == (0, 12)
        assert told.score is None and told.components is not None
        noise = told.components.numpy() - parts.reshape(6, 2)
        assert len(np.unique(noise)) == (1 if temperature == 0 else 12)


def test_one_draw_per_segment_makes_a_group_consistent() -> None:
    scores = np.zeros((200, 5))
    config = TeacherConfig(temperature=1.0, draw="segment")
    pairs = Teacher(config).ask(scores, "all-pairs", random()).pairs
    assert len(pairs) == 200 * 10
    wins = np.bincount(pairs[:, 0], minlength=1000).reshape(200, 5)
    assert (np.sort(wins, axis=1) == np.arange(5)).all()  # a total order in every group
    loose = Teacher(TeacherConfig(temperature=1.0)).ask(
        scores + 1e-9 * np.arange(5), "all-pairs", random()
    )
    wins = np.bincount(loose.pairs[:, 0], minlength=1000).reshape(200, 5)
    assert not (np.sort(wins, axis=1) == np.arange(5)).all()


def test_query_designs() -> None:
    scores = random().normal(size=(50, 5))
    teacher = Teacher(TeacherConfig())
    every = teacher.ask(scores, "all-pairs", random())
    assert every.asked == 50 * 10
    flat = scores.reshape(-1)
    assert (flat[every.pairs[:, 0]] > flat[every.pairs[:, 1]]).all()
    assert (every.pairs[:, 0] // 5 == every.pairs[:, 1] // 5).all()
    assert (np.diff(every.pairs[:, 0] // 5) >= 0).all()
    disjoint = teacher.ask(scores, "disjoint-pairs", random())
    assert disjoint.asked == len(disjoint.pairs) == 100
    assert len(np.unique(disjoint.pairs)) == 200
    members = queries("disjoint-pairs", 2000, 4, random())
    partner = np.where(members[:, 0] == 0, members[:, 0, ::-1], members[:, 1, ::-1])[:, 0]
    assert np.bincount(partner, minlength=4)[1:].min() > 0
    extremes = teacher.ask(scores, "best-worst", random())
    assert extremes.asked == 500
    assert extremes.chosen is not None
    np.testing.assert_array_equal(extremes.chosen[:, 0], scores.argmax(1))
    np.testing.assert_array_equal(extremes.chosen[:, 1], scores.argmin(1))
    np.testing.assert_array_equal(extremes.pairs[:, 0], scores.argmax(1) + 5 * np.arange(50))


def test_best_worst_of_equals_gives_no_pair_but_two_members() -> None:
    answers = Teacher(TeacherConfig()).ask(np.zeros((3, 4)), "best-worst", random())
    assert len(answers.pairs) == 0 and answers.answered == 18
    assert answers.chosen is not None
    assert (answers.chosen[:, 0] != answers.chosen[:, 1]).all()


@pytest.mark.parametrize("bad", [{"temperature": -1.0}, {"mistake": 1.5}, {"draw": "group"}])
def test_settings_out_of_range_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TeacherConfig(**bad)  # type: ignore[arg-type]


def estimate() -> ValueEstimate:
    """Returns a value estimate of three numbers."""
    return ValueEstimate(3, random(), gamma=0.9, passes=5, minibatches=4, lr=1e-3)


def test_returns_are_discounted_sums_closed_by_the_value() -> None:
    rewards = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    mask = np.array([[True, True], [True, True], [True, False]])
    returns = estimate().returns(rewards, np.array([10.0, 0.0]), mask)
    last = 3 + 0.9 * 10
    np.testing.assert_allclose(returns[:, 0], [1 + 0.9 * (2 + 0.9 * last), 2 + 0.9 * last, last])
    np.testing.assert_allclose(returns[:, 1], [1 + 0.9 * 2, 2, 0])


def test_fit_lowers_the_error_and_agrees_with_torchs_adam() -> None:
    value = estimate()
    observations = random().normal(size=(256, 3))
    targets = observations.sum(1)
    value.normaliser.update(observations)
    module = torch.nn.ParameterList([value.network.flat.clone()])
    adam = torch.optim.Adam(module, lr=1e-3)
    before = float(((value(observations) - targets) ** 2).mean())
    gradients = [
        torch.randn(module[0].shape, generator=torch.Generator().manual_seed(i)) for i in (0, 1, 2)
    ]
    copy = estimate()
    for gradient in gradients:
        module[0].grad = gradient
        adam.step()
        copy._adam(gradient)
    torch.testing.assert_close(copy.network.flat, module[0].detach(), atol=1e-7, rtol=1e-5)
    generator = random()
    for _ in range(20):
        value.fit(observations, targets, generator)
    assert float(((value(observations) - targets) ** 2).mean()) < 0.1 * before


def test_state_restores_every_bit() -> None:
    observations = random().normal(size=(64, 3))
    targets = observations.sum(1)
    one, other = estimate(), estimate()
    one.fit(observations, targets, random())
    other.load_state(one.state())
    for value in (one, other):
        value.fit(observations, targets, random())
    np.testing.assert_array_equal(one(observations), other(observations))


def test_a_score_that_is_not_a_number_has_no_answer() -> None:
    scores = np.array([[1.0, np.nan], [0.0, 2.0]])
    teacher = Teacher(TeacherConfig())
    for refused in (
        lambda: teacher.perceive(scores, random()),
        lambda: teacher.compare(scores[:, 0], scores[:, 1], random()),
        lambda: teacher.ask(scores, "all-pairs", random()),
        lambda: teacher.ask(scores, "best-worst", random()),
    ):
        with pytest.raises(PairBenchError, match="cannot judge a score that is NaN"):
            refused()
