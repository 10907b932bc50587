"""Tasks of a user's own naming: what a name with a path stands for, and tasks with settings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pairbench.errors import PairBenchError
from pairbench.experiments.settings import parse_targeted
from pairbench.registry import OWN, entries, family_of, get_task, split_task


@dataclass(frozen=True)
class Chosen:
    """A task with settings, as `run` takes it in the place of a name.

    Attributes:
        task: its name.
        settings: that are not the defaults.
    """

    task: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Chosen({self.task!r}, {dict(self.settings)!r})"


def resolved(
    tasks: Sequence[str | Chosen], overrides: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Returns the registered names of tasks, and the texts of --set that speak of these.

    A name that nobody has registered and that is given a path is one of the family `OWN`.
    """
    names = [one.task if isinstance(one, Chosen) else one for one in tasks]
    texts = list(overrides)
    texts += [
        f"{one.task}.{key}={json.dumps(value)}"
        for one in tasks
        if isinstance(one, Chosen)
        for key, value in one.settings.items()
    ]
    known = entries("task")
    told = [parse_targeted(text)[:2] for text in texts]
    own = {
        target
        for name in names
        if family_of(name) not in known
        for target in (name, split_task(name)[0])
        if (target, "path") in told or (split_task(target)[0], "path") in told
    }
    return (
        [f"{OWN}:{name}" if name in own else name for name in names],
        [f"{OWN}:{text}" if told[at][0] in own else text for at, text in enumerate(texts)],
    )


def rewarded(
    tasks: Sequence[str], reward: Sequence[str], gold: str | None, overrides: Sequence[str]
) -> list[str]:
    """Returns the texts of --set that give tasks reward functions.

    Raises:
        PairBenchError: one takes none, or it is not said where its prompts are.
    """
    settings: dict[str, Any] = {"reward": list(reward)} if reward else {}
    settings |= {"gold": gold} if gold else {}
    if settings and not tasks:
        raise PairBenchError("--reward and --gold are for --tasks of your own: name one")
    names = list(dict.fromkeys(split_task(task)[0] for task in tasks)) if settings else []
    for name, found in zip(names, resolved(names, overrides)[0]):
        if family_of(found) not in entries("task"):
            raise PairBenchError(
                f"there is no task {name!r}: of prompts of your own say where they are, with "
                f"--set {name}.path=FILE"
            )
        if "reward" not in get_task(found).Config.model_fields:
            raise PairBenchError(f"{name} takes no functions: --reward is for prompts of your own")
    return [f"{n}.{key}={json.dumps(value)}" for n in names for key, value in settings.items()]
