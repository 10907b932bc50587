"""What runs have read: of old records too, and what marks join."""

from __future__ import annotations

from pairbench.results.marks import Reproduction
from pairbench.results.read import MADE_HERE, Joined, of_files, read_of
from pairbench.results.record import RunRecord
from pairbench.results.record_file import as_json
from tests.support.records import record

SOURCES = {"source of grpo": "a" * 64, "source of pairbench": "b" * 64}


def mark(of: RunRecord, **fields: object) -> Reproduction:
    return Reproduction.model_validate(
        {
            "identity": of.identity, "name": "a run", "verdict": "equal", "detail": "", "cpu": "",
            "date": "2026-01-01", "record_sha256": of.sha256, "read": SOURCES, **fields,
        }
    )  # fmt: skip


def test_an_old_record_has_read_what_its_provenance_says_and_unnamed_sources() -> None:
    hashes = {"model.safetensors": "1", "tokenizer.json": "2"}
    task = {"data_sha256": "d" * 64, "model": {"source": "a folder", "sha256": hashes}}
    old = record(schema_version=2, provenance={"task": task})
    read = read_of(old)
    assert read["data"] == "d" * 64 and read["model"] == of_files(hashes)["model"]
    assert read["source of grpo"] == read["source of halfcheetah-v4"] != ""
    assert read["source of grpo"].startswith("not recorded")
    task["model"] = {**task["model"], "source": "trained here"}  # type: ignore[dict-item]
    assert MADE_HERE in read_of(record(schema_version=1, provenance={"task": task}))
    other = record(schema_version=2, steps=100)  # of another board
    assert read_of(other)["source of grpo"] != read["source of grpo"]
    assert read_of(record(read=SOURCES)) == SOURCES


def test_tokenizer_and_chat_template_are_apart_from_the_model() -> None:
    files = dict.fromkeys(
        ("config.json", "model.safetensors", "tokenizer_config.json", "chat_template.jinja"), "1"
    )
    found = of_files(files)
    assert of_files(files | {"chat_template.jinja": "2"})["model"] == found["model"]
    assert of_files(files | {"chat_template.jinja": "2"})["tokenizer"] != found["tokenizer"]
    assert of_files(files | {"config.json": "2"})["tokenizer"] == found["tokenizer"]


def test_a_whole_equal_reproduction_joins_two_sources_and_nothing_else_does() -> None:
    old = record(schema_version=2)
    then = read_of(old)
    changed = Joined().changed(then, SOURCES)
    assert changed["source of grpo"] == "the source of grpo changed: not recorded to aaaaaaaa"
    assert Joined([old], [mark(old)]).changed(then, SOURCES) == {}
    for spoilt in (
        {"verdict": "close"}, {"iterations": 3}, {"record_sha256": "f" * 64},
        {"record_sha256": ""}, {"read": {}},
    ):  # fmt: skip
        assert Joined([old], [mark(old, **spoilt)]).changed(then, SOURCES) == changed
    assert Joined([], [mark(old)]).changed(then, SOURCES) == changed


def test_what_is_joined_goes_on_over_several_marks() -> None:
    first, second = (
        record(read={"source of grpo": "1"}),
        record(seed=1, read={"source of grpo": "2"}),
    )
    kept = [
        mark(first, read={"source of grpo": "2"}), mark(second, read={"source of grpo": "3"})
    ]  # fmt: skip
    joined = Joined([first, second], kept)
    assert len({joined.of("source of grpo", value) for value in "123"}) == 1
    assert joined.of("source of dpo", "1") == "1"


def test_models_and_data_are_never_joined() -> None:
    first = record(read={"data": "1", "source of grpo": "1"})
    joined = Joined([first], [mark(first, read={"data": "2", "source of grpo": "2"})])
    assert list(joined.changed({"data": "1"}, {"data": "2"})) == ["data"]


def test_the_hash_of_a_record_is_of_what_its_file_says() -> None:
    one = record()
    first = RunRecord.model_validate_json(as_json(one))
    again = RunRecord.model_validate_json(as_json(one).replace(b"\n", b""))
    assert first.sha256 == again.sha256
    assert record(seed=1).sha256 != one.sha256
    assert one.model_copy(update={"weights_sha256": "1" * 64}).sha256 != one.sha256
