"""Judges that are loaded and score."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from pairbench.errors import PairBenchError
from pairbench.language.judges import fit, judge
from tests.support.fake_features import WHEELS, WORDS, Fake, preferences


def test_a_loaded_judge_scores_as_before(fake: Fake, tmp_path: Path) -> None:
    data = preferences()
    made = fit.fit_judge("fake", data, "gold").judge
    made.save(tmp_path)
    loaded = judge.load_judge("made-gold", tmp_path)
    assert judge.judge_names(tmp_path) == ["made-gold"]
    prompts, answers = [data.pairs[0].prompt] * 2, ["good cat", ""]
    np.testing.assert_array_equal(
        loaded.score(prompts, answers), made.score(prompts, answers), strict=True
    )


def test_damaged_judges_are_refused(fake: Fake, tmp_path: Path) -> None:
    made = fit.fit_judge("fake", preferences(), "gold").judge
    with pytest.raises(PairBenchError, match=r"no judge is named 'made-gold' .* there are none"):
        judge.load_judge("made-gold", tmp_path)
    made.save(tmp_path)
    head, card = tmp_path / "made-gold.safetensors", tmp_path / "made-gold.json"
    whole = head.read_bytes()
    head.write_bytes(whole[:-8])
    with pytest.raises(PairBenchError, match="the judge made-gold cannot be read"):
        judge.load_judge("made-gold", tmp_path)
    head.write_bytes(replace(made.head, bias=made.head.bias + 1).data())
    with pytest.raises(PairBenchError, match="not the one its card describes"):
        judge.load_judge("made-gold", tmp_path)
    head.write_bytes(whole)
    card.write_text(json.dumps({**json.loads(card.read_text()), "penalty": "much"}))
    with pytest.raises(PairBenchError, match="the judge made-gold cannot be read"):
        judge.load_judge("made-gold", tmp_path)


def test_nan_names_the_judge(fake: Fake) -> None:
    made = fit.fit_judge("fake", preferences(), "gold").judge
    broken = replace(made, head=replace(made.head, weight=np.full(len(WORDS), np.nan)))
    with pytest.raises(PairBenchError, match="the judge made-gold gave nan for answer 0 of 1"):
        broken.score([(("user", "hello"),)], ["good"])
    with pytest.raises(PairBenchError, match="made-gold was given 1 prompts and 2 answers"):
        made.score([(("user", "hello"),)], ["good", "bad"])


def test_other_weights_are_refused(fake: Fake) -> None:
    made = fit.fit_judge("fake", preferences(), "gold").judge
    fake.weights = "1" * 64
    with pytest.raises(PairBenchError, match="fitted on other weights of fake"):
        made.score([(("user", "hello"),)], ["good"])


def test_committed_judges_are_whole() -> None:
    names = judge.judge_names()
    if not names:
        pytest.skip("no judge is committed yet")
    assert names == sorted(f"{o}-{role}" for o in fit.DATASET_OF for role in judge.ROLES)
    for name in names:
        made = judge.load_judge(name)
        card = made.card
        assert card.name == name and card.kind == fit.RECIPE[card.role]
        assert card.dataset == fit.DATASET_OF[card.objective]
        assert card.fitted_on == card.role and np.isfinite(made.head.weight).all()
        margin = card.held_out[0].margin
        assert card.ranks == (margin.value >= judge.STANDARD_ERRORS * margin.error > 0)


@pytest.mark.slow
def test_committed_judges_score() -> None:
    for modules in WHEELS.values():
        if any(find_spec(module) is None for module in modules):
            pytest.skip(f"{' or '.join(modules)} is not installed")
    prompt = (("user", "How do I boil an egg?"),)
    for name in judge.judge_names():
        scores = judge.load_judge(name).score([prompt] * 2, ["Boil it for 8 minutes.", ""])
        assert np.isfinite(scores).all() and (np.abs(scores) < 20).all()
