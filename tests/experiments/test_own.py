"""A name of a user's own with a path is a task, and settings may come with it."""

from __future__ import annotations

import pytest

from pairbench.errors import PairBenchError
from pairbench.experiments.own import Chosen, resolved, rewarded


def test_a_name_with_a_path_is_of_the_family() -> None:
    texts = ['mine.path="a.jsonl"', "grpo.beta=0", "mine.split=test"]
    assert resolved(["mine", "toy-dialogue"], texts) == (
        ["prompts:mine", "toy-dialogue"],
        ['prompts:mine.path="a.jsonl"', "grpo.beta=0", "prompts:mine.split=test"],
    )
    assert resolved(["mine@smollm2-135m"], texts[:1])[0] == ["prompts:mine@smollm2-135m"]
    assert resolved(["prompts", "mine"], ["prompts.path=a"]) == (
        ["prompts", "mine"],
        ["prompts.path=a"],
    )
    chosen = Chosen("mine", {"path": "a.jsonl", "samples": 2})
    assert resolved([chosen], []) == (
        ["prompts:mine"],
        ['prompts:mine.path="a.jsonl"', "prompts:mine.samples=2"],
    )


def test_functions_are_settings_of_every_task() -> None:
    texts = ["mine.path=a.jsonl"]
    assert rewarded(["mine"], ["a.py:f", "b.py:g=2"], "c.py:h", texts) == [
        'mine.reward=["a.py:f", "b.py:g=2"]',
        'mine.gold="c.py:h"',
    ]
    assert rewarded(["toy-dialogue"], [], None, []) == []
    with pytest.raises(PairBenchError, match=r"no task 'mine': .* with --set mine\.path=FILE"):
        rewarded(["mine"], ["a.py:f"], None, [])
    with pytest.raises(PairBenchError, match="preference-bandit takes no functions"):
        rewarded(["preference-bandit"], ["a.py:f"], None, [])
    with pytest.raises(PairBenchError, match="for --tasks of your own: name one"):
        rewarded([], [], "a.py:f", [])
