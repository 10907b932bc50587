"""A run trained by one of TRL's trainers: what it is built from, and how it is accounted for."""

from __future__ import annotations

import contextlib
import copy
import random
import tempfile
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pairbench.algorithm import AlgorithmConfig, External, Method
from pairbench.errors import DivergedError, PairBenchError
from pairbench.language.data.pairs import prompt_text
from pairbench.language.model_cache import quiet
from pairbench.language.policy.encoding import real_ids
from pairbench.seeding import derive
from pairbench.training.run import Run

if TYPE_CHECKING:  # the session loads evaluate, which listing this row must not
    from pairbench.language.session import LanguageSession

LIMIT = "gradient_steps"
"""The limit of the budget (a field of `Budget`) without which no trainer knows when to end."""

PACKAGES = ("trl", "transformers", "accelerate", "datasets")
"""Distributions that the numbers of any trainer depend on."""


@dataclass(frozen=True)
class Job:
    """What a trainer is built from.

    Attributes:
        run: the run.
        session: its session, whose prompts, judges and model it is.
        rows: (iterations, contexts) numbers of training prompts, drawn as for our own rows: with
            one seed, all see the same prompts in the same iterations.
        arguments: settings of TRL's configuration that do not depend on the method.
        shared: arguments of the trainer likewise: the model's folder and the tokenizer.
    """

    run: Run
    session: LanguageSession
    rows: NDArray[np.int64]
    arguments: Mapping[str, Any]
    shared: Mapping[str, Any]


class TRLConfig(AlgorithmConfig):
    """Sizes by PairBench's names, the rest by TRL's, with TRL's defaults.

    `contexts`, `group_size`, `epochs` and `minibatches` mean what they mean for every row; `lr`
    is TRL's learning_rate. The optimiser is TRL's default, adamw_torch_fused, with the protocol's
    epsilon, and the schedule TRL's default too, linear to zero without warmup, where the protocol
    anneals, else constant.
    """

    lr: float = Field(1e-6, gt=0, le=10, description="learning_rate")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="of AdamW")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="of AdamW")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW")
    disable_dropout: bool = Field(False, description="switch the model's dropout off")

    @model_validator(mode="after")
    def _whole_minibatches(self) -> Self:
        if self.rows % self.minibatches:
            raise ValueError(
                f"TRL's minibatches have equal sizes: {self.rows} rows an iteration do not "
                f"divide by minibatches = {self.minibatches}"
            )
        return self

    @property
    def rows(self) -> int:
        """Rows of an iteration: pairs, or completions."""
        return self.contexts

    def by_trl_name(self) -> dict[str, Any]:
        """Returns the settings that a subclass adds: their names are TRL's."""
        return self.model_dump(exclude=set(TRLConfig.model_fields))


class Groups(TRLConfig):
    """Sizes of a method that learns from groups of completions."""

    @property
    def rows(self) -> int:
        return self.contexts * self.group_size


def refusal(algorithm: Method, kind: str) -> str | None:
    """Returns one sentence on why TRL's GRPO trainer cannot run a method, or None."""
    needs = algorithm.needs
    if kind != "language":
        return "TRL's trainer is for language models"
    if isinstance(algorithm, External):
        return f"{algorithm.name} brings its own trainer"
    lacking = {
        "data other than fresh groups": needs.offline or needs.data not in ("groups", "pairs"),
        "a critic": needs.critic,
        "responses that can be enumerated": needs.enumerable,
        "several scores of a response": needs.components,
    }
    for what, asked in lacking.items():
        if asked and needs.data != "nothing":
            return (
                f"TRL's GRPO trainer has groups of completions only and {algorithm.name} needs "
                f"{what}"
            )
    return None


def fit(
    run: Run,
    name: str,
    config: TRLConfig,
    trainer: Callable[[Job], Any],
    account: Callable[[Job, int], None],
) -> None:
    """Trains to the end of the budget, in whole iterations.

    The trainer loads the initial weights from a temporary folder; after each iteration its weights
    are copied into the run's policy. It saves, logs and reports nothing.

    Args:
        name: of the row, for messages, and for the seed that TRL is given.
        trainer, account: see `TRLRow`.

    Raises:
        PairBenchError: TRL is missing, or the task trains adapters or in bfloat16.
        DivergedError: a weight or a score is not finite.
    """
    try:
        import datasets
        import transformers
        import trl  # noqa: F401 (whether it is there)
    except ImportError as error:
        raise PairBenchError(
            f"the row {name} needs TRL: pip install 'pairbench[reference,language]'"
        ) from error
    session: Any = run.session
    if session.config.lora_rank or session.config.bf16:
        raise PairBenchError(
            f"{name} trains every weight in float32: leave lora_rank and bf16 of "
            f"{run.task.name} as they are by default"
        )
    protocol = run.spec.protocol
    per_iteration = config.epochs * config.minibatches
    limit = protocol.budget.gradient_steps
    assert limit is not None  # `LIMIT`
    iterations = -(-limit // per_iteration)
    draws = run.streams["contexts"]
    count = len(session.training.pairs)
    rows = [draws.choice(count, config.contexts, replace=False) for _ in range(iterations)]

    class Account(transformers.TrainerCallback):  # type: ignore[misc]
        """Counts; after each iteration hands the weights over and asks whether to go on."""

        def on_step_end(
            self, args: Any, state: Any, control: Any, model: Any = None, **rest: Any
        ) -> Any:
            run.cost.gradient_steps += 1
            if run.cost.gradient_steps % per_iteration == 0:
                account(job, run.cost.iterations)
                run.cost.iterations += 1
                _hand_over(model, run)
                control.should_training_stop |= run.spent()
            return control

    with tempfile.TemporaryDirectory() as folder, _undisturbed(datasets):
        model = Path(folder) / "model"
        run.policy.model.save_pretrained(model)  # type: ignore[attr-defined]
        job = Job(
            run,
            session,
            np.array(rows),
            arguments={
                "output_dir": str(Path(folder) / "out"),
                "max_steps": iterations * per_iteration,
                "per_device_train_batch_size": config.rows // config.minibatches,
                "learning_rate": config.lr,
                "lr_scheduler_type": "linear" if protocol.anneal else "constant",
                "adam_beta1": config.adam_beta1,
                "adam_beta2": config.adam_beta2,
                "adam_epsilon": protocol.adam_eps,
                "weight_decay": config.weight_decay,
                "max_grad_norm": config.max_grad_norm,
                "disable_dropout": config.disable_dropout,
                "seed": derive(run.spec.seed, name) % 2**31,
                "model_init_kwargs": {"dtype": "float32", "device_map": None},
                "use_cpu": True,
                "bf16": False,
                "gradient_checkpointing": False,
                "dataloader_pin_memory": False,
                "report_to": "none",
                "save_strategy": "no",
                "logging_strategy": "no",
                "disable_tqdm": True,
            },
            shared={
                "model": str(model),
                "processing_class": copy.deepcopy(session.task.language_model.tokenizer),
            },
        )
        theirs = trainer(job)
        theirs.remove_callback(transformers.PrinterCallback)
        theirs.add_callback(Account())
        theirs.train()


class TRLRow(External):
    """A method as TRL trains it, on the task's model, prompts and budget, in float32 on the CPU.

    A reference model is loaded as the initial weights are where the method has one; gradient
    checkpointing is off.
    """

    kinds = ("language",)
    packages = PACKAGES
    limit = LIMIT

    class Config(TRLConfig):
        """Sizes and optimiser; a row adds the settings of TRL's configuration by TRL's names."""

    config: Config

    @abstractmethod
    def trainer(self, job: Job) -> Any:
        """Returns TRL's trainer, ready to train."""

    @abstractmethod
    def account(self, job: Job, iteration: int) -> None:
        """Counts what `iteration` (from 0), which has just ended, spent beyond gradient steps."""

    def fit(self, run: Run) -> None:
        fit(run, self.name, self.config, self.trainer, self.account)


class Silent:
    """Mixed into TRL's trainers: nobody is told over the network that one began."""

    def _send_telemetry(self) -> None:
        pass


class CutPrompts(Silent):
    """Mixed into TRL's GRPO trainers: a prompt's ids are those that the task gives its text."""

    cut: Mapping[str, list[int]]

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, Any]:
        return [self.cut[prompt] for prompt in prompts], None, {}


def completions_trainer(
    kind: Any, job: Job, config: Any, arguments: Mapping[str, Any], **more: Any
) -> Any:
    """Returns a trainer of `kind`, a GRPO trainer with `CutPrompts`, for the run of `job`.

    `config` has `contexts`, `group_size`, `epochs` and `minibatches`; `arguments` are further
    settings of GRPOConfig, `more` further arguments of the trainer. The reward is the task's proxy
    judge; tokens are counted as it scores them.
    """
    import datasets
    import trl

    session, cost = job.session, job.run.cost
    judge, config_of_task = session.task.proxy, session.config
    length = config_of_task.completion_tokens
    assert judge is not None  # the task's skip() sees to it
    pairs = [session.training.pairs[row] for row in job.rows.ravel()]
    texts = [prompt_text(pair.prompt, session.task.language_model.tokenizer) for pair in pairs]

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
        values = [float(score) for score in scores]
        if not all(-float("inf") < value < float("inf") for value in values):
            raise DivergedError(cost.iterations, f"the score of the judge {judge.name}")
        return values

    trainer = kind(
        **job.shared,
        **more,
        args=trl.GRPOConfig(
            **job.arguments,
            **arguments,
            num_generations=config.group_size,
            num_iterations=config.epochs,
            steps_per_generation=config.minibatches,
            max_completion_length=length,
            temperature=config_of_task.sampling_temperature,
            generation_kwargs={"min_new_tokens": length} if config_of_task.fixed_length else None,
            shuffle_dataset=False,
        ),
        reward_funcs=reward,
        train_dataset=datasets.Dataset.from_dict(
            {"prompt": texts, "pair": list(range(len(pairs)))}
        ),
    )
    trainer.cut = prompts_as_ids(job, texts)
    return trainer


def pairs_as_ids(job: Job, epochs: int) -> tuple[dict[str, list[list[int]]], list[int]]:
    """Returns the pairs of `job.rows` in that order, cut as the task cuts them, for TRL.

    That is the columns "prompt", "chosen" and "rejected", lists of ids, `epochs` times an
    iteration, and the number of tokens of both answers of all pairs, per iteration.
    """
    columns: dict[str, list[list[int]]] = {"prompt": [], "chosen": [], "rejected": []}
    tokens = []
    for rows in job.rows:
        batch = job.session.offline_pairs(job.session.training.take(rows))
        contexts, answers = real_ids(batch.contexts), real_ids(batch.responses)
        tokens.append(int(batch.mask.sum()))
        for _ in range(epochs):
            columns["prompt"] += contexts[::2]
            columns["chosen"] += answers[::2]
            columns["rejected"] += answers[1::2]
    return columns, tokens


def prompts_as_ids(job: Job, texts: Sequence[str]) -> dict[str, list[int]]:
    """Returns the task's ids of each prompt of `job.rows`, by its text: `texts` in their order."""
    return dict(zip(texts, real_ids(job.session.training.ids[job.rows.ravel()])))


def _hand_over(model: Any, run: Run) -> None:
    weights = dict(model.named_parameters())
    if not all(bool(torch.isfinite(weight).all()) for weight in weights.values()):
        raise DivergedError(run.cost.iterations - 1, "a weight")
    run.policy.load_state(weights)


@contextlib.contextmanager
def _undisturbed(datasets: Any) -> Iterator[None]:
    """Puts back what TRL's trainers change for the whole process, and shows no progress bars.

    They seed the global generators of Python, NumPy and torch, which nothing of ours draws from.
    """
    numpy_state = np.random.get_state()  # noqa: NPY002 (the global one is what TRL seeds)
    python_state, shown = random.getstate(), not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        with torch.random.fork_rng(devices=[]), quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of what TRL asks of transformers
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002 (likewise)
        if shown:
            datasets.enable_progress_bars()
