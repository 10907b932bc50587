"""TRL's own ORPO as a row: it trains on the task's pairs, PairBench's task evaluates."""

from __future__ import annotations

from typing import Any, ClassVar

from pairbench import Field, Needs, Presets, register_algorithm
from pairbench.algorithms.orpo import ORPO
from pairbench.language.trl.train import Job, Silent, TRLRow, pairs_as_ids


@register_algorithm("trl-orpo")
class TRLORPO(TRLRow):
    """ORPO as TRL 1.16 trains it, on the same pairs in the same iterations as `orpo`.

    Its likelihood term counts the prompt's tokens too, ours only the preferred answer's. Prompts
    and answers are cut as the task cuts them, to ids; TRL's own tokenization, which would end every
    answer, cut or not, is left out. Where the task forbids the end of sequence (completions of
    fixed length), TRL's log-probabilities are those of the model with it, ours without.
    """

    source = "TRL 1.16.0, trl.experimental.orpo.ORPOTrainer"
    presets: ClassVar[Presets] = {
        name: {"beta" if key == "lam" else key: value for key, value in settings.items()}
        for name, settings in ORPO.presets.items()
        if name.startswith("language")
    }

    class Config(TRLRow.Config):
        """Settings of TRL's ORPOConfig that decide what is computed, with its defaults."""

        disable_dropout: bool = Field(True, description="switch the model's dropout off")
        beta: float = Field(0.1, ge=0, description="weight of the odds-ratio term, our lambda")

    config: Config

    @property
    def needs(self) -> Needs:
        return Needs("pairs", "comparisons", offline=True, probabilities=True)

    def trainer(self, job: Job) -> Any:
        import datasets
        from trl.experimental import orpo

        columns, self.tokens = pairs_as_ids(job, self.config.epochs)

        class Trainer(Silent, orpo.ORPOTrainer):  # type: ignore[misc]
            def tokenize_row(self, feature: Any, model: Any = None) -> dict[str, list[int]]:
                return _row(feature["prompt"], feature["chosen"], feature["rejected"])

        return Trainer(
            **job.shared,
            args=orpo.ORPOConfig(
                **job.arguments,
                **self.config.by_trl_name(),
                remove_unused_columns=False,
                train_sampling_strategy="sequential",
            ),
            train_dataset=datasets.Dataset.from_dict(columns),
        )

    def account(self, job: Job, iteration: int) -> None:
        job.run.cost.steps += self.tokens[iteration]
        job.run.cost.comparisons += self.config.contexts


def _row(prompt: list[int], chosen: list[int], rejected: list[int]) -> dict[str, list[int]]:
    """Returns a row as TRL's ORPOTrainer makes it of texts: no label on the prompt."""
    row = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        row[f"{name}_input_ids"] = prompt + answer
        row[f"{name}_attention_mask"] = [1] * len(prompt + answer)
        row[f"{name}_labels"] = [-100] * len(prompt) + answer
    return row
