"""What every method inherits: defaults that are changed by their value, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from pairbench.algorithm import Algorithm, AlgorithmConfig, GroupConfig
from pairbench.authoring.situations import Subject
from pairbench.errors import PairBenchError
from pairbench.registry import entries, get_algorithm

CLASSES = [get_algorithm(name) for name in entries("algorithm")]
TRAINED = [cls for cls in CLASSES if issubclass(cls, Algorithm)]

FIELDS = ("ref_logp", "score", "components", "step_reward", "value", "next_value", "boundary")


class Changed(GroupConfig):
    """Another rate, another size, and a symbol of its own."""

    lr = 1e-5
    group_size = 4
    alpha: float = 0.5


class ChangedAgain(Changed):
    """The rate once more."""

    lr = 2e-5


def test_a_default_is_changed_by_its_value_alone() -> None:
    assert (Changed().lr, Changed().group_size, ChangedAgain().lr) == (1e-5, 4, 2e-5)
    assert ChangedAgain().group_size == 4
    assert (AlgorithmConfig().lr, GroupConfig().group_size) == (3e-4, 8)
    for name, field in GroupConfig.model_fields.items():
        mine = ChangedAgain.model_fields[name]
        assert (mine.description, mine.metadata) == (field.description, field.metadata)
        assert (mine.annotation, mine.exclude_if) == (field.annotation, field.exclude_if)
    assert list(Changed.model_fields) == [*GroupConfig.model_fields, "alpha"]
    assert "log_std_floor" not in Changed().model_dump()


@pytest.mark.parametrize("setting", [{"lr": 11.0}, {"group_size": 1}, {"rate": 1.0}])
def test_bounds_are_inherited_with_the_field(setting: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(setting))):
        ChangedAgain.model_validate(setting)


def test_a_setting_that_is_not_there_cannot_be_changed() -> None:
    with pytest.raises(Exception, match="non-annotated attribute was detected: `learning_rate"):
        type("Wrong", (AlgorithmConfig,), {"learning_rate": 1e-5, "__module__": __name__})


@pytest.mark.parametrize("cls", TRAINED, ids=lambda cls: cls.name)
def test_a_batch_that_lacks_a_field_is_refused_in_words(cls: type[Algorithm]) -> None:
    """Nothing that a method reads may be None: each field of a batch of its own is taken away."""
    taken = set()
    for situation in Subject(cls, {}).situations:
        batch, _ = situation.world()
        situation.fresh().study(batch, 0.0, 0)
        method = situation.fresh()
        asked = [name for name in (*FIELDS, "pairs", "offline") if getattr(batch, name) is not None]
        for name in asked:
            with pytest.raises(PairBenchError, match=f"^{cls.name} needs a batch with {name}:"):
                method.study(replace(batch, **{name: None}), 0.0, 0)
        taken |= set(asked)
        if batch.offline is not None:
            beside = replace(batch, offline=replace(batch.offline, pairs=None))
            with pytest.raises(PairBenchError, match=r"needs a batch with offline\.pairs"):
                method.study(beside, 0.0, 0)
    assert taken


def test_a_field_that_needs_forgot_is_named_where_it_is_read() -> None:
    batch, _ = Subject(get_algorithm("gvpo"), {}).situations[0].world()
    with pytest.raises(PairBenchError, match="a batch with ref_logp is needed and this one has"):
        batch.need("ref_logp")
    assert batch.need("score") is batch.score
