"""`PromptSession`: one run on prompts and reward functions of the user's own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pairbench import seeding
from pairbench.algorithm import Method
from pairbench.evaluation import Evaluation
from pairbench.language.data.pairs import prompt_id
from pairbench.language.judges.judge import Judge
from pairbench.language.judges.panel import Oracle
from pairbench.language.metrics import completion_measures, inputs_of
from pairbench.language.policy.encoding import real_ids
from pairbench.language.prompts import Prompts
from pairbench.language.rewards.oracle import Rewards
from pairbench.language.session import EVALUATION_SEED, LanguageSession, Look
from pairbench.results.record import digest
from pairbench.seeding import Streams
from pairbench.statistics import win_rate

if TYPE_CHECKING:
    from pairbench.language.rewards.task import PromptTask

_INITIAL: dict[str, Look] = {}
"""What the last task's initial policy says, which all runs of a task in a process share."""


class PromptSession(LanguageSession):
    """A run on prompts; of each held-out one, several completions are drawn, always alike."""

    def __init__(self, task: PromptTask, algorithm: Method, streams: Streams) -> None:
        self._of = task
        super().__init__(task, algorithm, streams)
        self._components = task.parts(algorithm.needs)  # type: ignore[assignment]

    def _of_initial_policy(self) -> tuple[Look, Tensor]:
        task, settings = self._of, self.config.model_dump(mode="json")
        about = [task.data.sha256, task.language_model.card, task.ranking.cards, task.proxy.cards]
        key = digest([task.name, settings, *about])
        if key not in _INITIAL:
            _INITIAL.clear()
            _INITIAL[key] = self._look()
        return _INITIAL[key], torch.empty(0)

    def _judge(
        self, judge: Oracle | Judge, prompts: Prompts, responses: Tensor, size: int
    ) -> NDArray[np.float64]:
        assert isinstance(judge, Rewards)
        texts = self._texts(responses)
        return judge.total(self._each(judge, prompts, responses, size), texts)

    def _each(
        self, rewards: Rewards, prompts: Prompts, responses: Tensor, size: int
    ) -> NDArray[np.float64]:
        """Returns (N size, F) what each function says, NaN where it returned None."""
        turns = [pair.prompt for pair in prompts.pairs for _ in range(size)]
        texts, ids = self._texts(responses), real_ids(responses)
        return rewards.each(turns, texts, ids, self.cost.gradient_steps)

    def _look(self) -> Look:
        """Returns completions of each held-out prompt, always with the same draws.

        Scores are (N, S), of S completions of each of N prompts.
        """
        prompts, config, task = self.held_out, self.config, self._of
        draws = seeding.generator(EVALUATION_SEED, f"{config.held_out}/sampling")
        length, temperature, count = (
            config.completion_tokens,
            config.sampling_temperature,
            task.config.samples,
        )
        drawn = self.policy.sample(prompts.ids, count, length, temperature, draws)
        responses, mask, logp = drawn
        texts = self._texts(responses)
        each = self._each(task.proxy, prompts, responses, count)
        scores = (
            {}
            if task.gold is None
            else {
                task.gold.name: self._judge(task.gold, prompts, responses, count).reshape(-1, count)
            }
        )
        scores[task.proxy.name] = task.proxy.total(each, texts).reshape(-1, count)
        measures = completion_measures(texts, real_ids(responses))
        if len(task.functions) > 1:
            for title, said in zip(task.proxy.titles, each.T):
                applies = said[~np.isnan(said)]
                measures |= {title: float(applies.mean())} if len(applies) else {}
        return Look(responses, mask, logp, texts, scores, measures)

    def evaluate(self, final: bool) -> Evaluation:
        """Scores are means over the completions of a prompt, of what ranks first."""
        now, before, task = self._look(), self._initial, self._of
        self.cost.evaluation_steps += int(now.mask.sum())
        self._last, count = now, task.config.samples
        contexts = self.held_out.ids.repeat_interleave(count, 0)
        reference = self.policy.reference_logp(contexts, now.responses, now.mask)
        pairs = [pair for pair in self.held_out.pairs for _ in range(count)]
        ranked, first = (look.scores[task.ranking.name] for look in (now, before))
        measures = {
            **pass_at(ranked),
            **task.metrics.compute(inputs_of(pairs, now.texts, real_ids(now.responses))),
            "kl_ref": float(((now.logp - reference) * now.mask).sum() / len(now.mask)),
            **now.measures,
            "variety_of_sft": now.measures["variety"] / max(before.measures["variety"], 1e-9),
            "beats_sft": float(win_rate(ranked.ravel(), first.ravel())),
        }
        scores = {name: list(map(float, rows.mean(1))) for name, rows in now.scores.items()}
        return Evaluation(scores=scores, measures=measures)

    def texts(self) -> dict[str, list[str]]:
        """The first completion of each prompt in the last evaluation."""
        ids = [prompt_id(pair.prompt) for pair in self.held_out.pairs]
        return {"prompt": ids, "completion": self._last.texts[:: self._of.config.samples]}


def passes(samples: int) -> list[int]:
    """Returns the k of each pass@k that is reported: 1, half of the samples, and all."""
    return sorted({1, max(samples // 2, 1), samples})


def pass_at(rewards: NDArray[np.float64]) -> dict[str, float]:
    """Returns pass@k of (N, S) rewards of 0 and 1; nothing of others.

    The unbiased estimate of Chen et al. 2021 (arXiv 2107.03374, equation 1): one less the chance
    that k of the S completions of a prompt, drawn without replacement, are all wrong.
    """
    if not np.isin(rewards, (0.0, 1.0)).all():
        return {}
    total = rewards.shape[1]
    wrong = [total - int(right) for right in rewards.sum(1)]
    return {
        f"pass@{k}": float(np.mean([1 - math.comb(w, k) / math.comb(total, k) for w in wrong]))
        for k in passes(total)
    }
