"""The documentation's snippets run, its links lead somewhere, and its site builds."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def snippets(page: Path) -> str:
    """Returns the Python blocks of a page, one after another."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S))


@pytest.mark.parametrize("page", [page for page in PAGES if snippets(page)], ids=lambda p: p.name)
def test_snippets_run(page: Path, tmp_path: Path) -> None:
    """As a reader would run them: one file a page, in an empty folder."""
    script = tmp_path / "snippets.py"
    script.write_text(snippets(page))
    done = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [t for t in targets if not (page.parent / t).exists()] == []


def test_every_page_is_in_the_menu() -> None:
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    listed = re.findall(r"[\w/-]+\.md", str(menu))
    assert sorted(listed) == [str(page.relative_to(ROOT / "docs")) for page in PAGES]


def test_commands_exist() -> None:
    """Every `pairbench VERB` that a page names is one."""
    from pairbench.cli.main import cli

    text = "".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"(?:`|^|\$ |bin/)pairbench ([a-z]+)", text, re.M))
    assert named and named <= set(cli.commands)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="the extra docs is missing")
def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "PairTrainer" in (tmp_path / "site" / "api" / "index.html").read_text()
