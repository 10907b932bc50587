"""`LanguageTask`: preference data as prompts, completions of a language model as responses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from pairbench import seeding
from pairbench.algorithm import Floor, Method
from pairbench.batch import Batch
from pairbench.errors import DivergedError, PairBenchError
from pairbench.evaluation import Evaluation
from pairbench.language.data.load import load
from pairbench.language.data.pairs import Pair, Preferences, Split, Turn, prompt_id, prompt_text
from pairbench.language.judges.judge import STANDARD_ERRORS, Judge, Role
from pairbench.language.judges.panel import (
    COMPONENTS,
    OBJECTIVE_OF,
    Oracle,
    RewardModel,
    component_judges,
    judged,
    oracle,
)
from pairbench.language.measures import MEASURES
from pairbench.language.metrics import completion_measures
from pairbench.language.policy.encoding import encode_answers, encode_prompts
from pairbench.language.policy.models import LanguageModel, load_model
from pairbench.language.policy.policy import LanguagePolicy, Lora
from pairbench.language.policy.tiny import Tiny
from pairbench.policy import Policy
from pairbench.results.record import digest
from pairbench.seeding import Streams
from pairbench.statistics import win_rate
from pairbench.task import Task
from pairbench.teacher import Teacher, TeacherConfig

EVALUATION_SEED = 0
"""Seed of the evaluation's randomness: the same for every seed and algorithm."""

PRETRAINED = "smollm2-135m"
"""The variant whose presets and settings any pretrained model takes."""

_INITIAL: dict[str, Initial] = {}
"""Of the last task's initial policy; all runs of a task in a process begin with it."""

GOLD, PROXY = "gold judge", "proxy judge"
"""What scores by the two judges are called."""


def _on_cpu(device: str) -> bool:
    return device == "cpu"


def _is_none(value: object) -> bool:
    return value is None


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


@dataclass(frozen=True)
class Prompts:
    """Prompts of one use, as turns and as token ids.

    Attributes:
        pairs: the preference pairs they come from, one prompt each.
        ids: (N, P) int64, left padded with -1.
    """

    pairs: tuple[Pair, ...]
    ids: Tensor

    def take(self, rows: NDArray[np.int64]) -> Prompts:
        """Returns the prompts of `rows`, without columns that only others needed."""
        ids = self.ids[torch.from_numpy(rows)]
        width = int((ids >= 0).sum(1).max())
        return Prompts(tuple(self.pairs[row] for row in rows), ids[:, -width:])


@dataclass(frozen=True)
class Look:
    """One completion a held-out prompt: ids, mask and log-probabilities (N, T), texts, scores."""

    responses: Tensor
    mask: Tensor
    logp: Tensor
    texts: list[str]
    scores: dict[str, NDArray[np.float64]]
    measures: dict[str, float]


@dataclass(frozen=True)
class Initial:
    """What the initial policy, the reference, says, and its log-probabilities of held-out pairs."""

    look: Look
    pairs: Tensor


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

    version = "1"
    kind = "language"
    unit = "completion tokens"
    scores_of = "measure"
    measures = MEASURES
    packages = ("transformers", "tokenizers")
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
        if listed is None and ("/" in name or Path(name).is_dir()):
            return PRETRAINED, {**cls.variants[PRETRAINED], "model": name}
        return listed

    class Config(LanguageConfig):
        """A language task's settings."""

    config: LanguageConfig
    _parts: tuple[Judge, ...] = ()

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
        tiny = Tiny.model_validate({"steps": self.config.sft_steps})
        return load_model(self.config.model, sft=self.data.sft_texts(), tiny=tiny)

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

    def check(self) -> None:
        _ = self.data, self.proxy, self.gold

    def data_sha256(self) -> str | None:
        return self.data.sha256

    def start(self, algorithm: Method, streams: Streams, threads: int = 1) -> LanguagePolicy:
        """Begins a run; see `Task.start`.

        Raises:
            PairBenchError: no data, model or judge within reach, or sizes that do not fit.
        """
        config, needs, asked = self.config, algorithm.needs, algorithm.config
        self._needs, self._streams = needs, streams
        # pairs of the data set beside groups are no question to the teacher
        beside = needs.offline and needs.data == "groups+pairs"
        self._asked = replace(needs, data="groups", offline=False) if beside else needs
        self._contexts, self._size = asked.contexts, asked.group_size
        self._teacher = Teacher(config)
        told = self._asked
        comparing = (told.feedback == "comparisons" or "pairs" in told.data) and not told.offline
        if comparing and (self._size < 2 or needs.queries == "none"):
            raise PairBenchError(
                f"{algorithm.name} compares completions but asks for {self._size} a prompt and "
                f"{needs.queries} queries; set group_size to at least 2 and name the queries"
            )
        if needs.data == "pairs" and not needs.offline and needs.queries != "best-worst":
            raise PairBenchError(
                f"{self.name} gives one pair a group under best-worst queries only; "
                f"{algorithm.name} must ask for those in place of {needs.queries}"
            )
        self._parts = component_judges(self.dataset, "proxy") if needs.components else ()
        if needs.components and not self._parts:
            raise PairBenchError(
                f"{algorithm.name} needs several scores of each completion, and not all "
                f"judges of {' and '.join(COMPONENTS[self.dataset])} are there: install PairBench "
                "again"
            )
        model, split = self.language_model, self.data.split()
        self._training = self._encode(split["policy"])
        sources = [pair.source for pair in self._training.pairs]
        self._shares = {source: count / len(sources) for source, count in Counter(sources).items()}
        if needs.data != "nothing" and len(self._training.pairs) < self._contexts:
            raise PairBenchError(
                f"{self.name} has {len(self._training.pairs)} training prompts, fewer than the "
                f"{self._contexts} that {algorithm.name}.contexts asks for: lower it"
            )
        held_out = _distinct(split[self._held_out])[: config.evaluation_prompts]
        self._evaluation = self._encode(held_out)
        policy = LanguagePolicy(
            model.model,
            model.eos,
            seed=streams.seed,
            critic=needs.critic,
            lora=Lora(config.lora_rank, 2 * config.lora_rank) if config.lora_rank else None,
            bf16=config.bf16,
            micro_rows=config.micro_rows,
            device=config.device,
            min_length=config.completion_tokens if config.fixed_length else 0,
        )
        key = digest(
            [self.source_of_pairs, config.model_dump(mode="json"), self.data.sha256, model.card]
        )
        if key not in _INITIAL:
            _INITIAL.clear()
            _INITIAL[key] = Initial(self._look(policy), policy.reference_logp(*self._pairs()))
        self._initial = _INITIAL[key]
        return policy

    @property
    def _held_out(self) -> Split:
        """The split whose prompts the evaluation completes."""
        return "evaluation" if self.config.held_out == "evaluation" else "proxy"

    def _encode(self, pairs: Sequence[Pair]) -> Prompts:
        tokenizer = self.language_model.tokenizer
        texts = [prompt_text(pair.prompt, tokenizer) for pair in pairs]
        return Prompts(tuple(pairs), encode_prompts(tokenizer, texts, self.config.prompt_tokens))

    def collect(self, policy: Policy, iteration: int) -> Batch:
        assert isinstance(policy, LanguagePolicy)
        streams = self._streams
        batch, comparisons, scores = self._gather(
            policy,
            self._contexts,
            streams["contexts"],
            streams["sampling"],
            streams["oracle"],
            iteration,
        )
        self.cost.steps += self._tokens
        self.cost.comparisons += comparisons
        self.cost.scores += scores
        return batch

    def probe(self, policy: Policy, units: int, streams: Streams) -> Batch:
        assert isinstance(policy, LanguagePolicy)
        source = streams["probe"]
        count = min(units, len(self._training.pairs))
        return self._gather(policy, count, source, source, source, -1)[0]

    def _gather(
        self,
        policy: LanguagePolicy,
        contexts: int,
        choosing: np.random.Generator,
        sampling: np.random.Generator,
        oracle: np.random.Generator,
        iteration: int,
    ) -> tuple[Batch, int, int]:
        """Returns a batch of `contexts` groups, and the comparisons and scores it took."""
        rows = choosing.choice(len(self._training.pairs), contexts, replace=False)
        prompts, needs, offline, paid = self._training.take(rows), self._asked, None, 0
        self._tokens = 0
        if self._needs.offline:
            pairs, paid = self._offline(prompts), contexts
            self._tokens += int(pairs.mask.sum())
            logp = policy.logp(pairs.contexts, pairs.responses, pairs.mask)
            offline = self._with_reference(policy, replace(pairs, old_logp=logp))
            if needs.offline:
                return offline, paid, 0
        size = self._size
        responses, mask, logp = policy.sample(
            prompts.ids, size, self.config.completion_tokens, self.config.sampling_temperature,
            sampling,
        )  # fmt: skip
        self._tokens += int(mask.sum())
        assert self.proxy is not None  # skip() sees to it
        components = None
        if self._parts:
            parts = [self._judge(part, prompts, responses, size) for part in self._parts]
            components = np.stack(parts, -1).reshape(contexts, size, len(parts))
            score = components.sum(-1)
        else:
            score = self._judge(self.proxy, prompts, responses, size)
        shares = [self._shares[pair.source] for pair in prompts.pairs]
        batch = Batch(
            contexts=prompts.ids.repeat_interleave(size, 0),
            responses=responses,
            mask=mask,
            old_logp=logp,
            group=torch.arange(contexts).repeat_interleave(size),
            domain_share=torch.tensor(shares).repeat_interleave(size),
            sampler=iteration,
            offline=offline,
        )
        if needs.data == "steps":
            batch, scores = self._steps(policy, batch, score), len(score)
            return self._with_reference(policy, batch), 0, scores
        batch, comparisons, scores = self._teacher.label(
            batch, score.reshape(contexts, size), needs, oracle, components
        )
        return self._with_reference(policy, batch), comparisons + paid, scores

    def _offline(self, prompts: Prompts) -> Batch:
        """Returns the data set's pairs as rows preferred, rejected, preferred, ..."""
        model, config = self.language_model, self.config
        texts = [text for pair in prompts.pairs for text in (pair.chosen, pair.rejected)]
        responses, mask = self._encode_answers(model, texts, config.pair_tokens)
        count = len(prompts.pairs)
        return Batch(
            contexts=prompts.ids.repeat_interleave(2, 0),
            responses=responses,
            mask=mask,
            old_logp=torch.zeros_like(mask),
            group=torch.arange(count).repeat_interleave(2),
            pairs=torch.arange(2 * count).view(count, 2),
            sampler=-1,
        )

    def _encode_answers(
        self, model: LanguageModel, texts: Sequence[str], length: int
    ) -> tuple[Tensor, Tensor]:
        """Returns ids and mask; without the end of sequence where the policy may not say it."""
        ids, mask = encode_answers(model.tokenizer, texts, length, model.eos)
        if self.config.fixed_length:
            early = (ids == model.eos) & (
                torch.arange(ids.shape[1]) < self.config.completion_tokens
            )
            ids, mask = ids.masked_fill(early, -1), mask.masked_fill(early, 0.0)
        return ids, mask

    def _steps(self, policy: LanguagePolicy, batch: Batch, score: NDArray[np.float64]) -> Batch:
        """Returns the batch with the score as the reward of each row's last token."""
        last = batch.mask.sum(1, keepdim=True).long() - 1
        end = torch.zeros_like(batch.mask).scatter(1, last, 1.0)
        reward = end * torch.from_numpy(score.astype(np.float32)).unsqueeze(1)
        value = next_value = None
        if self._needs.critic:
            with torch.no_grad():
                value = policy(batch).value
            assert value is not None
            following = torch.nn.functional.pad(value[:, 1:], (0, 1))
            next_value = following * (1.0 - end)
        return replace(batch, step_reward=reward, value=value, next_value=next_value, boundary=end)

    def _with_reference(self, policy: LanguagePolicy, batch: Batch) -> Batch:
        if not self._needs.reference:
            return batch
        logp = policy.reference_logp(batch.contexts, batch.responses, batch.mask)
        return replace(batch, ref_logp=logp)

    def _judge(
        self, judge: Oracle | Judge, prompts: Prompts, responses: Tensor, size: int
    ) -> NDArray[np.float64]:
        """Returns (N * size,) scores of the completions' text.

        Raises:
            DivergedError: a score is not finite.
        """
        turns = [pair.prompt for pair in prompts.pairs for _ in range(size)]
        sources = [pair.source for pair in prompts.pairs for _ in range(size)]
        texts = self._texts(responses)
        if isinstance(judge, Judge):
            return judge.score(turns, texts)
        scores = judge.score(turns, texts, sources)
        if not np.isfinite(scores).all():
            raise DivergedError(0, f"the score of the judge {judge.name}")
        return scores

    def _texts(self, responses: Tensor) -> list[str]:
        tokenizer = self.language_model.tokenizer
        texts = tokenizer.batch_decode(_rows(responses), skip_special_tokens=True)
        return [text.strip() for text in texts]

    def evaluate(self, policy: Policy, final: bool) -> Evaluation:
        assert isinstance(policy, LanguagePolicy)
        now, before = self._look(policy), self._initial.look
        self.cost.evaluation_steps += int(now.mask.sum())
        self._last = now
        reference = policy.reference_logp(self._evaluation.ids, now.responses, now.mask)
        measures = {
            "kl_ref": float(((now.logp - reference) * now.mask).sum() / len(now.mask)),
            **now.measures,
            "variety_of_sft": now.measures["variety"] / max(before.measures["variety"], 1e-9),
        }
        if (gold := now.scores.get(GOLD)) is not None:
            measures["beats_sft"] = float(win_rate(gold, before.scores[GOLD]))
            objectives = [OBJECTIVE_OF.get(pair.source) for pair in self._evaluation.pairs]
            if len(parts := sorted({part for part in objectives if part})) > 1:
                for part in parts:
                    here = np.array([objective == part for objective in objectives])
                    measures[f"{GOLD}, {part}"] = float(gold[here].mean())
        free = self._likelihoods(policy)
        scores = {**free, **now.scores} if self.caveat else {**now.scores, **free}
        return Evaluation(
            scores={name: [float(value) for value in row] for name, row in scores.items()},
            measures=measures,
        )

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

    def _look(self, policy: LanguagePolicy) -> Look:
        """Returns one completion for each held-out prompt, always with the same draws."""
        prompts, config = self._evaluation, self.config
        draws = seeding.generator(EVALUATION_SEED, f"{config.held_out}/sampling")
        responses, mask, logp = policy.sample(
            prompts.ids, 1, config.completion_tokens, config.sampling_temperature, draws
        )
        texts = self._texts(responses)
        scores = {
            name: self._judge(judge, prompts, responses, 1)
            for name, judge in ((GOLD, self.gold), (PROXY, self.proxy))
            if judge is not None
        }
        return Look(
            responses, mask, logp, texts, scores, completion_measures(texts, _rows(responses))
        )

    def texts(self) -> dict[str, list[str]]:
        """The last evaluation's completions; prompts are named by `prompt_id`, not copied."""
        ids = [prompt_id(pair.prompt) for pair in self._evaluation.pairs]
        return {"prompt": ids, "completion": self._last.texts}

    def _pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns contexts, answers and mask of the held-out pairs."""
        batch = self._offline(self._evaluation)
        return batch.contexts, batch.responses, batch.mask

    def _likelihoods(self, policy: LanguagePolicy) -> dict[str, NDArray[np.float64]]:
        """Returns, per held-out pair, whether the implicit reward orders it, and by how much.

        The implicit reward is the log-ratio to the reference (arXiv 2305.18290, equation 5); equal
        rewards count one half. The margin is of mean log-probabilities per token, without it.
        """
        rows = self._pairs()
        logp, mask = policy.logp(*rows), rows[-1]
        ratio = ((logp - self._initial.pairs) * mask).sum(1)
        likelihood = (logp * mask).sum(1) / mask.sum(1)
        gap, margin = (x[0::2] - x[1::2] for x in (ratio, likelihood))
        accuracy = 0.5 * (1.0 + gap.sign())
        return {
            "preference accuracy": accuracy.double().numpy(),
            "likelihood margin": margin.double().numpy(),
        }

    def state(self) -> dict[str, Any]:
        return {"data": self.data.sha256}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores nothing but checks that the data are those of the checkpoint.

        Raises:
            PairBenchError: they are not.
        """
        if state["data"] != self.data.sha256:
            raise PairBenchError(
                f"the data of {self.name} have changed since this run's checkpoint: give the "
                "folder it began with, or delete the checkpoint to begin anew"
            )

    def provenance(self) -> dict[str, Any]:
        return {
            "data_sha256": self.data.sha256,
            "data_revision": self.data.revision,
            "pairs": len(self.data.pairs),
            "dropped": dict(self.data.dropped),
            "model": self.language_model.card,
            "caveat": self.caveat,
            "judges": {
                name: card
                for judge in (self.proxy, self.gold)
                if judge is not None
                for name, card in judge.cards.items()
            }
            | {part.card.name: part.card.short() for part in self._parts},
        }


def _rows(responses: Tensor) -> list[list[int]]:
    """Returns the ids of each response (N, T) without padding."""
    return [row[row >= 0].tolist() for row in responses]


def _distinct(pairs: Sequence[Pair]) -> list[Pair]:
    """Returns the first pair of each prompt, ordered by nothing that says which came first."""
    first: dict[tuple[Turn, ...], Pair] = {}
    for pair in pairs:
        first.setdefault(pair.prompt, pair)
    return [first[prompt] for prompt in sorted(first)]
