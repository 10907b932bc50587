"""Every number in the README's tables is what the committed results give.

`python -m tests.test_readme` prints the tables anew.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pairbench.experiments.suite import load_suite
from pairbench.leaderboard import Board, build, compare
from pairbench.leaderboard.text import cell
from pairbench.results.load import load_records

ROOT = Path(__file__).resolve().parents[2]
TASK = "halfcheetah-v4"
PAIRS = (
    ("grpo", "ppo"),
    ("soft-pair-grpo", "grpo"),
    ("hard-pair-grpo", "soft-pair-grpo"),
    ("hard-pair-grpo", "grpo"),
    ("online-dpo", "grpo"),
    ("hard-pair-grpo", "hard-pair-grpo-no-trust-region"),
    ("grpo+trust-region", "grpo"),
    ("soft-pair-grpo+trust-region", "soft-pair-grpo"),
    ("hard-pair-grpo", "grpo+trust-region"),
    ("hard-pair-grpo", "soft-pair-grpo+trust-region"),
    ("hard-pair-grpo", "hard-pair-grpo-paper-schedule"),
    ("ppo", "sb3-ppo"),
    ("soft-pair-grpo", "ppo"),
    ("hard-pair-grpo", "ppo"),
    ("ppo", "ppo+std-floor"),
    ("soft-pair-grpo", "soft-pair-grpo+std-floor"),
    ("grpo-no-std-floor", "grpo"),
    ("hard-pair-grpo-no-std-floor", "hard-pair-grpo"),
)
"""The comparisons the README speaks of, (a, b): differences are a minus b."""

LANGUAGE = (
    "hh-rlhf-helpful",
    "hh-rlhf-harmless",
    "ultrafeedback",
    "hh-rlhf-helpful@smollm2-135m",
)
"""The language tasks whose boards the README shows."""


def board() -> Board:
    """Returns the committed 1M-step board of the critic-scored task."""
    return build(load_records(ROOT / "results").records, TASK)[0]


def board_table() -> list[str]:
    """Returns the README's short version of the board, as Markdown lines."""
    lines = [
        "| rank | row | seeds | reward, IQM [95%] | mean policy | beats reference | head to head |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in board().rows:
        if row.reward is None:
            lines.append(f"| {row.status} | {row.row} | {row.n_seeds} | {row.reason} | | | |")
            continue
        mean = row.other_rewards["mean"]
        beats = "" if row.win_rate is None else f"{row.win_rate.estimate:.0%}"
        head = "" if row.head_to_head is None else f"{row.head_to_head.estimate:.0%}"
        reward = f"{row.reward.iqm:.0f}"
        if row.reward.low is not None:
            reward += f" [{row.reward.low:.0f}, {row.reward.high:.0f}]"
        lines.append(
            f"| {row.rank or '-'} | {row.row} | {row.n_seeds} | {reward} "
            f"| {mean.iqm:.0f} | {beats} | {head} |"
        )
    return lines


def comparison_table() -> list[str]:
    """Returns the README's paired comparisons, as Markdown lines."""
    records = load_records(ROOT / "results").records
    lines = [
        "| a | b | a - b, mean [95%] | P(a run of a beats one of b) | seeds | sign-flip p |",
        "|---|---|---|---|---|---|",
    ]
    for a, b in PAIRS:
        found = compare(records, a, b, TASK)
        gap, chance = found.difference, found.probability_of_improvement
        lines.append(
            f"| {a} | {b} | {gap.estimate:+.0f} [{gap.low:+.0f}, {gap.high:+.0f}] "
            f"| {chance.estimate:.2f} | {found.n_seeds} | {found.p_value:.3f} |"
        )
    return lines


def language_table(task: str) -> list[str]:
    """Returns a language board's rows that are of a suite's own, as Markdown lines."""
    (found,) = (
        board
        for board in build(load_records(ROOT / "results").records, task)
        if "model" in board.task_config
    )
    lines = [
        f"| {task}: rank | row | seeds | {found.scored}, IQM [95%] | beats SFT | gold at KL 1 "
        "| KL, nats | variety / SFT |",
        "|---|---|---|---|---|---|---|---|",
    ]
    suite = "language-smollm2" if "@" in task else "language"
    shown = {row.name for row in load_suite(suite).rows}
    for row in found.rows:
        if row.row not in shown:
            continue
        if row.reward is None:
            lines.append(f"| {row.status} | {row.row} | {row.n_seeds} | {row.reason} | | | | |")
            continue
        gold = row.at_kl["1"].reward.iqm if "1" in row.at_kl else None
        if found.scored != "gold judge":
            gold = None
        lines.append(
            f"| {row.rank or '-'} | {row.row} | {row.n_seeds} | {cell(row.reward)} "
            f"| {row.measures['beats_sft'].iqm:.0%} | {'' if gold is None else f'{gold:.2f}'} "
            f"| {row.measures['kl_ref'].iqm:.1f} | {row.measures['variety_of_sft'].iqm:.2f} |"
        )
    return lines


TABLES: tuple[Callable[[], list[str]], ...] = (
    board_table,
    comparison_table,
    *(partial(language_table, task) for task in LANGUAGE),
)


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_what_the_results_give(table: Callable[[], list[str]]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    lines = table()
    start = text.index(lines[0])
    assert text[start : start + len(lines)] == lines, "run python -m tests.test_readme"


def test_commands_and_links_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / link).exists(), link
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in re.findall(r"\.\[([a-z,]+)\]", text):
        assert set(extra.split(",")) <= set(extras["optional-dependencies"]), extra


if __name__ == "__main__":
    print("\n\n".join("\n".join(table()) for table in TABLES))
