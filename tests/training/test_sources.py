"""Sources by content: what of the code is in a digest, and what is not."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from pairbench.algorithms.dpo import DPO
from pairbench.algorithms.grpo import GRPO
from pairbench.registry import get_algorithm, get_task
from pairbench.training import sources as module
from pairbench.training.engine import get_engine
from pairbench.training.sources import MACHINE, reached, sources
from tests.support.plug_in import edit, plug_in

OBJECTIVES = "pairbench.objectives"


def roots(cls: type) -> list[tuple[str, str]]:
    return [(cls.__module__, cls.__name__)]


def edited(text: str, monkeypatch: pytest.MonkeyPatch, cls: Any, tmp_path: Path) -> str:
    """The source of a class where `objectives` has this text."""
    file = tmp_path / "objectives.py"
    file.write_text(text)
    there = module._file
    with monkeypatch.context() as patch:
        patch.setattr(module, "_file", lambda name: file if name == OBJECTIVES else there(name))
        return sources(cls)[f"source of {cls.name}"]


def test_what_a_loss_reaches_counts_and_nothing_else_of_its_modules(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = module._file(OBJECTIVES)
    assert file is not None
    text, grpo = file.read_text(), sources(GRPO)["source of grpo"]
    anew = text + '\n\ndef unheard_of(x: float) -> float:\n    """New."""\n    return x\n'
    assert edited(anew, monkeypatch, GRPO, tmp_path) == grpo
    told = f"# a comment\n{text}".replace('"""Returns', '"""Gives')
    assert told.count("Gives") > 5 and edited(told, monkeypatch, GRPO, tmp_path) == grpo
    assert "ratio.clamp(" in text
    other = text.replace("ratio.clamp(", "ratio.abs().clamp(")
    assert edited(other, monkeypatch, GRPO, tmp_path) != grpo
    assert edited(other, monkeypatch, DPO, tmp_path) == sources(DPO)["source of dpo"]


def test_a_method_is_its_class_its_parents_and_what_they_use() -> None:
    found = set(reached(roots(get_algorithm("soft-pair-grpo"))))
    assert ("pairbench.algorithms.grpo", "GRPO") in found
    assert (OBJECTIVES, "clipped_surrogate") in found
    assert ("pairbench.algorithm", "Algorithm") in found
    assert not any("hard_pair" in place or "language" in place for place, _ in found)


def test_the_machine_is_what_trains_and_no_room_that_shows() -> None:
    found = set(reached([MACHINE]))
    assert ("pairbench.training.loop", "Loop") in found
    assert ("pairbench.training.optimiser", "Adam") in found
    assert not any(place.startswith("pairbench.results") for place, _ in found)
    assert not any(place.startswith("pairbench.algorithms") for place, _ in found)


def test_engines_and_tasks_have_a_source_of_their_own() -> None:
    engine, task = get_engine("trl"), get_task("toy-dialogue@tiny")
    assert engine is not None
    found = sources(GRPO, task, engine)
    assert list(found) == [
        "source of pairbench", "source of grpo", "source of toy-dialogue", "source of trl"
    ]  # fmt: skip
    assert len(set(found.values())) == 4
    language = {place for place, _ in reached(roots(task))}
    assert "pairbench.language.session" in language and OBJECTIVES not in language


def test_all_of_a_plug_ins_own_modules_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = plug_in(tmp_path, "sources-test", monkeypatch)
    cls = get_algorithm("sources-test")
    name = "source of sources-test"
    found = [sources(cls)[name]]
    assert (OBJECTIVES, "masked_mean") in reached(roots(cls))
    edit(package / "__init__.py", '"""Score times', '"""Scores times')
    assert sources(cls)[name] == found[0]
    (tmp_path / "sources_test_beside.py").write_text("SIGN = 1.0\n")  # of no distribution
    for file, old, new in (
        ("__init__.py", "Loss(-objectives", "Loss(objectives"),
        ("more.py", "LEVEL", "from sources_test_beside import SIGN\nLEVEL"),
        ("../sources_test_beside.py", "1.0", "-1.0"),
        ("more.py", "0.25", "0.5"),
        ("more.py", "LEVEL", "import math\nfrom torch import sin as f\nx = f\nLEVEL"),
        ("more.py", "sin as f", "cos as f"),
    ):
        edit(package / file, old, new)
        found.append(sources(cls)[name])
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("def f(x):\n    return x", 'def f(x: int) -> int:\n    "Doc."\n    return x  # c', True),
        ("raise ValueError('a')", "raise ValueError('b', 1) from error", True),
        ("raise ValueError('a')", "raise TypeError('a')", False),
        ("x = Field(1, description='a')", "x = Field(1, description='b')", True),
        ("x = Field(1, ge=0)", "x = Field(1, ge=1)", False),
        ("x: Annotated[int, 1] = 0", "x: Annotated[int, 2] = 0", False),
        ("x = 1", "x = 1.0", False),
        ("x = None", "x = ''", False),
        ("x = True", "x = 1", False),
        ("f(a, b)", "f(b, a)", False),
        ("@register_task\nclass A:\n kinds = 1", "@register_task\nclass A:\n kinds = 2", True),
        ("class A:\n    source = 'a'", "class A:\n    source = 'b'", False),
        ("def f():\n    source = 1", "def f():\n    source = 2", False),
        ("x = f'{a:g}b'", "x = f'{a:f}b'", False),
    ],
)  # fmt: skip
def test_what_decides_a_number_is_written_and_what_cannot_is_not(
    one: str, other: str, same: bool
) -> None:
    first, second = (
        "".join(map(module._written, module._counted(ast.parse(text).body, ast.parse(text))))
        for text in (one, other)
    )
    assert (first == second) is same


def test_an_empty_text_within_a_formatted_one_is_not_written() -> None:
    """Python 3.12 puts one behind a nested field; 3.11 and 3.13 do not."""
    tree = ast.parse("f'{a:<{width}}'")
    written = module._written(tree)
    (inner,) = [n for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) and len(n.values) == 2]
    inner.values.append(ast.Constant(""))
    assert module._written(tree) == written
