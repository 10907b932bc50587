"""Preference pairs: a prompt that ends with the user's turn and two answers, one preferred.

Whatever form the rows of a data set come in, they pass through the one parser and the one set of
cleaning rules below. Two forms of the same data so give the same pairs and the same
`Preferences.sha256`, and what was dropped is counted by reason.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, get_args

from pairbench.errors import PairBenchError
from pairbench.language.data.forms import RawPair, Turn, blank, dialogue, score
from pairbench.text import error_line

Split = Literal["policy", "proxy", "gold", "evaluation"]

SPLITS: tuple[Split, ...] = ("policy", "proxy", "gold", "evaluation")
SHARES: Mapping[Split, float] = {"policy": 0.45, "proxy": 0.25, "gold": 0.20, "evaluation": 0.10}

Reason = Literal[
    "first turn not the user's",
    "no shared prompt",  # not one answer each to one and the same prompt
    "turns do not alternate",  # user and assistant, and the prompt ends with the user
    "empty turn in the prompt",
    "empty side",
    "identical sides",
    "score tie",
    "score against the label",
]
"""Why a row is dropped; the first that applies is the one counted."""


_SPEAKERS: Mapping[str, str] = {"user": "Human", "assistant": "Assistant", "system": "System"}


@dataclass(frozen=True)
class Pair:
    """One preference between two answers.

    Attributes:
        id: names the row within its data set.
        source: the part of the data set, for example "helpful-base".
        prompt: turns that alternate from user to user (after a system turn, if any), none empty.
        chosen: the preferred final answer of the assistant, stripped and not empty.
        rejected: the other one, stripped, not empty and not the same.
        score_chosen: what the origin scored the preferred answer with, or None.
        score_rejected: likewise; below `score_chosen` where both are given.
        where: the row it comes from, for errors.
    """

    id: str
    source: str
    prompt: tuple[Turn, ...]
    chosen: str
    rejected: str
    score_chosen: float | None = None
    score_rejected: float | None = None
    where: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True)
class Preferences:
    """A cleaned data set of pairs.

    Attributes:
        name: of the data set.
        pairs: the pairs that are left, in the order of the rows.
        dropped: how many rows were dropped, by `Reason`; reasons with none are absent.
        revision: the hub's commit, "local" for a folder or file, "toy-<version>" for ours.
        sha256: of the pairs' content, whatever their ids and order.
        repeated: how many rows had the prompt in front of both sides too; it was taken off.
    """

    name: str
    pairs: tuple[Pair, ...]
    dropped: Mapping[str, int]
    revision: str
    sha256: str
    repeated: int = 0

    @classmethod
    def of(
        cls,
        name: str,
        pairs: Iterable[Pair],
        dropped: Mapping[str, int],
        revision: str,
        repeated: int = 0,
    ) -> Preferences:
        """Returns the data set of these pairs.

        Raises:
            PairBenchError: there is no pair, or two have one id.
        """
        kept = tuple(pairs)
        if not kept:
            said = ", ".join(f"{count} for {reason!r}" for reason, count in dropped.items())
            raise PairBenchError(
                f"{name} has no pair left after cleaning"
                + (f"; rows were dropped: {said}" if said else "; it has no rows")
            )
        for pair_id, count in Counter(pair.id for pair in kept).items():
            if count > 1:
                raise PairBenchError(
                    f"{name} has two rows with the id {pair_id!r}: make them distinct"
                )
        return cls(name, kept, dict(dropped), revision, content_hash(kept), repeated)

    def split(self) -> Mapping[Split, tuple[Pair, ...]]:
        """Returns the pairs by use: a pair's prompt alone decides, so no prompt is in two.

        The shares (`SHARES`) hold in expectation; rows that come or go move no other.
        """
        parts: dict[Split, list[Pair]] = {name: [] for name in SPLITS}
        for pair in self.pairs:
            parts[split_of(pair.prompt)].append(pair)
        return {name: tuple(part) for name, part in parts.items()}

    def sft_texts(self) -> list[tuple[str, str]]:
        """Returns what a model learns language from: each training prompt with either answer.

        Both sides count, so that neither is likelier for having been seen: a preference is what
        the methods must add.
        """
        return [
            (prompt_text(pair.prompt), answer)
            for pair in self.split()["policy"]
            for answer in (pair.chosen, pair.rejected)
        ]


def split_of(prompt: Iterable[Turn]) -> Split:
    """Returns the split of a prompt, by a hash of its first user turn.

    Case and white space do not count, so trivial variants of a question share a split.
    """
    first = next((text for role, text in prompt if role == "user"), "")
    key = "pairbench-split:" + " ".join(first.casefold().split())
    position = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64
    for name in SPLITS[:-1]:
        if position < SHARES[name]:
            return name
        position -= SHARES[name]
    return SPLITS[-1]


def prompt_text(prompt: Iterable[Turn], tokenizer: Any = None) -> str:
    """Returns the text a model continues with the assistant's answer.

    Args:
        prompt: turns that end with the user's.
        tokenizer: of transformers; its chat template is used if it has one, with the marker of
            the assistant's turn, and HH-RLHF's transcript otherwise.

    Raises:
        PairBenchError: the template refuses the turns, or is no template.
    """
    turns = tuple(prompt)
    if getattr(tokenizer, "chat_template", None):
        return templated(turns, tokenizer)
    return "".join(f"\n\n{_SPEAKERS[role]}: {text}" for role, text in turns) + "\n\nAssistant:"


def templated(turns: Iterable[Turn], tokenizer: Any, answered: bool = False) -> str:
    """Returns turns in a tokenizer's chat template, the last one `answered` or to be answered.

    Raises:
        PairBenchError: the template refuses the turns, or is no template.
    """
    messages = [{"role": role, "content": text} for role, text in turns]
    try:
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=not answered
        )
    except Exception as error:  # a template is a program, and raises what it likes
        raise PairBenchError(f"its chat template fails ({error_line(error)})") from error
    return str(text)


def prompt_id(prompt: Iterable[Turn]) -> str:
    """Returns the first 16 hex digits of the SHA-256 of a prompt's plain text."""
    return hashlib.sha256(prompt_text(prompt).encode()).hexdigest()[:16]


def content_hash(pairs: Iterable[Pair]) -> str:
    """Returns SHA-256 of the pairs' content; neither ids nor order count."""
    digests = sorted(
        hashlib.sha256(
            json.dumps(
                [p.source, p.prompt, p.chosen, p.rejected, p.score_chosen, p.score_rejected],
                ensure_ascii=False,
            ).encode()
        ).digest()
        for p in pairs
    )
    return hashlib.sha256(b"".join(digests)).hexdigest()


# From rows to pairs.


class Cleaned(NamedTuple):
    """The rows that are pairs, how many are not, by reason, and `Preferences.repeated`."""

    pairs: list[Pair]
    dropped: dict[str, int]
    repeated: int


def clean(rows: Iterable[RawPair]) -> Cleaned:
    """Returns the pairs of the rows that are one, and what became of the others.

    A prompt that both sides begin with is taken off them. A greeting of a word or two may well open
    both answers: it is taken off only where at least half of all rows repeat their prompt.

    Raises:
        PairBenchError: a row lacks a side, or holds what is no text, message or score.
    """
    outcomes: list[Pair | Reason | None] = []
    doubtful: dict[int, tuple[RawPair, RawPair]] = {}
    repeated = 0
    for row in rows:
        bare = _without_prompt(row)
        repeated += bare is not None
        if bare is not None and len(row.fields["prompt"].split()) < 3:
            doubtful[len(outcomes)] = row, bare
            outcomes.append(None)
        else:
            outcomes.append(_pair(bare or row))
    usual = 2 * repeated >= len(outcomes)
    for n, (row, bare) in doubtful.items():
        outcomes[n] = _pair(bare if usual else row)
    pairs = [outcome for outcome in outcomes if isinstance(outcome, Pair)]
    reasons = Counter(outcome for outcome in outcomes if not isinstance(outcome, Pair))
    dropped = {reason: reasons[reason] for reason in get_args(Reason) if reasons[reason]}
    return Cleaned(pairs, dropped, repeated if usual else repeated - len(doubtful))


def _without_prompt(row: RawPair) -> RawPair | None:
    """Returns the row with its prompt taken off both sides; None where they do not repeat it."""
    texts = [row.fields.get(column) for column in ("prompt", "chosen", "rejected")]
    prompt, *sides = (text.strip() if isinstance(text, str) else "" for text in texts)
    rests = [side.removeprefix(prompt) for side in sides]
    for side, rest in zip(sides, rests):
        if rest == side or (rest[:1].isalnum() and prompt[-1].isalnum()):
            return None
    return replace(row, fields={**row.fields, "chosen": rests[0], "rejected": rests[1]})


def _pair(row: RawPair) -> Pair | Reason:
    """Returns the row's pair, or the reason for which it is dropped."""
    if not row.named and any(blank(row.fields.get(side, "?")) for side in ("chosen", "rejected")):
        return "empty side"
    shared = _shared(dialogue(row, "chosen"), dialogue(row, "rejected"))
    if isinstance(shared, str):
        return shared
    prompt, chosen, rejected = shared
    high, low = score(row, "score_chosen"), score(row, "score_rejected")
    if not chosen or not rejected:
        return "empty side"
    if chosen == rejected:
        return "identical sides"
    if high is not None and low is not None and high <= low:
        return "score tie" if high == low else "score against the label"
    return Pair(row.id, row.source, prompt, chosen, rejected, high, low, row.where)


def _shared(chosen: list[Turn], rejected: list[Turn]) -> tuple[tuple[Turn, ...], str, str] | Reason:
    """Splits two dialogues into the prompt they share and the answer of each, or says why not."""
    for turns in (chosen, rejected):
        if next((role for role, _ in turns if role != "system"), None) != "user":
            return "first turn not the user's"
    n = next(
        (k for k, (one, other) in enumerate(zip(chosen, rejected)) if one != other),
        min(len(chosen), len(rejected)),
    )
    if n == len(chosen) == len(rejected):
        n -= 1
    for turns in (chosen, rejected):
        if len(turns) != n + 1 or turns[n][0] != "assistant":
            return "no shared prompt"
    prompt = tuple(chosen[:n])
    talk = prompt[1:] if prompt[0][0] == "system" else prompt
    if len(talk) % 2 == 0 or any(
        role != ("user", "assistant")[k % 2] for k, (role, _) in enumerate(talk)
    ):
        return "turns do not alternate"
    if not all(text for _, text in prompt):
        return "empty turn in the prompt"
    return prompt, chosen[n][1], rejected[n][1]
