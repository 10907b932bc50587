"""`PairTrainer`: every on-policy method's loss inside TRL's trainer, on one process and on two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("trl", reason="the extra reference is not installed")

import datasets
import trl
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from pairbench.algorithm import Algorithm
from pairbench.batch import minibatches
from pairbench.errors import PairBenchError
from pairbench.language.policy.policy import LanguagePolicy
from pairbench.language.trl.pair_trainer import PairTrainer
from pairbench.registry import get_algorithm, listing
from pairbench.seeding import generator
from pairbench.teacher import Teacher, TeacherConfig
from tests.support.trl_peer import (
    EOS,
    GROUP,
    LONGEST,
    PROMPTS,
    SCORES,
    common,
    completions,
    gradient,
    move,
    padded,
    policy,
    same,
    sampled,
    text,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


SETTINGS: dict[str, dict[str, Any]] = {
    "disco": {"group_size": GROUP, "difficulty": "logistic"},  # scores are not between 0 and 1
    "ppo": {},
    "rebel": {"group_size": GROUP, "beta": 0.1},  # at 1 its slopes are too large for 1e-5
}


def method(name: str) -> Algorithm:
    kind = get_algorithm(name)
    settings = SETTINGS.get(name, {"group_size": GROUP})
    return kind(kind.Config.model_validate(settings))


def on_policy() -> list[str]:
    """Returns the methods that a group's own members are all the data of."""
    names = []
    for entry in listing("algorithm"):
        kind = get_algorithm(entry.name)
        needs = kind(kind.Config()).needs
        fresh = needs.data == "groups" and not needs.offline
        if fresh and not (needs.critic or needs.enumerable or needs.components or kind.packages):
            names.append(entry.name)
    return names


def trainer(folder: Path, tokenizer: Any, algorithm: Algorithm, **settings: Any) -> PairTrainer:
    """Returns a trainer whose completions and rewards are those of `trl_peer`."""
    return PairTrainer(
        algorithm,
        model=str(folder),
        processing_class=tokenizer,
        args=trl.GRPOConfig(
            **{
                **common(folder),
                "per_device_train_batch_size": 8,
                "steps_per_generation": 2,
                "num_generations": GROUP,
                "max_completion_length": LONGEST,
                **settings,
            }
        ),
        reward_funcs=lambda **rest: SCORES,
        train_dataset=datasets.Dataset.from_dict({"prompt": [text(row) for row in PROMPTS]}),
        rollout_func=lambda texts, _: {
            "prompt_ids": tokenizer(texts)["input_ids"],
            "completion_ids": completions(),
            "logprobs": None,
        },
    )


@pytest.mark.parametrize("name", on_policy())
def test_loss_and_gradient_are_those_of_our_loop(folder: Path, tokenizer: Any, name: str) -> None:
    """To 1e-5, on both minibatches, whose groups our loop's own function has drawn."""
    algorithm = method(name)
    theirs = trainer(folder, tokenizer, algorithm)
    theirs.current_gradient_accumulation_steps = 1
    theirs.model.train()
    move(theirs.model, 1, 0.02)
    inputs = [{"prompt": text(row)} for row in PROMPTS for _ in range(GROUP)]
    first = theirs._prepare_inputs(inputs)
    theirs._step = 1
    second = theirs._prepare_inputs(inputs)
    move(theirs.model, 2, 0.04)

    our = policy(folder)
    batch = sampled(our)
    teacher, draws = Teacher(TeacherConfig()), generator(theirs.args.seed, "oracle")
    scores = np.array(SCORES).reshape(-1, GROUP)
    bare = replace(
        batch, score=None, ref_logp=batch.ref_logp if algorithm.needs.reference else None
    )
    labelled = algorithm.select(teacher.label(bare, scores, algorithm.needs, draws)[0])
    signal = algorithm.prepare(labelled, 0.0, 0)
    draws = generator(theirs.args.seed, "minibatches")
    slopes = []
    for part, (rows, told) in zip(
        (first, second), minibatches(labelled, signal, 2, draws), strict=True
    ):
        found = gradient(theirs.model, theirs.compute_loss(theirs.model, part))
        expected = gradient(our.model, algorithm.loss(our(rows), rows, told).value)
        same(found, expected, least=1e-4)
        slopes.append(found)
    assert any(not torch.equal(a, b) for a, b in zip(slopes[0][1].values(), slopes[1][1].values()))


def test_what_may_not_end_early_is_scored_as_it_is_sampled(folder: Path, tokenizer: Any) -> None:
    """min_new_tokens leaves the end of sequence no probability, as `min_length` does in ours."""
    theirs = trainer(folder, tokenizer, method("grpo"), generation_kwargs={"min_new_tokens": 3})
    theirs.model.eval()
    our = LanguagePolicy(
        AutoModelForCausalLM.from_pretrained(folder, dtype="float32"), EOS, min_length=3
    )
    contexts = padded(PROMPTS, left=True)
    answers = padded(
        [[9, 12, 7, EOS], [4, 5, 6], [11, 2, 3, 8, 10], [20, 30, 40, 50, EOS]], left=False
    )
    expected = our.logp(contexts, answers, (answers >= 0).float())
    with torch.no_grad():
        found = torch.where(answers >= 0, theirs._logp(theirs.model, contexts, answers), 0.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    del theirs.args.generation_kwargs["min_new_tokens"]
    with torch.no_grad():
        free = torch.where(answers >= 0, theirs._logp(theirs.model, contexts, answers), 0.0)
    assert float((free - expected).min()) < -1e-3


@pytest.mark.parametrize(
    ("name", "needed"),
    [("ppo", "data other than"), ("orpo", "data other than"), ("gdpo", "several scores")],
)
def test_a_method_that_trl_has_no_data_for_is_refused(
    folder: Path, tokenizer: Any, name: str, needed: str
) -> None:
    with pytest.raises(PairBenchError, match=f"{name} needs {needed}"):
        trainer(folder, tokenizer, method(name))


def test_groups_of_two_sizes_are_refused(folder: Path, tokenizer: Any) -> None:
    with pytest.raises(PairBenchError, match="groups of 4 and TRL's num_generations is 8"):
        trainer(folder, tokenizer, method("grpo"), num_generations=8)


@pytest.mark.parametrize("reward", [None, float("nan"), float("inf")])
def test_a_completion_without_a_finite_reward_is_an_error(
    folder: Path, tokenizer: Any, reward: float | None
) -> None:
    theirs = trainer(folder, tokenizer, method("grpo"))
    theirs.reward_funcs[0] = lambda **rest: [reward, *SCORES[1:]]
    with pytest.raises(PairBenchError, match="None, NaN or infinity"):
        theirs._prepare_inputs([{"prompt": text(row)} for row in PROMPTS for _ in range(GROUP)])


@pytest.mark.parametrize("name", ["grpo", "gspo", "soft-pair-grpo", "hard-pair-grpo", "tpo"])
def test_completions_cut_off_may_be_masked_whole(folder: Path, tokenizer: Any, name: str) -> None:
    """One of each group is, and its row has no step; then all of a batch."""
    theirs = trainer(folder, tokenizer, method(name), mask_truncated_completions=True)
    theirs.current_gradient_accumulation_steps = 1
    theirs.model.train()
    inputs = [{"prompt": text(row)} for row in PROMPTS for _ in range(GROUP)]
    part = theirs._prepare_inputs(inputs)
    assert int((part["batch"].mask.sum(1) == 0).sum()) == len(part["batch"]) // GROUP
    slope = gradient(theirs.model, theirs.compute_loss(theirs.model, part))
    assert np.isfinite(slope[0]) and all(bool(g.isfinite().all()) for g in slope[1].values())
    part["batch"].mask.zero_()
    assert bool(theirs.compute_loss(theirs.model, part).isfinite())


def test_fewer_groups_than_minibatches_are_an_error(folder: Path, tokenizer: Any) -> None:
    """Sixteen rows in eight minibatches of two would split groups of four."""
    settings = {"per_device_train_batch_size": 2, "steps_per_generation": 8}
    theirs = trainer(folder, tokenizer, method("grpo"), **settings)
    theirs.model.train()
    with pytest.raises(PairBenchError, match="4 groups of 4 do not make 8 minibatches"):
        theirs._prepare_inputs([{"prompt": text(row)} for row in PROMPTS for _ in range(GROUP)])


def launched(folder: Path, out: Path, name: str, processes: int, **settings: Any) -> dict[str, Any]:
    """Returns the weights that `train_pairs.py` ends with on so many processes."""
    root = Path(__file__).resolve().parents[3]
    script = root / "tests" / "support" / "train_pairs.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", str(processes)]
    done = subprocess.run(
        [*command, str(script), str(folder), name, str(out), json.dumps(settings)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root), "ACCELERATE_USE_CPU": "1"},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return load_file(out / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grpo", "hard-pair-grpo"])
def test_two_processes_train_as_one(folder: Path, tmp_path: Path, name: str) -> None:
    """Four gradient steps: two minibatches, twice. Hard-Pair's hinge is of the whole minibatch."""
    shared = {"steps_per_generation": 2, "num_iterations": 2, "max_steps": 4}
    one = launched(folder, tmp_path / "1", name, 1, per_device_train_batch_size=8, **shared)
    two = launched(folder, tmp_path / "2", name, 2, per_device_train_batch_size=4, **shared)
    before = load_file(folder / "model.safetensors")
    assert one.keys() == two.keys() == before.keys()
    for key, weight in one.items():
        torch.testing.assert_close(two[key], weight, rtol=0, atol=1e-6, msg=key)
    assert max(float((one[key] - before[key]).abs().max()) for key in one) > 1e-3
