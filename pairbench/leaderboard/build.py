"""Leaderboards as data: a pure function of a list of run records.

Only rows that answer the same question share a board: same task, task version, task settings,
protocol (budget, annealing, evaluations) and data. Everything here depends on the records alone,
never on their order, the clock or the machine, and numbers are rounded to six significant digits,
so that the same records give the same bytes anywhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from typing import Any

from pydantic import Field

from pairbench.errors import PairBenchError
from pairbench.evaluation import Measure
from pairbench.leaderboard.pairs import (
    HeadToHead,
    Pair,
    Resolution,
    Strength,
    gaps_of,
    matrix_of,
    pairs_of,
    strengths_of,
)
from pairbench.leaderboard.rank import ranked
from pairbench.leaderboard.rows import (
    Frozen,
    Row,
    Scores,
    finished,
    finished_scores,
    intervals,
    mean_rates,
    quantities,
    row_of,
    win_rates,
)
from pairbench.results.files import without_garbage_collection
from pairbench.results.marks import Reproduction
from pairbench.results.read import Joined, short, source_of
from pairbench.results.record import Budget, Protocol, RunRecord, canonical, digest
from pairbench.text import did_you_mean

BASELINE = "reference"
UNTRAINED = "no training"
"""The regime of the floor rows (`Algorithm.regime`): no opponents in head-to-head comparisons."""

JUDGES, CAVEAT, DATA, NOTE = "judges", "caveat", "data_sha256", "note"
"""What a task's provenance calls its judges' cards, what readers must know, and its data's hash."""


class OtherBoard(Frozen):
    """A board of the same task that is never ranked together with this one."""

    board: str
    title: str
    task_version: str
    protocol: Protocol


class Board(Frozen):
    """Rows that may be ranked together, best first, then those without a rank.

    `strengths`, `head_to_head` and `pairs` are of trained rows without a failed seed, in the
    order of rows. `caveats` are what a reader must know before the numbers, `notes` what the task
    says of its data, and what runs of one name have read differently; `judges` are the cards of
    whatever scored the responses, and `measures` what the task says of its measures, by name.
    """

    task: str
    title: str
    board: str
    task_version: str
    task_config: dict[str, Any]
    protocol: Protocol
    step_unit: str
    scored: str
    scores_of: str = Field(default="policy", exclude_if=lambda what: what == "policy")
    caveats: list[str] = Field(default=[], exclude_if=lambda caveats: not caveats)
    notes: list[str] = Field(default=[], exclude_if=lambda notes: not notes)
    judges: dict[str, dict[str, Any]] = Field(default={}, exclude_if=lambda judges: not judges)
    measures: dict[str, Measure] = Field(default={}, exclude_if=lambda measures: not measures)
    other_scores: list[str]
    n_contexts: int | None
    baseline: str | None
    rows: list[Row]
    strengths: list[Strength]
    head_to_head: HeadToHead | None
    pairs: list[Pair]
    resolution: Resolution | None = None
    provenance: dict[str, dict[str, int]]
    other_boards: list[OtherBoard]

    @property
    def question(self) -> tuple[str, str, str, Protocol]:
        """What the boards share that differ in nothing but what their runs have read."""
        return self.task, self.task_version, canonical(self.task_config), self.protocol

    @property
    def slug(self) -> str:
        """A file name's stem: the title, which is the task and the budget, and more if need be."""
        return kept_in_names(self.title.replace(", board ", "--").replace(", ", "--"))

    @property
    def identities(self) -> set[str]:
        """The runs on this board."""
        return {run for row in self.rows for run in row.runs.values()}

    @property
    def ranked(self) -> list[Row]:
        """The rows that have a rank."""
        return [row for row in self.rows if row.rank is not None]


@without_garbage_collection()
def build(
    records: Iterable[RunRecord],
    task: str | None = None,
    baseline: str = BASELINE,
    marks: Iterable[Reproduction] = (),
) -> list[Board]:
    """Returns the boards of `records`: by task name, the largest step budget first.

    Of boards that differ in nothing but what their runs have read, the newest comes first.

    Args:
        records: any records, in any order; a second record of one identity is ignored, a finished
            one being preferred.
        task: only this task's boards; all tasks' by default.
        baseline: the row, or else the algorithm, that win rates are measured against.
        marks: runs that were rebuilt; those of their beginning alone do not count.

    Raises:
        PairBenchError: if there is no record of `task`, or records of one board were scored on
            different numbers of contexts.
    """
    kept = distinct(records)
    if task is not None:
        known = sorted({record.task for record in kept})
        if task not in known:
            hint = did_you_mean(task, known) or ": there are no records, run something first"
            raise PairBenchError(f"no task {task!r} in these results{hint}")
        kept = [record for record in kept if record.task == task]
    groups: dict[Any, list[RunRecord]] = defaultdict(list)  # digests of few, not of each record
    for record in kept:
        groups[
            record.task, record.task_version, canonical(record.task_config), record.protocol
        ].append(record)
    marks = list(marks)
    joined = Joined(kept, marks)
    parts = [part for group in groups.values() for part in by_board(group, joined)]
    parts.sort(key=lambda part: max(map(_started, part[1])), reverse=True)  # of one, the newest
    parts.sort(key=lambda part: (part[1][0].task, -(_budget(part[1]).steps or 0), part[1][0].board))
    titles = _titles([part[0] for _, part, _ in parts])
    heads = [
        OtherBoard(
            board=identity,
            # boards of one title differ in a setting of the task or the protocol
            title=title if titles.count(title) == 1 else f"{title}, board {identity[:8]}",
            task_version=part[0].task_version,
            protocol=part[0].protocol,
        )
        for (identity, part, _), title in zip(parts, titles, strict=True)
    ]
    at_hand = {record.identity: record for record in kept}
    whole = {  # the last of each
        mark.identity: mark
        for mark in marks
        if mark.iterations is None and mark.identity in at_hand
        if mark.record_sha256 in ("", at_hand[mark.identity].sha256)
    }
    return [
        _board(
            head,
            part,
            [
                other
                for other, (_, others, _) in zip(heads, parts, strict=True)
                if others[0].task == part[0].task and other is not head
            ],
            baseline,
            whole,
            joined,
            alone,
        )
        for head, (_, part, alone) in zip(heads, parts, strict=True)
    ]


def _titles(firsts: Sequence[RunRecord]) -> list[str]:
    """Returns each board's task and budget, and its version where a newer one has a board too."""
    titles = [f"{first.task}, {budget_label(first.protocol.budget)}" for first in firsts]
    newest: dict[str, str] = {}
    for title, first in zip(titles, firsts, strict=True):
        newest[title] = max(newest.get(title, ""), first.task_version, key=lambda v: (len(v), v))
    return [
        title if newest[title] == first.task_version else f"{title}, version {first.task_version}"
        for title, first in zip(titles, firsts, strict=True)
    ]


def kept_in_names(text: str) -> str:
    """Returns text with whatever a file's name should not hold replaced."""
    return "".join(c if c.isalnum() or c in "._@+-" else "-" for c in text)


def budget_label(budget: Budget) -> str:
    """Returns a budget in words: "1M steps", or "200k steps 5k labels" where both are limited."""
    names = {"steps": "steps", "labels": "labels", "gradient_steps": "updates", "seconds": "s"}
    return " ".join(
        f"{_short(value)} {names[name]}"
        for name, value in budget.model_dump().items()
        if value is not None
    )


def by_row(records: Sequence[RunRecord], joined: Joined) -> dict[str, list[RunRecord]]:
    """Returns one board's records by displayed row name, each row's sorted by seed.

    A row is one configuration, one search for it if any, and one source of its algorithm: the name
    is that of the newest, and older ones have their source beside it. One that goes by several
    names takes the first in alphabetical order; two that share a name are told apart by eight
    characters of their digest.
    """
    groups: dict[Any, list[RunRecord]] = defaultdict(list)
    for record in records:
        groups[record.algorithm, canonical(record.algorithm_config), record.tuning].append(record)
    configurations = {group[0].configuration: group for group in groups.values()}
    names = {key: min(r.row for r in group) for key, group in configurations.items()}
    shared = list(names.values())
    rows = {}
    for key, name in sorted(names.items(), key=lambda item: (item[1], item[0])):
        name = name if shared.count(name) == 1 else f"{name}#{key[:8]}"
        for number, (source, group) in enumerate(_by_source(configurations[key], joined)):
            told = f" (source {short(source)})" if number else ""
            rows[name + told] = sorted(group, key=lambda record: record.seed)
    return rows


def _by_source(
    records: Sequence[RunRecord], joined: Joined
) -> list[tuple[str | None, list[RunRecord]]]:
    """Parts records by the source of their algorithm, the newest first.

    Those that name none (they failed before, or were skipped) go with the newest.
    """
    name = source_of(records[0].algorithm)
    parts: dict[str | None, list[RunRecord]] = defaultdict(list)
    for record in records:
        parts[joined.of_record(record).get(name)].append(record)
    rest = parts.pop(None, []) if len(parts) > 1 else []
    order = {source: max(map(_started, group)) for source, group in parts.items()}
    newest, *older = sorted(parts, key=lambda source: (order[source], str(source)), reverse=True)
    return [(newest, parts[newest] + rest), *((source, parts[source]) for source in older)]


def _started(record: RunRecord) -> str:
    return str(record.provenance.get("started", ""))


def distinct(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Returns one record per identity, a finished one where there is one, in a fixed order."""
    order = {"finished": 0, "failed": 1, "skipped": 2}
    found: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        found[record.identity].append(record)
    return [
        same[0]
        if len(same) == 1
        else min(same, key=lambda r: (order[r.status], r.row, r.model_dump_json()))
        for _, same in sorted(found.items())
    ]


def _budget(records: Sequence[RunRecord]) -> Budget:
    return records[0].protocol.budget


def by_board(
    records: list[RunRecord], joined: Joined
) -> list[tuple[str, list[RunRecord], dict[str, str]]]:
    """Parts records of one task, settings and protocol by what they read, their methods apart.

    Those that name none of a kind (they failed, were skipped, or are of an older version) go with
    most runs. A part of several has a digest of its own; it comes with what it alone has read.
    """
    identity = records[0].board
    read = [
        {name: v for name, v in joined.of_record(r).items() if name != source_of(r.algorithm)}
        for r in records
    ]
    values: dict[str, list[str]] = defaultdict(list)
    for one in read:
        for name, value in one.items():
            values[name].append(value)
    several = sorted(name for name, found in values.items() if len(set(found)) > 1)
    most = {name: max(sorted(values[name]), key=values[name].count) for name in several}
    parts: dict[str, list[RunRecord]] = defaultdict(list)
    alone: dict[str, dict[str, str]] = {}
    for record, one in zip(records, read, strict=True):
        own = {name: one.get(name, most[name]) for name in several}
        key = digest({"board": identity, "read": own}) if several else identity
        parts[key].append(record)
        alone[key] = own
    return [(key, part, alone[key]) for key, part in parts.items()]


def _board(
    head: OtherBoard,
    records: list[RunRecord],
    others: list[OtherBoard],
    baseline: str,
    rebuilt: Mapping[str, Reproduction],
    joined: Joined,
    alone: Mapping[str, str],
) -> Board:
    rows = by_row(records, joined)
    scores = {name: finished_scores(group) for name, group in rows.items()}
    floors = {name for name, group in rows.items() if group[0].regime == UNTRAINED}
    anchor = _baseline_row(rows, scores, baseline)
    wins = {(a, b): win_rates(scores[a], scores[b]) for a, b in permutations(scores, 2)}
    asked = {name: quantities(finished(group)) for name, group in rows.items()}
    rewards = iter(intervals([values for own in asked.values() for values in own.values()]))
    reached = {name: dict(zip(own, rewards)) for name, own in asked.items()}
    compared = mean_rates(
        [[wins[name, anchor]] if anchor not in (None, name) else [] for name in rows]
        + [[wins[name, n] for n in rows if n != name and n not in floors] for name in rows]
    )
    untrained = rows[anchor] if anchor in floors else []
    measures = _measures(records)
    built = [
        row_of(
            name,
            group,
            floor=name in floors,
            untrained=untrained,
            measures=measures,
            win_rate=win_rate,
            head_to_head=head_to_head,
            reached=reached[name],
            rebuilt=[rebuilt[r.identity] for r in group if r.identity in rebuilt],
            others=[other for other in rows if other.startswith(f"{name} (source ")],
        )
        for (name, group), win_rate, head_to_head in zip(
            rows.items(), compared[: len(rows)], compared[len(rows) :], strict=True
        )
    ]
    floor = scores[anchor] if anchor in floors else {}
    none = bool(demonstrations(records))
    first = records[0]
    built = ranked(
        built,
        scores,
        floor,
        measures.values(),
        nobody=none,
        gaps=gaps_of(scores) if any(r.seeds_are_problems for r in records) else None,
        yardstick=next((found for r in records if (found := r.yardstick)), None),
    )
    evaluations = [record.evaluation for record in records if record.evaluation is not None]
    ways = list(dict.fromkeys(way for e in evaluations for way in e.scores))
    met = {row.row: scores[row.row] for row in built if row.status == "finished" and not row.floor}
    lengths = {len(e.primary) for e in evaluations}
    pairs, resolution = pairs_of(met)
    return Board(
        task=first.task,
        task_config=first.task_config,
        **dict(head),
        step_unit=first.step_unit,
        scored=ways[0] if ways else "",
        scores_of=first.scores_of,
        caveats=caveats(records),
        notes=[*_read_apart(alone, built), *map(str, _of_task(records, NOTE))],
        judges=_judges(records),
        measures=measures,
        other_scores=ways[1:],
        n_contexts=lengths.pop() if len(lengths) == 1 else None,
        baseline=anchor,
        rows=built,
        strengths=strengths_of(met, wins),
        head_to_head=matrix_of(list(met), wins),
        pairs=pairs,
        resolution=resolution,
        provenance=_provenance(records),
        other_boards=others,
    )


def _baseline_row(
    rows: Mapping[str, list[RunRecord]], scores: Mapping[str, Scores], baseline: str
) -> str | None:
    scored = [name for name in rows if scores[name]]
    if baseline in scored:
        return baseline
    return next((name for name in scored if rows[name][0].algorithm == baseline), None)


def _short(value: float) -> str:
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size and float(f"{value / size:.4g}") * size == value:
            return f"{value / size:.4g}{suffix}"
    return f"{value:g}" if value < 1e6 and value != int(value) else str(int(value))


def _provenance(records: Iterable[RunRecord]) -> dict[str, dict[str, int]]:
    """Counts the runs by each recorded value: versions, hardware, commits, data hashes."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for record in records:
        if record.status == "finished":
            about = {**record.provenance, "read": record.read}
            for name, value in flat(about, leave=(JUDGES, CAVEAT, NOTE)):
                counts[name][str(value)] += 1
    return {
        name: dict(sorted(values.items(), key=lambda item: (-item[1], item[0])))
        for name, values in sorted(counts.items())
    }


def _of_task(records: Iterable[RunRecord], key: str) -> list[Any]:
    """Returns the different values of a key of the task's provenance, ordered by their JSON."""
    found = {}
    for record in records:
        task = record.provenance.get("task")
        if record.status == "finished" and isinstance(task, Mapping) and task.get(key) is not None:
            found[canonical(task[key])] = task[key]
    return [value for _, value in sorted(found.items())]


def demonstrations(records: Iterable[RunRecord]) -> list[str]:
    """Returns why these runs rank nobody, a sentence's end each."""
    return sorted({why for record in records if (why := record.demonstration)})


def caveats(records: Sequence[RunRecord]) -> list[str]:
    """Returns what a reader of these runs of one task must know before their numbers."""
    found = [f"A demonstration, without ranks: {why}." for why in demonstrations(records)]
    found += [str(caveat) for caveat in _of_task(records, CAVEAT)]
    if len(hashes := _of_task(records, DATA)) > 1:
        found.append(
            f"These runs had {len(hashes)} different data sets under one name (SHA-256 "
            f"{', '.join(str(one)[:8] for one in hashes)}): their differences are not only the "
            "methods'."
        )
    return found


def _read_apart(alone: Mapping[str, str], rows: Sequence[Row]) -> list[str]:
    """Says what the runs of a board alone have read, and which of its rows differ by their code."""
    found = []
    if alone:
        read = ", ".join(f"{name} {short(value)}" for name, value in alone.items())
        found.append(
            f"These runs read: {read}. Runs that read others of the same name are on a board of "
            "their own."
        )
    return found + [text for row in rows if (text := row.other_sources_said)]


def _measures(records: Sequence[RunRecord]) -> dict[str, Measure]:
    """Returns what the measures mean that the records report, the newest records' word first."""
    reported = {name for r in finished(records) if r.evaluation for name in r.evaluation.measures}
    found: dict[str, Measure] = {}
    for record in sorted(finished(records), key=lambda record: -record.schema_version):
        for measure in record.declared:
            found.setdefault(measure.name, measure)
    return {name: found[name] for name in sorted(reported & found.keys())}


def _judges(records: Sequence[RunRecord]) -> dict[str, dict[str, Any]]:
    """Returns the judges' cards by name; one of several of a name is told apart by its hash."""
    cards: dict[str, dict[str, Any]] = {}
    for judges in _of_task(records, JUDGES):
        if not isinstance(judges, Mapping):
            continue
        for name, card in sorted(judges.items()):
            if isinstance(card, Mapping):
                known = cards.get(name, card)
                key = name if known == card else f"{name}#{digest(card)[:8]}"
                cards[key] = dict(card)
    return cards


def flat(
    value: Mapping[str, Any], prefix: str = "", leave: Sequence[str] = ()
) -> Iterable[tuple[str, Any]]:
    """Yields ("a.b", value) for each entry of nested provenance that is set.

    `leave` are keys of the task's part that are left out.
    """
    for key, item in value.items():
        if prefix == "task." and key in leave:
            continue
        if isinstance(item, dict):  # as JSON has it
            yield from flat(item, f"{prefix}{key}.", leave)
        elif item is not None:
            yield f"{prefix}{key}", item
