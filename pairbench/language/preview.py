"""What is told of a language task's pairs before its first run, beside what `check` refuses."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

from pairbench.language.data.forms import blank
from pairbench.language.data.load import raw_pairs
from pairbench.language.data.pairs import Pair, Preferences
from pairbench.language.task import LanguageTask
from pairbench.task import Task


def preview(task: Task) -> list[str]:
    """Returns a sentence on each thing that its reader would want to know of the pairs.

    Raises:
        PairBenchError: the cut makes the answers of all pairs of a use equal.
    """
    if not isinstance(task, LanguageTask):
        return []
    data, source = task.data, Path(task.source_of_pairs)
    if not any(pair.chosen for pair in data.pairs):  # prompts alone
        return []
    pairs = data.split()
    if any(
        part and all(_shared(pair) >= task.config.pair_tokens for pair in part)
        for part in (pairs["policy"], pairs["evaluation"], pairs["proxy"])
    ):  # a token is a byte at least, so that hardly any data go through the cut here
        _ = task.prompts
    said = []
    if both := contradictory(data):
        said.append(
            f"{data.name}: {both} pair{'s' * (both > 1)} of {len(data.pairs)} prefer what another "
            "of the same prompt rejects, and reject what it prefers: all are trained on as they are"
        )
    if source.is_file() and (
        system := sum(not blank(row.fields.get("system")) for row in raw_pairs(source))
    ):
        said.append(
            f"{data.name}: the column 'system' is not read, and {system} "
            f"row{'s' * (system > 1)} have one: make it the first message of the prompt, with the "
            "role system"
        )
    return said


def contradictory(data: Preferences) -> int:
    """Returns how many pairs have the answers of another of their prompt the other way round."""
    known = {(pair.prompt, pair.chosen, pair.rejected) for pair in data.pairs}
    return sum((pair.prompt, pair.rejected, pair.chosen) in known for pair in data.pairs)


def _shared(pair: Pair) -> int:
    """Returns how many bytes both answers begin with."""
    both = zip(pair.chosen.encode(), pair.rejected.encode())
    return sum(1 for _ in takewhile(lambda at: at[0] == at[1], both))
