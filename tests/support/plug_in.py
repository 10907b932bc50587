"""A plug-in in a folder: an algorithm whose source a test may edit between two calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairbench import registry

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


installed: list[str] = []
"""What the test under way has installed, of which `tests/conftest.py` leaves nothing known."""


def plug_in(folder: Path, name: str, patch: pytest.MonkeyPatch) -> Path:
    """Installs the algorithm `name` in a folder, for other processes too; returns its package."""
    package = folder / name.replace("-", "_")
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(MODULE.format(name=name))
    (package / "more.py").write_text("LEVEL = 0.25\n")
    about = folder / f"{package.name}-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (about / "RECORD").write_text(f"{package.name}/__init__.py,,\n{package.name}/more.py,,\n")
    (about / "entry_points.txt").write_text(
        f"[pairbench.algorithms]\n{name} = {package.name}:Mine\n"
    )
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
