"""The losses of grpo, dpo and orpo, and their gradients, are those of TRL's trainers, to 1e-5.

A small random Llama in float32 is given to both libraries, which then see the same batch: real
trainer objects make it of texts and rewards, their own `compute_loss` judges it, and the policy's
weights lie apart from those that sampled it and from the reference's. Where the two differ by
definition, a test says how, and checks what that leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="the extra reference is not installed")

import datasets
import trl
from trl.trainer.utils import split_tensor_dict

from pairbench.algorithms.dpo import DPO
from pairbench.algorithms.grpo import GRPO
from pairbench.algorithms.orpo import ORPO
from pairbench.registry import get_algorithm
from tests.support.trl_peer import (
    ANSWERS,
    GROUP,
    LONGEST,
    PROMPTS,
    SCORES,
    Loss,
    combined,
    common,
    completions,
    gradient,
    move,
    our_pairs,
    ours,
    policy,
    same,
    sampled,
    swapped,
    text,
    trainer_of_pairs,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

# GRPO


def their_grpo(
    folder: Path,
    tokenizer: Any,
    settings: dict[str, Any],
    kind: Any = trl.GRPOTrainer,
    arguments: Any = trl.GRPOConfig,
) -> Callable[[], list[Loss]]:
    """Returns a function: the losses of the two minibatches that TRL makes of the batch.

    The reference is the model in the folder; the batch is sampled after `move(model, 1, ...)` and
    judged after `move(model, 2, ...)`.
    """
    prompts = [row for row in PROMPTS for _ in range(GROUP)]
    trainer = kind(
        model=str(folder),
        processing_class=tokenizer,
        args=arguments(
            **common(folder),
            **settings,
            per_device_train_batch_size=len(prompts) // 2,
            steps_per_generation=2,
            num_generations=GROUP,
            max_completion_length=LONGEST,
        ),
        reward_funcs=lambda **rest: SCORES,
        train_dataset=datasets.Dataset.from_dict({"prompt": [text(row) for row in PROMPTS]}),
        rollout_func=lambda texts, _: {
            "prompt_ids": tokenizer(texts)["input_ids"],
            "completion_ids": completions(),
            "logprobs": None,
        },
    )
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()

    def losses() -> list[Loss]:
        move(trainer.model, 1, 0.02)
        inputs = trainer._generate_and_score_completions([{"prompt": text(row)} for row in prompts])
        assert inputs["old_per_token_logps"].shape == (16, LONGEST)
        move(trainer.model, 2, 0.04)
        return [
            gradient(trainer.model, trainer.compute_loss(trainer.model, part))
            for part in split_tensor_dict(inputs, 2)
        ]

    return losses


def our_grpo(folder: Path, settings: dict[str, Any], name: str = "grpo") -> list[Loss]:
    """Returns the same of ours, or of a row that is GRPO but for a term."""
    our = policy(folder)
    batch = sampled(our)
    cls = get_algorithm(name)
    assert issubclass(cls, GRPO)
    algorithm = cls(
        cls.Config.model_validate({"group_size": GROUP, "max_length": LONGEST, **settings})
    )
    now = our.logp(batch.contexts, batch.responses, batch.mask)
    ratio = (now - batch.old_logp).exp()[batch.mask > 0]
    assert float(ratio.min()) < 0.75 and float(ratio.max()) > 1.35  # the clip has something to do
    return [ours(algorithm, our, batch, half) for half in (slice(0, 8), slice(8, 16))]


AGGREGATIONS = ["grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo"]
LEVELS = {"token": "token", "sequence": "sequence_mean"}
PENALTIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no KL": ({"beta": 0.0}, {"beta": 0.0}),
    "k3": (
        {"beta": 0.3, "use_bias_correction_kl": False},
        {"beta": 0.3, "penalty": "k3"},
    ),
    "k3 times the ratio": (
        {"beta": 0.3, "use_bias_correction_kl": True},
        {"beta": 0.3, "penalty": "k3-bias-corrected"},
    ),
}


def both(
    folder: Path, tokenizer: Any, theirs: dict[str, Any], settings: dict[str, Any]
) -> list[Loss]:
    """Asserts that both minibatches agree; returns ours."""
    result = our_grpo(folder, settings)
    for their, our in zip(their_grpo(folder, tokenizer, theirs)(), result, strict=True):
        same(their, our, ("grpo", "TRL 1.16 GRPOTrainer", theirs))
    return result


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_grpo_with_every_loss_type_level_and_penalty(
    folder: Path, tokenizer: Any, aggregation: str, level: str, penalty: str
) -> None:
    """Under cispo TRL's epsilon_high is the cap of the ratio, here 1.1; else it is 0.2 on 1.

    `vespo` is TRL's alone, whole-response ratios (`trajectory`) are ours alone.
    """
    cispo = aggregation == "cispo"
    theirs, settings = PENALTIES[penalty]
    both(
        folder,
        tokenizer,
        {
            "loss_type": aggregation,
            "importance_sampling_level": level,
            "epsilon_high": 1.1 if cispo else None,
            **theirs,
        },
        {
            "aggregation": aggregation,
            "ratio_level": LEVELS[level],
            **({"cispo_cap": 1.1} if cispo else {}),
            **settings,
        },
    )


@pytest.mark.parametrize(
    ("theirs", "settings"),
    [
        ({"scale_rewards": "none"}, {"std": "none"}),
        ({"scale_rewards": "batch"}, {"std": "batch"}),
        ({"epsilon": 0.1, "epsilon_high": 0.28}, {"clip_low": 0.1, "clip_high": 0.28}),
        ({"delta": 1.25}, {"delta": 1.25}),
        ({"delta": 1.6}, {"delta": 1.6}),
        (
            {"loss_type": "sapo", "sapo_temperature_pos": 2.0, "sapo_temperature_neg": 0.5},
            {"aggregation": "sapo", "sapo_tau_positive": 2.0, "sapo_tau_negative": 0.5},
        ),
    ],
    ids=str,
)
def test_grpo_with_every_other_setting(
    folder: Path, tokenizer: Any, theirs: dict[str, Any], settings: dict[str, Any]
) -> None:
    """Each of them changes the loss. The population's standard deviation is ours alone."""
    plain = {"aggregation": settings.get("aggregation", "grpo"), "beta": 0.0}
    changed = both(
        folder, tokenizer, {"loss_type": "grpo", "beta": 0.0, **theirs}, {**plain, **settings}
    )
    default = our_grpo(folder, plain)
    assert any(abs(float(a[0] - b[0])) > 1e-3 for a, b in zip(changed, default))


ROWS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("dapo", {"loss_type": "dapo", "epsilon_high": 0.28}, {"dynamic": False}),
    ("cispo", {"loss_type": "cispo", "epsilon_high": 1.1}, {"cispo_cap": 1.1}),
    ("sapo", {"loss_type": "sapo"}, {}),
    (
        "luspo",
        {
            "loss_type": "luspo",
            "importance_sampling_level": "sequence",
            "epsilon": 3e-4,
            "epsilon_high": 4e-4,
        },
        {},
    ),
    ("lite-ppo", {"loss_type": "dapo", "scale_rewards": "batch"}, {}),
    ("bnpo", {"loss_type": "bnpo"}, {}),
    ("dr-grpo", {"loss_type": "dr_grpo", "scale_rewards": "none"}, {}),
    (
        "gspo",
        {
            "loss_type": "grpo",
            "importance_sampling_level": "sequence",
            "epsilon": 0.05,
            "epsilon_high": 0.05,
        },
        {"clip_low": 0.05, "clip_high": 0.05},
    ),
    ("vespo", {"loss_type": "vespo"}, {}),
    (
        "vespo",
        {
            "loss_type": "vespo",
            "vespo_k_pos": 1.0,
            "vespo_lambda_pos": 2.0,
            "vespo_k_neg": 0.5,
            "vespo_lambda_neg": 4.0,
        },
        {"k_positive": 1.0, "lam_positive": 2.0, "k_negative": 0.5, "lam_negative": 4.0},
    ),
]


@pytest.mark.parametrize(("name", "theirs", "settings"), ROWS, ids=str)
def test_rows_by_name(
    folder: Path, tokenizer: Any, name: str, theirs: dict[str, Any], settings: dict[str, Any]
) -> None:
    """At their own defaults, without KL."""
    found = our_grpo(folder, settings, name)
    for their, our in zip(their_grpo(folder, tokenizer, {"beta": 0.0, **theirs})(), found):
        same(their, our, (name, f"TRL 1.16 GRPOTrainer, {theirs['loss_type']}", theirs))


@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("clip", [0.4, 0.15])
def test_gmpo(folder: Path, tokenizer: Any, clip: float, beta: float) -> None:
    from trl.experimental import gmpo

    theirs: dict[str, Any] = {"epsilon": clip, "beta": beta}
    trainer = their_grpo(folder, tokenizer, theirs, gmpo.GMPOTrainer, gmpo.GMPOConfig)
    settings = {"clip_low": clip, "clip_high": clip, "beta": beta}
    for their, our in zip(trainer(), our_grpo(folder, settings, "gmpo")):
        same(their, our, ("gmpo", "TRL 1.16 GMPOTrainer", theirs))


# pairs


def dpo_of_both(
    folder: Path, tokenizer: Any, theirs: dict[str, Any], settings: dict[str, Any]
) -> tuple[Loss, Loss, Loss]:
    """Returns TRL's loss, TRL's with the labels flipped, and ours."""
    arguments = trl.DPOConfig(**common(folder), **theirs, per_device_train_batch_size=3)
    trainer, inputs = trainer_of_pairs(trl.DPOTrainer, arguments, folder, tokenizer, PROMPTS[:3])
    found = [
        gradient(trainer.model, trainer.compute_loss(trainer.model, part))
        for part in (inputs, swapped(inputs))
    ]
    our = policy(folder)
    batch = our_pairs(our, PROMPTS[:3])
    move(our.model, 2, 0.04)
    return found[0], found[1], ours(DPO(DPO.Config(**settings)), our, batch)


@pytest.mark.parametrize("beta", [0.1, 1.5])
@pytest.mark.parametrize(("theirs", "name"), [("sigmoid", "sigmoid"), ("ipo", "ipo-mean")])
def test_dpo(folder: Path, tokenizer: Any, theirs: str, name: str, beta: float) -> None:
    """TRL's ipo is on means over tokens, our ipo-mean."""
    their, _, our = dpo_of_both(
        folder,
        tokenizer,
        {"loss_type": theirs, "beta": beta},
        {"loss_type": name, "beta": beta},
    )
    same(their, our, ("dpo", f"TRL 1.16 DPOTrainer, {theirs}", {"beta": beta}))


def test_label_smoothing_is_the_mean_over_flipped_labels(folder: Path, tokenizer: Any) -> None:
    """TRL 1.16 has no conservative DPO; it is TRL's sigmoid loss where 1 in 5 labels is flipped.

    TRL's "robust" is another estimate from the same two losses.
    """
    share = 0.2
    settings = {"beta": 0.7, "label_smoothing": share}
    as_labelled, flipped, our = dpo_of_both(folder, tokenizer, {"beta": 0.7}, settings)
    same(combined((1 - share, as_labelled), (share, flipped)), our)
    robust, _, _ = dpo_of_both(folder, tokenizer, {**settings, "loss_type": "robust"}, settings)
    factors = (1 - share) / (1 - 2 * share), -share / (1 - 2 * share)
    same(robust, combined((factors[0], as_labelled), (factors[1], flipped)))


def test_ipo_on_sums_is_theirs_for_answers_of_one_length(folder: Path, tokenizer: Any) -> None:
    """With n tokens, (d - 1 / 2b)^2 = n^2 (d / n - 1 / 2nb)^2: TRL's at beta nb, times n^2."""
    tokens, beta = 4, 0.3
    pairs = [([4, 19, 27], [33, 2, 5]), ([9, 10, 11], [41, 5, 6]), ([55, 7, 29], [8, 8, 9])]
    arguments = trl.DPOConfig(
        **common(folder), loss_type="ipo", beta=tokens * beta, per_device_train_batch_size=3
    )
    trainer, inputs = trainer_of_pairs(
        trl.DPOTrainer, arguments, folder, tokenizer, PROMPTS[:3], pairs
    )
    theirs = gradient(trainer.model, trainer.compute_loss(trainer.model, inputs))
    our = policy(folder)
    batch = our_pairs(our, PROMPTS[:3], pairs)
    move(our.model, 2, 0.04)
    got = ours(DPO(DPO.Config(loss_type="ipo", beta=beta)), our, batch)
    same(theirs, combined((1 / tokens**2, got)))


# ORPO


def orpo_of_both(
    folder: Path, tokenizer: Any, prompts: Sequence[Sequence[int]], weight: float
) -> tuple[Loss, Loss]:
    """Returns TRL's loss and ours."""
    from trl.experimental import orpo as trl_orpo

    arguments = trl_orpo.ORPOConfig(
        **common(folder), beta=weight, remove_unused_columns=False, per_device_train_batch_size=3
    )
    trainer, inputs = trainer_of_pairs(trl_orpo.ORPOTrainer, arguments, folder, tokenizer, prompts)
    theirs = gradient(trainer.model, trainer.compute_loss(trainer.model, inputs))
    our = policy(folder)
    batch = our_pairs(our, prompts)
    move(our.model, 2, 0.04)
    return theirs, ours(ORPO(ORPO.Config(lam=weight)), our, batch)


@pytest.mark.parametrize("weight", [0.0, 0.1, 2.0])
def test_orpo_with_prompts_of_one_token(folder: Path, tokenizer: Any, weight: float) -> None:
    """TRL's likelihood counts the prompt's tokens but the first, which nothing predicts."""
    both = orpo_of_both(folder, tokenizer, [[5], [9], [33]], weight)
    same(*both, ("orpo", "TRL 1.16 ORPOTrainer, prompts of one token", {"beta": weight}))


def test_orpo_otherwise_differs_by_the_likelihood_of_prompts(folder: Path, tokenizer: Any) -> None:
    """The odds-ratio terms agree; TRL's likelihood is ours of answers that begin in the prompt."""
    prompts = PROMPTS[:3]
    theirs, got = orpo_of_both(folder, tokenizer, prompts, 0.7)
    their_likelihood, our_likelihood = orpo_of_both(folder, tokenizer, prompts, 0.0)
    assert abs(float(their_likelihood[0] - our_likelihood[0])) > 0.01
    same(combined((1, theirs), (-1, their_likelihood)), combined((1, got), (-1, our_likelihood)))
    our = policy(folder)
    longer = [([*p[1:], *a], [*p[1:], *b]) for p, (a, b) in zip(prompts, ANSWERS)]
    batch = our_pairs(our, [prompt[:1] for prompt in prompts], longer)
    move(our.model, 2, 0.04)
    same(their_likelihood, ours(ORPO(ORPO.Config(lam=0.0)), our, batch))
