"""`Batch`: the one container that passes between a task, a policy and an algorithm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from pairbench.errors import PairBenchError

Signal = Mapping[str, Tensor]
"""What `Algorithm.prepare` computes once a batch: tensors whose first axis is the batch's rows.

Names are the algorithm's own, but for two that mean the same for all, `ADVANTAGE` and `RETURN`: a
run's series are computed from them.
"""

ADVANTAGE = "advantage"
"""In a signal: how much better each response (B, 1), or each step (B, T), is than expected."""

RETURN = "return"
"""In a signal: (B, T) the returns that the critic is fitted to."""

PER_STEP = ("mask", "old_logp", "ref_logp", "step_reward", "value", "next_value", "boundary")

PER_ROW = ("pairs", "group", "score", "components", "domain_share")
"""What a single step has none of."""

FOR_PREPARE = ("score", "components", "domain_share", "step_reward", "next_value", "boundary")
"""What `Algorithm.prepare` alone may read; a loss is given `Minibatch`, which has none of it."""


@dataclass(frozen=True)
class Batch:
    """B responses of at most T steps, in whole groups.

    All responses to one context are contiguous rows and are never split by a minibatch. A group
    has one response for methods that compare nothing (PPO), G for group methods, and two for
    offline preference pairs.

    Attributes:
        contexts: (B, ...) owned by the task and its policy: prompt token ids, or the (B, T, D)
            observations of each step.
        responses: (B, T, ...) owned likewise: token ids, arms, or actions.
        mask: (B, T) 1.0 where a step is part of the response, else 0.0. A row may have none: it
            has no gradient and is in no pair, and its score still counts in its group's mean.
        old_logp: (B, T) log-probability of each step under the policy that sampled it (nats; for
            offline pairs, under the policy when the batch was drawn).
        group: (B,) int64 number of the row's group, 0, 0, ..., 1, 1, ...
        ref_logp: (B, T) the same under the reference policy, or None.
        score: (B,) the oracle's scalar for the whole response, or None.
        components: (B, R) its scalars where it scores R things of each response apart, in the
            task's order, or None.
        domain_share: (B,) the share of all training contexts that come from the domain of the
            row's own, in (0, 1], or None where the task has one domain.
        step_reward: (B, T) reward per step, for methods that learn from rewards, or None.
        value: (B, T) the critic's estimate at each step when it was sampled, or None.
        next_value: (B, T) its estimate of the state after each step: 0 where the episode ended
            there, the bootstrap value where it was only cut off; or None.
        boundary: (B, T) 1.0 where the step after belongs to another episode, or to no row, so that
            an advantage must not be carried across; or None.
        pairs: (P, 2) int64 row numbers (preferred, rejected) within a group, in the order of the
            groups, or None.
        old_dist: (B, T, ...) parameters of the sampler's distribution at each step, owned by the
            policy, from which it computes an exact KL divergence; or None.
        ref_dist: (B, T, ...) the same of the reference policy; or None.
        sampler: the number of the training iteration whose policy sampled the batch, -1 offline.
        offline: preference pairs of the task's data set beside on-policy groups, or None: a batch
            with `pairs`, groups of two and a padded length of its own. It has as many groups as
            this batch, and its group i goes wherever group i goes, so that minibatches share the
            pairs out as evenly as the groups.
    """

    contexts: Tensor
    responses: Tensor
    mask: Tensor
    old_logp: Tensor
    group: Tensor
    ref_logp: Tensor | None = None
    score: Tensor | None = None
    components: Tensor | None = None
    domain_share: Tensor | None = None
    step_reward: Tensor | None = None
    value: Tensor | None = None
    next_value: Tensor | None = None
    boundary: Tensor | None = None
    pairs: Tensor | None = None
    old_dist: Tensor | None = None
    ref_dist: Tensor | None = None
    sampler: int = 0
    offline: Batch | None = None

    def __len__(self) -> int:
        return self.mask.shape[0]

    @property
    def steps(self) -> int:
        """T, the padded length of a response."""
        return self.mask.shape[1]

    @property
    def n_groups(self) -> int:
        """The number of groups (contexts)."""
        return int(self.group[-1]) + 1 if len(self) else 0

    @property
    def group_size(self) -> int:
        """G, the responses per context; every group has the same number."""
        return len(self) // max(self.n_groups, 1)

    def need(self, name: str) -> Tensor:
        """Returns the field of that name, for whoever cannot do without it.

        Raises:
            PairBenchError: it is None.
        """
        tensor: Tensor | None = getattr(self, name)
        if tensor is None:
            raise PairBenchError(
                f"a batch with {name} is needed and this one has none: have the task's collect() "
                "fill it, and the algorithm's needs ask for it"
            )
        return tensor

    def check(self) -> Batch:
        """Returns the batch itself if its shapes agree.

        Raises:
            ValueError: naming the first field that is wrong, its shape and the one expected.
        """
        rows, steps = self.mask.shape
        for name, tensor in self._tensors().items():
            if tensor.shape[0] != rows:
                raise ValueError(
                    f"Batch.{name} has {tensor.shape[0]} rows, mask has {rows}: "
                    "every field but pairs needs one row per response"
                )
            if name in PER_STEP and tuple(tensor.shape) != (rows, steps):
                raise ValueError(
                    f"Batch.{name} has shape {tuple(tensor.shape)}, "
                    f"expected (B, T) = {(rows, steps)}"
                )
        held = self._tensors()
        if any(
            held[name].shape != (rows,) for name in PER_ROW if name in held and name != "components"
        ):
            raise ValueError(
                f"Batch.group, Batch.score and Batch.domain_share need shape ({rows},), "
                "one per response"
            )
        components = held.get("components")
        if components is not None and components.ndim != 2:
            raise ValueError(
                f"Batch.components has shape {tuple(components.shape)}, expected ({rows}, R)"
            )
        expected = torch.arange(self.n_groups).repeat_interleave(self.group_size)
        if not torch.equal(self.group.cpu(), expected):
            raise ValueError(
                "Batch.group must number whole groups of equal size in order: 0, 0, ..., 1, 1, ..."
            )
        if self.pairs is not None:
            if self.pairs.ndim != 2 or self.pairs.shape[1] != 2:
                raise ValueError(
                    f"Batch.pairs has shape {tuple(self.pairs.shape)}, expected (P, 2)"
                )
            if len(self.pairs):
                low, high = int(self.pairs.min()), int(self.pairs.max())
                if low < 0 or high >= rows:
                    raise ValueError(f"Batch.pairs names row {low if low < 0 else high} of {rows}")
                members = self.group[self.pairs]
                if not bool((members[:, 0] == members[:, 1]).all()):
                    raise ValueError("Batch.pairs must stay within one group")
        if self.offline is not None:
            beside = self.offline.check()
            if beside.pairs is None or beside.n_groups != self.n_groups:
                raise ValueError(
                    f"Batch.offline needs pairs and one group of two for each of {self.n_groups} "
                    f"groups, has {beside.n_groups}"
                )
        return self

    def check_groups(self, name: str, size: int) -> None:
        """Raises `PairBenchError` unless the groups are whole, in order and all of `size` rows."""
        expected = torch.arange(self.n_groups).repeat_interleave(size)
        if not torch.equal(self.group.cpu(), expected):
            sizes = sorted(set(torch.bincount(self.group.cpu()).tolist()))
            raise PairBenchError(
                f"{name} has group_size {size} and the batch has {len(self)} rows in groups of "
                f"{' and '.join(map(str, sizes))}: have collect() return group_size responses to "
                "each context, one group after the other"
            )

    def without_idle_pairs(self) -> Self:
        """Returns the batch without pairs, here or offline, of which a row has no real step."""
        changed: dict[str, Any] = {}
        if self.pairs is not None:
            real = self.mask.any(1)[self.pairs].all(1)
            if not bool(real.all()):
                changed["pairs"] = self.pairs[real]
        if self.offline is not None:
            changed["offline"] = self.offline.without_idle_pairs()
        return self._with(changed) if changed else self

    def _tensors(self) -> dict[str, Tensor]:
        """Returns the tensors that have a row per response, by name: all but `pairs`."""
        return {
            name: tensor
            for name, tensor in vars(self).items()
            if isinstance(tensor, Tensor) and name != "pairs"
        }

    def _with(self, changed: Mapping[str, Any]) -> Self:
        """Returns a batch of the same type with some fields changed."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        vars(other).update(changed)
        return other

    def for_loss(self) -> Minibatch:
        """Returns the batch without what `Algorithm.prepare` alone may read."""
        lean = object.__new__(Minibatch)
        kept = {name: value for name, value in vars(self).items() if name not in FOR_PREPARE}
        vars(lean).update(kept)
        return lean

    def select(self, rows: Tensor) -> Self:
        """Returns the batch of `rows`: (N,) int64, whole groups in any order.

        Pairs are renumbered and put in the order of their groups; pairs of rows that are not
        selected are dropped.
        """
        picked: dict[str, Any] = {name: tensor[rows] for name, tensor in self._tensors().items()}
        size = self.group_size
        picked["group"] = torch.arange(len(rows) // size).repeat_interleave(size)
        if self.pairs is not None:
            place = torch.full((len(self),), -1, dtype=torch.int64)
            place[rows] = torch.arange(len(rows))
            pairs = place[self.pairs]
            pairs = pairs[(pairs >= 0).all(dim=1)]
            order = torch.argsort(pairs[:, 0] // size, stable=True)
            picked["pairs"] = pairs[order]
        if self.offline is not None:
            two = self.offline.group_size
            beside = rows[::size, None] // size * two + torch.arange(two)
            picked["offline"] = self.offline.select(beside.reshape(-1))
        return self._with(picked)

    def narrow(self, start: int, length: int) -> Self:
        """Returns rows start, ..., start + length - 1 as views (whole groups; pairs renumbered)."""
        parts: dict[str, Any] = {
            name: tensor.narrow(0, start, length) for name, tensor in self._tensors().items()
        }
        return self._with(parts | self._aside(start, length))

    def _aside(self, start: int, length: int) -> dict[str, Any]:
        """What goes with rows start, ... that is no row of a tensor: numbers of groups, pairs."""
        found: dict[str, Any] = {"group": self.group[:length]}
        if self.pairs is not None:
            first = self.pairs[:, 0]
            found["pairs"] = self.pairs[(first >= start) & (first < start + length)] - start
        if self.offline is not None:
            size, two = self.group_size, self.offline.group_size
            found["offline"] = self.offline.narrow(start // size * two, length // size * two)
        return found


class Minibatch(Batch):
    """The rows that a loss is given: a batch without the fields of `FOR_PREPARE`.

    Those describe what was collected, and what a loss needs of them is in the signal, where
    `Algorithm.prepare` has put it once for all gradient steps.
    """

    def __repr__(self) -> str:
        return f"Minibatch({', '.join(self._tensors())})"


class _ForPrepare:
    """Stands in `Minibatch` where a field of `Batch` is not: whoever reads it is told."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, batch: Minibatch | None, kind: type[Minibatch]) -> Tensor:
        raise PairBenchError(
            f"a loss cannot read batch.{self.name}, which is for prepare() alone: return what the "
            "loss needs of it in prepare()'s signal"
        )


for _name in FOR_PREPARE:
    setattr(Minibatch, _name, _ForPrepare(_name))


def pick(batch: Batch, rows: Tensor, size: int) -> Batch:
    """Returns the rows (N,) of a batch without pairs of any kind, as groups of `size`."""
    picked = {name: tensor[rows] for name, tensor in batch._tensors().items()}
    picked["group"] = torch.arange(len(rows) // size).repeat_interleave(size)
    return batch._with(picked)


def join(batches: Sequence[Batch]) -> Batch:
    """Returns the rows of all batches as one, groups renumbered."""
    if len(batches) == 1:
        return batches[0]
    rows, first = len(batches[0]), batches[0]
    joined: dict[str, Any] = {
        name: torch.cat([batch._tensors()[name] for batch in batches]) for name in first._tensors()
    }
    joined["group"] = torch.arange(first.n_groups * len(batches)).repeat_interleave(
        first.group_size
    )
    if first.pairs is not None:
        pairs = [batch.pairs for batch in batches if batch.pairs is not None]
        joined["pairs"] = torch.cat([rows * i + pair for i, pair in enumerate(pairs)])
    if first.offline is not None:
        joined["offline"] = join([batch.offline for batch in batches if batch.offline is not None])
    return first._with(joined)


def single_steps(batch: Batch, signal: Signal) -> tuple[Batch, Signal]:
    """Returns the real steps of all rows as rows of one step each, in row-major order.

    Only for batches whose `contexts` are (B, T, ...), for policies whose output at a step depends
    on that step's own context and response (`Policy.stepwise`), and for losses that treat steps
    alike.

    Raises:
        PairBenchError: the signal has something that is not one number a step.
    """
    keep = batch.mask.reshape(-1).nonzero().squeeze(1)

    def flat(tensor: Tensor) -> Tensor:
        return tensor.flatten(0, 1)[keep].unsqueeze(1)

    for name, tensor in signal.items():
        if tensor.shape[:2] != batch.mask.shape:
            raise PairBenchError(
                f"prepare()'s {name!r} has shape {tuple(tensor.shape)}: the method is trained on "
                f"single steps, so it must be {tuple(batch.mask.shape)}"
            )
    rows: dict[str, Any] = {
        name: flat(tensor) for name, tensor in batch._tensors().items() if name not in PER_ROW
    }
    rows |= dict.fromkeys((*PER_ROW, "offline"))
    rows["group"] = torch.arange(len(keep))
    return batch._with(rows), {name: flat(tensor) for name, tensor in signal.items()}


def minibatches(
    batch: Batch, signal: Signal, count: int, generator: np.random.Generator
) -> Iterator[tuple[Minibatch, Signal]]:
    """Yields `count` minibatches of whole groups in a fresh random order: one epoch.

    Groups left over when the number does not divide evenly go to the first minibatches. With more
    minibatches than groups, each group is a minibatch.
    """
    size, groups = batch.group_size, batch.n_groups
    count = min(count, groups)
    lengths = [(groups // count + (index < groups % count)) * size for index in range(count)]
    order = torch.from_numpy(generator.permutation(groups))
    rows = order if size == 1 else (order[:, None] * size + torch.arange(size)).reshape(-1)
    shuffled = batch.for_loss().select(rows)
    # one split per field, not one slice per field and minibatch: this is the hot path
    columns = {name: torch.split(tensor, lengths) for name, tensor in shuffled._tensors().items()}
    extras = {name: torch.split(tensor[rows], lengths) for name, tensor in signal.items()}
    start = 0
    for index, length in enumerate(lengths):
        part: dict[str, Any] = {name: parts[index] for name, parts in columns.items()}
        part |= shuffled._aside(start, length)
        yield shuffled._with(part), {name: parts[index] for name, parts in extras.items()}
        start += length
