"""What is tried next: the row as it stands, settings drawn at random, then what Optuna proposes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pairbench.experiments.tuning.study import Trial
from pairbench.seeding import derive, generator
from pairbench.space import Choice, Range, Setting, Space

DRAWN = 10
"""Trials before the estimator has its say: the row as it stands, and settings drawn at random."""


def propose(
    space: Space, trials: Sequence[Trial], start: Mapping[str, Any], name: str, sampler: int
) -> dict[str, Setting]:
    """Returns the settings of the trial after `trials`.

    Args:
        trials: those before, whose outcome counts from number `DRAWN` on.
        start: the settings of trial 0, and perhaps others.
    """
    number = len(trials)
    if number == 0:
        return {key: start[key] for key in space}
    stream = f"tuning/{name}/{number}"
    if number < DRAWN:
        source = generator(sampler, stream)
        return {key: values.draw(source) for key, values in space.items()}
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {key: _distribution(values) for key, values in space.items()}
    parzen = optuna.samplers.TPESampler(n_startup_trials=1, seed=derive(sampler, stream) % 2**32)
    study = optuna.create_study(direction="maximize", sampler=parzen)
    having = [trial.value for trial in trials if trial.value is not None]
    worst = min(having, default=0.0)  # what failed is to the estimator as bad as anything seen
    for trial in trials:
        value = worst if trial.value is None else trial.value
        study.add_trial(
            optuna.trial.create_trial(
                params=trial.settings, distributions=distributions, value=value
            )
        )
    found = study.ask(distributions).params
    return {
        key: values.rounded(found[key]) if isinstance(values, Range) else found[key]
        for key, values in space.items()
    }


def _distribution(values: Range | Choice) -> Any:
    from optuna import distributions

    if isinstance(values, Choice):
        return distributions.CategoricalDistribution(values.options)
    if values.whole:
        return distributions.IntDistribution(int(values.low), int(values.high))
    return distributions.FloatDistribution(values.low, values.high, log=values.log)
