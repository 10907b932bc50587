"""Verbs that show what there is, or hand it on: leaderboard, compare, power, show, plot, list"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pairbench.cli.options import (
    PLACE,
    ROW_NAMES,
    SEEN,
    TASK,
    as_json,
    form,
    loaded,
    names,
    say,
    tell,
    told,
)
from pairbench.errors import PairBenchError


@click.command()
@TASK
@form("markdown", "csv", "latex", "html")
@click.option("--site", type=PLACE, help="Write every format and the pages to this folder instead.")
@click.option("--overall", is_flag=True,
              help="One board over all tasks (or --tasks), normalised.")  # fmt: skip
@names("--tasks", "Tasks of the overall board, by comma.")
@SEEN
def leaderboard(
    task: str | None,
    form: str,
    site: Path | None,
    overall: bool,
    tasks: list[str],
    results: Path,
) -> None:
    """Show the boards of the results folder, or write their pages.

    With JSON, a task's board of the largest budget; without a task, a list of all boards.
    """
    from pairbench.leaderboard import build, overall as over_tasks, render, write_site
    from pairbench.results.load import load_series
    from pairbench.results.marks import marks

    records = loaded(results)
    if not records:
        raise PairBenchError(f"there are no records in {results}: run something first")
    if site is None and not (overall or tasks):
        _tell(build(records, task, marks=marks(results)), form, task)
        return
    if site is not None:
        written = write_site(records, site, marks(results), load_series(results, records), results)
        for path in written.files:
            say(path)
        return
    if task is not None:
        raise PairBenchError("an overall board is of several tasks: name them with --tasks")
    both = over_tasks(records, tasks or None, boards=build(records, marks=marks(results)))
    if both is None:
        raise PairBenchError(
            "there is no overall board yet: it needs two tasks with an untrained row, and two "
            "trained rows that have finished on both"
        )
    say(render(both, form), nl=False)


def _tell(boards: Sequence[Any], form: str, task: str | None) -> None:
    """Prints boards, as text one after another."""
    from pairbench.leaderboard import render

    if form in ("table", "markdown"):
        for number, board in enumerate(boards):
            say("\n" * (number > 0) + render(board, form), nl=False)
        return
    if form == "json" and task is None:
        say(as_json([json.loads(render(board, form)) for board in boards]))
        return
    if len({board.task for board in boards}) > 1:
        raise PairBenchError(
            f"{form} holds one board: choose a task with --task "
            f"({', '.join(sorted({board.task for board in boards}))})"
        )
    say(render(boards[0], form), nl=False)


@click.command()
@click.argument("rows", nargs=-1, required=True, metavar="A B ...")
@click.option("--task", help="The task (or task@variant) that the rows ran on.")
@form()
@SEEN
def compare(rows: tuple[str, ...], task: str | None, form: str, results: Path) -> None:
    """Compare rows A and B of a task over the seeds they share; of more, every pair.

    Without --task A and B are two record files, results folders or suites, whose rows of one name
    are compared on each board that both have. Of several pairs the p-values are corrected for how
    many they are (Holm), and JSON is a list.
    """
    from pairbench.experiments.suite import records_of
    from pairbench.leaderboard import compare_all
    from pairbench.leaderboard.compare import compare_sides, further
    from pairbench.results.marks import marks

    if task is not None:
        pairs = compare_all(loaded(results), rows, task, marks(results))
    elif len(rows) == 2:
        ours, theirs = (told(records_of(name, results)) for name in rows)
        folders = [place for place in {results, *map(Path, rows)} if place.is_dir()]
        kept = [mark for place in folders for mark in marks(place)]
        pairs = compare_sides(ours, theirs, (rows[0], rows[1]), kept)
    else:
        raise PairBenchError("without --task name two record files, results folders or suites")
    if form == "json":
        say(as_json(pairs[0] if len(pairs) == 1 else pairs))
        return
    for pair in pairs:
        say(pair.conclusion)
        for line in further(pair):
            say(f"  {line}")


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--task", required=True, help="The task (or task@variant) that the rows ran on.")
@click.option("--effect", type=float, required=True, help="The difference to find, in score units.")
@click.option("--power", type=float, default=0.8, show_default=True, help="The chance to find it.")
@form()
@SEEN
def power(a: str, b: str, task: str, effect: float, power: float, form: str, results: Path) -> None:
    """Say how many seeds would find a true difference between rows A and B of a task."""
    from pairbench.leaderboard import compare as compare_rows
    from pairbench.leaderboard.power import SeedPlan, plan_seeds
    from pairbench.results.marks import marks

    pair = compare_rows(loaded(results), a, b, task, marks(results))
    tell(form, plan_seeds(pair, effect, power), SeedPlan.said)


@click.command()
@click.argument("kind", type=click.Choice(["curves", "intervals", "profile", "frontier"]))
@click.option("--task", help="The task (or task@variant); a profile without one is over all tasks.")
@ROW_NAMES
@click.option("--out", type=PLACE, help="The file, .pdf or .svg; named after the board by default.")
@click.option("--width", type=click.FloatRange(min=1.5, max=20), default=3.3, show_default=True,
              help="Inches; one column of most papers by default.")  # fmt: skip
@SEEN
def plot(kind: str, results: Path, **asked: Any) -> None:
    """Draw a figure for a paper from the records: the same records give the same bytes."""
    try:
        from pairbench.leaderboard.site.figures import draw
        from pairbench.results.marks import marks
    except ModuleNotFoundError as error:
        raise PairBenchError(f"{error}: pip install 'pairbench[plot]'") from error

    say(draw(loaded(results), kind, **asked, marks=marks(results)))


@click.command()
@click.argument("record")
@form()
@SEEN
def show(record: str, form: str, results: Path) -> None:
    """Show one RECORD: its path, or the first characters of its identity."""
    from pairbench.results.find import describe, find_record
    from pairbench.results.record_file import as_json as record_json

    found, _ = find_record(record, results)
    say(record_json(found).decode() if form == "json" else describe(found), nl=False)


@click.command("list")
@click.argument("what", type=click.Choice(["algorithms", "tasks", "suites"]))
@form()
def list_(what: str, form: str) -> None:
    """List the algorithms, tasks or suites there are."""
    objects = _suites() if what == "suites" else _registered(what)
    if form == "json":
        say(as_json(objects))
        return
    width = max((len(item["name"]) for item in objects), default=0)
    for item in objects:
        text = f"BROKEN: {item['error']}" if item.get("error") else item["summary"]
        origin = "" if item["origin"] == "built in" else f" [{item['origin']}]"
        say(f"{item['name']:<{width}}  {text}{origin}")
        if "departures" in item:
            say(f"{'':<{width}}  not the paper's: {item['departures']}")
        for variant in item.get("variants", []):
            say(f"{'':<{width}}  variant {item['name']}@{variant}")


def _registered(what: str) -> list[dict[str, Any]]:
    from pairbench.registry import listing

    kept = ("name", "summary", "source", "origin")
    objects = []
    for entry in listing("algorithm" if what == "algorithms" else "task"):
        item: dict[str, Any] = {name: getattr(entry, name) for name in kept}
        if what == "tasks":
            item["variants"] = list(entry.variants)
        elif entry.departures:
            item["departures"] = entry.departures
        if entry.error:
            item["error"] = entry.error
        objects.append(item)
    return objects


def _suites() -> list[dict[str, Any]]:
    from pairbench.experiments.suite import load_suite, suite_names

    suites = map(load_suite, suite_names())
    return [
        {"name": s.name, "summary": s.summary, "source": f"{s.name}.toml", "origin": "built in"}
        for s in suites
    ]


@click.command()
@click.option("--to", type=click.Choice(["tensorboard", "wandb"]), required=True,
              help="Whose files the runs are added to.")  # fmt: skip
@click.option("--out", required=True, help="The folder where it keeps them.")
@TASK
@SEEN
def export(to: str, out: str, task: str | None, results: Path) -> None:
    """Add finished runs to a tracker: curves, series, final numbers, settings, profile.

    A run that is there already is left as it is.
    """
    from pairbench.results.export import export as add

    records = [record for record in loaded(results) if task in (None, record.task)]
    new, had = add(records, results, to, out)
    say(f"{new} runs added to {out}, {had} there before")
