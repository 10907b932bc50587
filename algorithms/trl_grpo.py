"""TRL's own GRPO as a row: it trains, PairBench's task scores its completions and evaluates."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pairbench import Field, Needs, Presets, register_algorithm, shared
from pairbench.language.trl.train import CutPrompts, Job, TRLRow, completions_trainer


@register_algorithm("trl-grpo")
class TRLGRPO(TRLRow):
    """GRPO as TRL 1.16 trains it: by default DAPO's loss, and no KL to a reference.

    `group_size` is TRL's num_generations, `epochs` its num_iterations, and `minibatches` its
    steps_per_generation; it shuffles rows, not groups, into minibatches. The reward is the task's
    proxy judge, prompts are cut as the task cuts them, and where completions have a fixed length
    min_new_tokens forbids the end of sequence while sampling. TRL cannot forbid it while scoring:
    its log-probabilities there are those of the model with the end of sequence, ours without.
    """

    source = "TRL 1.16.0, trl.GRPOTrainer"
    presets: ClassVar[Presets] = {
        "language": shared.LANGUAGE,
        "language@smollm2-135m": shared.LANGUAGE_SMOLLM2,
    }

    class Config(TRLRow.Config):
        """Settings of TRL's GRPOConfig that decide what is computed, with its defaults."""

        group_size: int = Field(8, ge=2, description="G, num_generations")
        loss_type: Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = (
            Field("dapo", description="loss and its aggregation")
        )
        beta: float = Field(0.0, ge=0, description="weight of the KL to the reference")
        use_bias_correction_kl: bool = Field(True, description="the KL term times the ratio")
        epsilon: float = Field(0.2, gt=0, description="clip range of the ratio")
        epsilon_high: float | None = Field(
            None, gt=0, description="the same above 1, or the cap under cispo; None: epsilon"
        )
        delta: float | None = Field(None, gt=1, description="two-sided clipping's upper bound")
        importance_sampling_level: Literal["token", "sequence"] = Field(
            "token", description="ratio per token, or exp of its mean log"
        )
        scale_rewards: Literal["group", "batch", "none"] = Field(
            "group", description="whose standard deviation scales advantages"
        )
        mask_truncated_completions: bool = Field(
            False, description="leave completions without an end of sequence out of the loss"
        )
        top_entropy_quantile: float = Field(
            1.0, ge=0, le=1, description="share of tokens, of highest entropy, in the loss"
        )
        entropy_coef: float = Field(0.0, description="weight of the entropy bonus")
        use_adaptive_entropy: bool = Field(False, description="adapt that weight")
        off_policy_mask_threshold: float | None = Field(
            None, gt=0, description="drop rows beyond this KL to the sampler"
        )
        sapo_temperature_pos: float = Field(1.0, gt=0, description="sapo's tau where A > 0")
        sapo_temperature_neg: float = Field(1.05, gt=0, description="sapo's tau elsewhere")
        top_p: float = Field(1.0, gt=0, le=1, description="nucleus sampling; 1: off")
        top_k: int = Field(0, ge=0, description="top-k sampling; 0: off")
        min_p: float | None = Field(None, ge=0, le=1, description="least share of the top's p")
        repetition_penalty: float = Field(1.0, gt=0, description="of sampling; 1: off")

        @property
        def rows(self) -> int:
            return self.contexts * self.group_size

    config: Config

    @property
    def needs(self) -> Needs:
        return Needs("groups", "scores", reference=self.config.beta > 0)

    def trainer(self, job: Job) -> Any:
        import trl

        class Trainer(CutPrompts, trl.GRPOTrainer):  # type: ignore[misc]
            pass

        return completions_trainer(Trainer, job, self.config, self.config.by_trl_name())

    def account(self, job: Job, iteration: int) -> None:
        job.run.cost.scores += self.config.rows
