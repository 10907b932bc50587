"""Tables of what the benchmarks measured, from the JSON beside them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from docs.generator.numbers import table
from docs.generator.pages import ROOT, filler

SEEDS = (5, 10)
RULES = ("swap", "interval", "both")


@cache
def measured(name: str) -> Any:
    """Returns what a benchmark wrote."""
    return json.loads((ROOT / "benchmarks" / f"{name}.json").read_text("utf-8"))


def share(value: float) -> str:
    """Returns a coverage as ".953"."""
    return f"{value:.3f}".removeprefix("0")


@filler
def coverage_of_rows(board: str) -> str:
    """Returns what the intervals of a single row cover, by population."""
    found = measured("coverage")["single"]
    names = list(dict.fromkeys(line["population"] for line in found))
    by = {(line["population"], line["seeds"]): line for line in found}
    heads = [f"{what}, n = {n}" for what in ("interquartile mean", "mean") for n in SEEDS]
    return table(
        ["population", *heads],
        [
            [name, *(share(by[name, n][what]) for what in ("iqm", "mean") for n in SEEDS)]
            for name in names
        ],
    )


@filler
def coverage_of_pairs(board: str) -> str:
    """Returns the least, median and largest coverage over all ordered pairs, and two of them."""
    pairs = measured("coverage")["pairs"]
    lines = []
    for what, said in (
        ("iqm difference", "difference of interquartile means"),
        ("improvement", "probability of improvement"),
        ("improvement where .96", "the same, a shifted so that it is .96"),
        ("mean difference", "mean difference"),
    ):
        for seeds in SEEDS:
            own = {(p["a"], p["b"]): p[what] for p in pairs if p["seeds"] == seeds}
            order = sorted(own.values())
            least = min(own, key=lambda pair: own[pair])
            picked = [order[0], order[len(order) // 2], order[-1]]
            picked += [own["collapse", "normal"], own["lognormal 1", "normal"]]
            worst = f"{least[0]} and {least[1]}"
            lines.append([said, str(seeds), *map(share, picked), worst])
    heads = ["interval", "n", "least", "median", "most", "collapse and normal"]
    return table([*heads, "lognormal 1 and normal", "least is of"], lines)


@filler
def false_calls(board: str) -> str:
    """Returns how often two rows of one interquartile mean are told apart, by what is asked."""
    lines = []
    for alike in (True, False):
        for seeds in (6, 8, 10):
            pairs = [
                pair
                for pair in measured("coverage")["tests"]
                if pair["seeds"] == seeds and (pair["a"] == pair["b"]) is alike
            ]
            most = max(pairs, key=lambda pair: pair["both"])
            worst = most["a"] if alike else f"{most['a']} and {most['b']}"
            found = [share(max(pair[name] for pair in pairs)) for name in RULES]
            lines.append(["alike" if alike else "unlike", str(seeds), *found, worst])
    heads = ["shapes", "n", "swap test alone, most", "interval alone, most", "both, most"]
    return table([*heads, "both, most is of"], lines)


def stopped(found: dict[str, float]) -> tuple[str, str]:
    """Returns how often looks called rows different, and the seeds it took."""
    return share(found["called different"]), f"{found['seeds']:g}"


@filler
def stopping(board: str) -> str:
    """Returns how often looks after every seed call rows different, equal ones and others."""
    found = measured("stopping")
    lines = [
        [f"equal, {name}", *stopped(own), share(own["at 5% a look"])]
        for name, own in found["null"].items()
    ]
    lines += [
        [f"one interquartile mean, {name}", *stopped(own), share(own["at 5% a look"])]
        for name, own in found["unlike"].items()
    ]
    lines += [
        [f"{size} deviations apart, normal", *stopped(own), ""]
        for size, own in found["effect"].items()
    ]
    return table(["rows", "called different", "seeds taken, mean", "by looks at 5%"], lines)


@filler
def planned_seeds(board: str) -> str:
    """Returns how often as many seeds as `power` asks for found the difference."""
    return table(
        ["rows", "difference, in deviations", "seeds asked for", "told apart"],
        [
            [line["rows"], f"{line['effect']:g}", str(line["seeds"]), share(line["found"])]
            for line in measured("stopping")["plan"]
        ],
    )


SOAKED = {
    "faults": "faults, of which", "drivers killed": "- drivers killed",
    "workers killed": "- workers killed", "full disks": "- disks filled",
    "hostile files": "hostile files", "files deleted": "files deleted", "calls": "calls",
    "calls that ended early": "calls that ended before the grid had",
    "grids completed": "times that the grid was complete, and half of it was deleted",
    "records compared": "records compared with the undisturbed grid's on the way",
    "files named and left out": "files that were named and left out in the end",
    "runs": "runs of the grid", "records equal": "runs whose record is right in the end",
}  # fmt: skip
"""What the soak counts, in words."""


@filler
def soak(board: str) -> str:
    """Returns what the soak did and what was left."""
    found = measured("soak")
    lines = [["seed", str(found["seed"])], ["hours", f"{found['hours']:g}"]]
    return table(["what", "how many"], [*lines, *([SOAKED[k], f"{found[k]:,}"] for k in SOAKED)])
