"""Settings of a control task."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pairbench.teacher import TeacherConfig


class ControlConfig(TeacherConfig):
    """Settings of a control task; those of the teacher's noise are inherited."""

    oracle: Literal["value", "return"] = Field(
        "value",
        description="a segment's score: discounted return and the teacher's value, or return",
    )
    log_std: float = Field(-0.5, description="initial log standard deviation of the policy")
    log_std_floor: float = Field(-1.6, description="least log standard deviation")
    gamma: float = Field(0.99, gt=0, lt=1, description="discount of the teacher's value")
    value_passes: int = Field(5, ge=1, description="passes of the teacher's fit per iteration")
    value_minibatches: int = Field(4, ge=1, description="Adam steps per pass of the teacher's fit")
    value_lr: float = Field(1e-3, gt=0, description="Adam learning rate of the teacher's value")
    evaluation_episodes: int = Field(16, ge=1, description="episodes from fixed starts")
