"""Verbs that run something, or say how far it is: run, tune, status."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pairbench.cli.options import (
    ALGORITHMS,
    ANNEAL,
    ANYWHERE,
    BUDGET,
    DATA_DIR,
    EXECUTION,
    EXECUTION_HERE,
    RESULTS,
    SEEN,
    as_json,
    form,
    given,
    loaded,
    names,
    overrides,
    packed,
    say,
    tell,
)
from pairbench.errors import PairBenchError

PROTOCOL = packed(
    "protocol",
    given,
    ANNEAL,
    click.option("--evaluations", type=int, help="Points of the learning curve."),
    click.option("--probes", type=int, help="Measurements of the gradient's noise."),
    click.option("--adam-eps", type=float, help="Epsilon of Adam; the task's own by default."),
    click.option("--engine", metavar="NAME",
                 help="Whose training loop: PairBench's own, or the engine of that name."),
)  # fmt: skip

REWARD = packed(
    "rewards",
    lambda reward, gold: (list(reward), gold),
    click.option("--reward", multiple=True, metavar="FILE.py:FUNCTION[=WEIGHT]",
                 help="A function that scores completions of --tasks of your own prompts; several "
                 "are summed."),
    click.option("--gold", metavar="FILE.py:FUNCTION",
                 help="One that ranks in their place, and trains nobody."),
)  # fmt: skip


@click.command()
@click.argument("suite", required=False)
@ALGORITHMS
@names("--tasks", "Tasks, by comma; of a suite, the tasks to keep.")
@click.option("--seeds", help="Seeds, as 0-4 or 0,2,7; the suite's own, or 0, by default.")
@BUDGET
@PROTOCOL
@overrides("TARGET.KEY=VALUE", "A setting of an algorithm, a row or a task, as grpo.group_size=8")
@REWARD
@DATA_DIR
@EXECUTION
@click.option("--set-aside", "aside", is_flag=True,
              help="Make anew what ran with other code, data or models.")  # fmt: skip
@click.option("--until", type=click.Choice(["decided"]),
              help="Add seeds to two rows until they are told apart, looking after each; 5% of "
              "equal rows are told apart in error.")  # fmt: skip
@names("--decide", "The two rows, by comma; the two --algorithms by default.")
@click.option("--max-seeds", type=click.IntRange(min=2), default=30, show_default=True,
              help="Seeds of a row at which --until gives up.")  # fmt: skip
@click.option("--profile", is_flag=True, help="Show what the seconds of each run went into.")
@ANYWHERE
def run(
    results: str,
    profile: bool,
    until: str | None,
    decide: list[str],
    max_seeds: int,
    rewards: tuple[list[str], str | None],
    **asked: Any,
) -> int:
    """Run a SUITE, or algorithms on tasks; what is in the results folder is not run again."""
    from pairbench.experiments.deciding import Decision, run_until_decided
    from pairbench.experiments.display import display
    from pairbench.experiments.own import rewarded
    from pairbench.experiments.runner import run as run_suite
    from pairbench.results.place import at_hand

    more = rewarded(asked["tasks"], *rewards, asked["overrides"])
    asked["overrides"] = [*asked["overrides"], *more]
    if decide and not until:
        raise PairBenchError("--decide says between which rows: add --until decided")
    decisions: list[Decision] = []
    with display() as monitor:
        if until:
            records, decisions = run_until_decided(
                results=results,
                monitor=monitor,
                decide=decide or asked["algorithms"],
                max_seeds=max_seeds,
                at_once=max((asked["execution"].workers or 1) // 2, 1),
                **asked,
            )
        else:
            records = run_suite(results=results, monitor=monitor, **asked)
    folder = at_hand(results)[0]
    if profile:
        from pairbench.experiments.status import profiles

        say(profiles(records, folder), nl=False)
    _show_boards(folder, results, {record.identity for record in records})
    for decision in decisions:
        say(decision.said())
    failed = sum(record.status == "failed" for record in records)
    if records and all(record.status == "skipped" for record in records):
        why = "; ".join(dict.fromkeys(f"{one.row}: {one.reason}" for one in records))
        say(f"Nothing was run, since every row was skipped. {why}", err=True)
    if failed:
        say(f"{failed} of {len(records)} runs failed.", err=True)
    return 1 if failed else 0


def _show_boards(results: Path, named: Path | str, wanted: set[str]) -> None:
    """Prints the boards that hold the runs `wanted`, and writes and names all pages."""
    from pairbench.leaderboard import render, write_site
    from pairbench.results.files import refuse_link_out
    from pairbench.results.layout import pages_folder
    from pairbench.results.load import load_series
    from pairbench.results.marks import marks

    records = loaded(results)
    pages = pages_folder(results)
    refuse_link_out(pages.parent, pages)
    site = write_site(records, pages, marks(results), load_series(results, records), named)
    for board, page in zip(site.boards, site.pages, strict=True):
        if wanted.intersection(board.identities):
            say(f"\n{render(board, 'table')}page: {page}")


@click.command()
@click.argument("suite", required=False)
@ALGORITHMS
@click.option("--task", required=True, help="The task (or task@variant).")
@click.option("--trials", type=int, required=True,
              help="Settings to try for each row, its own among them.")  # fmt: skip
@click.option("--seeds", default="1000-1001", show_default=True,
              help="Seeds of each trial, of those that no board may report.")  # fmt: skip
@BUDGET
@packed("protocol", given, ANNEAL)
@overrides("TASK.KEY=VALUE", "A setting of the task")
@click.option("--sampler-seed", type=click.IntRange(min=0), default=0, show_default=True,
              help="Seed of what is tried.")  # fmt: skip
@click.option("--study", help="Name of the study's folder; the task's by default.")
@DATA_DIR
@EXECUTION_HERE
@form()
@RESULTS
def tune(form: str, **asked: Any) -> int:
    """Search settings for algorithms, or a SUITE's rows, on one task: as many trials for each.

    Trials use seeds and contexts that no board reports. Writes a suite of the settings found. The
    status is 1 if a trial failed.
    """
    from pairbench.experiments.display import display
    from pairbench.experiments.tuning.report import as_object, next_command, render
    from pairbench.experiments.tuning.search import tune as search

    with display() as monitor:
        outcome = search(monitor=monitor, **asked)
    if form == "json":
        say(as_json(as_object(outcome)))
    else:
        say(f"\n{render(outcome)}", nl=False)
        if outcome.path is not None:
            say(f"next: {next_command(outcome, asked['overrides'], asked['results'])}")
    return 1 if any(row.failed for row in outcome.study.rows.values()) else 0


@click.command()
@form()
@SEEN
def status(form: str, results: Path) -> None:
    """Say how far the runs of a results folder are, from any machine that sees it."""
    from pairbench.experiments.status import look, render

    tell(form, look(results), render)
