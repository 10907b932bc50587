"""Conservative DPO: the loss expected if a share of the labels is flipped."""

from __future__ import annotations

from pairbench import register_algorithm, shared
from pairbench.algorithms.dpo import DPO
from pairbench.pairwise import FRESH_PAIRS, SMOOTHING


@register_algorithm("cdpo")
class CDPO(DPO):
    """Conservative DPO, a note of DPO's authors: (1 - e) l(m) + e l(-m), l = -log sigmoid(beta m).

    `dpo` with another default of `label_smoothing`: a margin has an optimum, where
    sigmoid(beta m) = 1 - e. `robust-dpo` subtracts where this adds.
    """

    source = "Mitchell, A note on DPO with noisy preferences, 2023; Rafailov et al., 2305.18290"
    departures = FRESH_PAIRS
    spaces = shared.spaces({**DPO.spaces["any"], "label_smoothing": SMOOTHING})

    class Config(DPO.Config):
        """DPO's settings and a share of flipped labels."""

        label_smoothing = 0.1
