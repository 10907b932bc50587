"""Texts without end, and expressions that could search them without end."""

from __future__ import annotations

import json
import pkgutil
import re
import time
from importlib import import_module
from pathlib import Path

import pytest

import pairbench
from pairbench.errors import PairBenchError
from pairbench.experiments.submission import MAIL, look
from pairbench.results.files import DEEPEST, LONGEST, strict_json
from pairbench.results.load import load_records
from tests.support.records import record

LONG = ("a", " ", "a.", "x@", "@a.", "/a", "~a", "\n", "?key=", "//a:", "a-", "0", "\\\\", "i'm a")


def searching() -> dict[str, re.Pattern[str]]:
    """The expressions that modules of the package keep and search with, wherever they begin."""
    root = Path(pairbench.__file__).parent
    source = "\n".join(path.read_text(encoding="utf-8") for path in root.rglob("*.py"))
    found = {}
    for module in pkgutil.walk_packages(pairbench.__path__, "pairbench."):
        if module.name.split(".")[-1] in ("__main__", "worker"):
            continue
        try:
            kept = vars(import_module(module.name))
        except (ImportError, PairBenchError):  # of an extra that is not installed
            continue
        for name, value in kept.items():
            if isinstance(value, re.Pattern) and re.search(
                rf"\b{name}\.(search|sub|findall|finditer|split)\(", source
            ):
                found[f"{module.name}.{name}"] = value
    return found


def test_no_expression_takes_the_square_of_a_text_s_length() -> None:
    found = searching()
    assert {name.rpartition(".")[2] for name in found} >= {"MAIL", "PLACE_ON_A_MACHINE", "IN_A_URL"}
    slow = []
    for name, pattern in found.items():
        for part in LONG:
            text = (part * 20_000)[:20_000] + "\x00"
            began = time.process_time()
            pattern.search(text)
            if time.process_time() - began > 0.5:
                slow.append((name, part))
    assert slow == []


def test_mail_addresses_are_found() -> None:
    for text in ("a@b.co", "see me.too+x@mail.example.org.", "x@a-b.c-d.info"):
        assert MAIL.search(text)
    for text in ("@b.co", "a@b", "a@b.c1", "grpo@v1", "x" * 400_000):
        assert not MAIL.search(text)


@pytest.mark.parametrize(
    "text",
    [
        "x" * (LONGEST + 1),
        {"y" * (LONGEST + 1): 1},
        ["z" * (LONGEST + 1)],
        "\ud800",
        2**63,
        10**400,
    ],
    ids=lambda value: str(value)[:8].encode("utf-8", "replace").decode(),
)
def test_what_is_beyond_bounds_is_no_json_of_ours(text: object) -> None:
    with pytest.raises(ValueError, match=r"characters, more than|half a character|is too large"):
        strict_json(json.dumps({"a": [{"b": text}]}))


def test_depth_is_bounded_and_brackets_in_texts_are_none() -> None:
    deep = "[" * DEEPEST + "]" * DEEPEST
    assert strict_json(json.dumps({"a": "[" * 999})) == {"a": "[" * 999}
    strict_json(deep)
    for text in (f"[[{deep}]]", '{"a":' * 99 + "1" + "}" * 99, "[" * 10**5):
        with pytest.raises(ValueError, match="nested too deeply"):
            strict_json(text)
    assert strict_json(f"[1e300, {-(2**63)}]") == [1e300, -(2**63)]


def test_a_key_that_stands_twice_among_many_is_found_at_once() -> None:
    keys = ", ".join(f'"{number}": 1' for number in [*range(200_000), 199_999])
    began = time.process_time()
    with pytest.raises(ValueError, match="the key '199999' stands in it twice"):
        strict_json(f"{{{keys}}}")
    assert time.process_time() - began < 10


def test_a_record_with_a_text_without_end_is_set_aside_at_once(tmp_path: Path) -> None:
    one = record("grpo", 0)
    tree = one.model_dump(mode="json")
    tree["provenance"]["cpu"] = "x" * 400_000
    path = tmp_path / f"{one.identity[:16]}.json"
    path.write_text(json.dumps(tree))
    began = time.process_time()
    (found,) = look([path], tmp_path / "results")
    assert found.problems == ["a text in it has 400000 characters, more than 10000"]
    assert load_records(tmp_path).records == []
    assert time.process_time() - began < 10
