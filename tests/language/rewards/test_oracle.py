"""Several functions are summed as TRL sums them: None is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the extra language is not installed")

from pairbench.errors import PairBenchError
from pairbench.language.rewards.function import RewardFunction
from pairbench.language.rewards.oracle import Rewards
from pairbench.language.rewards.rows import of_rows
from pairbench.places import PLACES

TEXT = """
def long(completions, **columns):
    return [len(c if isinstance(c, str) else c[0]["content"]) for c in completions]
def easy(prompts, completions, level, **columns):
    return [1.0 if at == "easy" else None for at in level]
"""
ROWS = [{"prompt": f"p{k}", "level": "easy" if k % 2 else "hard"} for k in range(4)]
TALK = [{"prompt": [{"role": "user", "content": f"q{k}"}]} for k in range(2)]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(PLACES, "{}")
    (tmp_path / "summed_rewards.py").write_text(TEXT)
    return str(tmp_path / "summed_rewards.py")


def test_a_sum_leaves_out_what_does_not_apply(path: str) -> None:
    data = of_rows("mine", (("", row) for row in [*ROWS, *TALK]))
    both = Rewards([RewardFunction(f"{path}:long"), RewardFunction(f"{path}:easy=0.5")], data)
    assert both.name == "long + 0.5 easy"
    turns = [pair.prompt for pair in data.pairs]
    answers = ["", "a", "bb", "c", "dddd", "e"]
    assert both.score(turns, answers).tolist() == [0.0, 1.5, 2.0, 1.5, 4.0, 1.0]
    easy = Rewards(both.functions[1:], data)
    with pytest.raises(PairBenchError, match=r"py:easy returned None for the completion 'a b'"):
        easy.score(turns[:1], ["a b"])
    assert np.isnan(easy.each(turns[:2], ["", ""])).tolist() == [[True], [False]]


def test_two_of_one_name_are_told_apart(path: str) -> None:
    data = of_rows("mine", (("", row) for row in ROWS))
    (Path(path).parent / "other_rewards.py").write_text(TEXT)
    one, other = (
        RewardFunction(f"{path}:long"),
        RewardFunction(str(Path(path).with_name("other_rewards.py")) + ":long"),
    )
    assert Rewards([one], data).name == "long"
    assert Rewards([one], data, beside=[other]).name == one.title
