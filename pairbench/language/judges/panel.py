"""Who scores completions: a judge per objective, or, for the toy dialogues, the known answer.

Helpfulness and harmlessness are objectives of their own: pooled, a judge of both knows neither. A
data set of both gives each prompt to the judge of the part it comes from.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pairbench.errors import PairBenchError
from pairbench.language.data import toy
from pairbench.language.data.forms import Turn
from pairbench.language.data.pairs import prompt_text
from pairbench.language.judges.judge import ROLES, Judge, Role, judge_names, load_judge
from pairbench.language.policy.encoding import token_ids
from pairbench.language.policy.execution import context_window
from pairbench.language.policy.models import load_classifier
from pairbench.language.prompts import template_ids

OBJECTIVE_OF: Mapping[str, str] = {
    "helpful-base": "helpful",
    "rejection-sampled": "helpful",
    "online": "helpful",
    "harmless-base": "harmless",
    "ultrafeedback": "ultrafeedback",
}
"""The objective of each source of pairs."""

OBJECTIVES: Mapping[str, tuple[str, ...]] = {
    "hh-rlhf-helpful": ("helpful",),
    "hh-rlhf-harmless": ("harmless",),
    "hh-rlhf": ("helpful", "harmless"),
    "ultrafeedback": ("ultrafeedback",),
}
"""The objectives of each data set that has judges."""

COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "hh-rlhf-helpful": ("helpful", "harmless"),
    "hh-rlhf-harmless": ("helpful", "harmless"),
    "hh-rlhf": ("helpful", "harmless"),
}
"""The objectives that the completions of a data set's prompts may all be scored for, apart."""


class Oracle(Protocol):
    """Scores completions.

    Attributes:
        name: of what scores.
        ranks: whether its scores have shown that they may rank policies.
        cards: what is known of its parts, by name: the SHA-256 and, of judges, their accuracy.
    """

    @property
    def name(self) -> str: ...

    @property
    def ranks(self) -> bool: ...

    @property
    def cards(self) -> Mapping[str, Mapping[str, Any]]: ...

    def score(
        self, prompts: Sequence[tuple[Turn, ...]], answers: Sequence[str], sources: Sequence[str]
    ) -> NDArray[np.float64]:
        """Returns (N,) scores of N answers, given each one's prompt and the source of it."""
        ...


class Panel:
    """The judges of a data set in one role; each scores the prompts of its own objective."""

    def __init__(self, role: Role, objectives: Sequence[str]) -> None:
        self.name = f"{role} judge of {' and '.join(objectives)}"
        self.judges: dict[str, Judge] = {
            objective: load_judge(f"{objective}-{role}") for objective in objectives
        }

    @property
    def ranks(self) -> bool:
        return all(judge.card.ranks for judge in self.judges.values())

    @property
    def cards(self) -> Mapping[str, Mapping[str, Any]]:
        return {judge.card.name: judge.card.short() for judge in self.judges.values()}

    def score(
        self, prompts: Sequence[tuple[Turn, ...]], answers: Sequence[str], sources: Sequence[str]
    ) -> NDArray[np.float64]:
        scores = np.empty(len(answers))
        objectives = np.array([OBJECTIVE_OF[source] for source in sources])
        for objective, judge in self.judges.items():
            rows = np.flatnonzero(objectives == objective)
            scores[rows] = judge.score(
                [prompts[int(row)] for row in rows], [answers[int(row)] for row in rows]
            )
        return scores


class RewardModel:
    """A transformers model of sequence classification with one output, as a judge.

    It reads prompt and answer by its tokenizer's chat template, or as one plain text without one.
    What is longer than its context loses the beginning of the prompt, never any of the answer.
    Nothing is known here of how well it predicts people's choices; that it ranks is the word of
    whoever named it, and its card says so.

    Attributes:
        role: which judge it is.
        cut: how many texts it was given whose prompt was too long.

    Raises:
        PairBenchError: it cannot be read from safetensors, or has more than one output.
    """

    ranks = True
    rows = 16  # texts in one pass

    def __init__(self, role: Role, model: str) -> None:
        self.name, self.role, self.cut = f"{role} judge {model}", role, 0
        self._network, self._tokenizer, about = load_classifier(model)
        self._templated = bool(getattr(self._tokenizer, "chat_template", None))
        self._context = min(self._tokenizer.model_max_length, context_window(self._network))
        self._tokenizer.truncation_side = "left"
        self.cards: Mapping[str, Mapping[str, Any]] = {
            f"{role}: {model}": {
                "kind": "sequence classification",
                **about,
                "may rank": "by the word of whoever chose it: not measured here",
            }
        }

    @torch.inference_mode()
    def score(
        self, prompts: Sequence[tuple[Turn, ...]], answers: Sequence[str], sources: Sequence[str]
    ) -> NDArray[np.float64]:
        """See `Oracle.score`.

        Raises:
            PairBenchError: an answer alone is longer than the model's context.
        """
        longest = max(map(len, token_ids(self._tokenizer, answers)), default=0)
        if longest >= self._context:
            raise PairBenchError(
                f"the {self.name} reads {self._context} tokens, and an answer alone has {longest}: "
                "lower completion_tokens or take another reward model"
            )
        rows = [self._ids(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        scores = []
        for at in range(0, len(rows), self.rows):
            part = {"input_ids": rows[at : at + self.rows]}
            read = self._tokenizer.pad(part, return_tensors="pt")
            scores.append(self._network(**read).logits[:, 0].double().numpy())
        return np.concatenate(scores)

    def refusal(self, prompt: tuple[Turn, ...]) -> str | None:
        """Returns why the model's chat template does not take a prompt, or None."""
        if not self._templated:
            return None
        try:
            ids = template_ids([*prompt, ("assistant", "a")], self._tokenizer, answered=True)
        except PairBenchError as error:
            return str(error)
        return None if ids else "its chat template leaves nothing of it"

    def _ids(self, prompt: tuple[Turn, ...], answer: str) -> list[int]:
        """Returns the ids of both; no text of theirs is read as a special token."""
        ids: list[int]
        if self._templated:
            turns = [*prompt, ("assistant", answer)]
            ids = template_ids(turns, self._tokenizer, answered=True)
            self.cut += len(ids) > self._context
            return ids[-self._context :]
        text, most = f"{prompt_text(prompt)} {answer}", self._context
        ids = self._tokenizer(text, split_special_tokens=True)["input_ids"]
        if len(ids) > most:  # again, for the special tokens at both ends
            self.cut += 1
            ids = self._tokenizer(
                text, truncation=True, max_length=most, split_special_tokens=True
            )["input_ids"]
        return ids


class KnownAnswers:
    """How near an answer of the toy dialogues comes to the one that is known to be right.

    The proxy counts common words (F1), the gold compares in order (difflib's ratio of matching
    characters). Both lie in [0, 1].
    """

    ranks = True
    cards: Mapping[str, Mapping[str, Any]] = {}

    def __init__(self, role: Role) -> None:
        self.name = f"{role} score of toy-dialogue"
        self._measure = _common_words if role == "proxy" else _in_order
        self._right = {pair.prompt: pair.chosen for pair in toy.dialogues()}

    def score(
        self, prompts: Sequence[tuple[Turn, ...]], answers: Sequence[str], sources: Sequence[str]
    ) -> NDArray[np.float64]:
        pairs = zip(prompts, answers, strict=True)
        return np.array([self._measure(self._right[prompt], text) for prompt, text in pairs])


def judged(dataset: str) -> bool:
    """Returns whether somebody can score answers to the prompts of `dataset`."""
    if dataset == "toy-dialogue":
        return True
    wanted = {f"{objective}-{role}" for objective in OBJECTIVES.get(dataset, ()) for role in ROLES}
    return bool(wanted) and wanted <= set(judge_names())


def component_judges(dataset: str, role: Role) -> tuple[Judge, ...]:
    """Returns a judge per objective of `COMPONENTS`, or none where there are not several.

    Each scores every completion, those of prompts that its objective's data do not have included.

    Raises:
        PairBenchError: a judge's files are damaged.
    """
    names = [f"{objective}-{role}" for objective in COMPONENTS.get(dataset, ())]
    known = judge_names()
    return tuple(map(load_judge, names)) if all(name in known for name in names) else ()


def oracle(dataset: str, role: Role) -> Oracle | None:
    """Returns who scores answers to the prompts of `dataset`, or None where nobody can.

    Raises:
        PairBenchError: a judge's files are damaged.
    """
    if not judged(dataset):
        return None
    return KnownAnswers(role) if dataset == "toy-dialogue" else Panel(role, OBJECTIVES[dataset])


def _common_words(right: str, text: str) -> float:
    wanted, found = (Counter(words.casefold().split()) for words in (right, text))
    common = (wanted & found).total()
    return 2 * common / max(wanted.total() + found.total(), 1)


def _in_order(right: str, text: str) -> float:
    return difflib.SequenceMatcher(None, right.casefold(), text.casefold(), False).ratio()
