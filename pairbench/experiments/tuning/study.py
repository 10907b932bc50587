"""A study as it is kept: what was asked for, what was tried, and what came of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pairbench.errors import PairBenchError
from pairbench.evaluation import Strict
from pairbench.experiments.suite import Suite
from pairbench.results.files import read_untrusted, strict_json
from pairbench.results.record import Protocol, RunRecord, digest
from pairbench.space import Setting

SCHEMA_VERSION = 1


class Terms(Strict):
    """What all trials of a study share; a study of other terms is another study."""

    task: str
    task_version: str
    task_config: dict[str, Any]
    protocol: Protocol
    seeds: tuple[int, ...]
    sampler: int


class Trial(BaseModel):
    """Settings, and what became of their runs, by seed.

    Attributes:
        rewards: of the runs that finished.
        failures: why the others did not.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    settings: dict[str, Setting]
    runs: dict[int, str] = {}
    rewards: dict[int, float] = {}
    failures: dict[int, str] = {}

    def done(self, seeds: Sequence[int]) -> bool:
        """Whether every seed's run has ended."""
        return all(seed in self.rewards or seed in self.failures for seed in seeds)

    def note(self, record: RunRecord) -> None:
        """Takes down how a run ended; one without a finite reward has failed."""
        reward = record.evaluation.reward if record.evaluation is not None else math.nan
        if record.status == "finished" and math.isfinite(reward):
            self.rewards[record.seed] = reward
        else:
            self.failures[record.seed] = record.reason or "its reward is not finite"

    @property
    def value(self) -> float | None:
        """Mean reward over the seeds; None if a run failed: the others' mean would flatter it."""
        if self.failures or not self.rewards:
            return None
        return sum(self.rewards.values()) / len(self.rewards)

    @property
    def error(self) -> float | None:
        """Standard error of the value over the seeds; None with one seed or without a value."""
        value, count = self.value, len(self.rewards)
        if value is None or count < 2:
            return None
        spread = sum((reward - value) ** 2 for reward in self.rewards.values())
        return math.sqrt(spread / (count - 1) / count)


class Search(BaseModel):
    """One row's part of a study.

    Attributes:
        config: the row's settings as they stand, resolved.
        space: what is searched, as JSON types.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    algorithm: str
    config: dict[str, Any]
    space: dict[str, dict[str, Any]]
    trials: list[Trial] = []

    @property
    def best(self) -> Trial | None:
        """The trial of the highest value, the first of equals; None if all failed."""
        having = [trial for trial in self.trials if trial.value is not None]
        return max(having, key=lambda trial: trial.value or 0.0, default=None)

    @property
    def failed(self) -> int:
        """Trials without a value."""
        return sum(trial.value is None for trial in self.trials)


class Study(BaseModel):
    """A search for the settings of several rows on one task, as it is kept."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA_VERSION
    terms: Terms
    rows: dict[str, Search] = {}

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the study: its terms, what was tried and what came of it."""
        return digest(self.model_dump(mode="json"))


def read_study(path: Path) -> Study:
    """Returns the study in a file.

    Raises:
        FileNotFoundError: there is no such file.
        PairBenchError: it is no study, or no ordinary file.
    """
    try:
        return Study.model_validate(strict_json(read_untrusted(path)))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise PairBenchError(
            f"{path} cannot be read as a study: move it away, or take another --study"
        ) from error


@dataclass(frozen=True)
class Outcome:
    """A study that has come to its end.

    Attributes:
        suite: the suite of the rows with the settings chosen.
        path: of that suite's file; None where no row has a finished trial.
        left_out: why rows of the suite asked for were not tuned, by name.
    """

    study: Study
    suite: Suite | None
    path: Path | None
    left_out: Mapping[str, str]


def difference(there: Study, asked: Study) -> str | None:
    """Returns the first way in which a study is not the one asked for, or None.

    More rows than there were is no difference: they are brought to the same number of trials.
    """
    old, new = (study.terms.model_dump(mode="json") for study in (there, asked))
    for key in old:
        if old[key] != new[key]:
            return f"{key} {_short(old[key])}, not {_short(new[key])}"
    for name, search in there.rows.items():
        mine = asked.rows.get(name)
        if mine is None:
            return f"row {name}, which is not asked for now"
        for key in ("algorithm", "config", "space"):
            if getattr(search, key) != getattr(mine, key):
                return f"another {key} of {name}"
    return None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
