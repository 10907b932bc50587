"""Names of algorithms, tasks and engines, found without importing them.

What PairBench brings stands one to a file in `pairbench.algorithms` and `pairbench.tasks`, and the
file's name is the thing's: `soft-pair-grpo` is in soft_pair_grpo.py. An engine is the `engine.py`
of a folder of its name. What other packages bring is declared by the entry-point groups
"pairbench.algorithms", "pairbench.tasks" and "pairbench.engines". A module is imported when its
name is asked for, so that a plug-in which cannot be imported hurts nobody who does not use it.
"""

from __future__ import annotations

import importlib
import inspect
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pairbench.errors import PairBenchError
from pairbench.text import did_you_mean

if TYPE_CHECKING:
    from pairbench.algorithm import Method
    from pairbench.task import Task
    from pairbench.training.engine import Engine

Kind = Literal["algorithm", "task", "engine"]
A = TypeVar("A", bound="type[Method]")
T = TypeVar("T", bound="type[Task]")
E = TypeVar("E", bound="type[Engine]")

BUILT_IN = "built in"

OWN = "prompts"
"""The family of tasks that a name of a user's own is one of."""


def register_algorithm(name: str) -> Callable[[A], A]:
    """Gives an algorithm class its registered name."""
    return partial(_marked, name)


def register_task(name: str) -> Callable[[T], T]:
    """Gives a task class its registered name."""
    return partial(_marked, name)


def register_engine(name: str) -> Callable[[E], E]:
    """Gives an engine class its registered name."""
    return partial(_marked, name)


def _marked(name: str, cls: Any) -> Any:
    cls.name = name
    return cls


@dataclass(frozen=True)
class Entry:
    """One registered name, and what `listing` says of it.

    Attributes:
        target: "module:Class" of a plug-in, the module of what PairBench brings.
        origin: "built in", or the name of the distribution that brings it.
        summary: first line of the class docstring ("" until it is imported).
        source: the class's `source` attribute, likewise.
        departures: where an algorithm's presets depart from its paper, likewise.
        variants: the variants of a task, likewise.
        error: why it cannot be used, or None.
    """

    kind: Kind
    name: str
    target: str
    origin: str = BUILT_IN
    summary: str = ""
    source: str = ""
    departures: str = ""
    variants: tuple[str, ...] = ()
    error: str | None = None


@cache
def entries(kind: Kind) -> Mapping[str, Entry]:
    """Returns all names of one kind, sorted, without importing any module of theirs.

    A name that two packages bring is kept, with an error that names both.
    """
    found = {name: Entry(kind, name, module) for name, module in _built_in(kind)}
    for point in metadata.entry_points(group=f"pairbench.{kind}s"):
        origin = point.dist.name if point.dist else "an unknown package"
        entry = Entry(kind, point.name, point.value, origin)
        other = found.get(point.name)
        if other is not None and (other.origin, other.target) != (origin, point.value):
            owner = "PairBench itself" if other.origin == BUILT_IN else f"package {other.origin}"
            error = f"{kind} {point.name!r} is brought by both {owner} and package {origin}"
            entry = replace(other, error=error)
        found[point.name] = entry
    return dict(sorted(found.items()))


def _built_in(kind: Kind) -> Iterator[tuple[str, str]]:
    """Yields the names of one kind that PairBench brings, and their modules."""
    if kind == "engine":
        for path in Path(__file__).parent.glob("*/*/engine.py"):
            folder = path.parent
            yield (
                folder.name.replace("_", "-"),
                f"pairbench.{folder.parent.name}.{folder.name}.engine",
            )
        return
    package = f"pairbench.{kind}s"
    spec = find_spec(package)
    for module in iter_modules(spec.submodule_search_locations if spec else ()):
        yield module.name.replace("_", "-"), f"{package}.{module.name}"


def preview_of(kind: str) -> Callable[[Task], list[str]]:
    """Returns what tells of a task of a kind before its first run: `preview.py` of the kind's room.

    It returns sentences, and raises `PairBenchError` on what no run could do with.
    """
    if not (Path(__file__).parent / kind / "preview.py").is_file():
        return lambda task: []
    found: Callable[[Task], list[str]] = importlib.import_module(
        f"pairbench.{kind}.preview"
    ).preview
    return found


def listing(kind: Kind) -> list[Entry]:
    """Returns all entries as their classes describe themselves; this imports all of them."""
    return [_described(entry) for entry in entries(kind).values()]


def _described(entry: Entry) -> Entry:
    if entry.error is not None:
        return entry
    try:
        cls = _load(entry)
        with _contained(entry):
            return replace(
                entry,
                summary=(inspect.getdoc(cls) or "").partition("\n")[0],
                source=str(getattr(cls, "source", "")),
                departures=str(getattr(cls, "departures", "")),
                variants=tuple(map(str, getattr(cls, "variants", ()))),
            )
    except PairBenchError as error:
        return replace(entry, error=str(error))


def get_algorithm(name: str) -> type[Method]:
    """Returns the class, of whichever kind of `Method`, registered as `name`.

    Raises:
        PairBenchError: no such name (with the nearest ones), or its package cannot be imported.
    """
    from pairbench.algorithm import Method

    cls = load("algorithm", name)
    if not (isinstance(cls, type) and issubclass(cls, Method)):
        raise PairBenchError(f"algorithm {name!r} is {cls!r}, which is no Method of pairbench's")
    return cls


def get_task(name: str) -> type[Task]:
    """Returns the task class of "name", "name:what" or "name@variant".

    Of "name:what" the registered class `name` makes it, by its class method `of(what)`, which
    returns `specialised(cls, what)` or a class like it; the same at every call.

    Raises:
        PairBenchError: no such task or variant, or its package cannot be imported.
    """
    from pairbench.task import Task

    base, variant = split_task(name)
    family, colon, what = base.partition(":")
    cls = load("task", family)
    if not (isinstance(cls, type) and issubclass(cls, Task)):
        raise PairBenchError(f"task {family!r} is {cls!r}, which is no pairbench Task class")
    if colon:
        of: Callable[[str], type[Task]] | None = getattr(cls, "of", None)
        if of is None:
            raise PairBenchError(f"task {family!r} stands alone: leave out {colon + what!r}")
        cls = of(what)
    if variant is not None and cls.variant(variant) is None:
        raise PairBenchError(
            f"task {base!r} has no variant {variant!r}{did_you_mean(variant, cls.variants)}"
        )
    return cls


def specialised(cls: T, what: str, **facts: Any) -> T:
    """Returns a class of tasks for `name:what`, with facts (class attributes) of its own.

    Its source is that of `cls`.
    """
    facts |= {"name": f"{cls.name}:{what}", "__module__": cls.__module__, "__doc__": cls.__doc__}
    made: Any = type(cls)
    specialised: T = made(cls.__name__, (cls,), facts)
    return specialised


def family_of(task: str) -> str:
    """Returns the registered name in "name", "name:what" or "name@variant"."""
    return split_task(task)[0].partition(":")[0]


def split_task(name: str) -> tuple[str, str | None]:
    """Returns ("name", "variant") of "name@variant", or ("name", None)."""
    base, at, variant = name.partition("@")
    return base, variant if at else None


def load(kind: Kind, name: str) -> object:
    """Returns what is registered as `name`, imported.

    Raises:
        PairBenchError: no such name (with the nearest ones), or its package cannot be imported.
    """
    known = entries(kind)
    if name not in known:
        raise PairBenchError(f"there is no {kind} {name!r}{did_you_mean(name, known)}")
    entry = known[name]
    if entry.error is not None:
        raise PairBenchError(f"{entry.error}; uninstall one of them")
    return _load(entry)


def _load(entry: Entry) -> object:
    module, _, attribute = entry.target.partition(":")
    with _contained(entry):
        loaded: object = importlib.import_module(module)
        if entry.origin == BUILT_IN:
            return _named(entry, vars(loaded))
        for part in attribute.split("."):
            loaded = getattr(loaded, part)
    if getattr(loaded, "name", entry.name) != entry.name:
        raise PairBenchError(
            f"{entry.kind} {entry.name!r} ({entry.origin}) calls itself {loaded.name!r}: "  # type: ignore[attr-defined]
            "its entry point and its decorator must give the same name"
        )
    return loaded


@contextmanager
def _contained(entry: Entry) -> Iterator[None]:
    """Code of a plug-in, which may fail in any way and stops only itself; only Ctrl-C is Ctrl-C.

    What it prints goes to standard error, where it is in the way of no JSON.
    """
    pressed: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    ours = threading.current_thread() is threading.main_thread() and callable(before)

    def press(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        if callable(before):
            before(number, frame)

    if ours:
        signal.signal(signal.SIGINT, press)
    try:
        with redirect_stdout(sys.stderr):
            yield
    except PairBenchError:
        raise
    except BaseException as error:
        told_to_end = not isinstance(error, Exception) and type(error).__module__.startswith(
            "pairbench."
        )
        if pressed or told_to_end:
            raise
        reason = " ".join(str(error).split()) or "no message"
        if isinstance(error, ModuleNotFoundError) and entry.origin == BUILT_IN:
            reason += "; the package's extras bring it: pip install 'pairbench[language,reference]'"
        raise PairBenchError(
            f"{entry.kind} {entry.name!r} ({entry.origin}) cannot be imported: "
            f"{type(error).__name__}: {reason}"
        ) from error
    finally:
        if ours:
            signal.signal(signal.SIGINT, before)


def _named(entry: Entry, module: Mapping[str, object]) -> object:
    """Returns the class of a module of ours that is registered by the entry's name."""
    for found in module.values():
        if isinstance(found, type) and found.__dict__.get("name") == entry.name:
            return found
    raise PairBenchError(
        f"{entry.target} registers no {entry.kind} {entry.name!r}: a file's name is that of the "
        f"{entry.kind} in it"
    )
