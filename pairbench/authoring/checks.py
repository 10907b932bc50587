"""The contract of an algorithm, as tests that anyone can import: no test framework is needed.

`check(MyMethod)` puts a class through synthetic batches of every structure its presets meet
(ragged responses of five steps with and without exact divergences, single steps of an enumerable
policy; groups, pairs, steps or offline pairs, as its `needs` say) and through three short runs on
`preference-bandit`. What it finds is a list of `Finding`, one for each of `NAMES`.
"""

from __future__ import annotations

import inspect
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, get_args, get_type_hints

import numpy as np
import torch
from torch import Tensor

from pairbench.algorithm import (
    AlgorithmConfig,
    Method,
    Needs,
)
from pairbench.authoring.situations import (
    EXTREME,
    EXTREME_RESPONSE,
    WORDS,
    Broken,
    DoesNotApply,
    Situation,
    Subject,
    Table,
    finite,
    look_at,
    name_of,
    near,
    same_bits,
    slope,
    studied,
    words,
)
from pairbench.batch import Batch, Signal, minibatches
from pairbench.errors import PairBenchError
from pairbench.seeding import generator
from pairbench.space import check_space
from pairbench.training.steps import by_steps

STANDARD_ERRORS, LEAST_GAP = 3.0, 0.1
"""By which the runs on the bandit must beat the floor rows: standard errors, and reward.

Seeds differ so little there that the errors alone would let a method pass that hardly moves.
"""


DRAWS = 20
"""Settings drawn from each search space."""


MASKED = (
    "old_logp",
    "ref_logp",
    "step_reward",
    "value",
    "next_value",
    "old_dist",
    "ref_dist",
)
"""Fields of a batch that mean nothing where its mask is 0."""


class Finding(NamedTuple):
    """What one check says of an algorithm.

    Attributes:
        name: of the check, one of `NAMES`.
        passed: whether the algorithm keeps it; None where it does not apply.
        sentence: what was seen, or why it does not apply.
    """

    name: str
    passed: bool | None
    sentence: str


# The checks. Each takes a Subject and returns a sentence, or raises Broken or DoesNotApply.


def documents(subject: Subject) -> str:
    """It has a name, a docstring of its own and a source."""
    cls = subject.algorithm
    if not getattr(cls, "name", ""):
        raise Broken("the class has no name: decorate it with @register_algorithm('...')")
    if not (cls.__dict__.get("__doc__") or "").strip():
        raise Broken("the class has no docstring: say in a line what the method is")
    if not getattr(cls, "source", "").strip():
        raise Broken("the class has no source: name the paper and the equation, or the library")
    if "Config" in vars(cls):
        bare = [
            name
            for name, field in cls.Config.model_fields.items()
            if not field.description and name not in AlgorithmConfig.model_fields
        ]
        if bare:
            raise Broken(f"settings without a description: {', '.join(bare)}")
    return f"{cls.name}: {inspect.cleandoc(cls.__doc__ or '').splitlines()[0]}"


def settings(subject: Subject) -> str:
    """Defaults and presets are valid, survive JSON, and what they need can be had.

    So is whatever a search draws from the space around each preset.
    """
    cls = subject.algorithm
    hints = get_type_hints(Needs)
    configs = [("default settings", cls.Config(**subject.settings))]
    for name, preset in cls.presets.items():
        merged = {**cls.presets.get(name.partition("@")[0], {}), **preset, **subject.settings}
        configs.append((f"the {name} preset", cls.Config(**merged)))
    for label, config in configs:
        if not isinstance(config, AlgorithmConfig):
            raise Broken("its Config is no pairbench.algorithm.AlgorithmConfig")
        back = cls.Config(**json.loads(json.dumps(config.model_dump(mode="json"), allow_nan=False)))
        if back != config:
            raise Broken(f"with {label}, the settings are others after a way through JSON")
        try:
            cls.Config(**{**config.model_dump(), "no_such_setting": 1})
        except ValueError:
            pass
        else:
            raise Broken("its Config takes settings that it does not have: forbid extra ones")
        needs = cls(config).needs
        for name in ("data", "feedback", "queries"):
            allowed = get_args(hints[name])
            if getattr(needs, name) not in allowed:
                raise Broken(
                    f"with {label}, needs.{name} is {getattr(needs, name)!r}, none of "
                    f"{', '.join(allowed)}"
                )
        asks = needs.feedback == "comparisons" or needs.data in ("pairs", "groups+pairs")
        if asks and not needs.offline and needs.queries == "none":
            raise Broken(f"with {label}, it needs pairs but says by no queries which to compare")
        if needs.offline and needs.data not in ("pairs", "groups+pairs"):
            raise Broken(f"with {label}, it needs offline {needs.data}: only pairs can be offline")
        if needs.components and needs.feedback != "scores":
            raise Broken(f"with {label}, it needs components of {needs.feedback}: say scores")
    searched = sum(_searches(cls, name) for name in cls.presets)
    drawn = f"; {DRAWS} draws from the spaces of {searched} are valid" if searched else ""
    return f"defaults and {len(configs) - 1} presets are valid, and the same after JSON{drawn}"


def _searches(cls: type[Method], preset: str) -> bool:
    """Looks at the search space around a preset; returns whether there is one."""
    kind, _, variant = preset.partition("@")
    space = cls.space(kind, variant)
    settings = {**cls.presets.get(kind, {}), **cls.presets[preset]}
    try:
        check_space(cls, space, cls.Config(**settings).model_dump(mode="json"))
    except PairBenchError as error:
        raise Broken(f"with the {preset} preset, {error}") from error
    draw = generator(0, "contract:space")
    for _ in range(DRAWS):
        drawn = {key: values.draw(draw) for key, values in space.items()}
        try:
            cls.Config(**{**settings, **drawn})
        except ValueError as error:
            raise Broken(f"the space of {preset} gives {drawn}: {words(error)}") from error
    return bool(space)


def signal(subject: Subject) -> str:
    """`prepare` gives tensors by name, one row per response, without a gradient."""

    def look(situation: Situation) -> None:
        batch, _ = situation.world()
        algorithm = situation.fresh()
        with torch.no_grad():
            batch = algorithm.select(batch)
            if not isinstance(batch, Batch):
                raise Broken("select() must return a Batch")
            found = algorithm.prepare(batch.check(), 0.25, 3)
        if not isinstance(found, Mapping):
            raise Broken("prepare() must return a mapping of names to tensors")
        for name, tensor in found.items():
            if not isinstance(tensor, Tensor):
                raise Broken(f"prepare()'s {name!r} is a {type(tensor).__name__}, no tensor")
            if tensor.ndim == 0 or len(tensor) != len(batch):
                raise Broken(
                    f"prepare()'s {name!r} has shape {tuple(tensor.shape)}: its first axis must be "
                    f"the batch's {len(batch)} rows"
                )
            if situation.needs.data == "steps" and tensor.shape[:2] != batch.mask.shape:
                raise Broken(
                    f"prepare()'s {name!r} has shape {tuple(tensor.shape)}: a method that needs "
                    f"steps is trained on single ones, so it must be {tuple(batch.mask.shape)}"
                )
            if tensor.requires_grad:
                raise Broken(f"prepare()'s {name!r} carries a gradient")

    return subject.everywhere(look, "tensors with a row per response")


def gradient(subject: Subject) -> str:
    """The loss is a finite scalar whose gradient reaches the policy at real steps."""

    def look(situation: Situation) -> None:
        for moved in (0.0, 0.2):
            batch, table = situation.world(moved=moved)
            for progress, iteration in ((0.0, 0), (0.25, 3), (0.99, 100_000)):
                seen = look_at(situation, batch, table, None, progress, iteration)
                finite(seen)
                for name, value in seen.loss.diagnostics.items():
                    if not isinstance(value, Tensor) or value.ndim or value.requires_grad:
                        raise Broken(f"diagnostic {name!r} must be a detached scalar tensor")
                if iteration == 3 and not bool(seen.gradients[0].any()):
                    raise Broken("no step of the policy gets a gradient")
                if iteration == 3 and len(seen.gradients) > 1 and not bool(seen.gradients[1].any()):
                    raise Broken("it needs a critic, but the loss has no gradient in its values")

    return subject.everywhere(look, "finite, and its gradient reaches the policy")


def padding(subject: Subject) -> str:
    """What stands at masked steps changes no bit, and gets no gradient."""

    def look(situation: Situation) -> bool | None:
        if situation.steps == 1:
            return False
        batch, table = situation.world()
        draw = generator(1, "contract:padding")
        other, idle = _padded(batch, draw)
        if batch.offline is not None:
            beside, more = _padded(batch.offline, draw)
            other, idle = replace(other, offline=beside), torch.cat([idle, more])
        logits = table.logits.detach().clone()
        logits[idle] += torch.from_numpy(3.0 * draw.normal(size=(len(idle), WORDS)))
        values = None if table.values is None else table.values.detach().clone()
        if values is not None:
            values[idle] += 3.0
        moved = Table(logits, values, table.exact, table.stepwise)
        before, after = look_at(situation, batch, table), look_at(situation, other.check(), moved)
        for leaf in before.gradients:
            if bool(leaf[idle].any()):
                raise Broken("masked steps get a gradient")
        same_bits(before, after, "when only what stands at masked steps changes")
        return None

    return subject.everywhere(look, "what stands at masked steps changes no bit")


def _padded(batch: Batch, draw: np.random.Generator) -> tuple[Batch, Tensor]:
    """Returns a batch with other values at its masked steps, and the states that stand there."""
    unreal = batch.mask == 0

    def noise(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        extra = torch.from_numpy(3.0 * draw.normal(size=tuple(tensor.shape)))
        where = unreal if tensor.ndim == 2 else unreal.unsqueeze(2)
        return torch.where(where, tensor + extra.to(tensor.dtype), tensor)

    changed: dict[str, Any] = {name: noise(getattr(batch, name)) for name in MASKED}
    changed["responses"] = torch.where(unreal, (batch.responses + 3) % WORDS, batch.responses)
    return replace(batch, **changed), batch.contexts[unreal]


def _shuffled(subject: Subject, members: bool) -> str:
    what = "responses of each group" if members else "groups"

    def look(situation: Situation) -> bool | None:
        batch, table = situation.world()
        size = batch.group_size
        if members and size == 1:
            return False
        if members and situation.algorithm.ordered:
            name = name_of(situation.algorithm)
            raise DoesNotApply(f"{name} says that the order of a group's responses is part of it")
        draw = generator(2, "contract:order")
        order = draw.permutation(batch.n_groups) if not members else np.arange(batch.n_groups)
        rows = order[:, None] * size + np.arange(size)
        if members:
            rows = draw.permuted(rows, axis=1)
        other = batch.select(torch.from_numpy(rows.reshape(-1)))
        before, after = look_at(situation, batch, table), look_at(situation, other, table)
        near(before, after, 1e-9, f"when the {what} are in another order")
        return None

    return subject.everywhere(look, f"the same with the {what} in another order")


def repeat(subject: Subject) -> str:
    """The same call gives the same bits, from the same instance and from a new one."""

    def look(situation: Situation) -> None:
        batch, table = situation.world()
        algorithm = situation.fresh()
        first = look_at(situation, batch, table, algorithm)
        same_bits(first, look_at(situation, batch, table, algorithm), "when it is called again")
        same_bits(first, look_at(situation, batch, table), "in a new instance")

    return subject.everywhere(look, "the same bits from the same call")


def random_state(subject: Subject) -> str:
    """It draws from no global random generator and seeds none."""

    def look(situation: Situation) -> None:
        batch, table = situation.world()
        with _known_state() as changed:
            look_at(situation, batch, table)
            if names := changed():
                raise Broken(f"it draws from, or seeds, the global generator of {names}")

    return subject.everywhere(look, "the generators of torch, numpy and random are left alone")


@contextmanager
def _known_state() -> Iterator[Callable[[], str]]:
    """Puts the global generators into a known state; yields what asks whose has changed."""
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 (looked at)
    torch.manual_seed(7_919)
    np.random.seed(7_919)  # noqa: NPY002 (put back below)
    random.seed(7_919)

    def state() -> dict[str, str]:
        _, keys, *rest = np.random.get_state()  # noqa: NPY002 (looked at)
        return {
            "torch": torch.get_rng_state().numpy().tobytes().hex(),
            "numpy": f"{np.asarray(keys).tobytes().hex()} {rest}",
            "random": repr(random.getstate()),
        }

    before = state()
    try:
        yield lambda: " and ".join(name for name, text in state().items() if text != before[name])
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002 (put back)
        random.setstate(kept[2])


def mutation(subject: Subject) -> str:
    """Neither the batch nor the signal is written to."""

    def look(situation: Situation) -> None:
        batch, table = situation.world()
        algorithm = situation.fresh()
        before = _copies(batch, {})
        with torch.no_grad():
            algorithm.prepare(algorithm.select(batch), 0.25, 3)
        _unchanged(before, _copies(batch, {}), "prepare()")
        lean, found = studied(situation, algorithm, batch, 0.25, 3)
        before = _copies(lean, found)
        loss = algorithm.loss(table.view(lean), lean, found)
        _unchanged(before, _copies(lean, found), "loss()")
        slope(loss, table)
        _unchanged(before, _copies(lean, found), "the loss's backward()")

    return subject.everywhere(look, "batch and signal are as they were")


def _copies(batch: Batch, found: Signal) -> dict[str, Tensor]:
    named = {
        f"batch.{name}": tensor
        for name, tensor in vars(batch).items()
        if isinstance(tensor, Tensor)
    }
    if batch.offline is not None:
        named |= {f"offline {name}": tensor for name, tensor in _copies(batch.offline, {}).items()}
    named |= {f"signal[{name!r}]": tensor for name, tensor in found.items()}
    return {name: tensor.detach().clone() for name, tensor in named.items()}


def _unchanged(before: Mapping[str, Tensor], after: Mapping[str, Tensor], who: str) -> None:
    for name, tensor in before.items():
        if not torch.equal(tensor, after[name]):
            raise Broken(f"{who} writes to {name}")


def precision(subject: Subject) -> str:
    """float32 gives what float64 gives, in float32."""

    def look(situation: Situation) -> None:
        seen = {}
        for dtype in (torch.float64, torch.float32):
            seen[dtype] = look_at(situation, *situation.world(dtype=dtype))
            if (got := seen[dtype].loss.value.dtype) != dtype:
                raise Broken(f"the loss of a batch of {_short(dtype)} is {_short(got)}")
        near(seen[torch.float64], seen[torch.float32], 1e-3, "from float64 to float32")

    return subject.everywhere(look, "float32 agrees with float64 within a thousandth")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def ties(subject: Subject) -> str:
    """An oracle without a preference gives a finite loss that can still be differentiated."""

    def look(situation: Situation) -> None:
        for dtype in (torch.float64, torch.float32):
            for moved in (0.0, 0.2):
                finite(look_at(situation, *situation.world(dtype=dtype, moved=moved, tied=True)))

    return subject.everywhere(look, "finite where the oracle has no preference")


def extremes(subject: Subject) -> str:
    """Policies that disagree by `EXTREME` nats a step give a finite loss and gradient."""

    def look(situation: Situation) -> None:
        finite(look_at(situation, *situation.world(dtype=torch.float32, extreme=True)))

    return subject.everywhere(
        look, f"finite at log-ratios of up to {EXTREME:g} nats a step, {EXTREME_RESPONSE:g} in all"
    )


def empty_rows(subject: Subject) -> str:
    """Rows without a real step count for nothing: finite, and a batch of them has no gradient."""

    def look(situation: Situation) -> bool | None:
        if situation.steps == 1:
            return False
        for every in (False, True):
            batch, table = situation.world(dtype=torch.float32)
            batch, idle = _emptied(batch, every)
            if every and by_steps(situation.needs, situation.stepwise):
                continue  # then no row is left to be looked at
            seen = look_at(situation, batch.check(), table)
            finite(seen)
            if any(bool(leaf[idle].any()) for leaf in seen.gradients):
                raise Broken("rows without a real step get a gradient")
            algorithm = situation.fresh()
            lean, found = studied(situation, algorithm, batch, 0.25, 3)
            stream = generator(4, "contract:empty")
            for part, rows in minibatches(lean, found, lean.n_groups, stream):
                finite(slope(algorithm.loss(table.view(part), part, rows), table))
        return None

    return subject.everywhere(look, "finite, and without a gradient where no step is real")


def _emptied(batch: Batch, every: bool) -> tuple[Batch, Tensor]:
    """Returns a batch in which whole rows are masked, and the states that stand in these."""
    rows = torch.arange(len(batch))
    gone = (rows % 3 == 0) | (batch.group == 1) | every
    other = replace(batch, mask=batch.mask.masked_fill(gone.unsqueeze(1), 0.0))
    idle = batch.contexts[gone].reshape(-1)
    if batch.offline is not None:
        beside, more = _emptied(batch.offline, every)
        other, idle = replace(other, offline=beside), torch.cat([idle, more])
    return other, idle


def minibatch(subject: Subject) -> str:
    """The loss works on minibatches of whole groups, down to a single group."""

    def look(situation: Situation) -> None:
        for tied in (False, True):
            batch, table = situation.world(dtype=torch.float32, tied=tied)
            algorithm = situation.fresh()
            lean, found = studied(situation, algorithm, batch, 0.25, 3)
            for count in (2, lean.n_groups):
                stream = generator(3, "contract:minibatch")
                for part, rows in minibatches(lean, found, count, stream):
                    finite(slope(algorithm.loss(table.view(part), part, rows), table))

    return subject.everywhere(look, "finite on every minibatch, down to a single group")


def bandit(subject: Subject) -> str:
    """Runs on `preference-bandit` in seconds and ends above the `random` row."""
    return _beats(subject, "random")


def learning(subject: Subject) -> str:
    """Ends above the policy that it began with: doing nothing is above random there."""
    return _beats(subject, "reference")


def _beats(subject: Subject, floor: str) -> str:
    rewards, floors, seconds = subject.bandit
    mean, error = float(np.mean(rewards)), float(np.std(rewards, ddof=1)) / math.sqrt(len(rewards))
    gap = mean - floors[floor]
    said = (
        f"{len(rewards)} runs on preference-bandit end at {mean:.3f} (standard error {error:.3f}), "
        f"the {floor} row at {floors[floor]:.3f}"
    )
    if not (gap > STANDARD_ERRORS * error and gap > LEAST_GAP):
        raise Broken(f"{said}: not {STANDARD_ERRORS:g} standard errors and {LEAST_GAP:g} above it")
    return f"{said}; {seconds:.0f} s"


CHECKS: Mapping[str, Callable[[Subject], str]] = {
    "documents": documents,
    "settings": settings,
    "signal": signal,
    "gradient": gradient,
    "padding": padding,
    "group-order": partial(_shuffled, members=False),
    "member-order": partial(_shuffled, members=True),
    "repeat": repeat,
    "random-state": random_state,
    "mutation": mutation,
    "precision": precision,
    "ties": ties,
    "extremes": extremes,
    "empty-rows": empty_rows,
    "minibatch": minibatch,
    "bandit": bandit,
    "learning": learning,
}

NAMES = tuple(CHECKS)
"""The checks, in the order in which they are made."""


def check(
    algorithm: type[Method],
    *,
    only: Sequence[str] = NAMES,
    settings: Mapping[str, Any] | None = None,
) -> list[Finding]:
    """Returns what each check says of an algorithm class, registered or not.

    Args:
        algorithm: the class.
        only: names of the checks to make.
        settings: replace defaults and presets alike, to check a row that is not the default.

    Raises:
        PairBenchError: `only` names no check.
    """
    for name in only:
        if name not in CHECKS:
            raise PairBenchError(f"there is no check {name!r}; known are {', '.join(NAMES)}")
    subject = Subject(algorithm, settings or {})
    return [_finding(subject, name) for name in NAMES if name in only]


def _finding(subject: Subject, name: str) -> Finding:
    try:
        return Finding(name, True, CHECKS[name](subject))
    except Broken as error:
        return Finding(name, False, str(error))
    except DoesNotApply as error:
        return Finding(name, None, str(error))
    except Exception as error:  # noqa: BLE001 (whatever a class under test raises is a finding)
        return Finding(name, False, f"it raises {words(error)}")
