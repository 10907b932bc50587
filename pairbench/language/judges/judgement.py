"""What a judge says of a board's rows, and the table of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel
from tabulate import tabulate

from pairbench import statistics
from pairbench.language.judges.endpoint import Verdict
from pairbench.leaderboard.rows import Rate, rate
from pairbench.leaderboard.text import cell
from pairbench.text import number, printable

POINTS = {"A": 1.0, "B": 0.0, "tie": 0.5, "unreadable": 0.5}
"""What the answer shown first gets."""


class Comparison(NamedTuple):
    """Completions of two rows for one prompt, named by `prompt_id`, at one seed."""

    prompt: str
    row: str
    other: str
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What a judge makes of one row's completion against another's.

    Attributes:
        points: 1 better, 0 worse, one half a tie; of two orders the mean.
        disagree: whether the two orders gave different points, None without two readable ones.
        unreadable: verdicts that could not be read and count as ties.
        identical: the completions are the same text, which nobody was asked about.
    """

    points: float
    disagree: bool | None = None
    unreadable: int = 0
    identical: bool = False

    @property
    def swapped(self) -> Outcome:
        """The same comparison seen from the other side."""
        return Outcome(1.0 - self.points, self.disagree, self.unreadable, self.identical)


def both_orders(there: Verdict, back: Verdict) -> Outcome:
    """Returns the outcome for the completion that was shown first in `there`, second in `back`."""
    first, second = POINTS[there.verdict], 1.0 - POINTS[back.verdict]
    unreadable = [there.verdict, back.verdict].count("unreadable")
    return Outcome(
        points=(first + second) / 2,
        disagree=None if unreadable else first != second,
        unreadable=unreadable,
    )


class Score(BaseModel):
    """Mean over seeds of the mean score over prompts, with its 95% interval."""

    mean: float
    low: float | None = None
    high: float | None = None


class Versus(BaseModel):
    """A row against another; shares are means over seeds of shares over prompts.

    Attributes:
        seeds: that have a comparison.
        comparisons: pairs of completions that were compared.
        missing: pairs that have no verdict yet, since asking stopped.
        identical: of the comparisons, those of equal texts: ties that nobody was asked about.
        unreadable: verdicts that could not be read, in place of which a tie counts.
        win_rate: ties count one half; a pair judged in both orders counts their mean.
        ties: share of comparisons worth exactly one half.
        position_bias: of pairs judged in both orders, the share in which the orders disagree.
    """

    seeds: list[int]
    comparisons: int
    missing: int
    identical: int
    unreadable: int
    win_rate: Rate | None
    ties: Rate | None
    position_bias: Rate | None


class JudgedRow(BaseModel):
    """A row of a board as a judge sees it; `versus` is against the baseline, None for itself."""

    row: str
    algorithm: str
    seeds: list[int]
    score: Score | None
    versus: Versus | None
    head_to_head: dict[str, Versus]


class JudgedBy(BaseModel):
    """Who judged.

    Attributes:
        kind: "gold", "proxy" or "openai".
        name: of the judge, or of the model.
        address: the endpoint's, if there is one.
        prompt_version: of the question an endpoint is asked.
        served: names of the models that the endpoint says have answered.
        first, last: days (UTC) of the earliest and latest verdict.
        cards: what is known of a local judge's parts.
        caveats: what a reader must know before the numbers.
    """

    kind: Literal["gold", "proxy", "openai"]
    name: str
    address: str | None = None
    prompt_version: str | None = None
    served: list[str] = []
    first: str | None = None
    last: str | None = None
    cards: dict[str, dict[str, Any]] = {}
    caveats: list[str] = []


class Judgement(BaseModel):
    """What a judge says of a board's rows.

    Attributes:
        requests: sent by this call.
        stopped: why verdicts are missing, if any are.
        left_out: one sentence for each run whose completions could not be used.
        failed: whether an endpoint gave up, or kept completions are not what the record says.
    """

    task: str
    task_version: str
    board: str
    title: str
    judge: JudgedBy
    baseline: str
    rows: list[JudgedRow]
    requests: int
    stopped: str | None
    left_out: list[str]
    failed: bool


def versus(outcomes: Mapping[Comparison, Outcome | None]) -> Versus:
    """Returns what the outcomes of one row against another add up to, None being missing ones."""
    by_seed: dict[int, list[Outcome]] = {}
    for at, outcome in outcomes.items():
        if outcome is not None:
            by_seed.setdefault(at.seed, []).append(outcome)
    made = [outcome for of_seed in by_seed.values() for outcome in of_seed]

    def share(get: Callable[[Outcome], float | None]) -> Rate | None:
        """The mean over seeds of the mean of what `get` returns, None being left out."""
        values = [[x for o in of_seed if (x := get(o)) is not None] for of_seed in by_seed.values()]
        means = [float(np.mean(of_seed)) for of_seed in values if of_seed]
        return rate(statistics.mean_interval(means, limits=(0.0, 1.0))) if means else None

    return Versus(
        seeds=sorted(by_seed),
        comparisons=len(made),
        missing=len(outcomes) - len(made),
        identical=sum(outcome.identical for outcome in made),
        unreadable=sum(outcome.unreadable for outcome in made),
        win_rate=share(lambda outcome: outcome.points),
        ties=share(lambda outcome: float(outcome.points == 0.5)),
        position_bias=share(
            lambda outcome: None if outcome.disagree is None else float(outcome.disagree)
        ),
    )


def table(judgement: Judgement) -> str:
    """Returns a judgement as a table for a terminal, and what must be known to read it."""
    local = judgement.judge.kind != "openai"
    columns: dict[str, Callable[[Versus], str]] = {
        f"judge: beats {judgement.baseline}": lambda versus: cell(versus.win_rate),
        "comparisons": lambda versus: str(versus.comparisons),
        "judge: ties": lambda versus: cell(versus.ties),
    }
    if not local:
        columns["judge: position bias"] = lambda versus: cell(versus.position_bias)
        columns["unreadable"] = lambda versus: str(versus.unreadable)
    header = ["row", "seeds", *(["judge: score"] if local else []), *columns]
    lines = []
    for row in judgement.rows:
        seeds = row.versus.seeds if row.versus else row.seeds
        line = [row.row, str(len(seeds)), *([_score(row.score)] if local else [])]
        line += [show(row.versus) if row.versus else "" for show in columns.values()]
        lines.append([printable(text) for text in line])
    parts = [
        f"{judgement.title}, version {judgement.task_version}, board {judgement.board[:8]}",
        _who(judgement.judge),
        *judgement.judge.caveats,
        "",
        _tabulated(header, lines),
    ]
    meeting = [row for row in judgement.rows if row.head_to_head]
    if meeting:
        names = [row.row for row in meeting]
        met = []
        for row in meeting:
            against = [row.head_to_head.get(name) for name in names]
            met.append([row.row, *(cell(other.win_rate if other else None) for other in against)])
        parts += ["", _tabulated(["judge: head to head", *names], met)]
    legend = "Means over seeds [95% interval]; a tie counts one half"
    if not local:
        legend += (
            ", and so does an unreadable verdict. Each pair is judged in both orders; position "
            "bias is the share of pairs in which the orders disagree"
        )
    parts += ["", f"{legend}."]
    every = [row.versus for row in judgement.rows if row.versus]
    every += [v for row in meeting for other, v in row.head_to_head.items() if row.row < other]
    if identical := sum(v.identical for v in every):
        parts.append(f"{identical} comparisons were of equal completions: ties without asking.")
    if judgement.stopped:
        missing = sum(v.missing for v in every)
        total = missing + sum(v.comparisons for v in every)
        parts.append(f"Incomplete, {missing} of {total} comparisons missing: {judgement.stopped}.")
    return "\n".join([*parts, *judgement.left_out]) + "\n"


def _who(judge: JudgedBy) -> str:
    if judge.kind != "openai":
        return f"Judge: {judge.name}, a stand-in and not people."
    days = " to ".join(dict.fromkeys(day for day in (judge.first, judge.last) if day))
    return (
        f"Judge: {printable(judge.name)} at {judge.address}, prompt version "
        f"{judge.prompt_version}, {days or 'no verdict yet'}: a language model and not people."
    )


def _score(score: Score | None) -> str:
    if score is None:
        return ""
    if score.low is None or score.high is None:
        return number(score.mean)
    return f"{number(score.mean)} [{number(score.low)}, {number(score.high)}]"


def _tabulated(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    align = ["left", *["right"] * (len(header) - 1)]
    return str(
        tabulate(lines, headers=header, tablefmt="simple", disable_numparse=True, colalign=align)
    )
