"""A replication as text: terminal table, JSON, Markdown, a page, and the files of a site."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from tabulate import tabulate

from pairbench.leaderboard.rows import Rate
from pairbench.leaderboard.text import cell, markdown_text
from pairbench.papers.replication.study import (
    Curve,
    Pair,
    Replicated,
    Replication,
    Robustness,
    Swept,
)
from pairbench.results.files import write_text
from pairbench.text import number

SITE_FORMATS = {"md": "markdown", "json": "json", "html": "html"}
WHAT = "the replication report"
COMMAND = "pairbench replicate --site leaderboards"

PREFACE = (
    "The tables of arXiv {paper} ({title}) beside the runs of this repository's suites. A verdict "
    "is that of the 95% interval of two rows' difference of interquartile means over the seeds "
    "they share, which from six seeds on the swap test must confirm: it agrees with the paper's "
    "order, contradicts it, or leaves it undecided, and says no more. Nothing corrects for there "
    "being {pairs} pairs; under six shared seeds no such test could confirm a difference at 5%, "
    "so verdicts from so few are hints."
)
CORRELATION = (
    "Kendall's tau of a seed's order with the paper's, mean over {seeds} of {rows} rows: {tau}; 1 "
    "is the paper's order, -1 its reverse{width}."
)
MARKS = {
    "agrees": "holds", "contradicts": "fails", "loses less": "holds", "loses more": "fails",
    "undecided": "holds-only-if", "no runs": "none",
}  # fmt: skip
"""How the page paints a verdict, by the names of its style."""

WORDS = {
    "agrees": "agree", "undecided": "are undecided", "contradicts": "contradict",
    "no runs": "have no runs yet",
}  # fmt: skip

SWEPT = (
    "Gain is the reward above the untrained policy's without noise. Loss is the share of that gain "
    "lost per unit of noise: the slope of a line through the noise-free point, which says little "
    "where the curve bends. Means over seeds; intervals resample seeds whole."
)


def render(report: Replication, form: str) -> str:
    """Returns the report in one of `FORMATS`; the same records always give the same text."""
    return FORMATS[form](report)


def write_site(report: Replication, folder: Path) -> list[Path]:
    """Writes replication.md, .json and .html to `folder`, and returns their paths."""
    return [
        write_text(folder / f"replication.{suffix}", render(report, form), WHAT)
        for suffix, form in sorted(SITE_FORMATS.items())
    ]


def preface(report: Replication) -> str:
    """Returns what a reader must know before the tables."""
    pairs = sum(report.counts.values())
    return PREFACE.format(paper=report.paper, title=report.title, pairs=pairs)


def counts(report: Replication) -> str:
    """Returns how often the verdicts came out, in a sentence."""
    said = [
        f"{count} {WORDS[verdict]}"
        for verdict, count in report.counts.items()
        if count or verdict != "no runs"
    ]
    total = sum(report.counts.values())
    return f"Of {total} pairs that the paper orders, {', '.join(said[:-1])} and {said[-1]}."


def seeds_in(n_seeds: int, asked: int, failed: int = 0) -> str:
    """Returns how many of the seeds that a suite asks for are in."""
    if not n_seeds and not failed:
        return "no run of this row is in"
    text = f"{n_seeds} of {asked} seeds are in"
    return f"{text}, {failed} failed" if failed else text


def headings(result: Replicated) -> list[str]:
    """Returns the headings of a table's rows."""
    table = result.table
    return ["row", "paper", "place", f"ours: {table.ours}", "place", *table.also.values(), "runs"]


def lines(result: Replicated) -> list[list[str]]:
    """Returns the rows of a table, the paper's best first."""
    return [
        [
            line.row,
            "" if line.paper is None else f"{line.paper:g}",
            str(line.paper_rank),
            cell(line.ours),
            "" if line.rank is None else str(line.rank),
            *(cell(line.also.get(name)) for name in result.table.also),
            seeds_in(line.n_seeds, line.asked, line.failed),
        ]
        for line in result.lines
    ]


PAIR_HEADINGS = ("claim", "in its favour [95%]", "shared seeds", "swap p", "verdict")


def pair_cells(result: Replicated, pair: Pair) -> list[str]:
    """Returns a claim of the paper's order and what the records say of it."""
    where = "above" if result.table.better == "more" else "below"
    return [
        f"{pair.better} {where} {pair.worse}",
        difference(pair.difference),
        str(pair.n_seeds),
        "" if pair.p_value is None else f"{pair.p_value:.3f}",
        pair.verdict,
    ]


def difference(value: Rate | None) -> str:
    """Returns a difference with its sign and interval."""
    if value is None:
        return ""
    ends = [value.estimate, value.low, value.high]
    show = ["" if x is None else f"{'+' if x > 0 else ''}{number(x)}" for x in ends]
    return show[0] if value.low is None else f"{show[0]} [{show[1]}, {show[2]}]"


def correlation(result: Replicated) -> str | None:
    """Returns a sentence on the rank correlation, if there are rows enough."""
    found = result.correlation
    if found is None:
        return None
    tau = found.tau
    seeds = f"{found.n_seeds} shared seed{'s' * (found.n_seeds > 1)}"
    width = ", and all seeds agree" if tau.low is not None and tau.low == tau.high else ""
    return CORRELATION.format(tau=difference(tau), rows=found.rows, seeds=seeds, width=width)


def curve_headings(swept: Swept) -> list[str]:
    """Returns the headings of a sweep's curves."""
    levels = [f"kept at {level:g}" for level in swept.sweep.levels.values() if level]
    return ["row", "gain", *levels, "loss per unit", "runs"]


def curve_cells(swept: Swept, curve: Curve) -> list[str]:
    """Returns one row's curve."""
    levels = [f"{level:g}" for level in swept.sweep.levels.values() if level]
    return [
        curve.row,
        plain(curve.gain),
        *(cell(curve.kept.get(level)) for level in levels),
        cell(curve.loss),
        seeds_in(curve.n_seeds, curve.asked),
    ]


def plain(value: Rate | None) -> str:
    """Returns a number with its interval that is no share."""
    if value is None:
        return ""
    if value.low is None or value.high is None:
        return number(value.estimate)
    return f"{number(value.estimate)} [{number(value.low)}, {number(value.high)}]"


LOSS_HEADINGS = ("question", "by how much [95%]", "shared seeds", "answer")


def loss_cells(pair: Robustness) -> list[str]:
    """Returns a question about two rows and what the records say of it."""
    return [
        f"does {pair.row} lose less than {pair.than}?",
        difference(pair.difference),
        str(pair.n_seeds),
        pair.verdict,
    ]


def _json(report: Replication) -> str:
    tree = report.model_dump(mode="json")
    return json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _table(report: Replication) -> str:
    parts = []
    for result in report.tables:
        parts += [result.table.title, _text(lines(result), headings(result))]
        parts.append(_text([pair_cells(result, pair) for pair in result.pairs], PAIR_HEADINGS))
        if (told := correlation(result)) is not None:
            parts.append(told)
    for swept in report.sweeps:
        parts.append(swept.sweep.title)
        parts.append(_text([curve_cells(swept, c) for c in swept.curves], curve_headings(swept)))
        parts.append(_text([loss_cells(pair) for pair in swept.pairs], LOSS_HEADINGS))
    return "\n\n".join([*parts, counts(report)]) + "\n"


def _text(rows: Sequence[Sequence[str]], heads: Sequence[str]) -> str:
    return tabulate(rows, heads, tablefmt="simple", disable_numparse=True)


def _pipe(rows: Sequence[Sequence[str]], heads: Sequence[str]) -> str:
    escaped = [[markdown_text(text) for text in row] for row in rows]
    titles = [markdown_text(head) for head in heads]
    return tabulate(escaped, titles, tablefmt="pipe", disable_numparse=True)


def _markdown(report: Replication) -> str:
    parts = [f"# {report.title}: the paper's tables beside ours", preface(report), counts(report)]
    parts += [report.evidence, f"Rebuild with `{COMMAND}`.", "## Why sizes differ"]
    parts.append("\n".join(f"- {reason}" for reason in report.reasons))
    for result in report.tables:
        parts += [f"## {result.table.title}", f"Paper: {result.table.source}. {result.table.note}"]
        parts += [f"**{caveat}**" for caveat in result.caveats]
        parts += [_pipe(lines(result), headings(result))]
        parts += [told] if (told := correlation(result)) is not None else []
        parts.append(_pipe([pair_cells(result, pair) for pair in result.pairs], PAIR_HEADINGS))
    ratings = report.ratings
    rows = [[row, *(f"{x:.2f}" for x in values)] for row, values in ratings.values.items()]
    parts += [f"## {ratings.title}", f"Paper: {ratings.source}. {ratings.why}"]
    parts.append(_pipe(rows, ["row", *ratings.columns]))
    for swept in report.sweeps:
        sweep = swept.sweep
        parts += [f"## {sweep.title}", f"Noise: {sweep.noise}. {sweep.note} {SWEPT}"]
        parts.append(_pipe([curve_cells(swept, c) for c in swept.curves], curve_headings(swept)))
        parts.append(_pipe([loss_cells(pair) for pair in swept.pairs], LOSS_HEADINGS))
    return "\n\n".join(parts) + "\n"


def _page(report: Replication) -> str:
    from pairbench.leaderboard.site.pages import environment

    tables = [
        {
            "it": result.table,
            "caveats": result.caveats,
            "headings": headings(result),
            "lines": lines(result),
            "correlation": correlation(result),
            "pairs": [pair_cells(result, pair) for pair in result.pairs],
        }
        for result in report.tables
    ]
    sweeps = [
        {
            "it": one.sweep,
            "headings": curve_headings(one),
            "lines": [curve_cells(one, curve) for curve in one.curves],
            "pairs": [loss_cells(pair) for pair in one.pairs],
        }
        for one in report.sweeps
    ]
    return environment().get_template("replication.html.j2").render(
        report=report, preface=preface(report), counts=counts(report), marks=MARKS, swept=SWEPT,
        command=COMMAND, tables=tables, sweeps=sweeps, pair_headings=PAIR_HEADINGS,
        loss_headings=LOSS_HEADINGS,
    )  # fmt: skip


FORMATS: dict[str, Callable[[Replication], str]] = {
    "table": _table, "json": _json, "markdown": _markdown, "html": _page,
}  # fmt: skip
