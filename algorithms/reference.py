"""The floor row of the untrained policy: what every method starts from."""

from __future__ import annotations

from pairbench import Floor, register_algorithm


@register_algorithm("reference")
class Reference(Floor):
    """The task's initial policy, evaluated without training: only random may rank lower."""

    source = "none: a test of the metric, not a method"
    policy = "reference"
