"""A reward function of the user's own: found in a file, called as TRL calls it, and checked.

What it is given is what TRL 1.16's `GRPOTrainer._calculate_rewards` gives: lists of one length by
the names prompts, completions and completion_ids, each further column of the data by its own, and
trainer_state, log_extra and log_metric. One without `**columns` is given what it names, no more.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import math
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairbench.errors import PairBenchError
from pairbench.places import keep, kept
from pairbench.text import did_you_mean, error_line
from pairbench.training.sources import of_file, of_module

FORM = re.compile(r"(?P<place>[^=]+):(?P<name>[A-Za-z_]\w*)(?:=(?P<weight>.+))?")
"""How a function is written: my_rewards.py:correct, package.module:correct, and =0.5 after it."""

ASK = "write FILE.py:FUNCTION, and =0.5 after it for a weight"


class RewardFunction:
    """A function of a file or module, and what it counts for in a sum.

    Attributes:
        place: name of the file, or of the module.
        name: of the function.
        weight: what its rewards are multiplied by.

    Raises:
        PairBenchError: the text is not of `FORM`, or there is no such function.
    """

    def __init__(self, text: str) -> None:
        self.place, self.name, self.weight = parsed(text)
        self.title = f"{self.place}:{self.name}"
        module = _of_file(_file(self.place)) if self._in_a_file else _of_name(self.place)
        found = getattr(module, self.name, None)
        if not callable(found):
            known = [name for name, value in vars(module).items() if inspect.isfunction(value)]
            raise PairBenchError(
                f"{self.place} has no function {self.name!r}{did_you_mean(self.name, known)}"
            )
        self._function = found
        try:
            self._asks = list(inspect.signature(found).parameters.values())
        except (TypeError, ValueError):  # of what is written in C, say
            self._asks = [inspect.Parameter("all", inspect.Parameter.VAR_KEYWORD)]

    @property
    def _in_a_file(self) -> bool:
        return self.place.endswith(".py")

    @cached_property
    def sha256(self) -> str:
        """Of its file's code, and of what that imports from beside it; comments do not count."""
        return of_file(_file(self.place)) if self._in_a_file else of_module(self.place)

    def check_columns(self, columns: Sequence[str], data: str) -> None:
        """Checks that the data have the columns that the function cannot do without.

        Raises:
            PairBenchError: one is missing.
        """
        given = {*columns, *_GIVEN}
        for one in self._asks:
            needed = one.default is one.empty and one.kind in (
                one.POSITIONAL_OR_KEYWORD,
                one.KEYWORD_ONLY,
            )
            if needed and one.name not in given:
                raise PairBenchError(
                    f"{self.title} asks for {one.name!r}, and {data} has no such column"
                    f"{did_you_mean(one.name, columns)}"
                )

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        columns: Mapping[str, Sequence[Any]],
        ids: Sequence[Sequence[int]] | None = None,
        step: int = 0,
    ) -> NDArray[np.float64]:
        """Returns (N,) rewards of N completions, NaN where the function returned None.

        Args:
            prompts: as the data have them, text or messages.
            completions: text, or a list of one message where the prompt is messages.
            columns: the data's other columns, N values each.
            ids: the completions' token ids, where they are known.
            step: gradient steps so far.

        Raises:
            PairBenchError: it failed, or returned something else than a number or None for each.
        """
        state = SimpleNamespace(global_step=step)
        given: dict[str, Any] = {**columns, "prompts": list(prompts)}
        given |= {"completions": list(completions), "trainer_state": state}
        given |= {"log_extra": _nothing, "log_metric": _nothing}
        given |= {} if ids is None else {"completion_ids": [list(row) for row in ids]}
        if not any(one.kind is one.VAR_KEYWORD for one in self._asks):
            given = {one.name: given[one.name] for one in self._asks if one.name in given}
        try:
            with redirect_stdout(sys.stderr):
                found = self._function(**given)
                if inspect.isawaitable(found):
                    found = asyncio.run(_awaited(found))
        except Exception as error:  # it is anybody's code
            first = f", the first of them {_text(completions[0])!r:.40}" if completions else ""
            raise PairBenchError(
                f"the reward function {self.title} failed on {len(completions)} completions{first} "
                f"({error_line(error)}{self._line(error)}): mend it and run again"
            ) from error
        return self._numbers(found, completions)

    def _line(self, error: Exception) -> str:
        """Where in its file an error arose."""
        file = inspect.getsourcefile(inspect.unwrap(self._function)) or ""
        lines = [
            at.lineno for at in traceback.extract_tb(error.__traceback__) if at.filename == file
        ]
        return f", line {lines[-1]}" if lines else ""

    def _numbers(self, found: Any, completions: Sequence[Any]) -> NDArray[np.float64]:
        values = found.tolist() if hasattr(found, "tolist") else found
        if not isinstance(values, list | tuple):
            raise PairBenchError(
                f"the reward function {self.title} returned {_shown(values)}, which is no list: "
                f"have it return one number for each of the {len(completions)} completions"
            )
        if len(values) != len(completions):
            raise PairBenchError(
                f"the reward function {self.title} returned {len(values)} rewards for "
                f"{len(completions)} completions: have it return one for each"
            )
        numbers = np.empty(len(values))
        for at, value in enumerate(values):
            number = _number(value)
            if number is None or not (value is None or math.isfinite(number)):
                said = repr(_text(completions[at]))
                raise PairBenchError(
                    f"the reward function {self.title} returned {_shown(value)} for the "
                    f"completion {said:.60}: have it return a finite number, or None where it "
                    "does not apply"
                )
            numbers[at] = number
        return numbers


_GIVEN = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")


async def _awaited(found: Any) -> Any:
    return await found


def _nothing(*_: Any) -> None:
    """What log_extra and log_metric do here."""


def _number(value: Any) -> float | None:
    """A reward as a float, NaN for None; None where it is no number."""
    if value is None:
        return math.nan
    value = value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value
    return float(value) if isinstance(value, int | float) else None


def _text(completion: Any) -> str:
    return completion if isinstance(completion, str) else str(completion[0]["content"])


def _shown(value: Any) -> str:
    return f"{value!r:.60} ({type(value).__name__})" if value is not None else "None"


# Where a function is.


def parsed(text: str) -> tuple[str, str, float]:
    """Returns place, name and weight of a function as it is written.

    Raises:
        PairBenchError: it is written otherwise.
    """
    match = FORM.fullmatch(text.strip())
    if match is None:
        raise PairBenchError(f"the reward {text!r} cannot be read: {ASK}")
    try:
        weight = float(match["weight"] or 1)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise PairBenchError(f"the weight of the reward {text!r} is no number: {ASK}")
    return match["place"], match["name"], weight


def known_as(text: str) -> str:
    """Returns a function as it is recorded, by its file's name; keeps where the file is.

    Raises:
        PairBenchError: there is no such file, or another one of its name is in use.
    """
    place, name, weight = parsed(text)
    if place.endswith(".py"):
        file = _file(place)
        other = Path(kept(file.name) or file)
        if other != file and other.exists() and other.read_bytes() != file.read_bytes():
            raise PairBenchError(
                f"{other} and {file} have one name, by which rewards are known: rename one"
            )
        keep(file.name, str(file))
        place = file.name
    return f"{place}:{name}" + (f"={weight:g}" if weight != 1 else "")


def _file(place: str) -> Path:
    """The file of a path, or of the name of one that was kept."""
    path = Path(kept(place) or place).absolute()
    if not path.is_file():
        raise PairBenchError(
            f"there is no file {place} with a reward function: {ASK}, the file's path from here"
        )
    return path


loading: list[str] = []
"""Files that are being loaded for their functions."""


def _of_file(path: Path) -> ModuleType:
    about = path.stat()
    return _loaded(path, about.st_mtime_ns, about.st_size)


@cache
def _loaded(path: Path, changed: int, size: int) -> ModuleType:
    """The module of a file, which may import others that lie beside it."""
    of_file(path)  # says what is wrong with it before anything runs
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    loading.append(path.name)
    try:
        with _contained(path.name):
            spec.loader.exec_module(module)
    finally:
        loading.pop()
    return module


def _of_name(module: str) -> ModuleType:
    with _contained(module):
        return importlib.import_module(module)


@contextmanager
def _contained(place: str) -> Iterator[None]:
    """Code of the user's that is loaded, and may fail in any way."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except PairBenchError:
        raise
    except Exception as error:
        raise PairBenchError(
            f"{place} cannot be loaded for its reward function ({error_line(error)}): mend it"
        ) from error
