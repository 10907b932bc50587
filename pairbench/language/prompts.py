"""A task's pairs as token ids: cut as its settings say, with an account of what the cuts did."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pairbench.errors import PairBenchError
from pairbench.language.data.forms import Turn
from pairbench.language.data.pairs import Pair, Preferences, Split, prompt_text, templated
from pairbench.language.policy.encoding import answer_ids, begins_with, table, token_ids
from pairbench.language.policy.models import load_tokenizer

if TYPE_CHECKING:
    from pairbench.language.judges.panel import RewardModel
    from pairbench.language.policy.models import LanguageModel
    from pairbench.language.task import LanguageConfig


IDENTICAL = "identical after the cut"

_HIDDEN = "\ufdd0"
"""Stands for no character in any text."""


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

    Raises:
        PairBenchError: no other pair is left.
    """
    used = _used(data, config)
    apart = {use: _apart(pairs, model, config) for use, pairs in used.items()}
    for use, pairs in apart.items():
        if not pairs:
            raise PairBenchError(
                f"{data.name} has no pair left for {use}: all {len(used[use])} are {IDENTICAL} to "
                f"pair_tokens = {config.pair_tokens}: raise it"
            )
    trained, held_out = apart.values()
    gone = [len(used[use]) - len(pairs) for use, pairs in apart.items()]
    chosen = _distinct(list(held_out))[: config.evaluation_prompts]
    return (
        _encoded(trained, gone[0], model, config),
        _encoded({pair: held_out[pair] for pair in chosen}, gone[1], model, config),
    )


def check(data: Preferences, config: LanguageConfig, judges: Sequence[RewardModel] = ()) -> None:
    """Checks that there are prompts for each use, and that all models' templates take them.

    The model `tiny`, which is trained when a run begins, has no template.

    Raises:
        PairBenchError: there are none, or one does not.
    """
    used = _used(data, config)
    for use, pairs in used.items():
        if not pairs:
            raise PairBenchError(
                f"{data.name} has {len(data.pairs)} pairs, and no prompt is left for {use}: "
                "prompts are dealt out by a hash, so give more pairs, a hundred at least"
            )
    ask: dict[str, Callable[[tuple[Turn, ...]], str | None]] = {
        f"the {judge.name}": judge.refusal for judge in judges
    }
    if config.model != "tiny":
        ask[f"the model {config.model}"] = partial(_refusal, load_tokenizer(config.model))
    for pair in (pair for pairs in used.values() for pair in pairs):
        for who, refusal in ask.items():
            if (reason := refusal(pair.prompt)) is not None:
                raise PairBenchError(
                    f"{pair.where or pair.id}: {who} cannot be given this prompt, {reason}: leave "
                    "out what it refuses, as a system turn, or take another model"
                )


def _refusal(tokenizer: Any, prompt: tuple[Turn, ...]) -> str | None:
    """Returns why a policy's chat template does not take a prompt, or None."""
    try:
        text = prompt_text(prompt, tokenizer)
    except PairBenchError as error:
        return str(error)
    return None if text.strip() else "its chat template leaves nothing of it"


def _used(data: Preferences, config: LanguageConfig) -> dict[str, tuple[Pair, ...]]:
    """Returns the pairs that are trained on and those of the evaluation, before any is cut."""
    split = data.split()
    held_out: Split = "evaluation" if config.held_out == "evaluation" else "proxy"
    return {"training": split["policy"], "evaluation": split[held_out]}


def answers(pairs: Sequence[Pair]) -> list[str]:
    """Returns both answers of each pair: preferred, rejected, preferred, ..."""
    return [text for pair in pairs for text in (pair.chosen, pair.rejected)]


def _apart(pairs: Sequence[Pair], model: LanguageModel, config: LanguageConfig) -> dict[Pair, int]:
    """Returns the pairs whose answers differ as ids, each with how many of them were cut."""
    length, least = config.pair_tokens, config.least_tokens
    ids, cut = answer_ids(model.tokenizer, answers(pairs), length, model.ends, least)
    return {
        pair: cut[2 * n] + cut[2 * n + 1]
        for n, pair in enumerate(pairs)
        if ids[2 * n] != ids[2 * n + 1]
    }


def _encoded(
    pairs: dict[Pair, int], identical: int, model: LanguageModel, config: LanguageConfig
) -> Prompts:
    first, rows = prompt_ids([pair.prompt for pair in pairs], model.tokenizer)
    kept = max(config.prompt_tokens - len(first), 1)
    ids = table([[*first, *row[-kept:]] for row in rows], "prompt", "left")
    cut = sum(len(row) > kept for row in rows), sum(pairs.values())
    return Prompts(tuple(pairs), ids, cut, identical)


def encoded(pairs: Sequence[Pair], model: LanguageModel, config: LanguageConfig) -> Prompts:
    """Returns the prompts of pairs whose answers nobody reads."""
    return _encoded(dict.fromkeys(pairs, 0), 0, model, config)


def prompt_ids(
    prompts: Sequence[Sequence[Turn]], tokenizer: Any
) -> tuple[list[int], list[list[int]]]:
    """Returns the ids that come before every prompt, and those of each.

    A chat template says which special tokens there are, and where. Without one they are those that
    the tokenizer itself puts first. No text of a turn is read as a special token.
    """
    if getattr(tokenizer, "chat_template", None):
        return [], [template_ids(prompt, tokenizer) for prompt in prompts]
    texts = [prompt_text(prompt) for prompt in prompts]
    return begins_with(tokenizer), token_ids(tokenizer, texts, split_special_tokens=True)


def template_ids(turns: Sequence[Turn], tokenizer: Any, answered: bool = False) -> list[int]:
    """Returns the ids of turns in a chat template; see `templated`.

    Special tokens are the template's: where a turn's text looks like one, it stays text.

    Raises:
        PairBenchError: the template does not take the turns.
    """
    special = [re.escape(token) for token in tokenizer.all_special_tokens]
    any_of = re.compile("|".join(sorted(special, key=len, reverse=True)) or "(?!)")
    found: list[str] = []

    def hidden(match: re.Match[str]) -> str:
        found.append(match[0])
        return f"{_HIDDEN}{len(found) - 1}{_HIDDEN}"

    apart = [(role, any_of.sub(hidden, said)) for role, said in turns]
    parts = re.split(f"{_HIDDEN}([0-9]+){_HIDDEN}", templated(apart, tokenizer, answered))
    ids: list[int] = []
    for k, part in enumerate(parts):
        said = found[int(part)] if k % 2 else part
        ids += token_ids(tokenizer, [said], split_special_tokens=bool(k % 2))[0]
    return ids


def _distinct(pairs: Sequence[Pair]) -> list[Pair]:
    """Returns the first pair of each prompt, ordered by nothing that says which came first."""
    first: dict[tuple[Turn, ...], Pair] = {}
    for pair in pairs:
        first.setdefault(pair.prompt, pair)
    return [first[prompt] for prompt in sorted(first)]


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


def note(
    cut: Mapping[str, Mapping[str, int]],
    repeated: int,
    judges: Iterable[str],
    config: LanguageConfig,
) -> str | None:
    """Returns what reading and cutting did in one sentence for the board; None for nothing."""
    lengths = {"prompts": config.prompt_tokens, "answers": config.pair_tokens}
    said = []
    for (what, length), each in zip(lengths.items(), (1, 2)):
        of = [f"{p[what]} of {each * p['pairs']} {name}" for name, p in cut.items() if p[what]]
        said += [f"{what} cut to {length} tokens: {', '.join(of)}"] if of else []
    same = [f"{part[IDENTICAL]} {name}" for name, part in cut.items() if part[IDENTICAL]]
    said += [f"pairs dropped as {IDENTICAL}: {', '.join(same)}"] if same else []
    said += [f"prompts taken off both sides, which repeated them: {repeated}"] if repeated else []
    said += [f"prompts too long for the {role} judge cut for it" for role in judges]
    return f"{'; '.join(said).capitalize()}." if said else None
