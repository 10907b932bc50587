"""Made-up features in place of a network's."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="the extra language is not installed")

from pairbench.language.judges import features
from tests.support.fake_features import Fake


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    monkeypatch.setenv("PAIRBENCH_CACHE", str(tmp_path / "cache"))
    encode = Fake()
    monkeypatch.setitem(features.KINDS, "fake", lambda: encode)
    monkeypatch.setattr(features, "_loaded", {})
    return encode
