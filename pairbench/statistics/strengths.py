"""Bradley-Terry strengths of many rows from who beat whom."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pairbench.statistics.aggregates import Array, numbers
from pairbench.statistics.intervals import Estimate, canonical, resample_counts, widened

DRAWS = 1.0
"""Drawn comparisons added to every pair of rows, so that a row that won them all stays finite."""

FITS = 4_000
"""Resamples of an interval of strengths, each a fit."""

BATCH = 500


def bradley_terry(wins: ArrayLike, draws: float = DRAWS, start: ArrayLike | None = None) -> Array:
    """Returns the log-strengths (..., K) of K rows, their mean zero.

    P(i beats j) = 1 / (1 + exp(s_j - s_i)): R. A. Bradley and M. E. Terry, "Rank Analysis of
    Incomplete Block Designs" (1952). The maximum of the likelihood, by Newton steps of at most one
    unit (checked against the library evalica in the tests: it gives the same numbers, one fit at a
    time).

    Args:
        wins: (..., K, K) comparisons that row i won against row j, a tie half a win for each; the
            diagonal is not read.
        draws: comparisons added to every pair as ties. Without any, a row that won everything has
            no finite strength, and rows that never met no common scale.
        start: (K,) strengths to begin from; they change the time this takes, not the result.

    Raises:
        ValueError: if the shape is wrong, a count is negative or not finite, or there is no
            maximum.
    """
    table = np.array(wins, dtype=np.float64)
    if table.ndim < 2 or table.shape[-1] != table.shape[-2] or not table.shape[-1]:
        raise ValueError(f"wins must be (rows, rows), not {table.shape}")
    if not np.isfinite(table).all() or (table < 0).any():
        raise ValueError("wins must be finite and at least 0")
    rows = table.shape[-1]
    table = (table + draws / 2) * ~np.eye(rows, dtype=bool)
    flat = table.reshape(-1, rows, rows)
    first = np.zeros(rows) if start is None else numbers(start)
    pieces = [_fit(flat[at : at + BATCH], first) for at in range(0, len(flat), BATCH)]
    fitted = np.concatenate(pieces) if pieces else np.zeros((0, rows))
    return fitted.reshape(table.shape[:-1])


def bradley_terry_intervals(
    wins: ArrayLike,
    *,
    draws: float = DRAWS,
    level: float = 0.95,
    replicates: int = FITS,
) -> list[Estimate]:
    """Returns each row's log-strength with an interval that resamples seeds.

    Args:
        wins: (seeds, K, K) comparisons that row i won against row j at each seed, zeros where the
            two did not meet. A row's interval is stretched for the seeds at which it met another,
            and there is none for fewer than two of those.
        draws: comparisons added to every pair as ties, once over all seeds: see `bradley_terry`.
        level: nominal coverage.
        replicates: resamples of the seeds.

    Raises:
        ValueError: if there is no seed, or as `bradley_terry`.
    """
    table = np.asarray(wins, dtype=np.float64)
    if table.ndim != 3 or not len(table):
        raise ValueError("strengths need (seeds, rows, rows) wins")
    estimates = bradley_terry(table.sum(axis=0), draws)
    seeds, rows = table.shape[:2]
    present = (table + table.swapaxes(1, 2)).any(axis=2).sum(axis=0)
    if present.max() < 2:
        return [Estimate(float(estimate), None, None) for estimate in estimates]
    drawn = resample_counts(0, seeds, replicates).astype(np.float64)
    summed = drawn @ canonical(table).reshape(seeds, -1)
    values = bradley_terry(summed.reshape(replicates, rows, rows), draws, estimates)
    return [
        widened([estimate], values[:, row][None], [count], level)[0]
        if count > 1
        else Estimate(float(estimate), None, None)
        for row, (estimate, count) in enumerate(zip(estimates, present.tolist(), strict=True))
    ]


def _fit(wins: Array, start: Array) -> Array:
    """Newton's method on (R, K, K) win counts at once."""
    met = wins + wins.swapaxes(-1, -2)
    rows = wins.shape[-1]
    strengths = np.tile(start, (len(wins), 1))
    diagonal = np.arange(rows)
    for turn in range(200):
        expected = 1 / (1 + np.exp(strengths[..., None, :] - strengths[..., :, None]))
        gradient = (wins - met * expected).sum(axis=-1)
        curvature = met * expected * (1 - expected)
        if turn == 0:  # from one place, with one curvature for all: enough for a first step
            curvature = curvature.mean(axis=0, keepdims=True)
        hessian = -curvature
        hessian[..., diagonal, diagonal] = curvature.sum(axis=-1)
        hessian += 1.0 / rows  # the mean is free: held at zero
        try:
            if turn == 0:
                step = np.linalg.solve(hessian[0], gradient.T).T
            else:
                step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
        except np.linalg.LinAlgError:
            break
        size = np.abs(step).max(axis=-1, keepdims=True)
        strengths += step / np.maximum(size, 1.0)
        if size.max() < 1e-7:  # what is left is of the order of its square
            return np.asarray(strengths - strengths.mean(axis=-1, keepdims=True))
    raise ValueError(
        "no finite strengths fit these wins: a row won or lost everything, or two never met; "
        "add draws"
    )
