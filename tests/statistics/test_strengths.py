"""Bradley-Terry strengths: worked cases, the library evalica, and what must not move them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from pairbench import statistics
from pairbench.seeding import generator

FEW = settings(max_examples=40, deadline=None)


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    """Whole numbers of wins and ties between two to five rows."""
    rows = draw(st.integers(2, 5))
    wins = np.zeros((rows, rows))
    for i, j in itertools.combinations(range(rows), 2):
        ties = draw(st.integers(0, 4))
        wins[i, j] = draw(st.integers(0, 20)) + ties / 2
        wins[j, i] = draw(st.integers(0, 20)) + ties / 2
    return wins


def test_two_rows_by_hand() -> None:
    """The odds are the wins': 3 to 1, or 3.5 to 1.5 with one more tie."""
    wins = [[0.0, 3.0], [1.0, 0.0]]
    plain = statistics.bradley_terry(wins, draws=0.0)
    assert plain.tolist() == pytest.approx([np.log(3) / 2, -np.log(3) / 2])
    assert np.ptp(statistics.bradley_terry(wins)) == pytest.approx(np.log(3.5 / 1.5))


def test_three_rows_by_hand() -> None:
    """Odds 2:1, 4:1 and 2:1 are those of strengths 4, 2, 1, so the fit is exact."""
    wins = np.array([[0, 20, 40], [10, 0, 20], [10, 10, 0]], dtype=float)
    fit = statistics.bradley_terry(wins, draws=0.0)
    assert np.exp(fit - fit[2]).tolist() == pytest.approx([4.0, 2.0, 1.0])
    assert fit.sum() == pytest.approx(0.0, abs=1e-12)


def test_unbeaten_rows_need_draws() -> None:
    wins = [[0.0, 9.0], [0.0, 0.0]]
    with pytest.raises(ValueError, match="add draws"):
        statistics.bradley_terry(wins, draws=0.0)
    assert np.ptp(statistics.bradley_terry(wins)) == pytest.approx(np.log(9.5 / 0.5))
    assert statistics.bradley_terry([[0.0]]).tolist() == [0.0]


@pytest.mark.parametrize(
    ("wins", "says"),
    [([[0.0, 1.0]], "rows, rows"), ([[0.0, -1.0], [0.0, 0.0]], "at least 0"), ([], "rows, rows")],
)
def test_bad_wins(wins: list[list[float]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        statistics.bradley_terry(wins)


@FEW
@given(tables(), st.data())
def test_symmetries(wins: np.ndarray, data: st.DataObject) -> None:
    fit = statistics.bradley_terry(wins)
    order = data.draw(st.permutations(range(len(wins))))
    again = statistics.bradley_terry(wins[np.ix_(order, order)])
    assert again == pytest.approx(fit[list(order)], abs=1e-8)
    assert statistics.bradley_terry(wins.T) == pytest.approx(-fit, abs=1e-8)
    assert statistics.bradley_terry(wins + wins.T) == pytest.approx(np.zeros(len(wins)), abs=1e-8)
    assert statistics.bradley_terry(wins, start=fit + 3) == pytest.approx(fit, abs=1e-7)


@FEW
@given(tables())
def test_expected_wins_are_the_wins(wins: np.ndarray) -> None:
    """What the maximum of the likelihood means: each row's wins are those the strengths expect."""
    wins = wins + 0.5 * ~np.eye(len(wins), dtype=bool)
    fit = statistics.bradley_terry(wins, draws=0.0)
    expected = (wins + wins.T) / (1 + np.exp(fit[None, :] - fit[:, None]))
    assert expected.sum(axis=1) == pytest.approx(wins.sum(axis=1), abs=1e-6)


def test_the_library_evalica_gives_the_same_strengths() -> None:
    evalica = pytest.importorskip("evalica", reason="in the extra `test`")
    stream = generator(11, "test")
    for rows in (2, 5, 12):
        wins, ties = stream.integers(0, 30, (rows, rows)), stream.integers(1, 5, (rows, rows))
        left, right, winner, weight = [], [], [], []
        table = np.zeros((rows, rows))
        for i, j in itertools.combinations(range(rows), 2):
            for who, count in (
                (evalica.Winner.X, wins[i, j]),
                (evalica.Winner.Y, wins[j, i]),
                (evalica.Winner.Draw, ties[i, j]),
            ):
                left.append(i), right.append(j), winner.append(who), weight.append(float(count))
            table[i, j] = wins[i, j] + ties[i, j] / 2
            table[j, i] = wins[j, i] + ties[i, j] / 2
        theirs = evalica.bradley_terry(
            left, right, winner, weights=weight, tolerance=1e-12, limit=100_000
        )
        theirs = np.log(theirs.scores.sort_index().to_numpy())
        ours = statistics.bradley_terry(table, draws=0.0)
        assert ours == pytest.approx(theirs - theirs.mean(), abs=1e-8)


def test_intervals_over_seeds() -> None:
    stream = generator(12, "test")
    upper = np.triu(stream.integers(0, 17, (6, 4, 4)).astype(float), 1)
    wins = upper + np.tril(16 - upper.swapaxes(1, 2), -1)
    found = statistics.bradley_terry_intervals(wins, replicates=500)
    assert [e.estimate for e in found] == statistics.bradley_terry(wins.sum(axis=0)).tolist()
    assert all(e.low < e.estimate < e.high for e in found)  # type: ignore[operator]
    assert found == statistics.bradley_terry_intervals(wins[::-1], replicates=500)
    alone = statistics.bradley_terry_intervals(wins[:1])
    assert all(e.low is None and e.high is None for e in alone)
    equal = statistics.bradley_terry_intervals(np.repeat(wins[:1], 3, axis=0), replicates=50)
    assert all(e.high - e.low == pytest.approx(0, abs=1e-7) for e in equal)  # type: ignore[operator]
    with pytest.raises(ValueError, match="seeds, rows, rows"):
        statistics.bradley_terry_intervals(wins[0])
