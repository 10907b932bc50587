"""The row of the best of n: the untrained policy's best draw by the reward itself."""

from __future__ import annotations

from pairbench import Field, Floor, register_algorithm


@register_algorithm("best-of-n")
class BestOfN(Floor):
    """The best of `group_size` draws of the reference, its distribution computed exactly.

    It asks the hidden reward n times for each response it gives, also when it is used; nothing is
    trained. Its KL to the reference is at most log n - (n - 1) / n (arXiv 2401.01879).
    """

    source = "Stiennon et al., arXiv 2009.01325 (best of n)"
    policy = "best-of-n"

    class Config(Floor.Config):
        """Settings."""

        group_size: int = Field(8, ge=1, description="n, draws of which the best is given")
