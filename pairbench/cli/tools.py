"""Verbs that put records elsewhere, or in another form: export, compact."""

from __future__ import annotations

from pathlib import Path

import click

from pairbench.cli.options import RESULTS, SEEN, TASK, loaded, warn


@click.command()
@click.option("--to", type=click.Choice(["tensorboard", "mlflow", "wandb"]), required=True,
              help="Whose files, or server, the runs are added to.")  # fmt: skip
@click.option("--out", required=True, help="Where it keeps them: a folder, or a tracking URI.")
@TASK
@SEEN
def export(to: str, out: str, task: str | None, results: Path) -> None:
    """Add finished runs to a tracker: curves, series, final numbers, settings, profile.

    A run that is there already is left as it is.
    """
    from pairbench.results.export import export as add

    records = [record for record in loaded(results) if task in (None, record.task)]
    new, had = add(records, results, to, out)
    click.echo(f"{new} runs added to {out}, {had} there before")


@click.command()
@RESULTS
def compact(results: Path) -> None:
    """Keep a large folder's records in few files beside them, which boards are then read from.

    The records stay as they are, and a board is the same with or without. `pairbench leaderboard`
    then holds one task's records at a time in memory.
    """
    from pairbench.results.cache import compact as keep

    found = keep(results)
    warn(found.problems)
    click.echo(f"{found.records} records in {found.files} files in {results / '.compact'}")
