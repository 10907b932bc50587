"""Every test of a policy has a cache of its own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(cache: Path) -> Path:
    """The cache of `tests/language/conftest.py`, asked for by name or not."""
    return cache
