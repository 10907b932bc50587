"""The source of what trains and scores, known by its content; docs/explanation/content.md.

Of code from elsewhere, all modules count that are imported from the class's and come with its
distribution, or with none.
Of PairBench's own, those definitions count that are reached by name from the class, through the
rooms that compute. What decides no number is left out: comments, docstrings, annotations, what an
error says, and the facts of a class that a run's settings hold already.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import invalidate_caches, metadata
from importlib.machinery import ModuleSpec
from pathlib import Path

import pairbench
from pairbench.algorithm import Method
from pairbench.errors import PairBenchError
from pairbench.results.read import source_of
from pairbench.task import Task
from pairbench.training.engine import Engine

MACHINE = ("pairbench.training.train", "train")
"""The module and name from which the source of the machine is reached."""

SILENT = frozenset(
    {"results", "statistics", "leaderboard", "experiments", "authoring", "papers", "cli", "errors"}
    | {"text", "registry", "space"}
    | {"training.provenance", "training.sources", "training.checkpoint"}
)
"""Rooms and modules of PairBench's that decide no number: they write, name, search and show."""

FACTS = frozenset(["kinds", "packages", "presets", "source", "spaces", "untuned", "variants"])
"""Attributes of classes that a run's settings hold already, or that are for people."""


def sources(*parts: type[Method] | type[Task] | type[Engine]) -> dict[str, str]:
    """Returns the SHA-256 (hex) of the machine's source and of each part's, by `source_of` name.

    A class whose module is no file, as in a session of Python, is left out.
    """
    found = {source_of("pairbench"): _digest([MACHINE])}
    for part in parts:
        if _file(part.__module__) is not None:
            found[source_of(part.name)] = _digest([(part.__module__, part.__name__)])
    return found


def of_file(path: Path) -> str:
    """Returns the SHA-256 (hex) of a file of the user's and of what it imports from beside it.

    Its folder is put first among the places that modules are imported from.

    Raises:
        PairBenchError: it is no Python, or Python knows another module by its name.
    """
    folder = str(path.parent)
    if sys.path[0] != folder:
        sys.path.insert(0, folder)
    invalidate_caches()
    _spec.cache_clear()
    _loose.cache_clear()
    known = path.stem in {*sys.stdlib_module_names, *metadata.packages_distributions()}
    if known or not path.stem.isidentifier() or _file(path.stem) != path:
        raise PairBenchError(
            f"{path.name} has the name of a module that Python knows, or of none: rename the file"
        )
    return of_module(path.stem)


def of_module(name: str) -> str:
    """Returns the SHA-256 (hex) of a module and of what it imports that comes with it.

    Raises:
        PairBenchError: there is none, or it is no Python.
    """
    try:
        if _file(name) is None:
            raise PairBenchError(f"there is no module {name} that can be imported here")
        return _digest([(name, "")])
    except SyntaxError as error:
        raise PairBenchError(
            f"{name}.py, line {error.lineno}, is no Python ({error.msg}): mend it"
        ) from error


def _digest(roots: Iterable[tuple[str, str]]) -> str:
    """The digest of all that is reached, whatever the places and the order of definitions."""
    return hashlib.sha256("".join(sorted(set(reached(roots).values()))).encode()).hexdigest()


def reached(roots: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Returns what is reached from (module, name) pairs, with the digest of its source.

    A whole module has the name "".
    """
    left, found = list(roots), dict[tuple[str, str], str]()
    ours = {top for module, _ in left for top in _together(module.split(".")[0])}
    while left:
        module, name = left.pop()
        top = module.split(".")[0]
        if _silent(module) if top == OURS else top not in ours and not _loose(top):
            continue
        if module == OURS:
            left += [(pairbench._HOME[name], name)] if name in pairbench._HOME else []
        elif name and _file(f"{module}.{name}"):
            left.append((f"{module}.{name}", ""))
        elif (file := _file(module)) is not None:
            read = _read(str(file), file.stat().st_mtime_ns, file.stat().st_size, module)
            if top != OURS:
                parent = module.rpartition(".")[0]
                left += [(parent, "")] if parent else []
                name = ""
            if (module, name) in found:
                continue
            if (unit := read.units.get(name)) is not None:
                found[module, name] = unit.digest
                left += unit.uses
                left += [(module, LOOSE)] if LOOSE in read.units and name else []
            left += read.imports.get(name, ())
    return found


OURS = "pairbench"

LOOSE = "*"
"""The name of what a module does without defining anything."""


@dataclass(frozen=True)
class _Unit:
    digest: str
    uses: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Module:
    """What a module defines, by name, the whole under ""; and what its names stand for."""

    units: Mapping[str, _Unit]
    imports: Mapping[str, tuple[tuple[str, str], ...]]


@cache
def _read(file: str, changed: int, size: int, module: str) -> _Module:
    """Reads a file; `changed` and `size` are there so that an edited one is read again."""
    data = Path(file).read_bytes()
    if not file.endswith(".py"):
        return _Module({"": _Unit(hashlib.sha256(data).hexdigest(), ())}, {})
    tree = ast.parse(data)
    imports = _imports(tree, module, Path(file).name == "__init__.py")
    defined: dict[str, list[ast.stmt]] = defaultdict(list)
    for statement in tree.body:
        if not isinstance(statement, ast.Import | ast.ImportFrom) and not _text(statement):
            for name in _defines(statement) or [LOOSE]:
                defined[name].append(statement)
    defined[""] = tree.body
    units = {}
    for name, statements in defined.items():
        named = {used for statement in statements for used in _names(statement)}
        text = "".join(map(_written, _counted(statements, tree)))
        text += "".join(sorted(_from_elsewhere(named, module, imports)))
        uses = {place for used in named for place in _places(used, module, defined, imports)}
        units[name] = _Unit(hashlib.sha256(text.encode()).hexdigest(), tuple(sorted(uses)))
    return _Module(units, imports)


def _defines(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
        return ["TYPE_CHECKING"]
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [node for target in targets for node in ast.walk(target)]
        return [node.id for node in names if isinstance(node, ast.Name)]
    return []


def _imports(
    tree: ast.Module, module: str, package: bool
) -> dict[str, tuple[tuple[str, str], ...]]:
    """What each imported name stands for, wherever in the module it is imported."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                place = alias.name if alias.asname else alias.name.split(".")[0]
                found[alias.asname or place].add((place, ""))
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")
            base = base[: len(base) - node.level + package] if node.level else []
            place = ".".join([*base, *(node.module.split(".") if node.module else [])])
            for alias in node.names:
                found[alias.asname or alias.name].add(
                    (place, "" if alias.name == "*" else alias.name)
                )
    return {name: tuple(sorted(places)) for name, places in found.items()}


def _names(node: ast.AST) -> Iterator[str]:
    """Every name that is used, an attribute of a name as "name.attribute"."""
    if isinstance(node, ast.Import | ast.ImportFrom):  # what is imported is run, used or not
        for alias in node.names:
            place = alias.name if isinstance(node, ast.Import) else node.module or ""
            if place.split(".")[0] != OURS or alias.name == "*":
                yield alias.asname or alias.name
    elif dotted := _dotted(node):
        yield dotted
    else:
        for child in _counted(ast.iter_child_nodes(node), node):
            yield from _names(child)


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def _places(
    used: str,
    module: str,
    defined: Mapping[str, object],
    imports: Mapping[str, tuple[tuple[str, str], ...]],
) -> Iterator[tuple[str, str]]:
    """Where a used name is defined: here, or where it is imported from."""
    first, *rest = used.split(".")
    if first in defined:
        yield module, first
    for place, name in imports.get(first, ()):
        at = f"{place}.{name}" if name else place
        if _file(at) is None:
            yield place, name
            continue
        after = list(rest)
        while after and _file(f"{at}.{after[0]}"):
            at = f"{at}.{after.pop(0)}"
        yield at, after[0] if after else ""


def _from_elsewhere(
    named: Iterable[str], module: str, imports: Mapping[str, tuple[tuple[str, str], ...]]
) -> set[str]:
    """What used names stand for that are imported from other distributions."""
    ours = _together(module.split(".")[0])
    return {
        f"{first}={place}.{name};"
        for first in {used.split(".")[0] for used in named}
        for place, name in imports.get(first, ())
        if place.split(".")[0] not in ours
    }


def _written(node: object) -> str:
    """A node as text that is the same for every version of Python: no place, nothing empty."""
    if isinstance(node, list):
        return f"[{','.join(map(_written, node))}]" if node else ""
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__}:{node.value!r}"
    if isinstance(node, ast.Import | ast.ImportFrom):  # said by where its names lead
        return ""
    if not isinstance(node, ast.AST):
        return "" if node is None else f"{node}"
    if isinstance(node, ast.Raise):
        node = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return f"Raise({_written(node)})"
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.JoinedStr):  # Python 3.12 puts empty texts between its parts
        fields["values"] = [p for p in node.values if getattr(p, "value", None) != ""]
    if not isinstance(node, ast.AnnAssign):  # a setting's annotation holds its bounds
        fields.pop("annotation", None)
    fields.pop("returns", None)
    if isinstance(node, ast.Call):
        fields["keywords"] = [word for word in node.keywords if word.arg != "description"]
    if isinstance(body := fields.get("body"), list):
        fields["body"] = list(_counted(body, node))
    texts = ((name, _written(value)) for name, value in fields.items())
    inside = ",".join(f"{name}={text}" for name, text in texts if text)
    return f"{type(node).__name__}({inside})"


def _counted(nodes: Iterable[ast.AST], parent: ast.AST) -> Iterator[ast.AST]:
    """The nodes that may decide a number: no text, and no fact of a registered class."""
    registered = isinstance(parent, ast.ClassDef) and any(
        "register_" in ast.dump(decorator) for decorator in parent.decorator_list
    )
    for node in nodes:
        if not (_text(node) or (registered and _fact(node))):
            yield node


def _text(node: ast.AST) -> bool:
    """Whether it is a string that stands alone: a docstring."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _fact(node: ast.AST) -> bool:
    """Whether it sets one of `FACTS`."""
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    return (
        isinstance(node, ast.Assign | ast.AnnAssign)
        and isinstance(target, ast.Name)
        and target.id in FACTS
    )


def _silent(module: str) -> bool:
    rest = module.partition(".")[2]
    return rest in SILENT or rest.split(".")[0] in SILENT


@cache
def _together(top: str) -> frozenset[str]:
    """The first names of all modules that come with those of one, this one among them."""
    if top == OURS:
        return frozenset({OURS})
    brought = metadata.packages_distributions()
    mine = set(brought.get(top, ()))
    return frozenset({OURS, top, *(name for name, by in brought.items() if mine & set(by))})


@cache
def _loose(top: str) -> bool:
    """Whether a module comes with no distribution, as a file beside a plug-in's."""
    file = None if top in sys.stdlib_module_names else _file(top)
    if file is None or {"site-packages", "dist-packages"} & set(file.parts):
        return False
    return top not in metadata.packages_distributions()


def _file(module: str) -> Path | None:
    """The file of a module, None where there is no such module or it is none on a disk."""
    found = _spec(module)
    place = Path(found.origin) if found and found.origin else None
    return place if place and place.is_file() else None


@cache
def _spec(module: str) -> ModuleSpec | None:
    """Where a module is; neither it nor what holds it is imported."""
    parent = module.rpartition(".")[0]
    within = _spec(parent) if parent else None
    path = within.submodule_search_locations if within else None
    if parent and path is None:
        return None
    for finder in sys.meta_path:
        if (found := getattr(finder, "find_spec", lambda *_: None)(module, path)) is not None:
            return found  # type: ignore[no-any-return]
    return None
