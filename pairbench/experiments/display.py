"""What runs under way look like: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from pairbench.experiments.progress import Monitor, Tally
from pairbench.results.find import outcome
from pairbench.results.record import RunRecord
from pairbench.secrets import shown
from pairbench.text import duration, number, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PLAIN_SECONDS = 30.0  # between two lines on runs under way, where there is no terminal


def display() -> Monitor:
    """Returns the display that suits standard error."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    return Live(console) if console.is_terminal else Lines(console)


class Lines(Monitor):
    """A line per ended run, and one now and then on those under way."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = False
        self._last = time.monotonic()

    def note(self, text: str) -> None:
        self._console.print(printable(shown(text)), markup=False)

    def ended(self, record: RunRecord, tally: Tally) -> None:
        self.note(f"[{tally.total - tally.left}/{tally.total}] {outcome(record)}{_to_go(tally)}")

    def tick(self, tally: Tally) -> None:
        if not self._started:
            self._started = True
            self.note(headline(tally))
        if time.monotonic() - self._last >= PLAIN_SECONDS and tally.running:
            self._last = time.monotonic()
            parts = [
                f"{tally.names[identity]} {run.spent:.0%}"
                for identity, run in tally.running.items()
            ]
            self.note(f"running: {'; '.join(parts)}{_to_go(tally)}")


class Live(Lines):
    """Ended runs scroll by above a table of those under way."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live as RichLive

        super().__init__(console)
        self._live = RichLive(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._live.stop()

    def ended(self, record: RunRecord, tally: Tally) -> None:
        self.note(outcome(record))

    def tick(self, tally: Tally) -> None:
        self._live.update(_table(tally))


def headline(tally: Tally) -> str:
    """Returns how many runs there are, and how many are done or skipped already."""
    parts = [f"{tally.total} runs"]
    if tally.cached:
        parts.append(f"{len(tally.cached)} done before")
    if tally.skipped:
        parts.append(f"{len(tally.skipped)} skipped")
    return f"{', '.join(parts)}; {tally.left} to run, {min(tally.workers, tally.left)} at a time"


def _to_go(tally: Tally) -> str:
    eta = tally.eta()
    return f", {duration(eta)} to go" if tally.left and eta is not None else ""


def _table(tally: Tally) -> Table:
    from rich.markup import escape
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    done = len(tally.finished) + len(tally.cached)
    title = (
        f"{done} of {tally.total} done, {len(tally.failed)} failed, {len(tally.running)} running, "
        f"{len(tally.skipped)} skipped, {duration(time.monotonic() - tally.began)} so far"
    )
    table = Table(title=title + _to_go(tally), title_justify="left", box=None, expand=False)
    for name in ("run", "budget", "", "reward", "seconds"):
        table.add_column(name, justify="left" if name in ("run", "budget") else "right")
    for identity, run in tally.running.items():
        table.add_row(
            escape(printable(tally.names[identity])),
            ProgressBar(total=1.0, completed=run.spent, width=24),
            f"{run.spent:.0%}",
            "" if run.reward is None else number(run.reward),
            f"{run.seconds:.0f}",
        )
    return table
