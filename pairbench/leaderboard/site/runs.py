"""The data of a board's runs, which the one page of runs shows: a file of lines, a run a line.

The file is a script, since a page that is opened from a folder may read no other. Each line hands
JSON over as a string, so that nothing in a record is ever run or taken for markup.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pairbench.leaderboard.build import CAVEAT, JUDGES, Board, flat
from pairbench.leaderboard.site.names import algorithm_link
from pairbench.leaderboard.site.sparklines import SHOWN, Series, thin
from pairbench.results.layout import record_path
from pairbench.results.marks import Reproduction
from pairbench.results.record import RunRecord


def runs_script(
    stem: str,
    board: Board,
    records: Mapping[str, RunRecord],
    marks: Mapping[str, Sequence[Reproduction]],
    series: Mapping[str, Series],
    results: Path | str,
) -> str:
    """Returns the data of a board's runs.

    Args:
        stem: of the board's files.
        board: the board.
        records: by identity, those of the board's runs among them.
        marks: what came of running them again, by identity.
        series: what was measured in each of their iterations, likewise.
        results: the folder that they are in, or a url.
    """
    facts: dict[tuple[str, str], int] = {}
    lines = []
    for place, row in enumerate(board.rows):
        first = records[next(iter(row.runs.values()))]
        before, after = run_command(first).split(f" --seeds {first.seed} ", 1)
        about = {
            "row": row.row,
            "algorithm": row.algorithm,
            "page": algorithm_link(row.algorithm),
            "regime": row.regime,
            "configuration": row.configuration,
            "settings": row.config,
            "command": [f"{before} --seeds ", f" {after}"],
            "tuning": row.tuning.model_dump() if row.tuning else None,
        }
        lines.append(_line("row", about))
        for run in row.runs.values():
            found = _run(records[run], place, facts, marks.get(run, ()), series.get(run))
            lines.append(_line("run", found | {"again": reproduce_command(records[run], results)}))
    head = {
        "stem": stem,
        "title": board.title,
        "task": board.task,
        "version": board.task_version,
        "settings": board.task_config,
        "unit": board.step_unit,
        "measures": {name: measure.title for name, measure in board.measures.items()},
        "series": list(SHOWN.values()),
        "facts": list(facts),
    }
    return "".join([_line("board", head), *lines])


def index_script(boards: Sequence[Board], stems: Sequence[str]) -> str:
    """Returns which board's file has which runs, by the first sixteen digits of their identity."""
    return "".join(
        _line("runs", {"stem": stem, "runs": sorted(run[:16] for run in board.identities)})
        for stem, board in zip(stems, boards, strict=True)
    )


def _line(kind: str, value: Any) -> str:
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for mark, safe in (("\\", "\\\\"), ("'", "\\'"), ("<", "\\x3c"), (">", "\\x3e")):
        text = text.replace(mark, safe)
    return f"pairbench('{kind}','{text}');\n"


def _run(
    record: RunRecord,
    place: int,
    facts: dict[tuple[str, str], int],
    marks: Iterable[Reproduction],
    series: Series | None,
) -> dict[str, Any]:
    """A run's line; what many runs have in common is a number into `facts`, which grows."""
    ways = list(dict.fromkeys(way for point in record.curve for way in point.means))
    evaluation, failure = record.evaluation, record.failure
    reason = record.reason
    if failure is not None:
        at = "" if failure.iteration is None else f" (iteration {failure.iteration})"
        reason = f"{failure.kind}: {failure.message}{at}"
    found = [(k, thin((series or {}).get(name, ()))) for k, name in enumerate(SHOWN)]
    hashes = {n: getattr(record, f"{n}_sha256") for n in ("weights", "series", "texts")}
    return {
        "id": record.identity,
        "row": place,
        "seed": record.seed,
        "status": record.status,
        "reason": reason,
        "scores": {w: _six(sum(s) / len(s)) for w, s in evaluation.scores.items()}
        if evaluation
        else {},
        "measures": {n: _six(v) for n, v in evaluation.measures.items()} if evaluation else {},
        "ways": ways,
        "curve": [
            [p.steps, p.labels, p.gradient_steps]
            + [_six(p.means[way]) if way in p.means else None for way in ways]
            for p in record.curve
        ],
        "series": [[k, _six(s.low), _six(s.high), s.parts] for k, s in found if s is not None],
        "marks": [
            f"{mark.date[:10]} on {mark.cpu}: {mark.detail}."
            for mark in sorted(marks, key=lambda mark: mark.date)
        ],
        "cost": {name: _six(value) for name, value in record.cost.model_dump().items() if value},
        "hashes": {name: value for name, value in hashes.items() if value},
        "facts": [
            facts.setdefault((name, str(value)), len(facts))
            for name, value in flat(record.provenance, leave=(JUDGES, CAVEAT))
        ],
    }


def _six(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.6g}")


def reproduce_command(record: RunRecord, results: Path | str = "results") -> str:
    """Returns the command that runs a record again, where the results folder (or url) is at hand.

    A folder is called by its last name where its whole one says where it is on a machine.
    """
    if "://" in str(results):
        words = [record.identity[:16], "--results", str(results)]
    else:
        folder = Path(results)
        folder = Path(folder.name) if folder.is_absolute() else folder
        words = [record_path(folder, record).as_posix()]
        words += ["--results", folder.as_posix()] if folder != Path("results") else []
    return f"pairbench reproduce {shlex.join(words)}"


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
        *("--adam-eps", str(record.protocol.adam_eps)),
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
