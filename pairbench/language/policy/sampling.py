"""Sampling of completions, token by token, from one set of uniform numbers a row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pairbench.language.policy.encoding import NOTHING
from pairbench.language.policy.execution import Execution
from pairbench.language.policy.kv_cache import DecodingLayer, attended, packed, prefill
from pairbench.language.policy.scoring import log_probability

FEW_LEFT = 0.75
"""Rows that have ended are dropped from the cache, which costs a copy, once so few are left."""


def sample(
    model: Any,
    how: Execution,
    prompts: Tensor,
    group_size: int,
    length: int,
    temperature: float,
    generator: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns responses, mask and logp (N * G, T); see `LanguagePolicy.sample`."""
    how.check_prompts(prompts, length)
    draws = generator.random((len(prompts) * group_size, length))
    count = len(prompts)
    if how.micro_rows is not None:
        count = max(1, how.micro_rows // group_size)
    parts = []
    for start in range(0, len(prompts), count):
        rows = slice(start * group_size, (start + count) * group_size)
        chunk = prompts[start : start + count], group_size, temperature, draws[rows]
        with torch.no_grad(), how.precision():
            parts.append(_sample(model, how, *chunk))
    responses, logp = (torch.cat(column) for column in zip(*parts))
    return responses, (responses != NOTHING).float(), logp


def _sample(
    model: Any,
    how: Execution,
    contexts: Tensor,
    size: int,
    temperature: float,
    uniforms: np.ndarray,
) -> tuple[Tensor, Tensor]:
    """Returns responses and logp (N * G, T) of N prompts that are worked on together."""
    device, (total, length) = how.device, uniforms.shape
    responses = torch.full((total, length), NOTHING, device=device)
    logp = torch.zeros(total, length, device=device)
    draws = torch.from_numpy(uniforms).to(device)
    prompts, lengths = packed(contexts, device)
    width = prompts.shape[1]
    last, cache = prefill(model, prompts, lengths)
    for index, layer in enumerate(cache.layers):
        cache.layers[index] = DecodingLayer(layer, size, length - 1)
    rows = torch.arange(total, device=device)
    live = torch.ones(total, dtype=torch.bool, device=device)
    places = lengths.repeat_interleave(size)
    seen = attended(lengths, width, length - 1, size)
    hidden = last.repeat_interleave(size, 0)
    for step in range(length):
        logits = model.get_output_embeddings()(hidden).float()
        if step < how.min_length:
            logits[:, list(how.ends)] = -math.inf
        tokens = _draw(logits, temperature, draws[rows, step])
        each = log_probability(logits, tokens, hidden)[0]
        responses[rows[live], step], logp[rows[live], step] = tokens[live], each[live]
        live &= ~how.ended(tokens)
        count = int(live.sum())
        if count == 0:
            break
        if count <= FEW_LEFT * len(rows):
            rows, tokens, places = rows[live], tokens[live], places[live]
            seen = seen if seen is None else seen[live]
            cache.batch_select_indices(live.nonzero().squeeze(1))
            live = live[live]
        if step + 1 == length:
            break
        hidden = model.base_model(
            input_ids=tokens.unsqueeze(1),
            attention_mask=None if seen is None else seen[:, : width + step + 1],
            position_ids=(places + step).unsqueeze(1),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
    return responses.cpu(), logp.cpu()


def _draw(logits: Tensor, temperature: float, uniforms: Tensor) -> Tensor:
    """Returns (R,) tokens: the first whose cumulative probability exceeds the uniform number."""
    if temperature == 0:
        return logits.argmax(1)
    cumulative = (logits / temperature).softmax(1).cumsum(1, dtype=torch.float64)
    # never at the very end, where tokens of probability 0 lie
    target = uniforms.clamp_max(1 - 1e-12) * cumulative[:, -1]
    return torch.searchsorted(cumulative, target.unsqueeze(1), right=True).squeeze(1)
