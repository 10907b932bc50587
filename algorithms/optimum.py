"""The row of the best policy there is, where a task knows it: the end of the scale."""

from __future__ import annotations

from pairbench import Floor, register_algorithm


@register_algorithm("optimum")
class Optimum(Floor):
    """pi_ref exp(r / beta) / Z, evaluated without training: what no method can pass."""

    source = "the closed form of KL-regularised reward, e.g. arXiv 2305.18290, equation 4"
    policy = "optimum"
