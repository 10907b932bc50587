"""Numbers of the results, from the boards, reports and studies that are committed.

The boards in leaderboards/ are a function of results/, which a test of their own holds; so nothing
is computed here twice, and the pages are filled in a second.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from typing import Any

import pairbench
from docs.generator.pages import ROOT, Wrong, filler
from pairbench.authoring.checks import NAMES
from pairbench.experiments.tuning.study import Study, Trial, read_study
from pairbench.statistics import (
    holm,
    least_p_value,
    paired_iqm_difference,
    swap_p_value,
    told_apart,
)
from pairbench.text import number

Object = dict[str, Any]


@cache
def read(name: str) -> Object:
    """Returns a board, or the report of claims or replication, by its name in leaderboards/."""
    found: Object = json.loads((ROOT / "leaderboards" / f"{name}.json").read_text("utf-8"))
    return found


def row_of(board: str, name: str) -> Object:
    """Returns a row of a board by its name."""
    found = [row for row in read(board)["rows"] if row["row"] == name]
    if not found:
        raise Wrong(f"no row {name} on {board}")
    row: Object = found[0]
    return row


def signed(value: float) -> str:
    """Returns a number with its sign."""
    return f"{'+' if value > 0 else ''}{number(value)}"


def interval(value: Mapping[str, float], middle: str = "iqm") -> str:
    """Returns "estimate [low, high]", or the estimate alone where there is no interval."""
    if value.get("low") is None:
        return number(value[middle])
    return f"{number(value[middle])} [{number(value['low'])}, {number(value['high'])}]"


def percent(value: float) -> str:
    """Returns a share in per cent."""
    return f"{value:z.0%}"


def table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """Returns a Markdown table."""
    titles = list(head)
    rule = ["---"] * len(titles)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, rule, *map(list, lines)))


# Rows of a board


@filler
def reward(board: str, row: str) -> str:
    """Returns a row's reward with its interval."""
    return interval(row_of(board, row)["reward"])


@filler
def iqm(board: str, row: str) -> str:
    """Returns a row's reward alone."""
    return number(row_of(board, row)["reward"]["iqm"])


@filler
def measure(board: str, row: str, name: str) -> str:
    """Returns a measure of a row, as the KL to the untrained policy."""
    return number(row_of(board, row)["measures"][name]["iqm"])


@filler
def at_kl(board: str, row: str, value: str = "1") -> str:
    """Returns the score where a row's runs first passed a KL to the untrained policy."""
    return number(row_of(board, row)["at_kl"][value]["reward"]["iqm"])


@filler
def span(board: str, quantity: str, *names: str) -> str:
    """Returns "least to largest" of a quantity over rows: `iqm`, `at-kl` or a measure's name.

    A name may be a pattern, as *+tuned; without names it is over the board's trained rows.
    """
    found = []
    for row in read(board)["rows"]:
        if row["floor"] or not any(fnmatchcase(row["row"], name) for name in names or ["*"]):
            continue
        if quantity == "iqm":
            found.append(row["reward"]["iqm"])
        elif quantity == "at-kl":
            found.append(row["at_kl"]["1"]["reward"]["iqm"])
        else:
            found.append(row["measures"][quantity]["iqm"])
    return f"{number(min(found))} to {number(max(found))}"


@filler
def level_with(board: str, row: str) -> str:
    """Returns how many other rows share a row's rank."""
    found = row_of(board, row)["rank"]
    return str(sum(other["rank"] == found for other in read(board)["rows"]) - 1)


@filler
def rank(board: str, row: str) -> str:
    """Returns a row's rank; a row without one is refused."""
    found = row_of(board, row)["rank"]
    if found is None:
        raise Wrong(f"{row} has no rank")
    return str(found)


@filler
def seeds(board: str, row: str) -> str:
    """Returns how many seeds a row has."""
    return str(row_of(board, row)["n_seeds"])


@filler
def unranked(board: str, row: str) -> str:
    """Returns the variety of a row that has no rank because it repeats itself."""
    found = row_of(board, row)
    if found["rank"] is not None or "repeats itself" not in (found["reason"] or ""):
        raise Wrong(f"{row} has a rank, or none for another reason")
    return number(found["measures"]["variety_of_sft"]["iqm"])


@filler
def no_gain(board: str, row: str) -> str:
    """Returns the gain and its error of a row that does not beat the untrained policy clearly."""
    reason = row_of(board, row)["reason"] or ""
    if "does not beat" not in reason:
        raise Wrong(f"{row} does beat the untrained policy")
    return reason.rpartition(": ")[2]


@filler
def sharing_first(board: str) -> str:
    """Returns how many rows have rank 1."""
    return str(sum(row["rank"] == 1 for row in read(board)["rows"]))


@filler
def leader(board: str) -> str:
    """Returns the row with the highest reward of those that have a rank."""
    return next(f"`{row['row']}`" for row in read(board)["rows"] if row["rank"] == 1)


@filler
def contexts(board: str) -> str:
    """Returns how many held-out contexts a board's scores are of."""
    return str(read(board)["n_contexts"])


@filler
def runs_of_suite(board: str, suite: str) -> str:
    """Returns how many runs a suite asks for."""
    from pairbench.experiments.suite import plan

    return str(len(plan(suite).specs))


@filler
def rows(board: str) -> str:
    """Returns how many rows a board has."""
    return str(len(read(board)["rows"]))


@filler
def accuracy(board: str, judge: str, line: str = "accuracy") -> str:
    """Returns a line of a judge's card."""
    return str(read(board)["judges"][judge][line])


# Two rows over the seeds they share


@cache
def difference(board: str, a: str, b: str) -> Object:
    """Returns a's interquartile mean less b's over shared seeds, as `pairbench compare` does."""
    mine, theirs = row_of(board, a)["rewards"], row_of(board, b)["rewards"]
    shared = sorted((seed for seed in mine if seed in theirs), key=int)
    if not shared:
        raise Wrong(f"{a} and {b} share no seed on {board}")
    x, y = ([own[seed] for seed in shared] for own in (mine, theirs))
    gap = paired_iqm_difference(x, y)
    p_value = swap_p_value(x, y)
    found = {"estimate": gap.estimate, "low": gap.low, "high": gap.high}
    return found | {"p_value": p_value, "seeds": len(shared)}


def gap_text(gap: Mapping[str, float]) -> str:
    """Returns "+estimate [low, high]"."""
    return f"{signed(gap['estimate'])} [{signed(gap['low'])}, {signed(gap['high'])}]"


def decides(gap: Mapping[str, float]) -> bool:
    """Returns whether a gap tells two rows apart, or of under six seeds hints that it would."""
    p_value = gap["p_value"] if least_p_value(int(gap["seeds"])) <= 0.05 else 0.0
    return told_apart(gap["low"], gap["high"], p_value)


@filler
def undecided(board: str, a: str, b: str) -> str:
    """Returns a less b, in a sentence that says that the two are not told apart."""
    gap = difference(board, a, b)
    if decides(gap):
        raise Wrong(f"the rule decides between {a} and {b}: {gap_text(gap)}")
    return gap_text(gap)


@filler
def above(board: str, a: str, b: str) -> str:
    """Returns by how much a is above b, in a sentence that says that it is."""
    gap = difference(board, a, b)
    if gap["low"] <= 0 or not decides(gap):
        raise Wrong(f"{a} is not above {b}: {gap_text(gap)}")
    return interval(gap, "estimate")


@filler
def below(board: str, a: str, b: str) -> str:
    """Returns by how much a is below b, in a sentence that says that it is."""
    gap = difference(board, a, b)
    if gap["high"] >= 0 or not decides(gap):
        raise Wrong(f"{a} is not below {b}: {gap_text(gap)}")
    turned = {"estimate": -gap["estimate"], "low": -gap["high"], "high": -gap["low"]}
    return interval(turned, "estimate")


@filler
def p_value(board: str, a: str, b: str) -> str:
    """Returns the swap test's p-value of two rows, uncorrected."""
    return f"{difference(board, a, b)['p_value']:.3f}"


def improvement(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    """Returns the share of pairs of runs, one of each row, in which a's is the better."""
    won = [(x > y) + (x == y) / 2 for x in a.values() for y in b.values()]
    return sum(won) / len(won)


@filler
def pair_table(board: str, *pairs: str) -> str:
    """Returns paired differences of "a:b" arguments, as a table."""
    lines = []
    named = [names.split(":") for names in pairs]
    corrected = holm([difference(board, a, b)["p_value"] for a, b in named]).tolist()
    for (a, b), p_holm in zip(named, corrected, strict=True):
        gap = difference(board, a, b)
        mine, theirs = row_of(board, a)["rewards"], row_of(board, b)["rewards"]
        shared = [seed for seed in mine if seed in theirs]
        chance = improvement({s: mine[s] for s in shared}, {s: theirs[s] for s in shared})
        lines.append(
            [a, b, gap_text(gap), f"{chance:.2f}", str(gap["seeds"])]
            + [f"{p:.3f}" for p in (gap["p_value"], p_holm)]
        )
    head = ["a", "b", "a - b, IQM [95%]", "P(a run of a beats one of b)", "seeds", "swap p"]
    return table([*head, "p, Holm over this table"], lines)


# Boards as tables


def standing(row: Object) -> list[str]:
    """Returns a row's rank, name, seeds and reward."""
    return [str(row["rank"] or "-"), row["row"], str(row["n_seeds"]), interval(row["reward"])]


@filler
def control_board(board: str) -> str:
    """Returns a board of a control task in short."""
    lines = []
    for row in read(board)["rows"]:
        if row["reward"] is None:
            lines.append([row["status"], row["row"], "0", row["reason"], "", "", ""])
            continue
        shares = [row[name] and percent(row[name]["estimate"]) for name in SHARES]
        mean = number(row["other_rewards"]["mean"]["iqm"])
        lines.append([*standing(row), mean, *(share or "" for share in shares)])
    head = ["rank", "row", "seeds", "reward, IQM [95%]", "mean policy"]
    return table([*head, "beats reference", "head to head"], lines)


SHARES = ("win_rate", "head_to_head")


@filler
def plain_board(board: str) -> str:
    """Returns a board's ranks and rewards."""
    lines = [standing(row) for row in read(board)["rows"] if row["reward"] is not None]
    return table(["rank", "row", "seeds", "reward, IQM [95%]"], lines)


@filler
def language_board(board: str, suite: str = "") -> str:
    """Returns a board of a language task in short: rows of a suite, or all."""
    from pairbench.experiments.suite import load_suite

    found = read(board)
    shown = {row.name for row in load_suite(suite).rows} if suite else set()
    gold = found["scored"] == "gold judge"
    lines = []
    for row in found["rows"]:
        if shown and row["row"] not in shown:
            continue
        moved = row["at_kl"]["1"]["reward"]["iqm"] if "1" in row.get("at_kl", {}) else None
        measured = {name: value["iqm"] for name, value in row["measures"].items()}
        shares = [percent(measured["beats_sft"]), number(moved) if gold and moved else ""]
        rest = [f"{measured['kl_ref']:z.1f}", f"{measured['variety_of_sft']:z.2f}"]
        lines.append([*standing(row), *shares, *rest])
    head = ["rank", "row", "seeds", f"{found['scored']}, IQM [95%]", "beats SFT", "gold at KL 1"]
    return table([*head, "KL, nats", "variety / SFT"], lines)


@filler
def card(board: str, judge: str) -> str:
    """Returns a judge's card as a table."""
    hidden = {"head_sha256"}
    lines = [
        [key, number(value) if isinstance(value, float) else str(value)]
        for key, value in read(board)["judges"][judge].items()
        if key not in hidden
    ]
    return table([judge, ""], lines)


# The paper's tables, and claims


@filler
def verdicts(board: str, verdict: str, table_id: str = "") -> str:
    """Returns how many of the paper's ordered pairs agree, are undecided or contradict."""
    found = read("replication")
    if not table_id:
        return str(found["counts"][verdict])
    (one,) = (t for t in found["tables"] if t["table"]["id"] == table_id)
    return str(sum(pair["verdict"] == verdict for pair in one["pairs"]))


@filler
def pairs_of_the_paper(board: str) -> str:
    """Returns how many pairs the paper orders."""
    return str(sum(read("replication")["counts"].values()))


@filler
def replication_table(board: str) -> str:
    """Returns the verdicts on each of the paper's tables, and Kendall's tau."""
    lines = []
    for one in read("replication")["tables"]:
        found = [pair["verdict"] for pair in one["pairs"]]
        counts = [str(found.count(name)) for name in ("agrees", "undecided", "contradicts")]
        tau = one.get("correlation")
        shown = "" if tau is None else gap_text(tau["tau"])
        lines.append([one["table"]["title"], one["table"]["task"], *counts, shown])
    head = ["the paper's table", "our task", "agree", "undecided", "contradict"]
    return table([*head, "Kendall's tau [95%]"], lines)


@filler
def sweep_table(board: str, sweep: str) -> str:
    """Returns what methods keep of their gain under noise."""
    (one,) = (s for s in read("replication")["sweeps"] if s["sweep"]["id"] == sweep)
    levels = list(one["curves"][0]["kept"])
    lines = []
    for curve in one["curves"]:
        kept = [percent(curve["kept"][level]["estimate"]) for level in levels]
        loss = [percent(curve["loss"][key]) for key in ("estimate", "low", "high")]
        lost = f"{loss[0]} [{loss[1]}, {loss[2]}]"
        lines.append([curve["row"], interval(curve["gain"], "estimate"), *kept, lost])
    head = ["row", "gain without noise", *(f"kept at {level}" for level in levels)]
    return table([*head, "lost per unit of noise"], lines)


@filler
def loses(board: str, sweep: str, row: str, than: str, verdict: str) -> str:
    """Returns how much less of its gain a row loses than another, in a sentence that says so."""
    (one,) = (s for s in read("replication")["sweeps"] if s["sweep"]["id"] == sweep)
    (pair,) = (p for p in one["pairs"] if (p["row"], p["than"]) == (row, than))
    if pair["verdict"] != verdict:
        raise Wrong(f"{row} against {than}: {pair['verdict']}, not {verdict}")
    return gap_text(pair["difference"])


@filler
def loss(board: str, sweep: str, row: str) -> str:
    """Returns the share of its gain that a row loses per unit of noise."""
    (one,) = (s for s in read("replication")["sweeps"] if s["sweep"]["id"] == sweep)
    return next(percent(c["loss"]["estimate"]) for c in one["curves"] if c["row"] == row)


@filler
def claims(board: str, verdict: str = "") -> str:
    """Returns how many claims there are, or how many of one verdict."""
    found = read("claims")["claims"]
    return str(sum(verdict in ("", claim["verdict"]) for claim in found))


@filler
def claims_table(board: str, *wanted: str) -> str:
    """Returns the claims of some verdicts, with our reasons where they do not simply hold."""
    found = [claim for claim in read("claims")["claims"] if claim["verdict"] in wanted]
    lines = [[f"`{c['id']}`", cell(c["statement"]), cell(c["reason"] or "")] for c in found]
    return table(["claim", "what is asserted", "what we find"], lines)


def cell(text: str) -> str:
    """Returns text that a table's cell can hold."""
    return " ".join(text.split()).replace("|", "\\|")


# Tuning


@cache
def study_of(task: str) -> Study:
    """Returns the committed study of a task."""
    return read_study(ROOT / "results" / "tuning" / task / "study.json")


@filler
def trials(board: str, task: str) -> str:
    """Returns how many trials each row of a study had."""
    (count,) = {len(search.trials) for search in study_of(task).rows.values()}
    return str(count)


@filler
def tuning_table(board: str, task: str) -> str:
    """Returns what a study found, and what it changed on the board."""
    lines = []
    for name, search in study_of(task).rows.items():
        best = search.best
        if best is None:
            raise Wrong(f"no trial of {name} came to an end")
        at = search.trials.index(best)
        settings = ", ".join(f"`{key}` {value}" for key, value in best.settings.items())
        gap = difference(board, f"{name}+tuned", name)
        found = [validation(search.trials[0]), f"{validation(best)} (no. {at})", settings]
        ends = [reward(board, name), reward(board, f"{name}+tuned"), gap_text(gap)]
        lines.append([name, *found, *ends])
    head = ["row", "preset, tuning seeds", "best, tuning seeds", "its settings", "preset, board"]
    return table([*head, "tuned, board", "tuned - preset, paired [95%]"], lines)


def validation(trial: Trial) -> str:
    """Returns a trial's value, with its standard error where there is one."""
    if trial.value is None:
        raise Wrong("a trial that failed has no value")
    return number(trial.value) + ("" if trial.error is None else f" ± {number(trial.error)}")


# The README's own


GLANCE = {
    "halfcheetah-v4--1M-steps": "halfcheetah",
    "hh-rlhf-helpful--40-updates": "hh-helpful",
    "hh-rlhf-harmless--40-updates": "hh-harmless",
    "ultrafeedback--40-updates": "ultrafeedback-wins",
    "hh-rlhf-helpful@smollm2-135m--20-updates": None,
}
"""Boards of the README's table, and the paper's table that each stands beside, if any."""


@filler
def glance(board: str) -> str:
    """Returns a line a task: who leads, and whether the paper's order is confirmed."""
    lines = []
    for name, beside in GLANCE.items():
        found = read(name)
        first = [row for row in found["rows"] if row["rank"] == 1]
        best = "a demonstration, without ranks"
        if first:
            level = len(first) - 1
            best = f"`{first[0]['row']}` {number(first[0]['reward']['iqm'])}, level with {level}"
        told = "not in the paper"
        if beside is not None:
            counts = {v: int(verdicts(name, v, beside)) for v in VERDICTS}
            agree, _, against = counts.values()
            told = "yes" if agree == sum(counts.values()) else "no"
            told += f": of {sum(counts.values())} pairs {agree} agree, {against} contradict"
        lines.append([found["title"], str(len(found["rows"])), best, told])
    head = ["task, budget", "rows", "highest reward, and rows level with it"]
    return table([*head, "is the paper's order confirmed?"], lines)


@filler
def conclusion(board: str, a: str, b: str, task: str) -> str:
    """Returns the first line that `pairbench compare` prints, as a block of text."""
    found = pairbench.compare(pairbench.load_records(ROOT / "results", task).records, a, b, task)
    return f"```text\n{found.conclusion}\n```"


@filler
def checks(board: str) -> str:
    """Returns what `pairbench check` says last of a method that passes, as a block of text."""
    return f"```text\n{len(NAMES)} passed, 0 failed, 0 skipped\n```"


@filler
def bound(board: str, name: str, form: str = "") -> str:
    """Returns what a performance test requires, as a number or in per cent."""
    value: float = import_module("tests.performance.bounds").BOUNDS[name]
    return percent(value) if form else f"{value:g}"


VERDICTS = ("agrees", "undecided", "contradicts")
