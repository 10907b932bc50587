"""Seeds are added to two rows until the rule decides, and to no other row."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairbench.cli.main import main
from pairbench.errors import PairBenchError
from pairbench.experiments.deciding import run_until_decided

SHORT = {
    "tasks": ["preference-bandit"],
    "budget": {"steps": 1024},
    "protocol": {"evaluations": 1, "probes": 0},
}


def test_different_rows_take_eight_seeds_and_the_third_row_none(tmp_path: Path) -> None:
    records, (found,) = run_until_decided(
        algorithms=["grpo", "random", "reference"],
        decide=["random", "grpo"],
        seeds="0-1",
        results=tmp_path,
        **SHORT,  # type: ignore[arg-type]
    )
    assert found.decided and (found.seeds, found.p_value) == (8, 2 / 2**8)
    assert "random is below grpo (8 shared seeds" in found.said()
    seeds = {row: sorted(r.seed for r in records if r.row == row) for row in ("grpo", "reference")}
    assert seeds == {"grpo": list(range(8)), "reference": [0, 1]}


def test_equal_rows_stop_at_the_most_seeds(tmp_path: Path) -> None:
    """Two names of one setting but for a rate that changes nothing that is scored."""
    records, (found,) = run_until_decided(
        algorithms=["grpo", "gspo"],
        decide=["grpo", "gspo"],
        max_seeds=4,
        at_once=3,
        seeds=[0],
        results=tmp_path,
        **SHORT,  # type: ignore[arg-type]
    )
    assert not found.decided and found.seeds == 4 and len(records) == 8
    assert "are undecided (4 shared seeds" in found.said()


def test_mistakes_are_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, words in (
        ({"decide": ["grpo"]}, "name the two rows"),
        ({"decide": ["grpo", "gpro"]}, "no row 'gpro' in this run; did you mean grpo"),
        ({"decide": ["grpo", "gspo"], "max_seeds": 31}, "at most 30"),
    ):
        with pytest.raises(PairBenchError, match=words):
            run_until_decided(
                algorithms=["grpo", "gspo"],
                results=tmp_path,
                **(SHORT | wrong),  # type: ignore[arg-type]
            )
    command = ["run", "bandit", "--decide", "grpo,gspo", "--results", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2 and "add --until decided" in capsys.readouterr().err
