"""Prompts and reward functions of one's own: what GRPO is used for most."""

from __future__ import annotations

from functools import cache, cached_property

from pydantic import Field

from pairbench.errors import PairBenchError
from pairbench.language.rewards.rows import PromptSet, read_prompts
from pairbench.language.rewards.task import PromptConfig, PromptTask
from pairbench.places import PLACE, find
from pairbench.registry import register_task, specialised


@register_task("prompts")
class Prompts(PromptTask):
    """Prompts of a file, a folder or the hub, scored by functions of one's own (`--reward`).

    Every name is one of it: `--tasks my-prompts --set my-prompts.path=prompts.jsonl` is the task
    `prompts:my-prompts`. What the rows have beside the prompt reaches the functions.
    """

    source = "prompts and functions of the user's"

    class Config(PromptConfig):
        """The settings of prompts and functions, and where the prompts are."""

        path: str = Field(
            "",
            description="a .jsonl, .json, .csv (or .gz of these) or .parquet file, a folder saved "
            "by datasets, or owner/name on the hub",
            json_schema_extra=PLACE,
        )
        column: str = Field("prompt", description="the column with the prompts")
        split: str = Field("train", description="of a folder of several, and of the hub")
        subset: str | None = Field(None, description="of a data set of the hub")
        revision: str | None = Field(None, description="on the hub; the newest by default")

    config: Config

    @classmethod
    @cache
    def of(cls, what: str) -> type[Prompts]:
        """Returns the task `prompts:what`."""
        return specialised(cls, what)

    @cached_property
    def data(self) -> PromptSet:
        """The prompts."""
        config = self.config
        if not config.path:
            raise PairBenchError(
                f"{self.own_name} has no prompts: name a file, a folder or a data set of the hub "
                f"with --set {self.own_name}.path=..."
            )
        place = find(config.path)
        return read_prompts(
            self.own_name, place, config.column, config.split, config.subset, config.revision
        )
