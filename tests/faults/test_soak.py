"""A minute of the soak: kills, a full disk, deletions and hostile files over one small grid."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pairbench.training import provenance
from tests.faults.soak import soak


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_everything_at_once_ends_with_every_record_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "_git", lambda: (None, None))
    found = soak(tmp_path, seeds=5, seed=2, faults=40)
    assert found["faults"] == 40 and found["records equal"] == found["runs"] == 10
    assert found["hostile files"] > 0 and found["files deleted"] > 0
