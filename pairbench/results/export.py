"""Records for the trackers that others look at runs with: one protocol, a small class for each.

What is exported is what a record, its series and its log hold; nothing is asked of the run. A
tracker's own run has the first 16 hexadecimal digits of the identity in its name, and one that is
there already is left as it is, so that the same command adds what is new.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pairbench.errors import PairBenchError
from pairbench.results.folder import Store
from pairbench.results.heartbeat import read_log
from pairbench.results.layout import folder_name
from pairbench.results.load import load_series
from pairbench.results.record import RunRecord

if TYPE_CHECKING:
    import numpy as np


class Numbers(NamedTuple):
    """What was measured at one moment: an iteration of the series, or the steps spent by then."""

    at: int
    values: Mapping[str, float]


class Writer(Protocol):
    """A tracker, open for runs."""

    def write(
        self, record: RunRecord, settings: Mapping[str, str], numbers: Sequence[Numbers]
    ) -> bool:
        """Adds a run, unless it is there; returns whether it was not."""
        ...


class TensorBoard:
    """Event files, a folder for each run: `<out>/<task>/<row>/seed-<n>-<identity>`."""

    def __init__(self, out: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter
        self._out = Path(out)

    def write(
        self, record: RunRecord, settings: Mapping[str, str], numbers: Sequence[Numbers]
    ) -> bool:
        """Writes the run's folder; its settings are a text."""
        name = f"seed-{record.seed}-{record.identity[:16]}"
        folder = self._out / folder_name(record.task) / folder_name(record.row) / name
        if any(folder.glob("events.*")):
            return False
        partial = folder.with_name(f".{name}")  # renamed when whole
        for old in partial.glob("*"):
            old.unlink()
        with self._writer(str(partial)) as writer:
            text = "\n".join(f"    {key}: {value}" for key, value in settings.items())
            writer.add_text("settings", text)
            for one in numbers:
                for key, value in one.values.items():
                    writer.add_scalar(key, value, one.at)
        partial.rename(folder)
        return True


class WeightsAndBiases:
    """Offline runs of Weights & Biases under `<out>/wandb/`, for `wandb sync`: no key is asked for.

    A run is one of the project "pairbench <task>". Curves are drawn against steps, series against
    iterations; what a run ended with is its summary.
    """

    def __init__(self, out: str) -> None:
        import wandb

        self._wandb: Any = wandb
        self._out = Path(out)

    def write(
        self, record: RunRecord, settings: Mapping[str, str], numbers: Sequence[Numbers]
    ) -> bool:
        """Writes the run's folder, which takes its name when it is whole."""
        name, wandb = record.identity[:16], self._wandb
        if any((self._out / "wandb").glob(f"offline-run-*-{name}")):
            return False
        partial = self._out / f".{name}"
        shutil.rmtree(partial, ignore_errors=True)  # of an export that was cut off
        partial.mkdir(parents=True)
        quiet = wandb.Settings(
            silent=True, console="off", disable_git=True, disable_code=True, x_disable_meta=True,
            x_disable_stats=True, x_disable_machine_info=True,
        )  # fmt: skip
        project = re.sub(r"[/\\#?%:]", "-", f"pairbench {record.task}")
        run = wandb.init(
            project=project, dir=str(partial), id=name, name=f"{record.row} seed {record.seed}",
            config=dict(settings), mode="offline", settings=quiet,
        )  # fmt: skip
        axes = {"curve": "steps", "series": "iteration"}
        for group, axis in axes.items():
            run.define_metric(f"{group}/*", step_metric=axis)
        for one in numbers:
            axis = axes.get(next(iter(one.values), "").partition("/")[0], "")
            if axis:
                run.log({axis: one.at, **one.values})
            else:
                run.summary.update(dict(one.values))
        run.finish()
        (self._out / "wandb").mkdir(exist_ok=True)
        for folder in (partial / "wandb").glob("offline-run-*"):
            folder.rename(self._out / "wandb" / folder.name)
        shutil.rmtree(partial)
        return True


WRITERS: Mapping[str, Callable[[str], Writer]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


def export(records: Sequence[RunRecord], results: Path, to: str, out: str) -> tuple[int, int]:
    """Adds the finished runs among records to a tracker; returns how many, and how many it had.

    Args:
        records: of a results folder.
        results: the folder, for their series and logs.
        to: a name of `WRITERS`.
        out: the folder where the tracker keeps them.

    Raises:
        PairBenchError: no run has finished, the tracker's package is missing, or it refuses.
    """
    finished = [record for record in records if record.status == "finished"]
    if not finished:
        raise PairBenchError(f"no run in {results} has finished: there is nothing to export")
    try:
        writer = WRITERS[to](out)
    except ImportError as error:
        raise PairBenchError(
            f"the export to {to} needs its package ({error}): pip install 'pairbench[track]'"
        ) from error
    series = load_series(results, finished)
    store = Store(results)
    new = 0
    for record in finished:
        log = read_log(store.log(record.spec))
        numbers = list(_numbers(record, series.get(record.identity, {}), log))
        try:
            new += writer.write(record, _settings(record), numbers)
        except Exception as error:
            if isinstance(error, OSError) or type(error).__module__.startswith("wandb"):
                why = " ".join(str(error).split())[:300]
                raise PairBenchError(f"{to} cannot write to {out}: {why}") from error
            raise
    return new, len(finished) - new


def _settings(record: RunRecord) -> dict[str, str]:
    """What a run is, as texts by name."""
    spec = record.spec.model_dump(mode="json", exclude_none=True)
    nested = {
        f"{group}/{key}": value
        for group in ("algorithm_config", "task_config", "protocol")
        for key, value in spec.pop(group, {}).items()
    }
    flat = {**spec, **nested, "identity": record.identity}
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in flat.items()
    }


def _numbers(
    record: RunRecord, series: Mapping[str, np.ndarray], log: Sequence[Mapping[str, Any]]
) -> Iterator[Numbers]:
    """What a run measured, less what is missing or not finite."""
    for point in record.curve:
        values = {"reward": point.reward, **point.means, **point.measures}
        yield _clean(point.steps, "curve", values)
    columns = {name: column.tolist() for name, column in series.items()}
    for at in range(min(map(len, columns.values()), default=0)):
        here = {name: column[at] for name, column in columns.items()}
        yield _clean(at, "series", here)
    end = record.cost.steps
    if record.evaluation is not None:
        yield _clean(end, "final", {"reward": record.evaluation.reward})
    yield _clean(end, "stability", record.stability.model_dump(exclude_none=True))
    yield _clean(end, "cost", record.cost.model_dump(exclude_none=True))
    spent_on = next((line.get("spent_on") for line in reversed(log) if "spent_on" in line), None)
    if isinstance(spent_on, dict):
        yield _clean(end, "seconds", spent_on)


def _clean(at: int, group: str, values: Mapping[str, Any]) -> Numbers:
    kept = {
        f"{group}/{name}": float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    return Numbers(at, kept)
