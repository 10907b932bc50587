"""What tests beside TRL's trainers share: a small model both load, one batch, equality to 1e-5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from pairbench.algorithm import Algorithm
from pairbench.batch import Batch
from pairbench.language.policy.policy import LanguagePolicy

WORDS, PAD, EOS = 60, 0, 1
PROMPTS = [[5, 9, 33], [7, 8, 21, 40, 3], [50, 12], [17, 30, 44, 6]]
GROUP = 4
LENGTHS = [6, 3, 1, 5, 2, 6, 4, 6, 6, 6, 5, 1, 3, 4, 6, 2]
LONGEST = 6
SCORES = [0.5, -1.0, 2.0, 0.25, 1.5, 1.25, -0.5, 0.0, 0.75, 0.75, 0.75, 0.75, 3.0, -2.0, 0.0, 1.0]
"""The third group is tied."""

Loss = tuple[Tensor, dict[str, Tensor]]
"""A loss and its gradient by the name of the parameter."""


ANSWERS = [([4, 19, 27, 8], [33, 2]), ([16], [41, 41, 5]), ([9, 10, 11], [55, 7, 29, 30, 6])]


def save_model(path: Path) -> None:
    """Writes the model."""
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=PAD,
        bos_token_id=None,
        eos_token_id=EOS,
        tie_word_embeddings=True,
        initializer_range=0.12,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(path)


def word_tokenizer() -> Any:
    """One token a word: w2, w3, ... have the ids 2, 3, ..."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": PAD, "<eos>": EOS} | {f"w{index}": index for index in range(2, WORDS)}
    plain = Tokenizer(models.WordLevel(words, "w2"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>")


def text(ids: Sequence[int]) -> str:
    return "".join(f" w{index}" for index in ids)


def policy(folder: Path) -> LanguagePolicy:
    return LanguagePolicy(AutoModelForCausalLM.from_pretrained(folder, dtype="float32"), EOS)


def move(model: Any, seed: int, scale: float) -> None:
    """Adds the same small numbers to the weights of any model of these shapes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, weight in sorted(model.named_parameters()):
            weight += scale * torch.randn(weight.shape, generator=generator)


def gradient(model: Any, loss: Tensor) -> Loss:
    """Returns the loss, and takes the gradient from the model's parameters."""
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


def ours(
    algorithm: Algorithm, our: LanguagePolicy, batch: Batch, rows: slice | None = None
) -> Loss:
    """Returns our loss of the batch, or of some of its rows as a minibatch."""
    signal = algorithm.prepare(batch.check(), 0.0, 0)
    if rows is not None:
        start, count = rows.start, rows.stop - rows.start
        batch = batch.narrow(start, count)
        signal = {name: value[rows] for name, value in signal.items()}
    return gradient(our.model, algorithm.loss(our(batch), batch, signal).value)


Case = tuple[str, str, Mapping[str, Any]]
"""A method of ours, what of another library it is beside, and the options that both have."""

SEEN: list[tuple[Case, float]] = []
"""What was compared, and the largest difference of a loss or a slope; benchmarks/parity.py."""


def same(theirs: Loss, our: Loss, case: Case | None = None, least: float = 0.01) -> None:
    """Asserts that two losses and all gradients agree to 1e-5, and that one exceeds `least`."""
    if case is not None:
        gaps = [our[0] - theirs[0], *(our[1][name] - slope for name, slope in theirs[1].items())]
        SEEN.append((case, max(float(gap.abs().max()) for gap in gaps)))
    torch.testing.assert_close(our[0], theirs[0], rtol=0, atol=1e-5)
    assert our[1].keys() == theirs[1].keys() and len(our[1]) == 20
    for name, slope in theirs[1].items():
        torch.testing.assert_close(our[1][name], slope, rtol=0, atol=1e-5, msg=name)
    assert max(float(slope.abs().max()) for slope in theirs[1].values()) > least


def padded(rows: Sequence[Sequence[int]], left: bool) -> Tensor:
    """Returns ids (B, T) with -1 for padding."""
    width = max(map(len, rows))
    return torch.tensor(
        [[-1] * (width - len(row)) * left + [*row] + [-1] * (width - len(row)) * (not left)
         for row in rows]
    )  # fmt: skip


def common(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "out"),
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "train_sampling_strategy": "sequential",
        "model_init_kwargs": {"dtype": "float32", "device_map": None},
    }


def completions() -> list[list[int]]:
    """Returns sixteen completions, the fourth of each group cut off, the others ended."""
    draw = torch.Generator().manual_seed(5)
    rows = [torch.randint(2, WORDS, (length,), generator=draw).tolist() for length in LENGTHS]
    return [row if index % 4 == 3 else [*row[:-1], EOS] for index, row in enumerate(rows)]


def sampled(our: LanguagePolicy) -> Batch:
    """Returns the completions as a batch with scores, and `our` moved on from its sampler.

    The reference is the model in the folder; the batch is sampled after `move(model, 1, ...)` and
    judged after `move(model, 2, ...)`.
    """
    answers = padded(completions(), left=False)
    contexts = padded([row for row in PROMPTS for _ in range(GROUP)], left=True)
    mask = (answers >= 0).float()
    move(our.model, 1, 0.02)
    rows = contexts, answers, mask
    batch = Batch(
        *rows,
        old_logp=our.logp(*rows),
        group=torch.arange(len(PROMPTS)).repeat_interleave(GROUP),
        ref_logp=our.reference_logp(*rows),
        score=torch.tensor(SCORES),
    )
    move(our.model, 2, 0.04)
    return batch


def combined(*terms: tuple[float, Loss]) -> Loss:
    """Returns the sum of losses with factors."""
    value = sum((factor * loss for factor, (loss, _) in terms), torch.zeros(()))
    names = terms[0][1][1]
    total = {name: sum(factor * slopes[name] for factor, (_, slopes) in terms) for name in names}
    return value, total  # type: ignore[return-value]


def trainer_of_pairs(
    kind: Any,
    arguments: Any,
    folder: Path,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[tuple[list[int], list[int]]] = ANSWERS,
) -> tuple[Any, Any]:
    """Returns a trainer of these pairs, and the batch that it makes of them."""
    import datasets

    chosen, rejected = zip(*answers)
    trainer = kind(
        model=str(folder),
        processing_class=tokenizer,
        args=arguments,
        train_dataset=datasets.Dataset.from_dict(
            {
                "prompt": [text(row) for row in prompts],
                "chosen": [text(row) for row in chosen],
                "rejected": [text(row) for row in rejected],
            }
        ),
    )
    (inputs,) = trainer.get_train_dataloader()
    trainer.model.train()
    move(trainer.model, 2, 0.04)
    return trainer, inputs


def our_pairs(
    our: LanguagePolicy,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[tuple[list[int], list[int]]] = ANSWERS,
) -> Batch:
    """Returns the same pairs as our batch: each answer ends, as TRL makes them end."""
    rows = [[*answer, EOS] for pair in answers for answer in pair]
    contexts = padded([row for row in prompts for _ in range(2)], left=True)
    responses = padded(rows, left=False)
    mask = (responses >= 0).float()
    reference = our.reference_logp(contexts, responses, mask)
    group = torch.arange(len(prompts)).repeat_interleave(2)
    pairs = torch.arange(len(rows)).view(-1, 2)
    return Batch(contexts, responses, mask, torch.zeros_like(mask), group, reference, pairs=pairs)


def swapped(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns a batch of TRL's DPO whose preferred answers are the rejected ones."""
    return {name: torch.cat(value.chunk(2)[::-1]) for name, value in inputs.items()}
