"""Every built-in algorithm: its presets are valid settings, and it says where it comes from."""

from __future__ import annotations

import pytest

from pairbench.algorithm import Algorithm, Floor, Method
from pairbench.algorithms.amir_grpo import AMIRGRPO
from pairbench.algorithms.brain import BRAIn
from pairbench.algorithms.disco import DISCO
from pairbench.algorithms.dpo import DPO
from pairbench.algorithms.gdpo import GDPO
from pairbench.algorithms.grpo import GRPO
from pairbench.algorithms.hard_pair_grpo import HardPairGRPO
from pairbench.algorithms.orpo import ORPO
from pairbench.algorithms.pods import PODS
from pairbench.algorithms.ppo import PPO
from pairbench.algorithms.random import Random
from pairbench.algorithms.reference import Reference
from pairbench.algorithms.ropo import ROPO
from pairbench.algorithms.soft_pair_grpo import SoftPairGRPO
from pairbench.algorithms.tpo import TPO
from pairbench.registry import get_algorithm

FAMILY = [
    get_algorithm(name)
    for name in (
        "dr-grpo", "gspo", "tic-grpo", "rloo", "krpo", "corpo", "rlrr", "gvpo",
        "policy-mirror-descent", "f-grpo",
    )
]  # fmt: skip
ALL: list[type[Method]] = [
    PPO,
    GRPO,
    SoftPairGRPO,
    HardPairGRPO,
    DPO,
    ORPO,
    Reference,
    Random,
    GDPO,
    PODS,
    DISCO,
    BRAIn,
    TPO,
    AMIRGRPO,
    ROPO,
]

SEGMENTS: list[type[Method]] = [GRPO, SoftPairGRPO, HardPairGRPO, DPO]
SEGMENTS += [GDPO, PODS, DISCO, BRAIn, TPO, AMIRGRPO, ROPO]


@pytest.mark.parametrize("cls", [*ALL, *FAMILY, get_algorithm("f-hal")], ids=lambda cls: cls.name)
def test_presets_and_documents(cls: type[Method]) -> None:
    assert cls.source
    assert cls.__doc__
    for kind, settings in cls.presets.items():
        base = cls.presets.get(kind.split("@")[0], {})
        config = cls.Config.model_validate({**base, **settings})
        assert cls(config).regime


@pytest.mark.parametrize("cls", [*SEGMENTS, *FAMILY], ids=lambda cls: cls.name)
def test_group_methods_take_1024_steps_an_iteration_on_control(cls: type[Method]) -> None:
    """Equal data per iteration makes the control rows comparable; 512 steps critic-free."""
    control = cls.presets["control"]
    for settings, steps in (
        (control, 1024),
        ({**control, **cls.presets["control@critic-free"]}, 512),
    ):
        config = cls.Config.model_validate(settings)
        assert config.contexts * config.group_size * config.segment == steps


def test_floors_do_not_learn() -> None:
    for cls, policy in ((Reference, "reference"), (Random, "random")):
        method = cls(cls.Config())
        assert isinstance(method, Floor) and not isinstance(method, Algorithm)
        assert method.policy == policy
        assert method.needs.data == "nothing"
        assert method.regime == "no training"
    assert all(issubclass(cls, Algorithm) for cls in ALL if cls not in (Reference, Random))
