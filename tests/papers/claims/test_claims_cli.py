"""`pairbench claims`: nothing but the asked form on standard output, progress beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pairbench.cli.main import main


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["claims", *arguments])
    said = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, said.out, said.err


def test_json_has_the_documented_fields_and_progress_goes_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, out, err = call(capsys, "grpo-pairwise", "--format", "json")
    assert status == 0 and err.startswith("1/1 grpo-pairwise: holds (")
    (claim,) = json.loads(out)["claims"]
    assert {"id", "statement", "source", "assumptions", "number", "error", "verdict"} <= set(claim)
    assert (claim["verdict"], claim["number"], claim["error"]) == ("holds", 0.0, None)


def test_a_file_is_written_and_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "new" / "one.md"
    status, out, _ = call(
        capsys, "grpo-pairwise", "--format", "markdown", "--out", str(path)
    )  # fmt: skip
    assert (status, out.strip()) == (0, str(path))
    assert "### grpo-pairwise: holds" in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["grpo-pairwize"], "did you mean grpo-pairwise"),
        (["grpo-pairwise", "--site", "x"], "leave the names and --out away"),
        (["grpo-pairwise", "--out", "/dev/null/x"], "cannot write the claims"),
    ],
)
def test_mistakes_end_in_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    status, out, err = call(capsys, *arguments)
    assert status == 2 and out == ""
    assert sentence in err and "Traceback" not in err
