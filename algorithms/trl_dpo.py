"""TRL's own DPO as a row: it trains on the task's pairs, PairBench's task evaluates."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pairbench import Field, Needs, Presets, register_algorithm
from pairbench.algorithms.dpo import DPO
from pairbench.language.trl.train import Job, Silent, TRLRow, pairs_as_ids


@register_algorithm("trl-dpo")
class TRLDPO(TRLRow):
    """DPO as TRL 1.16 trains it, on the same pairs in the same iterations as `dpo`.

    Prompts and answers are cut as the task cuts them, to ids; TRL's own tokenization is left out.
    Where the task forbids the end of sequence (completions of fixed length), TRL's
    log-probabilities are those of the model with it, ours without.
    """

    source = "TRL 1.16.0, trl.DPOTrainer"
    presets: ClassVar[Presets] = {
        name: settings for name, settings in DPO.presets.items() if name.startswith("language")
    }

    class Config(TRLRow.Config):
        """Settings of TRL's DPOConfig that decide what is computed, with its defaults."""

        disable_dropout: bool = Field(True, description="switch the model's dropout off")
        beta: float = Field(0.1, gt=0, description="inverse temperature of the implicit reward")
        loss_type: Literal[
            "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard",
            "aot", "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
        ] = Field("sigmoid", description="loss of the margin")  # fmt: skip
        label_smoothing: float = Field(
            0.0, ge=0, lt=0.5, description="assumed share of flipped labels (robust, exo_pair)"
        )
        f_divergence_type: Literal[
            "reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"
        ] = Field("reverse_kl", description="divergence from the reference")
        f_alpha_divergence_coef: float = Field(0.5, description="alpha of alpha_divergence")
        ld_alpha: float | None = Field(
            None, ge=0, le=1, description="weight of tokens beyond the shorter answer; None: 1"
        )
        use_weighting: bool = Field(False, description="weigh pairs by their likelihood (WPO)")
        discopop_tau: float = Field(0.05, gt=0, description="temperature of discopop")

    config: Config

    @property
    def needs(self) -> Needs:
        return Needs("pairs", "comparisons", offline=True, reference=True)

    def trainer(self, job: Job) -> Any:
        import datasets
        import trl

        columns, self.tokens = pairs_as_ids(job, self.config.epochs)

        class Trainer(Silent, trl.DPOTrainer):  # type: ignore[misc]
            def _prepare_dataset(self, dataset: Any, *args: Any, **named: Any) -> Any:
                return dataset

        return Trainer(
            **job.shared,
            args=trl.DPOConfig(
                **job.arguments,
                **self.config.by_trl_name(),
                train_sampling_strategy="sequential",
            ),
            train_dataset=datasets.Dataset.from_dict(
                {f"{name}_ids": column for name, column in columns.items()}
            ),
        )

    def account(self, job: Job, iteration: int) -> None:
        job.run.cost.steps += self.tokens[iteration]
        job.run.cost.comparisons += self.config.contexts
