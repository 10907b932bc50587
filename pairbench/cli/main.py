"""The command line: its verbs, and errors as exit status.

A verb imports what it needs when it is called, so that help needs nothing but Click.
"""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

import click

from pairbench.cli import authoring, boards, evidence, language, papers, runs
from pairbench.cli.options import say
from pairbench.cli.output import streams_that_may_close
from pairbench.errors import PairBenchError

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM


class _Terminated(BaseException):
    """SIGTERM has come, from a scheduler as a rule."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="pairbench")
def cli() -> None:
    """Benchmark and baseline suite for preference-based policy optimisation."""


for verb in (
    *(runs.run, runs.tune, runs.status),
    *(boards.leaderboard, boards.compare, boards.power, boards.plot, boards.show),
    *(boards.list_, boards.export),
    *(evidence.reproduce, evidence.submit),
    *(authoring.new, authoring.check),
    *(papers.claims, papers.replicate),
    *(language.models, language.judge),
):
    cli.add_command(verb)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line: exit status 0 done, 1 done with failed runs, 2 wrong use."""
    signal.signal(signal.SIGTERM, _terminate)
    with streams_that_may_close():
        status = _status(arguments)
    sys.exit(status)


def _status(arguments: list[str] | None) -> int:
    try:
        try:
            status = cli.main(arguments, prog_name="pairbench", standalone_mode=False)
        except click.exceptions.NoArgsIsHelpError as error:
            say(error.format_message())
            status = 2
    except click.ClickException as error:
        return _complain(error.format_message())
    except PairBenchError as error:
        return _complain(str(error))
    except click.Abort:
        return _complain("interrupted: the same command continues from here", INTERRUPTED)
    except _Terminated:
        return _complain("terminated: the same command continues from here", TERMINATED)
    return status if isinstance(status, int) else 0


def _complain(message: str, status: int = 2) -> int:
    say(f"pairbench: {' '.join(message.split())}", err=True)
    return status


def _terminate(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise _Terminated
