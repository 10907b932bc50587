"""A step of GRPO and of DPO on a language model against TRL's trainers doing the same work.

Both have the same model (fp32, no gradient checkpointing), the same numbers of prompts, completions
and tokens, and a reference model. Each step is whole: generation where there is one, the
reference's log-probabilities, loss, gradient, AdamW or Adam. Ours is run between two steps of TRL's
trainer, so they are timed in turns in this process; medians of five after a first step of each that
is not counted, judged as a ratio. Seconds are those of the processor: everything works on one torch
thread, and what else the machine is doing then matters little. Each test has a process of its own,
because TRL's steps take up to a fifth less time on the heap that larger ones have left behind; peak
memory is that of a process in which one of the two works alone, with the same modules imported.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pairbench import seeding
from pairbench.algorithm import Algorithm
from pairbench.algorithms.dpo import DPO
from pairbench.algorithms.grpo import GRPO
from pairbench.batch import Batch
from pairbench.language.policy import encoding, models, tiny
from pairbench.language.policy.policy import LanguagePolicy
from pairbench.seeding import pin_threads
from pairbench.training.optimiser import Adam, Group
from tests.performance.bounds import BOUNDS

pytest.importorskip("trl")

pytestmark = [pytest.mark.performance, pytest.mark.filterwarnings("ignore::FutureWarning")]

ROUNDS = 5
PROMPTS, SIZE, PROMPT, ANSWER = 4, 8, 64, 32
PAIRS = 4
# The bounds of tiny are the promise; SmolLM2's take minutes.
MODELS = ["tiny", pytest.param("smollm2-135m", marks=pytest.mark.slow)]


class Setting:
    """A model in a folder, and texts of exactly so many of its tokens."""

    def __init__(self, name: str, folder: Path) -> None:
        if name == "tiny":
            settings = tiny.Tiny.model_validate({})
            self.tokenizer = word_tokenizer(settings.vocabulary)
            tiny._new_model(settings, self.tokenizer).save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
            self.words = [f"w{index}" for index in range(500)]
        else:
            folder = models.pull(name)
            self.tokenizer = models.load_model(name).tokenizer
            self.words = [
                "time",
                "year",
                "people",
                "way",
                "day",
                "man",
                "thing",
                "woman",
                "life",
                "child",
                "world",
            ]
        self.folder = folder

    def policy(self, **settings: Any) -> LanguagePolicy:
        loaded = models.load_model(str(self.folder))
        return LanguagePolicy(loaded.model, loaded.eos, **settings)

    def texts(self, count: int, tokens: int, name: str) -> list[str]:
        """Returns `count` different texts of `tokens` tokens, a blank before each word."""
        draw = seeding.generator(0, name)
        picks = draw.integers(len(self.words), size=(count, tokens))
        texts = ["".join(" " + self.words[index] for index in row) for row in picks]
        lengths = {len(ids) for ids in self.tokenizer(texts, add_special_tokens=False).input_ids}
        assert lengths == {tokens}
        return texts


def word_tokenizer(size: int) -> Any:
    """Returns a tokenizer of `size` made-up words, each one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<eos>", *(f"w{index}" for index in range(size - 2))]
    plain = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, "w0"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>")


class Learner:
    """Our policy with its optimiser, as the training loop uses them."""

    def __init__(self, policy: LanguagePolicy, algorithm: Algorithm) -> None:
        self.policy, self.algorithm = policy, algorithm
        self.optimiser = Adam([Group(group.tensors, 1e-6) for group in policy.parameters()])

    def update(self, batch: Batch) -> None:
        """One gradient step."""
        with torch.no_grad():
            signal = self.algorithm.prepare(batch, 0.0, 0)
        loss = self.algorithm.loss(self.policy(batch), batch, signal)
        self.optimiser.zero_grad()
        loss.value.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step(1.0)


def distinct(responses: Tensor) -> Tensor:
    """Returns the reward (B,): the share of distinct tokens."""
    return torch.tensor([len(set(row)) / len(row) for row in responses.tolist()])


def our_grpo(setting: Setting) -> Callable[[], object]:
    """Returns one step: sampling, reference, loss, gradient, Adam."""
    learner = Learner(
        setting.policy(min_length=ANSWER), GRPO(GRPO.Config(group_size=SIZE, contexts=PROMPTS))
    )
    policy = learner.policy
    texts = setting.texts(PROMPTS, PROMPT, "contexts")
    prompts = encoding.encode_prompts(setting.tokenizer, texts, PROMPT)
    contexts = prompts.repeat_interleave(SIZE, 0)
    group = torch.arange(PROMPTS).repeat_interleave(SIZE)
    draws = seeding.generator(0, "sampling")

    def step() -> None:
        responses, mask, logp = policy.sample(prompts, SIZE, ANSWER, 1.0, draws)
        reference = policy.reference_logp(contexts, responses, mask)
        score = distinct(responses)
        assert mask.sum() == PROMPTS * SIZE * ANSWER
        learner.update(Batch(contexts, responses, mask, logp, group, reference, score))

    return step


def our_dpo(setting: Setting) -> Callable[[], object]:
    """Returns one step on pairs: reference, loss, gradient, Adam."""
    learner = Learner(setting.policy(), DPO(DPO.Config()))
    policy = learner.policy
    texts = setting.texts(PAIRS, PROMPT, "contexts")
    prompts = encoding.encode_prompts(setting.tokenizer, texts, PROMPT)
    answers = setting.texts(2 * PAIRS, ANSWER, "data")
    eos = policy.ends[0]
    responses, mask = encoding.encode_answers(setting.tokenizer, answers, ANSWER, eos)
    contexts = prompts.repeat_interleave(2, 0)
    group = torch.arange(PAIRS).repeat_interleave(2)
    pairs = torch.arange(2 * PAIRS).reshape(-1, 2)

    def step() -> None:
        reference = policy.reference_logp(contexts, responses, mask)
        learner.update(
            Batch(contexts, responses, mask, torch.zeros_like(mask), group, reference, pairs=pairs)
        )

    return step


def against(
    kind: str, setting: Setting, out: Path, ours: Callable[[], object], steps: int = ROUNDS + 1
) -> dict[str, Any]:
    """Returns the median seconds of TRL's steps, and of ours, run between them."""
    import datasets
    from transformers import PrinterCallback, TrainerCallback

    times: dict[str, list[float]] = {"trl": [], "ours": []}

    class Turns(TrainerCallback):  # type: ignore[misc]
        began = 0.0

        def on_step_begin(self, *args: Any, **named: Any) -> None:
            self.began = time.process_time()

        def on_step_end(self, *args: Any, **named: Any) -> None:
            times["trl"].append(time.process_time() - self.began)
            begin = time.process_time()
            ours()
            times["ours"].append(time.process_time() - begin)

    common = {
        "output_dir": str(out),
        "max_steps": steps,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "learning_rate": 1e-6,
        "max_grad_norm": 1.0,
        "model_init_kwargs": {"dtype": "float32"},
    }
    arguments = {"model": str(setting.folder), "processing_class": setting.tokenizer}
    if kind == "grpo":
        from trl import GRPOConfig, GRPOTrainer

        data = {"prompt": setting.texts(PROMPTS, PROMPT, "contexts")}
        trainer = GRPOTrainer(
            **arguments,
            args=GRPOConfig(
                **common,
                per_device_train_batch_size=PROMPTS * SIZE,
                num_generations=SIZE,
                max_completion_length=ANSWER,
                generation_kwargs={"min_new_tokens": ANSWER},
                beta=0.04,
            ),
            reward_funcs=lambda completion_ids, **named: [
                len(set(ids)) / len(ids) for ids in completion_ids
            ],
            train_dataset=datasets.Dataset.from_dict(data),
            callbacks=[Turns()],
        )
    else:
        from trl import DPOConfig, DPOTrainer

        answers = setting.texts(2 * PAIRS, ANSWER, "data")
        data = {
            "prompt": setting.texts(PAIRS, PROMPT, "contexts"),
            "chosen": answers[::2],
            "rejected": answers[1::2],
        }
        trainer = DPOTrainer(
            **arguments,
            args=DPOConfig(**common, per_device_train_batch_size=PAIRS),
            train_dataset=datasets.Dataset.from_dict(data),
            callbacks=[Turns()],
        )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    assert len(times["trl"]) == steps
    return {name: statistics.median(each[1:]) for name, each in times.items()}


def ours_of(kind: str) -> Callable[[Setting], Callable[[], object]]:
    return our_grpo if kind == "grpo" else our_dpo


def in_its_own_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """Returns what `work` returns in a fresh Python, on one thread."""
    spawn = multiprocessing.get_context("spawn")
    report = spawn.SimpleQueue()
    process = spawn.Process(target=_work, args=(report, work, *arguments))
    process.start()
    process.join()
    assert process.exitcode == 0, f"the process ended with status {process.exitcode}"
    return report.get()


def _work(report: Any, work: Callable[..., Any], *arguments: Any) -> None:
    pin_threads(1)
    report.put(work(*arguments))


# speed


def in_turns(kind: str, name: str, folder: Path) -> dict[str, float]:
    """Returns the median seconds of TRL's steps and of ours."""
    setting = Setting(name, folder / "model")
    return against(kind, setting, folder / "out", ours_of(kind)(setting))


def judge(kind: str, name: str, folder: Path, benchmark: Any) -> float:
    """Prints the seconds and returns how many times faster ours is."""
    arguments = (in_turns, kind, name, folder)
    times = benchmark.pedantic(in_its_own_process, arguments, rounds=1)
    ratio: float = times["trl"] / times["ours"]
    benchmark.extra_info.update(times | {"ratio": ratio})
    print(
        f"\n{kind}, {name}: TRL {times['trl']:.3f} s, ours {times['ours']:.3f} s a step, "
        f"{ratio:.2f} times"
    )
    return ratio


@pytest.mark.parametrize("name", MODELS)
def test_a_grpo_step(name: str, tmp_path: Path, benchmark: Any) -> None:
    """4 prompts x 8 completions, 64 + 32 tokens, the reference model included."""
    assert judge("grpo", name, tmp_path, benchmark) >= BOUNDS[f"grpo, {name}"]


@pytest.mark.parametrize("name", MODELS)
def test_a_dpo_step(name: str, tmp_path: Path, benchmark: Any) -> None:
    """4 pairs of 64 + 32 tokens, the reference model included."""
    assert judge("dpo", name, tmp_path, benchmark) >= BOUNDS[f"dpo, {name}"]


# memory


def peak(side: str, kind: str, name: str, folder: Path) -> float:
    """Returns the highest resident size of this process, GiB, after two steps of one side."""
    from trl import DPOTrainer, GRPOTrainer  # noqa: F401 (both sides hold the same modules)

    setting = Setting(name, folder / "model")
    if side == "trl":
        against(kind, setting, folder / "out", lambda: None, steps=2)
    else:
        step = ours_of(kind)(setting)
        step()
        step()
    lines = Path("/proc/self/status").read_text().splitlines()
    (size,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(size) / 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["grpo", "dpo"])
def test_peak_memory(kind: str, name: str, tmp_path: Path) -> None:
    """Of two steps, all that the process holds included."""
    theirs, ours = (
        in_its_own_process(peak, side, kind, name, tmp_path / side) for side in ("trl", "ours")
    )
    print(f"\n{kind}, {name}: TRL {theirs:.2f} GiB, ours {ours:.2f} GiB at most")
    assert ours < theirs
