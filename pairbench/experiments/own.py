"""Tasks of a user's own naming: what a name with a path stands for, and tasks with settings."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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


Reward = str | Callable[..., Any]
"""A reward function, or "FILE.py:FUNCTION"."""


def prompts(
    path: str | Path,
    *,
    reward: Reward | Sequence[Reward | tuple[Reward, float]],
    gold: Reward | None = None,
    name: str | None = None,
    **settings: Any,
) -> Chosen:
    """Returns prompts and reward functions of one's own, as `run(task=...)` takes them.

    Args:
        path: a .jsonl, .json, .csv or .parquet file, a folder saved by `datasets`, or owner/name on
            the hub.
        reward: a function called as TRL calls them, or several, each alone or with its weight.
        gold: one that ranks in their place, and trains nobody.
        name: what boards call the task; the file's name by default.
        settings: others of the task `prompts`, as completion_tokens=64.

    Raises:
        PairBenchError: a function stands in no file, where worker processes would find it.
    """
    from pairbench.language.rewards.function import loading

    if loading:
        raise PairBenchError(
            f"{loading[0]} is loaded for its reward function, and must not run anything then: put "
            'what runs under if __name__ == "__main__":'
        )
    several = reward if isinstance(reward, list | tuple) else [reward]
    each = [one if isinstance(one, tuple) else (one, 1.0) for one in several]
    settings |= {"reward": [f"{_place(one)}={weight:g}" for one, weight in each]}
    settings |= {} if gold is None else {"gold": _place(gold)}
    return Chosen(f"{OWN}:{name or Path(path).stem}", {"path": str(path), **settings})


def _place(function: Reward) -> str:
    """Where a function stands, for worker processes to find it there."""
    if isinstance(function, str):
        return function
    name = getattr(function, "__qualname__", "")
    try:
        file = Path(inspect.getsourcefile(function) or "")
    except TypeError:
        file = Path()
    if not name.isidentifier() or file.suffix != ".py" or not file.is_file():
        raise PairBenchError(
            f"the reward function {name or repr(function)} cannot go to worker processes: write "
            "it with def in a .py file, outside any other function, and import it from there"
        )
    return f"{file.absolute()}:{name}"


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
