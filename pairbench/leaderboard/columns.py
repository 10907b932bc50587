"""The columns of a board: what each is called, what it means, and where a row keeps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pairbench.leaderboard.build import Board, Strength
from pairbench.leaderboard.rows import GUARD, KL, WINS, Rate, Reward, Row

Interval = Reward | Rate | Strength
Value = Interval | float | int | str | None

MEASURES = {
    KL: ("KL to SFT", "KL to the untrained policy in nats per response"),
    WINS: ("beats SFT", "Win rate against the untrained policy's own responses"),
    GUARD: ("variety / SFT", "Share of different tokens in a response over the untrained policy's"),
    "variety": ("variety", "Share of different tokens in a response"),
    "distinct_1": ("distinct 1", "Different tokens over all tokens of all responses"),
    "distinct_2": ("distinct 2", "Different pairs of tokens over all pairs of all responses"),
    "refusals": ("refusals", "Share of responses that refuse in so many words"),
    "length": ("length", "Mean tokens of a response"),
}
"""Title and meaning of measures that tasks report, by name; others go by their names."""


@dataclass(frozen=True)
class Column:
    """A column of a board: how it is called, what it means, and where a row keeps it.

    `brief` columns are those of the terminal's table; `better` is +1 or -1 where more or less of
    it is better.
    """

    key: str
    title: str
    meaning: str
    get: Callable[[Row], Value]
    brief: bool = False
    better: int = 0


def _stability(name: str) -> Callable[[Row], float | None]:
    return lambda row: None if row.stability is None else getattr(row.stability, name)


def _reliability(name: str) -> Callable[[Row], float | None]:
    return lambda row: None if row.reliability is None else getattr(row.reliability, name)


def _cost(name: str) -> Callable[[Row], float | None]:
    return lambda row: None if row.cost is None else getattr(row.cost, name)


def _entry(field: str, name: str) -> Callable[[Row], Reward | None]:
    return lambda row: getattr(row, field).get(name)


def _at_kl(value: str, kind: str) -> Callable[[Row], Reward | None]:
    return lambda row: getattr(row.at_kl.get(value), kind, None)


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


def columns(board: Board) -> list[Column]:
    """Returns the columns of a board, in order, without those that no row fills."""
    by_policy = board.scores_of == "policy"
    contexts = f"{board.n_contexts} held-out contexts" if board.n_contexts else "held-out contexts"
    baseline = board.baseline or "reference"
    strengths = {strength.row: strength for strength in board.strengths}
    every = [
        Column(
            "rank",
            "rank",
            "One more than the number of rows whose whole interval lies above this row's, and "
            "never better than the rank of a row with a higher reward. No rank with one seed, or "
            "where a seed failed.",
            lambda r: r.rank,
            True,
        ),
        Column("row", "row", "The suite's name for an algorithm with its settings.",
               lambda r: r.row, True),
        Column("n_seeds", "seeds", "Finished runs; each number is over these.",
               lambda r: r.n_seeds, True),
        Column(
            "reward",
            "reward" if by_policy else board.scored,
            f"Mean {'score' if by_policy else board.scored} on {contexts} at the end of the budget"
            f"{f' ({board.scored} policy)' if by_policy else ''}, then the interquartile mean over "
            "seeds with a 95% bootstrap interval over seeds, widened for few seeds.",
            lambda r: r.reward, True, 1,
        ),
        *(
            Column(
                f"reward_{way}",
                f"reward, {way}" if by_policy else way,
                f"The same {'with' if by_policy else 'of'} the {way}"
                f"{' policy' if by_policy else ''}. It does not rank.",
                _entry("other_rewards", way), True, 1,
            )
            for way in board.other_scores
        ),
        Column(
            "win_rate",
            f"beats {baseline}",
            f"Share of held-out contexts on which the row scores above {baseline} at the same "
            "seed, ties one half: per seed, then the mean over seeds with a 95% interval.",
            lambda r: r.win_rate, True, 1,
        ),
        Column(
            "head_to_head",
            "head to head",
            "The same against each other trained row, averaged over those rows. The chance level "
            "is 50%.",
            lambda r: r.head_to_head, True, 1,
        ),
        Column(
            "strength",
            "strength",
            "Bradley-Terry strength from the held-out contexts won against each other trained row "
            "at the same seeds, ties one half, one drawn context added to each pair: the log-odds "
            "of winning one against a row of strength 0, with a 95% interval over seeds.",
            lambda r: strengths.get(r.row), False, 1,
        ),
        Column("median", "median", "Median of the reward over seeds.",
               lambda r: r.median, False, 1),
        Column("seed_sd", "SD", "Standard deviation of the reward over seeds.",
               lambda r: r.seed_sd, True, -1),
        Column(
            "gradient_noise",
            "gradient noise",
            "tr Cov(g) / |E g|^2 of one iteration's gradient, interquartile mean over seeds: free "
            "of the loss's scale.",
            _stability("gradient_noise"), False, -1,
        ),
        Column(
            "kl_std",
            "KL SD",
            "Standard deviation over iterations of KL(new || old), nats per step, interquartile "
            "mean over seeds.",
            _stability("kl_std"), False, -1,
        ),
        Column(
            "drawdown",
            "drawdown",
            "Largest fall of a learning curve below its running maximum, the worst seed's.",
            _stability("drawdown"), True, -1,
        ),
        Column(
            "dispersion_time",
            "jitter",
            "Interquartile range of a run's changes between evaluations, interquartile mean over "
            "seeds: dispersion across time (Chan et al. 2020).",
            _reliability("dispersion_time"), False, -1,
        ),
        Column(
            "risk_time",
            "worst change",
            "A run's worst change between evaluations, interquartile mean over seeds: short-term "
            "risk across time (Chan et al. 2020).",
            _reliability("risk_time"), False, 1,
        ),
        Column(
            "dispersion_runs",
            "IQR of runs",
            "Interquartile range of the reward over seeds, mean over the evaluations: dispersion "
            "across runs (Chan et al. 2020).",
            _reliability("dispersion_runs"), False, -1,
        ),
        Column(
            "risk_runs",
            "worst runs",
            "Mean reward of the worst 5% of the runs, at least the worst one: risk across runs "
            "(Chan et al. 2020).",
            _reliability("risk_runs"), False, 1,
        ),
        *(
            Column(
                name,
                MEASURES.get(name, (name.replace("_", " "), ""))[0],
                f"{MEASURES.get(name, ('', f'The measure {name}'))[1]} of the final policy, "
                "interquartile mean over seeds with its 95% interval.",
                _entry("measures", name),
            )
            for name in sorted({name for row in board.rows for name in row.measures})
        ),
        *(
            Column(
                f"{kind}_at_{value}",
                f"{title} at KL {value}",
                f"{meaning} when the KL to the untrained policy first passed {value} nats per "
                "response, interpolated between evaluations; only where every seed got there.",
                _at_kl(value, kind), False, 1,
            )
            for kind, title, meaning in (
                ("reward", "reward" if by_policy else board.scored, "The score that ranks"),
                ("win_rate", "beats SFT", "The win rate against the untrained policy"),
            )
            for value in sorted({v for row in board.rows for v in row.at_kl}, key=float)
        ),
        Column("steps", board.step_unit, f"Cost of a run in {board.step_unit}, mean over seeds.",
               _cost("steps"), False, -1),
        Column("labels", "labels", "Answers of the oracle a run used, mean over seeds.",
               _cost("labels"), False, -1),
        Column("gradient_steps", "updates", "Gradient steps of a run, mean over seeds.",
               _cost("gradient_steps"), False, -1),
        Column(
            "gradient_steps_per_iteration",
            "updates / iteration",
            "Gradient steps per batch of fresh data.",
            _cost("gradient_steps_per_iteration"), True,
        ),
        Column("seconds", "seconds", "Wall time of a run, mean over seeds, on the machines below.",
               _cost("seconds"), True, -1),
        Column(
            "reproduced",
            "reproduced",
            "Runs rebuilt from their records by `pairbench reproduce`, of all finished ones, with "
            "how the last came back and when.",
            _reproduced,
        ),
        Column(
            "determinism",
            "same bits",
            "Whether a run comes back bit for bit on one machine with the same versions and thread "
            "count, as it should on a processor; on other machines, and on accelerators, numbers "
            "agree within a tolerance only. Checked by `pairbench reproduce`.",
            _determinism,
        ),
        Column("date", "date", "Day of the row's last run, UTC.", lambda r: r.date),
        Column(
            "environment",
            "environment",
            "Processor, device, threads of a run and version of torch; all of it is under each "
            "run.",
            _environment,
        ),
        Column("algorithm", "algorithm", "The registered algorithm.", lambda r: r.algorithm),
        Column("regime", "data", "What the algorithm learns from.", lambda r: r.regime),
        Column("trials", "trials", "Settings that `pairbench tune` tried, on seeds and contexts "
               "that no board reports, before it chose the row's; without a number they were set "
               "by hand.", lambda r: r.tuning.trials if r.tuning else None, True),
        Column("configuration", "settings", "First digits of the SHA-256 of the algorithm and its "
               "resolved settings.", lambda r: r.configuration[:8]),
    ]  # fmt: skip
    always = {"rank", "row", "n_seeds", "reward"}
    return [c for c in every if c.key in always or any(c.get(r) is not None for r in board.rows)]
