"""TIC-GRPO: GRPO with the importance ratio of the whole response in place of its tokens'."""

from __future__ import annotations

from pairbench import register_algorithm, shared
from pairbench.algorithms.grpo import GRPO


@register_algorithm("tic-grpo")
class TICGRPO(GRPO):
    """Trajectory-level importance-corrected GRPO (arXiv 2508.02833).

    From the paper's abstract: scores normalised in the group, and one ratio pi_theta(y) / pi_old(y)
    of the whole trajectory in place of its tokens', so that the gradient is one at the present
    policy. Ours, for the abstract does not give them: GRPO's clip of that ratio to [.8, 1.2], no
    factor 1 / L, population std with eps 1e-8, and no KL penalty.
    """

    source = "Pang, Luo and Jin, arXiv 2508.02833, abstract; clip, std and KL: PairBench's reading"
    departures = "Clip range .2, population std and no KL penalty are a reading of the abstract."
    presets = shared.presets()
    spaces = shared.spaces(shared.CLIPS)

    class Config(GRPO.Config):
        """GRPO's settings at TIC-GRPO's values."""

        ratio_level = "trajectory"
        std = "population"
        eps = 1e-8
        beta = 0.0
