"""The README is short, and what it shows is what there is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from docs.generator.reference import algorithms, tasks
from tests.support.documents import links, shown_commands, wrong_command

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")


def test_it_is_short() -> None:
    assert len(TEXT.splitlines()) <= 150
    assert len(TEXT.encode()) <= 8192


def test_links_lead_to_files() -> None:
    assert [target for target in links(TEXT) if not (ROOT / target).exists()] == []


@pytest.mark.parametrize("command", shown_commands(README))
def test_commands_parse(command: str) -> None:
    assert wrong_command(command) is None


def test_extras_exist() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    found = [name for extra in re.findall(r"\.\[([a-z,]+)\]", TEXT) for name in extra.split(",")]
    assert found and set(found) <= set(known)


def test_every_method_and_task_is_named() -> None:
    names = {entry.name for entry in (*algorithms(), *tasks())}
    assert names <= set(re.findall(r"`([\w-]+)`", TEXT))


def test_there_is_one_test_command() -> None:
    """`.ci/run` reads it as the block after the mark."""
    assert len(re.findall(r"^<!-- test command -->\n```bash\n.+\n```$", TEXT, re.M)) == 1
