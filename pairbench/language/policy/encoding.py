"""Text as token ids, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pairbench.errors import PairBenchError

NOTHING = -1
"""The id of padding, in contexts and responses: no model needs a token for it."""


def encode_prompts(tokenizer: Any, texts: Sequence[str], length: int) -> Tensor:
    """Returns (N, P) int64 ids, P at most `length`, cut on the left and left padded with -1.

    Raises:
        PairBenchError: a prompt has no token.
    """
    return table([ids[-length:] for ids in token_ids(tokenizer, texts)], "prompt", "left")


def encode_answers(
    tokenizer: Any, texts: Sequence[str], length: int, ends: int | Sequence[int], least: int = 0
) -> tuple[Tensor, Tensor]:
    """Returns ids (N, T) int64, right padded with -1, and the mask (N, T) of real ones.

    See `answer_ids`; T is at most `length` + 1.

    Raises:
        PairBenchError: an answer has no token.
    """
    rows = answer_ids(tokenizer, texts, length, ends, least)[0]
    ids = table(rows, "answer", "right")
    return ids, (ids != NOTHING).float()


def answer_ids(
    tokenizer: Any, texts: Sequence[str], length: int, ends: int | Sequence[int], least: int = 0
) -> tuple[list[list[int]], list[bool]]:
    """Returns the ids of each answer, cut to `length`, and whether it was cut.

    One that fits whole ends with the first of `ends` beyond that. Nothing in an answer's text is
    read as a special token; where it holds another id that ends a response, it ends there. No
    answer has an end among its first `least` tokens, where a policy of fixed length has none.
    """
    stops = [ends] if isinstance(ends, int) else list(ends)
    rows, cut = [], []
    for ids in token_ids(tokenizer, texts, split_special_tokens=True):
        stop = next((k for k, token in enumerate(ids) if token in stops), len(ids))
        end = ids[stop] if stop < len(ids) else stops[0]
        cut.append(stop > length)
        fits = not cut[-1] and ids and stop >= least
        rows.append([*ids[:stop], end] if fits else ids[: min(stop, length)])
    return rows, cut


def table(rows: list[list[int]], what: str, side: Literal["left", "right"]) -> Tensor:
    """Returns the ids of N texts as one tensor (N, L), padded with -1 on one side."""
    for row, ids in enumerate(rows):
        if not ids:
            raise PairBenchError(
                f"{what} {row} of {len(rows)} has no token: drop {what}s that are empty"
            )
    if not rows:
        return torch.empty(0, 0, dtype=torch.int64)
    tensors = [torch.tensor(ids) for ids in rows]
    return pad_sequence(tensors, True, NOTHING, side)


def real_ids(ids: Tensor) -> list[list[int]]:
    """Returns the ids of each row (N, L) without padding."""
    return [row[row != NOTHING].tolist() for row in ids]


def begins_with(tokenizer: Any) -> list[int]:
    """Returns the special tokens that a tokenizer puts before any text, as a begin of sequence."""
    plain: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole: list[int] = tokenizer("a", add_special_tokens=True)["input_ids"]
    starts = range(len(whole) - len(plain) + 1)
    return whole[: next((k for k in starts if whole[k : k + len(plain)] == plain), 0)]


def decode(tokenizer: Any, responses: Tensor) -> list[str]:
    """Returns the text of each response (N, T), without special tokens."""
    texts: list[str] = tokenizer.batch_decode(real_ids(responses), skip_special_tokens=True)
    return texts


def token_ids(tokenizer: Any, texts: Sequence[str], **options: Any) -> list[list[int]]:
    """Returns the ids of each text, without the special tokens a tokenizer may add."""
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=False, return_attention_mask=False, **options
    )["input_ids"]
    return ids
