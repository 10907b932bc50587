"""Verbs that hold the papers against what is computed here: claims, replicate."""

from __future__ import annotations

from pathlib import Path

import click

from pairbench.cli.options import OUT, PLACE, SEEN, form, loaded, say
from pairbench.errors import PairBenchError


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@form("markdown", "html")
@OUT
@click.option("--site", type=PLACE, help="Write claims.html, .md and .json to this folder instead.")
def claims(ids: tuple[str, ...], form: str, out: Path | None, site: Path | None) -> None:
    """Check what the papers assert with the algorithms themselves: all claims, or those named."""
    from pairbench.papers.claims import Result, render, run, write_site
    from pairbench.papers.claims.report import WHAT
    from pairbench.seeding import pin_threads

    if site is not None and (ids or out is not None):
        raise PairBenchError("--site writes all claims to a folder: leave the names and --out away")
    pin_threads(1)

    def progress(result: Result, number: int, count: int) -> None:
        line = f"{number}/{count} {result.claim.id}: {result.verdict} ({result.seconds:.1f} s)"
        say(line, err=True)

    results = run(ids, progress)
    if site is not None:
        say("\n".join(map(str, write_site(results, site))))
    else:
        _give(render(results, form), out, WHAT)


@click.command()
@form("markdown", "html")
@OUT
@click.option("--site", type=PLACE,
              help="Write replication.html, .md and .json to this folder instead.")  # fmt: skip
@SEEN
def replicate(form: str, out: Path | None, site: Path | None, results: Path) -> None:
    """Set the paper's tables beside the records: orders, paired verdicts, what noise costs."""
    from pairbench.papers.replication import render, replicate as beside, write_site
    from pairbench.papers.replication.report import WHAT

    if site is not None and out is not None:
        raise PairBenchError("--site writes the report to a folder: leave --out away")
    report = beside(loaded(results))
    if site is not None:
        say("\n".join(map(str, write_site(report, site))))
    else:
        _give(render(report, form), out, WHAT)


def _give(text: str, out: Path | None, what: str) -> None:
    """Prints a report, or writes it and prints where it is."""
    from pairbench.results.files import write_text

    if out is None:
        say(text, nl=False)
    else:
        say(write_text(out, text, what))
