"""TRL's trainers as rows: they run on a language task, spend what ours spend, and repeat."""

from __future__ import annotations

import dataclasses
import json
import random
import sys
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("trl", reason="the extra reference is not installed")
pytest.importorskip("evaluate", reason="the extra language is not installed")

from pairbench.algorithm import Algorithm
from pairbench.errors import PairBenchError
from pairbench.experiments.suite import plan
from pairbench.language.trl.train import TRLRow
from pairbench.registry import get_algorithm
from pairbench.results.record import RunRecord, RunSpec
from pairbench.seeding import Streams
from pairbench.tasks.toy_dialogue import ToyDialogue
from pairbench.training.loop import Loop
from pairbench.training.run import Run
from pairbench.training.train import train

SMALL = {"sft_steps": 8, "evaluation_prompts": 6, "completion_tokens": 5, "pair_tokens": 6}
ROWS: dict[str, dict[str, Any]] = {
    "trl-grpo": {"contexts": 2, "group_size": 4},
    "trl-dpo": {"contexts": 4},
    "trl-orpo": {"contexts": 4},
}
OURS = {"trl-grpo": "grpo", "trl-dpo": "dpo", "trl-orpo": "orpo"}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache of models for these tests: `tiny` is trained once, for eight steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAIRBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def spec(name: str, task: dict[str, Any] | None = None, **settings: Any) -> RunSpec:
    """Returns a run of four gradient steps on the toy dialogues, small."""
    changes = [
        f"toy-dialogue.{key}={json.dumps(v)}" for key, v in {**SMALL, **(task or {})}.items()
    ]
    changes += [f"{name}.{key}={json.dumps(value)}" for key, value in settings.items()]
    grid = plan(
        algorithms=[name],
        tasks=["toy-dialogue"],
        budget={"gradient_steps": 4},
        protocol={"evaluations": 2, "probes": 0},
        overrides=changes,
    )
    (only,) = grid.specs
    return only


def run(name: str, task: dict[str, Any] | None = None, **settings: Any) -> RunRecord:
    record = train(spec(name, task, **settings)).record
    assert record.status == "finished", record.reason
    return record


def weights(name: str, task: dict[str, Any], **settings: Any) -> dict[str, torch.Tensor]:
    """Returns the weights with which such a run ends."""
    what = spec(name, task, **settings)
    cls = get_algorithm(name)
    algorithm = cls(cls.Config(**what.algorithm_config))
    dialogues, streams = ToyDialogue(ToyDialogue.Config(**what.task_config)), Streams(what.seed)
    begun = Run(what, algorithm, dialogues, dialogues.begin(algorithm, streams), streams)
    if isinstance(algorithm, TRLRow):
        algorithm.fit(begun)
    elif isinstance(algorithm, Algorithm):
        Loop(begun, None, 0.0).execute()
    return {key: tensor.clone() for key, tensor in begun.policy.state().items()}


def kept(record: RunRecord) -> dict[str, Any]:
    return record.model_dump(exclude={"provenance": True, "cost": {"seconds"}})


def global_generators() -> str:
    """Returns the state of Python's, NumPy's and torch's own generators."""
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002 (the global one is meant)
    return repr((random.getstate(), numpy_state, torch.get_rng_state().tolist()))


@pytest.mark.parametrize("name", ROWS)
def test_each_trains_spends_what_ours_spends_and_repeats(
    name: str, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    """Nothing is printed; the process's random generators are as they were."""
    before = global_generators()
    first = run(name, **ROWS[name])
    assert global_generators() == before
    assert capfd.readouterr() == ("", "")
    assert not list(recwarn)
    assert kept(run(name, **ROWS[name])) == kept(first)
    other = run(name, **{**ROWS[name], "lr": 1e-3})
    assert other.weights_sha256 != first.weights_sha256 != run("reference").weights_sha256
    assert first.provenance["packages"]["trl"] == "1.16.0"
    ours = run(OURS[name], **ROWS[name])
    assert kept(first)["cost"] == kept(ours)["cost"]
    assert [(p.steps, p.labels, p.gradient_steps) for p in first.curve] == [
        (p.steps, p.labels, p.gradient_steps) for p in ours.curve
    ]


@pytest.mark.parametrize("name", ROWS)
def test_settings_have_trls_names_and_defaults(name: str) -> None:
    """But for sizes and the clipping of gradients, which are PairBench's for every row."""
    import trl
    from trl.experimental import orpo

    theirs = {"trl-grpo": trl.GRPOConfig, "trl-dpo": trl.DPOConfig, "trl-orpo": orpo.ORPOConfig}
    defaults = {field.name: field.default for field in dataclasses.fields(theirs[name])}
    if name == "trl-dpo":
        defaults["loss_type"] = "sigmoid"  # TRL's is a list of it alone
        made = [
            f.default_factory for f in dataclasses.fields(trl.DPOConfig) if f.name == "loss_type"
        ]
        assert [make() for make in made] == [["sigmoid"]]  # type: ignore[operator]
    config = get_algorithm(name).Config()
    assert isinstance(config, TRLRow.Config)
    optimiser = ("adam_beta1", "adam_beta2", "weight_decay", "disable_dropout")
    settings = config.by_trl_name() | {key: getattr(config, key) for key in optimiser}
    assert settings == {key: defaults[key] for key in settings}
    assert config.lr == defaults["learning_rate"]
    if name == "trl-grpo":
        assert config.group_size == defaults["num_generations"]
        assert config.epochs == defaults["num_iterations"]


def test_dpo_is_theirs_weight_for_weight() -> None:
    """Without forbidden tokens, with one minibatch and one epsilon: same pairs, same steps."""
    same: dict[str, Any] = {"contexts": 4, "minibatches": 1, "lr": 1e-3}
    task = {"fixed_length": False}
    theirs = weights("trl-dpo", task, **same)
    ours = weights("dpo", task, **same)
    initial = weights("reference", task)
    assert max(float((ours[key] - initial[key]).abs().max()) for key in ours) > 2e-3
    for key in ours:
        torch.testing.assert_close(theirs[key], ours[key], rtol=1e-4, atol=2e-5)


def test_sizes_that_trl_cannot_have_are_refused() -> None:
    with pytest.raises(ValueError, match="9 rows an iteration do not divide by minibatches = 2"):
        get_algorithm("trl-grpo").Config.model_validate(
            {"contexts": 3, "group_size": 3, "minibatches": 2}
        )
    assert get_algorithm("trl-dpo").Config.model_validate({"contexts": 4, "minibatches": 2})


def test_adapters_are_refused_in_words() -> None:
    record = train(spec("trl-dpo", {"lora_rank": 2}, **ROWS["trl-dpo"])).record
    assert record.reason is not None
    assert "trl-dpo trains every weight in float32" in record.reason


def test_without_trl_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(PairBenchError, match=r"pip install 'pairbench\[reference,language\]'"):
        weights("trl-grpo", {}, **ROWS["trl-grpo"])


def test_other_kinds_of_task_are_skipped() -> None:
    grid = plan(algorithms=list(ROWS), tasks=["preference-bandit"], budget={"gradient_steps": 4})
    assert len(grid.skipped) == 3 and "language tasks only" in str(grid.skipped[0].reason)
