"""Results of claims from the file that keeps them."""

from __future__ import annotations

import json
from typing import Any

from pairbench.papers.claims import CLAIMS, Number, Result
from pairbench.papers.claims.core import Requirement, verdict


def load(text: str) -> list[Result]:
    """Returns the results whose JSON is `text`: numbers and reasons from it, all else from here.

    Verdicts follow from the numbers anew.
    """
    results = []
    for item in json.loads(text)["claims"]:
        numbers = tuple(_number(entry) for entry in item["numbers"])
        made = CLAIMS[item["id"]]
        results.append(Result(made, numbers, verdict(numbers), item["reason"]))
    return results


def _number(entry: dict[str, Any]) -> Number:
    need = entry["requirement"]
    if need is not None:
        need = Requirement(need["relation"], need["bound"], need["scope"])
    return Number(entry["name"], entry["value"], entry["error"], need)
