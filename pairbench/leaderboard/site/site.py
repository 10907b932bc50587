"""The pages of a results folder: boards, one page of all runs, one of all algorithms, an index.

Every page is a file that needs no server, no command and no network, and the same records, series
and code give the same bytes. Boards and algorithms are complete pages; the page of runs reads the
data of one board's runs from a file beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pairbench.errors import PairBenchError
from pairbench.leaderboard.build import Board, build, distinct
from pairbench.leaderboard.formats import render
from pairbench.leaderboard.overall import overall
from pairbench.leaderboard.site.algorithms import algorithms_page
from pairbench.leaderboard.site.index import claims_of, every_row, index_page, index_text
from pairbench.leaderboard.site.names import OVERALL, SITE_FORMATS, slugs
from pairbench.leaderboard.site.pages import board_page, filled, overall_page
from pairbench.leaderboard.site.runs import index_script, runs_script
from pairbench.leaderboard.site.sparklines import Series
from pairbench.results.files import atomic_write, refuse_link_out
from pairbench.results.marks import Reproduction
from pairbench.results.record import RunRecord


@dataclass(frozen=True)
class Site:
    """What was written: the boards, as `build` returns them, the page of each, and all files."""

    boards: list[Board]
    pages: list[Path]
    files: list[Path]


def write_site(
    records: Iterable[RunRecord],
    folder: Path,
    marks: Iterable[Reproduction] = (),
    series: Mapping[str, Series] | None = None,
    results: Path | str = "results",
) -> Site:
    """Writes every board as Markdown, JSON and a page, and the pages that belong to them.

    Those are the board over all tasks, the pages of all runs and of all algorithms, and an index,
    which links the pages of the claims and of the replication if the folder has them. Files that
    would not change are not touched, and files of boards that are gone are left alone.

    Args:
        records: any records, in any order.
        folder: where the files go.
        marks: runs that were rebuilt.
        series: what was measured in each iteration, by the run's identity.
        results: the folder or url of the records, for the commands that run them again.

    Returns:
        The boards and the files of the site; none where there are no records.

    Raises:
        PairBenchError: the folder cannot be written, or a link leads out of it.
    """
    kept = distinct(records)
    rebuilt: dict[str, list[Reproduction]] = defaultdict(list)
    for mark in marks:
        rebuilt[mark.identity].append(mark)
    boards = build(kept, marks=[mark for several in rebuilt.values() for mark in several])
    if not boards:
        return Site([], [], [])
    stems = slugs(boards)
    known = {record.identity: record for record in kept}
    measured = series or {}
    texts: dict[str, str] = {}
    for stem, board in zip(stems, boards, strict=True):
        texts |= {f"{stem}.{end}": render(board, form) for end, form in SITE_FORMATS.items()}
        texts[f"{stem}.html"] = board_page(board, linked=True, series=measured)
        texts[f"runs/{stem}.js"] = runs_script(stem, board, known, rebuilt, measured, results)
    both = overall(kept, boards=boards)
    if both is not None:
        texts |= {f"{OVERALL}.{end}": render(both, form) for end, form in SITE_FORMATS.items()}
        texts[f"{OVERALL}.html"] = overall_page(both, *every_row(boards, stems, both))
    texts["runs/index.js"] = index_script(boards, stems)
    texts["run.html"] = filled("run")
    texts["algorithms.html"] = algorithms_page(boards, stems)
    beside = [name for name in ("claims", "replication") if (folder / f"{name}.html").exists()]
    texts["index.html"] = index_page(boards, stems, both, beside, claims_of(folder))
    texts["README.md"] = index_text(boards, stems, both, beside)
    try:
        for name, text in texts.items():
            path, data = folder / name, text.encode()
            refuse_link_out(folder, path.parent)
            if not (path.is_file() and path.read_bytes() == data):
                atomic_write(path, data)
    except OSError as error:
        raise PairBenchError(
            f"cannot write the leaderboards to {folder} ({error.strerror}): name a folder that can "
            "be written"
        ) from error
    return Site(
        boards=boards,
        pages=[folder / f"{stem}.html" for stem in stems],
        files=sorted(folder / name for name in texts),
    )
