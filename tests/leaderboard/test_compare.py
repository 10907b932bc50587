"""Comparisons of two rows: pairing, the interval, and a sentence that claims no more."""

from __future__ import annotations

import pytest

from pairbench import statistics
from pairbench.errors import PairBenchError
from pairbench.evaluation import Cost
from pairbench.leaderboard import compare, compare_all
from pairbench.leaderboard.compare import compare_sides, further
from pairbench.results.record import RunRecord
from tests.support.records import board_records, record

TASK = "halfcheetah-v4"


def row(name: str, rewards: list[float], first: int = 0, **options: object) -> list[RunRecord]:
    return [
        record(name, seed, algorithm=name, scores=[reward - 1, reward + 1], **options)  # type: ignore[arg-type]
        for seed, reward in enumerate(rewards, start=first)
    ]


def test_paired_over_shared_seeds_only() -> None:
    records = row("a", [1.0, 2.0, 30.0, 4.0]) + row("b", [2.0, 30.0, 3.0, 99.0], first=1)
    result = compare(records, "a", "b", TASK)
    assert (result.n_seeds, result.seeds) == (3, [1, 2, 3])
    assert result.difference.estimate == pytest.approx(1 / 3, rel=1e-5)
    assert result.mean_difference.estimate == result.difference.estimate  # of three none is cut
    assert result.p_value == 1.0
    assert "cannot be told apart" in result.conclusion
    assert result.win_rate.estimate == pytest.approx((0.5 + 0.5 + 1.0) / 3, rel=1e-5)


def test_a_clear_difference() -> None:
    shared = [float(100 * k) for k in range(8)]
    records = row("a", [x + 10 + k % 2 for k, x in enumerate(shared)]) + row("b", shared)
    result = compare(records, "a", "b", TASK)
    assert result.difference.low > 9 and result.difference.high < 12  # type: ignore[operator]
    assert result.p_value == 2 / 2**8 == 0.0078125
    assert result.conclusion == (
        "On halfcheetah-v4, 200k steps, a scored higher than b: difference of interquartile means "
        f"10.5, 95% interval {result.difference.low:.3g} to {result.difference.high:.3g}, 8 shared "
        "seeds, swap p = 0.0078."
    )
    # Runs of other seeds differ far more than the two rows do.
    assert 0.5 < result.probability_of_improvement.estimate < 0.7
    assert "b scored lower than a" in compare(records, "b", "a", TASK).conclusion


def test_interval_and_test_must_both_tell_two_rows_apart() -> None:
    """One of six seeds is lower, 4 of 64 swaps as far; or all of eight are higher, few by much."""
    for a, p_value, alone in (
        ([-1.0, 10.0, 10.1, 10.2, 10.3, 10.4], 4 / 2**6, "interval"),
        ([1.0, 1.0, 1.0, 30.0, 40.0, 60.0, 90.0, 100.0], 2 / 2**8, "test"),
    ):
        result = compare(row("a", a) + row("b", [0.0] * len(a)), "a", "b", TASK)
        assert result.p_value == p_value
        assert result.difference.includes_zero is (alone == "test")
        assert "a and b cannot be told apart: " in result.conclusion
        assert result.conclusion.endswith(f"; the {alone} alone would, and both must.")


def test_few_seeds_are_a_hint_at_most() -> None:
    result = compare(row("a", [10.0, 10.1, 10.2]) + row("b", [0.0, 0.0, 0.0]), "a", "b", TASK)
    assert result.difference.low > 0 and result.p_value == 0.25  # type: ignore[operator]
    assert result.conclusion.endswith("p cannot fall below 0.25, so this is a hint.")


def test_one_seed_says_nothing() -> None:
    result = compare(row("a", [10.0]) + row("b", [0.0]), "a", "b", TASK)
    assert result.difference.low is None and result.difference.high is None
    assert "nothing can be said" in result.conclusion


def test_the_largest_budget_that_has_both() -> None:
    records = (
        row("a", [1.0, 2.0]) + row("b", [1.0, 2.0]) + row("a", [5.0, 6.0], steps=1_000_000)
    )  # fmt: skip
    result = compare(records, "a", "b", TASK)
    assert result.protocol.budget.steps == 200_000
    assert result.difference.estimate == 0
    records += row("b", [7.0, 8.0], steps=1_000_000)
    assert compare(records, "a", "b", TASK).difference.estimate == -2


def test_rows_by_digest_and_left_out_seeds() -> None:
    records = board_records(4)
    digest = next(r for r in records if r.row == "grpo+trust-region").spec.configuration
    result = compare(records, digest[:10], "hard-pair-grpo-no-trust-region", TASK)
    assert result.a == "grpo+trust-region" and result.n_seeds == 3
    assert result.conclusion.endswith("; seeds that failed are left out.")


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        ("grop", "ppo", "no row 'grop' on halfcheetah-v4; did you mean grpo"),
        ("ppo", "hard-pair", "no row 'hard-pair'.*did you mean hard-pair-grpo"),
        ("ppo", "ppo", "are the same row"),
        ("ppo", "orpo", "share no finished seed"),
        ("ppo", "other", "are never on the same board"),
    ],
)
def test_bad_names(a: str, b: str, says: str) -> None:
    records = board_records(2) + row("other", [1.0], steps=5)
    with pytest.raises(PairBenchError, match=says):
        compare(records, a, b, TASK)


def test_what_the_seeds_could_show() -> None:
    """Differences 1, 2, 3: mean 2, deviation 1."""
    result = compare(row("a", [11.0, 22.0, 33.0]) + row("b", [10.0, 20.0, 30.0]), "a", "b", TASK)
    shift = statistics.detectable_shift(2)
    least = shift / 3**0.5 / statistics.EFFICIENCY
    assert result.minimum_detectable_difference == pytest.approx(least, rel=1e-5)
    assert result.seeds_to_separate == 6 == statistics.seeds_needed(2.0, 1.0)
    told = further(result)
    assert told[1].startswith("3 seeds can only hint at a true difference of ")
    assert told[1].endswith("with 80% power; one as large as the observed needs about 6")
    equal = compare(row("a", [1.0, 2.0]) + row("b", [2.0, 1.0]), "a", "b", TASK)
    assert equal.seeds_to_separate is None and "needs over 10,000" in further(equal)[1]
    alone = compare(row("a", [1.0]) + row("b", [2.0]), "a", "b", TASK)
    assert alone.minimum_detectable_difference is None and len(further(alone)) == 1


def test_gain_per_cost() -> None:
    """Above a floor of 4, a gains 6 and 8 for 2 labels and b gains 1 and 1 for 4."""
    records = (
        row("a", [10.0, 12.0], cost=Cost(scores=1, comparisons=1))
        + row("b", [5.0, 5.0], cost=Cost(scores=4))
        + row("reference", [4.0, 4.0], regime="no training")
    )
    labels = compare(records, "a", "b", TASK).per_cost["labels"]
    assert (labels.a, labels.b, labels.gain_a, labels.gain_b) == (2, 4, 3.5, 0.25)
    assert labels.difference is not None and labels.difference.estimate == 3.25
    steps = compare(records, "a", "b", TASK).per_cost["steps"]
    assert (steps.a, steps.gain_a, steps.difference) == (0, None, None)
    no_floor = compare(records[:4], "a", "b", TASK).per_cost["labels"]
    assert (no_floor.a, no_floor.gain_a) == (2, None)


def test_several_pairs_are_corrected() -> None:
    shared = [float(100 * k) for k in range(8)]
    records = (
        row("a", [x + 10 + k % 2 for k, x in enumerate(shared)])
        + row("b", shared)
        + row("c", [x + 0.1 * (-1) ** k for k, x in enumerate(shared)])
    )
    pairs = compare_all(records, ["a", "b", "c"], TASK)
    assert [(pair.a, pair.b) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [pair.p_value for pair in pairs] == [2 / 2**8, 2 / 2**8, 1.0]
    assert [pair.p_holm for pair in pairs] == pytest.approx([3 / 128, 3 / 128, 1.0], rel=1e-5)
    assert pairs[0].conclusion.endswith("p = 0.0078; Holm-corrected over 3 pairs p = 0.023.")
    (two,) = compare_all(records, ["a", "b"], TASK)
    assert two == compare(records, "a", "b", TASK) and "p_holm" not in two.model_dump()


def test_what_survives_no_correction_is_said_so() -> None:
    base = [0.0] * 6
    rows = {name: [10.0 * k + 0.1 * s for s in range(6)] for k, name in enumerate("bcd", 1)}
    records = row("a", base) + [r for name, rewards in rows.items() for r in row(name, rewards)]
    pairs = compare_all(records, list("abcd"), TASK)
    assert all(pair.p_value == 2 / 2**6 for pair in pairs)
    assert all(pair.p_holm == 0.1875 for pair in pairs)
    assert all(
        pair.conclusion.endswith("6 pairs p = 0.19, which does not confirm it.") for pair in pairs
    )


def test_pairs_are_compared_on_one_board() -> None:
    large = row("a", [5.0, 6.0], steps=1_000_000) + row("b", [5.0, 6.0], steps=1_000_000)
    small = [r for name in "abc" for r in row(name, [1.0, 2.0])]
    assert {p.protocol.budget.steps for p in compare_all(large + small, list("abc"), TASK)} == {
        200_000
    }
    apart = large + row("b", [1.0, 2.0]) + row("c", [1.0, 2.0])
    with pytest.raises(PairBenchError, match="a and c are never on the same board"):
        compare_all(apart, list("abc"), TASK)
    circle = [*apart, *row("a", [1.0], steps=5), *row("c", [1.0], steps=5)]
    with pytest.raises(PairBenchError, match=r"no board of .* has a shared seed of every pair"):
        compare_all(circle, list("abc"), TASK)
    with pytest.raises(PairBenchError, match="at least two rows"):
        compare_all(large, ["a"], TASK)


def test_two_folders_are_compared_row_by_row_on_the_boards_they_share() -> None:
    ours = [record(row, s) for row in ("grpo", "ppo", "reference") for s in range(4)]
    better = [record("grpo", s, config={"lr": 2.0}, level=9000.0) for s in range(4)]
    theirs = [*better, *[record("ppo", s) for s in range(4)], *board_records(2, steps=7)]
    found = compare_sides(ours, theirs, ("old", "new"))
    assert [(pair.a, pair.b) for pair in found] == [
        ("grpo (old)", "grpo (new)"), ("ppo (old)", "ppo (new)"),
    ]  # fmt: skip
    grpo, ppo = found
    assert grpo.difference.estimate < -3000 and "lower" in grpo.conclusion
    assert ppo.difference.estimate == 0
    assert "have the same mean score at each of 4 shared seeds" in ppo.conclusion
    assert not any("80% power" in line for line in further(ppo))  # there is nothing to find
    assert all("Holm-corrected over 2 pairs" in pair.conclusion for pair in found)


def test_two_records_are_compared_whatever_their_rows_and_claim_nothing() -> None:
    (one,) = compare_sides([record("grpo", 3)], [record("ppo", 3)], ("a.json", "b.json"))
    assert (one.a, one.b, one.seeds) == ("grpo (a.json)", "ppo (b.json)", [3])
    assert "nothing can be said" in one.conclusion and one.p_holm is None
    same = compare([record("grpo", 3), record("ppo", 3)], "grpo", "ppo", "halfcheetah-v4")
    assert one.difference == same.difference and one.per_cost["steps"].a == same.per_cost["steps"].a


def test_sides_with_nothing_in_common_are_told_so() -> None:
    with pytest.raises(PairBenchError, match="no board in common"):
        compare_sides([record("grpo", 0)], [record("grpo", 0, steps=7)], ("a", "b"))
    with pytest.raises(PairBenchError, match="share no row with a finished seed"):
        compare_sides([record("grpo", 0)], [record("ppo", 1)], ("a", "b"))


def test_two_folders_of_other_data_are_refused_and_of_other_code_are_named() -> None:
    read = {"data": "a" * 64, "source of grpo": "b" * 64}
    ours = [record("grpo", seed, read=read) for seed in range(3)]

    def theirs(**other: str) -> list[RunRecord]:
        return [
            record("grpo", seed, read={**read, **other}, scores=[1.0] * 16) for seed in range(3)
        ]

    with pytest.raises(PairBenchError) as refused:
        compare_sides(ours, theirs(data="c" * 64), ("old", "new"))
    assert str(refused.value) == (
        "old and new cannot be compared, as the data changed: aaaaaaaa to cccccccc: run both with "
        "the same"
    )
    (found,) = compare_sides(ours, theirs(**{"source of grpo": "d" * 64}), ("old", "new"))
    assert found.remarks == ["From old to new the source of grpo changed: bbbbbbbb to dddddddd."]
    assert found.remarks[0] in further(found)
    assert compare_sides(ours, theirs(), ("old", "new"))[0].remarks == []
