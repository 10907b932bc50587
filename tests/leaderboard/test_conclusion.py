"""What a board says in one sentence."""

from __future__ import annotations

import pytest

from pairbench.leaderboard import build
from pairbench.leaderboard.conclusion import conclusion, listed
from pairbench.leaderboard.text import as_markdown
from tests.support.records import record


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, ""),
        (1, "a"),
        (2, "a and b"),
        (3, "a, b and c"),
        (4, "a, b and two more"),
        (8, "a, b and six more"),
        (14, "a, b and 12 more"),
    ],
)
def test_names_are_listed_and_the_rest_counted(count: int, said: str) -> None:
    assert listed([chr(ord("a") + k) for k in range(count)]) == said


def _board(seeds: int, **levels: float):  # type: ignore[no-untyped-def]
    """Rows with these mean scores, each with the same spread over its seeds."""
    moves = [1.0, -1.0, 0.5, -0.5, 0.25, -0.25, 0.75, -0.75, 0.125, -0.125]
    return build(
        [
            record(name, seed, algorithm=name, scores=[level + moves[(seed + at) % 10]] * 4)
            for at, (name, level) in enumerate(levels.items())
            for seed in range(seeds)
        ]
    )[0]


def test_rows_that_overlap_are_not_told_apart_and_the_worse_one_is_named() -> None:
    board = _board(10, grpo=10.0, ppo=10.2, dpo=2.0, reference=0.0)
    assert [row.rank for row in board.rows] == [1, 1, 3, 4]
    assert conclusion(board) == (
        "ppo and grpo are not told apart; dpo is worse than both (paired interval and test, "
        "corrected for all pairs)."
    )
    assert conclusion(board) in as_markdown(board)


def test_five_seeds_call_no_row_worse() -> None:
    """The least p-value of five paired seeds is 2 / 2^5 = .0625, however far rows are apart."""
    board = _board(5, grpo=10.0, ppo=10.2, dpo=2.0)
    assert conclusion(board) == (  # the spread of these seeds puts grpo first
        "grpo and ppo are not told apart; no other row is shown to be worse than both."
    )


def test_what_does_not_hold_for_all_pairs_is_called_uncorrected() -> None:
    """Six seeds reach 2 / 2^6 = .031, and three pairs thrice that."""
    board = _board(6, grpo=10.0, ppo=10.2, dpo=2.0)
    assert conclusion(board).endswith(
        "dpo is worse than both (paired interval and test, uncorrected)."
    )


def test_one_row_may_lead_and_none_may_be_worse() -> None:
    assert conclusion(_board(10, grpo=20.0, ppo=10.0)) == (
        "grpo is first, its whole interval above the next row's; ppo is worse than it (paired "
        "interval and test, corrected for all pairs)."
    )
    assert conclusion(_board(10, grpo=10.0, ppo=10.1)) == ("ppo and grpo are not told apart.")
    assert conclusion(_board(10, grpo=10.0)) == ""
    assert conclusion(_board(1, grpo=10.0, ppo=1.0)) == ""  # no rank, and so no word
