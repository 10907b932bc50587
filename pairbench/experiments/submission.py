"""Records made elsewhere, on their way to a shared results folder: are they whole, and theirs?

A submission is looked at file by file (schema, identity, hashes of what lies beside it, what it
says of its origin, nothing private in it), then the beginning of one run of each row is run again.
What is wrong is a `problem` and stops it; what a reader should know is a `remark` and does not.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import math
import os
import platform
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from pairbench.errors import PairBenchError
from pairbench.experiments.launch.base import Launcher
from pairbench.experiments.reproduce import rebuild, workplace
from pairbench.leaderboard.build import UNTRAINED, Board
from pairbench.registry import BUILT_IN, entries, get_algorithm
from pairbench.results.columns import read_series
from pairbench.results.files import atomic_write, read_untrusted, refuse_link_out
from pairbench.results.folder import Store
from pairbench.results.layout import PAGES
from pairbench.results.parquet import MOST_BYTES
from pairbench.results.record import RunRecord, name_of
from pairbench.results.record_file import Unreadable, read_record
from pairbench.text import printable

ORIGIN = (
    "started",
    "python",
    "packages",
    "platform",
    "cpu",
    "cores",
    "device",
    "torch_threads",
    "simulation_threads",
    "task",
)
"""What a record's provenance must say."""

MACHINE = re.compile(r"cpu|platform|python|torch_threads|packages\.(?!pairbench\b).*")
"""What may differ between two machines of a kind, and move the last bits of a run."""

PLACE_ON_A_MACHINE = re.compile(
    r"""(?:^|[\s'"(=,@:;\[])(?:/[\w.+-]+(?:/[\w.+-]*)*|~[\w.-]*/|[A-Za-z]:[\\/](?!/)|\\\\\w)"""
)
MAIL = re.compile(r"(?<=[\w.+-])@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b")

CHOSEN = frozenset({"row", "algorithm", "task"})
"""Fields whose text somebody has chosen, so that a name in it is meant."""

ANYBODY = frozenset(
    {"root", "user", "users", "home", "runner", "ubuntu", "admin", "localhost", "linux", "data"}
    | {"pairbench", "torch", "numpy", "python"}
)
"""Names of accounts and machines that name nobody, or could stand in any record."""

FEW_SEEDS = 3
"""Below as many, an interval over seeds says little."""


class Submitted(BaseModel):
    """One file of a submission, and what was found.

    Attributes:
        name: "row on task, seed n" once it could be read.
        place: where it belongs in a results folder.
        remarks: sentences that a reader should know.
        reproduced: how the run's beginning compared, where it was run again.
        record: None if it cannot be read.
    """

    path: str
    name: str = ""
    place: str = ""
    problems: list[str] = []
    remarks: list[str] = []
    reproduced: str | None = None
    record: RunRecord | None = Field(default=None, exclude=True)

    @property
    def beside(self) -> list[Path]:
        """The record's file, and its series and texts where it knows of them."""
        path, record = Path(self.path), self.record
        known = record and {".parquet": record.series_sha256, ".texts.parquet": record.texts_sha256}
        return [path, *(path.with_suffix(end) for end, sha in (known or {}).items() if sha)]


def look(paths: Iterable[Path], results: Path) -> list[Submitted]:
    """Returns what is to be said of each file alone, and of it beside a results folder.

    Args:
        paths: the submitted records' files.
        results: the folder they are meant for; it need not exist.
    """
    found: list[Submitted] = []
    first: dict[str, str] = {}
    for path in paths:
        one = Submitted(path=str(path))
        found.append(one)
        try:
            record = read_record(path)
        except (FileNotFoundError, IsADirectoryError):
            one.problems.append("there is no such file")
            continue
        except Unreadable as error:
            one.problems.append(str(error))
            continue
        one.record, one.name = record, name_of(record)
        store = Store(results)
        one.place = store.path(record).relative_to(results).as_posix()
        twin = first.setdefault(record.identity, one.path)
        if twin != one.path:
            one.problems.append(f"it is the same run as {twin}: leave one out")
        one.problems += [*_incomplete(record), *_beside(record, path), *_private(record)]
        one.problems += _misplaced(path, results, store.path(record))
        one.remarks += _remarks(record)
    return found


def _incomplete(record: RunRecord) -> Iterator[str]:
    """What a finished record must have and this one lacks."""
    if record.status == "failed":
        yield f"the run failed ({record.reason}): only finished runs can be submitted"
        return
    if record.status == "skipped":
        return
    if record.evaluation is None or not record.curve or not record.weights_sha256:
        yield "it says that it finished, but lacks its evaluation, its curve or its weights' hash"
        return
    if not math.isclose(record.curve[-1].reward, record.evaluation.reward, rel_tol=1e-9):
        yield "the last point of its curve is not its final reward"
    spent, limits = record.cost, record.protocol.budget
    reached = any(
        getattr(spent, name) >= limit
        for name, limit in limits.model_dump(exclude_none=True).items()
    )
    if record.regime != UNTRAINED and not reached:
        yield "it says that it finished, but its cost reaches no limit of its budget"
    if not record.read:
        yield "it does not say what code it has read: run it with this PairBench"
    lacks = [name for name in ORIGIN if name not in record.provenance]
    if lacks:
        yield f"its provenance lacks {', '.join(lacks)}: run it with this PairBench"


def _beside(record: RunRecord, path: Path) -> Iterator[str]:
    """What is wrong with what lies beside a record, where only its series and texts belong."""
    for end, told, what in (
        (".parquet", record.series_sha256, "series"),
        (".texts.parquet", record.texts_sha256, "texts"),
    ):
        file = path.with_suffix(end)
        if told is None:
            if os.path.lexists(file):
                yield f"{file.name} lies beside it, but it knows of no {what}"
            continue
        try:
            data = read_untrusted(file, MOST_BYTES, follow=False)
        except FileNotFoundError:
            yield f"its {what}, {file.name}, do not lie beside it"
            continue
        except OSError as error:
            yield f"{file.name} cannot be used: {error.strerror or error}"
            continue
        if hashlib.sha256(data).hexdigest() != told:
            yield f"{file.name} is not the file whose hash it holds"
        elif what == "series":
            yield from _length(record, file)


def _length(record: RunRecord, file: Path) -> Iterator[str]:
    try:
        length = len(next(iter(read_series(file).values()), ()))
    except PairBenchError as error:
        yield str(error)
        return
    if length != record.cost.iterations:
        yield f"{file.name} has {length} iterations, the record {record.cost.iterations}"


def _private(record: RunRecord) -> Iterator[str]:
    """Where it names a place on a machine, a person or a host."""
    names = {name for name in _people() if len(name) > 2 and name.lower() not in ANYBODY}
    words = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in names)) if names else None
    for where, text in _texts(record.model_dump(mode="json"), ""):
        if PLACE_ON_A_MACHINE.search(text):
            yield f"{where} names a place on a machine: {text[:80]!r}"
        elif MAIL.search(text):
            yield f"{where} holds an address: {text[:80]!r}"
        elif words is not None and where not in CHOSEN and words.search(text):
            yield f"{where} names this machine or its user: {text[:80]!r}"


def _people() -> set[str]:
    names = {platform.node(), platform.node().partition(".")[0], Path.home().name}
    with contextlib.suppress(KeyError, OSError, ImportError):  # a container without accounts
        names.add(getpass.getuser())
    return names


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Every text in a tree of JSON with the dotted name of its place."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, where)


def _misplaced(path: Path, results: Path, place: Path) -> Iterator[str]:
    """What is wrong with a record's place: beside a results folder, or within it."""
    if path.resolve().is_relative_to(results.resolve()):
        if path.resolve() != place.resolve():
            yield f"its place in {results} is {place.relative_to(results)}"
    elif os.path.lexists(place) and not _same(place, path):
        yield f"{place} holds this run already, with other numbers, and is never overwritten"


def _sweep(target: Path) -> None:
    """Removes what a copy to a file left behind whose process has ended."""
    for leftover in target.parent.glob(f".{target.name}.*.tmp"):
        number = leftover.name.split(".")[-2]
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            leftover.unlink(missing_ok=True)
        except (OSError, ValueError, OverflowError):  # somebody's, or no number
            continue


def _same(place: Path, path: Path) -> bool:
    """Whether two files are ordinary ones of the same content."""
    with contextlib.suppress(OSError):
        there, ours = (read_untrusted(file, MOST_BYTES, follow=False) for file in (place, path))
        return there == ours
    return False


def _remarks(record: RunRecord) -> Iterator[str]:
    if record.status == "skipped":
        yield f"skipped, so there is nothing to check: {record.reason}"
        return
    changed = record.provenance.get("git_changed")
    if changed:
        yield "it was made from code with changes that no commit holds"
    elif changed is None:
        yield "it was made outside a git checkout: its code is known by its hash alone"


def compared(found: Sequence[Submitted], there: Sequence[RunRecord]) -> None:
    """Adds what is to be said of the rows beside those that are there, to the first of each."""
    mine = {one.record.identity for one in found if one.record is not None}
    others = [record for record in there if record.identity not in mine]
    rows = rows_of(found)
    called = [(board, row[0][1].row) for (board, _), row in rows.items()]
    for records in rows.values():
        one, record = records[0]
        if called.count((record.spec.board, record.row)) > 1:
            one.problems.append(
                f"the submission has two rows {record.row} with different settings: rename one"
            )
        board = [other for other in others if other.spec.board == record.spec.board]
        same = [other for other in board if other.spec.configuration == record.spec.configuration]
        names = sorted({other.row for other in same} - {record.row})
        if others and not board:
            one.remarks.append(
                "no record there has its task, version, settings and protocol: "
                "it begins a board of its own"
            )
        if names:
            one.remarks.append(f"its settings are those of the row {names[0]}: they are one row")
        if any(other.row == record.row for other in board if other not in same):
            one.problems.append(
                f"the board has a row {record.row} with other settings: give it another name"
            )
        seeds = {other.seed for other in same} | {other.seed for _, other in records}
        if len(seeds) < FEW_SEEDS and record.status == "finished":
            one.remarks.append(
                f"its row has {len(seeds)} seed{'s' if len(seeds) > 1 else ''}: "
                "an interval needs three, and five are better"
            )


def rows_of(found: Iterable[Submitted]) -> dict[tuple[str, str], list[tuple[Submitted, RunRecord]]]:
    """Returns the readable records by (board, configuration), each row's by seed."""
    rows: dict[tuple[str, str], list[tuple[Submitted, RunRecord]]] = defaultdict(list)
    for one in found:
        if one.record is not None:
            rows[one.record.spec.board, one.record.spec.configuration].append((one, one.record))
    return {key: sorted(row, key=lambda pair: pair[1].seed) for key, row in rows.items()}


def reproduce(
    found: Sequence[Submitted], iterations: int, launcher: Launcher, scratch: Path
) -> None:
    """Runs the beginning of one run of each row again, the smallest seed's, and notes the verdict.

    A floor row, which has no series, is evaluated again as a whole. A library's own trainer cannot
    be stopped early and is left alone, with a remark.

    Args:
        found: what `look` returned; rows with problems are left alone.
        iterations: how many to compare.
        launcher: where the runs happen; it is not closed.
        scratch: a folder for their checkpoints.
    """
    for row in rows_of(found).values():
        sound = [(one, record) for one, record in row if record.status == "finished"]
        if not sound or any(one.problems for one, _ in row):
            continue
        _again(*sound[0], iterations, launcher, scratch)


def run_again(found: Sequence[Submitted], iterations: int) -> None:
    """Does `reproduce` in a process of this machine."""
    with workplace() as (launcher, scratch):
        reproduce(found, iterations, launcher, scratch)


def _again(
    one: Submitted, record: RunRecord, iterations: int, launcher: Launcher, scratch: Path
) -> None:
    from pairbench.algorithm import External, Floor

    file = Path(one.path).with_suffix(".parquet")
    series = read_series(file) if file.is_file() else None
    try:
        cls = get_algorithm(record.algorithm)
        if issubclass(cls, External):
            one.remarks.append("its trainer is a library's own and is not run again here")
            return
        if series is None and not issubclass(cls, Floor):
            one.problems.append("it has no series, so that its beginning cannot be run again")
            return
        count = None if series is None else min(iterations, record.cost.iterations)
        verdict = rebuild(record, series, launcher, scratch, count)
        if verdict.verdict == "different" and count is not None and count > 1:
            elsewhere = [line.partition(":")[0] for line in verdict.changed]
            if elsewhere and all(MACHINE.fullmatch(name) for name in elsewhere):
                # rounding of another machine grows from step to step: the first one must agree
                nearer = rebuild(record, series, launcher, scratch, 1)
                if nearer.verdict != "different":
                    one.remarks.append(
                        f"run again on another machine ({', '.join(elsewhere)}), its first "
                        f"iteration agrees but not all of {count}: {verdict.detail}"
                    )
                    verdict = nearer
    except PairBenchError as error:
        one.problems.append(f"it cannot be run again: {error}")
        return
    one.reproduced = f"{verdict.verdict}; {verdict.detail}"
    if verdict.verdict == "different":
        changed = f" (changed since: {'; '.join(verdict.changed)})" if verdict.changed else ""
        one.problems.append(f"run again, it gives other numbers: {verdict.detail}{changed}")


def render(found: Iterable[Submitted]) -> str:
    """Returns a line per submitted file, and one for each thing to be said of it."""
    lines = []
    for one in found:
        mark = "PROBLEM" if one.problems else "ok"
        lines.append(f"{mark:<8}{one.path}{f': {one.name}' if one.name else ''}")
        lines += [f"        {problem}" for problem in one.problems]
        lines += [f"        to know: {remark}" for remark in one.remarks]
        if one.reproduced is not None and not one.problems:
            lines.append(f"        run again: {one.reproduced}")
    return "\n".join(lines) + "\n"


def copy(found: Sequence[Submitted], into: Path) -> list[Path]:
    """Copies the records and what lies beside them to their places; returns what was written.

    Raises:
        PairBenchError: a file with other content is there, or the folder cannot be written; what
            is there is left as it is.
    """
    plan = []
    for one in found:
        place = into / one.place
        for source in one.beside:
            target = place.with_name(source.name)
            refuse_link_out(into, target.parent)
            _sweep(target)
            if not os.path.lexists(target):
                plan.append((source, target))
            elif not _same(target, source):
                raise PairBenchError(f"{target} is there with other content: nothing was copied")
    written = []
    # a record last: one that is there has its series
    for source, target in sorted(plan, key=lambda pair: pair[1].suffix == ".json"):
        try:
            atomic_write(target, read_untrusted(source, MOST_BYTES, follow=False))
        except OSError as error:
            raise PairBenchError(f"{target} cannot be written ({error.strerror})") from error
        written.append(target)
    return sorted(written)


def pull_request(found: Sequence[Submitted], boards: Sequence[Board]) -> str:
    """Returns what to put in a pull request: the files, a title and a text, as Markdown."""
    rows = rows_of(found)
    names = sorted({row[0][1].row for row in rows.values()})
    tasks = sorted({row[0][1].task for row in rows.values()})
    lines = ["Files, under results/ (`--into results` of a checkout puts them there):", ""]
    for one in found:
        place = Path("results") / one.place
        lines += [f"    {place.with_name(file.name).as_posix()}" for file in one.beside]
    lines += ["", "and the boards with them, which this rewrites:", ""]
    lines += [f"    pairbench leaderboard --site {PAGES}", ""]
    lines += [f"Title: {', '.join(names)} on {', '.join(tasks)}", "", "Text:", ""]
    for row in rows.values():
        run = row[0][1].identity
        lines += _about(row, next((b for b in boards if run in b.identities), None))
    lines += ["Made with `pairbench submit`, which found no problem.", ""]
    return "\n".join(lines)


def _about(row: Sequence[tuple[Submitted, RunRecord]], board: Board | None) -> list[str]:
    record = row[0][1]
    try:
        source = f" ({get_algorithm(record.algorithm).source})"
    except PairBenchError:
        source = ""
    known = entries("algorithm").get(record.algorithm)
    seeds = ", ".join(str(other.seed) for _, other in row)
    budget = record.protocol.budget.model_dump(exclude_none=True)
    spent = ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in budget.items())
    lines = [
        f"- **{printable(record.row)}** on {printable(record.task)} (version "
        f"{record.task_version}), {spent}, seeds {seeds}",
        f"  - algorithm: {printable(record.algorithm)}{printable(source)}",
    ]
    packages = record.provenance.get("packages", {})
    if packages:
        versions = ", ".join(f"{name} {version}" for name, version in packages.items())
        lines.append(f"  - made with {printable(versions)}")
    if known is None or known.origin != BUILT_IN:
        package = "" if known is None else f" {known.origin}"
        lines.append(f"  - its package{package} can be installed from: (say where)")
    placed = (
        next((r for r in board.rows if record.identity in r.runs.values()), None) if board else None
    )
    if placed is not None and placed.reward is not None:
        low, high = placed.reward.low, placed.reward.high
        interval = f" [{low:.4g}, {high:.4g}]" if low is not None and high is not None else ""
        rank = f", rank {placed.rank}" if placed.rank else ""
        lines.append(f"  - reward {placed.reward.iqm:.4g}{interval}{rank}")
    for one, other in row:
        if one.reproduced is not None:
            lines.append(f"  - its beginning run again (seed {other.seed}): {one.reproduced}")
    if all(one.reproduced is None for one, _ in row):
        lines.append("  - no part of it was run again")
    remarks = dict.fromkeys(printable(remark) for one, _ in row for remark in one.remarks)
    lines += [f"  - to know: {remark}" for remark in remarks]
    return [*lines, ""]
