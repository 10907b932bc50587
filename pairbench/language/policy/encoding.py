"""Text as token ids, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pairbench.errors import PairBenchError

NOTHING = -1
"""The id of padding, in contexts and responses: no model needs a token for it."""


def encode_prompts(tokenizer: Any, texts: Sequence[str], length: int) -> Tensor:
    """Returns (N, P) int64 ids, P at most `length`, cut on the left and left padded with -1.

    Raises:
        PairBenchError: a prompt has no token.
    """
    rows = [ids[-length:] for ids in token_ids(tokenizer, texts)]
    for row, ids in enumerate(rows):
        if not ids:
            raise PairBenchError(
                f"prompt {row} of {len(rows)} has no token: drop prompts that are empty"
            )
    table = torch.full((len(rows), max(map(len, rows), default=0)), NOTHING)
    for row, ids in enumerate(rows):
        table[row, -len(ids) :] = torch.tensor(ids)
    return table


def encode_answers(
    tokenizer: Any, texts: Sequence[str], length: int, eos: int
) -> tuple[Tensor, Tensor]:
    """Returns ids (N, T) int64, right padded with -1, and the mask (N, T) of real ones.

    Answers are cut to `length` tokens; one that fits whole ends with `eos` beyond that, so that T
    is at most `length` + 1. Nothing in an answer's text is read as a special token.

    Raises:
        PairBenchError: an answer has no token.
    """
    rows = token_ids(tokenizer, texts, split_special_tokens=True)
    for row, ids in enumerate(rows):
        if not ids:
            raise PairBenchError(
                f"answer {row} of {len(rows)} has no token: drop answers that are empty"
            )
    rows = [[*ids, eos] if len(ids) <= length else ids[:length] for ids in rows]
    table = torch.full((len(rows), max(map(len, rows), default=0)), NOTHING)
    for row, ids in enumerate(rows):
        table[row, : len(ids)] = torch.tensor(ids)
    return table, (table != NOTHING).float()


def decode(tokenizer: Any, responses: Tensor) -> list[str]:
    """Returns the text of each response (N, T), without special tokens."""
    rows = [[token for token in row if token != NOTHING] for row in responses.tolist()]
    texts: list[str] = tokenizer.batch_decode(rows, skip_special_tokens=True)
    return texts


def token_ids(tokenizer: Any, texts: Sequence[str], **options: Any) -> list[list[int]]:
    """Returns the ids of each text, without the special tokens a tokenizer may add."""
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=False, return_attention_mask=False, **options
    )["input_ids"]
    return ids
