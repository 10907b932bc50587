"""A study's outcome as a table, as JSON types, and as the command that comes next."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tabulate import tabulate

from pairbench.experiments.tuning.study import Outcome, Trial
from pairbench.text import number, printable


def as_object(outcome: Outcome) -> dict[str, Any]:
    """Returns an outcome as JSON types."""
    study = outcome.study
    return {
        "task": study.terms.task,
        "seeds": list(study.terms.seeds),
        "study": study.sha256,
        "suite": None if outcome.path is None else str(outcome.path),
        "rows": [
            {
                "row": name,
                "algorithm": search.algorithm,
                "trials": len(search.trials),
                "failed": search.failed,
                "preset": _told(search.trials[0]),
                "best": None if search.best is None else _told(search.best),
                "best_trial": None if search.best is None else search.trials.index(search.best),
            }
            for name, search in study.rows.items()
        ],
        "left_out": dict(outcome.left_out),
    }


def _told(trial: Trial) -> dict[str, Any]:
    return {"value": trial.value, "error": trial.error, "settings": trial.settings}


def render(outcome: Outcome) -> str:
    """Returns an outcome as a table, with what must be known beside it."""
    study = outcome.study
    lines = []
    for name, search in study.rows.items():
        start, best = search.trials[0], search.best
        found = []
        for key, value in best.settings.items() if best is not None else ():
            before = start.settings[key]
            found.append(f"{key} {value}" if value == before else f"{key} {value} ({before})")
        count = len(search.trials)
        at = "" if best is None else str(search.trials.index(best))
        lines.append(
            [
                printable(name), str(count), str(search.failed), _value(start), _value(best), at,
                ", ".join(found),
            ]
        )  # fmt: skip
    table = tabulate(
        lines,
        headers=["row", "trials", "failed", "as it stands", "best", "trial", "settings (before)"],
        tablefmt="simple",
        disable_numparse=True,
        colalign=("left", "right", "right", "right", "right", "right", "left"),
    )
    seeds = study.terms.seeds
    if len(seeds) == 1:
        over = f"Reward on validation contexts with the tuning seed {seeds[0]}"
    else:
        listed = ", ".join(map(str, seeds))
        over = (
            f"Mean reward on validation contexts over the tuning seeds {listed}, ± its standard "
            "error over them"
        )
    notes = [
        f"{over}; trial 0 is the row as it stands. The best of several trials is flattered by "
        "chance: what its settings are worth, other seeds and contexts say."
    ]
    for name, search in study.rows.items():
        for k, trial in enumerate(search.trials):
            for seed, reason in trial.failures.items():
                notes.append(f"FAILED {name}, trial {k}, seed {seed}: {reason}")
        if search.best is None:
            notes.append(f"{name} has no finished trial: it is not in the suite")
    notes += [f"{name} was not tuned: {reason}" for name, reason in outcome.left_out.items()]
    return "\n".join([table, "", *map(printable, notes)]) + "\n"


def next_command(outcome: Outcome, overrides: Iterable[str], results: Path | str) -> str:
    """Returns the command that runs the suite found, on the task as it was tuned on."""
    settings = "".join(f" --set {shlex.quote(text)}" for text in overrides)
    return f"pairbench run {shlex.quote(str(outcome.path))}{settings} --results {results}"


def _value(trial: Trial | None) -> str:
    if trial is None or trial.value is None:
        return "failed"
    error = trial.error
    return number(trial.value) + ("" if error is None else f" ± {number(error)}")
