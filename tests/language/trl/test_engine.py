"""`--engine trl`: a ranked method's row from TRL's training loop."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("trl", reason="the extra reference is not installed")
pytest.importorskip("evaluate", reason="the extra language is not installed")

from pairbench.errors import PairBenchError
from pairbench.experiments.suite import Plan, plan
from pairbench.results.record import RunRecord
from pairbench.training.train import train

GROUPS = ("grpo", "hard-pair-grpo")
SMALL = {"sft_steps": 8, "evaluation_prompts": 6, "completion_tokens": 8, "pair_tokens": 6}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache of models for these tests: `tiny` is trained once, for eight steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAIRBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def grid(*names: str, task: str = "toy-dialogue", budget: str = "gradient_steps") -> Plan:
    """Returns runs of four gradient steps, two an iteration."""
    small = [f"toy-dialogue.{key}={json.dumps(value)}" for key, value in SMALL.items()]
    sizes = ["contexts=8", "group_size=8", "minibatches=2"]
    return plan(
        algorithms=list(names),
        tasks=[task],
        budget={budget: 4},
        protocol={"evaluations": 2, "probes": 0, "engine": "trl"},
        overrides=[
            *(small if task == "toy-dialogue" else ()),
            *(f"{name}.{size}" for name in names if name in GROUPS for size in sizes),
        ],
    )


def run(name: str) -> RunRecord:
    (spec,) = grid(name).specs
    return train(spec).record


def test_a_method_of_comparisons_trains_in_their_loop() -> None:
    """Two iterations of 64 completions of eight tokens; a group of eight has 28 pairs."""
    record = run("hard-pair-grpo")
    assert record.status == "finished", record.reason
    cost = record.cost
    assert (cost.gradient_steps, cost.iterations, cost.steps) == (4, 2, 1024)
    assert cost.comparisons == 2 * 8 * 28 and cost.scores == 0
    assert record.protocol.engine == "trl" and "trl" in record.provenance["packages"]
    assert record.regime == "on-policy groups, comparisons"
    assert record.weights_sha256 == run("hard-pair-grpo").weights_sha256
    assert record.weights_sha256 not in {run("reference").weights_sha256, None}


def test_a_method_of_scores_counts_scores() -> None:
    cost = run("grpo").cost
    assert (cost.scores, cost.comparisons) == (128, 0)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("ppo", "ppo needs data other than fresh groups"),
        ("dpo", "dpo needs data other than fresh groups"),
        ("trl-grpo", "brings its own trainer"),
    ],
)
def test_what_it_cannot_train_is_skipped_with_the_reason(name: str, why: str) -> None:
    skipped = grid(name).skipped
    assert [why in (record.reason or "") for record in skipped] == [True]


def test_control_tasks_are_skipped() -> None:
    (record,) = grid("grpo", task="preference-bandit").skipped
    assert record.reason == "TRL's trainer is for language models"


def test_it_needs_a_budget_of_gradient_steps() -> None:
    with pytest.raises(PairBenchError, match="--budget-gradient-steps"):
        grid("grpo", budget="steps")


def test_identities_of_our_own_loop_are_as_they_were() -> None:
    (spec,) = plan(algorithms=["grpo"], tasks=["preference-bandit"], budget={"steps": 4}).specs
    assert "engine" not in spec.protocol.model_dump(mode="json")
