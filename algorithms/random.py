"""The floor row of the policy that knows nothing."""

from __future__ import annotations

from pairbench import Floor, register_algorithm


@register_algorithm("random")
class Random(Floor):
    """The task's random policy, evaluated without training: it must rank last."""

    source = "none: a test of the metric, not a method"
    policy = "random"
