"""The two fixtures that golden values refer to, in float64.

F: one prompt, four completions of at most three tokens. D: two offline pairs, known by the sums of
their log-probabilities and their lengths.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pairbench.batch import Batch
from pairbench.policy import PolicyOutput


def tensor(*values: object) -> Tensor:
    """Returns a float64 tensor."""
    return torch.tensor(values[0] if len(values) == 1 else values, dtype=torch.float64)


LOGP = tensor([[-1.0, -0.5, -2.0], [-0.7, -1.2, 0.0], [-0.3, 0.0, 0.0], [-1.5, -0.9, -0.4]])
OLD = tensor([[-1.1, -0.6, -1.8], [-0.6, -1.0, 0.0], [-0.8, 0.0, 0.0], [-1.4, -1.0, -0.5]])
REF = tensor([[-1.2, -0.5, -1.9], [-0.8, -1.1, 0.0], [-0.5, 0.0, 0.0], [-1.6, -0.7, -0.6]])
MASK = tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]])
SCORE = tensor([1.0, 0.0, 0.5, 2.0])


def every_pair(score: Tensor, size: int) -> Tensor:
    """Returns (P, 2) rows (preferred, rejected) of every pair of unequal scores in each group."""
    pairs = [
        (i, j) if score[i] > score[j] else (j, i)
        for start in range(0, len(score), size)
        for i in range(start, start + size)
        for j in range(i + 1, start + size)
        if score[i] != score[j]
    ]
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)


def fixture_f() -> tuple[Batch, PolicyOutput]:
    """Returns F as a batch, with the pairs its scores give, and the policy's view of it."""
    batch = Batch(
        contexts=torch.zeros(4, 3, dtype=torch.int64),
        responses=torch.zeros(4, 3, dtype=torch.int64),
        mask=MASK,
        old_logp=OLD,
        ref_logp=REF,
        group=torch.zeros(4, dtype=torch.int64),
        score=SCORE,
        pairs=every_pair(SCORE, 4),
    ).check()
    return batch, PolicyOutput(LOGP.clone().requires_grad_())


def fixture_f_pair() -> tuple[Batch, PolicyOutput]:
    """Returns rows 3 (preferred) and 1 (rejected) of F as a group of two."""
    whole, _ = fixture_f()
    rows = torch.tensor([3, 1])
    batch = replace(
        whole,
        contexts=whole.contexts[rows],
        responses=whole.responses[rows],
        mask=MASK[rows],
        old_logp=OLD[rows],
        ref_logp=REF[rows],
        group=torch.zeros(2, dtype=torch.int64),
        score=SCORE[rows],
        pairs=torch.tensor([[0, 1]]),
    ).check()
    return batch, PolicyOutput(LOGP[rows].clone().requires_grad_())


def fixture_d() -> tuple[Batch, PolicyOutput]:
    """Returns D with each sum spread evenly over the response's tokens.

    Chosen sums [-12, -8], rejected [-14, -7.5]; reference [-13, -8.2] and [-13.5, -7.9]; lengths
    chosen [10, 5], rejected [12, 4]. Rows: chosen 0, rejected 0, then rejected 1, chosen 1, so
    that a loss that ignores `pairs` is caught.
    """
    sums = tensor([-12.0, -14.0, -7.5, -8.0]).unsqueeze(1)
    reference = tensor([-13.0, -13.5, -7.9, -8.2]).unsqueeze(1)
    length = tensor([10, 12, 4, 5]).unsqueeze(1)
    mask = (torch.arange(12) < length).to(torch.float64)
    batch = Batch(
        contexts=torch.zeros(4, 12, dtype=torch.int64),
        responses=torch.zeros(4, 12, dtype=torch.int64),
        mask=mask,
        old_logp=sums / length * mask,
        ref_logp=reference / length * mask,
        group=torch.tensor([0, 0, 1, 1]),
        pairs=torch.tensor([[0, 1], [3, 2]]),
        sampler=-1,
    ).check()
    return batch, PolicyOutput((sums / length * mask).requires_grad_())


def close(actual: Tensor, expected: object, tolerance: float = 1e-6) -> None:
    """Asserts equality of shape and, to an absolute tolerance, of values."""
    torch.testing.assert_close(
        actual.detach().to(torch.float64), tensor(expected), atol=tolerance, rtol=0.0
    )
