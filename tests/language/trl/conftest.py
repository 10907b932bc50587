"""What tests beside TRL's trainers are given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model's folder, in an environment in which TRL warns of nothing and tells nobody."""
    from tests.support.trl_peer import save_model

    path = tmp_path_factory.mktemp("model")
    save_model(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
        patch.setenv("CI", "1")
        yield path


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Its tokenizer."""
    from tests.support.trl_peer import word_tokenizer

    return word_tokenizer()
