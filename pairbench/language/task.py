"""`LanguageTask`: preference data as prompts, completions of a language model as responses."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from pairbench.algorithm import Floor, Method, Needs
from pairbench.errors import PairBenchError
from pairbench.evaluation import Guard, Measure
from pairbench.language.data.load import load
from pairbench.language.data.pairs import Preferences
from pairbench.language.judges.judge import STANDARD_ERRORS, Judge, Role
from pairbench.language.judges.panel import (
    COMPONENTS,
    Oracle,
    RewardModel,
    component_judges,
    judged,
    oracle,
)
from pairbench.places import NAMED, PLACE
from pairbench.results.record import digest
from pairbench.seeding import Streams
from pairbench.task import Task
from pairbench.teacher import TeacherConfig

if TYPE_CHECKING:  # what loads transformers and evaluate is imported when a task is used
    from pairbench.language.metrics import FurtherMetrics
    from pairbench.language.policy.models import LanguageModel
    from pairbench.language.prompts import Prompts
    from pairbench.language.session import LanguageSession

PRETRAINED = "smollm2-135m"
"""The variant whose presets and settings any pretrained model takes."""


MEASURES = (
    Measure(
        name="kl_ref",
        title="KL to SFT",
        meaning="KL to the untrained policy",
        unit="nats per response",
        role="distance",
        levels=(1.0, 3.0, 8.0),
    ),
    Measure(
        name="beats_sft",
        title="beats SFT",
        meaning="Win rate against the untrained policy's own responses",
        better=1,
        role="win rate",
    ),
    Measure(
        name="variety_of_sft",
        title="variety / SFT",
        meaning="Share of different tokens in a response over the untrained policy's",
        guard=Guard(
            floor=0.8, fails="repeats itself", of="of the untrained policy's variety"
        ),
    ),
    Measure(name="variety", title="variety", meaning="Share of different tokens in a response"),
    Measure(
        name="distinct_1", title="distinct 1",
        meaning="Different tokens over all tokens of all responses",
    ),
    Measure(
        name="distinct_2", title="distinct 2",
        meaning="Different pairs of tokens over all pairs of all responses",
    ),
    Measure(
        name="refusals", title="refusals", meaning="Share of responses that refuse in so many words"
    ),
    Measure(name="length", title="length", meaning="Mean tokens of a response"),
)  # fmt: skip
"""What the measures of a language task mean."""


def _unset(value: object) -> bool:
    return value is None or value == ()


class LanguageConfig(TeacherConfig):
    """Settings of a language task; those of the teacher's noise are inherited."""

    model: str = Field(
        "tiny",
        description="tiny, smollm2-135m, a hub id or a folder",
        json_schema_extra={"place": ["tiny", "smollm2-135m"]},
    )
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
        "cpu", description="where the policy works, as torch names it", exclude_if="cpu".__eq__
    )
    proxy: str | None = Field(
        None,
        description="a reward model (sequence classification: hub id or folder) as proxy judge",
        exclude_if=_unset,
        json_schema_extra=PLACE,
    )
    gold: str | None = Field(
        None, description="one as gold judge", exclude_if=_unset, json_schema_extra=PLACE
    )
    micro_rows: int | None = Field(None, ge=1, description="rows computed at a time; None: all")
    metrics: tuple[str, ...] = Field(
        (),
        description="further metrics of `evaluate`: exact_match, module:Class or a script's path",
        exclude_if=_unset,
        json_schema_extra={"place": ["exact_match"]},
    )

    @property
    def least_tokens(self) -> int:
        """How many tokens a completion has at least."""
        return self.completion_tokens if self.fixed_length else 0


class LanguageTask(Task):
    """A preference data set; a subclass gives its name in `pairbench.language.data.load.load`.

    Prompts of the split "policy" are trained on, those of "evaluation" are held out; the judges
    were fitted on the other two. Validation takes its prompts from the split "proxy": the policy,
    its model and the gold judge have not seen them, the proxy judge has. The proxy judge scores
    completions in training, and the teacher's comparisons follow that score; the gold judge is seen
    by the evaluation alone (Gao et al. 2023, arXiv 2210.10760). Where scores are asked for in
    components, HH-RLHF's helpful and harmless proxy judges both score each completion. A prompt's
    domain is its pair's source. Offline methods read the data set's own pairs of the training
    prompts; methods that want both are given, with each group, the data set's pair of its prompt.
    Where no judge of the data has shown that it may rank, the held-out pairs' preference accuracy
    does.
    """

    version = "2"
    kind = "language"
    unit = "completion tokens"
    scores_of = "measure"
    measures = MEASURES
    packages = ("transformers", "tokenizers")
    adam_eps = 1e-8
    dataset: ClassVar[str]
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {},
        "smollm2-135m": {"model": "smollm2-135m", "micro_rows": 32},
    }

    @classmethod
    def variant(cls, name: str) -> tuple[str, Mapping[str, Any]] | None:
        """Returns a listed variant, or the model of a hub id (owner/name) or folder.

        Such a model is pretrained, so it takes the algorithms' presets for SmolLM2-135M.
        """
        listed = super().variant(name)
        if listed is None and ("/" in name or NAMED.fullmatch(name) or Path(name).is_dir()):
            return PRETRAINED, {**cls.variants[PRETRAINED], "model": name}
        return listed

    class Config(LanguageConfig):
        """A language task's settings."""

    config: LanguageConfig

    def skip(self, algorithm: Method) -> str | None:
        needs = algorithm.needs
        if isinstance(algorithm, Floor) and algorithm.policy == "random":
            return f"{self.name} has no random policy: uniform tokens are not language"
        if needs.enumerable:
            return f"{algorithm.name} enumerates all responses, and completions are too many"
        online = needs.data != "nothing" and not (needs.data == "pairs" and needs.offline)
        if online and self.config.proxy is None and not judged(self.dataset):
            return f"{algorithm.name} needs completions scored, and {self.name} has no judge"
        if needs.components and (self.config.proxy is not None or self.dataset not in COMPONENTS):
            return (
                f"{algorithm.name} needs several scores of each completion, and {self.name} has "
                "one judge"
            )
        return None

    @property
    def source_of_pairs(self) -> str:
        """What `pairbench.language.data.load.load` is asked for."""
        return self.dataset

    @cached_property
    def data(self) -> Preferences:
        """The cleaned pairs."""
        return load(self.source_of_pairs, online=self.config.online)

    @cached_property
    def language_model(self) -> LanguageModel:
        """The initial policy's model and tokenizer; trained on first use where it is `tiny`."""
        from pairbench.language.policy.models import load_model
        from pairbench.language.policy.tiny import Tiny

        tiny = Tiny.model_validate({"steps": self.config.sft_steps})
        return load_model(self.config.model, sft=self.data.sft_texts(), tiny=tiny)

    @cached_property
    def prompts(self) -> tuple[Prompts, Prompts]:
        """The prompts that are trained on, and those held out, as the model reads them."""
        from pairbench.language.prompts import prompts_of

        return prompts_of(self.data, self.language_model, self.config)

    @cached_property
    def proxy(self) -> Oracle | None:
        """What training sees, or None where nothing scores completions of these prompts."""
        return self._oracle("proxy", self.config.proxy)

    @cached_property
    def gold(self) -> Oracle | None:
        """What only the evaluation sees, or None likewise."""
        return self._oracle("gold", self.config.gold)

    def _oracle(self, role: Role, model: str | None) -> Oracle | None:
        return oracle(self.dataset, role) if model is None else RewardModel(role, model)

    @cached_property
    def metrics(self) -> FurtherMetrics:
        """What completions are measured by beside `measures`, as the setting says."""
        from pairbench.language.metrics import FurtherMetrics

        return FurtherMetrics(self.config.metrics)

    def declared(self) -> tuple[Measure, ...]:
        if not self.config.metrics:
            return self.measures
        from pairbench.language.metrics import inputs_of

        pairs = self.data.pairs[:2]
        texts = [pair.rejected for pair in pairs]
        example = inputs_of(pairs, texts, [list(text.encode()) for text in texts])
        further = self.metrics.measures(example, [measure.name for measure in self.measures])
        return (*self.measures, *further)

    @classmethod
    def code(cls, settings: Mapping[str, Any]) -> list[str]:
        if not settings.get("metrics"):
            return []
        from pairbench.language.metrics import OURS

        return [name for name in settings["metrics"] if name not in OURS]

    def check(self) -> None:
        _ = self.data, self.proxy, self.gold, self.declared()
        from pairbench.language.prompts import check

        check(self.data, self.config, self._reward_models())

    def read(self, needs: Needs) -> dict[str, str]:
        from pairbench.language.policy.models import read_of_model
        from pairbench.language.policy.tiny import Tiny

        tiny = Tiny.model_validate({"steps": self.config.sft_steps})
        sft = self.data.sft_texts() if self.config.model == "tiny" else ()
        found = {"data": self.data.sha256, **read_of_model(self.config.model, sft, tiny)}
        for judge in filter(None, (self.proxy, self.gold)):
            for name, card in judge.cards.items():
                found |= {name: str(card.get("head_sha256") or card["sha256"])}
        found |= {part.card.name: part.card.head_sha256 for part in self.components(needs)}
        if self.config.metrics:
            found["metrics"] = digest(self.metrics.provenance())
        return found

    @property
    def caveat(self) -> str | None:
        """One sentence on why no judge ranks here, or None where the gold judge does."""
        if self.gold is None:
            return "No gold judge scores these completions: rows are ranked by preference accuracy."
        if self.gold.ranks:
            return None
        return (
            f"Smoke test only where it comes to completions: the {self.gold.name} does not beat "
            f"the better length rule by {STANDARD_ERRORS:g} standard errors on held-out pairs, so "
            "rows are ranked by the preference accuracy of their implicit reward on held-out pairs."
        )

    @property
    def demonstration(self) -> str | None:
        """Why no run here ranks a method: the judge that ranks is made of the model trained."""
        family = self.config.model.partition("-")[0]
        kinds = [str(card.get("kind")) for card in self.gold.cards.values()] if self.gold else []
        if any(kind.startswith(f"{family}-") for kind in kinds):
            return f"the gold judge reads the first layers of {family}, which is the model trained"
        return None

    def components(self, needs: Needs) -> tuple[Judge, ...]:
        """The judges that score one thing each, if an algorithm asks for such scores."""
        return component_judges(self.dataset, "proxy") if needs.components else ()

    def begin(self, algorithm: Method, streams: Streams, threads: int = 1) -> LanguageSession:
        """Begins a run; see `Task.begin`.

        Raises:
            PairBenchError: no data, model or judge within reach, or sizes that do not fit.
        """
        from pairbench.language.session import LanguageSession, check_asked

        check_asked(self.name, algorithm)
        if algorithm.needs.components and not self.components(algorithm.needs):
            raise PairBenchError(
                f"{algorithm.name} needs several scores of each completion, and not all "
                f"judges of {' and '.join(COMPONENTS[self.dataset])} are there: install PairBench "
                "again"
            )
        return LanguageSession(self, algorithm, streams)

    def _told(self) -> dict[str, Any]:
        """What reading and cutting the data did, as numbers and as a note for the board."""
        from pairbench.language.prompts import cuts, note

        # a run that ended early has no prompts
        cut = cuts(*self.prompts) if "prompts" in self.__dict__ else {}
        repeated, own = self.data.repeated, self._reward_models()
        judges = {judge.role: judge.cut for judge in own if judge.cut}
        said = note(cut, repeated, judges, self.config)
        return {"repeated": repeated, "cut": cut, "cut for judges": judges, "note": said}

    def _reward_models(self) -> list[RewardModel]:
        return [judge for judge in (self.proxy, self.gold) if isinstance(judge, RewardModel)]

    def provenance(self, needs: Needs) -> dict[str, Any]:
        return {
            "data_sha256": self.data.sha256,
            "data_revision": self.data.revision,
            "pairs": len(self.data.pairs),
            "dropped": dict(self.data.dropped),
            **self._told(),
            "model": self.language_model.card,
            "caveat": self.caveat,
            **({"demonstration": why} if (why := self.demonstration) else {}),
            "judges": {
                name: card
                for judge in (self.proxy, self.gold)
                if judge is not None
                for name, card in judge.cards.items()
            }
            | {part.card.name: part.card.short() for part in self.components(needs)},
            **({"metrics": self.metrics.provenance()} if self.config.metrics else {}),
        }
