"""Verbs about the worth of records: reproduce, submit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pairbench.cli.options import (
    ANYWHERE,
    DATA_DIR,
    PLACE,
    RESULTS,
    as_json,
    form,
    loaded,
    say,
    tell,
)


@click.command()
@click.argument("records", nargs=-1, required=True)
@click.option("--quick", "iterations", type=click.IntRange(min=1), metavar="N",
              help="Compare the first N iterations only.")  # fmt: skip
@DATA_DIR
@click.option("--mark/--no-mark", default=False, show_default=True,
              help="Keep the verdict in the results folder; a url keeps none.")  # fmt: skip
@form()
@ANYWHERE
def reproduce(records: tuple[str, ...], form: str, **asked: Any) -> int:
    """Run RECORDS again, by path or identity, and say whether the same numbers come back.

    The status is 0 if every one is equal, bit for bit or within the tolerance, and else 1.
    """
    from pairbench.experiments.reproduce import reproduce as run_again

    def told(verdict: Any) -> None:
        if form == "table":
            say(f"{verdict.name}: {verdict.verdict}; {verdict.detail}")
            for line in verdict.changed:
                say(f"  changed since: {line}")

    verdicts = run_again(records, told=told, **asked)
    if form == "json":
        say(as_json(verdicts))
    return 1 if any(one.verdict == "different" for one in verdicts) else 0


@click.command()
@click.argument("records", nargs=-1, required=True, type=PLACE)
@click.option("--into", type=PLACE, help="Results folder to copy the records to.")
@click.option("--check", "check_only", is_flag=True,
              help="Say only what is wrong: no board, no text.")  # fmt: skip
@click.option("--quick", type=click.IntRange(min=1), default=3, show_default=True, metavar="N",
              help="Iterations of one seed of each row that are run again.")  # fmt: skip
@click.option("--reproduce/--no-reproduce", "again", default=True, help="Run them again at all.")
@DATA_DIR
@form()
@RESULTS
def submit(
    records: tuple[Path, ...],
    into: Path | None,
    check_only: bool,
    quick: int,
    again: bool,
    form: str,
    results: Path,
) -> int:
    """Check RECORDS (their files), show the board with them, and say what a pull request needs.

    The folder of --results is what they are to join. The status is 0 if there is no problem, and
    else 1; nothing is copied then.
    """
    from pairbench.experiments.submission import (
        compared,
        copy,
        look,
        pull_request,
        render,
        run_again,
    )

    there = loaded(results) if results.is_dir() else []
    found = look(records, results)
    compared(found, there)
    if again:
        run_again(found, quick)
    tell(form, found, render)
    problems = sum(bool(one.problems) for one in found)
    if problems:
        say(f"{problems} of {len(found)} records cannot be submitted.", err=True)
        return 1
    for path in copy(found, into) if into is not None else ():
        say(f"copied: {path}", err=form == "json")
    if check_only or form == "json":
        return 0
    from pairbench.leaderboard import build, render as as_text
    from pairbench.results.marks import marks

    mine = [one.record for one in found if one.record is not None]
    boards = build([*there, *mine], marks=marks(results))
    wanted = {record.identity for record in mine}
    for board in boards:
        if wanted.intersection(board.identities):
            say(f"\n{as_text(board, 'table')}", nl=False)
    say(f"\nFor the pull request\n\n{pull_request(found, boards)}", nl=False)
    return 0
