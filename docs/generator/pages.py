"""Marked parts of Markdown files, and what fills them.

A part stands between two comments, which no reader of the rendered page sees. The first names a
function and its arguments, the second ends the part:

    GRPO ends at <!--reward grpo-->4093 [3024, 4888]<!--/-->.

A part of several lines has its two comments on lines of their own. `<!--board NAME-->` says which
board of leaderboards/ the parts below it are about, up to the next such comment.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PART = re.compile(r"<!--(?P<call>[a-z][^>]*?)-->(?:(?P<text>(?:(?!<!--).)*?)<!--/-->)?", re.S)
FENCE = re.compile(r"^(`{3,}).*?^\1[ ]*$", re.M | re.S)

Filler = Callable[..., str]
FILLERS: dict[str, Filler] = {}
"""What fills a part, by the name that its comment gives. The first argument is the board's name."""


class Wrong(ValueError):
    """A part that cannot be filled, or a sentence that the numbers no longer bear out."""


def filler(function: Filler) -> Filler:
    """Registers a function that fills parts: `under_scores` become `hyphens`."""
    FILLERS[function.__name__.replace("_", "-")] = function
    return function


def files() -> Iterator[Path]:
    """Yields every file that may hold generated parts."""
    yield ROOT / "README.md"
    yield from sorted((ROOT / "docs").rglob("*.md"))


def filled(text: str, where: str = "") -> str:
    """Returns a page's text with its parts filled anew.

    Raises:
        Wrong: a comment names no filler, its part does not end, or the filler refuses.
    """
    board = ""

    def fill(match: re.Match[str]) -> str:
        nonlocal board
        name, *arguments = shlex.split(match["call"])
        if name == "board":
            (board,) = arguments
            return match[0]
        if name not in FILLERS:
            return match[0]
        if match["text"] is None:
            raise Wrong(f"{where}: <!--{match['call']}--> is followed by no <!--/-->")
        try:
            text = FILLERS[name](board, *arguments)
        except (Wrong, AttributeError, ImportError, KeyError, TypeError) as error:
            raise Wrong(f"{where}: <!--{match['call']}-->: {error}") from error
        if match["text"].startswith("\n"):
            text = f"\n\n{text}\n\n"
        elif not match.string[: match.start()].rpartition("\n")[2].strip():
            raise Wrong(
                f"{where}: <!--{match['call']}--> begins a line, which Markdown takes for HTML"
            )
        return f"<!--{match['call']}-->{text}<!--/-->"

    return PART.sub(fill, text)
