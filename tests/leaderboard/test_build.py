"""Boards: what is ranked with what, how ranks are shared, and what each column holds."""

from __future__ import annotations

import random

import numpy as np
import pytest

from pairbench.errors import PairBenchError
from pairbench.evaluation import Cost
from pairbench.leaderboard import Board, build, compare, render
from pairbench.leaderboard.build import budget_label
from pairbench.leaderboard.columns import columns
from pairbench.leaderboard.text import as_markdown, as_table, resolution_line
from pairbench.results.record import Budget, CurvePoint, RunRecord
from tests.support.records import ROWS, board_records, language_records, record


def rows_of(board: Board) -> dict[str, object]:
    return {row.row: row for row in board.rows}


def seeds_at(row: str, rewards: list[float], **options: object) -> list[RunRecord]:
    """Records whose every held-out score equals the seed's reward."""
    options.setdefault("algorithm", row)
    return [
        record(row, seed, scores=[reward] * 4, **options)  # type: ignore[arg-type]
        for seed, reward in enumerate(rewards)
    ]


def test_nothing_gives_nothing() -> None:
    assert build([]) == []
    with pytest.raises(PairBenchError, match="there are no records, run something first"):
        build([], task="halfcheetah-v4")


def test_unknown_task_gets_the_nearest_name() -> None:
    with pytest.raises(PairBenchError, match="did you mean halfcheetah-v4"):
        build(board_records(1), task="halfcheeta")


def test_only_the_same_question_is_ranked_together() -> None:
    records = [
        record("grpo", 0),
        record("ppo", 0, task_version="2"),
        record("dpo", 0, task_config={"oracle": "critic-free"}),
        record("orpo", 0, steps=1_000_000),
        record("soft-pair-grpo", 0, evaluations=5),
        record("hard-pair-grpo", 0, task="preference-bandit"),
    ]
    boards = build(records)
    assert [len(board.rows) for board in boards] == [1] * 6
    assert [board.task for board in boards[:5]] == ["halfcheetah-v4"] * 5
    assert boards[0].rows[0].row == "orpo"  # the largest step budget first
    assert len(boards[0].other_boards) == 4
    assert len({board.title for board in boards}) == 6  # even where the budget is the same
    assert boards[5].other_boards == []
    assert len(build(records, task="preference-bandit")) == 1


def test_the_newest_version_of_a_task_has_the_plain_title_and_file() -> None:
    """Whoever reads a board by its name so reads the newest there is."""
    old = [record("grpo", 0, task_version="9")]
    assert [board.slug for board in build(old)] == ["halfcheetah-v4--200k-steps"]
    both = build([*old, record("grpo", 0, task_version="10")])
    named = {board.task_version: (board.title, board.slug) for board in both}
    assert named == {
        "10": ("halfcheetah-v4, 200k steps", "halfcheetah-v4--200k-steps"),
        "9": ("halfcheetah-v4, 200k steps, version 9", "halfcheetah-v4--200k-steps--version-9"),
    }


def test_order_of_records_changes_nothing() -> None:
    records = board_records(3)
    shuffled = list(records)
    random.Random(0).shuffle(shuffled)
    assert [b.model_dump_json() for b in build(records)] == [
        b.model_dump_json() for b in build(shuffled + records[:5])
    ]


def test_a_rank_counts_the_rows_whose_interval_lies_above() -> None:
    records = [
        *seeds_at("best", [100.0, 101.0, 102.0]),
        *seeds_at("wide", [0.0, 50.0, 100.0]),
        *seeds_at("low", [10.0, 11.0, 12.0]),
        *seeds_at("wider", [-90.0, 9.0, 108.0]),
        *seeds_at("lowest", [-12.0, -11.0, -10.0]),
    ]
    board = build(records)[0]
    assert [(row.row, row.rank) for row in board.rows] == [
        ("best", 1),
        ("wide", 1),  # its interval reaches the best's, whatever its estimate
        ("low", 2),  # overlaps the wide one, but all of the best lies above it
        ("wider", 2),  # nothing lies above it, but a worse estimate gains nothing by its width
        ("lowest", 3),  # below the best and the low one
    ]


def test_a_wide_leader_drags_nobody_into_its_rank() -> None:
    """Two lucky seeds lead with an interval that reaches everyone; the others stay apart."""
    records = [
        *seeds_at("lucky", [0.0, 300.0]),
        *seeds_at("good", [100.0, 101.0, 102.0]),
        *seeds_at("bad", [10.0, 11.0, 12.0]),
    ]
    board = build(records)[0]
    assert [(row.row, row.rank) for row in board.rows] == [("lucky", 1), ("good", 1), ("bad", 2)]


def test_floors_rank_last_and_are_no_opponents() -> None:
    board = build(board_records(10))[0]
    rows = {row.row: row for row in board.rows}
    assert [row.row for row in board.ranked][-2:] == ["reference", "random"]
    assert rows["reference"].rank == len(board.ranked) - 1 and rows["random"].floor
    trained = [name for name in ROWS if name not in ("reference", "random")]
    assert all(rows[name].win_rate.estimate > 0.8 for name in trained)  # type: ignore[union-attr]
    assert rows["reference"].win_rate is None
    # Beating a floor is not counted: with one opponent, head to head is the win rate against it.
    only = build(
        [
            *seeds_at("a", [1.0, 2.0]),
            *seeds_at("b", [2.0, 1.0]),
            record("random", 0, scores=[0.0] * 4),
        ]
    )[0]
    assert {row.row: row.head_to_head.estimate for row in only.rows if not row.floor} == {  # type: ignore[union-attr]
        "a": 0.5,
        "b": 0.5,
    }


def test_win_rate_is_per_seed_then_over_seeds() -> None:
    ours = [[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, -1.0, -1.0]]
    records = [record("a", seed, algorithm="a", scores=ours[seed]) for seed in range(2)]
    records += [record("reference", seed, scores=[0.0] * 4) for seed in range(3)]
    row = next(row for row in build(records)[0].rows if row.row == "a")
    assert row.win_rate is not None
    assert row.win_rate.estimate == pytest.approx((1.0 + 0.375) / 2)
    assert 0 <= row.win_rate.low <= row.win_rate.high <= 1  # type: ignore[operator]


def test_the_baseline_is_an_argument() -> None:
    records = [*seeds_at("a", [1.0, 2.0]), *seeds_at("b", [0.0, 3.0])]
    assert build(records)[0].baseline is None
    board = build(records, baseline="b")[0]
    rows = {row.row: row for row in board.rows}
    assert rows["a"].win_rate.estimate == 0.5 and rows["b"].win_rate is None  # type: ignore[union-attr]


def test_numbers_of_a_row() -> None:
    rewards = [1.0, 2.0, 3.0, 4.0, 100.0]
    row = build(seeds_at("a", rewards, mean_scores=[7.0] * 4))[0].rows[0]
    assert row.reward is not None and row.reward.iqm == 3.0
    assert row.other_rewards["mean"].iqm == 7.0
    assert row.seed_sd == pytest.approx(np.std(rewards, ddof=1), rel=1e-5)
    assert row.seeds == [0, 1, 2, 3, 4] and row.n_seeds == 5
    assert row.measures["episode_length"].iqm == 1000.0
    assert len(row.curve) == 10 and row.curve[-1].steps == 200_000


def test_rounding_is_no_deviation() -> None:
    rewards = [[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.2, 0.3, 0.1]]
    assert len({sum(scores) / 3 for scores in rewards}) > 1
    row = build([record("a", s, algorithm="a", scores=x) for s, x in enumerate(rewards)])[0].rows[0]
    assert row.seed_sd == 0.0 and row.reward is not None
    assert row.reward.low == row.reward.high == 0.2


def test_cost_counts_updates_per_iteration() -> None:
    cost = Cost(steps=100, scores=30, comparisons=12, gradient_steps=80, iterations=4, seconds=2.0)
    row = build([record("a", 0, algorithm="a", cost=cost)])[0].rows[0]
    assert row.cost is not None
    assert (row.cost.labels, row.cost.gradient_steps_per_iteration) == (42, 20)
    free = build([record("reference", 0)])[0].rows[0]
    assert free.cost is not None and free.cost.gradient_steps_per_iteration is None


def test_one_seed_is_shown_without_a_rank() -> None:
    row = build([record("a", 0, algorithm="a")])[0].rows[0]
    assert row.reward is not None and row.reward.low is None
    assert row.rank is None and row.reason == "no rank: one seed gives no interval"


def test_failed_and_skipped_rows_say_why() -> None:
    rows = {row.row: row for row in build(board_records(3))[0].rows}
    assert rows["orpo"].status == "skipped" and rows["orpo"].rank is None
    assert rows["orpo"].reason == "log odds need probabilities, and this policy gives densities"
    assert rows["dpo-fast"].status == "failed" and rows["dpo-fast"].reward is None
    assert "3 of 3 seeds failed: DivergedError: loss is not finite" in rows["dpo-fast"].reason  # type: ignore[operator]
    partial = rows["hard-pair-grpo-no-trust-region"]
    assert partial.status == "partial" and partial.rank is None
    assert partial.n_seeds == 2 and partial.failed_seeds == [1] and partial.reward is not None
    assert partial.reason.startswith("1 of 3 seeds failed")  # type: ignore[union-attr]


def test_a_failed_run_that_was_made_good_counts_once() -> None:
    records = [record("a", 0, status="failed", reason="x"), record("a", 0), record("a", 1)]
    row = build(records)[0].rows[0]
    assert (row.status, row.n_seeds, row.failed_seeds) == ("finished", 2, [])


def test_names_of_rows() -> None:
    same = {"algorithm": "grpo", "config": {"x": 1}}
    records = [
        record("zebra", 0, **same),  # type: ignore[arg-type]
        record("apple", 1, **same),  # type: ignore[arg-type]
        record("twin", 0, algorithm="grpo", config={"x": 2}),
        record("twin", 0, algorithm="grpo", config={"x": 3}),
    ]
    board = build(records)[0]
    names = [row.row for row in board.rows]
    assert "apple" in names and "zebra" not in names
    twins = [row for row in board.rows if row.row.startswith("twin")]
    assert [row.row for row in twins] == [f"twin#{row.configuration[:8]}" for row in twins]
    assert next(row for row in board.rows if row.row == "apple").n_seeds == 2


def test_different_contexts_are_refused() -> None:
    records = [record("a", 0, scores=[1.0, 2.0]), record("reference", 0, scores=[1.0])]
    with pytest.raises(PairBenchError, match="2 and 1 contexts at seed 0"):
        build(records)


def test_provenance_is_counted() -> None:
    board = build(board_records(2))[0]
    assert board.provenance["packages.torch"] == {"2.13.0": 8 * 2 + 1}
    assert sum(board.provenance["started"].values()) == 17


def test_budgets_in_words() -> None:
    assert budget_label(Budget.model_validate({"steps": 1_000_000})) == "1M steps"
    assert budget_label(Budget.model_validate({"steps": 1_024_000})) == "1.024M steps"
    assert budget_label(Budget.model_validate({"steps": 200_000, "labels": 512})) == (
        "200k steps 512 labels"
    )
    assert budget_label(Budget.model_validate({"steps": 1_048_577})) == "1048577 steps"
    assert budget_label(Budget.model_validate({"seconds": 0.5})) == "0.5 s"


def test_rewards_at_a_fixed_kl_are_read_where_every_seed_got_there() -> None:
    (board,) = build(language_records())
    at = {row.row: row.at_kl for row in board.rows}
    assert list(at["far"]) == ["1", "3", "8"] and list(at["near"]) == ["1"]
    assert at["reference"] == {}
    # reward 2 KL from (0, .01) of the untrained policy's mean: at KL 1, between it and KL 2.5
    start = 0.01
    for row, end in (("far", 2.5), ("near", 0.5)):
        found = at[row]["1"]
        between = [
            start + (1.0 / end) * (2 * end + 0.01 * seed - start)
            if row == "far"
            else 2.0 + 0.01 * seed
            for seed in range(3)
        ]
        assert found.reward.iqm == pytest.approx(np.mean(between), abs=1e-5)
        assert found.win_rate is not None and found.win_rate.iqm == pytest.approx(0.54, abs=1e-6)


def test_a_row_that_gains_nothing_is_told_apart() -> None:
    (board,) = build(language_records())
    reasons = {row.row: row.reason for row in board.rows}
    assert reasons["far"] is None and reasons["reference"] is None
    assert reasons["idle"] is not None
    assert reasons["idle"].startswith("does not beat the untrained policy by 3 standard errors")
    assert "+0 ± 0" in reasons["idle"]


def test_caveats_and_judges_stand_on_the_board_() -> None:
    records = language_records()
    (board,) = build(records)
    assert board.caveats == ["Smoke test only."]
    assert list(board.judges) == ["helpful-gold"]
    assert board.judges["helpful-gold"]["accuracy"] == "0.600 ± 0.010"
    assert not any("judge" in name or "caveat" in name for name in board.provenance)


def test_runs_with_other_data_are_never_ranked_together() -> None:
    records = language_records()
    (whole,) = build(records)
    other = records[0].model_copy(update={"read": {"data": "e" * 64}})
    failed = record("late", 9, task="hh-rlhf-helpful", task_config={"model": "tiny"},
                    evaluations=4, status="failed", reason="loss")  # fmt: skip
    assert failed.spec.board == other.spec.board
    many, one = sorted(build([failed, other, *records[1:]]), key=lambda b: -len(b.identities))
    assert one.identities == {other.identity} and other.identity not in many.identities
    assert failed.identity in many.identities and len(many.identities) == len(records)
    assert len({whole.board, many.board, one.board}) == 3 and many.title != one.title
    assert "data eeeeeeee" in one.notes[0] and "data dddddddd" in many.notes[0]
    assert [seen.board for seen in one.other_boards] == [many.board]
    assert build([failed, *records])[0].board == whole.board  # without other data, as before


def test_pairs_of_a_board_are_those_of_compare() -> None:
    records = board_records(4)
    (board,) = build(records)
    trained = {row.row for row in board.rows if row.status == "finished" and not row.floor}
    assert len(board.pairs) == len(trained) * (len(trained) - 1) / 2
    rows = [pair for pair in board.pairs if {"grpo", "ppo"} == {pair.a, pair.b}]
    assert len(rows) == 1
    found = compare(records, rows[0].a, rows[0].b, board.task)
    assert rows[0].difference == found.difference and rows[0].p_value == found.p_value
    assert all(pair.p_holm >= pair.p_value for pair in board.pairs)
    assert max(pair.p_holm for pair in board.pairs) > max(pair.p_value for pair in board.pairs) / 2


def test_a_board_says_what_it_can_tell() -> None:
    records = board_records(8)
    (board,) = build(records)
    found = board.resolution
    assert found is not None and found.pairs == len(board.pairs)
    assert found.separated == sum(pair.p_holm <= 0.05 for pair in board.pairs)
    detectable = [
        compare(records, pair.a, pair.b, board.task).minimum_detectable_difference
        for pair in board.pairs
    ]
    assert found.detectable == pytest.approx(np.median([d for d in detectable if d is not None]))
    line = resolution_line(board)
    assert f"{found.separated} of {found.pairs} pairs" in line and "with 80% power" in line
    assert line in as_table(board) and "What it can tell" in as_markdown(board)
    (alone,) = build(board_records(1))
    assert alone.resolution is None and resolution_line(alone) == ""


def test_a_row_keeps_its_rewards_its_date_and_its_environments() -> None:
    (board,) = build(board_records(2))
    row = next(row for row in board.rows if row.row == "grpo")
    assert sorted(row.rewards) == [0, 1] and row.date == "2026-01-01"
    assert row.environments == ["Example CPU, 1 thread, torch 2.13.0"]


def test_scores_that_are_measures_go_by_their_own_names() -> None:
    (board,) = build(language_records())
    titles = [column.title for column in columns(board)]
    assert "gold judge" in titles and "proxy judge" in titles and "reward" not in titles
    assert "gold judge at KL to SFT 1" in titles and "beats SFT at KL to SFT 8" in titles


def test_a_row_that_repeats_itself_has_no_rank_and_costs_others_none() -> None:
    (before,) = build(language_records())
    records = []
    for record_ in language_records():
        assert record_.evaluation is not None
        share = {"far": 0.7, "near": 0.81}.get(record_.row, 1.0)
        measures = {**record_.evaluation.measures, "variety_of_sft": share}
        evaluation = record_.evaluation.model_copy(update={"measures": measures})
        records.append(record_.model_copy(update={"evaluation": evaluation}))
    (board,) = build(records)
    reasons = {row.row: row.reason for row in board.rows}
    assert reasons["near"] is None
    assert reasons["far"] is not None and reasons["far"].startswith(
        "no rank: repeats itself (0.70 of"
    )
    assert before.rows[0].row == "far"  # by its judge's score, which is not to be read
    assert [row.row for row in board.rows if row.rank is None] == ["far"]
    assert board.rows[-1].row == "far" and board.rows[0].rank == 1
    assert "variety / SFT" in [column.title for column in columns(board)]


def test_strengths_and_the_matrix_count_contexts_at_shared_seeds() -> None:
    """At the only shared seed a beats b on 3 contexts of 4; one drawn context is added."""
    records = [
        record("a", 0, algorithm="a", scores=[1.0, 1.0, 1.0, -1.0]),
        record("a", 1, algorithm="a", scores=[9.0] * 4),
        record("b", 0, algorithm="b", scores=[0.0] * 4),
        record("reference", 0, scores=[0.0] * 4),
        record("broken", 0, algorithm="c", scores=[9.0] * 4),
        record("broken", 1, algorithm="c", status="failed", reason="x"),
    ]
    (board,) = build(records)
    assert board.head_to_head is not None
    assert board.head_to_head.rows == ["a", "b"]  # no floor, and no row with a failed seed
    assert board.head_to_head.shares == [[None, 0.75], [0.25, None]]
    assert board.head_to_head.seeds == [[0, 1], [1, 0]]
    first, second = board.strengths
    assert first.row == "a" and first.estimate == pytest.approx(np.log(3.5 / 1.5) / 2, rel=1e-5)
    assert second.estimate == -first.estimate and first.low is None


def test_strengths_follow_the_matrix() -> None:
    (board,) = build(board_records(5))
    table = board.head_to_head
    assert table is not None and len(table.rows) == 6
    for i in range(6):
        for j in range(6):
            share, back = table.shares[i][j], table.shares[j][i]
            assert (share is None) == (i == j)
            if share is not None and back is not None:
                assert share + back == pytest.approx(1.0, abs=1e-5)
    assert [s.row for s in board.strengths] == table.rows
    assert sum(s.estimate for s in board.strengths) == pytest.approx(0, abs=1e-4)
    assert all(s.low < s.estimate < s.high for s in board.strengths)  # type: ignore[operator]
    shown = {column.key: column for column in columns(board)}
    assert shown["strength"].get(board.rows[0]) == board.strengths[0]
    alone = build(seeds_at("a", [1.0, 2.0]))[0]
    assert alone.head_to_head is None and alone.strengths == []


def test_reliability_and_median_of_a_row() -> None:
    def curve(rewards: list[float]) -> list[CurvePoint]:
        return [
            CurvePoint(steps=k, labels=0, gradient_steps=0, reward=x, means={})
            for k, x in enumerate(rewards)
        ]

    records = [
        record("a", seed, algorithm="a", scores=[end], curve=curve(rewards))
        for seed, (end, rewards) in enumerate(
            [(1.0, [0.0, 4.0, 3.0, 6.0, 2.0]), (8.0, [0.0, 2.0, 4.0, 6.0, 8.0])]
        )
    ]
    row = build(records)[0].rows[0]
    assert row.median == 4.5
    found = row.reliability
    assert found is not None
    # Changes 4, -1, 3, -4 have quartiles -1.75 and 3.25; the other run climbs steadily.
    assert found.dispersion_time == 2.5 and found.risk_time == -1.0
    # Half of the gaps 0, 2, 1, 0, 6 between the two runs lies between their quartiles.
    assert found.dispersion_runs == pytest.approx(0.9) and found.risk_runs == 1.0
    floor = build([record("reference", 0, scores=[1.0])])[0].rows[0]
    assert floor.reliability is not None and floor.reliability.dispersion_time is None


def test_a_demonstration_says_so_and_ranks_nobody() -> None:
    records = language_records()
    assert build(records)[0].ranked
    why = "the judge reads the model that is trained"
    shown = [
        one.model_copy(
            update={
                "schema_version": 2,
                "measures": one.declared,
                "provenance": {**one.provenance, "task": {"demonstration": why}},
            }
        )
        for one in records
    ]
    (board,) = build(shown)
    assert board.ranked == [] and all(row.reward for row in board.rows)
    assert board.caveats[0] == f"A demonstration, without ranks: {why}."
    for form in ("table", "markdown", "latex", "html"):
        assert board.caveats[0] in render(board, form)


def test_committed_runs_of_smollm2_are_a_demonstration() -> None:
    old = record("grpo", 0, task="hh-rlhf-helpful@smollm2-135m").model_copy(
        update={"schema_version": 1}
    )
    assert "three seeds of ten iterations" in (old.demonstration or "")
    assert record("grpo", 0, task="hh-rlhf-helpful").demonstration is None


def test_where_a_seed_is_a_problem_rows_are_ranked_within_seeds() -> None:
    """Hard and easy problems spread every row by 9; one row is .1 above another at each of them."""
    problems = [float(k) for k in range(10)]
    declared = {"provenance": {"task": {"seeds": "problems", "yardstick": "raft"}}}
    better, base = [x + 0.1 + 0.001 * (-1) ** int(x) for x in problems], problems
    plain = build(seeds_at("grpo", better) + seeds_at("raft", base))[0]
    assert [row.rank for row in plain.rows] == [1, 1]
    board = build(
        seeds_at("grpo", better, **declared)
        + seeds_at("raft", base, **declared)
        + seeds_at("ppo", [x - 0.1 for x in problems], **declared)
        + seeds_at("optimum", [x + 1.0 for x in problems], regime="no training", **declared)
    )[0]
    assert [(row.row, row.rank) for row in board.rows] == [
        ("optimum", 1), ("grpo", 2), ("raft", 3), ("ppo", 4),
    ]  # fmt: skip
    _, grpo, raft, ppo = board.rows
    assert grpo.behind is None  # the first trained row; the optimum lies above, and is no method
    assert raft.behind is not None
    assert ppo.behind is not None
    assert raft.behind.estimate == pytest.approx(-0.1, abs=1e-3)
    assert ppo.behind.high is not None
    assert ppo.behind.high < -0.19
    assert grpo.reason is None
    assert ppo.reason == "does not beat raft at an equal budget: -0.1 [-0.1, -0.1]"
    shown = {column.key: column for column in columns(board)}
    assert "paired difference" in shown["rank"].meaning
    assert "behind" in shown
    assert "behind" not in {column.key for column in columns(plain)}
    assert "paired difference to it lies above 0" in as_table(board)
    assert "whole interval lies above its own" in as_table(plain)
