"""LUSPO: GSPO whose long responses count for as much more as they are longer."""

from __future__ import annotations

from pairbench import register_algorithm
from pairbench.algorithms.gspo import GSPO


@register_algorithm("luspo")
class LUSPO(GSPO):
    """Length-unbiased sequence policy optimisation (arXiv 2602.05261), as TRL 1.16 has it.

    GSPO's clipped ratio of a whole response, times the response's length: `gspo` with another
    default of `aggregation`. Ours: GSPO's clip range.
    """

    source = "arXiv 2602.05261; TRL 1.16 GRPOTrainer, luspo with sequence level"
    departures = "Clip ranges are gspo's here: .2 where responses have few steps."
    presets = GSPO.presets
    spaces = GSPO.spaces

    class Config(GSPO.Config):
        """GSPO's settings at LUSPO's values."""

        aggregation = "luspo"
