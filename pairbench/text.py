"""Words for people: numbers, durations, names on one line, and what may have been meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

_DRIVING = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\r(?!\n)")


def printable(text: str | None) -> str:
    """Returns text on one line without control characters, so that a name drives no terminal."""
    return "".join(c if c.isprintable() else " " for c in text or "")


def sober(text: str) -> str:
    """Returns text of several lines without what drives a terminal: escapes, and turns of order."""
    if text.isascii() and text.isprintable():
        return text
    return _DRIVING.sub(" ", text)


def number(value: float) -> str:
    """Returns a number as a reader wants it: whole from 100 up, else three or four digits."""
    if abs(value) < 1e-14:  # what sums of opposite numbers near 1 leave
        value = 0.0
    if value == int(value) or abs(value) >= 100:
        return f"{value:z.0f}"
    return f"{value:#.4g}" if 1 <= abs(value) < 10 else f"{value:#.3g}".rstrip(".")


def duration(seconds: float) -> str:
    """Returns h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def error_line(error: BaseException) -> str:
    """Returns the kind of an error of foreign code and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no message'}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns the end of a sentence that says that there is no `name`.

    It is "; did you mean a or b?" with up to three of the `known` names that resemble or contain
    it, else "; known are a, b" with all of them, else nothing.
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=8, cutoff=0.5)
    close = close or [other for other in names if name and name in other]  # it was cut short
    if close:
        close.sort(key=lambda other: sorted(other) != sorted(name))  # swapped letters come first
        return f"; did you mean {' or '.join(close[:3])}?"
    return f"; known are {', '.join(names)}" if names else ""
