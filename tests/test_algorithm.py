"""What every method inherits: defaults that are changed by their value, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
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
    assert taken or cls.name == "distilled"  # learns from responses alone


def test_a_field_that_needs_forgot_is_named_where_it_is_read() -> None:
    batch, _ = Subject(get_algorithm("gvpo"), {}).situations[0].world()
    with pytest.raises(PairBenchError, match="a batch with ref_logp is needed and this one has"):
        batch.need("ref_logp")
    assert batch.need("score") is batch.score


@pytest.mark.parametrize("cls", TRAINED, ids=lambda cls: cls.name)
def test_groups_of_another_size_are_refused(cls: type[Algorithm]) -> None:
    """Cut by group_size, they would mix contexts in silence."""
    for situation in Subject(cls, {}).situations:
        if situation.needs.data not in ("groups", "groups+pairs"):
            continue
        batch, _ = situation.world()
        other = situation.config.model_copy(update={"group_size": situation.config.group_size * 2})
        with pytest.raises(PairBenchError, match=rf"^{cls.name} has group_size \d+ and the batch"):
            cls(other).study(batch, 0.0, 0)
        uneven = replace(batch, group=batch.group.clone())
        uneven.group[situation.config.group_size] = 0  # as many rows, one in the wrong group
        with pytest.raises(PairBenchError, match="one group after the other"):
            situation.fresh().study(uneven, 0.0, 0)


@pytest.mark.parametrize("field", ["score", "components", "step_reward"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_oracle_that_gives_no_number_is_refused(field: str, value: float) -> None:
    name = {"score": "grpo", "components": "gdpo", "step_reward": "ppo"}[field]
    situation = Subject(get_algorithm(name), {}).situations[0]
    batch, _ = situation.world()
    batch.need(field).view(-1)[3] = value
    with pytest.raises(PairBenchError, match=f"Batch.{field} has NaN or infinity"):
        situation.fresh().study(batch, 0.0, 0)


@pytest.mark.parametrize("name", ["dpo", "orpo", "soft-pair-grpo", "hard-pair-grpo", "f-hal"])
def test_a_row_without_a_real_step_is_in_no_pair(name: str) -> None:
    for situation in Subject(get_algorithm(name), {}).situations:
        batch, _ = situation.world()
        beside = batch if batch.pairs is not None else batch.offline
        assert beside is not None
        lost = int(beside.need("pairs")[0, 0])
        beside.mask[lost] = 0.0
        kept, _ = situation.fresh().study(batch, 0.0, 0)
        after = (kept if batch.pairs is not None else kept.offline or kept).need("pairs")
        assert 0 < len(after) < len(beside.need("pairs"))
        assert not bool((after == lost).any())


def test_departures_are_a_methods_own() -> None:
    class Mine(get_algorithm("gvpo")):  # type: ignore[misc]
        """Another."""

    assert get_algorithm("gvpo").departures and Mine.departures == ""
    named = {"hard-pair-grpo", "orpo", "gspo", "ropo", "pods", "amir-grpo"}
    assert named <= {cls.name for cls in TRAINED if cls.departures}
