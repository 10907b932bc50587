"""Runs at hand that have read other code or data: refused, said, or made anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

import pairbench
from pairbench.errors import PairBenchError
from pairbench.experiments import reading
from pairbench.experiments.progress import Monitor
from pairbench.leaderboard import build, compare
from pairbench.results.files import atomic_write
from pairbench.results.folder import Store
from pairbench.results.load import load_records
from pairbench.results.marks import marks
from pairbench.results.record import RunRecord
from pairbench.results.record_file import as_json
from pairbench.training.train import train
from tests.support.plug_in import edit, plug_in


class Heard(Monitor):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def run(
    results: Path,
    seeds: str,
    *algorithms: str,
    task: str = "preference-bandit",
    engine: str = "pairbench",
    **more: Any,
) -> tuple[list[RunRecord], str]:
    heard = Heard()
    records = pairbench.run(
        algorithms=algorithms, tasks=[task], seeds=seeds, workers=1,
        budget={"gradient_steps": 20}, results=results, monitor=heard,
        protocol={"evaluations": 1, "probes": 0, "engine": engine}, **more,
    )  # fmt: skip
    return records, "\n".join(heard.notes)


def test_an_edited_plug_in_is_named_never_pooled_and_made_anew_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Field case f02: the loss is turned round between two calls."""
    results = tmp_path / "results"
    package = plug_in(tmp_path / "site", "turned-round", monkeypatch)
    (first, _), _ = run(results, "0", "turned-round", "reference")
    edit(package / "__init__.py", "Loss(-objectives", "Loss(objectives")
    for seeds in ("0", "0-1"):
        with pytest.raises(PairBenchError) as refused:
            run(results, seeds, "turned-round", "reference")
        assert str(refused.value).startswith(
            f"the source of turned-round changed: {first.read['source of turned-round'][:8]} to "
        )
        assert "since 1 run in " in str(refused.value) and "--set-aside" in str(refused.value)
    assert len(load_records(results).records) == 2  # before the first run
    run(results, "1", "turned-round", "reference")
    (board,) = build(load_records(results).records)
    old = f"turned-round (source {first.read['source of turned-round'][:8]})"
    rows = {row.row: row.n_seeds for row in board.rows}
    assert rows == {"turned-round": 1, old: 1, "reference": 2}
    assert board.notes == [
        f"turned-round has the same settings as {old}, and another source of the algorithm: they "
        "are not known to be the same method."
    ]
    found = compare(load_records(results).records, "turned-round", "reference", board.task)
    assert found.seeds == [1] and found.remarks == board.notes
    (verdict,) = pairbench.reproduce([first.identity[:16]], results)
    assert verdict.verdict == "different"
    assert verdict.changed[0].startswith("the source of turned-round changed: ")
    _, said = run(results, "0", "turned-round", "reference", aside=True)
    assert "1 runs were set aside" in said
    (board,) = build(load_records(results).records)
    assert {row.row: row.n_seeds for row in board.rows} == {"turned-round": 2, "reference": 2}
    (kept,) = (results / ".set-aside").rglob("*.json")
    assert kept.read_bytes() == as_json(first)


@pytest.mark.parametrize("kind", ["task", "engine"])
def test_an_edited_task_or_engine_is_named_and_shares_no_board(
    kind: Literal["task", "engine"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, results = f"edited-{kind}", tmp_path / "results"
    package = plug_in(tmp_path / "site", name, monkeypatch, kind)

    def two(seeds: str, **more: Any) -> list[RunRecord]:
        return run(results, seeds, "grpo", "ppo", **{kind: name}, **more)[0]

    first = two("0")[0]
    assert first.status == "finished" and f"source of {name}" in first.read
    edit(package / "more.py", "0.25", "0.5")
    with pytest.raises(PairBenchError) as refused:
        two("0-1")
    old = first.read[f"source of {name}"][:8]
    assert str(refused.value).startswith(f"the source of {name} changed: {old} to ")
    assert "since 2 runs in " in str(refused.value) and "--set-aside" in str(refused.value)
    assert len(load_records(results).records) == 2  # before the first run
    two("1")
    boards = build(load_records(results).records)
    assert [[row.n_seeds for row in board.rows] for board in boards] == [[1, 1], [1, 1]]
    assert all(any(f"source of {name}" in note for note in board.notes) for board in boards)
    found = compare(load_records(results).records, "grpo", "ppo", first.task)
    assert len(found.seeds) == 1 and "nothing can be said" in found.conclusion
    two("0-1", aside=True)
    (board,) = build(load_records(results).records)
    assert [row.n_seeds for row in board.rows] == [2, 2] and board.notes == []


@pytest.mark.slow
def test_a_checkpoint_of_other_code_is_set_aside_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = plug_in(tmp_path / "site", "begun-before", monkeypatch)
    (record,), _ = run(tmp_path / "results", "0", "begun-before")
    place = tmp_path / "run.safetensors"
    train(record.spec, checkpoint=place, checkpoint_seconds=0.0, iterations=2)
    edit(package / "more.py", "0.25", "0.5")
    said: list[str] = []
    train(record.spec, checkpoint=place, warn=said.append)
    (text,) = said
    assert "run.safetensors.aside-1, and the run begins anew: the source of begun-before" in text


def rewritten(results: Path, record: RunRecord, **fields: Any) -> None:
    path = Store(results).path(record)
    atomic_write(path, as_json(record.model_copy(update=fields)))


def test_runs_of_before_sources_were_recorded_are_kept_apart_until_one_is_made_again(
    tmp_path: Path,
) -> None:
    (made,), said = run(tmp_path, "0", "reference")
    assert said == ""
    rewritten(tmp_path, made, schema_version=2, read={})
    _, said = run(tmp_path, "0-1", "reference")
    assert said.startswith(f"1 of the runs found in {tmp_path} were made before sources were recor")
    assert "pairbench reproduce --mark " in said
    records = load_records(tmp_path).records
    parts = build(records)
    assert len(parts) == 2 and all(len(board.identities) == 1 for board in parts)
    assert "source of preference-bandit not recorded" in str([b.notes for b in parts])
    (verdict,) = pairbench.reproduce([made.identity[:16]], tmp_path, mark=True)
    assert verdict.verdict == "equal" and "not recorded to" in verdict.changed[0]
    (board,) = build(records, marks=marks(tmp_path))
    assert board.rows[0].n_seeds == 2 and board.notes == []
    assert run(tmp_path, "0-1", "reference")[1] == ""
    other = [r.model_copy(update={"weights_sha256": "0" * 64}) for r in records]
    assert len(build(other, marks=marks(tmp_path))) == 2  # the mark is of another content


def test_a_change_of_pairbench_itself_is_said_and_stops_nothing(tmp_path: Path) -> None:
    (made,), _ = run(tmp_path, "0", "reference")
    rewritten(tmp_path, made, read={**made.read, "source of pairbench": "f" * 64})
    (again,), said = run(tmp_path, "0", "reference")
    assert again.weights_sha256 == made.weights_sha256
    assert said.startswith("the source of pairbench changed: ffffffff to ")
    assert "pairbench reproduce --mark " in said
    rewritten(tmp_path, made, read={**made.read, "data": "f" * 64})
    assert run(tmp_path, "0", "reference")[1] == ""  # the task reads none


def test_what_is_out_of_reach_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, "0", "reference")

    def gone(name: str) -> Any:
        raise PairBenchError(f"there is no algorithm {name!r}")

    monkeypatch.setattr(reading, "get_algorithm", gone)
    assert run(tmp_path, "0", "reference")[1] == ""
