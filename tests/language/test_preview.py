"""What is told of a language task's pairs before the first run, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the extra language is not installed")

from pairbench.errors import PairBenchError
from pairbench.experiments.runner import run
from pairbench.language.data.load import load
from pairbench.language.preview import contradictory, preview
from pairbench.registry import get_task, preview_of
from tests.support.preferences import plain, write


def rows(count: int = 80, **more: Any) -> list[dict[str, Any]]:
    return [{**row, "prompt": f"q{n}", **more} for n, row in enumerate(plain(count))]


def told(path: Path) -> list[str]:
    task = get_task("preference-file")
    return preview(task(task.Config.model_validate({"path": str(path)})))


def test_pairs_that_are_all_equal_after_the_cut_are_refused_before_the_first_run(
    tmp_path: Path, trained: Path
) -> None:
    """Field case f09, where no pair is left."""
    same = "It is what it is, and so it goes on for longer than any policy here is asked to write. "
    data = rows(chosen=same * 9 + "Press the button.", rejected=same * 9 + "Throw it away.")
    path = write(tmp_path / "late.jsonl", data)
    with pytest.raises(PairBenchError, match=r"late has no pair left for training: all \d+ are "):
        run(
            algorithms=["dpo"],
            tasks=[f"preference-file@{trained}"],
            budget={"gradient_steps": 1},
            results=tmp_path / "results",
            overrides=[f"preference-file.path={json.dumps(str(path))}"],
        )
    assert not list(tmp_path.glob("results/*/*"))


def test_pairs_that_contradict_each_other_are_counted(tmp_path: Path) -> None:
    data = rows()
    one = data[0]
    turned = {**one, "chosen": one["rejected"], "rejected": one["chosen"], "id": "turned"}
    elsewhere = {**turned, "prompt": "another question", "id": "elsewhere"}
    path = write(tmp_path / "both.jsonl", [*data, turned, elsewhere])
    assert contradictory(load(str(path))) == 2
    (said,) = told(path)
    assert said.startswith("both: 2 pairs of 82 prefer what another of the same prompt rejects")
    assert told(write(tmp_path / "fine.jsonl", data)) == []


def test_a_column_of_system_prompts_is_said_to_be_left_out(tmp_path: Path) -> None:
    data = rows()
    for row in data[:3]:
        row["system"] = "Be brief."
    data[3]["system"] = " "
    (said,) = told(write(tmp_path / "sharegpt.jsonl", data))
    assert said.startswith("sharegpt: the column 'system' is not read, and 3 rows have one: ")


def test_a_kind_without_a_room_of_its_own_has_nothing_to_tell() -> None:
    task = get_task("preference-bandit")
    assert preview_of(task.kind)(task(task.Config.model_validate({}))) == []
    assert preview_of("language") is preview
