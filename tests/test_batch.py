"""Batches keep groups whole, renumber their pairs, and say what is wrong with a shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from pairbench.batch import FOR_PREPARE, Batch, join, minibatches, single_steps
from pairbench.errors import PairBenchError
from pairbench.seeding import generator


def make(groups: int, size: int, steps: int = 3, pairs: bool = True) -> Batch:
    """Returns a batch whose `responses` number its rows, with pairs (first, last) of each group."""
    rows = groups * size
    first = torch.arange(groups) * size
    return Batch(
        contexts=torch.zeros(rows, steps, 2),
        responses=torch.arange(rows).unsqueeze(1).expand(rows, steps).contiguous(),
        mask=torch.ones(rows, steps),
        old_logp=torch.randn(rows, steps),
        group=torch.arange(groups).repeat_interleave(size),
        score=torch.arange(rows).float(),
        step_reward=torch.ones(rows, steps),
        pairs=torch.stack([first, first + size - 1], dim=1) if pairs else None,
    ).check()


@given(st.integers(1, 9), st.integers(2, 4), st.integers(1, 12), st.integers(0, 2**31))
def test_an_epoch_visits_every_group_whole_and_once(
    groups: int, size: int, count: int, seed: int
) -> None:
    batch = make(groups, size)
    signal = {"advantage": torch.arange(groups * size).float()}
    parts = list(minibatches(batch, signal, count, np.random.default_rng(seed)))
    assert len(parts) == min(count, groups)
    lengths = [len(part) for part, _ in parts]
    assert max(lengths) - min(lengths) in (0, size)
    seen = torch.cat([part.responses[:, 0] for part, _ in parts])
    assert sorted(seen.tolist()) == list(range(groups * size))
    for part, rows in parts:
        part.check()
        assert rows["advantage"].tolist() == part.responses[:, 0].tolist()
        members = part.responses[:, 0].reshape(-1, size)
        assert torch.equal(members // size, members[:, :1].expand_as(members) // size)
        assert part.pairs is not None and len(part.pairs) == part.n_groups
        chosen, rejected = part.responses[part.pairs[:, 0], 0], part.responses[part.pairs[:, 1], 0]
        assert torch.equal(rejected - chosen, torch.full_like(chosen, size - 1))


@given(st.integers(1, 9), st.integers(2, 4), st.integers(1, 12), st.integers(0, 2**31))
def test_offline_pairs_go_where_their_group_goes(
    groups: int, size: int, count: int, seed: int
) -> None:
    """Group i of the batch and pair i beside it, of another length, stay together; a tie too."""
    beside = make(groups, 2, steps=5)
    assert beside.pairs is not None
    batch = replace(make(groups, size), offline=replace(beside, pairs=beside.pairs[1:])).check()
    parts = [part for part, _ in minibatches(batch, {}, count, np.random.default_rng(seed))]
    assert len(parts) == min(count, groups)
    decided = 0
    for part in (*parts, batch.narrow(0, size)):
        assert part.offline is not None and part.offline.steps == 5
        part.check()
        mine = part.responses[::size, 0] // size
        assert torch.equal(part.offline.responses[:, 0].view(-1, 2)[:, 0] // 2, mine)
        assert part.offline.pairs is not None
        decided += len(part.offline.pairs)
        chosen = part.offline.responses[part.offline.pairs[:, 0], 0]
        assert sorted((chosen // 2).tolist()) == sorted(set(mine.tolist()) - {0})
    assert decided == groups - 1
    twice = join([batch, batch]).check()
    assert twice.offline is not None and twice.offline.n_groups == 2 * groups


def test_offline_pairs_must_be_as_many_as_groups() -> None:
    with pytest.raises(ValueError, match=r"for each of 3 groups, has 2"):
        replace(make(3, 4), offline=make(2, 2)).check()
    with pytest.raises(ValueError, match=r"Batch\.offline needs pairs"):
        replace(make(2, 4), offline=make(2, 2, pairs=False)).check()


def test_select_reorders_groups_and_drops_pairs_of_the_rest() -> None:
    picked = make(3, 2).select(torch.tensor([4, 5, 0, 1])).check()
    assert picked.responses[:, 0].tolist() == [4, 5, 0, 1]
    assert picked.group.tolist() == [0, 0, 1, 1]
    assert picked.pairs is not None and picked.pairs.tolist() == [[0, 1], [2, 3]]


def test_flattened_steps_leave_out_what_is_masked() -> None:
    batch = make(2, 1, pairs=False)
    batch.mask[1, 2] = 0.0
    flat, signal = single_steps(batch, {"return": torch.arange(6.0).reshape(2, 3)})
    assert len(flat) == 5 and flat.steps == 1 and flat.score is None
    assert flat.responses[:, 0].tolist() == [0, 0, 0, 1, 1]
    assert signal["return"][:, 0].tolist() == [0, 1, 2, 3, 4]


def test_a_signal_without_a_number_a_step_is_no_signal_of_single_steps() -> None:
    with pytest.raises(PairBenchError, match=r"'weight' has shape \(2, 1\).* must be \(2, 3\)"):
        single_steps(make(2, 1, pairs=False), {"weight": torch.ones(2, 1)})


def test_a_loss_that_reads_what_is_for_prepare_is_told() -> None:
    """In every minibatch, and in whatever is made of one; what is for the loss stays."""
    batch = replace(make(4, 2), value=torch.zeros(8, 3))
    for part, _ in minibatches(batch, {}, 2, generator(5, "minibatch")):
        for rows in (part, part.select(torch.tensor([2, 3])), part.narrow(0, 2), part.for_loss()):
            assert rows.check().value is not None
            for name in FOR_PREPARE:
                with pytest.raises(PairBenchError, match=f"cannot read batch.{name}, which is for"):
                    getattr(rows, name)
    assert repr(part).startswith("Minibatch(contexts, responses, mask")
    assert set(FOR_PREPARE) < set(Batch.__dataclass_fields__)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"old_logp": torch.zeros(4, 2)}, r"old_logp has shape \(4, 2\), expected \(B, T\)"),
        ({"contexts": torch.zeros(3, 2)}, "contexts has 3 rows, mask has 4"),
        ({"group": torch.tensor([0, 1, 0, 1])}, "whole groups of equal size in order"),
        ({"group": torch.tensor([0, 0, 0, 1])}, "whole groups of equal size in order"),
        ({"pairs": torch.tensor([[0, 4]])}, "names row 4 of 4"),
        ({"pairs": torch.tensor([[0, 2]])}, "must stay within one group"),
        ({"pairs": torch.tensor([0, 1])}, r"expected \(P, 2\)"),
        ({"score": torch.zeros(4, 1)}, r"need shape \(4,\)"),
        ({"domain_share": torch.ones(4, 1)}, r"need shape \(4,\)"),
        ({"components": torch.zeros(4)}, r"components has shape \(4,\), expected \(4, R\)"),
    ],
)
def test_a_wrong_shape_is_named(change: dict[str, torch.Tensor], message: str) -> None:
    good = make(2, 2)
    fields = {name: getattr(good, name) for name in good.__dataclass_fields__}
    with pytest.raises(ValueError, match=message):
        Batch(**{**fields, **change}).check()


def test_components_and_shares_go_with_their_rows_and_are_of_no_single_step() -> None:
    rows = torch.arange(8.0)
    batch = replace(make(4, 2), components=torch.stack([rows, -rows], 1), domain_share=rows / 8)
    some = batch.check().select(torch.tensor([6, 7, 0, 1])).check()
    assert some.components is not None and some.domain_share is not None
    assert some.components.tolist() == [[6, -6], [7, -7], [0, 0], [1, -1]]
    assert some.domain_share.tolist() == [6 / 8, 7 / 8, 0, 1 / 8]
    flat, _ = single_steps(batch, {})
    assert flat.components is None and flat.domain_share is None


def test_the_order_comes_from_the_generator_alone() -> None:
    batch = make(8, 2)
    orders = [
        [
            part.responses[0, 0].item()
            for part, _ in minibatches(batch, {}, 4, generator(5, "minibatch"))
        ]
        for _ in range(2)
    ]
    assert orders[0] == orders[1]
