"""Words for people: nothing in them drives a terminal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pairbench.cli.main import main
from pairbench.results.folder import Store
from pairbench.text import sober
from tests.support.records import record

DRIVING = "\x1b[31m\x07\x9b2J\u202etxt\r"


def test_lines_stay_and_what_drives_a_terminal_goes() -> None:
    assert sober("a\tb\nc\r\nd \u00e9") == "a\tb\nc\r\nd \u00e9"
    assert sober(f"a{DRIVING}b") == "a [31m  2J txt b"


@pytest.mark.parametrize(
    "command",
    ["show {one}", "show {one} --format json", "leaderboard", "leaderboard --format csv --task t",
     "leaderboard --format latex --task t", "leaderboard --format html --task t",
     "leaderboard --format markdown", "leaderboard --format json", "status", "show \x1bx",
     "compare a{driving} a{driving} --task t", "submit {one} --no-reproduce"],
)  # fmt: skip
def test_no_text_of_a_record_drives_a_terminal(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Click takes escapes out of what is no terminal, so here all is one."""
    row, paths = f"a{DRIVING}", []
    for seed in range(2):
        one = record(row, seed, algorithm="a", task="t", regime=row)
        one.provenance["cpu"] = row
        paths.append(Store(tmp_path).path(Store(tmp_path).write(one)))
    told: list[str] = []
    monkeypatch.setattr("click.echo", lambda text, **how: told.append(str(text)))
    arguments = [part.format(one=paths[0], driving=DRIVING) for part in command.split(" ")]
    with pytest.raises(SystemExit):
        main([*arguments, "--results", str(tmp_path)])
    assert told
    assert not any(letter in "".join(told) for letter in "\x1b\x07\x9b\u202e")


def test_verbs_print_in_one_way() -> None:
    root = Path(__file__).resolve().parents[1] / "pairbench" / "cli"
    for path in root.glob("*.py"):
        count = len(re.findall(r"click\.echo\(|\bprint\(", path.read_text(encoding="utf-8")))
        assert count == (path.name == "options.py"), path
