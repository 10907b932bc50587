"""Where standard output goes decides no exit status but its own: 0 for a reader that left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pairbench.cli.main import cli

VERBS = [[], ["--version"], ["list", "tasks"], *([verb, "--help"] for verb in sorted(cli.commands))]


def ended(
    arguments: list[str], cwd: Path, out: int, error: int = subprocess.PIPE
) -> tuple[int, str]:
    command = [sys.executable, "-m", "pairbench", *arguments]
    done = subprocess.run(command, stdout=out, stderr=error, cwd=cwd, timeout=600, check=False)
    return done.returncode, (done.stderr or b"").decode()


@pytest.mark.parametrize("arguments", VERBS, ids=" ".join)
def test_a_reader_that_leaves_is_no_error(arguments: list[str], tmp_path: Path) -> None:
    """As `| true` and `| head` do."""
    read, write = os.pipe()
    os.close(read)
    try:
        assert ended(arguments, tmp_path, write) == (0 if arguments else 2, "")
    finally:
        os.close(write)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("arguments", VERBS, ids=" ".join)
def test_a_full_disk_is_one_sentence(arguments: list[str], tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        status, told = ended(arguments, tmp_path, full)
        assert status == 2
        assert told.startswith("pairbench: standard output cannot be written (No space left")
        assert len(told.splitlines()) == 1
        if arguments == ["--version"]:
            assert ended(arguments, tmp_path, full, full) == (2, "")
    finally:
        os.close(full)


def test_a_run_whose_reader_leaves_ends_as_it_would_have(tmp_path: Path) -> None:
    """Its board is printed to nobody, and its pages are there."""
    asked = ["run", "--algorithms", "grpo", "--tasks", "preference-bandit", "--evaluations", "1",
             "--probes", "0", "--budget-gradient-steps", "2", "--results", "r"]  # fmt: skip
    read, write = os.pipe()
    os.close(read)
    try:
        status, told = ended(asked, tmp_path, write)
        assert status == 0 and "Traceback" not in told and list(tmp_path.rglob("*.html"))
    finally:
        os.close(write)
