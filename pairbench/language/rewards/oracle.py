"""Reward functions as what scores completions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairbench.errors import PairBenchError
from pairbench.language.data.forms import Turn
from pairbench.language.rewards.function import RewardFunction
from pairbench.language.rewards.rows import PromptSet


class Rewards:
    """The weighted sum of reward functions; where one returned None, the others' (as TRL's).

    Attributes:
        functions: what is summed.
        name: the sum in words, by the functions' names.
        cards: of each function, by where it stands, the SHA-256 of its source.
    """

    ranks = True

    def __init__(
        self,
        functions: Sequence[RewardFunction],
        data: PromptSet,
        beside: Sequence[RewardFunction] = (),
    ) -> None:
        """Names each function by its name alone, where none of them or `beside` shares it."""
        self.functions, self.data = tuple(functions), data
        known = {(function.name, function.title) for function in (*functions, *beside)}
        count = Counter(name for name, _ in known)
        self.titles = [f.name if count[f.name] == 1 else f.title for f in functions]
        weighted = zip(self.functions, self.titles)
        self.name = " + ".join(t if f.weight == 1 else f"{f.weight:g} {t}" for f, t in weighted)

    @property
    def cards(self) -> Mapping[str, Mapping[str, Any]]:
        kind = "reward function"
        return {f.title: {"kind": kind, "sha256": f.sha256} for f in self.functions}

    def each(
        self,
        prompts: Sequence[tuple[Turn, ...]],
        answers: Sequence[str],
        ids: Sequence[Sequence[int]] | None = None,
        step: int = 0,
    ) -> NDArray[np.float64]:
        """Returns (N, F) what each function says of N answers, NaN for None.

        Raises:
            PairBenchError: as `RewardFunction`.
        """
        rows = [self.data.rows[prompt] for prompt in prompts]
        written = [row.prompt for row in rows]
        said = [
            text if isinstance(row.prompt, str) else [{"role": "assistant", "content": text}]
            for row, text in zip(rows, answers, strict=True)
        ]
        columns = {key: [row.columns.get(key) for row in rows] for key in self.data.columns}
        found = [function(written, said, columns, ids, step) for function in self.functions]
        return np.stack(found, 1)

    def total(self, each: NDArray[np.float64], answers: Sequence[str]) -> NDArray[np.float64]:
        """Returns (N,) the weighted sums of (N, F) rewards, over those that apply.

        Raises:
            PairBenchError: none applies to an answer.
        """
        if len(silent := np.flatnonzero(np.isnan(each).all(1))):
            who = " and ".join(function.title for function in self.functions)
            raise PairBenchError(
                f"{who} returned None for the completion {answers[silent[0]]!r:.60}: one reward "
                "function at least must return a number for each"
            )
        weights = np.array([function.weight for function in self.functions])
        return np.asarray(np.nansum(each * weights, axis=1))

    def score(
        self,
        prompts: Sequence[tuple[Turn, ...]],
        answers: Sequence[str],
        sources: Sequence[str] = (),
    ) -> NDArray[np.float64]:
        """See `pairbench.language.judges.panel.Oracle.score`."""
        return self.total(self.each(prompts, answers), answers)
