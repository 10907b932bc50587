"""What can be asked and answered: a few contexts, and every response of a fixed length."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from torch import Tensor

from pairbench.seeding import generator

CONTEXT = 3
"""Symbols of a context."""


@dataclass(frozen=True)
class Space:
    """X contexts of three symbols, and K = V^T responses of T of the V symbols.

    Response number n is the one whose symbols are the digits of n in base V, the first the largest.
    """

    symbols: int = 4
    length: int = 6
    contexts: int = 64

    @cached_property
    def prompts(self) -> Tensor:
        """(X, 3) int64: all triples of symbols, or as many of them, drawn once for all."""
        every = torch.tensor(list(product(range(self.symbols), repeat=CONTEXT)))
        if len(every) == self.contexts:
            return every
        return every[
            sorted(generator(0, "exact/contexts").permutation(len(every))[: self.contexts])
        ]

    @cached_property
    def responses(self) -> Tensor:
        """(K, T) int64: every response, by number."""
        return torch.arange(self.symbols**self.length).unsqueeze(1) // self.powers % self.symbols

    @cached_property
    def powers(self) -> Tensor:
        """(T,) the weight of each place in a response's number."""
        return self.symbols ** torch.arange(self.length - 1, -1, -1)

    def numbers(self, responses: Tensor) -> Tensor:
        """Returns (B,) numbers of responses (B, T)."""
        return (responses * self.powers).sum(1)
