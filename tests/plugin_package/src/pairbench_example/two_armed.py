"""The smallest bandit."""

from __future__ import annotations

from pairbench import Field, register_task
from pairbench.tasks.preference_bandit import PreferenceBandit


@register_task("two-armed-bandit")
class TwoArmedBandit(PreferenceBandit):
    """Four contexts of two arms."""

    version = "1"

    class Config(PreferenceBandit.Config):
        """The same problem, smaller."""

        contexts: int = Field(4, ge=1, description="X, contexts")
        arms: int = Field(2, ge=2, description="K, arms per context")
