"""Words for people: numbers, durations, names on one line, and what may have been meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def printable(text: str | None) -> str:
    """Returns text on one line without control characters, so that a name drives no terminal."""
    return "".join(c if c.isprintable() else " " for c in text or "")


def number(value: float) -> str:
    """Returns a number as a reader wants it: whole from 100 up, else three or four digits."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:#.4g}" if 1 <= abs(value) < 10 else f"{value:#.3g}".rstrip(".")


def duration(seconds: float) -> str:
    """Returns h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def nearest(name: str, known: Sequence[str]) -> str:
    """Returns "; did you mean a or b?" with the names closest to `name`, else all known ones."""
    close = get_close_matches(name, known, n=8, cutoff=0.5)
    if close:
        close.sort(key=lambda other: sorted(other) != sorted(name))  # swapped letters come first
        return f"; did you mean {' or '.join(close[:3])}?"
    return f"; known are {', '.join(sorted(known))}" if known else ""


def near(name: str, known: Iterable[str]) -> list[str]:
    """Returns up to three of `known` that resemble `name`, or else up to eight of all."""
    names = sorted(known)
    return get_close_matches(name, names, n=3, cutoff=0.5) or names[:8]


def unknown(kind: str, name: str, known: Sequence[str], where: str) -> str:
    """Returns a sentence: there is no such thing there, and which of the known may be meant."""
    if not known:
        return f"no {kind} {name!r} {where}: there are no records, run something first"
    return f"no {kind} {name!r} {where}: did you mean {', '.join(near(name, known))}?"
