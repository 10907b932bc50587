"""One record of a results folder: found by what a person calls it, and described to a person."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pairbench.errors import PairBenchError
from pairbench.results.layout import record_path
from pairbench.results.load import load_records
from pairbench.results.record import RunRecord, name_of
from pairbench.results.record_file import Unreadable, read_record
from pairbench.text import number


def find_record(name: str, results: Path) -> tuple[RunRecord, Path]:
    """Returns a record and its file.

    Args:
        name: the file, or the first characters of the record's identity.
        results: the folder in which an identity is looked for.

    Raises:
        PairBenchError: there is none of this name, or several, or the file is no record.
    """
    path = Path(name)
    if path.suffix == ".json" or path.is_file():
        try:
            return read_record(path), path
        except (FileNotFoundError, IsADirectoryError):
            raise PairBenchError(f"there is no record file {name}") from None
        except Unreadable as error:
            raise PairBenchError(f"{name} cannot be used: {error}") from error
    matches = [r for r in load_records(results).records if r.identity.startswith(name)]
    if len(matches) != 1:
        what, begin = (f"{len(matches)} records", "begin") if matches else ("no record", "begins")
        raise PairBenchError(
            f"{what} in {results} {begin} with {name!r}: "
            "give the record's path, or more of its identity"
        )
    return matches[0], record_path(results, matches[0])


def outcome(record: RunRecord) -> str:
    """Returns one line on how a run ended."""
    if record.status == "skipped":
        return f"skipped: {record.reason}"
    if record.status == "failed":
        return f"FAILED {name_of(record)}: {record.reason}"
    reward = f"reward {number(record.evaluation.reward)} " if record.evaluation else ""
    return f"{name_of(record)}: {reward}in {record.cost.seconds:.1f} s"


def describe(record: RunRecord) -> str:
    """Returns a record as lines of text: how it ended, and what it holds."""
    about = {
        "identity": record.identity,
        "status": record.status,
        "algorithm": record.algorithm + (f", {record.regime}" if record.regime else ""),
        "settings": _pairs(record.algorithm_config),
        "task": f"{record.task}, version {record.task_version}",
        "task settings": _pairs(record.task_config),
        "budget": _pairs(record.protocol.budget.model_dump(exclude_none=True)),
        "protocol": _pairs({k: v for k, v in record.protocol if k != "budget"}),
        "cost": _pairs(record.cost.model_dump()),
        "curve": "  ".join(f"{point.steps}: {number(point.reward)}" for point in record.curve),
        "stability": _pairs(record.stability.model_dump(exclude_none=True)),
        "weights": record.weights_sha256 or "",
        "code": _pairs({k: v for k, v in record.provenance.items() if not isinstance(v, dict)}),
    }
    lines = [outcome(record), *(f"{name:<14}{text}" for name, text in about.items() if text)]
    return "\n".join(lines) + "\n"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
