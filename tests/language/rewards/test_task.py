"""Prompts and functions of a user's own, as a task: trained, ranked, and known by content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the extra language is not installed")
pytest.importorskip("evaluate", reason="the extra language is not installed")

from pairbench.errors import PairBenchError
from pairbench.experiments.runner import run
from pairbench.experiments.suite import plan
from pairbench.language.rewards.task import PromptTask
from pairbench.places import PLACES
from pairbench.results.record import RunSpec
from pairbench.training.train import train

REWARDS = """
def correct(completions, answer, **columns):
    return [float(a in c) for c, a in zip(completions, answer)]
def short(completions, **columns):
    return [1 / (1 + len(c)) for c in completions]
def some(completions, **columns):
    return [None if c else 0.5 for c in completions]
"""
SMALL = {"sft_steps": 8, "completion_tokens": 4, "samples": 4}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAIRBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, which is where the commands are given."""
    monkeypatch.setenv(PLACES, "{}")
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"what is {k}?", "answer": str(k)} for k in range(12)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "task_rewards.py").write_text(REWARDS)
    return tmp_path


def changes(*reward: str, name: str = "mine", **more: Any) -> list[str]:
    """Returns the texts of --set for a task of this name."""
    written = [f"task_rewards.py:{one}" for one in reward]
    settings = {**SMALL, "path": "prompts.jsonl", "reward": written, **more}
    return [f"{name}.{key}={json.dumps(value)}" for key, value in settings.items()]


def spec(algorithm: str, *reward: str, **more: Any) -> RunSpec:
    grid = plan(
        algorithms=[algorithm],
        tasks=["mine"],
        budget={"gradient_steps": 2},
        protocol={"evaluations": 1, "probes": 0},
        overrides=changes(*reward, **more),
    )
    assert grid.skipped == []
    return grid.specs[0]


def test_a_function_trains_and_ranks_by_its_name(folder: Path) -> None:
    asked = spec("grpo", "correct")
    assert asked.task == "prompts:mine"
    assert asked.task_config["reward"] == ["task_rewards.py:correct"]
    assert str(folder) not in json.dumps(asked.task_config)
    result = train(asked)
    record = result.record
    assert record.status == "finished", record.reason
    assert record.evaluation is not None
    assert list(record.evaluation.scores) == ["correct"]
    assert len(record.evaluation.scores["correct"]) == len(result.texts["prompt"]) == 2
    assert {"pass@1", "pass@2", "pass@4", "kl_ref"} <= record.evaluation.measures.keys()
    assert {"data", "source of task_rewards.py:correct"} <= record.read.keys()
    assert "judges" not in record.provenance["task"]
    again = train(asked).record
    assert again.weights_sha256 == record.weights_sha256
    assert again.evaluation == record.evaluation


def test_one_ranks_that_trains_nobody_and_several_are_summed(folder: Path) -> None:
    gold = "task_rewards.py:correct"
    record = train(spec("rloo", "short", "some=0.5", gold=gold)).record
    assert record.status == "finished", record.reason
    assert record.evaluation is not None
    assert list(record.evaluation.scores) == ["correct", "short + 0.5 some"]
    assert "short" in record.evaluation.measures and "pass@1" in record.evaluation.measures
    meanings = {one.name: one.meaning for one in record.measures}
    assert meanings["short"] == "Mean of task_rewards.py:short where it applies"
    assert PromptTask.code(record.task_config) == [
        "task_rewards.py:short", "task_rewards.py:some=0.5", gold,
    ]  # fmt: skip


def test_a_method_of_several_rewards_has_each_function(folder: Path) -> None:
    record = train(spec("gdpo", "correct", "short")).record
    assert record.status == "finished", record.reason


def test_what_has_no_use_for_prompts_is_skipped(folder: Path) -> None:
    grid = plan(
        algorithms=["dpo", "gdpo", "random"],
        tasks=["mine"],
        budget={"gradient_steps": 1},
        overrides=changes("correct"),
    )
    reasons = " ".join(str(record.reason) for record in grid.skipped)
    assert "dpo reads pairs of answers" in reasons and "needs several rewards" in reasons
    assert "no random policy" in reasons and grid.specs == []


def ran(**more: Any) -> Any:
    return run(
        algorithms=["reference"],
        tasks=["mine"],
        budget={"gradient_steps": 1},
        protocol={"evaluations": 1, "probes": 0},
        overrides=changes("correct", **more),
        workers=1,
    )


def test_an_edited_function_is_refused_by_name(folder: Path) -> None:
    (record,) = ran()
    assert record.status == "finished", record.reason
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere/copy.jsonl").write_text((folder / "prompts.jsonl").read_text())
    assert ran(path="elsewhere/copy.jsonl")[0].identity == record.identity
    file = folder / "task_rewards.py"
    file.write_text("# a remark\n" + REWARDS)
    assert ran()[0].identity == record.identity
    file.write_text(REWARDS.replace("a in c", "a == c"))
    with pytest.raises(
        PairBenchError, match=r"source of task_rewards\.py:correct changed: .*aside"
    ):
        ran()


@pytest.mark.parametrize(
    ("reward", "more", "said"),
    [
        ((), {}, "mine has no reward function: add --reward"),
        (("correct",), {"path": ""}, "mine has no prompts: name a file"),
        (("wrong",), {}, "has no function 'wrong'"),
        (("some",), {"gold": "task_rewards.py:gone"}, "has no function 'gone'"),
        (("correct",), {"sft": "anwser"}, "mine has no column 'anwser' for tiny"),
    ],
)
def test_mistakes_are_said_before_the_first_run(
    folder: Path, reward: tuple[str, ...], more: dict[str, Any], said: str
) -> None:
    grid = plan(
        algorithms=["grpo"],
        tasks=["mine"],
        budget={"gradient_steps": 1},
        overrides=changes(*reward, **more),
    )
    (task,) = grid.tasks_of(grid.specs)
    with pytest.raises(PairBenchError, match=said):
        task.check()


def test_a_batch_of_more_prompts_than_there_are_has_some_twice(folder: Path) -> None:
    asked = spec("grpo", "correct")
    config = {**asked.algorithm_config, "contexts": 20}
    record = train(asked.model_copy(update={"algorithm_config": config})).record
    assert record.status == "finished", record.reason
