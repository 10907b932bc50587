"""A cache of models of a test's own, and one small trained model."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of models that is empty at first, and no hub."""
    pytest.importorskip("transformers", reason="the extra language is not installed")
    from pairbench.language.policy import models

    monkeypatch.setenv("PAIRBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "_from_hub", lambda *args, **named: None)
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small trained model, to be copied."""
    pytest.importorskip("transformers", reason="the extra language is not installed")
    from pairbench.language.policy.tiny import train_tiny
    from tests.support.tiny_model import QUICK, texts

    base = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAIRBENCH_CACHE", str(base))
        return train_tiny(texts(), QUICK)
