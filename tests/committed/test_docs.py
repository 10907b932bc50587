"""The documentation's parts are what fills them, its snippets run, its links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from docs.generator import numbers, reference
from docs.generator.pages import Wrong, files, filled
from tests.support.documents import links, shown_commands, wrong_command

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
OTHERS = [ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md")]
HINT = "run python -m docs.generator"


def named(path: Path) -> str:
    """Returns a page's path in the repository, as a test's name."""
    return str(path.relative_to(ROOT))


def snippets(page: Path) -> str:
    """Returns the Python blocks of a page, one after another."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S))


@pytest.mark.parametrize("page", [p for p in files() if "<!--" in p.read_text()], ids=named)
def test_generated_parts_are_what_fills_them(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert filled(text, named(page)) == text, HINT


def test_a_changed_number_is_seen() -> None:
    text = "<!--board halfcheetah-v4--1M-steps-->\nIt ends at <!--iqm grpo-->1<!--/-->."
    assert filled(text) == text.replace(
        ">1<", f">{numbers.iqm('halfcheetah-v4--1M-steps', 'grpo')}<"
    )


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ("<!--above hard-pair-grpo grpo-->x<!--/-->", "is not above"),
        ("<!--undecided soft-pair-grpo grpo-->x<!--/-->", "decides"),
        ("<!--iqm grpoo-->x<!--/-->", "no row grpoo"),
        ("<!--iqm grpo-->x", "is followed by no"),
        ("\n<!--iqm grpo-->x<!--/-->", "begins a line"),
    ],
)
def test_what_the_numbers_do_not_bear_out_is_refused(part: str, why: str) -> None:
    with pytest.raises(Wrong, match=why):
        filled(f"<!--board halfcheetah-v4--1M-steps-->\nx {part}")


@pytest.mark.parametrize("page", [page for page in PAGES if snippets(page)], ids=named)
def test_snippets_run(page: Path, tmp_path: Path) -> None:
    """As a reader would run them: one file a page, in an empty folder."""
    script = tmp_path / "snippets.py"
    script.write_text(snippets(page))
    done = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=named)
def test_links_lead_to_files(page: Path) -> None:
    assert [t for t in links(page.read_text()) if not (page.parent / t).exists()] == []


def test_every_page_is_in_the_menu() -> None:
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    listed = re.findall(r"[\w/-]+\.md", str(menu))
    assert sorted(listed) == sorted(str(page.relative_to(ROOT / "docs")) for page in PAGES)


def commands() -> Iterator[tuple[str, str]]:
    """Yields each command that a page shows, with the page."""
    for page in [*PAGES, *OTHERS]:
        for command in shown_commands(page):
            yield named(page), command


def test_commands_parse() -> None:
    shown = list(commands())
    wrong = [(page, line, why) for page, line in shown if (why := wrong_command(line))]
    assert len(shown) > 50 and wrong == []


def test_a_command_that_is_none_is_seen() -> None:
    assert wrong_command("run quick --worker 2") is not None
    assert wrong_command("rum quick") is not None
    assert wrong_command("run --seed 3 SUITE") is not None


def test_every_command_and_setting_has_a_place_in_the_reference() -> None:
    """Complete by name, apart from the texts: `filled` cannot miss what it is never asked for."""
    from pairbench.cli.main import cli

    text = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    told = re.findall(r"^## `(.+)`$", text, re.M)
    assert told == [name for name, _ in reference.commands(cli)]
    text = (ROOT / "docs" / "reference" / "algorithms.md").read_text()
    assert set(re.findall(r"^## `(.+)`$", text, re.M)) == {e.name for e in reference.algorithms()}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="the extra docs is missing")
def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "PairTrainer" in (tmp_path / "site" / "reference" / "api" / "index.html").read_text()
