"""Losses of pairs and of labels, and their gradients, are those of TRL's trainers, to 1e-5.

As in test_parity: both libraries are given one small model and the same pairs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("trl", reason="the extra reference is not installed")

import trl

from pairbench.algorithm import Algorithm
from pairbench.algorithms.kto import KTO
from pairbench.registry import get_algorithm
from tests.support.trl_peer import (
    PROMPTS,
    Case,
    Loss,
    combined,
    common,
    gradient,
    move,
    our_pairs,
    ours,
    policy,
    same,
    trainer_of_pairs,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def of_both(
    folder: Path, tokenizer: Any, kind: Any, arguments: Any, methods: list[Algorithm]
) -> tuple[Loss, list[Loss], Any]:
    """Returns the loss of a trainer of TRL's, those of methods of ours, and the trainer."""
    trainer, inputs = trainer_of_pairs(kind, arguments, folder, tokenizer, PROMPTS[:3])
    theirs = gradient(trainer.model, trainer.compute_loss(trainer.model, inputs))
    our = policy(folder)
    batch = our_pairs(our, PROMPTS[:3])
    move(our.model, 2, 0.04)
    return theirs, [ours(method, our, batch) for method in methods], trainer


def make(name: str, settings: dict[str, Any]) -> Algorithm:
    """Returns a method of ours."""
    cls = get_algorithm(name)
    assert issubclass(cls, Algorithm)
    return cls(cls.Config.model_validate(settings))


LOSSES: list[tuple[str, str, dict[str, Any]]] = [
    ("slic", "hinge", {}),
    ("exo-pair", "exo_pair", {"label_smoothing": 1e-3}),
    ("exo-pair", "exo_pair", {"label_smoothing": 0.2}),
    ("nca-pair", "nca_pair", {}),
    ("robust-dpo", "robust", {"label_smoothing": 0.1}),
    ("robust-dpo", "robust", {"label_smoothing": 0.3}),
    ("sppo-hard", "sppo_hard", {}),
    ("aot", "aot", {}),
    ("aot", "aot", {"label_smoothing": 0.2}),
    ("aot-unpaired", "aot_unpaired", {}),
    ("aot-unpaired", "aot_unpaired", {"label_smoothing": 0.2}),
    ("apo-zero", "apo_zero", {}),
    ("apo-down", "apo_down", {}),
    ("discopop", "discopop", {"tau": 0.05}),
    ("discopop", "discopop", {"tau": 0.5}),
    ("sft", "sft", {}),
    ("dpo-norm", "sigmoid_norm", {}),
    ("ipo", "ipo", {"loss_type": "ipo-mean"}),
    ("bco", "bco_pair", {"shift": False}),
]
OURS_ALONE = {"loss_type", "shift"}


@pytest.mark.parametrize("beta", [0.1, 1.5])
@pytest.mark.parametrize(
    ("name", "theirs", "settings"), LOSSES, ids=[f"{row[0]}-{row[2]}" for row in LOSSES]
)
def test_every_loss_type(
    folder: Path, tokenizer: Any, name: str, theirs: str, settings: dict[str, Any], beta: float
) -> None:
    shared = {key: value for key, value in settings.items() if key not in OURS_ALONE}
    named = {"discopop_tau" if key == "tau" else key: value for key, value in shared.items()}
    arguments = trl.DPOConfig(
        **common(folder), **named, loss_type=theirs, beta=beta, per_device_train_batch_size=3
    )
    method = make(name, {**settings, "beta": beta})
    their, (our,), _ = of_both(folder, tokenizer, trl.DPOTrainer, arguments, [method])
    case: Case = (name, f"TRL 1.16 DPOTrainer, {theirs}", {**shared, "beta": beta})
    same(their, our, case, least=1e-3)


def test_every_loss_type_of_trls_is_here() -> None:
    """`sigmoid` is in test_parity."""
    told = trl.DPOConfig.__dataclass_fields__["loss_type"].metadata["help"]
    assert set(re.findall(r"'(\w+)'", told)) == {row[1] for row in LOSSES} | {"sigmoid"}


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_rpo_is_two_of_their_losses(folder: Path, tokenizer: Any, alpha: float) -> None:
    arguments = trl.DPOConfig(
        **common(folder),
        loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, alpha],
        beta=0.3,
        per_device_train_batch_size=3,
    )
    method = make("rpo", {"beta": 0.3, "alpha": alpha})
    their, (our,), _ = of_both(folder, tokenizer, trl.DPOTrainer, arguments, [method])
    options = {"loss_weights": f"1, {alpha}", "beta": 0.3}
    same(their, our, ("rpo", "TRL 1.16 DPOTrainer, sigmoid and sft", options))


@pytest.mark.parametrize(
    ("name", "theirs", "settings"),
    [
        ("cpo", {"loss_type": "sigmoid", "cpo_alpha": 1.0}, {"alpha": 1.0}),
        (
            "cpo",
            {"loss_type": "sigmoid", "cpo_alpha": 0.2, "label_smoothing": 0.1},
            {"alpha": 0.2, "label_smoothing": 0.1},
        ),
        ("simpo", {"loss_type": "simpo", "cpo_alpha": 0.0, "simpo_gamma": 0.5}, {"gamma": 0.5}),
        ("simpo", {"loss_type": "simpo", "cpo_alpha": 0.0, "simpo_gamma": 1.6}, {"gamma": 1.6}),
        (
            "cpo-simpo",
            {"loss_type": "simpo", "cpo_alpha": 0.3, "simpo_gamma": 0.5},
            {"alpha": 0.3, "gamma": 0.5},
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_losses_without_a_reference(
    folder: Path,
    tokenizer: Any,
    name: str,
    theirs: dict[str, Any],
    settings: dict[str, Any],
    beta: float,
) -> None:
    from trl.experimental import cpo

    arguments = cpo.CPOConfig(
        **common(folder),
        **theirs,
        beta=beta,
        remove_unused_columns=False,
        per_device_train_batch_size=3,
    )
    method = make(name, {**settings, "beta": beta})
    their, (our,), _ = of_both(folder, tokenizer, cpo.CPOTrainer, arguments, [method])
    options = {key: value for key, value in theirs.items() if key != "loss_type"}
    same(their, our, (name, f"TRL 1.16 CPOTrainer, {theirs['loss_type']}", options))


class AtTheirs(KTO):
    """KTO at a given z."""

    z: Tensor

    def usual(self, ratios: Tensor, kl: Tensor | None) -> Tensor:
        return self.z


@pytest.mark.parametrize("beta", [0.1, 1.5])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.33, 0.7)])
def test_kto_at_their_z(
    folder: Path, tokenizer: Any, weights: tuple[float, float], beta: float
) -> None:
    """TRL takes z from mismatched prompts and responses, which no batch of ours holds."""
    arguments = trl.KTOConfig(
        **common(folder),
        beta=beta,
        desirable_weight=weights[0],
        undesirable_weight=weights[1],
        per_device_train_batch_size=6,
    )
    method = AtTheirs(KTO.Config(beta=beta, desirable=weights[0], undesirable=weights[1]))
    AtTheirs.z = torch.zeros(())
    their, _, trainer = of_both(folder, tokenizer, trl.KTOTrainer, arguments, [])
    AtTheirs.z = torch.tensor(trainer._metrics["train"]["kl"][-1])
    assert float(AtTheirs.z) > 0.1
    our = policy(folder)
    batch = our_pairs(our, PROMPTS[:3])
    move(our.model, 2, 0.04)
    options = {"beta": beta, "desirable_weight": weights[0], "undesirable_weight": weights[1]}
    case: Case = ("kto", "TRL 1.16 KTOTrainer, at its z", options)
    same(their, ours(method, our, batch), case, least=1e-3)


def test_apo_zero_is_their_unpaired_one(folder: Path, tokenizer: Any) -> None:
    """KTO's trainer takes the mean over responses, of which a pair has two."""
    arguments = trl.KTOConfig(
        **common(folder), loss_type="apo_zero_unpaired", beta=0.7, per_device_train_batch_size=6
    )
    method = make("apo-zero", {"beta": 0.7})
    their, (our,), _ = of_both(folder, tokenizer, trl.KTOTrainer, arguments, [method])
    case: Case = ("apo-zero", "TRL 1.16 KTOTrainer, apo_zero_unpaired, times 2", {"beta": 0.7})
    same(combined((2.0, their)), our, case)
