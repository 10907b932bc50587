"""The committed claims are what the code measures: exact ones always, sampled ones under slow."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairbench.papers.claims import CLAIMS, Result, run
from tests.support.kept_claims import load

COMMITTED = Path(__file__).resolve().parents[2] / "leaderboards" / "claims.json"
HINT = "run `pairbench claims --site leaderboards`"
TRAINED = {"soft-pair-same-run"}
"""Exact, but a run of the trainer on HalfCheetah-v4: as slow as the sampled ones."""


@pytest.fixture(scope="module")
def committed() -> dict[str, Result]:
    return {result.claim.id: result for result in load(COMMITTED.read_text(encoding="utf-8"))}


def same(measured: Result, kept: Result) -> None:
    """Asserts verdict, names and numbers: exact ones to their last digit, others to 3 errors."""
    assert measured.verdict == kept.verdict, HINT
    assert [n.name for n in measured.numbers] == [n.name for n in kept.numbers], HINT
    for new, old in zip(measured.numbers, kept.numbers, strict=True):
        room = 1e-3 * abs(old.value) + 3 * (old.error or 0.0)
        assert abs(new.rounded - old.value) <= room + 1e-9, f"{new.name}: {HINT}"
        assert new.decided, f"{new.name}: draw more"


def test_all_claims_are_committed_in_order(committed: dict[str, Result]) -> None:
    assert set(committed) == set(CLAIMS), HINT
    groups = [result.claim.group for result in committed.values()]
    assert len(set(groups)) == sum(a != b for a, b in zip(groups, [None, *groups], strict=False))


def test_exact_claims_are_measured_again(committed: dict[str, Result]) -> None:
    exact = [claim.id for claim in CLAIMS.values() if claim.exact and claim.id not in TRAINED]
    for result in run(exact):
        same(result, committed[result.claim.id])


@pytest.mark.slow
def test_sampled_claims_are_measured_again(committed: dict[str, Result]) -> None:
    sampled = [claim.id for claim in CLAIMS.values() if not claim.exact or claim.id in TRAINED]
    for result in run(sampled):
        same(result, committed[result.claim.id])
