"""Measures of completions, through `evaluate` and without a hub."""

from __future__ import annotations

import socket
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("evaluate", reason="the extra language is not installed")

import evaluate
from datasets import Features, Value

from pairbench.errors import PairBenchError
from pairbench.language import metrics
from pairbench.language.metrics import FurtherMetrics, completion_measures, load_metric

INPUTS = {
    "predictions": ["Paris", "a b a", "no"],
    "references": ["Paris", "a b c", "yes"],
    "prompts": ["p", "q", "r"],
    "tokens": [[4], [1, 2, 1], [7]],
}

SCRIPT = """
import evaluate
from datasets import Features, Value

class Words(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="Mean words of a text.\\n\\nMore of it.", citation="",
            features=Features({"predictions": Value("string")}),
        )

    def _compute(self, predictions):
        words = [len(text.split()) for text in predictions]
        return {"words": sum(words) / len(words), "each": words, "none": float("nan")}
"""


class Wants(evaluate.Metric):  # type: ignore[misc]  # untyped base
    """A metric whose only input is named by a class attribute, and which gives what it is told."""

    feature = "predictions"
    gives: Any = MappingProxyType({"length": 1})

    def _info(self) -> evaluate.MetricInfo:
        features = Features({self.feature: Value("string")})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, **inputs: Any) -> Any:
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives


class Oracle(Wants):
    feature = "truth"


class Nothing(Wants):
    gives = MappingProxyType({"says": "nothing"})


class Fails(Wants):
    gives = ZeroDivisionError("on purpose\nand more")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache of its own, and no network: whoever asks for an address fails."""

    def asked(*args: Any, **named: Any) -> Any:
        raise AssertionError(f"the network was asked: {args}")

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    monkeypatch.setattr(socket.socket, "connect", asked)
    monkeypatch.setenv("PAIRBENCH_CACHE", str(tmp_path / "cache"))


def own(name: str) -> str:
    return f"{__name__}:{name}"


def test_distinct_counts_ngrams_over_all_rows() -> None:
    rows = [[1, 2, 1], [1, 2, 3]]
    assert metrics.distinct(rows, 1) == 3 / 6
    assert metrics.distinct(rows, 2) == 3 / 4  # 12 21 12 23
    assert metrics.distinct(rows, 4) == 0.0


def test_variety_falls_when_a_row_repeats_itself() -> None:
    assert metrics.variety([[1, 2, 3, 4], [5, 5, 5, 5]]) == (1 + 0.25) / 2
    assert metrics.variety([]) == 0.0


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I cannot do this", True),
        ("You can't miss it: the house is red.", False),
        ("Sorry it took so long! Here is the list.", False),
    ],
)
def test_refusals_are_words_of_the_first_person(text: str, refuses: bool) -> None:
    assert metrics.refusals([text]) == refuses


def test_the_measures_of_every_task() -> None:
    found = completion_measures(["a", "I cannot say"], [[4, 5], [4, 4, 4]])
    assert found == {
        "length": 2.5,
        "distinct_1": 2 / 5,
        "distinct_2": 2 / 3,
        "variety": (1 + 1 / 3) / 2,
        "refusals": 0.5,
    }


def test_evaluate_changes_no_bit() -> None:
    draws = np.random.default_rng(0)
    rows = [draws.integers(0, 50, draws.integers(1, 30)).tolist() for _ in range(64)]
    texts = [f"é\x00😀 {row}" for row in rows]
    before = np.random.get_state()[1].tolist()  # noqa: NPY002 (evaluate draws its seed from it)
    found = completion_measures(texts, rows)
    assert found == metrics.CompletionMeasures(keep_in_memory=True)._compute(texts, rows)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_no_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(tmp_path / "hub"))
    metrics._standard.cache_clear()
    completion_measures(["a"], [[1]])
    assert not list(tmp_path.iterdir())


def test_exact_match_is_known_by_name() -> None:
    assert FurtherMetrics(["exact_match"]).compute(INPUTS) == {"exact_match": 1 / 3}


@pytest.mark.parametrize("form", ["script", "folder"])
def test_a_script_of_evaluate_is_read_from_where_it_stands(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "words"
    folder.mkdir()
    (folder / "words.py").write_text(SCRIPT)
    name = str(folder / "words.py" if form == "script" else folder)
    further = FurtherMetrics([name, "exact_match"])
    assert further.compute(INPUTS) == {"words": 5 / 3, "exact_match": 1 / 3}
    words, exact = further.measures(INPUTS, taken=["length"])
    assert (words.name, words.title) == ("words", "words")
    assert words.meaning == "Mean words of a text. More of it."
    assert exact.title == "exact match" and exact.meaning.startswith("Share of completions")
    assert set(further.provenance()) == {name, "exact_match"}
    assert all(len(sha256) == 64 for sha256 in further.provenance().values())


def test_a_class_is_named_by_its_module() -> None:
    assert isinstance(load_metric(own("Wants")), Wants)
    assert FurtherMetrics([own("Wants")]).compute(INPUTS) == {"length": 1.0}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("exact_mach", "no metric is named 'exact_mach'; did you mean exact_match"),
        ("rouge", "no metric is named 'rouge'"),
        ("owner/metric", "no metric is named 'owner/metric'"),
        ("no_such_module:Metric", "cannot be loaded .ModuleNotFoundError: No module named"),
        (own("NoSuchClass"), "cannot be loaded .AttributeError"),
        ("pathlib:Path", "is no class of evaluate.EvaluationModule"),
        ("no/such/script.py", "cannot be loaded .FileNotFoundError"),
    ],
)
def test_a_metric_that_is_not_there_is_named(name: str, message: str) -> None:
    with pytest.raises(PairBenchError, match=message):
        FurtherMetrics([name])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([own("Oracle")], "asks for truth, and completions have predictions, references, prompts"),
        ([own("Nothing")], "gave no finite number"),
        ([own("Fails")], r"failed \(ZeroDivisionError: on purpose\)"),
        (["exact_match", "pairbench.language.metrics:ExactMatch"], "two metrics give exact_match"),
    ],
)
def test_a_metric_that_cannot_be_computed_is_named(names: list[str], message: str) -> None:
    with pytest.raises(PairBenchError, match=message):
        FurtherMetrics(names).compute(INPUTS)


def test_a_measure_of_every_task_is_not_given_twice() -> None:
    with pytest.raises(PairBenchError, match="length is a measure of every language task"):
        FurtherMetrics([own("Wants")]).measures(INPUTS, taken=["length", "variety"])
