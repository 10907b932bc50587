"""The pages of a results folder: boards, a page per algorithm, a page per run, and an index.

Boards are self-contained; the pages of algorithms and runs, of which there are many, share one
style sheet beside them. Nothing needs a server, and the same records, series and code give the same
bytes.
"""

from __future__ import annotations

import inspect
import json
import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from pairbench.errors import PairBenchError
from pairbench.leaderboard.build import CAVEAT, JUDGES, Board, build, distinct, flat
from pairbench.leaderboard.formats import render
from pairbench.leaderboard.overall import overall
from pairbench.leaderboard.rows import Row
from pairbench.leaderboard.site.names import (
    OVERALL,
    SITE_FORMATS,
    algorithm_file,
    run_file,
    slugs,
)
from pairbench.leaderboard.site.pages import board_page, environment, index_page
from pairbench.leaderboard.site.sparklines import SHOWN, Series, drawn, scale, thin
from pairbench.leaderboard.text import cell
from pairbench.registry import get_algorithm
from pairbench.results.files import atomic_write
from pairbench.results.folder import Store
from pairbench.results.marks import Reproduction
from pairbench.results.record import RunRecord


def write_site(
    records: Iterable[RunRecord],
    folder: Path,
    marks: Iterable[Reproduction] = (),
    series: Mapping[str, Series] | None = None,
) -> list[Path]:
    """Writes every board as Markdown, CSV, JSON and a page, and the pages that belong to them.

    Those are the board over all tasks, a page per algorithm and per run, and an index, which links
    the pages of the claims and of the replication if the folder has them. Files that would not
    change are not touched, and files of boards that are gone are left alone.

    Args:
        records: any records, in any order.
        folder: where the files go.
        marks: runs that were rebuilt.
        series: what was measured in each iteration, by the run's identity.

    Returns:
        The files of the site, sorted; none where there are no records.

    Raises:
        PairBenchError: the folder cannot be written.
    """
    kept = distinct(records)
    rebuilt = list(marks)
    measured = series or {}
    boards = build(kept, marks=rebuilt)
    if not boards:
        return []
    stems = slugs(boards)
    texts = {}
    for stem, board in zip(stems, boards, strict=True):
        for suffix, format in SITE_FORMATS.items():
            if format != "html":
                texts[f"{stem}.{suffix}"] = render(board, format)
        texts[f"{stem}.html"] = board_page(board, linked=True, series=measured)
    both = overall(kept, boards=boards)
    if both is not None:
        for suffix, format in SITE_FORMATS.items():
            texts[f"{OVERALL}.{suffix}"] = render(both, format)
    texts["style.css"] = (
        files("pairbench.leaderboard.site").joinpath("static/style.css").read_text("utf-8")
    )
    texts |= _run_pages(kept, boards, stems, rebuilt, measured)
    algorithms = _algorithm_pages(boards, stems)
    texts |= algorithms
    beside = {name: (folder / f"{name}.html").exists() for name in ("claims", "replication")}
    ranked = sorted({row.algorithm for board in boards for row in board.rows})
    texts["index.html"] = index_page(boards, stems, both, algorithms=ranked, **beside)
    try:
        for name, text in texts.items():
            path, data = folder / name, text.encode()
            if not (path.is_file() and path.read_bytes() == data):
                atomic_write(path, data)
    except OSError as error:
        raise PairBenchError(
            f"cannot write the leaderboards to {folder} ({error.strerror}): name a folder that can "
            "be written"
        ) from error
    return sorted(folder / name for name in texts)


def _run_pages(
    records: list[RunRecord],
    boards: list[Board],
    stems: list[str],
    marks: list[Reproduction],
    series: Mapping[str, Series],
) -> dict[str, str]:
    homes = {
        run: (stem, board, row)
        for stem, board in zip(stems, boards, strict=True)
        for row in board.rows
        for run in row.runs.values()
    }
    rebuilt = defaultdict(list)
    for mark in marks:
        rebuilt[mark.identity].append(mark)
    return {
        run_file(record.identity): run_page(
            record, *homes[record.identity], rebuilt[record.identity], series.get(record.identity)
        )
        for record in records
    }


def run_page(
    record: RunRecord,
    stem: str,
    board: Board,
    row: Row,
    marks: Iterable[Reproduction] = (),
    series: Series | None = None,
) -> str:
    """Returns a run's page: scores, curve, series, cost, how to run it again, and where it is from.

    Args:
        record: the run.
        stem: of its board's files.
        board, row: where it counts.
        marks: what came of running it again.
        series: what was measured in each of its iterations, if at hand.
    """
    found = {name: thin(values) for name, values in (series or {}).items() if name in SHOWN}
    curve = thin([point.reward for point in record.curve])
    evaluation = record.evaluation
    return (
        environment()
        .get_template("run.html.j2")
        .render(
            record=record,
            board=board,
            row=row,
            stem=stem,
            marks=sorted(marks, key=lambda mark: mark.date),
            algorithm=algorithm_file(record.algorithm),
            scores={}
            if evaluation is None
            else {way: sum(values) / len(values) for way, values in evaluation.scores.items()},
            measures=evaluation.measures if evaluation else {},
            curve=drawn(curve) if curve and len(curve.parts) > 1 else None,
            ways=list(dict.fromkeys(way for point in record.curve for way in point.means)),
            strips=[
                (title, drawn(strip), scale(strip.low, strip.high), len(strip.parts))
                for name, title in SHOWN.items()
                if (strip := found.get(name)) is not None
            ],
            settings=_settings(record.algorithm_config),
            task_settings=_settings(record.task_config),
            provenance=list(flat(record.provenance, leave=(JUDGES, CAVEAT))),
            place=Store(Path("results")).path(record).as_posix(),
            reproduce=reproduce_command(record),
            command=run_command(record),
        )
    )


def reproduce_command(record: RunRecord) -> str:
    """Returns the commands that run a record again from a checkout that has it."""
    place = shlex.quote(Store(Path("results")).path(record).as_posix())
    commit = record.provenance.get("git_commit")
    checkout = [f"git checkout {shlex.quote(str(commit))}"] if commit else []
    return "\n".join([*checkout, f"pairbench reproduce {place}"])


def run_command(record: RunRecord) -> str:
    """Returns the command whose run has this record's identity, every setting spelled out.

    Trials that `pairbench tune` spent are no setting of a run: a tuned row's command gives the same
    numbers, under the identity of settings set by hand.
    """
    budget = record.protocol.budget.model_dump(exclude_none=True)
    words = [
        *("--algorithms", record.algorithm, "--tasks", record.task, "--seeds", str(record.seed)),
        *(w for name, value in budget.items() for w in (f"--budget-{_dashed(name)}", str(value))),
        "--anneal" if record.protocol.anneal else "--no-anneal",
        *("--evaluations", str(record.protocol.evaluations)),
        *("--probes", str(record.protocol.probes)),
    ]
    if record.protocol.engine != "pairbench":
        words += ["--engine", record.protocol.engine]
    for target, config in (
        (record.algorithm, record.algorithm_config),
        (record.task, record.task_config),
    ):
        for name, value in config.items():
            words += ["--set", f"{target}.{name}={json.dumps(value)}"]
    return f"pairbench run {shlex.join(words)}"


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _settings(config: Mapping[str, Any]) -> str:
    return json.dumps(config, indent=1, ensure_ascii=False)


def _algorithm_pages(boards: list[Board], stems: list[str]) -> dict[str, str]:
    """Returns a page for each algorithm that has a row, by file name."""
    rows = defaultdict(list)
    for stem, board in zip(stems, boards, strict=True):
        for row in board.rows:
            rows[row.algorithm].append((stem, board, row))
    return {
        algorithm_file(name): environment()
        .get_template("algorithm.html.j2")
        .render(
            name=name,
            **_described(name),
            rows=[
                {"stem": stem, "board": board, "it": row, "reward": cell(row.reward)}
                for stem, board, row in found
            ],
            run_file=run_file,
        )
        for name, found in sorted(rows.items())
    }


def _described(name: str) -> dict[str, Any]:
    """Returns what an algorithm's own file says of it, or why it cannot be had here."""
    nothing: dict[str, Any] = {"source": "", "where": "", "about": [], "parts": [], "settings": []}
    nothing |= {"kinds": [], "missing": None}
    try:
        cls = get_algorithm(name)
    except PairBenchError as error:
        return {**nothing, "missing": str(error)}
    kinds = list(cls.presets)
    return nothing | {
        "source": cls.source,
        "where": f"{cls.__module__}:{cls.__qualname__}",
        "about": _paragraphs(inspect.getdoc(cls) or ""),
        "parts": [
            (part, _marked(" ".join(str(value.__doc__).split())))
            for part, value in vars(cls).items()
            if inspect.isfunction(value) and value.__doc__ and not part.startswith("_")
        ],
        "kinds": kinds,
        "settings": [
            {
                "name": setting,
                "meaning": field.description or "",
                "default": "required" if field.is_required() else json.dumps(field.default),
                "presets": [
                    json.dumps(cls.presets[kind][setting]) if setting in cls.presets[kind] else ""
                    for kind in kinds
                ],
            }
            for setting, field in cls.Config.model_fields.items()
        ],
    }


def _paragraphs(text: str) -> list[Markup]:
    return [_marked(part) for part in re.split(r"\n\s*\n", text) if part.strip()]


def _marked(text: str) -> Markup:
    """Text of a docstring, what stands between back quotes as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
