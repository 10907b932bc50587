"""Our Adam takes the steps of torch's Adam and `clip_grad_norm_`."""

from __future__ import annotations

import pytest
import torch

from pairbench.training.optimiser import Adam, Group


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", [[[5]], [[4, 7], [3]]])
@pytest.mark.parametrize("scale", [0.01, 10.0])
def test_steps_are_torchs(dtype: torch.dtype, sizes: list[list[int]], scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    start = [[torch.randn(n, generator=generator, dtype=dtype) for n in part] for part in sizes]
    ours = [[t.clone().requires_grad_() for t in part] for part in start]
    theirs = [[t.clone().requires_grad_() for t in part] for part in start]
    rates = [1e-2, 3e-3]
    adam = Adam([Group(part, rate) for part, rate in zip(ours, rates, strict=False)])
    other = torch.optim.Adam(
        [{"params": part, "lr": rate} for part, rate in zip(theirs, rates, strict=False)], eps=1e-5
    )
    flat = [t for part in theirs for t in part]
    for factor in (1.0, 0.5, 0.25):
        for mine, yours in zip(adam.tensors, flat, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator, dtype=dtype) * scale
            yours.grad = mine.grad.clone()
        for group, rate in zip(other.param_groups, rates, strict=False):
            group["lr"] = rate * factor
        norm = adam.step(0.5, factor)
        assert torch.allclose(norm, torch.nn.utils.clip_grad_norm_(flat, 0.5))
        other.step()
        for mine, yours in zip(adam.tensors, flat, strict=True):
            torch.testing.assert_close(mine, yours)


def test_a_tensor_without_a_gradient_stays() -> None:
    used, unused = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    adam = Adam([Group([used, unused], 0.1)])
    used.grad = torch.ones(3)
    adam.step(1.0)
    assert bool((used != 1).all()) and bool((unused == 1).all())
    adam.zero_grad()
    assert used.grad is None


def test_a_restored_optimiser_goes_on() -> None:
    def run(tensor: torch.Tensor, adam: Adam, steps: range) -> None:
        for step in steps:
            tensor.grad = torch.full((3,), 1.0 + step)
            adam.step(10.0)

    whole = torch.ones(3, requires_grad=True)
    run(whole, Adam([Group([whole], 0.1)]), range(4))
    part = torch.ones(3, requires_grad=True)
    first = Adam([Group([part], 0.1)])
    run(part, first, range(2))
    second = Adam([Group([part], 0.1)])
    second.load_state(first.state())
    run(part, second, range(2, 4))
    assert torch.equal(whole, part)
