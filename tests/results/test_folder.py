"""The results folder: whole files or none, nothing overwritten, nothing trusted."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from pairbench.errors import PairBenchError
from pairbench.evaluation import Evaluation
from pairbench.experiments.suite import plan
from pairbench.results.columns import read_series, read_texts
from pairbench.results.folder import Store
from pairbench.results.layout import PAGES
from pairbench.results.load import load_records, load_series
from pairbench.results.query import query
from pairbench.results.record import Failure, RunRecord, Stability
from pairbench.results.record_file import Unreadable, as_json, read_record

SERIES = {
    "loss": np.array([3.0, 2.0, 1.0], dtype=np.float32),
    "kl_ref": np.array([0.1, np.nan, 0.3], dtype=np.float32),
}


def finished(seed: int = 0, reward: float = 1.0) -> RunRecord:
    (spec,) = plan(
        algorithms=["grpo"], tasks=["preference-bandit"], seeds=[seed], budget={"steps": 10}
    ).specs
    return RunRecord(
        identity=spec.identity,
        **spec.model_dump(),
        status="finished",
        evaluation=Evaluation(scores={"mean": [reward, reward]}),
        weights_sha256="0" * 64,
    )


def failed(seed: int = 0) -> RunRecord:
    failure = Failure(kind="DivergedError", message="the loss is not finite", iteration=3)
    changes = {"status": "failed", "failure": failure, "evaluation": None, "reason": "it diverged"}
    return finished(seed).model_copy(update=changes)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def test_a_record_lies_where_its_identity_says_and_comes_back_whole(store: Store) -> None:
    record = store.write(finished(), SERIES)
    path = store.root / "preference-bandit" / "grpo" / f"{record.identity[:16]}.json"
    assert store.path(record) == path == store.path(record.spec)
    assert store.find(record.spec) == (record, None)
    assert path.read_bytes() == as_json(record)
    assert path.read_text().endswith("}\n")
    series = path.with_suffix(".parquet")
    assert record.series_sha256 == hashlib.sha256(series.read_bytes()).hexdigest()
    back = read_series(series)
    for name, column in SERIES.items():
        assert back[name].dtype == np.float32
        assert np.array_equal(back[name], column, equal_nan=True)
    assert [p.name for p in path.parent.iterdir() if p.name.endswith(".tmp")] == []


def test_a_finished_record_is_never_overwritten(store: Store) -> None:
    record = store.write(finished())
    with pytest.raises(PairBenchError, match="never overwritten"):
        store.write(finished(reward=2.0))
    assert read_record(store.path(record)) == record


def test_failures_are_kept_apart_and_are_no_cache_hit(store: Store) -> None:
    for _ in range(2):
        store.write(failed())
    names = sorted(path.name for path in store.path(finished()).parent.glob("*.json"))
    assert [name.partition(".")[2] for name in names] == ["failed-1.json", "failed-2.json"]
    assert store.find(finished().spec) == (None, None)
    assert [record.status for record in load_records(store.root).records] == ["failed"]
    store.write(finished())
    assert [record.status for record in load_records(store.root).records] == ["finished"]
    assert len(list(store.root.rglob("*.failed-*.json"))) == 2


def damage(path: Path, how: str) -> None:
    text = path.read_text()
    raw = json.loads(text)
    if how == "truncated":
        text = text[: len(text) // 2]
    elif how == "foreign":
        text = '{"notes": "not yours"}'
    elif how == "newer":
        text = json.dumps({**raw, "schema_version": 99, "from_the_future": True})
    elif how == "edited":
        text = json.dumps({**raw, "seed": 7})
    path.write_text(text)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "not complete JSON"),
        ("foreign", "no PairBench record"),
        ("newer", "schema version 99 is newer than 3"),
        ("edited", "identity is not the hash"),
    ],
)
def test_a_file_that_is_no_record_is_named_and_set_aside(
    how: str, message: str, store: Store
) -> None:
    record = store.write(finished())
    store.write(finished(seed=1))
    path = store.path(record)
    damage(path, how)
    broken = path.read_bytes()

    loaded = load_records(store.root)  # a reader reports it and leaves it
    assert [r.seed for r in loaded.records] == [1]
    (problem,) = loaded.problems
    assert message in problem
    assert str(path) in problem
    assert "\n" not in problem
    assert path.read_bytes() == broken

    found, aside = store.find(record.spec)  # a run that needs its place moves it
    assert found is None
    assert aside is not None
    assert message in aside
    assert path.with_name(f"{path.name}.aside-1").read_bytes() == broken
    store.write(record)
    damage(path, how)
    store.find(record.spec)
    assert path.with_name(f"{path.name}.aside-2").exists()
    assert path.with_name(f"{path.name}.aside-1").read_bytes() == broken


def test_the_series_of_a_record_set_aside_goes_with_it(store: Store) -> None:
    record = store.write(finished(), SERIES, {"completion": ["yes"]})
    path = store.path(record)
    series = path.with_suffix(".parquet").read_bytes()
    damage(path, "newer")
    store.find(record.spec)
    assert not path.with_suffix(".parquet").exists()
    assert not path.with_suffix(".texts.parquet").exists()
    store.write(finished())
    assert path.with_name(f"{path.stem}.parquet.aside-1").read_bytes() == series


def test_texts_come_back_as_they_were_and_cannot_be_mistaken(store: Store) -> None:
    texts = {"prompt": ["a", "b"], "completion": ["two\nlines", "caf\u00e9 \U0001f600 \0"]}
    record = store.write(finished(), None, texts)
    path = store.path(record).with_suffix(".texts.parquet")
    assert record.texts_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_texts(path) == texts
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(PairBenchError, match="cannot be read as texts of a run"):
        read_texts(path)


def test_a_record_under_another_name_is_refused(store: Store) -> None:
    path = store.path(store.write(finished()))
    other = path.with_name("0123456789abcdef.json")
    path.rename(other)
    with pytest.raises(Unreadable, match="not that of its identity"):
        read_record(other)


def test_one_writer_at_a_time_and_the_second_is_told_who(store: Store) -> None:
    with store.lock():
        message = f"in use by process {os.getpid()}:"
        with pytest.raises(PairBenchError, match=message), Store(store.root).lock():
            raise AssertionError
        assert load_records(store.root).records == []  # readers need no lock
    with Store(store.root).lock():
        pass


def test_a_lock_clears_what_killed_writers_left(store: Store) -> None:
    path = store.path(store.write(finished()))
    leftover = path.with_name(f".{path.name}.1.tmp")
    leftover.write_text("half")
    foreign = [store.root / ".notes.tmp", path.parent / ".notes.tmp", path.parent / "a/b/.c.1.tmp"]
    foreign[2].parent.mkdir(parents=True)
    for file in foreign:
        file.write_text("not ours")
    with store.lock():
        assert not leftover.exists()
    assert all(file.exists() for file in foreign)


def test_a_full_disk_loses_nothing_written_before(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store.write(finished(), SERIES)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PairBenchError, match=r"is full: every run that ended before is kept"):
        store.write(finished(seed=1), SERIES)
    monkeypatch.undo()
    assert load_records(store.root) == ([first], [])
    assert not list(store.root.rglob("*.tmp"))


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "results")
    with pytest.raises(PairBenchError, match=r"file/results cannot be written"), store.lock():
        raise AssertionError
    with pytest.raises(PairBenchError, match="there is no results folder"):
        load_records(tmp_path / "none")


def test_records_and_series_answer_sql(store: Store) -> None:
    for seed in range(3):
        store.write(finished(seed, reward=float(seed)), SERIES)
    store.write(failed(seed=9))
    answer = query(
        "SELECT count(*), avg(reward) FROM records WHERE status = 'finished'", store.root
    )
    assert answer.fetchall() == [(3, 1.0)]
    answer = query(
        "SELECT seed, min(loss), count(kl_ref), max(iteration) FROM series "
        "GROUP BY seed ORDER BY seed",
        store.root,
    )
    assert answer.fetchall() == [(0, 1.0, 2, 2), (1, 1.0, 2, 2), (2, 1.0, 2, 2)]
    answer = query("SELECT record->>'$.failure.kind' FROM records WHERE seed = 9", store.root)
    assert answer.fetchall() == [("DivergedError",)]
    with pytest.raises(PairBenchError, match="query cannot be answered"):
        query("SELECT nothing FROM nowhere", store.root)


def test_pages_in_the_folder_are_no_records(store: Store) -> None:
    store.write(finished())
    pages = store.root / PAGES
    pages.mkdir()
    (pages / "board.json").write_text("{}")
    assert load_records(store.root).problems == []


def test_series_of_many_runs_come_back_in_one_go_and_what_is_none_is_left_out(
    store: Store,
) -> None:
    other = {"loss": np.array([5.0, 4.0], dtype=np.float32)}
    records = [store.write(finished(0), SERIES), store.write(finished(1), other)]
    records.append(store.write(finished(2)))
    found = load_series(store.root, records)
    assert set(found) == {records[0].identity, records[1].identity}
    for name, column in SERIES.items():
        assert np.array_equal(found[records[0].identity][name], column, equal_nan=True)
    assert found[records[1].identity]["loss"].tolist() == [5.0, 4.0]
    assert np.isnan(found[records[1].identity]["kl_ref"]).all()
    store.path(records[0]).with_suffix(".parquet").write_bytes(b"no series")
    left = load_series(store.root, records)
    assert set(left) == {records[1].identity}
    assert left[records[1].identity]["loss"].tolist() == [5.0, 4.0]


def test_a_run_whose_record_nobody_would_read_is_a_failure(tmp_path: Path) -> None:
    """As one that has measured what no sum holds; else each call would run it again."""
    from tests.support.records import record

    grown = record("grpo", 0).model_copy(update={"stability": Stability(kl_max=1e200)})
    kept = Store(tmp_path).write(grown)
    assert kept.failure is not None
    assert (
        "what it came to cannot be kept: it has measured more than 1e+100" in kept.failure.message
    )
    assert [r.status for r in load_records(tmp_path).records] == ["failed"]


@pytest.mark.parametrize("name", ["a-copy", "z-copy"])
def test_of_two_files_of_one_run_the_one_in_its_place_counts(name: str, tmp_path: Path) -> None:
    from tests.support.records import record

    one, store = record("grpo", 0), Store(tmp_path)
    store.write(one)
    other = tmp_path / name / "x" / store.path(one).name
    other.parent.mkdir(parents=True)
    other.write_bytes(as_json(one.model_copy(update={"regime": "another"})))
    records, problems = load_records(tmp_path)
    assert records == [one]
    assert problems == [f"{other} is not used: {store.path(one)} is the record of the same run"]
    second = other.with_name(f"{one.identity[:20]}.json")
    second.write_bytes(as_json(one))
    store.path(one).unlink()
    assert load_records(tmp_path).problems == [
        f"{second} is not used: {other} is the record of the same run"
    ]
