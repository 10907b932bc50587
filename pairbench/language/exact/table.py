"""A policy that is a table of all probabilities: the reference, the optimum, best of n."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pairbench.batch import Batch
from pairbench.language.exact.llama import output
from pairbench.language.exact.space import Space
from pairbench.policy import ParameterGroup, PolicyOutput


class Table:
    """Log-probabilities (X, K) of all responses to all contexts; nothing of it is trained.

    It reads and gives what `SmallLlama` does.
    """

    stepwise = False

    def __init__(self, space: Space, log: Tensor) -> None:
        self.space, self.log = space, log

    @cached_property
    def _steps(self) -> list[Tensor]:
        """Of each step t, (X, V^t, V) float32 log-probabilities of its symbol after each prefix."""
        places, symbols = len(self.log), self.space.symbols
        steps, whole = [], self.log
        while whole.shape[1] > 1:
            nodes = whole.view(places, -1, symbols)
            whole = nodes.logsumexp(2)
            steps.append((nodes - whole.unsqueeze(2)).float())
        return steps[::-1]

    def dist(self, contexts: Tensor, responses: Tensor) -> Tensor:
        """Returns (B, T, V) log-probabilities of each step, for context numbers (B,)."""
        prefix, found = torch.zeros_like(contexts), []
        for step, symbol in zip(self._steps, responses.unbind(1)):
            found.append(step[contexts, prefix])
            prefix = prefix * self.space.symbols + symbol
        return torch.stack(found, 1)

    def __call__(self, batch: Batch) -> PolicyOutput:
        return output(self.dist(batch.contexts[:, 0], batch.responses), batch)

    @cached_property
    def _cumulative(self) -> Tensor:
        """(X K,) cumulative probabilities, each context's from its own number to the next."""
        upper = self.log.exp().cumsum(1)
        return (upper / upper[:, -1:] + torch.arange(len(upper)).unsqueeze(1)).view(-1)

    def sample(self, contexts: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draws a response for each context number (B,), as `SmallLlama.sample` does."""
        draws = torch.from_numpy(generator.random(len(contexts))).clamp_max(1 - 1e-12)
        numbers = torch.searchsorted(self._cumulative, contexts + draws, right=True)
        responses = self.space.responses[numbers % self.log.shape[1]]
        return responses, self.dist(contexts, responses)

    def enumerate(self) -> Tensor:
        """Returns the table."""
        return self.log

    def parameters(self) -> list[ParameterGroup]:
        return []

    def state(self) -> dict[str, Tensor]:
        return {"log": self.log}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.log.copy_(state["log"])
