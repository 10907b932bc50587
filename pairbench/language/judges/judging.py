"""Judges the completions that finished runs have kept: any judge, at any later time.

A judge is the task's gold or proxy judge, which score completions one by one, or a language model
behind an endpoint, which is shown two at a time in both orders. None of them is people. Two rows
are compared on the same prompt at the same seed; what is measured over prompts is averaged within
a seed, and intervals are over seeds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from pairbench import statistics
from pairbench.errors import PairBenchError
from pairbench.language.data.pairs import Pair, prompt_id
from pairbench.language.judges.endpoint import Endpoint, Verdict, parse_address
from pairbench.language.judges.judge import Role
from pairbench.language.judges.judgement import (
    Comparison,
    JudgedBy,
    JudgedRow,
    Judgement,
    Outcome,
    Score,
    Versus,
    both_orders,
    versus,
)
from pairbench.language.judges.panel import Oracle
from pairbench.language.task import LanguageTask
from pairbench.leaderboard import build
from pairbench.leaderboard.build import BASELINE, Board, distinct
from pairbench.leaderboard.rows import rate
from pairbench.registry import get_task
from pairbench.results.columns import read_texts
from pairbench.results.folder import Store
from pairbench.results.marks import Reproduction, marks
from pairbench.results.record import RunRecord
from pairbench.secrets import key_for
from pairbench.text import did_you_mean

BUDGET = 1000
"""Requests that one call may send, by default."""

PROGRESS = 100
"""Requests between two lines of progress."""


@dataclass(frozen=True)
class Kept:
    """What a board's runs have kept: completions by row, seed and `prompt_id`."""

    texts: dict[str, dict[int, dict[str, str]]]
    left_out: list[str]
    failed: bool

    def texts_of(self, at: Comparison) -> tuple[str, str]:
        """Returns the two completions that are compared."""
        mine, other = (self.texts[row][at.seed][at.prompt] for row in (at.row, at.other))
        return mine, other


class ScoringJudge:
    """A judge that scores completions one by one. Equal completions have one score."""

    def __init__(self, oracle: Oracle, role: Role, pairs: Mapping[str, Pair], kept: Kept) -> None:
        wanted = sorted(
            {
                (prompt, text)
                for of_row in kept.texts.values()
                for mine in of_row.values()
                for prompt, text in mine.items()
            }
        )
        scores = oracle.score(
            [pairs[prompt].prompt for prompt, _ in wanted],
            [text for _, text in wanted],
            [pairs[prompt].source for prompt, _ in wanted],
        )
        if not np.isfinite(scores).all():
            raise PairBenchError(f"a score of the {oracle.name} is not finite: nothing is judged")
        self._scores = dict(zip(wanted, scores.tolist(), strict=True))
        caveats = []
        if role == "proxy":
            caveats.append("Methods were trained on this judge's scores, so they may play on it.")
        if not oracle.ranks:
            caveats.append(f"Smoke test only: the {oracle.name} has not shown that it may rank.")
        self.described = JudgedBy(
            kind=role,
            name=oracle.name,
            cards={name: dict(card) for name, card in oracle.cards.items()},
            caveats=caveats,
        )

    def outcome(self, kept: Kept, at: Comparison) -> Outcome:
        mine, other = kept.texts_of(at)
        scores = [[self._scores[at.prompt, text]] for text in (mine, other)]
        points = statistics.win_rate(*scores)
        return Outcome(float(points), identical=mine == other)

    def row_scores(self, kept: Kept) -> dict[str, Score]:
        """Returns each row's mean score."""
        found = {}
        for name, of_row in kept.texts.items():
            if of_row:
                means = [np.mean([self._scores[at] for at in of_row[s].items()]) for s in of_row]
                rounded = rate(statistics.mean_interval(means))
                found[name] = Score(mean=rounded.estimate, low=rounded.low, high=rounded.high)
        return found


class AskedJudge:
    """A judge that is shown two completions at a time, in both orders."""

    def __init__(
        self,
        endpoint: Endpoint,
        pairs: Mapping[str, Pair],
        total: int,
        progress: Callable[[str], None] | None,
    ) -> None:
        self._endpoint, self._pairs = endpoint, pairs
        self._total, self._progress = total, progress
        self._seen = self._told = 0
        self._used: list[Verdict] = []

    def outcome(self, kept: Kept, at: Comparison) -> Outcome | None:
        mine, other = kept.texts_of(at)
        self._seen += 1
        if mine == other:
            return Outcome(0.5, identical=True)
        turns = self._pairs[at.prompt].prompt
        there = self._endpoint.ask(turns, mine, other)
        back = self._endpoint.ask(turns, other, mine) if there else None
        if self._progress and self._endpoint.requests >= self._told + PROGRESS:
            self._told = self._endpoint.requests
            self._progress(f"{self._told} requests, {self._seen} of {self._total} comparisons")
        if there is None or back is None:
            return None
        self._used += there, back
        return both_orders(there, back)

    @property
    def described(self) -> JudgedBy:
        address = self._endpoint.address
        days = sorted(verdict.at[:10] for verdict in self._used)
        served = sorted({verdict.served for verdict in self._used if verdict.served})
        caveats = []
        if len(served) > 1:
            caveats.append(f"The endpoint answered with several models: {', '.join(served)}.")
        return JudgedBy(
            kind="openai",
            name=address.model,
            address=address.url,
            prompt_version=address.identity["prompt_version"],
            served=served,
            first=days[0] if days else None,
            last=days[-1] if days else None,
            caveats=caveats,
        )


def judge(
    records: Iterable[RunRecord],
    results: Path,
    who: str,
    *,
    task: str | None = None,
    board: str | None = None,
    rows: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    baseline: str = BASELINE,
    head_to_head: bool | None = None,
    budget: int = BUDGET,
    progress: Callable[[str], None] | None = None,
) -> Judgement:
    """Judges the completions of a board's rows against the baseline's, and against each other.

    A run whose file of completions is missing or not the one its record names is left out, and the
    result says so.

    Args:
        records: of the results folder.
        results: that folder.
        who: "gold", "proxy" or "openai:<base-url>,<model>".
        task: whose board; may be left out where one task alone has kept completions.
        board: the first characters of the board's digest; the one of the largest budget by default.
        rows: names as the board shows them; all by default.
        seeds: all by default.
        baseline: the row, or else the algorithm, that win rates are measured against.
        head_to_head: whether rows meet each other too; by default where that costs no request.
        budget: most requests that an endpoint is sent in this call.
        progress: takes a line from time to time while an endpoint is asked.

    Raises:
        PairBenchError: nothing matches what was asked for, the data or judge are out of reach, or
            an endpoint gave nothing at all.
    """
    if who not in ("gold", "proxy") and not who.startswith("openai:"):
        raise PairBenchError(
            "that judge is not known: name gold, proxy or openai:<base-url>,<model>"
        )
    address = parse_address(who.removeprefix("openai:")) if who.startswith("openai:") else None
    key = key_for(address.url) if address else None
    everything = distinct(records)
    chosen = _board(everything, marks(results), task, board)
    found = {record.identity: record for record in everything}
    runs = {
        row.row: {
            seed: found[identity]
            for seed, identity in row.runs.items()
            if found[identity].status == "finished" and (seeds is None or seed in seeds)
        }
        for row in chosen.rows
    }
    algorithms = {row.row: row.algorithm for row in chosen.rows}
    anchor = _anchor(algorithms, baseline, chosen)
    known = [name for name, of_row in runs.items() if of_row]
    for name in (*rows, anchor):
        if name not in known:
            raise PairBenchError(
                f"no row {name!r} of {chosen.title} has a finished run at these seeds"
                f"{did_you_mean(name, known) or ': choose other --seeds'}"
            )
    wanted = [name for name in known if name == anchor or not rows or name in rows]
    language = _task(chosen)
    pairs: dict[str, Pair] = {}
    for pair in language.data.split()["evaluation"]:
        pairs.setdefault(prompt_id(pair.prompt), pair)
    kept = _kept({name: runs[name] for name in wanted}, Store(results), pairs)
    if not any(kept.texts.values()):
        raise PairBenchError(f"no completions of {chosen.title} can be used: {kept.left_out[0]}")
    others = [name for name in wanted if name != anchor]
    meetings = [(name, anchor) for name in others]
    if head_to_head or (head_to_head is None and address is None):
        meetings += combinations(others, 2)
    plan = _plan(kept, meetings)
    if address and not plan:
        raise PairBenchError(
            f"{chosen.title} has nothing to compare with {anchor}: no other row that is asked for "
            "has kept completions at its seeds"
        )

    requests, stopped, failed = 0, None, kept.failed
    outcomes: dict[Comparison, Outcome | None]
    scores: dict[str, Score] = {}
    if address is None:
        role: Role = "gold" if who == "gold" else "proxy"
        oracle = language.gold if role == "gold" else language.proxy
        if oracle is None:
            raise PairBenchError(
                f"{language.name} has no {role} judge: name openai:<base-url>,<model> instead"
            )
        local = ScoringJudge(oracle, role, pairs, kept)
        outcomes = {at: local.outcome(kept, at) for at in plan}
        scores, described = local.row_scores(kept), local.described
    else:
        with Endpoint(address, results, budget=budget, key=key) as endpoint:
            remote = AskedJudge(endpoint, pairs, len(plan), progress)
            outcomes = {at: remote.outcome(kept, at) for at in plan}
            described = remote.described
            requests, stopped = endpoint.requests, endpoint.stopped
            failed = failed or endpoint.failed
        if plan and stopped and not any(outcomes.values()):
            raise PairBenchError(f"nothing was judged: {stopped}")
    meets: dict[str, dict[str, Versus]] = {name: {} for name in wanted}
    for ours, theirs in meetings:
        mine = {at: outcomes[at] for at in plan if (at.row, at.other) == (ours, theirs)}
        meets[ours][theirs] = versus(mine)
        meets[theirs][ours] = versus({at: o and o.swapped for at, o in mine.items()})
    judged = [
        JudgedRow(
            row=name,
            algorithm=algorithms[name],
            seeds=sorted(kept.texts[name]),
            score=scores.get(name),
            versus=None if name == anchor else meets[name][anchor],
            head_to_head={
                other: versus
                for other, versus in meets[name].items()
                if anchor not in (name, other)
            },
        )
        for name in wanted
        if kept.texts[name] and (address is None or name != anchor)
    ]
    return Judgement(
        task=chosen.task,
        task_version=chosen.task_version,
        board=chosen.board,
        title=chosen.title,
        judge=described,
        baseline=anchor,
        rows=sorted(judged, key=_order),
        requests=requests,
        stopped=stopped,
        left_out=kept.left_out,
        failed=failed,
    )


def _board(
    records: list[RunRecord], rebuilt: list[Reproduction], task: str | None, board: str | None
) -> Board:
    """Returns the board that is asked for among those whose runs have kept completions."""
    kept = [r for r in records if r.status == "finished" and r.texts_sha256]
    tasks = sorted({record.task for record in kept})
    if not tasks:
        raise PairBenchError(
            "no finished run here has kept its completions: run a language task first"
        )
    if task is None and len(tasks) > 1:
        raise PairBenchError(f"several tasks have completions: choose one of {', '.join(tasks)}")
    if task is not None and task not in tasks:
        raise PairBenchError(
            f"no finished run of a task {task!r} has kept its completions"
            f"{did_you_mean(task, tasks)}"
        )
    runs = {record.identity for record in kept}
    found = build(records, task or tasks[0], marks=rebuilt)
    boards = [b for b in found if runs & b.identities]
    matches = [b for b in boards if b.board.startswith(board or "")]
    if not matches or (board and len(matches) > 1):
        titles = "; ".join(f"{b.title} ({b.board[:8]})" for b in boards)
        raise PairBenchError(f"{len(matches)} boards begin with {board!r}: there are {titles}")
    return matches[0]


def _anchor(algorithms: Mapping[str, str], baseline: str, board: Board) -> str:
    if baseline in algorithms:
        return baseline
    for name, algorithm in algorithms.items():
        if algorithm == baseline:
            return name
    raise PairBenchError(
        f"no row {baseline!r} on {board.title} to compare with: run it, or choose another by "
        f"--baseline{did_you_mean(baseline, algorithms)}"
    )


def _task(board: Board) -> LanguageTask:
    cls = get_task(board.task)
    if not issubclass(cls, LanguageTask):
        raise PairBenchError(
            f"{board.task} is no task of prompts and completions: nothing to judge"
        )
    try:
        return cls(cls.Config(**board.task_config))
    except ValidationError as error:
        raise PairBenchError(
            f"the settings of {board.title} are not those of this version's {board.task}: judge "
            "them with the version that ran them"
        ) from error


def _kept(
    runs: Mapping[str, Mapping[int, RunRecord]], store: Store, pairs: Mapping[str, Pair]
) -> Kept:
    """Reads what runs have kept; one whose completions cannot be trusted is left out and named."""
    texts: dict[str, dict[int, dict[str, str]]] = {name: {} for name in runs}
    left_out, failed = [], False
    for name, of_row in runs.items():
        for seed, record in sorted(of_row.items()):
            path = store.path(record).with_suffix(".texts.parquet")
            try:
                texts[name][seed] = _texts(path, record, pairs)
            except PairBenchError as error:
                left_out.append(f"{name}, seed {seed}, is left out: {error}")
                failed = failed or record.texts_sha256 is not None
    return Kept(texts, left_out, failed)


def _texts(path: Path, record: RunRecord, pairs: Mapping[str, Pair]) -> dict[str, str]:
    if record.texts_sha256 is None:
        raise PairBenchError("it was run before completions were kept")
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise PairBenchError(f"{path} cannot be read ({error.strerror})") from error
    if found != record.texts_sha256:
        raise PairBenchError(
            f"{path} is not the file that its record names (SHA-256 {found[:8]}, not "
            f"{record.texts_sha256[:8]}): bring the original back"
        )
    columns = read_texts(path)
    if not columns.keys() >= {"prompt", "completion"}:
        raise PairBenchError(f"{path} has no columns prompt and completion")
    unknown = [prompt for prompt in columns["prompt"] if prompt not in pairs]
    if unknown:
        raise PairBenchError(
            f"{len(unknown)} of its {len(columns['prompt'])} prompts are not among the held-out "
            "ones of the data at hand: give the data it was run with by --data-dir"
        )
    return dict(zip(columns["prompt"], columns["completion"], strict=True))


def _plan(kept: Kept, meetings: Sequence[tuple[str, str]]) -> list[Comparison]:
    """Returns what to compare, so that a budget that ends early is spread over rows and seeds.

    Prompts come in the order of their hashes: the first of them are as good as drawn by lot.
    """
    return sorted(
        (
            Comparison(prompt, ours, theirs, seed)
            for ours, theirs in meetings
            for seed, mine in kept.texts[ours].items()
            for prompt in mine.keys() & kept.texts[theirs].get(seed, {}).keys()
        ),
        key=lambda at: (at.prompt, at.seed, at.row, at.other),
    )


def _order(row: JudgedRow) -> tuple[float, str]:
    """Rows by score, or else by win rate; best first."""
    if row.score is not None:
        return -row.score.mean, row.row
    at = row.versus.win_rate if row.versus else None
    return (-at.estimate if at else 1.0, row.row)
