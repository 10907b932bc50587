"""What a task says of its measures: carried in records, shown on boards; a table for version 1."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pairbench.evaluation import Evaluation, Guard, Measure
from pairbench.leaderboard import build
from pairbench.leaderboard.columns import columns
from pairbench.leaderboard.site.pages import board_page
from pairbench.registry import get_task
from pairbench.results.record import CurvePoint, RunRecord
from pairbench.results.version1 import MEASURES
from tests.support.records import record

RESULTS = Path(__file__).resolve().parents[2] / "results"

CALM = Measure(
    name="calm",
    title="calmness",
    meaning="Share of steps without a fall",
    better=1,
    guard=Guard(floor=0.5, fails="falls over", of="of all steps"),
)
DRIFT = Measure(
    name="drift", title="drift", meaning="Distance from the start", unit="metres",
    role="distance", levels=(2.0,),
)  # fmt: skip


def run(row: str, seed: int, calm: float, **fields: object) -> RunRecord:
    """A run of a plug-in's task, which drifts three metres in three evaluations."""
    reward = 10.0 + seed + 5 * (row == "a")
    curve = [
        CurvePoint(
            steps=k, labels=0, gradient_steps=0, reward=k * reward / 3,
            means={"stochastic": k * reward / 3}, measures={"drift": float(k)},
        )
        for k in (1, 2, 3)
    ]  # fmt: skip
    own: dict[str, object] = {"measures": (CALM, DRIFT), "curve": curve, **fields}
    found = record(row, seed, algorithm=row, task="plug-in", scores=[reward] * 4, **own)  # type: ignore[arg-type]
    measures = {"calm": calm, "drift": 3.0, "unsaid_thing": 1.0}
    return found.model_copy(
        update={"evaluation": Evaluation(scores={"stochastic": [reward] * 4}, measures=measures)}
    )


def test_a_board_says_of_a_measure_what_its_task_says() -> None:
    runs = [run(row, seed, calm) for row, calm in (("a", 0.4), ("b", 0.9)) for seed in range(3)]
    runs += [record("reference", s, task="plug-in", scores=[0.0] * 4) for s in range(3)]
    (board,) = build(runs)
    shown = {column.key: column for column in columns(board)}
    assert (shown["calm"].title, shown["calm"].better) == ("calmness", 1)
    assert shown["calm"].meaning.startswith("Share of steps without a fall of the final policy")
    assert (shown["unsaid_thing"].title, shown["unsaid_thing"].better) == ("unsaid thing", 0)
    assert shown["reward_at_2"].title == "reward at drift 2" and "metres" in (
        shown["reward_at_2"].meaning
    )
    rows = {row.row: row for row in board.rows}
    assert rows["a"].rank is None and rows["b"].rank == 1  # a scores more, but falls over
    assert rows["a"].reason == (
        "no rank: falls over (0.40 of all steps, less than 0.5): its scores are not to be read"
    )
    assert rows["b"].at_kl["2"].reward.iqm == pytest.approx(2 * 11 / 3, rel=1e-5)
    assert "Distance from the start, metres" in board_page(board)


def test_a_board_is_built_once_and_never_changed() -> None:
    (board,) = build([run("a", 0, 1.0)])
    with pytest.raises(ValueError, match="frozen"):
        board.title = "another"
    with pytest.raises(ValueError, match="frozen"):
        board.rows[0].rank = 1


def test_declarations_are_no_part_of_an_identity() -> None:
    assert run("a", 0, 1.0).identity == run("a", 0, 1.0, measures=()).identity


def test_records_of_version_1_are_read_by_what_their_tasks_meant() -> None:
    path = sorted((RESULTS / "hh-rlhf-helpful").rglob("*.json"))[0]
    text = path.read_text(encoding="utf-8")
    old = RunRecord.model_validate_json(text)
    assert old.schema_version == 1 and old.measures == ()
    assert {m.name for m in old.declared} >= set(json.loads(text)["evaluation"]["measures"])
    again = json.dumps(old.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    assert json.loads(again) == json.loads(text) and list(json.loads(again)) == list(
        json.loads(text)
    )
    assert record("a", task="plug-in", schema_version=1).declared == ()


@pytest.mark.parametrize("task", sorted(MEASURES))
def test_the_tasks_still_mean_what_they_meant(task: str) -> None:
    """So that one board can hold records of both versions."""
    assert get_task(task).measures == MEASURES[task]
