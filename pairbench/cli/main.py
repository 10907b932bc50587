"""The command line: verbs by name, each loaded when it is called, and errors as exit status."""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from typing import NoReturn

import click

from pairbench.errors import PairBenchError

VERBS = {
    **dict.fromkeys(("run", "tune", "status"), "runs"),
    **dict.fromkeys(("leaderboard", "compare", "plot", "show", "list"), "boards"),
    **dict.fromkeys(("reproduce", "submit"), "evidence"),
    **dict.fromkeys(("new", "check"), "authoring"),
    **dict.fromkeys(("claims", "replicate"), "papers"),
    **dict.fromkeys(("models", "judge"), "language"),
    **dict.fromkeys(("export", "compact"), "tools"),
}
"""The file of `pairbench.cli` that holds a verb, by the verb's name."""

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM


class _Terminated(BaseException):
    """SIGTERM has come, from a scheduler as a rule."""


class Verbs(click.Group):
    """A group whose commands are in other files; the file of one is read when it is asked for."""

    def list_commands(self, ctx: click.Context | None = None) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = import_module(f"pairbench.cli.{VERBS[cmd_name]}")
        found = (item for item in vars(module).values() if isinstance(item, click.Command))
        return next(command for command in found if command.name == cmd_name)


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="pairbench")
def cli() -> None:
    """Benchmark and baseline suite for preference-based policy optimisation."""


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line: exit status 0 done, 1 done with failed runs, 2 wrong use."""
    signal.signal(signal.SIGTERM, _terminate)
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


def _terminate(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise _Terminated
