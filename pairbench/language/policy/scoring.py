"""Scores of given completions: log-probabilities, entropies and values of their tokens.

The head is applied to completion tokens only, and nothing is computed on padding that a longer row
of the same chunk does not need. Losses and gradients are those of a full forward pass of every row,
to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pairbench.language.policy.execution import Execution, Rows
from pairbench.language.policy.kv_cache import SharedLayer, attended, packed, prefill

What = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits (R, V), tokens (R,), hidden (R, H)) of the real tokens -> (K, R) numbers of each."""


def log_probability(logits: Tensor, tokens: Tensor, hidden: Tensor) -> Tensor:
    """Returns (1, R) log softmax(logits) at the tokens."""
    return logits.log_softmax(1).gather(1, tokens.unsqueeze(1)).t()


def entropy(logits: Tensor, tokens: Tensor, hidden: Tensor) -> Tensor:
    """Returns (1, R) entropies; a token that is impossible adds nothing."""
    logp = logits.log_softmax(1)
    return -(logp.exp() * logp.clamp_min(-1e4)).sum(1).unsqueeze(0)


def scores(
    model: Any, how: Execution, rows: Rows, what: What, trained: Sequence[Tensor] = ()
) -> Tensor:
    """Returns (K, B, T) of what `what` computes at each real token, 0 where the mask is 0.

    `trained` are the tensors that a gradient is wanted of, where rows are worked on in chunks.

    Raises:
        PairBenchError: see `Execution.check_rows`.
    """
    how.check_rows(rows)
    size, total = _group_size(rows.contexts), len(rows.mask)

    def score(part: slice) -> Tensor:
        return _chunk(model, how, Rows(*(column[part] for column in rows)), size, what)

    if how.micro_rows is None or total <= max(how.micro_rows, size):
        return score(slice(None))
    count = max(1, how.micro_rows // size) * size
    chunks = [slice(start, start + count) for start in range(0, total, count)]
    found: Tensor = _Chunked.apply(score, chunks, *trained)  # type: ignore[no-untyped-call]
    return found


def _chunk(model: Any, how: Execution, rows: Rows, size: int, what: What) -> Tensor:
    """Returns (K, B, T) for rows in groups of `size` with a common prompt."""
    contexts, responses, mask = rows
    real = mask > 0
    steps = int(real.any(0).nonzero().max()) + 1 if bool(real.any()) else 1
    short = real[:, :steps]
    answers = responses[:, :steps].clamp_min(0).to(how.device)
    with how.precision():
        if how.shared_prompt and size > 1:
            hidden = after_shared_prompts(model, contexts[::size], answers, size)
        else:
            hidden = _in_full(model, contexts, answers)
        here = short.to(how.device)
        hidden = hidden[here]
        logits = model.get_output_embeddings()(hidden).float()
    if how.min_length:
        early = torch.arange(steps).expand_as(short)[short] < how.min_length
        logits = _forbid(logits, how.ends, early.to(how.device))
    flat = what(logits, answers[here], hidden).to(mask.device)
    full = flat.new_zeros(len(flat), *mask.shape)
    whole = torch.nn.functional.pad(short, (0, mask.shape[1] - steps))
    return full.masked_scatter(whole.to(flat.device), flat)


def _in_full(model: Any, contexts: Tensor, answers: Tensor) -> Tensor:
    """Returns (B, T, H): the hidden state before each response token, every row in full.

    Rows are packed to the left, so that padding stands behind all that is real and the causal mask
    alone hides it.
    """
    device = answers.device
    prompts, lengths = packed(contexts, device)
    rows, steps = answers.shape
    places = lengths.unsqueeze(1) + torch.arange(steps - 1, device=device)
    whole = torch.nn.functional.pad(prompts, (0, steps - 1))
    whole = whole.scatter(1, places, answers[:, :-1])
    states = model.base_model(input_ids=whole, use_cache=False).last_hidden_state
    before = lengths.unsqueeze(1) - 1 + torch.arange(steps, device=device)
    taken: Tensor = states[torch.arange(rows, device=device).unsqueeze(1), before]
    return taken


def after_shared_prompts(model: Any, contexts: Tensor, answers: Tensor, size: int) -> Tensor:
    """Returns (N * G, T, H): the hidden state before each response token.

    Args:
        model: a transformers causal LM, on the device of `answers`.
        contexts: (N, P) prompts, each computed once for its group.
        answers: (N * G, T) ids without padding.
        size: G.
    """
    device = answers.device
    prompts, lengths = packed(contexts, device)
    last, cache = prefill(model, prompts, lengths)
    first = last.repeat_interleave(size, 0).unsqueeze(1)
    if answers.shape[1] == 1:
        return first
    for index, layer in enumerate(cache.layers):
        cache.layers[index] = SharedLayer(layer, size)
    states = model.base_model(
        input_ids=answers[:, :-1],
        attention_mask=attended(lengths, prompts.shape[1], answers.shape[1] - 1, size),
        position_ids=lengths.repeat_interleave(size).unsqueeze(1)
        + torch.arange(answers.shape[1] - 1, device=device),
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    return torch.cat([first, states], 1)


def _forbid(logits: Tensor, tokens: Sequence[int], where: Tensor) -> Tensor:
    """Returns logits (R, V) with `tokens` impossible in the rows `where` (R,) is True."""
    column = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
    column[list(tokens)] = True
    return logits.masked_fill(where.unsqueeze(1) & column, -math.inf)


def _group_size(contexts: Tensor) -> int:
    """Returns the largest G for which rows 0..G-1, G..2G-1, ... each have one prompt."""
    counts = torch.unique_consecutive(contexts, dim=0, return_counts=True)[1]
    return math.gcd(*counts.tolist())


class _Chunked(torch.autograd.Function):
    """(score, chunks, *parameters) -> scores of all rows; backward computes each chunk again."""

    @staticmethod
    def forward(
        ctx: Any, score: Callable[[slice], Tensor], chunks: list[slice], *trained: Tensor
    ) -> Tensor:
        ctx.score, ctx.chunks, ctx.trained = score, chunks, trained
        with torch.no_grad():
            return torch.cat([score(rows) for rows in chunks], 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        sums: list[Tensor | None] = [None] * len(ctx.trained)
        for rows in ctx.chunks:
            with torch.enable_grad():
                scores = ctx.score(rows)
            parts = torch.autograd.grad(scores, ctx.trained, gradient[:, rows], allow_unused=True)
            for index, part in enumerate(parts):
                if part is not None:
                    held = sums[index]
                    sums[index] = part if held is None else held.add_(part)
        return (None, None, *sums)
