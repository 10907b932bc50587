"""Statistics over seeds: seeded, vectorised, and honest about how few seeds there are.

The seed is the unit of replication. What is measured on many contexts (or episodes) within one
seed is averaged within that seed first, and only seeds are ever resampled.

Intervals are percentile bootstraps stretched for small samples (`bootstrap`). The plain percentile
bootstrap is far too narrow with few seeds: with three of them no resample lies beyond the data, so
its nominal 95% interval covers 75%. Stretching each side by t(n - 1) / z * sqrt(n / (n - 1)) undoes
the bootstrap's known shortfall in spread and in tails (T. Hesterberg, "What Teachers Should Know
About the Bootstrap", 2015, section 5.3, gives both factors). Measured coverage of nominal 95%
intervals, 4,000 samples each, of the population's value (`tests/statistics/test_statistics.py`
repeats a part):

====================  ==========  =====  =====  =====  =====  =====
statistic             population  n = 2  n = 3  n = 5  n = 8  n = 10
====================  ==========  =====  =====  =====  =====  =====
iqm                   normal      .926   .942   .980   .984   .975
iqm                   skewed      .922   .948   .976   .980   .980
iqm                   collapse    .883   .943   .979   .990   .984
mean                  normal      .938   .947   .945   .949   .948
mean                  skewed      .905   .922   .914   .915   .925
mean                  collapse    .830   .814   .809   .896   .940
mean                  win rates   .901   .925   .933   .947   .950
====================  ==========  =====  =====  =====  =====  =====

"collapse" is a mixture in which a quarter of the runs end near zero, "skewed" a gamma of shape 2,
"win rates" means of 16 correlated contexts. So from three seeds on intervals of an interquartile
mean cover 94 to 99%, for they have as many degrees of freedom as scores are kept (three of five,
six of ten) where that is less than n - 1; intervals of a plain mean do so for symmetric scores and
win rates, but fall short where rare collapses dominate it, which no method can see in seeds that
did not collapse.

The others, at five and ten seeds (600 samples each, `tests/statistics/test_coverage.py`). Those of
pairs are the least and the most over all ordered pairs of six populations, 2,000 samples each
(`benchmarks/coverage.py`): normal, lognormal, of two modes, collapsing. The least of a difference
of means is of lognormal(1) and normal rows:

==============================================  ===========  ===========
interval                                        n = 5        n = 10
==============================================  ===========  ===========
interquartile mean of three tasks, stratified   .938 - .960  .938 - .953
median                                          .977 - .982  .967 - .972
difference of interquartile means, paired       .935 - .996  .964 - .988
difference of means, paired                     .839 - .976  .855 - .956
Bradley-Terry strengths                         .920 - .950  .930 - .960
performance profile, mean over levels           .948 - .955  .950 - .956
probability of improvement                      .970 - 1     .933 - .984
==============================================  ===========  ===========

Two of them are not bootstraps, since resamples of runs that all lie on one side of something do not
differ: bootstrap bands of a profile cover .40 at the level that a tenth of the runs exceed, and
bootstrap intervals of a probability of improvement .21 to .98. Single levels of a profile cover .89
to .99. An optimality gap has no interval here: that of its bootstrap covers .70 to .95, for what
few runs fell short by says little of how far others may.

The swap test (`swap_p_value`) is exact for rows alike in shape: at most .053 of equal rows reach
its 5%. Of rows unlike in shape with one interquartile mean up to .153 do, so `told_apart` asks for
the interval beside it: both together err in .060 at six seeds, .041 at eight and .031 at ten, at
most. Those are the largest of 21 pairs of shapes, 2,000 samples each.
"""

from pairbench.statistics.aggregates import (
    Array,
    iqm,
    median,
    optimality_gap,
    performance_profile,
)
from pairbench.statistics.comparisons import (
    holm,
    kendall_tau,
    least_p_value,
    paired_difference,
    paired_iqm_difference,
    paired_probability_of_improvement,
    probability_of_improvement,
    rank_correlation,
    swap_p_value,
    swap_p_values,
    told_apart,
    win_rate,
)
from pairbench.statistics.intervals import (
    Estimate,
    bootstrap,
    iqm_differences,
    iqm_interval,
    iqm_intervals,
    mean_interval,
    mean_intervals,
    profile_interval,
    stratified_iqm,
    student_t_quantile,
)
from pairbench.statistics.power import (
    EFFICIENCY,
    POWER,
    detectable_shift,
    kept_degrees,
    minimum_detectable_difference,
    power_of_t_test,
    seeds_needed,
)
from pairbench.statistics.reliability import (
    conditional_value_at_risk,
    differences,
    dispersion_across_runs,
    dispersion_across_time,
    risk_across_runs,
    short_term_risk,
)
from pairbench.statistics.stopping import decided
from pairbench.statistics.strengths import bradley_terry, bradley_terry_intervals

__all__ = [
    "EFFICIENCY",
    "POWER",
    "Array",
    "Estimate",
    "bootstrap",
    "bradley_terry",
    "bradley_terry_intervals",
    "conditional_value_at_risk",
    "decided",
    "detectable_shift",
    "differences",
    "dispersion_across_runs",
    "dispersion_across_time",
    "holm",
    "iqm",
    "iqm_differences",
    "iqm_interval",
    "iqm_intervals",
    "kendall_tau",
    "kept_degrees",
    "least_p_value",
    "mean_interval",
    "mean_intervals",
    "median",
    "minimum_detectable_difference",
    "optimality_gap",
    "paired_difference",
    "paired_iqm_difference",
    "paired_probability_of_improvement",
    "performance_profile",
    "power_of_t_test",
    "probability_of_improvement",
    "profile_interval",
    "rank_correlation",
    "risk_across_runs",
    "seeds_needed",
    "short_term_risk",
    "stratified_iqm",
    "student_t_quantile",
    "swap_p_value",
    "swap_p_values",
    "told_apart",
    "win_rate",
]
