"""A run that cannot end before a test lets it: whoever kills one in mid run needs no luck."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.plug_in import edit, plug_in

IMPORTS = """
import time
from pathlib import Path

from pairbench.space import log_uniform

"""

WAIT = """

SPACES = {"tabular": {"lr": log_uniform(1e-5, 1.0)}}


def wait(iteration):
    until = time.monotonic() + 900
    while iteration >= 3 and Path(__file__).parent.with_name("shut").exists():
        if time.monotonic() > until:
            raise RuntimeError("nobody has opened the gate")
        time.sleep(0.01)
"""


class Gate:
    """A plug-in's algorithm, `gated`, whose runs wait after three iterations while it is shut.

    It stands in a folder of its own, and other processes of this machine have it, too.
    """

    name = "gated"

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._file = folder / "shut"
        package = plug_in(folder, self.name, patch)
        more = package / "more.py"
        text = IMPORTS + more.read_text()
        more.write_text(text + WAIT)
        init = package / "__init__.py"
        edit(init, "return {", "more.wait(iteration)\n        return {")
        edit(init, 'source = "a test"', 'source = "a test"\n    spaces = more.SPACES')

    def shut(self) -> None:
        self._file.touch()

    def open(self) -> None:
        self._file.unlink(missing_ok=True)
