"""Trains a method with `PairTrainer`, as a script that accelerate may start in several processes.

Arguments: the model's folder, the method, the folder for the trained weights, and a JSON object of
GRPOConfig's settings. A completion is what its prompt and its place in the group say, so that any
number of processes that hold whole groups samples the same.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import datasets
import torch
import trl

from pairbench.language.trl.pair_trainer import PairTrainer
from pairbench.registry import get_algorithm
from tests.support.trl_peer import EOS, GROUP, LONGEST, PROMPTS, WORDS, common, text, word_tokenizer


def completion(prompt: str, member: int) -> list[int]:
    draw = random.Random(f"{prompt} {member}")
    return [*draw.choices(range(2, WORDS), k=draw.randint(0, LONGEST - 1)), EOS]


def main(folder: Path, name: str, out: str, settings: str) -> None:
    torch.set_num_threads(1)
    tokenizer = word_tokenizer()
    kind = get_algorithm(name)

    def rollout(prompts: list[str], _: object) -> dict[str, object]:
        members = [prompts[:index].count(prompt) for index, prompt in enumerate(prompts)]
        rows = [completion(*each) for each in zip(prompts, members)]
        ids = tokenizer(prompts)["input_ids"]
        return {"prompt_ids": ids, "completion_ids": rows, "logprobs": None}

    def reward(completion_ids: list[list[int]], **rest: object) -> list[float]:
        return [sum(word % 7 for word in ids) / len(ids) for ids in completion_ids]

    trainer = PairTrainer(
        kind(kind.Config.model_validate({"group_size": GROUP})),
        model=str(folder),
        processing_class=tokenizer,
        args=trl.GRPOConfig(
            **common(folder),
            **json.loads(settings),
            # not Adam, whose first steps blow the last bit of a gradient up
            optim="sgd",
            learning_rate=0.3,
            lr_scheduler_type="constant",
            num_generations=GROUP,
            max_completion_length=LONGEST,
            shuffle_dataset=False,
        ),
        reward_funcs=reward,
        train_dataset=datasets.Dataset.from_dict({"prompt": [text(row) for row in PROMPTS]}),
        rollout_func=rollout,
    )
    trainer.train()
    trainer.save_model(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
