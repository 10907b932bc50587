"""Keys and values of prompts, computed once and shared by the rows of a group.

Most of the work on a group of G completions is the same prompt G times. Here it is done once: the
prompt's keys and values are computed once a group and expanded to its rows. The expansion is part
of the graph, so their gradient is summed over the group before it goes back through the prompt.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


def packed(contexts: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns left-padded prompts (N, P) as right-padded ids as short as they go, and lengths."""
    lengths = (contexts >= 0).sum(1)
    width, longest = contexts.shape[1], int(lengths.max())
    places = torch.arange(longest) + (width - lengths).unsqueeze(1)
    ids = contexts.gather(1, places.clamp_max(width - 1)).clamp_min(0)
    return ids.to(device), lengths.to(device)


def prefill(model: Any, prompts: Tensor, lengths: Tensor) -> tuple[Tensor, Any]:
    """Returns the last hidden state (N, H) of right-padded prompts (N, P), and their cache."""
    cache = DynamicCache()
    states = model.base_model(
        input_ids=prompts, past_key_values=cache, use_cache=True
    ).last_hidden_state
    last: Tensor = states[torch.arange(len(prompts), device=prompts.device), lengths - 1]
    return last, cache


def attended(lengths: Tensor, width: int, steps: int, size: int) -> Tensor | None:
    """Returns (N * G, P + T) whether a position is real, or None where all are.

    Prompts shorter than the longest leave a gap between themselves and the response.
    """
    if bool((lengths == width).all()):
        return None
    prompt = torch.arange(width, device=lengths.device) < lengths.unsqueeze(1)
    return torch.nn.functional.pad(prompt, (0, steps), value=True).repeat_interleave(size, 0)


class SharedLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of N prompts, to which the rows of their groups add their own, once."""

    def __init__(self, prompt: Any, size: int) -> None:
        super().__init__()
        self.keys, self.values = prompt.keys, prompt.values
        self.is_initialized = True
        self._size = size

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Returns (N * G, heads, P + T, D): one copy, whose gradient is summed over the group."""
        assert self.keys is not None and self.values is not None
        return self._join(self.keys, key_states), self._join(self.values, value_states)

    def _join(self, prompt: Tensor, own: Tensor) -> Tensor:
        shared = prompt.unsqueeze(1).expand(-1, self._size, -1, -1, -1)
        grouped = own.view(-1, self._size, *own.shape[1:])
        return torch.cat([shared, grouped], -2).flatten(0, 1)


class DecodingLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of N * G rows with room for all their tokens, written in place."""

    def __init__(self, prompt: Any, size: int, room: int) -> None:
        super().__init__()
        self._seen = prompt.keys.shape[-2]
        self.keys, self.values = (
            torch.nn.functional.pad(states, (0, 0, 0, room)).repeat_interleave(size, 0)
            for states in (prompt.keys, prompt.values)
        )
        self.is_initialized = True

    def get_seq_length(self) -> int:
        """Returns how many positions are filled."""
        return int(self._seen)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Writes the new states behind the old; returns views of all."""
        assert self.keys is not None and self.values is not None
        count = key_states.shape[-2]
        self.keys[:, :, self._seen : self._seen + count] = key_states
        self.values[:, :, self._seen : self._seen + count] = value_states
        self._seen += count
        return self.keys[:, :, : self._seen], self.values[:, :, : self._seen]
