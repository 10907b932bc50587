"""Every reader of a stranger's bytes under a coverage-guided fuzzer (see fuzz.py)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["record", "suite", "pairs", "study", "signs", "checkpoint"])
def test_no_input_found_by_a_fuzzer_escapes(what: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    command = [sys.executable, "-m", "tests.hostile.fuzz", what]
    ran = subprocess.run(
        [*command, "-runs=20000", "-seed=1", f"-artifact_prefix={tmp_path}/"],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    assert "Done 20000 runs" in ran.stderr
