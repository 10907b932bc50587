"""Claims as text: terminal table, JSON, Markdown, a page, and the files of a site."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from tabulate import tabulate

from pairbench.papers.claims.core import Number, Result
from pairbench.results.files import write_text

WHAT = "the claims"
SITE_FORMATS = {"md": "markdown", "json": "json", "html": "html"}
SCOPES = {"stated": "as stated", "restricted": "under the assumption"}
EVIDENCE = {"paper": "the paper's", "derived": "derived by us"}
SIGNS = {"<=": "≤", ">=": "≥"}

PREFACE = (
    "What the papers assert, computed with this repository's own algorithms. Each claim is in our "
    "words; a verdict follows from the numbers beneath it and from nothing else. A claim holds, "
    "holds only under the assumption named, or fails. Numbers are exact up to rounding unless they "
    "carry a standard error; Monte-Carlo numbers must clear their bound by three. We know the "
    "papers from their abstracts and from secondary sources; where a claim is marked as derived, "
    "it is ours, worked out from what they define."
)


def render(results: Sequence[Result], form: str) -> str:
    """Returns the results in one of `FORMATS`; the same results always give the same text."""
    return FORMATS[form](results)


def write_site(results: Sequence[Result], folder: Path) -> list[Path]:
    """Writes claims.md, claims.json and claims.html to `folder`, and returns their paths."""
    texts = {f"claims.{suffix}": render(results, form) for suffix, form in SITE_FORMATS.items()}
    return [write_text(folder / name, text, WHAT) for name, text in sorted(texts.items())]


def source(result: Result) -> str:
    """Returns the paper and the place in it."""
    return f"arXiv {result.claim.paper}, {result.claim.where}"


def in_words(number: Number) -> str:
    """Returns a number as text, with its error."""
    value = number.rounded
    need = number.requirement
    if number.vanishes and need is not None and need.bound > 0 and need.relation == "<=":
        return f"0 (below {need.bound:g})"
    text = f"{value:.6g}"
    return text if number.error is None else f"{text} ± {number.rounded_error:g}"


def requirement(number: Number) -> str:
    """Returns what the verdict asks of a number and whether it is met; "" if nothing."""
    need = number.requirement
    if need is None:
        return ""
    met = "met" if number.met else "not met" if number.decided else "not met (undecided)"
    return f"{SIGNS[need.relation]} {need.bound:.6g} {SCOPES[need.scope]}: {met}"


def as_json(result: Result) -> dict[str, Any]:
    """Returns a result as JSON types, numbers rounded to the digits that mean something."""
    claim, first = result.claim, result.numbers[0]
    return {
        "id": claim.id,
        "group": claim.group,
        "statement": claim.statement,
        "source": source(result),
        "evidence": claim.evidence,
        "assumptions": claim.assumption,
        "method": claim.method,
        "exact": claim.exact,
        "verdict": result.verdict,
        "reason": result.reason,
        "number": first.rounded,
        "error": first.rounded_error,
        "numbers": [
            {
                "name": number.name,
                "value": number.rounded,
                "error": number.rounded_error,
                "requirement": (need := number.requirement) and {**vars(need), "met": number.met},
            }
            for number in result.numbers
        ],
    }


def _json(results: Sequence[Result]) -> str:
    claims = [as_json(result) for result in results]
    return json.dumps({"claims": claims}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _table(results: Sequence[Result]) -> str:
    lines = []
    for result in results:
        lines.append(f"{result.verdict.upper():<14} {result.claim.id}")
        lines.append(f"  {result.claim.statement}")
        lines.append(f"  {result.reason}")
        first = result.numbers[0]
        lines.append(f"  {first.name}: {in_words(first)}")
        lines.append("")
    counts = ", ".join(
        f"{sum(r.verdict == outcome for r in results)} {outcome}"
        for outcome in ("holds", "holds only if", "fails")
    )
    return "\n".join([*lines, counts, ""])


def _markdown(results: Sequence[Result]) -> str:
    rows = [[f"`{r.claim.id}`", r.claim.statement, f"**{r.verdict}**"] for r in results]
    lines = [
        "# The papers' claims, checked",
        "",
        PREFACE,
        "",
        "Rebuild with `pairbench claims --site leaderboards`.",
        "",
        tabulate(rows, ["claim", "statement", "verdict"], tablefmt="pipe", disable_numparse=True),
        "",
    ]
    for group, members in groupby(results, key=lambda r: r.claim.group):
        lines += [f"## {group}", ""]
        for result in members:
            claim = result.claim
            lines += [
                f"### {claim.id}: {result.verdict}",
                "",
                f"{claim.statement}",
                "",
                f"- Source: {source(result)} ({EVIDENCE[claim.evidence]})",
                f"- Assumption: {claim.assumption}",
                f"- Method: {claim.method}",
                f"- Why: {result.reason}",
                "",
                tabulate(
                    [[_cell(n.name), in_words(n), requirement(n)] for n in result.numbers],
                    ["quantity", "value", "required"],
                    tablefmt="pipe",
                    disable_numparse=True,
                ),
                "",
            ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _page(results: Sequence[Result]) -> str:
    from pairbench.leaderboard.site.pages import environment

    groups = [
        {
            "name": name,
            "claims": [
                {
                    "it": result.claim,
                    "verdict": result.verdict,
                    "mark": result.verdict.replace(" ", "-"),
                    "reason": result.reason,
                    "source": source(result),
                    "evidence": EVIDENCE[result.claim.evidence],
                    "numbers": [
                        {"name": n.name, "value": in_words(n), "required": requirement(n)}
                        for n in result.numbers
                    ],
                }
                for result in members
            ],
        }
        for name, members in groupby(results, key=lambda r: r.claim.group)
    ]
    template = environment().get_template("claims.html.j2")
    return template.render(preface=PREFACE, groups=groups, count=len(results))


FORMATS: dict[str, Callable[[Sequence[Result]], str]] = {
    "table": _table, "json": _json, "markdown": _markdown, "html": _page,
}  # fmt: skip
