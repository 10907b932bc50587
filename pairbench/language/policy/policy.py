"""A causal language model as a policy: prompts are contexts, completions are responses.

Most of the work on a group of G completions is the same prompt G times. Here it is done once: the
prompt's keys and values are computed once a group, expanded to its rows, and, because the expansion
is part of the graph, their gradient is summed over the group before it goes back through the
prompt. The head is applied to completion tokens only, and nothing is computed on padding that a
longer row of the same chunk does not need. Losses and gradients are those of a full forward pass of
every row, to rounding.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from pairbench import seeding
from pairbench.batch import Batch
from pairbench.errors import PairBenchError
from pairbench.policy import ParameterGroup, PolicyOutput

NOTHING = -1
"""The id of padding, in contexts and responses: no model needs a token for it."""

COMPACT = 0.75
"""Rows that have ended are dropped from the cache, which costs a copy, once so few are left."""


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (arXiv 2106.09685) on every linear layer but the head.

    Attributes:
        rank: r.
        alpha: the update is scaled by alpha / r.
    """

    rank: int = 16
    alpha: int = 32


class LanguagePolicy:
    """A causal language model that scores and samples completions of prompts.

    `Batch.contexts` are (B, P) int64 prompt ids, left padded with -1; `Batch.responses` (B, T) ids,
    right padded with -1; `Batch.mask` 1.0 on real tokens, the end of sequence included. Batches
    stay where they are (on the CPU); the model may be elsewhere. The model is always in evaluation
    mode: it has no dropout, so calls repeat bit for bit at one thread count.

    Attributes:
        model: the transformers model that is trained (with adapters, its layers hold them).
        eos: id of the end of sequence.
        min_length: completions have no end of sequence among their first `min_length` tokens: it
            has probability 0 there, in sampling and scoring alike. At least the length sampled
            means completions of fixed length, so that length cannot be played on.
    """

    stepwise = False
    density = False

    def __init__(
        self,
        model: Any,
        eos: int,
        *,
        seed: int = 0,
        critic: bool = False,
        reference: bool = True,
        lora: Lora | None = None,
        bf16: bool = False,
        micro_rows: int | None = None,
        min_length: int = 0,
        shared_prompt: bool = True,
        device: str = "cpu",
    ) -> None:
        """Takes `model` over: it is trained in place.

        Args:
            model: a transformers causal LM whose cache is keys and values.
            eos: id of the end of sequence.
            seed: of the adapters' initial weights; nothing else is random.
            critic: add a linear value head on the last hidden state, zero at first. Its gradient
                stays in the head: the value loss moves no weight of the policy.
            reference: keep the initial weights for `reference_logp`: as a copy, or, with adapters,
                by disabling them.
            lora: train adapters only, or None to train every weight.
            bf16: compute in bfloat16 (weights that are trained stay float32).
            micro_rows: work on at most so many rows at a time (at least a whole group), or None.
                The gradient is the same: the backward pass computes each chunk again.
            min_length: see above.
            shared_prompt: compute a group's prompt once; False runs every row in full.
            device: where the model works, for example "cuda".

        Raises:
            PairBenchError: the model cannot be used this way.
        """
        if lora is not None and bf16:
            model.to(torch.bfloat16)
        model.to(device).eval()
        self.eos, self.min_length = eos, min_length
        self._device, self._bf16 = torch.device(device), bf16
        self._micro_rows, self._shared = micro_rows, shared_prompt
        self._context = context_window(model)
        self._adapters: Any = None
        self._reference: Any = None
        if lora is not None:
            self._adapters = _with_adapters(model, lora, seed)
        elif reference:
            self._reference = copy.deepcopy(model).requires_grad_(False)
        self._has_reference = reference
        self.model = model if lora is None else self._adapters.get_base_model()
        self._trained = {
            name: parameter
            for name, parameter in self.model.named_parameters()
            if lora is None or parameter.requires_grad
        }
        for parameter in self._trained.values():
            parameter.requires_grad_(True)
        self._value: Tensor | None = None
        if critic:
            width = self.model.get_input_embeddings().embedding_dim
            self._value = torch.zeros(width + 1, device=device, requires_grad=True)
        self._check()

    # the protocol of a policy

    def __call__(self, batch: Batch) -> PolicyOutput:
        rows = batch.contexts, batch.responses, batch.mask
        if not torch.is_grad_enabled():  # a measurement, which wants the entropy too
            *scores, entropies = self._scores(self.model, *rows, self._measured)
            return PolicyOutput(*scores, entropy=entropies)
        scores = [*self._scores(self.model, *rows, self._outputs)]

        def entropy() -> Tensor:
            return self._scores(self.model, *rows, _entropy)[0]

        return PolicyOutput(*scores, entropy=entropy)

    def parameters(self) -> list[ParameterGroup]:
        groups = [ParameterGroup("policy", list(self._trained.values()))]
        if self._value is not None:
            groups.append(ParameterGroup("critic", [self._value]))
        return groups

    def state(self) -> dict[str, Tensor]:
        state = {name: tensor.detach().cpu() for name, tensor in self._trained.items()}
        if self._value is not None:
            state["value_head"] = self._value.detach().cpu()
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            for name, tensor in self._trained.items():
                tensor.copy_(state[name])
            if self._value is not None:
                self._value.copy_(state["value_head"])

    # scoring

    def logp(self, contexts: Tensor, responses: Tensor, mask: Tensor) -> Tensor:
        """Returns (B, T) log-probabilities of the response tokens, nats, without a graph.

        0 where the mask is 0. At temperature 1, whatever temperature sampled them.
        """
        with torch.no_grad():
            return self._scores(self.model, contexts, responses, mask, _log_probability)[0]

    def reference_logp(self, contexts: Tensor, responses: Tensor, mask: Tensor) -> Tensor:
        """Returns what `logp` returned before any training, (B, T)."""
        if not self._has_reference:
            raise TypeError("this policy was made without its reference")
        frozen = self.model if self._adapters is not None else self._reference
        without: AbstractContextManager[Any] = contextlib.nullcontext()
        if self._adapters is not None:
            without = self._adapters.disable_adapter()
        with torch.no_grad(), without:
            return self._scores(frozen, contexts, responses, mask, _log_probability)[0]

    def _outputs(self, logits: Tensor, tokens: Tensor, hidden: Tensor) -> Tensor:
        """Returns (1 or 2, R): log-probabilities, and values where there is a critic."""
        logp = _log_probability(logits, tokens, hidden)
        if self._value is None:
            return logp
        value = hidden.detach().float() @ self._value[:-1] + self._value[-1]
        return torch.cat([logp, value.unsqueeze(0)])

    def _measured(self, logits: Tensor, tokens: Tensor, hidden: Tensor) -> Tensor:
        """Returns what `_outputs` does, and entropies last."""
        return torch.cat([self._outputs(logits, tokens, hidden), _entropy(logits, tokens, hidden)])

    def _scores(
        self, model: Any, contexts: Tensor, responses: Tensor, mask: Tensor, what: What
    ) -> Tensor:
        """Returns (K, B, T) of what `what` computes at each real token, in chunks if so told."""
        self._check_rows(contexts, responses, mask)
        size = _group_size(contexts)
        if self._micro_rows is None or len(mask) <= max(self._micro_rows, size):
            return self._chunk(model, contexts, responses, mask, size, what)
        count = max(1, self._micro_rows // size) * size
        chunks = [slice(start, start + count) for start in range(0, len(mask), count)]

        def score(rows: slice) -> Tensor:
            return self._chunk(model, contexts[rows], responses[rows], mask[rows], size, what)

        trained = [tensor for group in self.parameters() for tensor in group.tensors]
        scores: Tensor = _Chunked.apply(score, chunks, *trained)  # type: ignore[no-untyped-call]
        return scores

    def _chunk(
        self, model: Any, contexts: Tensor, responses: Tensor, mask: Tensor, size: int, what: What
    ) -> Tensor:
        """Returns (K, B, T) for rows in groups of `size` with a common prompt."""
        real = mask > 0
        steps = int(real.any(0).nonzero().max()) + 1 if bool(real.any()) else 1
        short = real[:, :steps]
        tokens = responses[:, :steps]
        answers = tokens.clamp_min(0).to(self._device)
        with self._precision():
            if self._shared and size > 1:
                hidden = self._after_shared_prompts(model, contexts[::size], answers, size)
            else:
                hidden = self._in_full(model, contexts, answers)
            here = short.to(self._device)
            hidden = hidden[here]
            logits = model.get_output_embeddings()(hidden).float()
        if self.min_length:
            early = torch.arange(steps).expand_as(short)[short] < self.min_length
            logits = _forbid(logits, self.eos, early.to(self._device))
        flat = what(logits, answers[here], hidden).to(mask.device)
        full = flat.new_zeros(len(flat), *mask.shape)
        whole = torch.nn.functional.pad(short, (0, mask.shape[1] - steps))
        return full.masked_scatter(whole.to(flat.device), flat)

    def _in_full(self, model: Any, contexts: Tensor, answers: Tensor) -> Tensor:
        """Returns (B, T, H): the hidden state before each response token, every row in full.

        Rows are packed to the left, so that padding stands behind all that is real and the causal
        mask alone hides it.
        """
        prompts, lengths = _packed(contexts, self._device)
        rows, steps = answers.shape
        places = lengths.unsqueeze(1) + torch.arange(steps - 1, device=self._device)
        whole = torch.nn.functional.pad(prompts, (0, steps - 1))
        whole = whole.scatter(1, places, answers[:, :-1])
        states = model.base_model(input_ids=whole, use_cache=False).last_hidden_state
        before = lengths.unsqueeze(1) - 1 + torch.arange(steps, device=self._device)
        taken: Tensor = states[torch.arange(rows, device=self._device).unsqueeze(1), before]
        return taken

    def _after_shared_prompts(
        self, model: Any, contexts: Tensor, answers: Tensor, size: int
    ) -> Tensor:
        """Returns (B, T, H) likewise, each of the (N, P) prompts computed once for its group."""
        prompts, lengths = _packed(contexts, self._device)
        last, cache = _prefill(model, prompts, lengths)
        first = last.repeat_interleave(size, 0).unsqueeze(1)
        if answers.shape[1] == 1:
            return first
        for index, layer in enumerate(cache.layers):
            cache.layers[index] = _SharedLayer(layer, size)
        states = model.base_model(
            input_ids=answers[:, :-1],
            attention_mask=_attended(lengths, prompts.shape[1], answers.shape[1] - 1, size),
            position_ids=lengths.repeat_interleave(size).unsqueeze(1)
            + torch.arange(answers.shape[1] - 1, device=self._device),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return torch.cat([first, states], 1)

    # sampling

    def sample(
        self,
        prompts: Tensor,
        group_size: int,
        length: int,
        temperature: float,
        generator: np.random.Generator,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draws `group_size` completions of at most `length` tokens for each prompt.

        Every row has its own uniform numbers, drawn before anything else, and inverts the
        cumulative probability with them: a row's completion does not depend on what it is
        computed with (but for rounding).

        Args:
            prompts: (N, P) int64 ids, left padded with -1.
            group_size: G.
            length: T.
            temperature: logits are divided by it; 0 takes the likeliest token.
            generator: (N * G, T) uniform numbers are drawn from it.

        Returns:
            responses (N * G, T) right padded with -1, mask (N * G, T), and logp (N * G, T): their
            log-probabilities at temperature 1, which are what `logp` returns and training uses.
        """
        self._check_length(prompts, length)
        draws = generator.random((len(prompts) * group_size, length))
        count = len(prompts)
        if self._micro_rows is not None:
            count = max(1, self._micro_rows // group_size)
        parts = []
        for start in range(0, len(prompts), count):
            rows = slice(start * group_size, (start + count) * group_size)
            chunk = prompts[start : start + count], group_size, temperature, draws[rows]
            with torch.no_grad(), self._precision():
                parts.append(self._sample(*chunk))
        responses, logp = (torch.cat(column) for column in zip(*parts))
        return responses, (responses != NOTHING).float(), logp

    def _sample(
        self, contexts: Tensor, size: int, temperature: float, uniforms: np.ndarray
    ) -> tuple[Tensor, Tensor]:
        device, (total, length) = self._device, uniforms.shape
        responses = torch.full((total, length), NOTHING, device=device)
        logp = torch.zeros(total, length, device=device)
        draws = torch.from_numpy(uniforms).to(device)
        prompts, lengths = _packed(contexts, device)
        width = prompts.shape[1]
        last, cache = _prefill(self.model, prompts, lengths)
        for index, layer in enumerate(cache.layers):
            cache.layers[index] = _DecodingLayer(layer, size, length - 1)
        rows = torch.arange(total, device=device)
        live = torch.ones(total, dtype=torch.bool, device=device)
        places = lengths.repeat_interleave(size)
        attended = _attended(lengths, width, length - 1, size)
        hidden = last.repeat_interleave(size, 0)
        for step in range(length):
            logits = self.model.get_output_embeddings()(hidden).float()
            if step < self.min_length:
                logits[:, self.eos] = -math.inf
            tokens = _draw(logits, temperature, draws[rows, step])
            each = _log_probability(logits, tokens, hidden)[0]
            responses[rows[live], step], logp[rows[live], step] = tokens[live], each[live]
            live &= tokens != self.eos
            count = int(live.sum())
            if count == 0:
                break
            if count <= COMPACT * len(rows):
                rows, tokens, places = rows[live], tokens[live], places[live]
                attended = attended if attended is None else attended[live]
                cache.batch_select_indices(live.nonzero().squeeze(1))
                live = live[live]
            if step + 1 == length:
                break
            hidden = self.model.base_model(
                input_ids=tokens.unsqueeze(1),
                attention_mask=None if attended is None else attended[:, : width + step + 1],
                position_ids=(places + step).unsqueeze(1),
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
        return responses.cpu(), logp.cpu()

    # what can be wrong

    def _precision(self) -> AbstractContextManager[Any]:
        if self._bf16:
            return torch.autocast(self._device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def _check_length(self, contexts: Tensor, steps: int) -> None:
        prompt = int((contexts >= 0).sum(1).max())
        if prompt + steps > self._context:
            raise PairBenchError(
                f"a prompt of {prompt} tokens and a response of {steps} do not fit into the "
                f"model's context of {self._context}: cut the prompts or the responses shorter"
            )
        if not bool((contexts[:, -1] >= 0).all()):
            row = int((contexts[:, -1] < 0).nonzero()[0])
            raise PairBenchError(
                f"prompt {row} of the batch is empty or not padded on the left: "
                "prompts are ids of at least one token, with -1 before them"
            )

    def _check_rows(self, contexts: Tensor, responses: Tensor, mask: Tensor) -> None:
        lengths = (mask > 0).sum(1)
        self._check_length(contexts, int(lengths.max()))
        if self.min_length:
            early = (responses[:, : self.min_length] == self.eos) & (mask[:, : self.min_length] > 0)
            if bool(early.any()):
                row = int(early.any(1).nonzero()[0])
                raise PairBenchError(
                    f"response {row} of the batch ends within its first {self.min_length} tokens, "
                    "which this policy forbids: cut or drop such responses, or lower min_length"
                )

    def _check(self) -> None:
        """Compares a small batch with the model's own logits, so that no model is misread."""
        ids = torch.arange(1, 7).remainder(self.model.get_input_embeddings().num_embeddings)
        contexts = ids[:4].repeat(2, 1)
        answers = ids[4:].repeat(2, 1).to(self._device)
        try:
            with torch.no_grad(), self._precision():
                whole = ids.unsqueeze(0).to(self._device)
                right = self.model(input_ids=whole, use_cache=False).logits[0, 3:5].float()
                hidden = self._after_shared_prompts(self.model, contexts[::2], answers, 2)
                got = self.model.get_output_embeddings()(hidden).float()
        except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
            raise PairBenchError(
                f"{type(self.model).__name__} cannot be a policy here, which needs a decoder with "
                f"a cache of keys and values and an output layer ({error}): choose another model"
            ) from error
        if not torch.allclose(got[0], right, atol=0.5 if self._bf16 else 1e-2, rtol=1e-2):
            raise PairBenchError(
                f"{type(self.model).__name__} does not compute its logits as its output layer "
                "applied to its decoder's last state, with a cache of keys and values: choose "
                "another model"
            )


def context_window(model: Any) -> int:
    """Returns the most tokens a transformers model takes, prompt and response together."""
    config = model.config.get_text_config(decoder=True)
    for name in ("max_position_embeddings", "n_positions", "n_ctx"):
        if isinstance(size := getattr(config, name, None), int):
            return size
    return 2**31 - 1


What = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits (R, V), tokens (R,), hidden (R, H)) of the real tokens -> (K, R) numbers of each."""


def _log_probability(logits: Tensor, tokens: Tensor, hidden: Tensor) -> Tensor:
    """Returns (1, R) log softmax(logits) at the tokens."""
    return logits.log_softmax(1).gather(1, tokens.unsqueeze(1)).t()


def _entropy(logits: Tensor, tokens: Tensor, hidden: Tensor) -> Tensor:
    """Returns (1, R) entropies; a token that is impossible adds nothing."""
    logp = logits.log_softmax(1)
    return -(logp.exp() * logp.clamp_min(-1e4)).sum(1).unsqueeze(0)


def _forbid(logits: Tensor, token: int, where: Tensor) -> Tensor:
    """Returns logits (R, V) with `token` impossible in the rows `where` (R,) is True."""
    column = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
    column[token] = True
    return logits.masked_fill(where.unsqueeze(1) & column, -math.inf)


def _draw(logits: Tensor, temperature: float, uniforms: Tensor) -> Tensor:
    """Returns (R,) tokens: the first whose cumulative probability exceeds the uniform number."""
    if temperature == 0:
        return logits.argmax(1)
    cumulative = (logits / temperature).softmax(1).cumsum(1, dtype=torch.float64)
    # never at the very end, where tokens of probability 0 lie
    target = uniforms.clamp_max(1 - 1e-12) * cumulative[:, -1]
    return torch.searchsorted(cumulative, target.unsqueeze(1), right=True).squeeze(1)


def _group_size(contexts: Tensor) -> int:
    """Returns the largest G for which rows 0..G-1, G..2G-1, ... each have one prompt."""
    counts = torch.unique_consecutive(contexts, dim=0, return_counts=True)[1]
    return math.gcd(*counts.tolist())


def _packed(contexts: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns left-padded prompts (N, P) as right-padded ids as short as they go, and lengths."""
    lengths = (contexts >= 0).sum(1)
    width, longest = contexts.shape[1], int(lengths.max())
    places = torch.arange(longest) + (width - lengths).unsqueeze(1)
    ids = contexts.gather(1, places.clamp_max(width - 1)).clamp_min(0)
    return ids.to(device), lengths.to(device)


def _prefill(model: Any, prompts: Tensor, lengths: Tensor) -> tuple[Tensor, Any]:
    """Returns the last hidden state (N, H) of right-padded prompts (N, P), and their cache."""
    cache = DynamicCache()
    states = model.base_model(
        input_ids=prompts, past_key_values=cache, use_cache=True
    ).last_hidden_state
    last: Tensor = states[torch.arange(len(prompts), device=prompts.device), lengths - 1]
    return last, cache


def _attended(lengths: Tensor, width: int, steps: int, size: int) -> Tensor | None:
    """Returns (N * G, P + T) whether a position is real, or None where all are.

    Prompts shorter than the longest leave a gap between themselves and the response.
    """
    if bool((lengths == width).all()):
        return None
    prompt = torch.arange(width, device=lengths.device) < lengths.unsqueeze(1)
    return torch.nn.functional.pad(prompt, (0, steps), value=True).repeat_interleave(size, 0)


class _SharedLayer(DynamicLayer):  # type: ignore[misc]
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


class _DecodingLayer(DynamicLayer):  # type: ignore[misc]
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


def _with_adapters(model: Any, lora: Lora, seed: int) -> Any:
    """Returns the peft model around `model`, whose adapters depend on `seed` alone."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=0.0, target_modules="all-linear"
    )
    with torch.random.fork_rng():
        wrapped = get_peft_model(model, config).eval()
    generator = seeding.generator(seed, "init/adapters")
    with torch.no_grad():
        for name, parameter in _adapters(wrapped):
            if "lora_A" in name:
                bound = 1.0 / math.sqrt(parameter.shape[1])
                drawn = generator.uniform(-bound, bound, tuple(parameter.shape))
                parameter.copy_(torch.from_numpy(drawn))
            parameter.data = parameter.data.float()
    return wrapped


def _adapters(wrapped: Any) -> Iterator[tuple[str, Tensor]]:
    """Yields the trained parameters of a peft model in the order of their names."""
    named = {name: p for name, p in wrapped.named_parameters() if p.requires_grad}
    yield from sorted(named.items())
