"""Series drawn small: means of equal parts, gaps that stay gaps, one scale for many rows."""

from __future__ import annotations

import re

import numpy as np

from pairbench.leaderboard.site.sparklines import PARTS, bands, svg, thin


def heights(picture: str) -> list[list[float]]:
    """The y of each piece of the last path."""
    path = re.findall(r'd="([^"]*)"', picture)[-1]
    return [
        [float(point.split()[1]) for point in piece.split("L")]
        for piece in path.split("M")
        if piece
    ]


def test_parts_are_means_and_ends_are_single_values() -> None:
    values = np.repeat(np.arange(PARTS, dtype=float), 3)
    values[::3] -= 1
    values[2::3] += 1
    strip = thin(values)
    assert strip is not None and strip.parts == list(range(PARTS))
    assert (strip.low, strip.high) == (-1.0, PARTS)
    short = thin([3.0, 5.0])
    assert short is not None and short.parts == [3.0, 5.0]


def test_what_was_not_measured_is_a_gap() -> None:
    strip = thin([1.0, np.nan, np.inf, 2.0, 3.0])
    assert strip is not None and strip.parts == [1.0, None, None, 2.0, 3.0]
    points = [v if v is None else (v, v, v) for v in strip.parts]
    assert [len(piece) for piece in heights(svg(points, 1.0, 3.0))] == [1, 2]
    assert thin([np.nan, np.nan]) is None and thin([]) is None


def test_rows_share_a_scale_that_one_spike_does_not_set() -> None:
    flat = {"x": np.full(40, 1.0)}
    risen = {"x": np.full(40, 3.0)}
    spike = {"x": np.concatenate([np.full(39, 3.0), [1e9]])}
    found = bands([[flat], [risen, risen, spike], [{}]], "x")
    assert found is not None and (found.low, found.high, found.logarithmic) == (1.0, 3.0, False)
    low, high, none = found.strips
    assert low is not None and high is not None and none is None
    assert heights(low)[0][0] > heights(high)[0][0]  # y grows downwards
    assert "spread" in high and "spread" not in low
    assert bands([[{}]], "x") is None


def test_a_wide_scale_is_logarithmic() -> None:
    found = bands([[{"x": np.geomspace(0.01, 100, 40)}], [{"x": np.zeros(40)}]], "x")
    assert found is not None and found.logarithmic and found.strips[0] is not None
    steps = np.diff(heights(found.strips[0])[0])
    inner = steps[np.abs(steps) > 0][1:-1]
    assert np.ptp(inner) < 0.21  # equal ratios, equal steps, to the rounding of one decimal


def test_a_strip_without_range_is_drawn() -> None:
    assert len(heights(svg([(2.0, 2.0, 2.0)] * 5, 2.0, 2.0))[0]) == 5
