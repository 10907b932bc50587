"""Statistics over seeds: seeded, vectorised, and honest about how few seeds there are.

The seed is the unit of replication. What is measured on many contexts (or episodes) within one
seed is averaged within that seed first, and only seeds are ever resampled.

Intervals are percentile bootstraps stretched for small samples (`bootstrap`). The plain percentile
bootstrap is far too narrow with few seeds: with three of them no resample lies beyond the data, so
its nominal 95% interval covers 75%. Stretching each side by t(n - 1) / z * sqrt(n / (n - 1)) undoes
the bootstrap's known shortfall in spread and in tails (T. Hesterberg, "What Teachers Should Know
About the Bootstrap", 2015, section 5.3, gives both factors). Measured coverage of nominal 95%
intervals, 4,000 samples each, of the population's value (`tests/test_statistics.py` repeats a
part):

====================  ==========  =====  =====  =====  =====  =====
statistic             population  n = 2  n = 3  n = 5  n = 8  n = 10
====================  ==========  =====  =====  =====  =====  =====
iqm                   normal      .935   .945   .970   .970   .968
iqm                   skewed      .928   .950   .966   .974   .971
iqm                   collapse    .889   .952   .971   .978   .972
mean                  normal      .938   .947   .945   .949   .948
mean                  skewed      .905   .922   .914   .915   .925
mean                  collapse    .830   .814   .809   .896   .940
mean                  win rates   .901   .925   .933   .947   .950
====================  ==========  =====  =====  =====  =====  =====

"collapse" is a mixture in which a quarter of the runs end near zero, "skewed" a gamma of shape 2,
"win rates" means of 16 correlated contexts. So from three seeds on intervals of an interquartile
mean cover 94 to 98%; intervals of a plain mean do so for symmetric scores and win rates, but fall
short where rare collapses dominate it, which no method can see in seeds that did not collapse.
"""

from pairbench.statistics.aggregates import Array, iqm
from pairbench.statistics.comparisons import (
    paired_difference,
    paired_iqm_difference,
    paired_probability_of_improvement,
    probability_of_improvement,
    sign_flip_p_value,
    win_rate,
)
from pairbench.statistics.intervals import (
    Estimate,
    bootstrap,
    iqm_interval,
    mean_interval,
    student_t_quantile,
)
from pairbench.statistics.reliability import drawdown

__all__ = [
    "Array",
    "Estimate",
    "bootstrap",
    "drawdown",
    "iqm",
    "iqm_interval",
    "mean_interval",
    "paired_difference",
    "paired_iqm_difference",
    "paired_probability_of_improvement",
    "probability_of_improvement",
    "sign_flip_p_value",
    "student_t_quantile",
    "win_rate",
]
