"""`PairTrainer`: TRL's GRPO trainer with the loss of any on-policy method of PairBench.

For those who train a model of their own, on as many devices as TRL can use, and want the very
objective that a leaderboard ranked:

    from pairbench.algorithms.hard_pair_grpo import HardPairGRPO
    from pairbench.language.trl.pair_trainer import PairTrainer

    method = HardPairGRPO(HardPairGRPO.Config(group_size=8))
    trainer = PairTrainer(method, model=..., args=GRPOConfig(num_generations=8), reward_funcs=...,
                          train_dataset=...)
    trainer.train()
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from pairbench.algorithm import Algorithm
from pairbench.batch import Batch, Signal, minibatches
from pairbench.errors import PairBenchError
from pairbench.language.trl.train import refusal
from pairbench.policy import PolicyOutput
from pairbench.seeding import generator
from pairbench.teacher import Teacher, TeacherConfig

try:
    from trl import GRPOTrainer
except ImportError as missing:
    raise PairBenchError(
        "pairbench.language.trl.pair_trainer needs TRL: pip install 'pairbench[reference]'"
    ) from missing


class PairTrainer(GRPOTrainer):  # type: ignore[misc]
    """TRL 1.16's GRPOTrainer, whose loss is `algorithm`'s.

    TRL samples, calls the reward functions, optimises, saves and logs, on one device or, through
    accelerate, on many; what is learned from is the algorithm's: the weighted sum of the rewards is
    its score, or what `teacher` compares. Its `prepare` sees the whole generation batch of all
    processes, and its loss whole minibatches of them: each process computes the log-probabilities
    of its own rows and the gradient through them, so several processes train as one does.

    Of TRL's settings, those of its loss have no effect (loss_type, beta, epsilon, delta,
    scale_rewards, entropy bonus, importance sampling level and so on), and of the algorithm's
    those that are the trainer's here (contexts, epochs, minibatches, lr, max_grad_norm).
    steps_per_generation is the number of minibatches of whole groups, num_iterations that of
    epochs, and gradients are accumulated over minibatches. min_new_tokens in generation_kwargs
    forbids the end of sequence in scoring as in sampling, where TRL forbids it in sampling alone.

    Attributes:
        comparisons: answers of the teacher so far.
        scores: rewards shown to the algorithm so far.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        *,
        args: Any,
        teacher: TeacherConfig | None = None,
        **rest: Any,
    ) -> None:
        """Makes TRL's trainer.

        Args:
            algorithm: a method that learns from groups, or from fresh pairs of a group's members.
            args: TRL's GRPOConfig; its num_generations is the algorithm's group_size.
            teacher: how reliably rewards are compared or shown; by default without error.
            rest: what GRPOTrainer takes.

        Raises:
            PairBenchError: the method needs what TRL's trainer does not have, or its groups are of
                another size.
        """
        if reason := refusal(algorithm, "language"):
            raise PairBenchError(f"{reason}: choose a method that learns from fresh groups")
        size = algorithm.config.group_size
        if args.num_generations != size or (args.num_generations_eval or size) != size:
            raise PairBenchError(
                f"{algorithm.name} has groups of {size} and TRL's num_generations is "
                f"{args.num_generations}: set group_size and num_generations to one number"
            )
        args = copy.copy(args)
        args.beta = 1.0 if algorithm.needs.reference else 0.0  # whether TRL keeps a reference model
        super().__init__(args=args, **rest)
        self.algorithm = algorithm
        self._teacher = Teacher(teacher or TeacherConfig.model_validate({}))
        self._draws = {name: generator(args.seed, name) for name in ("oracle", "minibatches")}
        self.comparisons = self.scores = 0
        self._rewards: Tensor | None = None
        self._parts: list[dict[str, Any]] = []
        self._learned: tuple[Batch, Signal] | None = None

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        if not self.model.training:
            return self._minibatches(*self._collect(generation_batch), 1)[0]
        steps = int(self.args.steps_per_generation)
        place = int(self._step) % (steps * int(self.num_iterations))
        if place == 0 or self._learned is None:
            self._learned = self._collect(generation_batch)
        if place % steps == 0 or not self._parts:
            self._parts = self._minibatches(*self._learned, steps)
        return self._parts[place % steps]

    def _calculate_rewards(self, *args: Any, **rest: Any) -> Tensor:
        rewards: Tensor = super()._calculate_rewards(*args, **rest)
        self._rewards = (rewards * self.reward_weights.to(rewards.device)).nansum(1)
        self._rewards[rewards.isnan().all(1)] = torch.nan
        return rewards

    def _collect(self, inputs: Any) -> tuple[Batch, Signal]:
        """Returns the labelled batch of all processes, on the CPU, and its signal."""
        rows = self._generate_and_score_completions(inputs)
        assert self._rewards is not None
        if not bool(self._rewards.isfinite().all()):
            raise PairBenchError(
                "a reward function returned None, NaN or infinity for a completion: "
                "make it score every one"
            )
        told = rows["completion_mask"]
        contexts = rows["prompt_ids"].masked_fill(rows["prompt_mask"] == 0, -1)
        responses = rows["completion_ids"].masked_fill(told == 0, -1)
        old, reference = (rows.get(f"{name}_per_token_logps") for name in ("old", "ref"))
        if old is None:
            with torch.no_grad():
                old = self._logp(self.model, contexts, responses)
        mask = self._all(told * rows.get("tool_mask", 1), 0).float()
        size = self.algorithm.config.group_size
        batch = Batch(
            contexts=self._all(contexts, -1, first=True),
            responses=self._all(responses, -1),
            mask=mask,
            old_logp=_masked(self._all(old, 0), mask),
            group=torch.arange(len(mask) // size).repeat_interleave(size),
            ref_logp=None if reference is None else _masked(self._all(reference, 0), mask),
        )
        scores = self._rewards.double().cpu().numpy().reshape(-1, size)
        needs = self.algorithm.needs
        draws = self._draws["oracle"]
        batch, compared, shown = self._teacher.label(batch.check(), scores, needs, draws)
        self.comparisons += compared
        self.scores += shown
        per_iteration = self.args.steps_per_generation * self.num_iterations
        progress = self.state.global_step / max(self.state.max_steps, 1)
        return self.algorithm.study(batch, progress, self._step // per_iteration)

    def _minibatches(self, batch: Batch, signal: Signal, count: int) -> list[dict[str, Any]]:
        """Returns one epoch's minibatches of all processes.

        Raises:
            PairBenchError: they are too small, or cannot be shared out evenly.
        """
        processes = self.accelerator.num_processes
        parts = list(minibatches(batch, signal, count, self._draws["minibatches"]))
        if len(parts) < count or any(len(part) % processes for part, _ in parts):
            raise PairBenchError(
                f"{batch.n_groups} groups of {batch.group_size} do not make {count} minibatches "
                f"that {processes} processes can share evenly: raise generation_batch_size"
            )
        return [{"batch": part, "signal": of_part} for part, of_part in parts]

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """Returns the loss of the minibatch of all processes, its gradient that of own rows."""
        batch, accelerator = inputs["batch"], self.accelerator
        count = len(batch) // accelerator.num_processes
        own = slice(accelerator.process_index * count, (accelerator.process_index + 1) * count)
        device = accelerator.device
        local = self._logp(model, batch.contexts[own].to(device), batch.responses[own].to(device))
        others = self._all(local.detach(), 0)
        logp = torch.cat([others[: own.start], local.cpu(), others[own.stop :]])
        loss = self.algorithm.loss(PolicyOutput(_masked(logp, batch.mask)), batch, inputs["signal"])
        mode = "train" if self.model.training else "eval"
        for name, value in loss.diagnostics.items():
            self._metrics[mode][name].append(float(value))
        if mode == "eval":
            return loss.value
        # what follows averages gradients over processes and adds them up over accumulated steps
        share = accelerator.num_processes / int(self.current_gradient_accumulation_steps)
        scaled: Tensor = loss.value * share
        return scaled

    def _logp(self, model: Any, contexts: Tensor, responses: Tensor) -> Tensor:
        """Returns the log-probabilities (B, T), float32; both ids are padded with -1."""
        ids = torch.cat([contexts, responses], 1)
        logp, _, _ = self._get_per_token_logps_and_entropies(
            model,
            ids.clamp_min(0),
            (ids >= 0).long(),
            responses.shape[1],
            self.args.per_device_train_batch_size,
        )
        return logp.float()  # type: ignore[no-any-return]

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **rest: Any,
    ) -> Any:
        """TRL's, but for completions that may not end early, which TRL scores as if they might."""
        shortest = (self.args.generation_kwargs or {}).get("min_new_tokens", 0)
        if not shortest:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, **rest
            )
        found = []
        count = batch_size or len(input_ids)
        for start in range(0, len(input_ids), count):
            ids, told = (table[start : start + count] for table in (input_ids, attention_mask))
            logits = model(input_ids=ids, attention_mask=told).logits[:, -logits_to_keep - 1 : -1]
            ends = torch.zeros(logits.shape[1:], dtype=torch.bool, device=logits.device)
            ends[:shortest, self.generation_config.eos_token_id] = True
            logits = (logits.float() / self.temperature).masked_fill(ends, -torch.inf)
            tokens = ids[:, -logits_to_keep:].unsqueeze(2)
            found.append(logits.log_softmax(2).gather(2, tokens).squeeze(2))
        return torch.cat(found), None, None

    def _all(self, local: Tensor, padding: int, first: bool = False) -> Tensor:
        """Returns the rows of all processes, on the CPU, padded to one width (left if `first`)."""
        wide = self.accelerator.pad_across_processes(local, 1, padding, first)
        return self.accelerator.gather(wide).cpu()  # type: ignore[no-any-return]


def _masked(logp: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask > 0, logp, 0.0)
