"""Adam with gradient clipping as two kernels, for policies of a few flat tensors.

`torch.optim.Adam(fused=True)` spends most of its time on bookkeeping when a step touches one tensor
of six thousand numbers a hundred thousand times. This calls the very kernel it calls, and lets that
kernel scale the gradient for clipping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Group:
    """Tensors (leaves, with gradients) that share a learning rate, and their moments."""

    tensors: Sequence[Tensor]
    lr: float
    first: list[Tensor] = field(init=False)
    second: list[Tensor] = field(init=False)
    steps: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.first = [torch.zeros_like(tensor, requires_grad=False) for tensor in self.tensors]
        self.second = [torch.zeros_like(tensor, requires_grad=False) for tensor in self.tensors]
        self.steps = [torch.zeros((), device=tensor.device) for tensor in self.tensors]


class Adam:
    """Adam (arXiv 1412.6980, betas .9 and .999) on gradients clipped to a joint norm."""

    def __init__(self, groups: Sequence[Group], eps: float = 1e-5) -> None:
        self.groups = groups
        self.eps = eps
        self.tensors = [tensor for group in groups for tensor in group.tensors]

    def zero_grad(self) -> None:
        """Drops all gradients."""
        for tensor in self.tensors:
            tensor.grad = None

    def step(self, max_norm: float, factor: float = 1.0) -> Tensor:
        """Takes a step with every learning rate times `factor`; returns the gradient norm before.

        Gradients are scaled so that their joint norm is at most `max_norm`, as torch's
        `clip_grad_norm_` does. Tensors without a gradient stay as they are. The gradients
        themselves are used up.
        """
        norms = [torch.linalg.vector_norm(t.grad) for t in self.tensors if t.grad is not None]
        norm: Tensor = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
        excess = ((norm + 1e-6) / max_norm).clamp_min_(1.0).float()
        for group in self.groups:
            live = [i for i, tensor in enumerate(group.tensors) if tensor.grad is not None]
            if not live:
                continue
            steps = [group.steps[i] for i in live]
            for step in steps:
                step += 1
            torch._fused_adam_(
                [group.tensors[i].detach() for i in live],
                [group.tensors[i].grad for i in live],  # type: ignore[misc]
                [group.first[i] for i in live],
                [group.second[i] for i in live],
                [],
                steps,
                lr=group.lr * factor,
                beta1=0.9,
                beta2=0.999,
                weight_decay=0.0,
                eps=self.eps,
                amsgrad=False,
                maximize=False,
                grad_scale=excess,
            )
        return norm

    def state(self) -> dict[str, Any]:
        """Returns the moments and step counts."""
        return {
            str(index): {"first": g.first, "second": g.second, "steps": g.steps}
            for index, g in enumerate(self.groups)
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `state()` returned, in place."""
        for index, group in enumerate(self.groups):
            for name, saved in state[str(index)].items():
                for tensor, value in zip(getattr(group, name), saved, strict=True):
                    tensor.copy_(value)
