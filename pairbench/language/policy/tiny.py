"""The model `tiny`: a small Llama that is trained here, on a task's own texts, in minutes.

It has 1.3 million parameters and a byte-level BPE of 4,096 tokens. It writes babble with local
grammar, which is enough for a policy to learn from.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pairbench import seeding
from pairbench.errors import PairBenchError
from pairbench.language.model_cache import cache_folder, cached
from pairbench.language.policy.encoding import token_ids

VERSION = 2  # raise it when the same texts and settings would give other weights

Text = tuple[str, str]
"""A prompt, ready for the tokenizer, and the answer to it."""


class Tiny(BaseModel):
    """The preset `tiny`: sizes, and how it is trained: at most some 270 s of one core.

    Few texts are passed over a few times only: what is repeated more is learned by heart, and a
    policy that knows its training prompts' answers by heart has nothing left to explore.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocabulary: int = Field(4096, ge=258, description="tokens, the two special ones included")
    hidden: int = Field(128, ge=2, description="width of the hidden state")
    intermediate: int = Field(344, ge=1, description="width of the feed-forward layers")
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    context: int = Field(512, ge=8, description="most tokens it takes")
    prompt: int = Field(64, ge=1, description="prompts are cut to so many tokens, on the left")
    answer: int = Field(48, ge=1, description="answers are cut to so many; only whole ones end")
    steps: int = Field(2200, ge=1, description="most gradient steps")
    passes: float = Field(4.0, gt=0, description="most passes over the texts")
    batch: int = Field(8, ge=1, description="rows in a step")
    lr: float = Field(4e-3, gt=0, description="AdamW's highest learning rate")
    weight_decay: float = Field(0.1, ge=0, description="of matrices")
    warmup: float = Field(0.05, ge=0, le=1, description="share of the steps in which lr rises")
    seed: int = Field(0, ge=0)


def train_tiny(sft: Sequence[Text], settings: Tiny | None = None) -> Path:
    """Returns the folder of the tiny model for these texts and settings, training it if need be.

    One prompt in twenty, chosen by hash, is held out; the card has the perplexity there. Several
    processes that ask at once train it once.

    Raises:
        PairBenchError: there are too few texts to train on.
    """
    name, recipe, settings = _recipe(sft, settings)
    return cached(name, recipe, partial(_train, sft, settings))


def tiny_folder(sft: Sequence[Text], settings: Tiny | None = None) -> Path:
    """Returns where the tiny model for these texts and settings is, once it is trained."""
    return cache_folder() / _recipe(sft, settings)[0]


def _recipe(sft: Sequence[Text], settings: Tiny | None) -> tuple[str, dict[str, Any], Tiny]:
    """The name of a tiny model's folder, what it is made from, and its settings."""
    settings = settings or Tiny.model_validate({})
    content = hashlib.sha256()
    for text in sft:
        content.update(json.dumps(text).encode() + b"\n")
    recipe = {
        "source": "trained here",
        "version": VERSION,
        "settings": settings.model_dump(),
        "texts_sha256": content.hexdigest(),
    }
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:24]
    return f"tiny-{key}", recipe, settings


def _held_out(prompt: str) -> bool:
    return hashlib.sha256(f"held out:{prompt}".encode()).digest()[0] < 256 / 20


def _train(sft: Sequence[Text], settings: Tiny, folder: Path) -> dict[str, Any]:
    """Trains tokenizer and model into `folder`; returns facts for the card."""
    used = [text for text in sft if not _held_out(text[0])]
    held = [text for text in sft if _held_out(text[0])]
    if len(used) < 2:
        raise PairBenchError(
            f"the model tiny has {len(used)} texts to train on: give it a task's SFT texts"
        )
    began = time.perf_counter()
    tokenizer = _train_tokenizer([part for text in used for part in text], settings)
    model = _new_model(settings, tokenizer)
    rows, _ = _rows(tokenizer, used, settings)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimiser = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=settings.lr,
        betas=(0.9, 0.95),
        fused=True,
    )
    draw = seeding.generator(settings.seed, "minibatch")
    order = np.empty(0, dtype=np.int64)
    tokens = 0
    steps = max(1, min(settings.steps, int(settings.passes * len(rows) / settings.batch)))
    for step in range(steps):
        while len(order) < settings.batch:
            order = np.concatenate([order, draw.permutation(len(rows))])
        picked, order = order[: settings.batch], order[settings.batch :]
        batch = [rows[index] for index in picked]
        for group in optimiser.param_groups:
            group["lr"] = settings.lr * _schedule(step, steps, settings.warmup)
        losses = _losses(model, batch, [1] * len(batch))
        optimiser.zero_grad()
        losses.mean().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        tokens += len(losses)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    facts: dict[str, Any] = {
        "texts": len(used),
        "held_out": len(held),
        "steps": steps,
        "tokens": tokens,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    facts |= _perplexity(model, *_rows(tokenizer, held, settings))
    facts["seconds"] = round(time.perf_counter() - began, 1)
    return facts


def _train_tokenizer(texts: Sequence[str], settings: Tiny) -> Any:
    """Returns a byte-level BPE of the texts with <pad> 0 and <eos> 1."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    wrapped: Any = PreTrainedTokenizerFast
    return wrapped(tokenizer_object=bpe, pad_token="<pad>", eos_token="<eos>")


def _new_model(settings: Tiny, tokenizer: Any) -> Any:
    """Returns the untrained model; its weights depend on the settings alone."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=settings.vocabulary,
        hidden_size=settings.hidden,
        intermediate_size=settings.intermediate,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=settings.context,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        model: Any = LlamaForCausalLM(config)
    draw = seeding.generator(settings.seed, "init")
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.ndim > 1:
                scale = 0.02
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    scale /= math.sqrt(2 * settings.layers)  # as in GPT-2
                values = draw.normal(0.0, scale, tuple(parameter.shape))
                parameter.copy_(torch.from_numpy(values))
    return model.eval()


def _schedule(step: int, steps: int, warmup: float) -> float:
    """Returns the learning rate's factor: a linear rise, then a cosine's fall to a twentieth."""
    rise = max(1.0, warmup * steps)
    if step < rise:
        return (step + 1) / rise
    share = (step - rise) / max(1.0, steps - rise)
    return 0.05 + 0.475 * (1 + math.cos(math.pi * share))


def _rows(
    tokenizer: Any, texts: Sequence[Text], settings: Tiny
) -> tuple[list[list[int]], list[int]]:
    """Returns the ids of each cut prompt and answer, and where the answer begins."""
    prompts = token_ids(tokenizer, [prompt for prompt, _ in texts], split_special_tokens=True)
    answers = token_ids(tokenizer, [answer for _, answer in texts], split_special_tokens=True)
    rows, starts = [], []
    for prompt, answer in zip(prompts, answers):
        ended = [tokenizer.eos_token_id] if len(answer) <= settings.answer else []
        tail = prompt[-settings.prompt :]
        row = [*tail, *answer[: settings.answer], *ended]
        if len(row) > 1:
            rows.append(row)
            starts.append(max(1, len(tail)))
    return rows, starts


def _losses(model: Any, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> Tensor:
    """Returns the negative log-likelihoods (R,), nats, of all tokens from each row's start on."""
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    wanted = torch.zeros(len(rows), width, dtype=torch.bool)
    for place, (row, start) in enumerate(zip(rows, starts)):
        ids[place, : len(row)] = torch.tensor(row)
        wanted[place, start : len(row)] = True
    hidden = model.base_model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    logits = model.get_output_embeddings()(hidden[wanted[:, 1:]])
    return torch.nn.functional.cross_entropy(logits, ids[wanted], reduction="none")


def _perplexity(model: Any, rows: list[list[int]], starts: list[int]) -> dict[str, Any]:
    """Returns the perplexity of the answers' tokens, and their number; None without any."""
    with torch.no_grad():
        parts = [
            _losses(model, rows[at : at + 32], starts[at : at + 32])
            for at in range(0, len(rows), 32)
        ]
    losses = torch.cat(parts).double() if parts else torch.empty(0)
    value = round(math.exp(float(losses.mean())), 4) if len(losses) else None
    return {"perplexity": value, "perplexity_tokens": len(losses)}
