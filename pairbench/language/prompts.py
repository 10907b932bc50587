"""A task's pairs as token ids: cut as its settings say, with an account of what the cuts did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pairbench.language.data.forms import Turn
from pairbench.language.data.pairs import Pair, Preferences, prompt_text
from pairbench.language.policy.encoding import answer_ids, table, token_ids

if TYPE_CHECKING:
    from pairbench.language.policy.models import LanguageModel
    from pairbench.language.task import LanguageConfig


@dataclass(frozen=True)
class Prompts:
    """Prompts of one use, as turns and as token ids.

    Attributes:
        pairs: the preference pairs they come from, one prompt each.
        ids: (N, P) int64, left padded with -1.
        cut: how many prompts, and how many of the pairs' answers, were cut.
        identical: how many pairs were dropped because the cut made their answers equal.
    """

    pairs: tuple[Pair, ...]
    ids: Tensor
    cut: tuple[int, int] = (0, 0)
    identical: int = 0

    def take(self, rows: NDArray[np.int64]) -> Prompts:
        """Returns the prompts of `rows`, without columns that only others needed."""
        ids = self.ids[torch.from_numpy(rows)]
        width = int((ids >= 0).sum(1).max())
        return Prompts(tuple(self.pairs[row] for row in rows), ids[:, -width:])


def prompts_of(
    data: Preferences, model: LanguageModel, config: LanguageConfig
) -> tuple[Prompts, Prompts]:
    """Returns the prompts that are trained on and those held out.

    A pair whose answers the cut makes equal is in neither: it prefers nothing.
    """
    split = data.split()
    others = split["evaluation" if config.held_out == "evaluation" else "proxy"]
    trained, held_out = _apart(split["policy"], model, config), _apart(others, model, config)
    chosen = _distinct(list(held_out))[: config.evaluation_prompts]
    return (
        _encoded(trained, len(split["policy"]) - len(trained), model, config),
        _encoded({p: held_out[p] for p in chosen}, len(others) - len(held_out), model, config),
    )


def answers(pairs: Sequence[Pair]) -> list[str]:
    """Returns both answers of each pair: preferred, rejected, preferred, ..."""
    return [text for pair in pairs for text in (pair.chosen, pair.rejected)]


def _apart(pairs: Sequence[Pair], model: LanguageModel, config: LanguageConfig) -> dict[Pair, int]:
    """Returns the pairs whose answers differ as ids, each with how many of them were cut."""
    length, least = config.pair_tokens, config.least_tokens
    ids, cut = answer_ids(model.tokenizer, answers(pairs), length, model.eos, least)
    return {
        pair: cut[2 * n] + cut[2 * n + 1]
        for n, pair in enumerate(pairs)
        if ids[2 * n] != ids[2 * n + 1]
    }


def _encoded(
    pairs: dict[Pair, int], identical: int, model: LanguageModel, config: LanguageConfig
) -> Prompts:
    texts = [prompt_text(pair.prompt, model.tokenizer) for pair in pairs]
    whole, length = token_ids(model.tokenizer, texts), config.prompt_tokens
    ids = table([row[-length:] for row in whole], "prompt", "left")
    cut = sum(len(row) > length for row in whole), sum(pairs.values())
    return Prompts(tuple(pairs), ids, cut, identical)


def _distinct(pairs: Sequence[Pair]) -> list[Pair]:
    """Returns the first pair of each prompt, ordered by nothing that says which came first."""
    first: dict[tuple[Turn, ...], Pair] = {}
    for pair in pairs:
        first.setdefault(pair.prompt, pair)
    return [first[prompt] for prompt in sorted(first)]


IDENTICAL = "identical after the cut"


def cuts(training: Prompts, held_out: Prompts) -> dict[str, dict[str, int]]:
    """Returns what the cuts did, as a record keeps it."""
    return {
        name: {
            "pairs": len(one.pairs),
            "prompts": one.cut[0],
            "answers": one.cut[1],
            IDENTICAL: one.identical,
        }
        for name, one in (("training", training), ("held out", held_out))
    }


def note(cut: Mapping[str, Mapping[str, int]], repeated: int, config: LanguageConfig) -> str | None:
    """Returns what reading and cutting did in one sentence for the board; None for nothing."""
    lengths = {"prompts": config.prompt_tokens, "answers": config.pair_tokens}
    said = []
    for (what, length), each in zip(lengths.items(), (1, 2)):
        of = [f"{p[what]} of {each * p['pairs']} {name}" for name, p in cut.items() if p[what]]
        said += [f"{what} cut to {length} tokens: {', '.join(of)}"] if of else []
    same = [f"{part[IDENTICAL]} {name}" for name, part in cut.items() if part[IDENTICAL]]
    said += [f"pairs dropped as {IDENTICAL}: {', '.join(same)}"] if same else []
    said += [f"prompts taken off both sides, which repeated them: {repeated}"] if repeated else []
    return f"{'; '.join(said).capitalize()}." if said else None
