"""TRL's own GRPO as a row: it trains, PairBench's task scores its completions and evaluates."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from pairbench.algorithm import Needs, Presets
from pairbench.algorithms.grpo import LANGUAGE, LANGUAGE_SMOLLM2
from pairbench.errors import DivergedError
from pairbench.language.trl import Job, Silent, TRLRow, prompts_as_ids
from pairbench.registry import register_algorithm


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
        "language": LANGUAGE,
        "language@smollm2-135m": LANGUAGE_SMOLLM2,
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
        import datasets
        import trl

        from pairbench.language.data import render

        config, task, cost = self.config, job.task, job.run.cost
        judge, length = task.proxy, task.config.completion_tokens
        assert judge is not None  # the task's skip() sees to it
        pairs = [task._training.pairs[row] for row in job.rows.ravel()]
        texts = [render(pair.prompt, task.language_model.tokenizer) for pair in pairs]
        cut = prompts_as_ids(job, texts)

        class Trainer(Silent, trl.GRPOTrainer):  # type: ignore[misc]
            def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, Any]:
                return [cut[prompt] for prompt in prompts], None, {}

        def reward(
            completions: list[str], completion_ids: list[list[int]], pair: list[int], **rest: Any
        ) -> list[float]:
            answered = [pairs[index] for index in pair]
            scores = judge.score(
                [one.prompt for one in answered],
                [text.strip() for text in completions],
                [one.source for one in answered],
            )
            cost.steps += sum(len(ids) for ids in completion_ids)
            cost.scores += len(scores)
            values = [float(score) for score in scores]
            if not all(-float("inf") < value < float("inf") for value in values):
                raise DivergedError(cost.iterations, f"the score of the judge {judge.name}")
            return values

        return Trainer(
            **job.shared,
            args=trl.GRPOConfig(
                **job.arguments,
                **config.by_trl_name(),
                num_generations=config.group_size,
                num_iterations=config.epochs,
                steps_per_generation=config.minibatches,
                max_completion_length=length,
                temperature=task.config.sampling_temperature,
                generation_kwargs={"min_new_tokens": length} if task.config.fixed_length else None,
                shuffle_dataset=False,
            ),
            reward_funcs=reward,
            train_dataset=datasets.Dataset.from_dict(
                {"prompt": texts, "pair": list(range(len(pairs)))}
            ),
        )

    def account(self, job: Job, iteration: int) -> None:
        """Tokens and scores were counted when the reward was asked for."""
