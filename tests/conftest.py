"""Settings of all tests; being here also lets tests in folders import tests' own helpers."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from pairbench.registry import entries
from pairbench.seeding import pin_threads
from tests.support import plug_in

pin_threads(1)
# a busy machine must fail no test, and the same commit must test the same examples
settings.register_profile("pairbench", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("pairbench")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes for the whole suite; none for a part of it, or where times are measured."""
    measures = config.option.markexpr.startswith("performance")
    if measures or config.args != config.getini("testpaths"):
        return 0
    config.option.benchmark_disable = True
    return 2


@pytest.fixture(autouse=True)
def _plug_ins_are_forgotten() -> Iterator[None]:
    yield
    if plug_in.installed:
        for name in [*sys.modules]:
            if name.partition(".")[0].replace("_", "-") in plug_in.installed:
                del sys.modules[name]
        plug_in.installed.clear()
        entries.cache_clear()
