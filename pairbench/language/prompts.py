"""Prompts of preference pairs: their names, each once, and as a language model learns from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pairbench.language.data.load import Pair, Preferences, Turn, render


def prompt_id(prompt: tuple[Turn, ...]) -> str:
    """Returns the first 16 hex digits of the SHA-256 of a prompt's plain text."""
    return hashlib.sha256(render(prompt, None).encode()).hexdigest()[:16]


def distinct(pairs: Sequence[Pair]) -> list[Pair]:
    """Returns the first pair of each prompt, ordered by nothing that says which came first."""
    first: dict[tuple[Turn, ...], Pair] = {}
    for pair in pairs:
        first.setdefault(pair.prompt, pair)
    return [first[prompt] for prompt in sorted(first)]


def sft_texts(data: Preferences) -> list[tuple[str, str]]:
    """Returns what `tiny` learns language from: each training prompt with either answer."""
    return [
        (render(pair.prompt, None), answer)
        for pair in data.split()["policy"]
        for answer in (pair.chosen, pair.rejected)
    ]
