"""What methods share: the sizes that make their budgets compare, and what is searched for each.

A method's file says `presets = shared.presets(...)` and `spaces = shared.spaces(...)`, and names
there only what it wants otherwise, by kind of task.
"""

from __future__ import annotations

from pairbench.algorithm import Presets, Settings
from pairbench.space import Space, Spaces, log_uniform, uniform

CONTROL = {
    "contexts": 32,
    "group_size": 4,
    "segment": 8,
    "epochs": 10,
    "minibatches": 4,
    "lr": 1e-3,
}
"""Sizes of the group methods on control tasks: 1,024 steps and 40 gradient steps an iteration."""

CONTROL_CRITIC_FREE = {
    "contexts": 4,
    "group_size": 8,
    "segment": 16,
    "epochs": 5,
    "minibatches": 4,
    "lr": 1e-3,
}
"""The same where a segment's return alone is the score: longer segments, larger groups."""

LANGUAGE = {"contexts": 8, "group_size": 8, "minibatches": 2, "lr": 2e-4}
"""The same on language tasks: 64 completions and two gradient steps an iteration."""

LANGUAGE_SMOLLM2 = {"contexts": 4, "lr": 3e-5}
"""What SmolLM2-135M wants otherwise."""

TABULAR = {"contexts": 32, "group_size": 8, "epochs": 4, "minibatches": 4, "lr": 0.03}
"""The same on the bandit: 256 arms pulled and 16 gradient steps an iteration."""

EXACT = {"contexts": 16, "group_size": 8, "minibatches": 2, "lr": 5e-4}
"""The same where all responses can be enumerated: 128 of them and two gradient steps."""

PRICE = 0.5
"""What a nat of KL to the reference costs there, in units of reward, whoever charges it."""

LEARNING_RATES: Spaces = {
    "control": {"lr": log_uniform(1e-4, 3e-3)},
    "language": {"lr": log_uniform(3e-5, 2e-3)},
    "language@smollm2-135m": {"lr": log_uniform(1e-6, 1e-4)},
    "tabular": {"lr": log_uniform(3e-3, 0.3)},
    "exact": {"lr": log_uniform(1e-4, 5e-3)},
}
"""What is searched for every method alike. Sizes are not: they are what makes budgets compare."""

CLIPS: Space = {"clip_low": uniform(0.1, 0.4), "clip_high": uniform(0.1, 0.4)}
"""Clip ranges of the importance ratio, as `spaces` takes them."""

KL_WEIGHT = log_uniform(1e-3, 0.3)
"""Weights of a KL divergence to the reference."""


def presets(
    control: Settings | None = None,
    critic_free: Settings | None = None,
    language: Settings | None = None,
    tabular: Settings | None = None,
    exact: Settings | None = None,
) -> Presets:
    """Returns the presets of a group method: these sizes, and its own settings by kind of task."""
    return {
        "control": {**CONTROL, **(control or {})},
        "control@critic-free": {**CONTROL_CRITIC_FREE, **(critic_free or {})},
        "language": {**LANGUAGE, **(language or {})},
        "language@smollm2-135m": LANGUAGE_SMOLLM2,
        "tabular": {**TABULAR, **(tabular or {})},
        "exact": {**EXACT, **(exact or {})},
    }


def spaces(everywhere: Space | None = None, **kinds: Space) -> Spaces:
    """Returns search spaces: the learning rates, and a method's own settings.

    Args:
        everywhere: what is searched on tasks of every kind.
        kinds: what is searched on tasks of one kind too ("control", "language", "tabular",
            "exact").
    """
    found = {"any": everywhere or {}, **LEARNING_RATES}
    return found | {kind: {**found.get(kind, {}), **space} for kind, space in kinds.items()}
