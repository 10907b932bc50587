"""Verbs of language tasks: models, judge."""

from __future__ import annotations

from typing import Any

import click

from pairbench.cli.options import DATA_DIR, RESULTS, ROW_NAMES, form, loaded, say, tell
from pairbench.errors import PairBenchError


def _extra(error: ModuleNotFoundError) -> PairBenchError:
    return PairBenchError(f"{error}: pip install 'pairbench[language]'")


@click.group()
def models() -> None:
    """Models of language tasks."""


@models.command()
@click.argument("name")
def pull(name: str) -> None:
    """Make the model NAME (smollm2-135m, a hub id or a folder) available offline; print where."""
    try:
        from pairbench.language.policy.models import pull as pull_model
    except ModuleNotFoundError as error:
        raise _extra(error) from error
    say(pull_model(name))


@click.command()
@click.option("--judge", "who", required=True, metavar="gold|proxy|openai:BASE-URL,MODEL",
              help="Who judges; an endpoint's key comes from PAIRBENCH_JUDGE_KEY.")  # fmt: skip
@click.option("--task", help="The task (or task@variant) whose completions are judged.")
@click.option("--board", help="First characters of a board's digest; the largest budget's if none.")
@ROW_NAMES
@click.option("--seeds", help="Seeds, as 0-4 or 0,2,7; all by default.")
@click.option("--baseline", default="reference", show_default=True,
              help="The row, or algorithm, that the others are compared with.")  # fmt: skip
@click.option("--head-to-head/--no-head-to-head", default=None,
              help="Compare rows with each other too; by default where it is free.")  # fmt: skip
@click.option("--budget", type=click.IntRange(min=0), default=1000, show_default=True,
              help="Most requests to an endpoint; 0 shows what it said before.")  # fmt: skip
@DATA_DIR
@form()
@RESULTS
def judge(who: str, seeds: str | None, form: str, **asked: Any) -> int:
    """Judge the completions that finished runs have kept, by any judge; nothing is run again.

    Verdicts of an endpoint are kept in the results folder and never asked for twice.
    """
    from pairbench.experiments.suite import parse_seeds

    try:
        from pairbench.language.judges.judgement import table
        from pairbench.language.judges.judging import judge as judge_runs
    except ModuleNotFoundError as error:
        raise _extra(error) from error
    judgement = judge_runs(
        loaded(asked["results"]),
        who=who,
        seeds=parse_seeds(seeds) if seeds else None,
        progress=lambda line: say(line, err=True),
        **asked,
    )
    tell(form, judgement, table)
    return 1 if judgement.failed else 0
