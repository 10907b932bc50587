"""Paths of settings: known by name and content, found again, and written nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from pairbench.errors import PairBenchError
from pairbench.places import NAMED, PLACE, PLACES, declare, find, hashes, named
from pairbench.task import TaskConfig


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(PLACES, "{}")
    monkeypatch.delenv("PAIRBENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def file(folder: str, text: str, name: str = "a.jsonl") -> Path:
    path = Path(folder).absolute() / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)
    return path


def test_one_file_at_two_paths_is_one_and_another_content_is_another() -> None:
    first, second, other = file("one", "1"), file("two", "1"), file("three", "2")
    known = declare(str(first))
    assert NAMED.fullmatch(known) and known.startswith("a.jsonl+")
    assert declare(str(second)) == known != declare(str(other))
    assert declare("two/a.jsonl") == known == declare(known)
    assert find(known) == str(second)  # the last that was declared


def test_what_is_no_path_stays_as_it_is() -> None:
    for value in ("", "tiny", "owner/name", "module:Class"):
        assert declare(value) == value == find(value)


def test_a_model_is_its_weights_settings_and_tokenizer() -> None:
    model = file("m", "weights", "model.safetensors").parent
    file("m", "{}", "config.json")
    known = declare(str(model))
    file("m", "words", "README.md")
    file("m/runs", "{}", "log.json")
    assert declare(str(model)) == known
    assert set(hashes(model)) == {"model.safetensors", "config.json"}
    file("m", "{{ messages }}", "chat_template.jinja")
    assert declare(str(model)) != known
    assert find(declare(str(model))) == str(model)


def test_what_is_not_at_hand_is_looked_for_by_name_and_asked_for_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = file("data", "1")
    known = declare(str(path))
    path.write_text("2")  # since it was declared
    sentence = r"a.jsonl\+\w+ is not at hand: name the folder that holds a a.jsonl of that content"
    with pytest.raises(PairBenchError, match=sentence):
        find(known)
    file("elsewhere", "1")
    monkeypatch.setenv("PAIRBENCH_DATA", "elsewhere")
    assert find(known) == "elsewhere/a.jsonl"
    monkeypatch.setenv(PLACES, "no JSON")
    file(".", "1")
    assert find(known) == "a.jsonl"


def test_a_text_names_no_declared_path() -> None:
    path = file("one", "1")
    known = declare(str(path))
    assert named(f"{path} cannot be read") == f"{known} cannot be read"


def test_settings_hold_no_path_where_a_field_is_marked() -> None:
    class Config(TaskConfig):
        path: str | None = Field(None, json_schema_extra=PLACE)
        several: tuple[str, ...] = Field((), json_schema_extra={"place": ["one"]})
        other: str = ""

    first = str(file("one", "1"))
    config = Config(path=first, several=("one", first), other=first).by_content()
    assert config.path == declare(first) and config.several == ("one", declare(first))
    assert config.other == first
    assert Config().by_content() == Config()
