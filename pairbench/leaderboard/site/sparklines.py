"""Series of a run drawn small: one thin chart per quantity, in equal parts of the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike

from pairbench.text import number

PARTS = 40
"""Points of a strip: a run's iterations are averaged in as many equal parts."""

SHOWN = {
    "grad_norm": "gradient norm",
    "kl_old": "KL to the sampler",
    "kl_ref": "KL to the reference",
    "clip_fraction": "share clipped",
    "entropy": "entropy",
    "score": "score of the batch",
    "loss": "loss",
    "explained_variance": "explained variance",
}
"""Series that are drawn, by their names in the files, in words; kl is in nats per step."""

STEADY = ("grad_norm", "kl_old", "clip_fraction", "entropy")
"""Those that a board shows of each row."""

HEIGHT = 20
SPACE = 0.02

Series = Mapping[str, ArrayLike]
Band = tuple[float, float, float]
"""A middle, and the least and largest value."""


class Strip(NamedTuple):
    """A quantity over a run: the least and largest measured value, and the means of the parts."""

    low: float
    high: float
    parts: list[float | None]


def thin(values: ArrayLike) -> Strip | None:
    """Returns a series as a strip of at most `PARTS` parts; None where nothing was measured."""
    found = np.asarray(values, dtype=np.float64)
    measured = found[np.isfinite(found)]
    if not len(measured):
        return None
    parts = []
    for part in np.array_split(found, min(PARTS, len(found))):
        kept = part[np.isfinite(part)]
        parts.append(float(f"{kept.mean():.4g}") if len(kept) else None)
    return Strip(float(measured.min()), float(measured.max()), parts)


class Bands(NamedTuple):
    """A quantity of several rows on one scale: its ends, whether it is logarithmic, the strips."""

    low: float
    high: float
    logarithmic: bool
    strips: list[Markup | None]


def bands(runs: Iterable[Iterable[Series]], name: str) -> Bands | None:
    """Returns a strip for each row, or None where nothing was measured.

    A strip is the median over the row's seeds with their least and largest value behind it. The
    scale ends at the 2nd and 98th percentile of the medians, since one spike would flatten the
    rest; it is logarithmic, over three decades at most, where positive values span more than 20.

    Args:
        runs: the series of each seed, of each row.
        name: which quantity.
    """
    rows = []
    for seeds in runs:
        strips = [thin(series[name]) for series in seeds if name in series]
        parts = [strip.parts for strip in strips if strip is not None]
        rows.append([_spread(column) for column in zip(*parts)])
    middles = [band[0] for row in rows for band in row if band is not None]
    if not middles:
        return None
    low, high = (float(end) for end in np.percentile(middles, [2, 98]))
    logarithmic = min(middles) >= 0 and high > 20 * low and high > 0
    if not logarithmic:
        return Bands(low, high, False, [svg(row, low, high) if any(row) else None for row in rows])
    least = max(low, high / 1000)
    ends = float(np.log10(least)), float(np.log10(high))
    strips_of = [
        svg([band and _logarithm(band, least) for band in row], *ends) if any(row) else None
        for row in rows
    ]
    return Bands(least, high, True, strips_of)


def _logarithm(band: Band, least: float) -> Band:
    low, middle, high = (float(np.log10(max(value, least))) for value in sorted(band))
    return middle, low, high


def _spread(column: Sequence[float | None]) -> Band | None:
    values = [value for value in column if value is not None]
    return (float(np.median(values)), min(values), max(values)) if values else None


def svg(points: Sequence[Band | None], low: float, high: float) -> Markup:
    """Returns points (middle, low, high) as an SVG picture without a text; gaps stay gaps."""
    width = (high - low) or abs(high) or 1.0

    def place(value: float) -> str:
        share = min(max((value - low) / width, -SPACE), 1 + SPACE)
        return f"{HEIGHT * (0.95 - 0.9 * share):.1f}".removesuffix(".0")

    line = ""
    areas = []
    piece: list[tuple[int, Band]] = []
    for k, point in enumerate([*points, None]):
        if point is not None:
            piece.append((k, point))
            continue
        if piece:
            line += "M" + "L".join(f"{at} {place(band[0])}" for at, band in piece)
            if any(band[1] < band[2] for _, band in piece):
                upper = "L".join(f"{at} {place(band[2])}" for at, band in piece)
                lower = "L".join(f"{at} {place(band[1])}" for at, band in reversed(piece))
                areas.append(f'<path class="spread" d="M{upper}L{lower}Z"/>')
        piece = []
    size = max(len(points) - 1, 1)
    return Markup(
        f'<svg class="strip" viewBox="0 0 {size} {HEIGHT}" preserveAspectRatio="none" '
        f'aria-hidden="true">{"".join(areas)}<path d="{line}"/></svg>'
    )


def scale(low: float, high: float) -> str:
    """Returns the ends of a strip's scale in words."""
    return f"{number(float(f'{low:.3g}'))} to {number(float(f'{high:.3g}'))}"
