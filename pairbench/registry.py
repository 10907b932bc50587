"""Names of algorithms, tasks and engines, found without importing them.

What PairBench brings is found by reading the source of the files in `pairbench.algorithms` and
`pairbench.tasks`, and of each `engine.py`; what other packages bring, by the entry-point groups
"pairbench.algorithms", "pairbench.tasks" and "pairbench.engines". A module is imported when one of
its names is asked for, so listing what there is never loads torch, and a plug-in that cannot be
imported hurts nobody who does not use it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
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


def register_algorithm(name: str) -> Callable[[A], A]:
    """Gives an algorithm class its registered name."""
    return partial(_named, name)


def register_task(name: str) -> Callable[[T], T]:
    """Gives a task class its registered name."""
    return partial(_named, name)


def register_engine(name: str) -> Callable[[E], E]:
    """Gives an engine class its registered name."""
    return partial(_named, name)


def _named(name: str, cls: Any) -> Any:
    cls.name = name
    return cls


@dataclass(frozen=True)
class Entry:
    """One registered name, before anything is imported.

    Attributes:
        target: "module:Class".
        summary: first line of the class docstring ("" for a plug-in, until it is imported).
        source: the class's `source` attribute, likewise.
        variants: the variants of a task that its source file spells out.
        origin: "built in", or the name of the distribution that brings it.
        error: why it cannot be used, or None.
    """

    kind: Kind
    name: str
    target: str
    summary: str = ""
    source: str = ""
    variants: tuple[str, ...] = ()
    origin: str = BUILT_IN
    error: str | None = None


@cache
def entries(kind: Kind) -> Mapping[str, Entry]:
    """Returns all names of one kind, sorted, without importing any module of theirs.

    A name that two packages bring is kept, with an error that names both.
    """
    found = {entry.name: entry for entry in _built_in(kind)}
    for point in metadata.entry_points(group=f"pairbench.{kind}s"):
        origin = point.dist.name if point.dist else "an unknown package"
        entry = Entry(kind, point.name, point.value, origin=origin)
        other = found.get(point.name)
        if other is not None and (other.origin, other.target) != (origin, point.value):
            owner = "PairBench itself" if other.origin == BUILT_IN else f"package {other.origin}"
            error = f"{kind} {point.name!r} is brought by both {owner} and package {origin}"
            entry = Entry(kind, point.name, other.target, origin=other.origin, error=error)
        found[point.name] = entry
    return dict(sorted(found.items()))


def listing(kind: Kind) -> list[Entry]:
    """Returns all entries, those of other packages imported so that their state is the real one."""
    complete = []
    for entry in entries(kind).values():
        if entry.origin != BUILT_IN and entry.error is None:
            try:
                cls = _load(entry)
            except PairBenchError as error:
                entry = replace(entry, error=str(error))
            else:
                entry = replace(
                    entry,
                    summary=_first_line(inspect.getdoc(cls)),
                    source=str(getattr(cls, "source", "")),
                    variants=tuple(getattr(cls, "variants", ())),
                )
        complete.append(entry)
    return complete


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
    """Returns the task class of "name" or "name@variant".

    Raises:
        PairBenchError: no such task or variant, or its package cannot be imported.
    """
    from pairbench.task import Task

    base, variant = split_task(name)
    cls = load("task", base)
    if not (isinstance(cls, type) and issubclass(cls, Task)):
        raise PairBenchError(f"task {base!r} is {cls!r}, which is no pairbench Task class")
    if variant is not None and cls.variant(variant) is None:
        raise PairBenchError(
            f"task {base!r} has no variant {variant!r}{did_you_mean(variant, cls.variants)}"
        )
    return cls


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
    try:
        loaded: object = importlib.import_module(module)
        for part in attribute.split("."):
            loaded = getattr(loaded, part)
    # a plug-in may fail in any way; none of them is ours to crash on
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split()) or "no message"
        if isinstance(error, ModuleNotFoundError) and entry.origin == BUILT_IN:
            reason += "; the package's extras bring it: pip install 'pairbench[language,reference]'"
        raise PairBenchError(
            f"{entry.kind} {entry.name!r} ({entry.origin}) cannot be imported: "
            f"{type(error).__name__}: {reason}"
        ) from error
    if getattr(loaded, "name", entry.name) != entry.name:
        raise PairBenchError(
            f"{entry.kind} {entry.name!r} ({entry.origin}) calls itself {loaded.name!r}: "  # type: ignore[attr-defined]
            "its entry point and its decorator must give the same name"
        )
    return loaded


def _built_in(kind: Kind) -> list[Entry]:
    found: dict[str, Entry] = {}
    for home, path in _files(kind):
        source = path.read_text(encoding="utf-8")
        if f"register_{kind}" not in source:
            continue
        module = ast.parse(source, str(path))
        for node in module.body:
            if isinstance(node, ast.ClassDef) and (name := _registered(node, kind)) is not None:
                entry = _read(node, module, kind, name, home)
                if name in found:
                    both = f"{found[name].target} and {entry.target}"
                    entry = replace(entry, error=f"{kind} {name!r} is brought by both {both}")
                found[name] = entry
    return list(found.values())


def _files(kind: Kind) -> Iterator[tuple[str, Path]]:
    """Yields the modules of ours that may register a name of a kind, with their files."""
    if kind == "engine":
        root = Path(__file__).parent
        for path in sorted(root.rglob("engine.py")):
            yield ".".join(("pairbench", *path.relative_to(root).with_suffix("").parts)), path
        return
    package = f"pairbench.{kind}s"
    spec = find_spec(package)
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    for path in sorted(file for folder in folders for file in Path(folder).glob("*.py")):
        yield f"{package}.{path.stem}", path


def _registered(node: ast.ClassDef, kind: Kind) -> str | None:
    for decorator in node.decorator_list:
        if not isinstance(decorator, ast.Call) or not decorator.args:
            continue
        function, argument = decorator.func, decorator.args[0]
        called = (
            function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        )
        if called == f"register_{kind}" and isinstance(argument, ast.Constant):
            return str(argument.value)
    return None


def _read(node: ast.ClassDef, tree: ast.Module, kind: Kind, name: str, module: str) -> Entry:
    literals = _attributes(node, tree)
    source, variants = literals.get("source"), literals.get("variants")
    return Entry(
        kind,
        name,
        f"{module}:{node.name}",
        summary=_first_line(ast.get_docstring(node)),
        source=str(source.value) if isinstance(source, ast.Constant) else "",
        variants=tuple(
            str(key.value)
            for key in (variants.keys if isinstance(variants, ast.Dict) else ())
            if isinstance(key, ast.Constant)
        ),
    )


def _attributes(node: ast.ClassDef, tree: ast.Module) -> dict[str, ast.expr]:
    """Expressions assigned in a class and, before it, in its bases as far as they are ours."""
    found: dict[str, ast.expr] = {}
    for base in reversed(node.bases):
        if isinstance(base, ast.Name) and (parent := _find_class(base.id, tree)) is not None:
            found |= _attributes(*parent)
    for statement in node.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            assigned = isinstance(statement, ast.Assign)
            target = statement.targets[0] if assigned else statement.target
            if isinstance(target, ast.Name):
                found[target.id] = statement.value
    return found


def _find_class(name: str, tree: ast.Module) -> tuple[ast.ClassDef, ast.Module] | None:
    """The class that `name` means in a module: defined there, or imported from another of ours."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node, tree
        if (
            isinstance(node, ast.ImportFrom)
            and (node.module or "").startswith("pairbench.")
            and any(alias.name == name and alias.asname is None for alias in node.names)
        ):
            return _find_class(name, _parsed(str(node.module)))
    return None


@cache
def _parsed(module: str) -> ast.Module:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return ast.Module([], [])
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"), spec.origin)


def _first_line(text: str | None) -> str:
    return text.strip().splitlines()[0].strip() if text and text.strip() else ""
