"""A plug-in in a folder: what its source says a test may edit between two calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairbench import registry
from pairbench.registry import Kind

MODULE = '''"""A method of a test."""

from pairbench import Batch, GroupConfig, Loss, Needs, PolicyOutput, Signal, objectives
from pairbench import register_algorithm
from pairbench.algorithm import Algorithm

from . import more


@register_algorithm("{name}")
class Mine(Algorithm):
    """Score times probability."""

    source = "a test"

    class Config(GroupConfig):
        """Its settings."""

    @property
    def needs(self) -> Needs:
        return Needs("groups", "scores")

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        return {{"advantage": batch.need("score").unsqueeze(1) - more.LEVEL}}

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        gain = (output.logp - batch.old_logp).exp() * signal["advantage"]
        return Loss(-objectives.masked_mean(gain, batch.mask))
'''


TASK = '''"""A task of a test."""

from pairbench import register_task
from pairbench.task import TaskConfig
from pairbench.tasks.preference_bandit import PreferenceBandit

from . import more


@register_task("{name}")
class Mine(PreferenceBandit):
    """A bandit that pays more."""

    def __init__(self, config: TaskConfig) -> None:
        super().__init__(config)
        self.rewards = self.rewards + more.LEVEL
'''

ENGINE = '''"""An engine of a test."""

from pairbench.registry import register_engine
from pairbench.training.engine import Engine
from pairbench.training.loop import Loop

from . import more


@register_engine("{name}")
class Mine(Engine):
    """Our own loop, called from outside."""

    limit = "gradient_steps"

    @classmethod
    def refusal(cls, method, kind):
        return None

    def fit(self, run):
        run.algorithm.config = run.algorithm.config.model_copy(update={{"lr": more.LEVEL}})
        Loop(run, None, 0.0).execute()
'''

MODULES = {"algorithm": MODULE, "task": TASK, "engine": ENGINE}

installed: list[str] = []
"""What the test under way has installed, of which `tests/conftest.py` leaves nothing known."""


def plug_in(folder: Path, name: str, patch: pytest.MonkeyPatch, kind: Kind = "algorithm") -> Path:
    """Installs `name` of a kind in a folder, for other processes too; returns its package."""
    package = folder / name.replace("-", "_")
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(MODULES[kind].format(name=name))
    (package / "more.py").write_text("LEVEL = 0.25\n")
    about = folder / f"{package.name}-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (about / "RECORD").write_text(f"{package.name}/__init__.py,,\n{package.name}/more.py,,\n")
    (about / "entry_points.txt").write_text(f"[pairbench.{kind}s]\n{name} = {package.name}:Mine\n")
    patch.syspath_prepend(str(folder))
    patch.setenv("PYTHONPATH", str(folder))
    installed.append(name)
    registry.entries.cache_clear()
    return package


def edit(file: Path, old: str, new: str) -> None:
    """Replaces a text of a file, which must be there."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
