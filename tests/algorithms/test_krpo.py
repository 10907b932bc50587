"""KRPO: the filter's advantages, whose order matters."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from pairbench.algorithms.krpo import KRPO
from pairbench.batch import join
from tests.support.fixtures import close, fixture_f, fixture_f_pair, tensor
from tests.support.group_methods import make, on_f, pair_advantages, push


def test_golden_advantages() -> None:
    """methods.md E: x0 0, P0 1, Q 1e-5, R 1e-2, after updating with each score."""
    close(on_f(KRPO)[0], [0.099503, -7.048125, 0.031661, 22.508379])


def test_a_pair_by_hand() -> None:
    """K_1 = 1.00001 / 1.01001, x_1 = 2 K_1, P_1 = K_1 R; then K_2 = (P_1 + Q) / (P_1 + Q + R)."""
    first = 1.00001 / 1.01001
    variance = first * 1e-2
    second = (variance + 1e-5) / (variance + 1e-5 + 1e-2)
    left = 2.0 * first * (1.0 - second)
    expected = [2.0 * (1.0 - first) / variance**0.5, -left / (second * 1e-2) ** 0.5]
    close(pair_advantages(KRPO, eps=0.0), expected)


def test_each_group_starts_the_filter_anew() -> None:
    batch, _ = fixture_f()
    both = make(KRPO).prepare(join([batch, batch]), 0.0, 0)["advantage"].view(2, 4)
    close(both[0], both[1].tolist(), 0.0)


def test_order_decides_the_size_of_an_advantage() -> None:
    batch, _ = fixture_f_pair()
    swapped = replace(batch, score=tensor([0.0, 2.0]))
    late = make(KRPO, group_size=2).prepare(swapped, 0.0, 0)["advantage"].view(-1)
    assert late[1] > 10 * pair_advantages(KRPO)[0] > 0


def test_a_group_of_zeros_asks_for_nothing_but_another_tied_one_does() -> None:
    """The filter starts at 0: of equal scores c it has seen too little to expect them."""
    close(push(KRPO, [0.0] * 4, beta=0.0), [0.0] * 4, 0.0)
    asked = push(KRPO, [1.0] * 4, beta=0.0)
    assert bool((asked > 0).all()) and asked[0] > asked[3]


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="measurement_noise"):
        KRPO.Config(measurement_noise=0.0)
    with pytest.raises(ValidationError, match="initial_variance"):
        KRPO.Config(initial_variance=0.0)
