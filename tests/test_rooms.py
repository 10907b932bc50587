"""The house's plan: who may import whom, imports inside functions included, and who names whom."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from pairbench.registry import listing

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {"": ROOT / "pairbench", "algorithms.": ROOT / "algorithms", "tasks.": ROOT / "tasks"}

FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "text", "seeding", "evaluation", "places", "secrets"}),  # ground
    frozenset(
        {
            "algorithm", "batch", "objectives", "pairwise", "policy", "registry", "shared", "space",
            "tabular", "task", "teacher",
        }
    ),  # words
    frozenset({"results", "statistics"}),  # evidence
    frozenset({"leaderboard"}),
    frozenset({"training", "control", "language"}),  # what runs
    frozenset({"algorithms", "tasks"}),  # content
    frozenset({"experiments", "authoring"}),  # uses
    frozenset({"papers"}),
    frozenset({"cli"}),
)  # fmt: skip
"""Rooms from the ground up: a module imports from its own floor and from those below."""

QUIET = frozenset({"results", "statistics", "leaderboard"})
"""Rooms that import nothing that runs."""

RUNS = frozenset({"training", "control", "language", "algorithms", "tasks", "experiments"})

CONTENT = frozenset({"algorithms", "tasks", "language", "papers", "results.version1"})
"""What may name methods, tasks and the libraries that train them: rooms, and the table of what
records of the first version leave unsaid."""

LIBRARIES = ("trl", "stable_baselines3", "stable-baselines3", "sb3")

WORDS = {"random", "reference", "optimum", "prompts"}
"""What is called what it is: a random, a reference and a best policy, and prompts of one's own."""

NAMED = {
    ("authoring.checks", "preference-bandit"): "where a method must learn before it is believed",
    ("authoring.situations", "preference-bandit"): "the same",
    ("objectives", "grpo"): "TRL's name of a loss that several methods share",
    **{("objectives", name): "the same" for name in ("bnpo", "cispo", "dapo", "luspo", "sapo")},
    ("objectives", "ipo"): "a form of the loss, by the paper's name",
    ("pairwise", "sft"): "the initial policy as a reference",
    ("cli.runs", "grpo"): "an example in a help text",
    ("experiments.settings", "grpo"): "an example in an error",
}
"""(module of the core, name) that it says all the same, and why."""

EXCEPTIONS = {
    ("algorithm", "training.run"): "the type alone of what a library's own trainer is given",
    ("registry", "training.engine"): "the type alone of what it finds by name",
}
"""(importer, imported) that break a rule, and why."""

ACROSS = {
    "algorithms/test_group_rows.py": "rows that are GRPO but for a term",
    "algorithms/test_ppo_parity.py": "beside Stable-Baselines3",
    "algorithms/test_presets.py": "every method's settings for every kind of task",
    "language/trl/test_engine.py": "whole runs in TRL's loop",
    "language/trl/test_pair_parity.py": "losses of pairs beside TRL's own",
    "language/trl/test_parity.py": "losses beside TRL's own",
    "leaderboard/test_measures.py": "what tasks declare, from records to boards",
    "papers/claims/test_claims_cli.py": "the command",
    "papers/claims/test_golden_claims.py": "numbers of all claims by hand",
    "papers/claims/test_verdicts.py": "verdicts of all claims",
    "results/test_imports.py": "what the room loads",
    "results/url/test_s3.py": "against a server",
    "statistics/test_coverage.py": "what all intervals cover",
    "statistics/test_finite.py": "what every function refuses",
    "tasks/test_control.py": "the files of all control tasks",
    "test_api.py": "the verbs at the root",
    "test_rooms.py": "the plan",
    "test_wheel.py": "the package as it is installed",
}
"""Tests of more than one module, and of what."""

ELSEWHERE = {"committed", "faults", "hostile", "performance", "support"}
"""Folders of tests that are named for what is tried rather than for a room."""


class Import(NamedTuple):
    """One import of a module of ours; `typing` if only the type checker sees it."""

    importer: str
    imported: str
    typing: bool


@cache
def modules() -> Mapping[str, Path]:
    """Every module, its name without "pairbench.", and its file."""
    found = {}
    for prefix, folder in SOURCES.items():
        for file in folder.rglob("*.py"):
            if "templates" not in file.parts:
                name = prefix + ".".join(file.relative_to(folder).with_suffix("").parts)
                found[name.removesuffix("__init__").removesuffix(".")] = file
    return found


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


def imports_of(name: str) -> Iterator[Import]:
    """Every import in a module, wherever it stands."""
    checked: set[int] = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            checked |= {id(inner) for part in node.body for inner in ast.walk(part)}
    for node in ast.walk(tree(name)):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        for target in targets:
            inside = target.removeprefix("pairbench").removeprefix(".")
            if target.split(".")[0] == "pairbench" and inside:
                known = inside if inside in modules() else inside.rpartition(".")[0]
                if known:
                    yield Import(name, known, id(node) in checked)


@cache
def imports() -> tuple[Import, ...]:
    return tuple(each for name in modules() for each in imports_of(name))


def room(name: str) -> str:
    return name.split(".")[0]


def floor(name: str) -> int:
    (found,) = (number for number, rooms in enumerate(FLOORS) if room(name) in rooms)
    return found


def told(found: set[Import]) -> list[str]:
    """What is found, but for the exceptions, as text."""
    return sorted(
        f"{importer} imports {imported}{' for its types' if typing else ''}"
        for importer, imported, typing in found
        if (importer, imported) not in EXCEPTIONS
    )


def test_every_room_has_a_floor() -> None:
    rooms = {room(name) for name in modules()} - {"", "__main__"}
    assert rooms == frozenset.union(*FLOORS)
    assert sum(map(len, FLOORS)) == len(rooms)


def test_imports_go_down() -> None:
    inside = {each for each in imports() if room(each.importer) not in ("", "__main__")}
    assert told({each for each in inside if floor(each.imported) > floor(each.importer)}) == []


def test_what_shows_imports_nothing_that_runs() -> None:
    inside = {each for each in imports() if room(each.importer) in QUIET}
    assert told({each for each in inside if room(each.imported) in RUNS}) == []


@pytest.mark.parametrize("name", ["statistics", "leaderboard"])
def test_what_shows_loads_no_torch(name: str) -> None:
    code = f"import sys, pairbench.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=600).returncode == 0


def test_papers_and_methods_are_imported_by_nobody() -> None:
    """Methods and tasks come through the registry, papers through the command line."""
    wrong = {
        each
        for each in imports()
        if room(each.imported) in ("papers", "algorithms", "tasks")
        and room(each.importer) != room(each.imported)
        and (room(each.imported), room(each.importer)) != ("papers", "cli")
    }
    assert told(wrong) == []


@pytest.mark.parametrize("by", [lambda name: name, room], ids=["modules", "rooms"])
def test_there_is_no_circle(by: type[str]) -> None:
    """Neither of modules nor of rooms, imports for types left out."""
    edges: dict[str, set[str]] = {}
    for each in imports():
        known = each.typing or (each.importer, each.imported) in EXCEPTIONS
        if not known and by(each.importer) != by(each.imported):
            edges.setdefault(by(each.importer), set()).add(by(each.imported))
    ends: set[str] | None = None
    while (
        ends != set()
    ):  # what nothing in it imports, or what imports nothing in it, is in no circle
        reached = frozenset().union(*edges.values())
        ends = {name for name in edges if not edges[name] & edges.keys() or name not in reached}
        edges = {name: to for name, to in edges.items() if name not in ends}
    assert {name: sorted(to & edges.keys()) for name, to in edges.items()} == {}


def test_the_core_names_no_method_task_or_library() -> None:
    """In code; docstrings may give examples."""
    known = {entry.name for kind in ("algorithm", "task") for entry in listing(kind)} - WORDS
    words = re.compile(
        rf"(?<![\w-])({'|'.join(map(re.escape, [*known, *LIBRARIES]))})(?![\w-])", re.IGNORECASE
    )
    found = {
        (name, match[0])
        for name in modules()
        if CONTENT.isdisjoint({name, room(name)}) and name
        for text in spoken(name)
        for match in words.finditer(text)
    }
    assert sorted(f"{name} names {what}" for name, what in found - NAMED.keys()) == []


def spoken(name: str) -> Iterator[str]:
    """Every string but docstrings, every identifier and every imported module of a module."""
    documentation = {
        id(node.body[at].value)
        for node in ast.walk(tree(name))
        if isinstance(getattr(node, "body", None), list)
        for at in range(len(node.body))
        if isinstance(node.body[at], ast.Expr)
    }
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in documentation:
                yield node.value
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_tests_mirror_the_rooms() -> None:
    """A test file is named for a module or a folder and stands in its room, or is explained."""
    tests = ROOT / "tests"
    found, lost = set(), []
    for file in tests.rglob("test_*.py"):
        place = file.relative_to(tests)
        if place.parts[0] in ELSEWHERE or place.parts[0] == "plugin_package":
            continue
        inside = place.with_name(place.stem.removeprefix("test_"))
        top = ROOT if place.parts[0] in ("algorithms", "tasks") else ROOT / "pairbench"
        module, folder = top / inside.with_suffix(".py"), top / inside
        found.add(place.as_posix())
        if not (module.exists() or folder.is_dir() or inside.name == inside.parent.name):
            lost.append(place.as_posix())
    assert sorted(set(lost) - ACROSS.keys()) == []
    assert ACROSS.keys() <= found


def test_the_core_imports_no_word_from_the_root() -> None:
    """The root's words are for those who write methods and tasks: the core says where they are."""
    wrong = {
        f"{name} imports {alias.name} from pairbench"
        for name in modules()
        if room(name) not in {"algorithms", "tasks", ""}
        for node in ast.walk(tree(name))
        if isinstance(node, ast.ImportFrom) and node.module == "pairbench"
        for alias in node.names
        if alias.name not in modules() and alias.name != "__version__"
    }
    assert sorted(wrong) == []


def test_no_exception_outlives_its_cause() -> None:
    assert EXCEPTIONS.keys() <= {(each.importer, each.imported) for each in imports()}
