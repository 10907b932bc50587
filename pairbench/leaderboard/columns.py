"""The columns of a board: what each is called, what it means, and where a row keeps it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pairbench.evaluation import Measure
from pairbench.leaderboard.build import Board
from pairbench.leaderboard.pairs import Strength
from pairbench.leaderboard.rows import Rate, Reward, Row, with_role

Interval = Reward | Rate | Strength
Value = Interval | float | int | str | None


@dataclass(frozen=True)
class Column:
    """A column, in `COLUMNS` as declared for any board, from `columns` as spelled out for one.

    Attributes:
        key, title, meaning: as declared with a board's words in braces, see `_words`; those of
            `each` in turn have `{name}` and their own.
        place: where a row keeps it, such as "stability.kl_std", `*` being the name in turn; or what
            finds it.
        brief: whether it is in the terminal's table.
        better: +1 or -1 where more or less of it is better.
        group: what it is shown with; None is shown always.
        each: there is such a column for each of these that the board has: other ways of scoring,
            measures, or levels of the distance to the untrained policy.
        name: the one of them that it is of.
    """

    key: str
    title: str
    meaning: str
    place: str | Callable[[Row], Value]
    brief: bool = False
    better: int = 0
    group: str | None = "measures"
    each: Literal["ways", "measures", "levels"] | None = None
    name: str = ""

    def get(self, row: Row) -> Value:
        """Returns what a row has in it."""
        if callable(self.place):
            return self.place(row)
        value: Any = row
        for step in self.place.split("."):
            part = self.name if step == "*" else step
            value = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
        return value  # type: ignore[no-any-return]


def _reproduced(row: Row) -> str | None:
    found = row.reproduced
    if found is None:
        return None
    how = "bit for bit" if found.verdict == "equal" else found.verdict
    return f"{found.runs} of {row.n_seeds}, {how}, {found.date[:10]}"


def _determinism(row: Row) -> str | None:
    if row.reproduced is not None:
        return {"equal": "yes, checked", "close": "close, checked", "different": "NO, checked"}[
            row.reproduced.verdict
        ]
    if not row.environments:
        return None
    on_cpu = all(", cpu," in text for text in row.environments)
    return "not checked" if on_cpu else "not promised"


def _environment(row: Row) -> str | None:
    if len(row.environments) > 1:
        return f"{len(row.environments)} different"
    return row.environments[0] if row.environments else None


COLUMNS = (
    Column("rank", "rank",
        "One more than the number of rows {above}, and never better than the rank of a row with a "
        "higher reward. No rank with one seed, or where a seed failed.",
        "rank", True, group=None),
    Column("row", "row", "The suite's name for an algorithm with its settings.",
        "row", True, group=None),
    Column("n_seeds", "seeds", "Finished runs; each number is over these.",
        "n_seeds", True, group=None),
    Column("reward", "{reward}",
        "Mean {score} on {contexts} at the end of the budget{acting}, then the interquartile mean "
        "over seeds with a 95% bootstrap interval over seeds, widened for few seeds.",
        "reward", True, 1, None),
    Column("behind", "less the first",
        "The difference to the first trained row over the same seeds, with a 95% interval. A seed "
        "draws a problem of its own, which all rows share: so rows are compared within seeds.",
        "behind", True, 1, None),
    Column("reward_{name}", "{other}{name}", "The same {of} the {name}{policy}. It does not rank.",
        "other_rewards.*", True, 1, each="ways"),
    Column("win_rate", "beats {baseline}",
        "Share of held-out contexts on which the row scores above {baseline} at the same seed, "
        "ties one half: per seed, then the mean over seeds with a 95% interval.",
        "win_rate", True, 1),
    Column("head_to_head", "head to head",
        "The same against each other trained row, averaged over those rows. The chance level is "
        "50%.",
        "head_to_head", True, 1),
    Column("strength", "strength",
        "Bradley-Terry strength from the held-out contexts won against each other trained row at "
        "the same seeds, ties one half, one drawn context added to each pair: the log-odds of "
        "winning one against a row of strength 0, with a 95% interval over seeds.",
        "strength", False, 1, "spread"),
    Column("median", "median", "Median of the reward over seeds.", "median", False, 1, "spread"),
    Column("seed_sd", "SD", "Standard deviation of the reward over seeds.",
        "seed_sd", True, -1, "spread"),
    Column("gradient_noise", "gradient noise",
        "tr Cov(g) / |E g|^2 of one iteration's gradient, interquartile mean over seeds: free of "
        "the loss's scale.",
        "stability.gradient_noise", False, -1, "stability"),
    Column("kl_std", "KL SD",
        "Standard deviation over iterations of KL(new || old), nats per step, interquartile mean "
        "over seeds.",
        "stability.kl_std", False, -1, "stability"),
    Column("drawdown", "drawdown",
        "Largest fall of a learning curve below its running maximum, the worst seed's.",
        "stability.drawdown", True, -1, "stability"),
    Column("dispersion_time", "jitter",
        "Interquartile range of a run's changes between evaluations, interquartile mean over "
        "seeds: dispersion across time (Chan et al. 2020).",
        "reliability.dispersion_time", False, -1, "stability"),
    Column("risk_time", "worst change",
        "A run's worst change between evaluations, interquartile mean over seeds: short-term risk "
        "across time (Chan et al. 2020).",
        "reliability.risk_time", False, 1, "stability"),
    Column("dispersion_runs", "IQR of runs",
        "Interquartile range of the reward over seeds, mean over the evaluations: dispersion "
        "across runs (Chan et al. 2020).",
        "reliability.dispersion_runs", False, -1, "spread"),
    Column("risk_runs", "worst runs",
        "Mean reward of the worst 5% of the runs, at least the worst one: risk across runs (Chan "
        "et al. 2020).",
        "reliability.risk_runs", False, 1, "spread"),
    Column("{name}", "{title}",
        "{described} of the final policy, interquartile mean over seeds with its 95% interval.",
        "measures.*", each="measures"),
    Column("reward_at_{name}", "{reward} at {distance} {name}",
        "The score that ranks when the {distance_meaning} first passed {name}{distance_unit}, "
        "interpolated between evaluations; only where every seed got there.",
        "at_kl.*.reward", False, 1, each="levels"),
    Column("win_rate_at_{name}", "{wins} at {distance} {name}",
        "{wins_meaning} when the {distance_meaning} first passed {name}{distance_unit}, "
        "interpolated between evaluations; only where every seed got there.",
        "at_kl.*.win_rate", False, 1, each="levels"),
    Column("steps", "{unit}", "Cost of a run in {unit}, mean over seeds.",
        "cost.steps", False, -1, "cost"),
    Column("labels", "labels", "Answers of the oracle a run used, mean over seeds.",
        "cost.labels", False, -1, "cost"),
    Column("gradient_steps", "updates", "Gradient steps of a run, mean over seeds.",
        "cost.gradient_steps", False, -1, "cost"),
    Column("gradient_steps_per_iteration", "updates / iteration",
        "Gradient steps per batch of fresh data.",
        "cost.gradient_steps_per_iteration", True, group="cost"),
    Column("seconds", "seconds", "Wall time of a run, mean over seeds, on the machines below.",
        "cost.seconds", True, -1, "cost"),
    Column("reproduced", "reproduced",
        "Runs rebuilt from their records by `pairbench reproduce`, of all finished ones, with how "
        "the last came back and when.",
        _reproduced, group="origin"),
    Column("determinism", "same bits",
        "Whether a run comes back bit for bit on one machine with the same versions and thread "
        "count, as it should on a processor; on other machines, and on accelerators, numbers agree "
        "within a tolerance only. Checked by `pairbench reproduce`.",
        _determinism, group="origin"),
    Column("date", "date", "Day of the row's last run, UTC.", "date", group="origin"),
    Column("environment", "environment",
        "Processor, device, threads of a run and version of torch; all of it is under each run.",
        _environment, group="origin"),
    Column("algorithm", "algorithm", "The registered algorithm.", "algorithm", group="origin"),
    Column("regime", "data", "What the algorithm learns from.", "regime", group="origin"),
    Column("trials", "trials",
        "Settings that `pairbench tune` tried, on seeds and contexts that no board reports, before "
        "it chose the row's; without a number they were set by hand.",
        "tuning.trials", True),
    Column("configuration", "settings",
        "First digits of the SHA-256 of the algorithm and its resolved settings.",
        lambda row: row.configuration[:8], group="origin"),
)  # fmt: skip
"""All columns, in order."""

WORDED = ("key", "title", "meaning")

ALWAYS = ("rank", "row", "n_seeds", "reward")
"""Columns that a board has even where no row fills them."""


def columns(board: Board) -> list[Column]:
    """Returns the columns of a board, in order, without those that no row fills."""
    words = _words(board)
    every = [column for declared in COLUMNS for column in _spelled(declared, board, words)]
    return [c for c in every if c.key in ALWAYS or any(c.get(r) is not None for r in board.rows)]


def _spelled(declared: Column, board: Board, words: Mapping[str, str]) -> Iterator[Column]:
    names = [""]
    if declared.each == "ways":
        names = board.other_scores
    elif declared.each == "measures":
        names = sorted({name for row in board.rows for name in row.measures})
    elif declared.each == "levels":
        names = [f"{x:g}" for x in sorted({float(x) for row in board.rows for x in row.at_kl})]
    if declared.key == "strength":
        strengths = {strength.row: strength for strength in board.strengths}
        declared = replace(declared, place=lambda row: strengths.get(row.row))
    for name in names:
        own = {**words, "name": name}
        better = declared.better
        if declared.each == "measures":
            plain = Measure(name=name, title=name.replace("_", " "), meaning=f"The measure {name}")
            measure = board.measures.get(name, plain)
            own |= {"title": measure.title, "described": measure.described}
            better = measure.better
        told = {part: getattr(declared, part).format_map(own) for part in WORDED}
        yield replace(declared, **told, better=better, name=name)


def _words(board: Board) -> dict[str, str]:
    """What the declarations have in braces."""
    by_policy = board.scores_of == "policy"
    distance, wins = (with_role(board.measures, role) for role in ("distance", "win rate"))
    paired = any(row.behind for row in board.rows)
    return {
        "above": "whose paired difference to it lies above 0 with its whole interval"
        if paired
        else "whose whole interval lies above this row's",
        "reward": "reward" if by_policy else board.scored,
        "score": "score" if by_policy else board.scored,
        "acting": f" ({board.scored} policy)" if by_policy else "",
        "contexts": f"{board.n_contexts or ''} held-out contexts".strip(),
        "other": "reward, " if by_policy else "",
        "of": "with" if by_policy else "of",
        "policy": " policy" if by_policy else "",
        "baseline": board.baseline or "reference",
        "unit": board.step_unit,
        "distance": distance.title if distance else "",
        "distance_meaning": distance.meaning if distance else "",
        "distance_unit": f" {distance.unit}" if distance and distance.unit else "",
        "wins": wins.title if wins else "",
        "wins_meaning": wins.meaning if wins else "",
    }
