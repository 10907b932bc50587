"""The series of a study's runs, as a reader of its files finds them."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np

from pairbench.experiments.tuning.trials import SERIES


def read_series(study: Path) -> dict[str, dict[str, np.ndarray]]:
    """Returns the series of a study's runs by identity, float32, NaN where nothing was measured."""
    path = study / SERIES
    if not path.exists():
        return {}
    with duckdb.connect(config={"threads": 1}) as connection:
        columns = connection.execute(
            "FROM read_parquet(?) ORDER BY identity, iteration", [str(path)]
        ).fetchnumpy()
    runs = np.asarray(columns.pop("identity"), dtype=object)
    del columns["iteration"]
    masked = {k: np.ma.masked_array(v, dtype=np.float32) for k, v in columns.items()}
    starts = np.flatnonzero(np.concatenate([[True], runs[1:] != runs[:-1]])).tolist()
    found = {}
    for start, end in zip(starts, [*starts[1:], len(runs)], strict=True):
        own = {name: column[start:end] for name, column in masked.items()}
        found[str(runs[start])] = {
            name: column.filled(np.nan)
            for name, column in own.items()
            if not np.ma.getmaskarray(column).all()
        }
    return found
