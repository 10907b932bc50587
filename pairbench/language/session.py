"""`LanguageSession`: one run on a language task, its prompts, judges and teacher."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pairbench import seeding
from pairbench.algorithm import Method, Needs
from pairbench.batch import Batch
from pairbench.errors import DivergedError, PairBenchError
from pairbench.evaluation import Cost, Evaluation
from pairbench.language.data.pairs import prompt_id
from pairbench.language.judges.judge import Judge
from pairbench.language.judges.panel import OBJECTIVE_OF, Oracle
from pairbench.language.metrics import completion_measures, inputs_of
from pairbench.language.policy.encoding import decode, encode_answers, real_ids
from pairbench.language.policy.policy import LanguagePolicy
from pairbench.language.prompts import Prompts, answers
from pairbench.results.record import digest
from pairbench.seeding import Streams
from pairbench.statistics import win_rate
from pairbench.task import Draws, Session
from pairbench.teacher import Teacher

if TYPE_CHECKING:
    from pairbench.language.task import LanguageTask

EVALUATION_SEED = 0
"""Seed of the evaluation's randomness: the same for every seed and algorithm."""

GOLD, PROXY = "gold judge", "proxy judge"
"""What scores by the two judges are called."""

_INITIAL: dict[str, tuple[Look, Tensor]] = {}
"""What the last task's initial policy says, and its log-probabilities of held-out pairs."""


@dataclass(frozen=True)
class Look:
    """One completion a held-out prompt: ids, mask and log-probabilities (N, T), texts, scores."""

    responses: Tensor
    mask: Tensor
    logp: Tensor
    texts: list[str]
    scores: dict[str, NDArray[np.float64]]
    measures: dict[str, float]


class LanguageSession(Session):
    """A run on a language task.

    Attributes:
        task: whose data, model and judges it uses.
        needs: what the algorithm asks for, and `contexts` and `size` how much of it.
        streams: the run's random generators.
        training: the prompts that are trained on.
        held_out: those of the evaluation.
        teacher: who answers comparisons.
    """

    policy: LanguagePolicy

    def __init__(self, task: LanguageTask, algorithm: Method, streams: Streams) -> None:
        """Begins with the algorithm's sizes; see `Task.begin`."""
        config, model, needs = task.config, task.language_model, algorithm.needs
        self.task, self.config, self.streams, self.needs = task, config, streams, needs
        self.contexts, self.size = algorithm.config.contexts, algorithm.config.group_size
        self.teacher, self._components = Teacher(config), task.components(needs)
        self.training, self.held_out = task.prompts
        sources = Counter(pair.source for pair in self.training.pairs)
        self._shares = {name: count / sources.total() for name, count in sources.items()}
        if needs.data != "nothing" and len(self.training.pairs) < self.contexts:
            raise PairBenchError(
                f"{task.name} has {len(self.training.pairs)} training prompts, fewer than the "
                f"{self.contexts} that {algorithm.name}.contexts asks for: lower it"
            )
        super().__init__(
            LanguagePolicy(
                model.model,
                model.ends,
                seed=streams.seed,
                critic=needs.critic,
                lora_rank=config.lora_rank,
                bf16=config.bf16,
                micro_rows=config.micro_rows,
                device=config.device,
                min_length=config.least_tokens,
            )
        )
        self._initial, self._initial_logp = self._of_initial_policy()
        self._last = self._initial

    def _of_initial_policy(self) -> tuple[Look, Tensor]:
        """Returns what the initial policy says, which all runs of a task in a process share."""
        task, settings = self.task, self.config.model_dump(mode="json")
        key = digest([task.source_of_pairs, settings, task.data.sha256, task.language_model.card])
        if key not in _INITIAL:
            _INITIAL.clear()
            _INITIAL[key] = self._look(), self.policy.reference_logp(*self._pairs())
        return _INITIAL[key]

    def collect(self, iteration: int) -> Batch:
        batch, price = self._gather(self.contexts, Draws.of_run(self.streams), iteration)
        self.cost.steps += price.steps
        self.cost.comparisons += price.comparisons
        self.cost.scores += price.scores
        return batch

    def probe(self, units: int, streams: Streams) -> Batch:
        count = min(units, len(self.training.pairs))
        return self._gather(count, Draws.of_probe(streams), -1)[0]

    def _gather(self, contexts: int, draws: Draws, iteration: int) -> tuple[Batch, Cost]:
        """Returns a batch of `contexts` groups and what it costs; the run stays as it is."""
        rows = draws.contexts.choice(len(self.training.pairs), contexts, replace=False)
        prompts, needs = self.training.take(rows), put_to_teacher(self.needs)
        offline, tokens, paid = None, 0, 0
        if self.needs.offline:
            pairs, paid = self.offline_pairs(prompts), contexts
            tokens = int(pairs.mask.sum())
            logp = self.policy.logp(pairs.contexts, pairs.responses, pairs.mask)
            offline = self._with_reference(replace(pairs, old_logp=logp))
            if needs.offline:
                return offline, Cost(steps=tokens, comparisons=paid)
        size = self.size
        responses, mask, logp = self.policy.sample(
            prompts.ids,
            size,
            self.config.completion_tokens,
            self.config.sampling_temperature,
            draws.sampling,
        )
        tokens += int(mask.sum())
        proxy, parts_of = self.task.proxy, self._components
        assert proxy is not None  # skip() sees to it
        components = None
        if parts_of:
            parts = [self._judge(part, prompts, responses, size) for part in parts_of]
            components = np.stack(parts, -1).reshape(contexts, size, len(parts))
            score = components.sum(-1)
        else:
            score = self._judge(proxy, prompts, responses, size)
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
            batch = self._with_reference(self._steps(batch, score))
            return batch, Cost(steps=tokens, scores=len(score))
        batch, comparisons, scores = self.teacher.label(
            batch, score.reshape(contexts, size), needs, draws.oracle, components
        )
        price = Cost(steps=tokens, comparisons=comparisons + paid, scores=scores)
        return self._with_reference(batch), price

    def offline_pairs(self, prompts: Prompts) -> Batch:
        """Returns the data set's pairs as rows preferred, rejected, preferred, ..."""
        model, count = self.task.language_model, len(prompts.pairs)
        responses, mask = encode_answers(
            model.tokenizer,
            answers(prompts.pairs),
            self.config.pair_tokens,
            model.ends,
            self.config.least_tokens,
        )
        return Batch(
            contexts=prompts.ids.repeat_interleave(2, 0),
            responses=responses,
            mask=mask,
            old_logp=torch.zeros_like(mask),
            group=torch.arange(count).repeat_interleave(2),
            pairs=torch.arange(2 * count).view(count, 2),
            sampler=-1,
        )

    def _steps(self, batch: Batch, score: NDArray[np.float64]) -> Batch:
        """Returns the batch with the score as the reward of each row's last token."""
        last = batch.mask.sum(1, keepdim=True).long() - 1
        end = torch.zeros_like(batch.mask).scatter(1, last, 1.0)
        reward = end * torch.from_numpy(score.astype(np.float32)).unsqueeze(1)
        value = next_value = None
        if self.needs.critic:
            with torch.no_grad():
                value = self.policy(batch).value
            assert value is not None
            following = torch.nn.functional.pad(value[:, 1:], (0, 1))
            next_value = following * (1.0 - end)
        return replace(batch, step_reward=reward, value=value, next_value=next_value, boundary=end)

    def _with_reference(self, batch: Batch) -> Batch:
        if not self.needs.reference:
            return batch
        logp = self.policy.reference_logp(batch.contexts, batch.responses, batch.mask)
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
        tokenizer = self.task.language_model.tokenizer
        return [text.strip() for text in decode(tokenizer, responses)]

    def evaluate(self, final: bool) -> Evaluation:
        now, before = self._look(), self._initial
        self.cost.evaluation_steps += int(now.mask.sum())
        self._last = now
        reference = self.policy.reference_logp(self.held_out.ids, now.responses, now.mask)
        inputs = inputs_of(self.held_out.pairs, now.texts, real_ids(now.responses))
        measures = {
            **self.task.metrics.compute(inputs),
            "kl_ref": float(((now.logp - reference) * now.mask).sum() / len(now.mask)),
            **now.measures,
            "variety_of_sft": now.measures["variety"] / max(before.measures["variety"], 1e-9),
        }
        if (gold := now.scores.get(GOLD)) is not None:
            measures["beats_sft"] = float(win_rate(gold, before.scores[GOLD]))
            objectives = [OBJECTIVE_OF.get(pair.source) for pair in self.held_out.pairs]
            if len(parts := sorted({part for part in objectives if part})) > 1:
                for part in parts:
                    here = np.array([objective == part for objective in objectives])
                    measures[f"{GOLD}, {part}"] = float(gold[here].mean())
        free = self._likelihoods()
        scores = {**now.scores, **free} if self.task.caveat is None else {**free, **now.scores}
        return Evaluation(
            scores={name: [float(value) for value in row] for name, row in scores.items()},
            measures=measures,
        )

    def _look(self) -> Look:
        """Returns one completion for each held-out prompt, always with the same draws."""
        prompts, config = self.held_out, self.config
        draws = seeding.generator(EVALUATION_SEED, f"{config.held_out}/sampling")
        responses, mask, logp = self.policy.sample(
            prompts.ids, 1, config.completion_tokens, config.sampling_temperature, draws
        )
        texts = self._texts(responses)
        scores = {
            name: self._judge(judge, prompts, responses, 1)
            for name, judge in ((GOLD, self.task.gold), (PROXY, self.task.proxy))
            if judge is not None
        }
        measures = completion_measures(texts, real_ids(responses))
        return Look(responses, mask, logp, texts, scores, measures)

    def texts(self) -> dict[str, list[str]]:
        """The last evaluation's completions; prompts are named by `prompt_id`, not copied."""
        ids = [prompt_id(pair.prompt) for pair in self.held_out.pairs]
        return {"prompt": ids, "completion": self._last.texts}

    def _pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns contexts, answers and mask of the held-out pairs."""
        batch = self.offline_pairs(self.held_out)
        return batch.contexts, batch.responses, batch.mask

    def _likelihoods(self) -> dict[str, NDArray[np.float64]]:
        """Returns, per held-out pair, whether the implicit reward orders it, and by how much.

        The implicit reward is the log-ratio to the reference (arXiv 2305.18290, equation 5); equal
        rewards count one half. The margin is of mean log-probabilities per token, without it.
        """
        rows = self._pairs()
        logp, mask = self.policy.logp(*rows), rows[-1]
        ratio = ((logp - self._initial_logp) * mask).sum(1)
        likelihood = (logp * mask).sum(1) / mask.sum(1)
        gap, margin = (x[0::2] - x[1::2] for x in (ratio, likelihood))
        accuracy = 0.5 * (1.0 + gap.sign())
        return {
            "preference accuracy": accuracy.double().numpy(),
            "likelihood margin": margin.double().numpy(),
        }

    def state(self) -> dict[str, Any]:
        return {"data": self.task.data.sha256}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores nothing but checks that the data are those of the checkpoint.

        Raises:
            PairBenchError: they are not.
        """
        if state["data"] != self.task.data.sha256:
            raise PairBenchError(
                f"the data of {self.task.name} have changed since this run's checkpoint: give "
                "the folder it began with, or delete the checkpoint to begin anew"
            )


def put_to_teacher(needs: Needs) -> Needs:
    """Returns what of an algorithm's needs the teacher sees to.

    Pairs of the data set beside groups are no question to it.
    """
    beside = needs.offline and needs.data == "groups+pairs"
    return replace(needs, data="groups", offline=False) if beside else needs


def check_asked(task: str, algorithm: Method) -> None:
    """Refuses comparisons that cannot be made, before any data are loaded.

    Raises:
        PairBenchError: the algorithm's groups are too small, or its queries do not fit.
    """
    needs, size = algorithm.needs, algorithm.config.group_size
    told = put_to_teacher(needs)
    comparing = (told.feedback == "comparisons" or "pairs" in told.data) and not told.offline
    if comparing and (size < 2 or needs.queries == "none"):
        raise PairBenchError(
            f"{algorithm.name} compares completions but asks for {size} a prompt and "
            f"{needs.queries} queries; set group_size to at least 2 and name the queries"
        )
    if needs.data == "pairs" and not needs.offline and needs.queries != "best-worst":
        raise PairBenchError(
            f"{task} gives one pair a group under best-worst queries only; "
            f"{algorithm.name} must ask for those in place of {needs.queries}"
        )
