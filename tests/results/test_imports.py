"""Results can be read without what makes them."""

from __future__ import annotations

import subprocess
import sys

LOOK = """
import importlib, pkgutil, sys
import pairbench.results
for module in pkgutil.walk_packages(pairbench.results.__path__, "pairbench.results."):
    importlib.import_module(module.name)
rooms = ("training", "experiments", "leaderboard", "algorithms", "tasks")
print([name for name in ("torch", *(f"pairbench.{room}" for room in rooms)) if name in sys.modules])
"""


def test_the_room_of_results_loads_nothing_that_runs() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
