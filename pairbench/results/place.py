"""Where results are: a folder, or a url with a folder that stands in for it."""

from __future__ import annotations

from pathlib import Path

from pairbench.errors import PairBenchError


def is_url(place: Path | str) -> bool:
    """Whether results are named by a url, and not by a folder."""
    return isinstance(place, str) and "://" in place


def at_hand(place: Path | str) -> tuple[Path, list[str]]:
    """Returns a folder to read results from, and one sentence for each object left out of it.

    Raises:
        PairBenchError: it is a url that is out of reach, or that holds no results.
    """
    if not is_url(place):
        return Path(place), []
    from pairbench.results.url.sync import Mirror

    return Mirror(str(place)).show()


def results_folder(root: Path | str) -> tuple[Path, list[str]]:
    """Returns a results folder to read from, as `at_hand` does.

    Raises:
        PairBenchError: there is no such folder, or it is a url that cannot be read.
    """
    folder, problems = at_hand(root)
    if not folder.is_dir():
        raise PairBenchError(f"there is no results folder {folder}: run something first")
    return folder, problems
