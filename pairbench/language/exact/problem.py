"""The problem: a reference policy that speaks a grammar, hidden rewards, and the optimum."""

from __future__ import annotations

import math
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pairbench.language.exact.llama import Shape, SmallLlama, chosen
from pairbench.language.exact.space import CONTEXT, Space
from pairbench.language.exact.table import Table
from pairbench.language.model_cache import cache_folder, cached
from pairbench.results.record import digest
from pairbench.seeding import generator
from pairbench.training.optimiser import Adam, Group

VERSION = 1  # raise it when the same settings would give another reference
BATCHES, ROWS, RATE = 600, 256, 2e-3
STATES = 8
WEIGHTS = "weights.safetensors"


def grammar(space: Space, seed: int) -> Table:
    """Returns what the reference is taught: the next symbol after the last two, place and context.

    Logits are sums of normal draws: of the last two symbols and the next, standard deviation .8; of
    the place and the next, .4; and of each symbol of the context and the next, .4.
    """
    draw = generator(seed, "exact/grammar")
    v, length = space.symbols, space.length
    follows = torch.from_numpy(draw.normal(0.0, 0.8, (v, v, v)))
    placed = torch.from_numpy(draw.normal(0.0, 0.4, (length, v)))
    asked = torch.from_numpy(draw.normal(0.0, 0.4, (CONTEXT, v, v)))
    tokens = torch.cat(
        [
            space.prompts[:, -2:].unsqueeze(1).expand(-1, len(space.responses), -1),
            space.responses.expand(len(space.prompts), -1, -1),
        ],
        2,
    )
    topic = sum(asked[place, space.prompts[:, place]] for place in range(CONTEXT))
    assert isinstance(topic, Tensor)
    log = torch.zeros(tokens.shape[:2], dtype=torch.float64)
    for step in range(length):
        logits = follows[tokens[..., step], tokens[..., step + 1]] + placed[step]
        chosen = tokens[..., step + 2].unsqueeze(-1)
        log += (logits + topic.unsqueeze(1)).log_softmax(-1).gather(-1, chosen).squeeze(-1)
    return Table(space, log)


def fine_tune(policy: SmallLlama, teacher: Table, batches: int, seed: int) -> None:
    """Trains a policy on samples of `teacher`, by maximum likelihood, under a falling rate."""
    draw = generator(seed, "exact/fine-tuning")
    adam, places = Adam([Group([policy.flat], RATE)], eps=1e-8), len(policy.space.prompts)
    for step in range(batches):
        where = torch.from_numpy(draw.integers(places, size=ROWS))
        responses, _ = teacher.sample(where, draw)
        loss = -chosen(policy.dist(where, responses), responses).mean()
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step(1.0, 0.5 * (1.0 + math.cos(math.pi * step / batches)))


@cache
def reference(space: Space, seed: int) -> tuple[Tensor, Table]:
    """Returns the reference's weights (flat), and its probabilities; made if it is not there."""
    from safetensors.torch import load_file

    path = reference_file(space, seed)
    if not path.exists():
        recipe = _recipe(space, seed)
        cached(path.parent.name, recipe, partial(_make, space, seed))
    flat = load_file(path)["flat"]
    return flat, Table(space, SmallLlama(space, flat).enumerate())


def reference_file(space: Space, seed: int) -> Path:
    """Returns where the reference's weights are, or will be.

    That of the default space is part of the package; others are made once and kept, see
    `pairbench.language.model_cache`.
    """
    name = f"exact-{digest(_recipe(space, seed))[:24]}"
    ours = Path(str(files(__package__) / f"{name}.safetensors"))
    return ours if ours.exists() else cache_folder() / name / WEIGHTS


def _recipe(space: Space, seed: int) -> dict[str, Any]:
    return {
        "source": "trained here", "version": VERSION, "seed": seed,
        "space": [space.symbols, space.length, space.contexts],
        "batches": BATCHES, "rows": ROWS, "rate": RATE,
    }  # fmt: skip


def _make(space: Space, seed: int, folder: Path) -> dict[str, Any]:
    from safetensors.torch import save_file

    policy = SmallLlama(space, Shape().initial(space.symbols, generator(seed, "init")))
    fine_tune(policy, grammar(space, seed), BATCHES, seed)
    save_file({"flat": policy.flat.detach()}, folder / WEIGHTS)
    return {"parameters": policy.flat.numel()}


def rewards(base: Table, draw: np.random.Generator) -> Tensor:
    """Returns (X, K) float64 hidden rewards: mean 0 in each context, SD 1 under the reference.

    Four parts of equal variance: what symbol stands where, by context; which symbols stand next to
    each other; which three apart; and the value of the state in which an automaton ends, of eight,
    that reads context and response. So a sum over places explains much of them, and not all.
    """
    space = base.space
    v, length, responses = space.symbols, space.length, space.responses
    placed = torch.from_numpy(draw.normal(size=(CONTEXT, v, length, v)))
    near, apart = (torch.from_numpy(draw.normal(size=(v, v))) for _ in range(2))
    turns = torch.from_numpy(draw.integers(STATES, size=(STATES, v)))
    worth = torch.from_numpy(draw.normal(size=STATES))
    fits = torch.zeros(len(space.prompts), len(responses), dtype=torch.float64)
    for place in range(CONTEXT):
        for step in range(length):
            fits += placed[place, space.prompts[:, place], step][:, responses[:, step]]
    pairs = near[responses[:, :-1], responses[:, 1:]].sum(1).expand_as(fits)
    skips = apart[responses[:, :-3], responses[:, 3:]].sum(1).expand_as(fits)
    state = torch.zeros(fits.shape, dtype=torch.int64)
    for place in range(CONTEXT):
        state = turns[state, space.prompts[:, place : place + 1]]
    for step in range(length):
        state = turns[state, responses[:, step]]
    parts = (_standardised(part, base.log) for part in (fits, pairs, skips, worth[state]))
    return _standardised(sum(parts, torch.zeros_like(fits)), base.log)


def _standardised(values: Tensor, log: Tensor) -> Tensor:
    """Returns (X, K) values less their mean in each context, over their SD, both under e^log."""
    weight = log.exp()
    centred = values - (weight * values).sum(1, keepdim=True)
    return centred / (weight * centred.square()).sum(1).mean().sqrt().clamp_min(1e-12)


def tilted(base: Table, reward: Tensor, beta: float) -> tuple[Table, Tensor]:
    """Returns pi_ref exp(r / beta) / Z, and (X,) beta log Z, its E[r] - beta KL: the optimum."""
    raised = base.log + reward / beta
    partition = raised.logsumexp(1, keepdim=True)
    return Table(base.space, raised - partition), beta * partition.squeeze(1)


def best_of(base: Table, reward: Tensor, n: int) -> Table:
    """Returns the distribution of the best of n draws of the reference, exactly.

    With F the probability of a lower reward and f that of an equal one, a reward's is
    (F + f)^n - F^n, shared among its responses as the reference does.
    """
    order = reward.argsort(dim=1, stable=True)
    mass, ranked = base.log.exp().gather(1, order), reward.gather(1, order)
    upper = mass.cumsum(1)
    first = torch.searchsorted(ranked, ranked)  # of those with the same reward
    last = torch.searchsorted(ranked, ranked, right=True) - 1
    high = upper.gather(1, last) / upper[:, -1:]
    low = torch.where(first > 0, upper.gather(1, (first - 1).clamp_min(0)) / upper[:, -1:], 0.0)
    share = (high**n - low**n) / (high - low).clamp_min(1e-300) * mass / upper[:, -1:]
    log = torch.empty_like(share).scatter_(1, order, share.clamp_min(1e-300).log())
    return Table(base.space, log - log.logsumexp(1, keepdim=True))
