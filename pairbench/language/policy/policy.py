"""A causal language model as a policy: prompts are contexts, completions are responses."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pairbench import seeding
from pairbench.batch import Batch
from pairbench.errors import PairBenchError
from pairbench.language.policy.execution import Execution, Rows, context_window
from pairbench.language.policy.sampling import sample
from pairbench.language.policy.scoring import (
    What,
    after_shared_prompts,
    entropy,
    log_probability,
    scores,
)
from pairbench.policy import ParameterGroup, PolicyOutput


class LanguagePolicy:
    """A causal language model that scores and samples completions of prompts.

    `Batch.contexts` are (B, P) int64 prompt ids, left padded with -1; `Batch.responses` (B, T) ids,
    right padded with -1; `Batch.mask` 1.0 on real tokens, the end of sequence included. Batches
    stay where they are (on the CPU); the model may be elsewhere. The model is always in evaluation
    mode: it has no dropout, so calls repeat bit for bit at one thread count.

    Attributes:
        model: the transformers model that is trained (with adapters, its layers hold them).
        ends: ids that end a response.
    """

    stepwise = False

    def __init__(
        self,
        model: Any,
        ends: int | Sequence[int],
        *,
        seed: int = 0,
        critic: bool = False,
        reference: bool = True,
        lora_rank: int = 0,
        bf16: bool = False,
        micro_rows: int | None = None,
        min_length: int = 0,
        shared_prompt: bool = True,
        device: str = "cpu",
    ) -> None:
        """Takes `model` over: it is trained in place.

        Args:
            model: a transformers causal LM whose cache is keys and values.
            ends: the ids that end a response, or the one.
            seed: of the adapters' initial weights; nothing else is random.
            critic: add a linear value head on the last hidden state, zero at first. Its gradient
                stays in the head: the value loss moves no weight of the policy.
            reference: keep the initial weights for `reference_logp`: as a copy, or, with adapters,
                by disabling them.
            lora_rank: r of low-rank adapters (arXiv 2106.09685) on every linear layer but the
                head, whose update is scaled by 2; they alone are trained. 0 trains every weight.
            bf16: compute in bfloat16 (weights that are trained stay float32).
            micro_rows: work on at most so many rows at a time (at least a whole group), or None.
                The gradient is the same: the backward pass computes each chunk again.
            min_length: completions have no end of sequence among their first `min_length` tokens:
                it has probability 0 there, in sampling and scoring alike. At least the length
                sampled means completions of fixed length, so that length cannot be played on.
            shared_prompt: compute a group's prompt once; False runs every row in full.
            device: where the model works, for example "cuda".

        Raises:
            PairBenchError: the model cannot be used this way.
        """
        if lora_rank and bf16:
            model.to(torch.bfloat16)
        model.to(device).eval()
        self.ends = (ends,) if isinstance(ends, int) else tuple(ends)
        self._how = Execution(
            self.ends,
            context_window(model),
            min_length,
            torch.device(device),
            bf16,
            micro_rows,
            shared_prompt,
        )
        self._adapters: Any = None
        self._reference: Any = None
        if lora_rank:
            self._adapters = _with_adapters(model, lora_rank, seed)
        elif reference:
            self._reference = copy.deepcopy(model).requires_grad_(False)
        self._has_reference = reference
        self.model = self._adapters.get_base_model() if lora_rank else model
        self._trained = {
            name: parameter
            for name, parameter in self.model.named_parameters()
            if not lora_rank or parameter.requires_grad
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
        rows = Rows(batch.contexts, batch.responses, batch.mask)
        if not torch.is_grad_enabled():  # a measurement, which wants the entropy too
            *outputs, entropies = self._scores(self.model, rows, self._measured)
            return PolicyOutput(*outputs, entropy=entropies)

        def when_asked() -> Tensor:
            return self._scores(self.model, rows, entropy)[0]

        return PolicyOutput(*self._scores(self.model, rows, self._outputs), entropy=when_asked)

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
            return self._scores(self.model, Rows(contexts, responses, mask), log_probability)[0]

    def reference_logp(self, contexts: Tensor, responses: Tensor, mask: Tensor) -> Tensor:
        """Returns what `logp` returned before any training, (B, T)."""
        if not self._has_reference:
            raise TypeError("this policy was made without its reference")
        frozen = self.model if self._adapters is not None else self._reference
        without: AbstractContextManager[Any] = contextlib.nullcontext()
        if self._adapters is not None:
            without = self._adapters.disable_adapter()
        with torch.no_grad(), without:
            return self._scores(frozen, Rows(contexts, responses, mask), log_probability)[0]

    def _outputs(self, logits: Tensor, tokens: Tensor, hidden: Tensor) -> Tensor:
        """Returns (1 or 2, R): log-probabilities, and values where there is a critic."""
        logp = log_probability(logits, tokens, hidden)
        if self._value is None:
            return logp
        value = hidden.detach().float() @ self._value[:-1] + self._value[-1]
        return torch.cat([logp, value.unsqueeze(0)])

    def _measured(self, logits: Tensor, tokens: Tensor, hidden: Tensor) -> Tensor:
        """Returns what `_outputs` does, and entropies last."""
        return torch.cat([self._outputs(logits, tokens, hidden), entropy(logits, tokens, hidden)])

    def _scores(self, model: Any, rows: Rows, what: What) -> Tensor:
        trained = [tensor for group in self.parameters() for tensor in group.tensors]
        return scores(model, self._how, rows, what, trained)

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
        return sample(self.model, self._how, prompts, group_size, length, temperature, generator)

    def _check(self) -> None:
        """Compares a small batch with the model's own logits, so that no model is misread."""
        ids = torch.arange(1, 7).remainder(self.model.get_input_embeddings().num_embeddings)
        contexts = ids[:4].repeat(2, 1)
        answers = ids[4:].repeat(2, 1).to(self._how.device)
        try:
            with torch.no_grad(), self._how.precision():
                whole = ids.unsqueeze(0).to(self._how.device)
                right = self.model(input_ids=whole, use_cache=False).logits[0, 3:5].float()
                hidden = after_shared_prompts(self.model, contexts[::2], answers, 2)
                got = self.model.get_output_embeddings()(hidden).float()
        except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
            raise PairBenchError(
                f"{type(self.model).__name__} cannot be a policy here, which needs a decoder with "
                f"a cache of keys and values and an output layer ({error}): choose another model"
            ) from error
        if not torch.allclose(got[0], right, atol=0.5 if self._how.bf16 else 1e-2, rtol=1e-2):
            raise PairBenchError(
                f"{type(self.model).__name__} does not compute its logits as its output layer "
                "applied to its decoder's last state, with a cache of keys and values: choose "
                "another model"
            )


def _with_adapters(model: Any, rank: int, seed: int) -> Any:
    """Returns the peft model around `model`, whose adapters depend on `seed` alone."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear")
    with torch.random.fork_rng():
        wrapped = get_peft_model(model, config).eval()
    generator = seeding.generator(seed, "init/adapters")
    with torch.no_grad():
        # in the order of their names, whatever order peft gives them
        named = {name: p for name, p in wrapped.named_parameters() if p.requires_grad}
        for name, parameter in sorted(named.items()):
            if "lora_A" in name:
                bound = 1.0 / math.sqrt(parameter.shape[1])
                drawn = generator.uniform(-bound, bound, tuple(parameter.shape))
                parameter.copy_(torch.from_numpy(drawn))
            parameter.data = parameter.data.float()
    return wrapped
