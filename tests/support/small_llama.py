"""A small random Llama as a policy, batches for it, and what it computes, by hand."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor

from pairbench import seeding
from pairbench.batch import Batch
from pairbench.language.policy.policy import LanguagePolicy

VOCAB, EOS = 50, 1
PROMPTS, SIZE, STEPS = 3, 4, 7


def llama(seed: int = 0, **settings: Any) -> Any:
    """Returns a small random Llama with grouped keys and weights large enough to matter."""
    config = transformers.LlamaConfig(
        **{
            "vocab_size": VOCAB,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 40,
            "tie_word_embeddings": True,
            **settings,
        }
    )
    with torch.random.fork_rng():
        model = transformers.LlamaForCausalLM(config)
    draw = seeding.generator(seed, "init")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.from_numpy(draw.normal(0, 0.2, tuple(parameter.shape))))
    return model


def policy(seed: int = 0, **settings: Any) -> LanguagePolicy:
    return LanguagePolicy(llama(seed), EOS, **settings)


def prompts(lengths: tuple[int, ...] = (9, 4, 6), seed: int = 1) -> Tensor:
    """Returns (N, P) left-padded prompts, one column wider than the longest."""
    draw = seeding.generator(seed, "contexts")
    table = torch.full((len(lengths), max(lengths) + 1), -1)
    for row, length in enumerate(lengths):
        table[row, -length:] = torch.from_numpy(draw.integers(2, VOCAB, length))
    return table


def batch(size: int = SIZE, seed: int = 2) -> Batch:
    """Returns groups of `size` responses of unequal lengths, none as long as the batch is wide."""
    draw = seeding.generator(seed, "data")
    contexts = prompts().repeat_interleave(size, 0)
    rows = len(contexts)
    lengths = torch.from_numpy(draw.integers(1, STEPS, rows))
    responses = torch.from_numpy(draw.integers(2, VOCAB, (rows, STEPS + 1)))
    mask = (torch.arange(STEPS + 1) < lengths.unsqueeze(1)).float()
    responses = responses.masked_fill(mask == 0, -1)
    ended = torch.arange(rows) % 2 == 0
    responses[ended, lengths[ended] - 1] = EOS
    group = torch.arange(PROMPTS).repeat_interleave(size)
    return Batch(contexts, responses, mask, torch.zeros_like(mask), group).check()


def by_hand(model: Any, given: Batch) -> Tensor:
    """Returns (B, T) log-probabilities from the model alone, one row at a time, without padding."""
    rows = []
    for context, response, mask in zip(given.contexts, given.responses, given.mask):
        prompt, answer = context[context >= 0], response[mask > 0]
        logits = model(torch.cat([prompt, answer]).unsqueeze(0)).logits[0]
        logp = logits.log_softmax(1)[len(prompt) - 1 : -1].gather(1, answer.unsqueeze(1))
        rows.append(torch.nn.functional.pad(logp[:, 0], (0, len(mask) - len(answer))))
    return torch.stack(rows)


def loss(logp: Tensor, given: Batch) -> Tensor:
    """Returns a loss in which every token has its own weight."""
    weight = torch.from_numpy(seeding.generator(3, "data").normal(size=tuple(logp.shape)))
    return (logp.square() * weight * given.mask).sum()


def gradients(of: Tensor, tensors: list[Tensor]) -> Tensor:
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(of, tensors)])


def draw(ours: LanguagePolicy, size: int = SIZE, length: int = 12, **settings: Any) -> Any:
    temperature = settings.pop("temperature", 1.0)
    return ours.sample(
        prompts(), size, length, temperature, seeding.generator(settings.pop("seed", 5), "sampling")
    )
