"""Settings of a language task."""

from __future__ import annotations

from pydantic import Field

from pairbench.teacher import TeacherConfig


def _on_cpu(device: str) -> bool:
    return device == "cpu"


def _is_none(value: object) -> bool:
    return value is None


def _is_empty(names: tuple[str, ...]) -> bool:
    return not names


class LanguageConfig(TeacherConfig):
    """Settings of a language task; those of the teacher's noise are inherited."""

    model: str = Field("tiny", description="tiny, smollm2-135m, a hub id or a folder")
    sft_steps: int = Field(2200, ge=1, description="most gradient steps that make the model tiny")
    prompt_tokens: int = Field(64, ge=1, description="prompts are cut to so many, on the left")
    completion_tokens: int = Field(24, ge=1, description="most tokens of a completion")
    fixed_length: bool = Field(
        True, description="completions have exactly that many, so that length cannot be played on"
    )
    pair_tokens: int = Field(
        24, ge=1, description="answers of the data set's pairs are cut to so many"
    )
    sampling_temperature: float = Field(1.0, gt=0, description="of completions in training")
    evaluation_prompts: int = Field(128, ge=1, description="held-out prompts, one completion each")
    online: bool = Field(False, description="add the online part of the helpful pairs")
    lora_rank: int = Field(0, ge=0, description="rank of adapters; 0 trains every weight")
    bf16: bool = Field(False, description="compute in bfloat16")
    device: str = Field(
        "cpu", description="where the policy works, as torch names it", exclude_if=_on_cpu
    )
    proxy: str | None = Field(
        None,
        description="a reward model (sequence classification: hub id or folder) as proxy judge",
        exclude_if=_is_none,
    )
    gold: str | None = Field(None, description="one as gold judge", exclude_if=_is_none)
    micro_rows: int | None = Field(None, ge=1, description="rows computed at a time; None: all")
    metrics: tuple[str, ...] = Field(
        (),
        description="further metrics of `evaluate`: exact_match, module:Class or a script's path",
        exclude_if=_is_empty,
    )
