"""Engines: found by name, also those of other packages; asked before a run whether they can."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

import pytest

from pairbench import registry
from pairbench.algorithm import Method
from pairbench.errors import PairBenchError
from pairbench.experiments.runner import plan
from pairbench.experiments.suite import Plan
from pairbench.registry import entries, register_engine
from pairbench.results.record import Budget, Protocol, RunRecord
from pairbench.training.engine import Engine, get_engine
from pairbench.training.loop import Loop
from pairbench.training.run import Run
from pairbench.training.train import train


@register_engine("borrowed")
class Borrowed(Engine):
    """Another package's engine: our own loop, called from outside."""

    packages = ("numpy",)

    @classmethod
    def refusal(cls, method: Method, kind: str) -> str | None:
        return f"{method.name} is too old for it" if method.name == "ppo" else None

    def fit(self, run: Run) -> None:
        assert run.algorithm is self.algorithm
        Loop(run, None, 0.0).execute()


@pytest.fixture
def _installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that brings `Borrowed` is there, and one whose engine is a function."""
    points = [
        metadata.EntryPoint("borrowed", f"{__name__}:Borrowed", "pairbench.engines"),
        metadata.EntryPoint("function", "json:loads", "pairbench.engines"),
    ]
    monkeypatch.setattr(
        metadata, "entry_points", lambda group: points if group.endswith("engines") else []
    )
    registry.entries.cache_clear()
    yield
    registry.entries.cache_clear()


def grid(algorithm: str, engine: str, budget: str = "steps") -> Plan:
    """Returns a run of four iterations on the bandit."""
    return plan(
        algorithms=[algorithm],
        tasks=["preference-bandit"],
        budget={budget: 1024},
        protocol={"evaluations": 1, "probes": 0, "engine": engine},
    )


def run(algorithm: str, engine: str) -> RunRecord:
    (spec,) = grid(algorithm, engine).specs
    record = train(spec).record
    assert record.status == "finished", record.reason
    return record


@pytest.mark.usefixtures("_installed")
def test_another_packages_engine_trains_and_the_record_says_so() -> None:
    ours, theirs = run("grpo", "pairbench"), run("grpo", "borrowed")
    assert theirs.weights_sha256 == ours.weights_sha256
    assert theirs.identity != ours.identity
    assert theirs.protocol.model_dump(mode="json")["engine"] == "borrowed"
    assert "engine" not in ours.protocol.model_dump(mode="json")


@pytest.mark.usefixtures("_installed")
def test_a_floor_is_nobodys_to_train() -> None:
    assert run("random", "borrowed").weights_sha256 == run("random", "pairbench").weights_sha256


@pytest.mark.usefixtures("_installed")
def test_what_it_refuses_is_skipped_and_its_limit_is_asked_for() -> None:
    (skipped,) = grid("ppo", "borrowed").skipped
    assert skipped.reason == "ppo is too old for it"
    with pytest.raises(PairBenchError, match="needs a budget of steps: add --budget-steps"):
        grid("grpo", "borrowed", budget="labels")


def test_ours_are_found_without_an_installation_and_without_importing_them() -> None:
    assert get_engine("pairbench") is None
    assert [entry.origin for entry in entries("engine").values()] == ["built in"]


@pytest.mark.usefixtures("_installed")
def test_a_name_that_is_no_engines_is_one_sentence() -> None:
    with pytest.raises(PairBenchError, match="there is no engine 'pairbnech'; did you mean pairb"):
        get_engine("pairbnech")
    with pytest.raises(PairBenchError, match="there is no engine 'borowed'; did you mean borrow"):
        grid("grpo", "borowed")
    with pytest.raises(PairBenchError, match="no pairbench Engine class"):
        get_engine("function")


def test_a_protocol_holds_names_alone() -> None:
    with pytest.raises(ValueError, match="engine"):
        Protocol(budget=Budget(steps=1), engine="../other")
