"""How a language model is run, and what it cannot be asked."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pairbench.errors import PairBenchError


class Rows(NamedTuple):
    """Completions: prompts (B, P) left padded with -1; ids (B, T) right padded; mask (B, T)."""

    contexts: Tensor
    responses: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Execution:
    """How a causal language model scores and samples; see `LanguagePolicy`.

    `ends` are the ids that end a response, and `context` is the most tokens of a prompt and its
    response together.
    """

    ends: tuple[int, ...]
    context: int
    min_length: int
    device: torch.device
    bf16: bool
    micro_rows: int | None
    shared_prompt: bool

    def ended(self, tokens: Tensor) -> Tensor:
        """Returns where tokens end a response, of any shape."""
        return torch.isin(tokens, torch.tensor(self.ends, device=tokens.device))

    def precision(self) -> AbstractContextManager[Any]:
        """Returns the context in which the model computes."""
        if self.bf16:
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def check_prompts(self, contexts: Tensor, steps: int) -> None:
        """Checks prompts (N, P) that are followed by at most `steps` tokens.

        Raises:
            PairBenchError: they do not fit, one is empty, or they are not padded on the left.
        """
        prompt = int((contexts >= 0).sum(1).max())
        if prompt + steps > self.context:
            raise PairBenchError(
                f"a prompt of {prompt} tokens and a response of {steps} do not fit into the "
                f"model's context of {self.context}: cut the prompts or the responses shorter"
            )
        if not bool((contexts[:, -1] >= 0).all()):
            row = int((contexts[:, -1] < 0).nonzero()[0])
            raise PairBenchError(
                f"prompt {row} of the batch is empty or not padded on the left: "
                "prompts are ids of at least one token, with -1 before them"
            )

    def check_rows(self, rows: Rows) -> None:
        """Checks completions with their prompts.

        Raises:
            PairBenchError: see `check_prompts`; or a response ends where it must not.
        """
        lengths = (rows.mask > 0).sum(1)
        self.check_prompts(rows.contexts, int(lengths.max()))
        if self.min_length:
            first = slice(None), slice(self.min_length)
            early = self.ended(rows.responses[first]) & (rows.mask[first] > 0)
            if bool(early.any()):
                row = int(early.any(1).nonzero()[0])
                raise PairBenchError(
                    f"response {row} of the batch ends within its first {self.min_length} tokens, "
                    "which this policy forbids: cut or drop such responses, or lower min_length"
                )


def context_window(model: Any) -> int:
    """Returns the most tokens a transformers model takes, prompt and response together."""
    config = model.config.get_text_config(decoder=True)
    for name in ("max_position_embeddings", "n_positions", "n_ctx"):
        if isinstance(size := getattr(config, name, None), int):
            return size
    return 2**31 - 1
