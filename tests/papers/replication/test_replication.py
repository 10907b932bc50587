"""The replication report: verdicts follow from intervals, and missing runs are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pairbench.cli.main import main
from pairbench.errors import PairBenchError
from pairbench.evaluation import Evaluation
from pairbench.experiments.suite import plan
from pairbench.leaderboard.rows import Rate
from pairbench.papers.replication import Paper, load_paper, render, replicate, write_site
from pairbench.papers.replication.report import seeds_in
from pairbench.papers.replication.study import verdict
from pairbench.results.record import RunRecord, Stability

TASK = "halfcheetah-v4"
TABLE: dict[str, Any] = {
    "id": "t", "title": "T", "source": "s", "suite": "paper", "task": TASK, "quantity": "score",
    "ours": "return", "order": ["ppo", "grpo", "soft-pair-grpo", "hard-pair-grpo"], "note": "n",
}  # fmt: skip
SWEEP: dict[str, Any] = {
    "id": "w", "title": "W", "suite": "noise", "noise": "std", "floor": "reference", "note": "n",
    "levels": {"preference-bandit": 0, "preference-bandit@reward-noise-1": 1,
               "preference-bandit@reward-noise-2": 2},
    "pairs": [["soft-pair-grpo", "grpo"]],
}  # fmt: skip


def paper(*tables: dict[str, Any], sweeps: tuple[dict[str, Any], ...] = ()) -> Paper:
    ratings = {"title": "R", "source": "s", "why": "y", "columns": ["c"], "values": {"a": [1.0]}}
    data = {"paper": "0", "title": "P", "evidence": "e", "reasons": ["r"], "ratings": ratings}
    return Paper.model_validate({**data, "tables": tables, "sweeps": sweeps})


def finished(
    suite: str, task: str, rewards: dict[str, list[float]], **stability: float
) -> list[RunRecord]:
    """Returns finished records of a suite's rows, by seed the rewards given."""
    return [
        RunRecord(
            identity=spec.identity,
            **spec.model_dump(),
            status="finished",
            evaluation=Evaluation(scores={"s": [rewards[spec.row][spec.seed]]}),
            stability=Stability(**stability),
            provenance={"task": {"reference": 1.0}},
        )
        for spec in plan(suite, tasks=[task]).specs
        if spec.seed < len(rewards.get(spec.row, []))
    ]


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((1.0, 0.1, 2.0), "agrees"), ((1.0, -0.1, 2.0), "undecided"),
        ((1.0, 0.0, 2.0), "undecided"),
        ((-1.0, -2.0, -0.1), "contradicts"), ((5.0, None, None), "undecided"), (None, "undecided"),
    ],
)  # fmt: skip
def test_a_verdict_is_that_of_the_interval(interval: Any, said: str) -> None:
    found = None
    if interval:
        found = Rate(estimate=interval[0], low=interval[1], high=interval[2])
    assert verdict(found) == said


def test_orders_verdicts_and_missing_runs() -> None:
    """Seeds shift all rows alike: grpo is 1 above ppo at each, soft 2 below, hard has one seed."""
    shift = [0.0, 10.0, -10.0, 20.0, 5.0, -3.0]
    records = finished(
        "paper", TASK,
        {"ppo": shift, "grpo": [s + 1 for s in shift], "hard-pair-grpo": [99.0],
         "soft-pair-grpo": [s - 2 + 0.1 * k for k, s in enumerate(shift)]},
    )  # fmt: skip
    (found,) = replicate(records, paper(TABLE)).tables
    lines = {line.row: line for line in found.lines}
    assert list(lines) == ["hard-pair-grpo", "soft-pair-grpo", "grpo", "ppo"]  # the paper's best
    assert [line.paper_rank for line in found.lines] == [1, 2, 3, 4]
    assert {row: (line.n_seeds, line.asked) for row, line in lines.items()} == {
        "hard-pair-grpo": (1, 10), "soft-pair-grpo": (6, 10), "grpo": (6, 10), "ppo": (6, 10),
    }  # fmt: skip
    assert lines["hard-pair-grpo"].rank is None and lines["grpo"].rank == 1
    pairs = {(pair.better, pair.worse): pair for pair in found.pairs}
    assert len(pairs) == 6
    step = pairs["grpo", "ppo"]
    assert (step.verdict, step.n_seeds) == ("agrees", 6)
    assert step.difference is not None and step.difference.estimate == 1.0
    assert step.p_value == 2 / 2**6
    assert pairs["soft-pair-grpo", "grpo"].verdict == "contradicts"
    assert pairs["hard-pair-grpo", "grpo"].verdict == "undecided"  # one seed gives no interval
    # the order of seed 0 is hard, grpo, ppo, soft: of six pairs the paper has four
    assert found.correlation is not None and found.correlation.n_seeds == 1
    assert found.correlation.tau == Rate(estimate=0.333333)
    text = render(replicate(records, paper(TABLE)), "markdown")
    assert "6 of 10 seeds are in" in text and "1 of 10 seeds are in" in text


def test_less_is_better_where_the_paper_says_so() -> None:
    table = {**TABLE, "quantity": "kl_std", "better": "less", "order": [],
             "values": {"grpo": 0.2, "ppo": 0.1}}  # fmt: skip
    records = [
        *finished("paper", TASK, {"grpo": [0.0] * 6}, kl_std=0.5),
        *finished("paper", TASK, {"ppo": [0.0] * 6}, kl_std=0.7),
    ]
    (found,) = replicate(records, paper(table)).tables
    assert [(line.row, line.paper_rank, line.rank) for line in found.lines] == [
        ("ppo", 1, 2), ("grpo", 2, 1),
    ]  # fmt: skip
    (pair,) = found.pairs
    assert (pair.better, pair.verdict) == ("ppo", "contradicts")
    assert pair.difference is not None and pair.difference.estimate == pytest.approx(-0.2)
    assert "ppo below grpo" in render(replicate(records, paper(table)), "table")


def test_a_seed_that_failed_decides_nothing_and_gives_no_place() -> None:
    records = finished("paper", TASK, {"grpo": [5.0] * 6, "ppo": [1.0] * 6})
    broken = records[-1].model_copy(update={"status": "failed", "evaluation": None})
    table = {**TABLE, "order": ["ppo", "grpo"]}
    assert replicate(records, paper(table)).tables[0].pairs[0].verdict == "agrees"
    (found,) = replicate([*records[:-1], broken], paper(table)).tables
    assert found.pairs[0].verdict == "undecided"
    line = next(line for line in found.lines if line.failed)
    assert line.rank is None
    assert seeds_in(line.n_seeds, line.asked, line.failed) == "5 of 10 seeds are in, 1 failed"


def test_without_a_record_nothing_is_claimed() -> None:
    report = replicate([])
    assert report.counts["no runs"] == sum(report.counts.values()) > 50
    assert all(line.ours is None for one in report.tables for line in one.lines)
    for form in ("table", "markdown", "html"):
        assert "no run of this row is in" in render(report, form)


def test_runs_of_other_settings_do_not_count() -> None:
    records = finished("paper", TASK, {"grpo": [5.0] * 6, "ppo": [1.0] * 6})
    other = plan("paper", tasks=[TASK], overrides=["grpo.clip_low=0.1"]).specs
    moved = {(spec.row, spec.seed): spec for spec in other}
    changed = [
        RunRecord(**{**dict(r), **dict(moved[r.row, r.seed]),
                     "identity": moved[r.row, r.seed].identity})
        for r in records
    ]  # fmt: skip
    (found,) = replicate(changed, paper({**TABLE, "order": ["ppo", "grpo"]})).tables
    assert {line.row: line.n_seeds for line in found.lines} == {"grpo": 0, "ppo": 6}


def test_losses_are_slopes_of_the_gain_relative_to_the_noise_free_one() -> None:
    """Above the floor 1: grpo 2, 1.5, 1 loses a quarter a unit; soft 1, 1, .5 loses (0 + 1) / 5."""
    rewards = {"grpo": [3.0, 2.5, 2.0], "soft-pair-grpo": [2.0, 2.0, 1.5]}
    rng = np.random.default_rng(0)
    shift = rng.normal(0, 1e-3, 10)
    records = []
    for k, task in enumerate(SWEEP["levels"]):
        rows = {row: [at[k] + s for s in shift] for row, at in rewards.items()}
        records += finished("noise", task, rows)
    (found,) = replicate(records, paper(TABLE, sweeps=(SWEEP,))).sweeps
    curves = {curve.row: curve for curve in found.curves}
    losses = {row: curve.loss.estimate for row, curve in curves.items() if curve.loss is not None}
    assert losses == pytest.approx({"grpo": 0.25, "soft-pair-grpo": 0.2}, abs=2e-3)
    assert next(iter(curves)) == "soft-pair-grpo"  # what loses least comes first
    kept = curves["grpo"].kept
    assert [kept["1"].estimate, kept["2"].estimate] == pytest.approx([0.75, 0.5], abs=2e-3)
    (pair,) = found.pairs
    assert (pair.n_seeds, pair.verdict) == (10, "loses less")
    assert curves["ppo"].loss is None and curves["ppo"].n_seeds == 0


def test_the_papers_data_are_complete_and_a_wrong_row_is_one_sentence() -> None:
    data = load_paper()
    assert len({table.id for table in data.tables}) == len(data.tables)
    assert {table.suite for table in data.tables} == {"paper", "ablation"}
    with pytest.raises(PairBenchError, match="table t names the row 'gprpo'"):
        replicate([], paper({**TABLE, "order": ["gprpo", "grpo"]}))
    with pytest.raises(PairBenchError, match="sweep w names the row 'orpo'"):
        replicate([], paper(TABLE, sweeps=({**SWEEP, "pairs": [["orpo", "grpo"]]},)))
    with pytest.raises(ValidationError, match="needs values, or an order"):
        paper({**TABLE, "order": []})


def test_the_site_repeats_and_the_page_asks_for_nothing(tmp_path: Path) -> None:
    records = finished("paper", TASK, {"grpo": [5.0, 7.0, 6.1], "ppo": [1.0, 3.0, 2.0]})
    first = [path.read_bytes() for path in write_site(replicate(records), tmp_path / "a")]
    again = [path.read_bytes() for path in write_site(replicate(records[::-1]), tmp_path / "b")]
    assert first == again
    page = (tmp_path / "a" / "replication.html").read_text()
    assert "src=" not in page and "http" not in page.replace("http-equiv", "")
    assert '<span class="verdict holds">agrees</span>' in page
    tree = json.loads((tmp_path / "a" / "replication.json").read_text())
    assert tree["counts"]["agrees"] >= 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--site", "x", "--out", "y"], "leave --out away"),
        (["--out", "/dev/null/x"], "cannot write the replication report"),
    ],
)
def test_mistakes_end_in_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["replicate", "--results", str(tmp_path), *arguments])
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert sentence in said.err and "Traceback" not in said.err
