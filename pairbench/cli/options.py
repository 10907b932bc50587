"""What several verbs have in common: their options, each written once, and how they print."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from pairbench.errors import PairBenchError
from pairbench.experiments.launch import BACKENDS
from pairbench.secrets import shown
from pairbench.text import sober

Verb = TypeVar("Verb", bound=Callable[..., Any])
Option = Callable[[Verb], Verb]


class Place(click.Path):
    """A file or folder of this machine: a url would make a folder of its name, secrets and all."""

    def convert(self, value: Any, parameter: Any, context: Any) -> Any:
        if "://" in str(value):
            self.fail(
                "it is a url, and what is named here is a file or a folder", parameter, context
            )
        return super().convert(value, parameter, context)


PLACE = Place(path_type=Path)


def _split(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str]:
    return [name.strip() for name in (value or "").split(",") if name.strip()]


def names(option: str, what: str) -> Option[Any]:
    """An option of several names by comma; the verb takes a list, empty without the option."""
    return click.option(option, callback=_split, help=what)


def packed(name: str, pack: Callable[..., Any], *options: Option[Any]) -> Option[Any]:
    """Several options of which the verb takes one value.

    Args:
        name: of the verb's argument.
        pack: makes it of the options' values, which it takes by name.
        options: the options.
    """
    taken: list[str] = []

    def decorate(verb: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(verb)
        def called(**values: Any) -> Any:
            own = {key: values.pop(key) for key in taken}
            return verb(**values, **{name: pack(**own)})

        before = len(getattr(verb, "__click_params__", ()))
        result: Any = called
        for option in reversed(options):
            result = option(result)
        taken[:] = [str(made.name) for made in result.__click_params__[before:]]
        return called

    return decorate


def _folder(context: click.Context, parameter: click.Parameter, value: str) -> Path:
    """Takes a folder; what else a verb writes there than records, no url keeps."""
    from pairbench.results.place import only_folder

    return only_folder(value, str(context.info_name))


def _readable(context: click.Context, parameter: click.Parameter, value: str) -> Path:
    """Takes a folder, or a url, of which it makes a folder to read from."""
    from pairbench.results.place import at_hand

    folder, problems = at_hand(value)
    warn(problems)
    return folder


def _results(what: str, callback: Any = None) -> Option[Any]:
    return click.option(
        "--results", default="results", show_default=True, metavar="PATH", callback=callback,
        help=what,
    )  # fmt: skip


RESULTS = _results("Folder of run records.", _folder)
SEEN = _results("Folder of run records, or a url as s3://bucket/prefix.", _readable)
ANYWHERE = _results("Folder of run records, or a url as s3://bucket/prefix.")


def form(*others: str) -> Option[Any]:
    """--format: a table, JSON or one of `others`; the verb takes it as `form`."""
    return click.option(
        "--format", "form", type=click.Choice(["table", "json", *others]), default="table",
        help="How it is printed.",
    )  # fmt: skip


def _data_dir(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is not None:
        os.environ["PAIRBENCH_DATA"] = str(value.absolute())  # worker processes inherit it


DATA_DIR = click.option(
    "--data-dir", type=PLACE, callback=_data_dir, expose_value=False,
    help="Folder of preference data; else PAIRBENCH_DATA.",
)  # fmt: skip
TASK = click.option("--task", help="One task (or task@variant); all by default.")
ROW_NAMES = names("--rows", "Rows, by comma; all by default.")
ALGORITHMS = names("--algorithms", "Algorithms, by comma; of a suite, the rows to keep.")
OUT = click.option("--out", type=PLACE, help="Write to this file instead of standard output.")
ANNEAL = click.option(
    "--anneal/--no-anneal", default=None, help="Learning rates fall linearly to zero."
)


def overrides(metavar: str, what: str) -> Option[Any]:
    """--set, which may be repeated; the verb takes its texts as `overrides`."""
    return click.option(
        "--set", "overrides", multiple=True, metavar=metavar, help=f"{what}; may be repeated."
    )


def given(**values: Any) -> dict[str, Any]:
    """Returns the options that were given, those of a budget by the name of the limit."""
    return {
        name.removeprefix("budget_"): value for name, value in values.items() if value is not None
    }


BUDGET = packed(
    "budget",
    given,
    click.option("--budget-steps", type=float, help="Steps a run may take, in the task's unit."),
    click.option("--budget-labels", type=float, help="Answers of the oracle a run may ask for."),
    click.option("--budget-gradient-steps", type=float, help="Gradient steps a run may take."),
    click.option("--budget-seconds", type=float, help="Seconds a run may last."),
)


def _execution(address: str | None = None, **values: Any) -> Any:
    from pairbench.experiments.launch.base import Execution

    if address is not None:
        values["options"]["address"] = address
    return Execution(**{name: value for name, value in values.items() if value is not None})


WORKERS = click.option(
    "--workers", type=click.IntRange(min=1), help="Runs at a time; one per core, on a cluster all."
)
THREADS = click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True,
    help="Threads of each run's simulator.",
)  # fmt: skip
CHECKPOINTS = click.option(
    "--checkpoint-seconds", type=click.FloatRange(min=0), default=20.0, show_default=True,
    help="Time between checkpoints.",
)  # fmt: skip


def _pairs(
    context: click.Context, parameter: click.Parameter, values: Iterable[str]
) -> dict[str, str]:
    pairs = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise PairBenchError(
                f"--backend-option {text!r} cannot be read: write key=value, as in timeout_min=60"
            )
        pairs[name] = value
    return pairs


EXECUTION_HERE = packed("execution", _execution, WORKERS, THREADS, CHECKPOINTS)
EXECUTION = packed(
    "execution",
    _execution,
    WORKERS,
    THREADS,
    CHECKPOINTS,
    click.option("--run-timeout", "timeout", type=click.FloatRange(min=0, min_open=True),
                 metavar="SECONDS", help="Kill a run that takes longer, as one that hangs."),
    click.option("--backend", type=click.Choice(BACKENDS), default="local",
                 show_default=True, help="Where it runs: this machine, or a cluster."),
    click.option("--address", help="Of a Ray cluster: auto, or ray://host:port."),
    click.option("--backend-option", "options", multiple=True, metavar="KEY=VALUE",
                 callback=_pairs,
                 help="Of Slurm, as slurm_partition=cpu or timeout_min=60; may be repeated."),
    click.option("--gpus", type=click.FloatRange(min=0), default=0.0,
                 help="GPUs a run needs, for a cluster's scheduler."),
    click.option("--memory-gb", type=click.FloatRange(min=0, min_open=True),
                 help="Memory a run needs, likewise."),
)  # fmt: skip


def say(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Prints text, which may be a stranger's: it drives no terminal, and errors tell no secret."""
    clean = sober(str(text))
    click.echo(shown(clean) if err else clean, err=err, nl=nl)


def warn(problems: Iterable[str]) -> None:
    """Prints sentences on standard error, where they are in the way of no JSON."""
    for problem in problems:
        say(f"pairbench: {problem}", err=True)


def loaded(results: Path | str) -> list[Any]:
    """Returns the records of a folder, and names the files in it that are none."""
    from pairbench.results.load import load_records

    return told(load_records(results))


def told(found: tuple[list[Any], list[str]]) -> list[Any]:
    """Names the files that are no records on standard error, and returns the records."""
    warn(found[1])
    return found[0]


def as_json(value: Any) -> str:
    """Returns JSON types, or pydantic models, as the text that --format json prints."""
    return json.dumps(_plain(value), indent=1, allow_nan=False)


def tell(form: str, value: Any, render: Callable[[Any], str]) -> None:
    """Prints a value as --format asks for: as JSON, or as the text that `render` makes of it."""
    say(as_json(value) + "\n" if form == "json" else render(value), nl=False)


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
