"""The command line: parses, calls, prints. Each verb imports the heavy modules it needs."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from pairbench.errors import PairBenchError

PLACE = click.Path(path_type=Path)
Verb = TypeVar("Verb", bound=Callable[..., Any])


def _folder(context: click.Context, parameter: click.Parameter, value: str) -> Path:
    """Takes a folder; what else a verb writes there than records, no url keeps."""
    from pairbench.results.place import is_url

    if is_url(value):
        raise PairBenchError(f"{context.info_name} works in a folder, not at {value}: give one")
    return Path(value)


def _readable(context: click.Context, parameter: click.Parameter, value: str) -> Path:
    """Takes a folder, or a url, of which it makes a folder to read from."""
    from pairbench.results.place import at_hand, is_url

    context.meta["url"] = value if is_url(value) else None
    folder, problems = at_hand(value)
    _report([], problems)
    return folder


def _results(what: str, callback: Any = None) -> Callable[[Verb], Verb]:
    return click.option(
        "--results", default="results", show_default=True, metavar="PATH", callback=callback,
        help=what,
    )  # fmt: skip


RESULTS = _results("Folder of run records.", _folder)
SEEN = _results("Folder of run records, or a url as s3://bucket/prefix.", _readable)
ANYWHERE = _results("Folder of run records, or a url as s3://bucket/prefix.")
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM


class _Terminated(BaseException):
    """SIGTERM has come, from a scheduler as a rule."""


def _terminate(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise _Terminated


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line: exit status 0 done, 1 done with failed runs, 2 wrong use."""
    try:
        status = cli.main(arguments, prog_name="pairbench", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        status = 2
    except click.ClickException as error:
        status = _complain(error.format_message())
    except PairBenchError as error:
        status = _complain(str(error))
    except click.Abort:
        status = _complain("interrupted: the same command continues from here", INTERRUPTED)
    except _Terminated:
        status = _complain("terminated: the same command continues from here", TERMINATED)
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        status = 0
    sys.exit(status if isinstance(status, int) else 0)


def _complain(message: str, status: int = 2) -> int:
    click.echo(f"pairbench: {' '.join(message.split())}", err=True)
    return status


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="pairbench")
def cli() -> None:
    """Benchmark and baseline suite for preference-based policy optimisation."""


@cli.command()
@click.argument("suite", required=False)
@click.option("--algorithms", help="Algorithms, by comma; of a suite, the rows to keep.")
@click.option("--tasks", help="Tasks, by comma; of a suite, the tasks to keep.")
@click.option("--seeds", help="Seeds, as 0-4 or 0,2,7; the suite's own, or 0, by default.")
@click.option("--budget-steps", type=float, help="Steps a run may take, in the task's unit.")
@click.option("--budget-labels", type=float, help="Answers of the oracle a run may ask for.")
@click.option("--budget-gradient-steps", type=float, help="Gradient steps a run may take.")
@click.option("--budget-seconds", type=float, help="Seconds a run may last.")
@click.option("--anneal/--no-anneal", default=None, help="Learning rates fall linearly to zero.")
@click.option("--evaluations", type=int, help="Points of the learning curve.")
@click.option("--probes", type=int, help="Measurements of the gradient's noise.")
@click.option("--engine", type=click.Choice(["pairbench", "trl"]),
              help="Whose training loop: PairBench's, or TRL's, for language models.")  # fmt: skip
@click.option(
    "--set", "overrides", multiple=True, metavar="TARGET.KEY=VALUE",
    help="A setting of an algorithm, a row or a task, as grpo.group_size=8; may be repeated.",
)  # fmt: skip
@click.option("--data-dir", type=PLACE, help="Folder of preference data; else PAIRBENCH_DATA.")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Runs at a time; one per core, on a cluster all."
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True,
              help="Threads of each run's simulator.")  # fmt: skip
@click.option("--checkpoint-seconds", type=click.FloatRange(min=0), default=20.0,
              show_default=True, help="Time between checkpoints.")  # fmt: skip
@click.option("--run-timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="Kill a run that takes longer, as one that hangs.")  # fmt: skip
@click.option("--backend", type=click.Choice(["local", "ray", "slurm"]), default="local",
              show_default=True, help="Where it runs: this machine, or a cluster.")  # fmt: skip
@click.option("--address", help="Of a Ray cluster: auto, or ray://host:port.")
@click.option(
    "--backend-option", "backend_options", multiple=True, metavar="KEY=VALUE",
    help="Of Slurm, as slurm_partition=cpu or timeout_min=60; may be repeated.",
)  # fmt: skip
@click.option("--gpus", type=click.FloatRange(min=0), default=0.0,
              help="GPUs a run needs, for a cluster's scheduler.")  # fmt: skip
@click.option("--memory-gb", type=click.FloatRange(min=0, min_open=True),
              help="Memory a run needs, likewise.")  # fmt: skip
@click.option("--profile", is_flag=True, help="Show what the seconds of each run went into.")
@ANYWHERE
def run(
    suite: str | None,
    algorithms: str | None,
    tasks: str | None,
    seeds: str | None,
    anneal: bool | None,
    evaluations: int | None,
    probes: int | None,
    engine: str | None,
    overrides: tuple[str, ...],
    data_dir: Path | None,
    workers: int | None,
    threads: int,
    checkpoint_seconds: float,
    run_timeout: float | None,
    backend: str,
    address: str | None,
    backend_options: tuple[str, ...],
    gpus: float,
    memory_gb: float | None,
    profile: bool,
    results: str,
    **limits: float | None,
) -> int:
    """Run a SUITE, or algorithms on tasks; what is in the results folder is not run again."""
    from pairbench.experiments.progress import display
    from pairbench.experiments.runner import run as run_grid

    if data_dir is not None:
        os.environ["PAIRBENCH_DATA"] = str(data_dir.absolute())  # workers inherit it
    terms = {"anneal": anneal, "evaluations": evaluations, "probes": probes, "engine": engine}
    options = dict(map(_backend_option, backend_options))
    if address is not None:
        options["address"] = address
    signal.signal(signal.SIGTERM, _terminate)
    with display() as monitor:
        records = run_grid(
            suite,
            algorithms=_names(algorithms),
            tasks=_names(tasks),
            seeds=seeds,
            budget=_budget(limits),
            protocol={name: value for name, value in terms.items() if value is not None},
            overrides=overrides,
            results=results,
            workers=workers,
            threads=threads,
            checkpoint_seconds=checkpoint_seconds,
            timeout=run_timeout,
            gpus=gpus,
            memory_gb=memory_gb,
            backend=backend,
            backend_options=options,
            monitor=monitor,
        )
    from pairbench.results.place import at_hand

    folder = at_hand(results)[0]
    if profile:
        from pairbench.experiments.status import profiles

        click.echo(profiles(records, folder), nl=False)
    _show_boards(folder, {record.identity for record in records})
    failed = sum(record.status == "failed" for record in records)
    if failed:
        click.echo(f"{failed} of {len(records)} runs failed.", err=True)
    return 1 if failed else 0


@cli.command()
@click.argument("suite", required=False)
@click.option("--algorithms", help="Algorithms, by comma; of a suite, the rows to keep.")
@click.option("--task", required=True, help="The task (or task@variant).")
@click.option("--trials", type=int, required=True,
              help="Settings to try for each row, its own among them.")  # fmt: skip
@click.option("--seeds", default="1000-1001", show_default=True,
              help="Seeds of each trial, of those that no board may report.")  # fmt: skip
@click.option("--budget-steps", type=float, help="Steps a run may take, in the task's unit.")
@click.option("--budget-labels", type=float, help="Answers of the oracle a run may ask for.")
@click.option("--budget-gradient-steps", type=float, help="Gradient steps a run may take.")
@click.option("--budget-seconds", type=float, help="Seconds a run may last.")
@click.option("--anneal/--no-anneal", default=None, help="Learning rates fall linearly to zero.")
@click.option(
    "--set", "overrides", multiple=True, metavar="TASK.KEY=VALUE",
    help="A setting of the task; may be repeated.",
)  # fmt: skip
@click.option("--sampler-seed", type=click.IntRange(min=0), default=0, show_default=True,
              help="Seed of what is tried.")  # fmt: skip
@click.option("--study", help="Name of the study's folder; the task's by default.")
@click.option("--data-dir", type=PLACE, help="Folder of preference data; else PAIRBENCH_DATA.")
@click.option("--workers", type=click.IntRange(min=1), help="Runs at a time; one per core.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True,
              help="Threads of each run's simulator.")  # fmt: skip
@click.option("--checkpoint-seconds", type=click.FloatRange(min=0), default=20.0,
              show_default=True, help="Time between checkpoints.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
@RESULTS
def tune(
    suite: str | None,
    algorithms: str | None,
    task: str,
    trials: int,
    seeds: str,
    anneal: bool | None,
    overrides: tuple[str, ...],
    sampler_seed: int,
    study: str | None,
    data_dir: Path | None,
    workers: int | None,
    threads: int,
    checkpoint_seconds: float,
    form: str,
    results: Path,
    **limits: float | None,
) -> int:
    """Search settings for algorithms, or a SUITE's rows, on one task: as many trials for each.

    Trials use seeds and contexts that no board reports. Writes a suite of the settings found. The
    status is 1 if a trial failed.
    """
    from pairbench.experiments.progress import display
    from pairbench.experiments.tuning import as_object, render
    from pairbench.experiments.tuning import tune as search

    if data_dir is not None:
        os.environ["PAIRBENCH_DATA"] = str(data_dir.absolute())  # workers inherit it
    with display() as monitor:
        outcome = search(
            suite,
            task=task,
            trials=trials,
            algorithms=_names(algorithms),
            seeds=seeds,
            budget=_budget(limits),
            protocol={} if anneal is None else {"anneal": anneal},
            overrides=overrides,
            sampler_seed=sampler_seed,
            study=study,
            results=results,
            workers=workers,
            threads=threads,
            checkpoint_seconds=checkpoint_seconds,
            monitor=monitor,
        )
    if form == "json":
        click.echo(json.dumps(as_object(outcome), indent=1, allow_nan=False))
    else:
        click.echo(f"\n{render(outcome)}", nl=False)
        if outcome.path is not None:
            settings = "".join(f" --set {shlex.quote(text)}" for text in overrides)
            place = shlex.quote(str(outcome.path))
            click.echo(f"next: pairbench run {place}{settings} --results {results}")
    return 1 if any(row.failed for row in outcome.study.rows.values()) else 0


def _budget(limits: Mapping[str, float | None]) -> dict[str, float]:
    """Returns the limits that the --budget-... options give."""
    return {
        name.removeprefix("budget_"): value for name, value in limits.items() if value is not None
    }


def _show_boards(results: Path, wanted: set[str]) -> None:
    """Prints the boards that hold the runs `wanted`, and writes and names all pages."""
    from pairbench.leaderboard import build, render, write_site
    from pairbench.leaderboard.site.names import slugs
    from pairbench.results.columns import load_series
    from pairbench.results.load import load_records
    from pairbench.results.marks import marks

    records = _report(*load_records(results))
    pages = pages_folder(results)
    rebuilt = marks(results)
    write_site(records, pages, rebuilt, load_series(results, records))
    boards = build(records, marks=rebuilt)
    for board, stem in zip(boards, slugs(boards), strict=True):
        if wanted.intersection(board.identities):
            click.echo(f"\n{render(board, 'table')}page: {pages / f'{stem}.html'}")


def pages_folder(results: Path) -> Path:
    """Returns where pages go: leaderboards/ beside results/, or inside a folder of another name."""
    from pairbench.results.layout import PAGES

    return results.parent / PAGES if results.name == "results" else results / PAGES


@cli.command()
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
@SEEN
def status(form: str, results: Path) -> None:
    """Say how far the runs of a results folder are, from any machine that sees it."""
    from pairbench.experiments.status import look, render

    found = look(results)
    if form == "json":
        click.echo(json.dumps(found.model_dump(mode="json"), indent=1))
    else:
        click.echo(render(found), nl=False)


@cli.command("list")
@click.argument("what", type=click.Choice(["algorithms", "tasks", "suites"]))
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
def list_(what: str, form: str) -> None:
    """List the algorithms, tasks or suites there are."""
    objects = _suites() if what == "suites" else _entries(what)
    if form == "json":
        click.echo(json.dumps(objects, indent=1))
        return
    width = max((len(item["name"]) for item in objects), default=0)
    for item in objects:
        text = f"BROKEN: {item['error']}" if item.get("error") else item["summary"]
        origin = "" if item["origin"] == "built in" else f" [{item['origin']}]"
        click.echo(f"{item['name']:<{width}}  {text}{origin}")
        for variant in item.get("variants", []):
            click.echo(f"{'':<{width}}  variant {item['name']}@{variant}")


def _entries(what: str) -> list[dict[str, Any]]:
    from pairbench.registry import listing

    kept = ("name", "summary", "source", "origin")
    objects = []
    for entry in listing("algorithm" if what == "algorithms" else "task"):
        item: dict[str, Any] = {name: getattr(entry, name) for name in kept}
        if what == "tasks":
            item["variants"] = list(entry.variants)
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


@cli.command()
@click.argument("record")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
@SEEN
def show(record: str, form: str, results: Path) -> None:
    """Show one RECORD: its path, or the first characters of its identity."""
    from pairbench.experiments.progress import outcome
    from pairbench.results.record_file import as_json
    from pairbench.text import number

    found = _record(record, results)
    if form == "json":
        click.echo(as_json(found).decode(), nl=False)
        return
    click.echo(f"{outcome(found) if found.status != 'skipped' else f'skipped: {found.reason}'}")
    budget = found.protocol.budget.model_dump(exclude_none=True)
    rows = {
        "identity": found.identity,
        "status": found.status,
        "algorithm": f"{found.algorithm}, {found.regime}" if found.regime else found.algorithm,
        "settings": _pairs(found.algorithm_config),
        "task": f"{found.task}, version {found.task_version}",
        "task settings": _pairs(found.task_config),
        "budget": _pairs(budget),
        "cost": _pairs(found.cost.model_dump()),
        "curve": "  ".join(f"{point.steps}: {number(point.reward)}" for point in found.curve),
        "stability": _pairs(found.stability.model_dump(exclude_none=True)),
        "weights": found.weights_sha256 or "",
        "code": _pairs({k: v for k, v in found.provenance.items() if not isinstance(v, dict)}),
    }
    for name, text in rows.items():
        if text:
            click.echo(f"{name:<14}{text}")


def _side(name: str, results: Path) -> list[Any]:
    """Returns the records of a folder, of a record file, or of a suite in the results folder."""
    from pairbench.experiments.suite import expand, load_suite, suite_names
    from pairbench.results.load import load_records
    from pairbench.results.place import is_url

    if is_url(name) or Path(name).is_dir():
        return _report(*load_records(name))
    if name in suite_names() or name.endswith(".toml"):
        wanted = {spec.identity for spec in expand(load_suite(name)).specs}
        return [r for r in _report(*load_records(results)) if r.identity in wanted]
    if name.endswith(".json"):
        return [_record(name, results)]
    raise PairBenchError(
        f"{name!r} is no record file, results folder or suite: of a row, name its --task"
    )


def _record(name: str, results: Path) -> Any:
    from pairbench.results.load import load_records
    from pairbench.results.record_file import Unreadable, read_record

    path = Path(name)
    if path.suffix == ".json" or path.is_file():
        try:
            return read_record(path)
        except (FileNotFoundError, IsADirectoryError):
            raise PairBenchError(f"there is no record file {name}") from None
        except Unreadable as error:
            raise PairBenchError(f"{name} cannot be used: {error}") from error
    matches = [r for r in load_records(results).records if r.identity.startswith(name)]
    if len(matches) != 1:
        what = f"{len(matches)} records" if matches else "no record"
        raise PairBenchError(
            f"{what} in {results} begin with {name!r}: "
            "give the record's path, or more of its identity"
        )
    return matches[0]


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


@cli.command()
@click.option("--task", help="One task (or task@variant); all by default.")
@click.option(
    "--format", "form",
    type=click.Choice(["table", "markdown", "csv", "json", "latex", "html"]), default="table",
)  # fmt: skip
@click.option("--site", type=PLACE, help="Write every format and the pages to this folder instead.")
@click.option("--overall", is_flag=True,
              help="One board over all tasks (or --tasks), normalised.")  # fmt: skip
@click.option("--tasks", help="Tasks of the overall board, by comma.")
@SEEN
def leaderboard(
    task: str | None,
    form: str,
    site: Path | None,
    overall: bool,
    tasks: str | None,
    results: Path,
) -> None:
    """Show the boards of the results folder, or write their pages.

    With JSON, a task's board of the largest budget; without a task, a list of all boards.
    """
    from pairbench.leaderboard import build, render, write_site
    from pairbench.leaderboard import overall as over_tasks
    from pairbench.results.columns import load_series
    from pairbench.results.load import load_records
    from pairbench.results.marks import marks

    records = _some(_report(*load_records(results)), results)
    if site is None and not (overall or tasks):
        _tell_boards(build(records, task, marks=marks(results)), form, task)
        return
    if site is not None:
        written = write_site(records, site, marks(results), load_series(results, records))
        pages = [path for path in written if path.parent != site]
        for path in written:
            if path.parent == site:
                click.echo(path)
        click.echo(f"and {len(pages)} pages of runs and algorithms", err=True)
        return
    if task is not None:
        raise PairBenchError("an overall board is of several tasks: name them with --tasks")
    both = over_tasks(records, _names(tasks) or None)
    if both is None:
        raise PairBenchError(
            "there is no overall board yet: it needs two tasks with an untrained row, and two "
            "trained rows that have finished on both"
        )
    click.echo(render(both, form), nl=False)


def _some(records: list[Any], results: Path) -> list[Any]:
    if not records:
        raise PairBenchError(f"there are no records in {results}: run something first")
    return records


def _tell_boards(boards: Sequence[Any], form: str, task: str | None) -> None:
    """Prints boards, as text one after another."""
    from pairbench.leaderboard import render

    if form in ("table", "markdown"):
        for number, board in enumerate(boards):
            click.echo("\n" * (number > 0) + render(board, form), nl=False)
        return
    if form == "json" and task is None:
        click.echo(json.dumps([json.loads(render(board, form)) for board in boards], indent=1))
        return
    if len({board.task for board in boards}) > 1:
        raise PairBenchError(
            f"{form} holds one board: choose a task with --task "
            f"({', '.join(sorted({board.task for board in boards}))})"
        )
    click.echo(render(boards[0], form), nl=False)


@cli.command()
@click.argument("kind", type=click.Choice(["curves", "intervals", "profile", "frontier"]))
@click.option("--task", help="The task (or task@variant); a profile without one is over all tasks.")
@click.option("--rows", help="Rows, by comma; all by default.")
@click.option("--out", type=PLACE, help="The file, .pdf or .svg; named after the board by default.")
@click.option("--width", type=click.FloatRange(min=1.5, max=20), default=3.3, show_default=True,
              help="Inches; one column of most papers by default.")  # fmt: skip
@SEEN
def plot(
    kind: str, task: str | None, rows: str | None, out: Path | None, width: float, results: Path
) -> None:
    """Draw a figure for a paper from the records: the same records give the same bytes."""
    try:
        from pairbench.leaderboard.site.figures import draw
    except ModuleNotFoundError as error:
        raise PairBenchError(f"{error}: pip install 'pairbench[plot]'") from error
    from pairbench.results.load import load_records

    records = _report(*load_records(results))
    click.echo(draw(records, kind, task=task, rows=_names(rows), out=out, width=width))


@cli.command()
@click.argument("rows", nargs=-1, required=True, metavar="A B ...")
@click.option("--task", help="The task (or task@variant) that the rows ran on.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
@SEEN
def compare(rows: tuple[str, ...], task: str | None, form: str, results: Path) -> None:
    """Compare rows A and B of a task over the seeds they share; of more, every pair.

    Without --task A and B are two record files, results folders or suites, whose rows of one name
    are compared on each board that both have. Of several pairs the p-values are corrected for how
    many they are (Holm), and JSON is a list.
    """
    from pairbench.leaderboard import compare_all
    from pairbench.leaderboard.compare import compare_sides, further
    from pairbench.results.load import load_records

    if task is not None:
        pairs = compare_all(_report(*load_records(results)), rows, task)
    elif len(rows) == 2:
        ours, theirs = (_side(name, results) for name in rows)
        pairs = compare_sides(ours, theirs, (rows[0], rows[1]))
    else:
        raise PairBenchError("without --task name two record files, results folders or suites")
    if form == "json":
        objects = [pair.model_dump(mode="json") for pair in pairs]
        one = objects[0] if len(objects) == 1 else objects
        click.echo(json.dumps(one, indent=1, allow_nan=False))
        return
    for pair in pairs:
        click.echo(pair.conclusion)
        for line in further(pair):
            click.echo(f"  {line}")


@cli.command()
@click.argument("records", nargs=-1, required=True)
@click.option("--quick", type=click.IntRange(min=1), metavar="N",
              help="Compare the first N iterations only.")  # fmt: skip
@click.option("--data-dir", type=PLACE, help="Folder of preference data; else PAIRBENCH_DATA.")
@click.option("--mark/--no-mark", default=True,
              help="Keep the verdict in the results folder; a url keeps none.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
@SEEN
def reproduce(
    records: tuple[str, ...],
    quick: int | None,
    data_dir: Path | None,
    mark: bool,
    form: str,
    results: Path,
) -> None:
    """Run RECORDS again, by path or identity, and say whether the same numbers come back.

    The status is 0 if every one is equal, bit for bit or within the tolerance, and else 1.
    """
    import tempfile

    from pairbench.experiments import reproduce as again
    from pairbench.experiments.launch.local import Local
    from pairbench.results.columns import read_series
    from pairbench.results.folder import Store
    from pairbench.results.marks import keep

    if data_dir is not None:
        os.environ["PAIRBENCH_DATA"] = str(data_dir.absolute())
    found = [_record(name, results) for name in records]
    at_url = click.get_current_context().meta.get("url") is not None
    told = []
    launcher = Local(1)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for name, record in zip(records, found, strict=True):
                beside = Path(name) if Path(name).is_file() else Store(results).path(record)
                columns = beside.with_suffix(".parquet")
                series = read_series(columns) if columns.is_file() else None
                verdict = again.rebuild(record, series, launcher, Path(scratch), quick)
                told.append(verdict)
                if form == "table":
                    click.echo(f"{verdict.name}: {verdict.verdict}; {verdict.detail}")
                    for line in verdict.changed:
                        click.echo(f"  changed since: {line}")
                if mark and results.is_dir() and not at_url:
                    keep(verdict, results)
    finally:
        launcher.close()
    if form == "json":
        click.echo(json.dumps([one.model_dump(mode="json") for one in told], indent=1))
    if any(one.verdict == "different" for one in told):
        sys.exit(1)


@cli.command()
@click.argument("records", nargs=-1, required=True, type=PLACE)
@click.option("--into", type=PLACE, help="Results folder to copy the records to.")
@click.option("--check", "check_only", is_flag=True,
              help="Say only what is wrong: no board, no text.")  # fmt: skip
@click.option("--quick", type=click.IntRange(min=1), default=3, show_default=True, metavar="N",
              help="Iterations of one seed of each row that are run again.")  # fmt: skip
@click.option("--reproduce/--no-reproduce", default=True, help="Run them again at all.")
@click.option("--data-dir", type=PLACE, help="Folder of preference data; else PAIRBENCH_DATA.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
@RESULTS
def submit(
    records: tuple[Path, ...],
    into: Path | None,
    check_only: bool,
    quick: int,
    reproduce: bool,
    data_dir: Path | None,
    form: str,
    results: Path,
) -> int:
    """Check RECORDS (their files), show the board with them, and say what a pull request needs.

    The folder of --results is what they are to join. The status is 0 if there is no problem, and
    else 1; nothing is copied then.
    """
    from pairbench.experiments.submission import compared, copy, look, pull_request
    from pairbench.results.load import load_records

    if data_dir is not None:
        os.environ["PAIRBENCH_DATA"] = str(data_dir.absolute())
    there = _report(*load_records(results)) if results.is_dir() else []
    found = look(records, results)
    compared(found, there)
    if reproduce:
        _run_again(found, quick)
    problems = sum(bool(one.problems) for one in found)
    if form == "json":
        click.echo(json.dumps([one.model_dump(mode="json") for one in found], indent=1))
    else:
        _say(found)
    if problems:
        click.echo(f"{problems} of {len(found)} records cannot be submitted.", err=True)
        return 1
    for path in copy(found, into) if into is not None else ():
        click.echo(f"copied: {path}", err=form == "json")
    if check_only or form == "json":
        return 0
    from pairbench.leaderboard import build, render

    mine = [one.record for one in found if one.record is not None]
    boards = build([*there, *mine])
    wanted = {record.identity for record in mine}
    for board in boards:
        if wanted.intersection(board.identities):
            click.echo(f"\n{render(board, 'table')}", nl=False)
    click.echo(f"\nFor the pull request\n\n{pull_request(found, boards)}", nl=False)
    return 0


def _run_again(found: list[Any], quick: int) -> None:
    import tempfile

    from pairbench.experiments.launch.local import Local
    from pairbench.experiments.submission import reproduce

    launcher = Local(1)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            reproduce(found, quick, launcher, Path(scratch))
    finally:
        launcher.close()


def _say(found: list[Any]) -> None:
    """Prints a line per submitted file, and one for each thing to be said of it."""
    for one in found:
        mark = "PROBLEM" if one.problems else "ok"
        click.echo(f"{mark:<8}{one.path}{f': {one.name}' if one.name else ''}")
        for problem in one.problems:
            click.echo(f"        {problem}")
        for remark in one.remarks:
            click.echo(f"        to know: {remark}")
        if one.reproduced is not None and not one.problems:
            click.echo(f"        run again: {one.reproduced}")


@cli.command("judge")
@click.option("--judge", "who", required=True, metavar="gold|proxy|openai:BASE-URL,MODEL",
              help="Who judges; an endpoint's key comes from PAIRBENCH_JUDGE_KEY.")  # fmt: skip
@click.option("--task", help="The task (or task@variant) whose completions are judged.")
@click.option("--board", help="First characters of a board's digest; the largest budget's if none.")
@click.option("--rows", help="Rows, by comma; all by default.")
@click.option("--seeds", help="Seeds, as 0-4 or 0,2,7; all by default.")
@click.option("--baseline", default="reference", show_default=True,
              help="The row, or algorithm, that the others are compared with.")  # fmt: skip
@click.option("--head-to-head/--no-head-to-head", default=None,
              help="Compare rows with each other too; by default where it is free.")  # fmt: skip
@click.option("--budget", type=click.IntRange(min=0), default=1000, show_default=True,
              help="Most requests to an endpoint; 0 shows what it said before.")  # fmt: skip
@click.option("--data-dir", type=PLACE, help="Folder of preference data; else PAIRBENCH_DATA.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
@RESULTS
def judge_(
    who: str,
    task: str | None,
    board: str | None,
    rows: str | None,
    seeds: str | None,
    baseline: str,
    head_to_head: bool | None,
    budget: int,
    data_dir: Path | None,
    form: str,
    results: Path,
) -> int:
    """Judge the completions that finished runs have kept, by any judge; nothing is run again.

    Verdicts of an endpoint are kept in the results folder and never asked for twice.
    """
    from pairbench.experiments.suite import parse_seeds
    from pairbench.results.load import load_records

    try:
        from pairbench.language.judges.judgement import table
        from pairbench.language.judges.judging import judge
    except ModuleNotFoundError as error:
        raise PairBenchError(f"{error}: pip install 'pairbench[language]'") from error
    if data_dir is not None:
        os.environ["PAIRBENCH_DATA"] = str(data_dir.absolute())
    judgement = judge(
        _report(*load_records(results)),
        results,
        who,
        task=task,
        board=board,
        rows=_names(rows),
        seeds=parse_seeds(seeds) if seeds else None,
        baseline=baseline,
        head_to_head=head_to_head,
        budget=budget,
        progress=lambda line: click.echo(line, err=True),
    )
    if form == "json":
        click.echo(json.dumps(judgement.model_dump(mode="json"), indent=1, allow_nan=False))
    else:
        click.echo(table(judgement), nl=False)
    return 1 if judgement.failed else 0


@cli.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "markdown", "html"]), default="table",
)  # fmt: skip
@click.option("--out", type=PLACE, help="Write to this file instead of standard output.")
@click.option("--site", type=PLACE, help="Write claims.html, .md and .json to this folder instead.")
def claims(ids: tuple[str, ...], form: str, out: Path | None, site: Path | None) -> None:
    """Check what the papers assert with the algorithms themselves: all claims, or those named."""
    from pairbench.papers.claims import Result, render, run, write_site
    from pairbench.papers.claims.report import WHAT
    from pairbench.results.files import write_text
    from pairbench.seeding import pin_threads

    if site is not None and (ids or out is not None):
        raise PairBenchError("--site writes all claims to a folder: leave the names and --out away")
    pin_threads(1)

    def progress(result: Result, number: int, count: int) -> None:
        line = f"{number}/{count} {result.claim.id}: {result.verdict} ({result.seconds:.1f} s)"
        click.echo(line, err=True)

    results = run(ids, progress)
    if site is not None:
        for path in write_site(results, site):
            click.echo(path)
    elif out is not None:
        click.echo(write_text(out, render(results, form), WHAT))
    else:
        click.echo(render(results, form), nl=False)


@cli.command()
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "markdown", "html"]), default="table",
)  # fmt: skip
@click.option("--out", type=PLACE, help="Write to this file instead of standard output.")
@click.option("--site", type=PLACE,
              help="Write replication.html, .md and .json to this folder instead.")  # fmt: skip
@SEEN
def replicate(form: str, out: Path | None, site: Path | None, results: Path) -> None:
    """Set the paper's tables beside the records: orders, paired verdicts, what noise costs."""
    from pairbench.papers.replication import render, write_site
    from pairbench.papers.replication import replicate as beside
    from pairbench.papers.replication.report import WHAT
    from pairbench.results.files import write_text
    from pairbench.results.load import load_records

    if site is not None and out is not None:
        raise PairBenchError("--site writes the report to a folder: leave --out away")
    report = beside(_report(*load_records(results)))
    if site is not None:
        for path in write_site(report, site):
            click.echo(path)
    elif out is not None:
        click.echo(write_text(out, render(report, form), WHAT))
    else:
        click.echo(render(report, form), nl=False)


@cli.command()
@click.option("--to", type=click.Choice(["tensorboard", "wandb"]), required=True,
              help="Whose files the runs are added to.")  # fmt: skip
@click.option("--out", required=True, help="The folder where it keeps them.")
@click.option("--task", help="One task (or task@variant); all by default.")
@SEEN
def export(to: str, out: str, task: str | None, results: Path) -> None:
    """Add finished runs to a tracker: curves, series, final numbers, settings, profile.

    A run that is there already is left as it is.
    """
    from pairbench.results.export import export as add
    from pairbench.results.load import load_records

    records = [r for r in _report(*load_records(results)) if task in (None, r.task)]
    new, had = add(records, results, to, out)
    click.echo(f"{new} runs added to {out}, {had} there before")


@cli.group()
def new() -> None:
    """Begin something of your own."""


@new.command("algorithm")
@click.argument("name")
@click.option("--folder", type=PLACE, default=Path("."), help="Where the package's folder goes.")
def new_algorithm(name: str, folder: Path) -> None:
    """Write a package with a working algorithm NAME: one file, tests, a README."""
    from pairbench.authoring.scaffold import new_algorithm as write

    written = write(name, folder)
    for path in written:
        click.echo(path)
    click.echo(f"next: pip install -e {folder / name} && pairbench check {name}")


@cli.command()
@click.argument("name")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE",
    help="A setting for defaults and presets alike, as beta=0.1; may be repeated.",
)  # fmt: skip
@click.option("--only", help="Checks to make, by comma; all by default.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
def check(name: str, overrides: tuple[str, ...], only: str | None, form: str) -> int:
    """Check what every algorithm must keep (masks, gradients, ties, random state, ...) of NAME.

    The status is 0 if it passes every check that applies to it, and else 1.
    """
    from pairbench.authoring.checks import NAMES
    from pairbench.authoring.checks import check as look
    from pairbench.experiments.suite import parse_value, validated
    from pairbench.registry import get_algorithm
    from pairbench.seeding import pin_threads

    settings = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise PairBenchError(f"--set {text!r} cannot be read: write key=value, as in beta=0.1")
        settings[key.strip()] = parse_value(value.strip())
    cls = get_algorithm(name)
    if settings:
        validated(cls.Config, settings, name)
    pin_threads(1)
    findings = look(cls, only=_names(only) or NAMES, settings=settings)
    failed = sum(finding.passed is False for finding in findings)
    if form == "json":
        click.echo(json.dumps([finding._asdict() for finding in findings], indent=1))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            mark = {True: "ok", False: "FAILED", None: "skipped"}[finding.passed]
            click.echo(f"{mark:<7} {finding.name:<{width}}  {finding.sentence}")
        skipped = sum(finding.passed is None for finding in findings)
        click.echo(f"{len(findings) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


@cli.group()
def models() -> None:
    """Models of language tasks."""


@models.command()
@click.argument("name")
def pull(name: str) -> None:
    """Make the model NAME (smollm2-135m, a hub id or a folder) available offline; print where."""
    try:
        from pairbench.language.policy.models import pull as pull_model
    except ModuleNotFoundError as error:
        raise PairBenchError(f"{error}: pip install 'pairbench[language]'") from error
    click.echo(pull_model(name))


def _report(records: list[Any], problems: Iterable[str]) -> list[Any]:
    """Names the files that are no records on standard error, and returns the records."""
    for problem in problems:
        click.echo(f"pairbench: {problem}", err=True)
    return records


def _backend_option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise PairBenchError(
            f"--backend-option {text!r} cannot be read: write key=value, as in timeout_min=60"
        )
    return name, value


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()] if text else []
