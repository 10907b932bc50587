"""`PromptTask`: prompts, and functions of the user's own that score completions of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, field_validator

from pairbench.algorithm import Floor, Method, Needs
from pairbench.errors import PairBenchError
from pairbench.evaluation import Measure
from pairbench.language.rewards.function import RewardFunction, known_as, parsed
from pairbench.language.rewards.oracle import Rewards
from pairbench.language.rewards.rows import PromptSet
from pairbench.language.task import LanguageConfig, LanguageTask
from pairbench.results.read import source_of
from pairbench.results.record import digest
from pairbench.seeding import Streams, generator

if TYPE_CHECKING:  # what loads transformers is imported when a task is used
    from pairbench.language.policy.models import LanguageModel
    from pairbench.language.policy.tiny import Text, Tiny
    from pairbench.language.prompts import Prompts
    from pairbench.language.rewards.session import PromptSession

TRIED = 2
"""Prompts on which the functions are tried before the first run."""

ROUNDS = 8
"""Times that texts are dealt out anew among the prompts, for tiny to learn."""


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class PromptConfig(LanguageConfig):
    """A language task's settings, and the functions."""

    reward: Annotated[tuple[str, ...], BeforeValidator(_several)] = Field(
        (), description="functions that score completions, as my_rewards.py:correct=0.5"
    )
    gold: str | None = Field(
        None, description="a function that ranks in their place, and trains nobody"
    )
    samples: int = Field(8, ge=1, description="completions of each held-out prompt")
    sft: str | None = Field(
        None, description="a column whose texts tiny learns to write, each for another's prompt"
    )
    sft_steps: int = Field(300, ge=1, description="gradient steps that make the model tiny")
    prompt_tokens: int = Field(256, ge=1, description="prompts are cut to so many, on the left")
    completion_tokens: int = Field(32, ge=1, description="most tokens of a completion")
    fixed_length: bool = Field(False, description="completions have exactly that many")

    @field_validator("reward", "gold")
    @classmethod
    def _written(cls, value: tuple[str, ...] | str | None) -> tuple[str, ...] | str | None:
        for text in _several(value) or ():
            try:
                parsed(text)
            except PairBenchError as error:
                raise ValueError(str(error)) from error
        return value

    def by_content(self) -> Self:
        """Returns the settings without any path; see `TaskConfig.by_content`."""
        known = {"reward": tuple(map(known_as, self.reward))}
        gold = {"gold": known_as(self.gold)} if self.gold else {}
        return super().by_content().model_copy(update={**known, **gold})


class PromptTask(LanguageTask):
    """Prompts alone; a subclass gives them as `data`.

    The functions of `reward` train, and rank unless there is `gold`. Prompts of the smallest hashes
    are held out: a fifth for the evaluation, a tenth for `pairbench tune`. The model `tiny` learns
    to write what `sft` names, or the prompts' own words, each for another's prompt.
    """

    version = "1"
    dataset = "prompts"
    standard_protocol: ClassVar[Mapping[str, Any]] = {"budget": {"gradient_steps": 80}}

    class Config(PromptConfig):
        """The settings of prompts and functions."""

    config: PromptConfig

    def skip(self, algorithm: Method) -> str | None:
        needs = algorithm.needs
        if isinstance(algorithm, Floor) and algorithm.policy == "random":
            return f"{self.name} has no random policy: uniform tokens are not language"
        if needs.enumerable:
            return f"{algorithm.name} enumerates all responses, and completions are too many"
        if needs.offline:
            return f"{algorithm.name} reads pairs of answers, and {self.name} has prompts alone"
        if needs.components and len(self.config.reward) < 2:
            return f"{algorithm.name} needs several rewards, and {self.name} has one at most"
        return None

    @property
    def own_name(self) -> str:
        """What the user calls it."""
        return self.name.rpartition(":")[2]

    @cached_property
    def data(self) -> PromptSet:
        """The prompts: each task of this kind says which they are."""
        raise NotImplementedError

    @cached_property
    def functions(self) -> tuple[RewardFunction, ...]:
        """What trains."""
        if not self.config.reward:
            raise PairBenchError(
                f"{self.own_name} has no reward function: add --reward FILE.py:FUNCTION"
            )
        return tuple(map(RewardFunction, self.config.reward))

    @cached_property
    def gold_functions(self) -> tuple[RewardFunction, ...]:
        """What ranks in its place, if anything."""
        return (RewardFunction(self.config.gold),) if self.config.gold else ()

    @cached_property
    def proxy(self) -> Rewards:
        """What training sees."""
        return Rewards(self.functions, self.data, self.gold_functions)

    @cached_property
    def gold(self) -> Rewards | None:
        """What only the evaluation sees, or None where it sees what training does."""
        gold = self.gold_functions
        return Rewards(gold, self.data, self.functions) if gold else None

    @property
    def ranking(self) -> Rewards:
        """What ranks."""
        return self.gold or self.proxy

    def parts(self, needs: Needs) -> tuple[Rewards, ...]:
        """Returns each function apart, if an algorithm asks for such rewards."""
        if not needs.components:
            return ()
        return tuple(Rewards((one,), self.data) for one in self.functions)

    @property
    def caveat(self) -> str | None:
        """Nothing: a function says what it says."""
        return None

    @property
    def demonstration(self) -> str | None:
        """Nothing, likewise."""
        return None

    def declared(self) -> tuple[Measure, ...]:
        from pairbench.language.rewards.session import passes

        who, drawn = self.ranking.name, self.config.samples
        passed = tuple(
            Measure(
                name=f"pass@{k}",
                title=f"pass@{k}",
                meaning=f"Chance that one of {k} completions has {who} = 1, from {drawn} drawn",
                better=1,
            )
            for k in passes(drawn)
        )
        functions = zip(self.proxy.titles, self.functions)
        apart = tuple(
            Measure(name=title, title=title, meaning=f"Mean of {f.title} where it applies")
            for title, f in functions
            if len(self.functions) > 1
        )
        return (*passed, *apart, *super().declared())

    @classmethod
    def code(cls, settings: Mapping[str, Any]) -> list[str]:
        gold = settings.get("gold")
        found = [*_several(settings.get("reward") or ()), *([gold] if gold else [])]
        return [*found, *super().code(settings)]

    def check(self) -> None:
        """Checks prompts and settings, and tries the functions on a few completions.

        Raises:
            PairBenchError: something is missing, or a function fails or returns what it may not.
        """
        from pairbench.language.prompts import check

        tried = self.data.split()["policy"][:TRIED]
        turns, texts = [pair.prompt for pair in tried], ["" for _ in tried]
        ids: list[list[int]] = [[] for _ in tried]
        for function in (*self.functions, *self.gold_functions):
            function.check_columns(self.data.columns, self.own_name)
        for rewards in filter(None, (self.proxy, self.gold)):
            rewards.total(rewards.each(turns, texts, ids), texts)
        if self.config.model == "tiny":
            self._sft_texts()
        self.declared()
        check(self.data, self.config)

    def _tiny(self) -> Tiny:
        from pairbench.language.policy.tiny import Tiny

        asked = {"vocabulary": 512, "steps": self.config.sft_steps, "passes": 1e6}
        return Tiny.model_validate(asked)

    def _sft_texts(self) -> list[Text]:
        """What tiny learns: the form of answers and not whose they are, so that is left to learn.

        Raises:
            PairBenchError: the column that is to be learned is missing, or not text.
        """
        from pairbench.language.data.pairs import prompt_text

        pairs, column = self.data.split()["policy"], self.config.sft
        if column is not None and column not in self.data.columns:
            raise PairBenchError(f"{self.own_name} has no column {column!r} for tiny to learn from")
        rows = [self.data.rows[pair.prompt] for pair in pairs]
        said = [
            pair.prompt[-1][1] if column is None else str(row.columns.get(column))
            for pair, row in zip(pairs, rows)
        ]
        deal = generator(0, "init/answers")
        return [
            (prompt_text(pair.prompt), f" {said[at]}")
            for _ in range(ROUNDS)
            for pair, at in zip(pairs, deal.permutation(len(said)))
        ]

    @cached_property
    def language_model(self) -> LanguageModel:
        """The initial policy's model and tokenizer; trained on first use where it is `tiny`."""
        from pairbench.language.policy.models import load_model

        texts = self._sft_texts() if self.config.model == "tiny" else ()
        return load_model(self.config.model, sft=texts, tiny=self._tiny())

    @cached_property
    def prompts(self) -> tuple[Prompts, Prompts]:
        """The prompts that are trained on, and those held out, as the model reads them."""
        from pairbench.language.prompts import encoded

        split, config = self.data.split(), self.config
        held_out = split["evaluation" if config.held_out == "evaluation" else "proxy"]
        chosen = held_out[: config.evaluation_prompts]
        return (
            encoded(split["policy"], self.language_model, config),
            encoded(chosen, self.language_model, config),
        )

    def read(self, needs: Needs) -> dict[str, str]:
        from pairbench.language.policy.models import read_of_model

        texts = self._sft_texts() if self.config.model == "tiny" else ()
        found = {"data": self.data.sha256}
        found |= read_of_model(self.config.model, texts, self._tiny())
        for function in (*self.functions, *self.gold_functions):
            found[source_of(function.title)] = function.sha256
        if self.config.metrics:
            found["metrics"] = digest(self.metrics.provenance())
        return found

    def begin(self, algorithm: Method, streams: Streams, threads: int = 1) -> PromptSession:
        """Begins a run; see `Task.begin`.

        Raises:
            PairBenchError: no prompts, model or functions within reach.
        """
        from pairbench.language.prompts import Prompts
        from pairbench.language.rewards.session import PromptSession
        from pairbench.language.session import check_asked

        check_asked(self.name, algorithm)
        training, held_out = self.prompts
        times = math.ceil(algorithm.config.contexts / len(training.pairs))
        if times == 1:
            return PromptSession(self, algorithm, streams)
        enough = copy.copy(self)  # a batch of more prompts than there are has some twice
        repeated = Prompts(training.pairs * times, training.ids.repeat(times, 1))
        enough.__dict__["prompts"] = repeated, held_out
        return PromptSession(enough, algorithm, streams)

    def provenance(self, needs: Needs) -> dict[str, Any]:
        rewards = filter(None, (self.proxy, self.gold))
        return {
            "data_sha256": self.data.sha256,
            "data_revision": self.data.revision,
            "prompts": len(self.data.pairs),
            "dropped": dict(self.data.dropped),
            **self._told(),
            "model": self.language_model.card,
            "rewards": {name: card for one in rewards for name, card in one.cards.items()},
            **({"metrics": self.metrics.provenance()} if self.config.metrics else {}),
        }
