"""Functions of a user's own: called as TRL calls them, every mistake one sentence."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the extra language is not installed")

from pairbench.errors import PairBenchError
from pairbench.language.rewards.function import RewardFunction, known_as, parsed
from pairbench.places import PLACES

HEAD = "def f(completions, **columns):\n    return "


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a file of functions and returns its path."""
    monkeypatch.setenv(PLACES, "{}")
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text: str, name: str = "their_rewards.py") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_a_function_is_written_with_its_place_and_weight() -> None:
    assert parsed("a/b.py:f") == ("a/b.py", "f", 1.0)
    assert parsed("pack.age:g=-0.5") == ("pack.age", "g", -0.5)
    for wrong in ("f", "a.py:", "a.py:1f", "a.py:f="):
        with pytest.raises(PairBenchError, match=r"cannot be read: write FILE\.py:FUNCTION"):
            parsed(wrong)
    with pytest.raises(PairBenchError, match="is no number"):
        parsed("a.py:f=nan")


def test_it_is_given_what_trl_gives(written: Any) -> None:
    text = """
seen = {}
def f(prompts, completions, completion_ids, answer, trainer_state, log_extra, log_metric, **more):
    seen.update(prompts=prompts, ids=completion_ids, step=trainer_state.global_step, **more)
    log_metric("x", 1.0); log_extra("y", [1])
    return [float(a == c) for a, c in zip(answer, completions)]
def g(completions):
    return [len(text) for text in completions]
async def h(completions, **columns):
    return [None for _ in completions]
"""
    path = written(text)
    f = RewardFunction(f"{path}:f")
    columns = {"answer": ["a", "b"], "level": [1, 2]}
    assert f(["p", "q"], ["a", "c"], columns, [[1], [2]], 7).tolist() == [1.0, 0.0]
    seen = f._function.__globals__["seen"]
    assert seen == {"prompts": ["p", "q"], "ids": [[1], [2]], "step": 7, "level": [1, 2]}
    assert RewardFunction(f"{path}:g")(["p"], ["abc"], columns).tolist() == [3.0]
    assert math.isnan(RewardFunction(f"{path}:h")(["p"], ["abc"], {})[0])
    with pytest.raises(PairBenchError, match=r":f asks for 'answer', and x has no such column"):
        f.check_columns(["answers"], "x")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("[1.0]", r"py:f returned 1 rewards for 2 completions"),
        ("0.5", r"py:f returned 0.5 \(float\), which is no list"),
        ("None", r"py:f returned None, which is no list"),
        ("[1, 'yes']", r"py:f returned 'yes' \(str\) for the completion 'two'"),
        ("[1, float('nan')]", r"py:f returned nan \(float\) for the completion 'two'"),
        ("[1, float('inf')]", r"py:f returned inf \(float\)"),
        ("columns['key']", r"py:f failed on 2 completions, .* 'one' \(KeyError: 'key', line 2\)"),
    ],
)
def test_what_it_may_not_return(written: Any, value: str, said: str) -> None:
    function = RewardFunction(f"{written(HEAD + value)}:f")
    with pytest.raises(PairBenchError, match=said):
        function(["p", "q"], ["one", "two"], {})


def test_numbers_of_other_libraries_are_numbers(written: Any) -> None:
    for value in ("numpy.array([1, 0])", "torch.tensor([1.0, 0.0])", "[numpy.float32(1), False]"):
        path = written("import numpy, torch\n" + HEAD + value)
        assert RewardFunction(f"{path}:f")(["p"] * 2, ["a"] * 2, {}).tolist() == [1.0, 0.0]


def test_a_file_that_is_none(written: Any) -> None:
    with pytest.raises(PairBenchError, match=r"there is no file no\.py"):
        RewardFunction("no.py:f")
    with pytest.raises(PairBenchError, match=r"their_rewards\.py, line 1, is no Python"):
        RewardFunction(f"{written('def f(:')}:f")
    with pytest.raises(PairBenchError, match=r"cannot be loaded .*\(ZeroDivisionError"):
        RewardFunction(f"{written('1 / 0')}:f")
    with pytest.raises(PairBenchError, match=r"has no function 'ff'; did you mean f"):
        RewardFunction(f"{written(HEAD + '0')}:ff")
    with pytest.raises(PairBenchError, match=r"json\.py has the name of a module"):
        RewardFunction(f"{written(HEAD + '0', 'json.py')}:f")
    with pytest.raises(PairBenchError, match="cannot be loaded"):
        RewardFunction("no_such_package.module:f")


def test_a_path_is_no_part_of_its_name_and_a_comment_none_of_its_source(written: Any) -> None:
    path = written(HEAD + "[0.0]")
    assert known_as(f"{path}:f=1.0") == "their_rewards.py:f"
    assert known_as(f"{path}:f=0.50") == "their_rewards.py:f=0.5"
    before = RewardFunction("their_rewards.py:f").sha256  # found by where it was kept
    written("# a remark\n" + HEAD + "[0.0]")
    assert RewardFunction("their_rewards.py:f").sha256 == before
    written("import helper_of_theirs\n" + HEAD + "[0.0]")
    written("x = 1", "helper_of_theirs.py")
    beside = RewardFunction("their_rewards.py:f").sha256
    written("x = 2", "helper_of_theirs.py")
    assert len({before, beside, RewardFunction("their_rewards.py:f").sha256}) == 3
    other = Path(path).parent / "other"
    other.mkdir()
    (other / "their_rewards.py").write_text(HEAD + "[1.0]")
    with pytest.raises(PairBenchError, match="have one name"):
        known_as(f"{other}/their_rewards.py:f")
