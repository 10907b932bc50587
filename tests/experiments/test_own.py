"""A name of a user's own with a path is a task, and settings may come with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pairbench.errors import PairBenchError
from pairbench.experiments import own
from pairbench.experiments.own import Chosen, prompts, resolved, rewarded


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


def test_a_function_goes_to_workers_by_its_file(tmp_path: Path) -> None:
    made = prompts("a/b.jsonl", reward=[(rewarded, 0.5), "c.py:f"], gold=resolved, samples=2)
    file = own.__file__
    assert made == Chosen(
        "prompts:b",
        {
            "path": "a/b.jsonl",
            "samples": 2,
            "reward": [f"{file}:rewarded=0.5", "c.py:f=1"],
            "gold": f"{file}:resolved",
        },
    )
    assert prompts("o/n", reward="c.py:f", name="mine").task == "prompts:mine"
    space: dict[str, Any] = {}
    exec("def cell(completions): return completions", space)  # as in a notebook
    for function in (lambda completions: completions, space["cell"], len):
        with pytest.raises(PairBenchError, match="cannot go to worker processes"):
            prompts("a.jsonl", reward=function)


def test_a_script_that_runs_when_it_is_loaded_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", reason="the extra language is not installed")
    from pairbench.language.rewards.function import RewardFunction

    monkeypatch.syspath_prepend(str(tmp_path))
    script = tmp_path / "script_that_runs.py"
    script.write_text("import pairbench\npairbench.prompts('a.jsonl', reward='b.py:f')")
    with pytest.raises(PairBenchError, match=r"script_that_runs\.py is loaded .* __name__"):
        RewardFunction(f"{script}:f")


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
