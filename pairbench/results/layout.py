"""Where things lie in a results folder: one JSON file per run, its series in Parquet beside it.

    <results>/<task>/<algorithm>/<first 16 hex of the identity>.json       the record
    <results>/<task>/<algorithm>/<first 16 hex of the identity>.parquet    its series
    <results>/<task>/<algorithm>/<first 16 hex of the identity>.texts.parquet
    <results>/<task>/<algorithm>/<first 16 hex of the identity>.failed-1.json
    <results>/.checkpoints/<first 16 hex of the identity>.safetensors      a run in progress
    <results>/.runs/<first 16 hex of the identity>.json                    its heartbeat
    <results>/.runs/<first 16 hex of the identity>.jsonl                   its log
    <results>/.set-aside/<n>/<task>/...                                    `run --set-aside`
    <results>/judgements/<first 16 hex of the judge's digest>.jsonl        `pairbench judge`
    <results>/tuning/<study>/                                              `pairbench tune`

A record's path follows from its identity. The folder may be one that stands in for a url
(`pairbench.results.url`), whose objects have these names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from pairbench.results.record import RunRecord, RunSpec

PAGES = "leaderboards"
"""Folder of generated tables and pages, which hold JSON of their own."""


RUNS = ".runs"
"""Folder of the runs' heartbeats and logs."""


DRIVER = "driver.json"
"""File in it of the call at work, which names its runs."""


ASIDE = ".set-aside"
"""Folder of records that `pairbench run --set-aside` has made anew; nothing reads it."""


TUNING = "tuning"
"""Folder of the studies of `pairbench tune`, each with a results folder of its own."""


DEEPEST = 16
"""Folders within folders in which records are looked for: ours lie in the second."""


LEFTOVER = re.compile(
    r"\.([0-9a-f]{16}(\.failed-\d+)?(\.texts)?\.(json|parquet|safetensors)|\.pid\.lock|driver\.json)\.\d+\.tmp"
)
"""Names of the temporary files that `atomic_write` makes of what is kept here."""


def pages_folder(results: Path) -> Path:
    """Returns where pages go: leaderboards/ beside results/, or inside a folder of another name."""
    return results.parent / PAGES if results.name == "results" else results / PAGES


def folder_name(name: str) -> str:
    """Returns a name as that of one folder, which is neither hidden nor the one above.

    A task's variant may be the name of a model, or its folder.
    """
    return re.sub(r"^\.+", "--", re.sub(r"[^\w.@+-]+", "--", name)) or "--"


def record_path(folder: Path, run: RunSpec | RunRecord) -> Path:
    """Returns the place of a run's record in a results folder."""
    name = f"{run.identity[:16]}.json"
    return folder / folder_name(run.task) / folder_name(run.algorithm) / name


def record_files(folder: Path) -> Iterator[Path]:
    """Yields the files of a results folder that may be records, in a fixed order."""
    for place in sorted(folder.iterdir()):
        if place.name.startswith(".") or place.name in (PAGES, TUNING):
            continue
        found = [str(place)] if place.suffix == ".json" else []
        for inside, folders, files in os.walk(place) if not place.is_symlink() else ():
            if inside.count(os.sep) - str(place).count(os.sep) >= DEEPEST:
                found += [os.path.join(inside, name) for name in folders[:1]]
                folders.clear()
            found += [
                os.path.join(inside, name)
                for name in (*files, *folders)
                if name.endswith(".json") and not name.startswith(".")
            ]
            folders[:] = [name for name in folders if not name.startswith(".")]
        yield from map(Path, sorted(found, key=lambda name: name.split(os.sep)))
