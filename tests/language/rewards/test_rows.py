"""Prompts are read from every form that data come in, and held out by their hashes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("datasets", reason="the extra language is not installed")

import datasets

from pairbench.errors import PairBenchError
from pairbench.language.rewards.rows import PromptSet, of_rows, read_prompts

ROWS: list[dict[str, Any]] = [{"prompt": f"what is {k}?", "answer": k} for k in range(20)]


def of(rows: list[Any], **more: Any) -> PromptSet:
    return of_rows("mine", ((f"row {n}", row) for n, row in enumerate(rows)), **more)


def test_every_form_gives_the_same_prompts(tmp_path: Path) -> None:
    table = datasets.Dataset.from_list(ROWS)
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    table.to_parquet(tmp_path / "a.parquet")
    table.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": table}).save_to_disk(tmp_path / "splits")
    names = ("a.jsonl", "a.json", "a.parquet", "saved", "splits")
    found = [read_prompts("mine", str(tmp_path / name)) for name in names]
    assert len({one.sha256 for one in found}) == 1
    assert found[0].columns == ("answer",)
    (tmp_path / "a.csv").write_text("question,level\n" + "".join(f"q{k}?,{k}\n" for k in range(5)))
    csv = read_prompts("mine", str(tmp_path / "a.csv"), column="question")
    assert [row.columns for row in csv.rows.values()][1] == {"level": "1"}
    with pytest.raises(PairBenchError, match=r"no split 'tests'; known are train"):
        read_prompts("mine", str(tmp_path / "splits"), split="tests")
    with pytest.raises(PairBenchError, match="no folder that datasets has saved"):
        read_prompts("mine", str(tmp_path))


def test_the_hubs_revision_is_resolved_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    from pairbench.language.rewards import rows

    asked: list[Any] = []

    class Hub:
        def dataset_info(self, name: str, **more: Any) -> Any:
            return type("Info", (), {"sha": "f" * 40})

    def load(*arguments: Any, **named: Any) -> Any:
        asked.append((arguments, named))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(rows, "hub_answers", lambda: True)
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(datasets, "load_dataset", load)
    found = read_prompts("mine", "owner/name", split="test", subset="main")
    assert found.revision == "f" * 40 and len(found.pairs) == 20
    assert asked == [(("owner/name", "main"), {"split": "test", "revision": "f" * 40})]
    monkeypatch.setattr(rows, "hub_answers", lambda: False)
    with pytest.raises(PairBenchError, match="no file or folder owner/name here, and the hub does"):
        read_prompts("mine", "owner/name")


def test_held_out_prompts_are_a_fifth_by_hash() -> None:
    split = of(ROWS).split()
    assert {name: len(part) for name, part in split.items()} == {
        "gold": 0, "evaluation": 4, "proxy": 2, "policy": 14,
    }  # fmt: skip
    backwards = of(ROWS[::-1]).split()
    said = lambda part: {pair.prompt for pair in part}  # noqa: E731 (short)
    assert said(split["evaluation"]) == said(backwards["evaluation"])
    assert {name: len(part) for name, part in of(ROWS[:4]).split().items()} == {
        "gold": 0, "evaluation": 1, "proxy": 1, "policy": 2,
    }  # fmt: skip


def test_messages_stay_messages() -> None:
    messages = [[{"role": "user", "content": f"hi {k}"}] for k in range(4)]
    found = of([{"prompt": prompt} for prompt in messages])
    assert [row.prompt for row in found.rows.values()] == messages
    assert next(iter(found.rows)) == (("user", "hi 0"),)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[1]], "row 0 is no object"),
        ([{"question": "a"}], r"row 0 has no column 'prompt'; known are question"),
        ([{"prompt": " "}], "row 0 has no prompt"),
        ([{"prompt": 5}], "row 0: 'prompt' holds 5, which is not text"),
        ([{"prompt": [{"role": "assistant", "content": "a"}]}], "row 0: its prompt does not end"),
        ([{"prompt": "a", "x": 1}, {"prompt": "a", "x": 2}], "row 1 has the prompt of an earlier"),
        ([{"prompt": "a"}] * 5, "mine has 1 different prompts: give four at least"),
    ],
)
def test_rows_that_are_no_prompts(rows: list[Any], said: str) -> None:
    with pytest.raises(PairBenchError, match=said):
        of(rows)


def test_a_row_again_is_dropped_and_counted() -> None:
    assert of([*ROWS, ROWS[0]]).dropped == {"repeated": 1}
