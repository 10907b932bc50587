"""Boards as text: terminal table, Markdown, CSV, JSON, LaTeX and HTML, and a folder of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from pairbench.errors import PairBenchError
from pairbench.leaderboard.build import (
    GUARD,
    KL,
    WINS,
    Board,
    Rate,
    Reward,
    Row,
    Strength,
    kept_in_names,
)
from pairbench.results.record import digest
from pairbench.text import did_you_mean, number, printable

Interval = Reward | Rate | Strength
Value = Interval | float | int | str | None
FORMATS = ("table", "markdown", "csv", "json", "latex", "html")
OVERALL = "overall"
SITE_FORMATS = {"md": "markdown", "csv": "csv", "json": "json", "html": "html"}


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


def render(board: Board, format: str = "table") -> str:
    """Returns a board as text in one of `FORMATS`, ending in a newline.

    Raises:
        PairBenchError: if the format is unknown.
    """
    if format == "table":
        return _table(board)
    if format == "markdown":
        return _markdown(board)
    if format == "csv":
        return _csv(board)
    if format == "json":
        return json.dumps(board.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
    if format == "latex":
        return _latex(board)
    if format == "html":
        from pairbench.leaderboard.site.pages import board_page

        return board_page(board)
    raise PairBenchError(f"no format {format!r} for a leaderboard{did_you_mean(format, FORMATS)}")


def slugs(boards: list[Board]) -> list[str]:
    """Returns a distinct file stem per board: task and budget, with a digest where those agree."""
    stems = [board.slug for board in boards]
    lowered = [stem.lower() for stem in stems]
    return [
        stem if lowered.count(stem.lower()) == 1 else f"{stem}--{board.board[:8]}"
        for stem, board in zip(stems, boards, strict=True)
    ]


def run_file(identity: str) -> str:
    """Returns where a site keeps the page of a run."""
    return f"runs/{identity[:16]}.html"


def algorithm_file(name: str) -> str:
    """Returns where a site keeps the page of an algorithm, whatever its name holds."""
    kept = kept_in_names(name)
    return (
        f"algorithms/{kept}.html"
        if kept == name.lower()
        else f"algorithms/{kept}-{digest(name)[:8]}.html"
    )


def percent(value: float) -> str:
    """Returns a share in per cent."""
    return f"{100 * value:.0f}%"


def middle(value: Interval) -> float:
    """Returns the number that an interval is of."""
    return value.iqm if isinstance(value, Reward) else value.estimate


def cell(value: Value) -> str:
    """Returns a value with its interval as plain text; an empty string where there is none."""
    if value is None:
        return ""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Interval):
        show = percent if isinstance(value, Rate) else number
        if value.low is None or value.high is None:
            return show(middle(value))
        return f"{show(middle(value))} [{show(value.low)}, {show(value.high)}]"
    return number(value)


def protocol_line(board: Board) -> str:
    """Returns one line saying what the rows of a board share."""
    protocol = board.protocol
    rates = "learning rates annealed to zero" if protocol.anneal else "constant learning rates"
    contexts = f", {board.n_contexts} held-out contexts" if board.n_contexts else ""
    if protocol.engine != "pairbench":
        rates += f", in {protocol.engine.upper()}'s training loop"
    return printable(
        f"{board.task} version {board.task_version}, {board.title.rsplit(', ', 1)[-1]} "
        f"({board.step_unit}), {rates}{contexts}, board {board.board[:8]}"
    )


def notes(board: Board) -> list[str]:
    """Returns a line for each row that needs one: failed, skipped, or without a rank."""
    return [
        f"{printable(row.row)}{f' ({row.status})' if row.status != 'finished' else ''}: "
        f"{printable(row.reason)}"
        for row in board.rows
        if row.reason
    ]


def _cells(
    board: Board, shown: list[Column], escape: Callable[[str], str] = str
) -> list[list[str]]:
    """One line of text per row; a row without a result shows its status in place of a rank.

    `escape` is applied to what others wrote (names), not to numbers.
    """
    lines = []
    for row in board.rows:
        values = [column.get(row) for column in shown]
        texts = [escape(cell(v)) if isinstance(v, str) else cell(v) for v in values]
        if row.rank is None:
            texts[0] = "-" if row.status == "finished" else row.status
        lines.append(texts)
    return lines


def _table(board: Board) -> str:
    shown = [column for column in columns(board) if column.brief]
    table = tabulate(
        _cells(board, shown),
        headers=[column.title for column in shown],
        tablefmt="simple",
        disable_numparse=True,
        colalign=["left" if c.key in ("rank", "row") else "right" for c in shown],
    )
    legend = (
        "Interquartile mean over seeds [95% interval]; a row's rank is one more than the number of "
        "rows whose whole interval lies above its own."
    )
    return "\n".join([protocol_line(board), "", table, "", legend, *notes(board)]) + "\n"


def _markdown(board: Board) -> str:
    shown = columns(board)
    table = tabulate(
        _cells(board, shown, markdown_text),
        headers=[markdown_text(column.title) for column in shown],
        tablefmt="pipe",
        disable_numparse=True,
        colalign=["left" if _is_text(c) else "right" for c in shown],
    )
    parts = [f"# {markdown_text(board.title)}", markdown_text(protocol_line(board)), table]
    if notes(board):
        parts.append("\n".join(f"- {markdown_text(note)}" for note in notes(board)))
    parts.append(
        "\n".join(f"- **{markdown_text(c.title)}**: {markdown_text(c.meaning)}" for c in shown)
    )
    return "\n\n".join(parts) + "\n"


def _latex(board: Board) -> str:
    shown = [column for column in columns(board) if column.brief]
    table = tabulate(
        _cells(board, shown),
        headers=[column.title for column in shown],
        tablefmt="latex_booktabs",
        disable_numparse=True,
        colalign=["left" if c.key in ("rank", "row") else "right" for c in shown],
    )
    return f"% {protocol_line(board)}\n% needs the package booktabs\n{table}\n"


def _csv(board: Board) -> str:
    """Full precision; a value with an interval takes three columns."""
    shown = columns(board)
    header: list[str] = ["status"]
    intervals = {
        column.key
        for column in shown
        if any(isinstance(column.get(row), Interval) for row in board.rows)
    }
    for column in shown:
        header += [
            column.key,
            *([f"{column.key}_low", f"{column.key}_high"] * (column.key in intervals)),
        ]
    lines: list[list[Any]] = []
    for row in board.rows:
        line: list[Any] = [row.status]
        for column in shown:
            value = column.get(row)
            if column.key not in intervals:
                line.append(row.configuration if column.key == "configuration" else _plain(value))
            elif isinstance(value, Interval):
                line += [middle(value), value.low, value.high]
            else:
                line += [None, None, None]
        lines.append([*line, _plain(row.reason)])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*header, "reason"])
    writer.writerows(lines)
    return text.getvalue()


def _plain(value: Value) -> Any:
    """A value for CSV; a text that a spreadsheet would take for a formula gets an apostrophe."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def _is_text(column: Column) -> bool:
    return column.key in ("rank", "row", "algorithm", "regime", "configuration")


def markdown_text(text: str) -> str:
    """Returns text that Markdown shows as it stands, whatever marks or HTML it holds."""
    names = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
    return "".join(names.get(c, f"\\{c}" if c in "\\`*_[]|#~" else c) for c in printable(text))
