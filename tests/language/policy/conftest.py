<<<<<<< HEAD
"""Every test of a policy has a cache of its own."""
=======
"""Each test has a cache of models of its own."""
>>>>>>> main

from __future__ import annotations

from pathlib import Path

import pytest

<<<<<<< HEAD

@pytest.fixture(autouse=True)
def own_cache(cache: Path) -> Path:
    """The cache of `tests/language/conftest.py`, asked for by name or not."""
=======
pytest.importorskip("transformers", reason="the extra language is not installed")


@pytest.fixture(autouse=True)
def apart(cache: Path) -> Path:
>>>>>>> main
    return cache
