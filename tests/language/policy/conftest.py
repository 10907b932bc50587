"""Each test has a cache of models of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="the extra language is not installed")


@pytest.fixture(autouse=True)
def apart(cache: Path) -> Path:
    return cache
