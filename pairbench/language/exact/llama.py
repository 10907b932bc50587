"""A small Llama for responses of a fixed length over a few symbols: scored, drawn and enumerated.

The arithmetic is that of transformers' LlamaForCausalLM with tied embeddings (RMS norms, rotary
positions, SwiGLU), without what a large model needs: there is no padding, no mask to build and no
cache to grow, and all weights are one flat tensor, so that an optimiser's step is one kernel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pairbench.batch import Batch
from pairbench.language.exact.space import Space
from pairbench.policy import ParameterGroup, PolicyOutput

Cache = list[tuple[Tensor, Tensor]]
"""Keys and values (N, heads, L, width / heads) of each layer."""

CHUNK = 8
"""Contexts whose trees are enumerated together: more need much memory and save no time."""


@dataclass(frozen=True)
class Shape:
    """Sizes of the network."""

    width: int = 64
    heads: int = 4
    layers: int = 2
    hidden: int = 128

    def weights(self, symbols: int) -> dict[str, tuple[int, ...]]:
        """Returns the shape of each weight by name, in their order in the flat tensor."""
        width = self.width
        sizes: dict[str, tuple[int, ...]] = {"embedding": (symbols, width)}
        for layer in range(self.layers):
            sizes |= {
                f"{layer}.norm": (width,),
                f"{layer}.qkv": (3 * width, width),
                f"{layer}.out": (width, width),
                f"{layer}.norm_mlp": (width,),
                f"{layer}.gate_up": (2 * self.hidden, width),
                f"{layer}.down": (width, self.hidden),
            }
        return sizes | {"norm": (width,)}

    def initial(self, symbols: int, generator: np.random.Generator) -> Tensor:
        """Returns flat weights: norms at 1, matrices normal with standard deviation .02.

        Those that write to the residual stream are divided by sqrt(2 layers), as in GPT-2.
        """
        parts = []
        for name, size in self.weights(symbols).items():
            scale = 0.02 / (math.sqrt(2 * self.layers) if name.endswith(("out", "down")) else 1)
            drawn = generator.normal(0.0, scale, size) if len(size) > 1 else np.ones(size)
            parts.append(torch.from_numpy(drawn).float().reshape(-1))
        return torch.cat(parts)


class SmallLlama:
    """The policy: `Batch.contexts` (B, 1) context numbers, `Batch.responses` (B, T) symbols.

    `old_dist` and `ref_dist` are (B, T, V) log-probabilities, from which divergences are exact. A
    critic is a linear head on the last hidden state, whose gradient stays in the head.

    Attributes:
        space: what can be asked and answered.
        flat: all weights.
    """

    stepwise = False

    def __init__(
        self, space: Space, flat: Tensor, critic: bool = False, shape: Shape | None = None
    ) -> None:
        self.space, self.shape = space, shape or Shape()
        self.flat = flat.clone().requires_grad_()
        self._sizes = self.shape.weights(space.symbols)
        self._counts = [math.prod(size) for size in self._sizes.values()]
        self._value = torch.zeros(self.shape.width + 1, requires_grad=True) if critic else None
        places = torch.arange(space.prompts.shape[1] + space.length)
        half = self.shape.width // self.shape.heads // 2
        angles = places.unsqueeze(1) * 10_000.0 ** (-torch.arange(half) / half)
        self._turn = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)

    def named(self) -> dict[str, Tensor]:
        """Returns the weights by name, views of the flat tensor."""
        parts = torch.split(self.flat, self._counts)
        return {name: part.view(size) for part, (name, size) in zip(parts, self._sizes.items())}

    # the network

    def _forward(
        self,
        w: Mapping[str, Tensor],
        tokens: Tensor,
        places: Tensor | slice,
        past: Cache | None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Cache]:
        """Returns the last hidden states (N, S, width), and keys and values with the past's.

        Args:
            w: `named()`.
            tokens: (N, S).
            places: positions of the S tokens.
            past: of the tokens before; with none, the mask is causal.
            mask: (S, L + S) where a token may look; with a past, everywhere if not given.
        """
        x = F.embedding(tokens, w["embedding"])
        rows, steps, width = x.shape
        cos, sin = self._turn[0][places], self._turn[1][places]
        half = width // self.shape.heads // 2
        cache = []
        for layer in range(self.shape.layers):
            normed = F.rms_norm(x, (width,), w[f"{layer}.norm"], 1e-6)
            qkv = F.linear(normed, w[f"{layer}.qkv"]).view(rows, steps, 3 * self.shape.heads, -1)
            qk, value = torch.split(
                qkv.transpose(1, 2), [2 * self.shape.heads, self.shape.heads], 1
            )
            turned = torch.cat([-qk[..., half:], qk[..., :half]], -1)
            query, key = (qk * cos + turned * sin).chunk(2, 1)
            if past is not None:
                key = torch.cat([past[layer][0], key], 2)
                value = torch.cat([past[layer][1], value], 2)
            cache.append((key, value))
            seen = F.scaled_dot_product_attention(query, key, value, mask, is_causal=past is None)
            x = x + F.linear(seen.transpose(1, 2).reshape(rows, steps, width), w[f"{layer}.out"])
            normed = F.rms_norm(x, (width,), w[f"{layer}.norm_mlp"], 1e-6)
            gate, up = F.linear(normed, w[f"{layer}.gate_up"]).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, w[f"{layer}.down"])
        return F.rms_norm(x, (width,), w["norm"], 1e-6), cache

    def _logits(self, w: Mapping[str, Tensor], hidden: Tensor) -> Tensor:
        return F.linear(hidden, w["embedding"])

    def _states(self, w: Mapping[str, Tensor], contexts: Tensor, responses: Tensor) -> Tensor:
        """Returns (B, T, width): the hidden state before each symbol of the responses."""
        tokens = torch.cat([self.space.prompts[contexts], responses[:, :-1]], 1)
        hidden, _ = self._forward(w, tokens, slice(0, tokens.shape[1]), None)
        return hidden[:, -responses.shape[1] :]

    # the protocol of a policy

    def __call__(self, batch: Batch) -> PolicyOutput:
        w = self.named()
        hidden = self._states(w, batch.contexts[:, 0], batch.responses)
        log = self._logits(w, hidden).log_softmax(-1)
        value = None
        if self._value is not None:
            value = hidden.detach() @ self._value[:-1] + self._value[-1]
        return output(log, batch, value)

    def dist(self, contexts: Tensor, responses: Tensor) -> Tensor:
        """Returns (B, T, V) log-probabilities of each step, for context numbers (B,)."""
        w = self.named()
        return self._logits(w, self._states(w, contexts, responses)).log_softmax(-1)

    def parameters(self) -> list[ParameterGroup]:
        groups = [ParameterGroup("policy", [self.flat])]
        return groups if self._value is None else [*groups, ParameterGroup("critic", [self._value])]

    def state(self) -> dict[str, Tensor]:
        state = {name: tensor.detach() for name, tensor in self.named().items()}
        return state if self._value is None else {**state, "value_head": self._value.detach()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            for name, tensor in self.named().items():
                tensor.copy_(state[name])
            if self._value is not None:
                self._value.copy_(state["value_head"])

    # draws and enumeration

    @torch.no_grad()
    def sample(self, contexts: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draws a response for each context number (B,), by inversion of uniform numbers.

        Returns:
            responses (B, T), and (B, T, V) log-probabilities of what each symbol was drawn from.
        """
        w, space = self.named(), self.space
        draws = torch.from_numpy(generator.random((len(contexts), space.length)))
        places, inverse = torch.unique(contexts, return_inverse=True)
        start = space.prompts.shape[1]
        hidden, cache = self._forward(w, space.prompts[places], slice(0, start), None)
        last = hidden[inverse, -1]
        cache = [(key[inverse], value[inverse]) for key, value in cache]
        responses, dists = [], []
        for step in range(space.length):
            log = self._logits(w, last).log_softmax(-1)
            symbols = invert(log, draws[:, step])
            responses.append(symbols)
            dists.append(log)
            if step + 1 < space.length:
                place = slice(start + step, start + step + 1)
                hidden, cache = self._forward(w, symbols.unsqueeze(1), place, cache)
                last = hidden[:, -1]
        return torch.stack(responses, 1), torch.stack(dists, 1)

    @torch.no_grad()
    def enumerate(self) -> Tensor:
        """Returns (X, K) float64 log-probabilities of all responses to all contexts.

        Prefixes form a tree. Siblings are computed as tokens of one row that see their ancestors
        and themselves, so that only those who have children of their own copy the cache.
        """
        return torch.cat([self._tree(part) for part in torch.split(self.space.prompts, CHUNK)])

    def _tree(self, prompts: Tensor) -> Tensor:
        w, space = self.named(), self.space
        start, symbols = prompts.shape[1], space.symbols
        hidden, cache = self._forward(w, prompts, slice(0, start), None)
        hidden = hidden[:, -1]
        total = torch.zeros(len(prompts), 1, dtype=torch.float64)
        every = torch.arange(symbols)
        for step in range(space.length):
            log = self._logits(w, hidden).double().log_softmax(-1)
            total = (total.reshape(-1, 1) + log).view(len(prompts), -1)
            if step + 1 == space.length:
                break
            siblings = every.expand(len(hidden), symbols)
            seen = start + step
            mask = torch.cat([torch.ones(symbols, seen), torch.eye(symbols)], 1).bool()
            place = torch.full((symbols,), seen)
            hidden, longer = self._forward(w, siblings, place, cache, mask)
            hidden = hidden.reshape(-1, self.shape.width)
            if step + 2 < space.length:
                cache = [(_grown(k, seen), _grown(v, seen)) for k, v in longer]
        return total


def _grown(held: Tensor, seen: int) -> Tensor:
    """Returns (N V, heads, seen + 1, d): a past for each sibling, from (N, heads, seen + V, d)."""
    symbols = held.shape[2] - seen
    past = held[:, :, :seen].repeat_interleave(symbols, 0)
    own = held[:, :, seen:].transpose(1, 2).flatten(0, 1).unsqueeze(2)
    return torch.cat([past, own], 2)


def output(log: Tensor, batch: Batch, value: Tensor | None = None) -> PolicyOutput:
    """Returns a policy's view of a batch from (B, T, V) log-probabilities of each step."""
    old, reference = batch.old_dist, batch.ref_dist
    return PolicyOutput(
        chosen(log, batch.responses),
        value,
        entropy=lambda: -(log.exp() * log).sum(-1),
        kl_old=None if old is None else partial(_divergence, log, old),
        kl_ref=None if reference is None else partial(_divergence, log, reference),
    )


def chosen(dist: Tensor, responses: Tensor) -> Tensor:
    """Returns (B, T): the entries of (B, T, V) at the symbols of responses (B, T)."""
    return dist.gather(-1, responses.unsqueeze(-1)).squeeze(-1)


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def invert(log: Tensor, draws: Tensor) -> Tensor:
    """Returns (B,): the first of K whose cumulative probability exceeds the uniform draw."""
    cumulative = log.double().exp().cumsum(-1)
    target = draws.clamp_max(1 - 1e-12).unsqueeze(1) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True).squeeze(1)
