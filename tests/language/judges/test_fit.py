"""Judges are fitted to pairs, measured on others, and the same to the byte each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from pairbench.errors import PairBenchError
from pairbench.language.data.pairs import Preferences, content_hash, split_of
from pairbench.language.judges import fit, judge
from pairbench.language.policy.tiny import Tiny
from tests.support.fake_features import Fake, preferences

RECIPE: dict[judge.Role, str] = {"proxy": "fake", "gold": "fake"}


def test_bradley_terry_of_one_feature_is_the_log_odds() -> None:
    """With one feature that differs by +1 in 3 of 4 pairs and -1 in the fourth, the loss without a
    penalty is least where sigmoid(w) = 3/4, so w = log 3."""
    differences = np.array([[1.0], [1.0], [1.0], [-1.0]])
    assert fit.bradley_terry(differences, 1e-9) == pytest.approx([np.log(3)], abs=1e-6)


def test_bradley_terry_is_stationary() -> None:
    rng = np.random.default_rng(1)
    differences = rng.normal(size=(50, 80))  # more features than pairs
    weight = fit.bradley_terry(differences, 0.5)
    wrong = 1 / (1 + np.exp(differences @ weight))
    assert np.abs(0.5 * weight - differences.T @ wrong / 50).max() < 1e-8


def test_a_judge_that_knows_may_rank(fake: Fake) -> None:
    data = preferences()
    fits = fit.fit_objective("made", data, RECIPE)
    card = fits["proxy"].card
    assert card.ranks and card.held_out[0].judge.value > 0.8
    assert [a.source for a in card.held_out] == ["all", "one", "two"]
    assert card.held_out[0].n == card.held_out[1].n + card.held_out[2].n
    assert card.held_out[0].n == sum(split_of(p.prompt) != "proxy" for p in data.pairs)
    assert card.fitted_pairs + card.held_out[0].n == len(data.pairs)
    assert card.fitted_sha256 == content_hash(data.split()["proxy"])
    assert card.fitted_sha256 != fits["gold"].card.fitted_sha256
    assert card.held_out_short is not None and card.held_out_short.tokens == fit.SHORT
    agreement = card.agreement
    assert agreement is not None and agreement.judge == "made-gold"
    assert agreement.prompts == len(data.split()["policy"]) + len(data.split()["evaluation"])
    assert agreement.alike.value > 0.8


def test_a_judge_that_knows_nothing_may_not(fake: Fake) -> None:
    fitted = fit.fit_judge("fake", preferences(informative=False), "gold")
    assert not fitted.judge.card.ranks


def test_scores_are_standardised_over_the_answers_fitted_on(fake: Fake) -> None:
    data = preferences()
    fitted = data.split()["proxy"]
    made = fit.fit_judge("fake", data, "proxy").judge
    scores = made.score(
        [p.prompt for p in fitted for _ in range(2)],
        [a for p in fitted for a in (p.chosen, p.rejected)],
    )
    assert scores.dtype == np.float64 and scores.shape == (2 * len(fitted),)
    assert scores.mean() == pytest.approx(0, abs=1e-9) and scores.std() == pytest.approx(1)
    assert made.score([], []).shape == (0,)


def test_measure_against_the_length_rules() -> None:
    """Four pairs; the judge orders 3, longer wins in 1, so shorter is the rule to beat, with 2.5 of
    4 (one tie). Differences 1-1, 1-1, 1-.5, 0-0 have mean .125 and standard deviation .25."""
    scores = np.array([[1.0, 0.0], [2.0, 1.0], [1.0, 0.0], [0.0, 3.0]])
    lengths = np.array([[10.0, 20.0], [100.0, 109.0], [30.0, 30.0], [50.0, 40.0]])
    found = fit.measure(scores, lengths, "all", 64)
    assert found.judge.value == 0.75
    assert found.judge.error == pytest.approx(np.std([1, 1, 1, 0], ddof=1) / 2, abs=1e-6)
    assert (found.longer.value, found.shorter.value) == (0.375, 0.625)
    assert found.margin == judge.Estimate(value=0.125, error=0.125)
    assert found.near_equal_n == 2 and found.near_equal is not None
    assert found.near_equal.value == 1.0


def test_agreement_within_prompts() -> None:
    """Of the first prompt's pairs (0,1), (0,2), (1,2) the judges order two alike and one not; of
    the second's all are ties of one."""
    first = np.array([[0.0, 1.0, 2.0], [5.0, 5.0, 5.0]])
    second = np.array([[0.0, 2.0, 1.0], [5.0, 4.0, 4.5]])
    found = fit.agree(first, second, "other", "made")
    assert found.prompts == 2
    assert found.alike.value == pytest.approx((2 / 3 + 0.5) / 2, abs=1e-6)
    one = np.array([-1, 0, 1, 0, 0, 0])
    other = np.array([-1, 1, 0, 0.5, -0.5, 0])
    assert found.correlation == pytest.approx(np.corrcoef(one, other)[0, 1], abs=1e-6)


def test_repetition() -> None:
    assert fit.distinct_share(["a A b", "", "one two"]).tolist() == pytest.approx([2 / 3, 1, 1])


def test_saved_twice_gives_the_same_bytes(fake: Fake, tmp_path: Path) -> None:
    for name in ("first", "second"):
        for made in fit.fit_objective("made", preferences(), RECIPE).values():
            made.save(tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert names == [f"made-{r}.{e}" for r in ("gold", "proxy") for e in ("json", "safetensors")]
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_too_few_pairs(fake: Fake) -> None:
    with pytest.raises(PairBenchError, match="needs at least 10 pairs in the split proxy"):
        fit.fit_judge("fake", preferences(12), "proxy")


def test_constant_features_cannot_be_fitted() -> None:
    table: NDArray[np.float32] = np.ones((20, 2, 3), np.float32)
    with pytest.raises(PairBenchError, match="the same for all answers"):
        fit.fit_head(table, np.arange(20) % 5)


def test_the_command(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "RECIPE", RECIPE)
    monkeypatch.setattr(fit, "load", lambda dataset, folder: preferences())
    original = fit.load_model
    small = {"vocabulary": 300, "hidden": 16, "intermediate": 24, "layers": 2, "heads": 2}
    quick = Tiny.model_validate({**small, "steps": 2})
    monkeypatch.setattr(fit, "load_model", lambda name, sft: original(name, sft=sft, tiny=quick))
    arguments = ["--out", str(tmp_path / "out"), "--objective", "helpful"]
    result = CliRunner().invoke(fit.main, arguments)
    assert result.exit_code == 0, result.output
    assert "helpful-proxy: kind fake" in result.output and "may rank" in result.output
    assert judge.judge_names(tmp_path / "out") == ["helpful-gold", "helpful-proxy"]
    card = judge.load_judge("helpful-gold", tmp_path / "out").card
    assert card.agreement_on_samples is not None
    assert card.agreement_on_samples.texts == "completions of tiny"
    assert {"agreement on the policy's samples", "accuracy", "may rank"} <= card.short().keys()

    def absent(dataset: str, folder: Path | None) -> Preferences:
        raise PairBenchError("there are no data")

    monkeypatch.setattr(fit, "load", absent)
    result = CliRunner().invoke(fit.main, arguments)
    assert result.exit_code == 1 and "there are no data" in result.output
