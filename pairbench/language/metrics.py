"""Measures of completions, computed by Hugging Face `evaluate` and without a hub.

Every metric here is an `evaluate.EvaluationModule`. What it is given is decided by the names of its
features: "predictions" (or "data") are the completions' texts, "references" the answers that the
data set prefers, "prompts" the texts that were completed, and "tokens" the completions' token ids.
A task's setting `metrics` names further ones; `load_metric` says how.

Distinct-n is that of Li et al. 2016 (arXiv 1510.03055): different n-grams over all n-grams. Variety
guards against repetition: it is the mean share of different tokens in one completion, and a policy
that repeats itself falls below the initial policy's, whatever a judge says of it.
"""

from __future__ import annotations

import importlib
import inspect
import math
import re
from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import evaluate
import numpy as np
from datasets import Features, List, Value

from pairbench.errors import PairBenchError
from pairbench.evaluation import Measure
from pairbench.language.data.pairs import Pair, prompt_text
from pairbench.language.model_cache import cache_folder, file_sha256
from pairbench.places import find
from pairbench.text import did_you_mean, error_line

REFUSAL = re.compile(
    r"\b(i('m| am) sorry|i (can('t|not)|won't|will not|am unable|'m unable|am not able)\b|"
    r"i don't (think i can|feel comfortable)|as an ai\b|i must decline)",
    re.IGNORECASE,
)
"""Words that begin a refusal; a rule of thumb, not a classifier."""

Inputs = Mapping[str, Sequence[Any]]
"""What metrics may ask for, by the name of their feature; N entries each."""


def distinct(rows: Sequence[Sequence[Hashable]], n: int) -> float:
    """Returns the share of different n-grams among all n-grams of all rows, 0 without any."""
    grams = [tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def variety(rows: Sequence[Sequence[Hashable]]) -> float:
    """Returns the mean over rows of the share of different tokens in a row, 0 without any row."""
    shares = [len(set(row)) / len(row) for row in rows if row]
    return sum(shares) / len(shares) if shares else 0.0


def refusals(texts: Sequence[str]) -> float:
    """Returns the share of texts that refuse in so many words, 0 without any."""
    return sum(bool(REFUSAL.search(text)) for text in texts) / len(texts) if texts else 0.0


class _Ours(evaluate.Metric):  # type: ignore[misc]  # untyped base
    """A metric that needs neither a file nor a hub."""

    inputs: ClassVar[Mapping[str, Any]]

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__ or "", citation="", features=Features(self.inputs)
        )

    def _build_data_dir(self) -> str:
        return ""  # its inputs stay in memory, so it needs no folder for them


class CompletionMeasures(_Ours):
    """Length, distinct-1, distinct-2 and variety of the tokens, and refusals by the texts."""

    inputs = MappingProxyType({"predictions": Value("string"), "tokens": List(Value("int64"))})

    def _compute(self, predictions: list[str], tokens: list[list[int]]) -> dict[str, float]:
        return {
            "length": sum(map(len, tokens)) / max(len(tokens), 1),
            "distinct_1": distinct(tokens, 1),
            "distinct_2": distinct(tokens, 2),
            "variety": variety(tokens),
            "refusals": refusals(predictions),
        }


class ExactMatch(_Ours):
    """Share of completions that are the preferred answer to the letter."""

    inputs = MappingProxyType({"predictions": Value("string"), "references": Value("string")})

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        same = sum(one.strip() == other.strip() for one, other in zip(predictions, references))
        return {"exact_match": same / len(predictions)}


OURS: Mapping[str, type[evaluate.Metric]] = {"exact_match": ExactMatch}
"""The metrics that a setting may name without saying where they are."""

LONGEST = 160
"""Characters of a metric's own description that a board shows."""


@cache
def _standard() -> CompletionMeasures:
    return CompletionMeasures(keep_in_memory=True, seed=0)


def completion_measures(texts: Sequence[str], tokens: Sequence[Sequence[int]]) -> dict[str, float]:
    """Returns the measures of every language task, of N completions' texts and token ids."""
    found: dict[str, float] = _standard().compute(predictions=texts, tokens=tokens)
    return found


def inputs_of(
    pairs: Sequence[Pair], texts: Sequence[str], tokens: Sequence[Sequence[int]]
) -> Inputs:
    """Returns what metrics may ask for, of the texts and token ids completing N pairs' prompts."""
    return {
        "predictions": texts,
        "data": texts,
        "references": [pair.chosen for pair in pairs],
        "prompts": [prompt_text(pair.prompt) for pair in pairs],
        "tokens": tokens,
    }


class FurtherMetrics:
    """The metrics that a task's setting names, beside those of every language task.

    Making one loads each metric, and so runs code of the user's choosing: names may come from a
    person's settings, and never from a results folder.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Loads the metrics.

        Raises:
            PairBenchError: one cannot be loaded; see `load_metric`.
        """
        self._metrics = {name: load_metric(name) for name in names}

    def compute(self, inputs: Inputs) -> dict[str, float]:
        """Returns every number that the metrics give; what is no finite number is left out.

        Raises:
            PairBenchError: a metric asks for something that completions do not have, fails, or
                gives no number, or two give numbers of one name.
        """
        found: dict[str, float] = {}
        for name, metric in self._metrics.items():
            values = _compute(name, metric, inputs)
            if both := sorted(found.keys() & values.keys()):
                raise PairBenchError(f"two metrics give {', '.join(both)}: leave {name} out")
            found |= values
        return found

    def measures(self, example: Inputs, taken: Sequence[str]) -> tuple[Measure, ...]:
        """Returns what the numbers are called, found by computing them once.

        Args:
            example: a few inputs of the kind that is to come.
            taken: names that are those of other measures.

        Raises:
            PairBenchError: see `compute`; or a number has a name that is taken.
        """
        found = {}
        for name, metric in self._metrics.items():
            meaning = " ".join(metric.description.split()) or f"What {name} says"
            if len(meaning) > LONGEST:
                meaning = f"{meaning[:LONGEST].rsplit(' ', 1)[0]} ..."
            for key in _compute(name, metric, example):
                found[key] = Measure(name=key, title=key.replace("_", " "), meaning=meaning)
        if both := sorted(found.keys() & set(taken)):
            raise PairBenchError(
                f"{', '.join(both)} is a measure of every language task: leave the metric out"
            )
        return tuple(found.values())

    def provenance(self) -> dict[str, str]:
        """Returns the SHA-256 of the file that each metric's class stands in, by name."""
        files = {n: inspect.getsourcefile(type(metric)) for n, metric in self._metrics.items()}
        return {name: file_sha256(Path(file)) for name, file in files.items() if file}


def load_metric(name: str) -> evaluate.EvaluationModule:
    """Returns the metric `name`; nothing is asked of a hub to find it.

    Args:
        name: one of `OURS`; "package.module:Class", an `evaluate.EvaluationModule` that can be
            imported; or the path of a metric's script, or of a folder with a script of its name,
            as they stand in a clone of the repository of `evaluate`.

    Raises:
        PairBenchError: there is no such metric, or it cannot be loaded.
    """
    options = {"keep_in_memory": True, "seed": 0, "cache_dir": str(cache_folder() / "metrics")}
    path = Path(find(name))
    try:
        if name in OURS:
            return OURS[name](**options)
        if path.suffix == ".py" or path.is_dir():
            return evaluate.load(str(path.absolute()), **options)
        module, _, attribute = name.partition(":")
        if attribute:
            found = getattr(importlib.import_module(module), attribute)
            if not (isinstance(found, type) and issubclass(found, evaluate.EvaluationModule)):
                raise PairBenchError(f"the metric {name} is no class of evaluate.EvaluationModule")
            return found(**options)
    except PairBenchError:
        raise
    except Exception as error:  # the metric's own code may raise anything
        raise PairBenchError(f"the metric {name} cannot be loaded ({error_line(error)})") from error
    raise PairBenchError(
        f"no metric is named {name!r}{did_you_mean(name, OURS)}; or give package.module:Class, or "
        "the path of a metric's script"
    )


def _compute(name: str, metric: evaluate.EvaluationModule, inputs: Inputs) -> dict[str, float]:
    several = isinstance(metric.features, list)  # a metric may take its inputs in several forms
    asked = list(metric.features[0] if several else metric.features)
    if missing := [feature for feature in asked if feature not in inputs]:
        raise PairBenchError(
            f"the metric {name} asks for {' and '.join(missing)}, and completions have "
            f"{', '.join(inputs)} only: choose another"
        )
    try:
        found = metric.compute(**{feature: inputs[feature] for feature in asked})
    except Exception as error:  # likewise
        raise PairBenchError(f"the metric {name} failed ({error_line(error)})") from error
    numbers = {
        str(key): float(value)
        for key, value in (found or {}).items()
        if isinstance(value, (int, float, np.number)) and math.isfinite(value)
    }
    if not numbers:
        raise PairBenchError(f"the metric {name} gave no finite number: choose another")
    return numbers
