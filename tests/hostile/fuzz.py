"""Coverage-guided fuzzing of what reads a stranger's bytes: `python -m tests.hostile.fuzz WHAT`.

libFuzzer's own arguments follow (`-runs=100000`, `-max_total_time=600`, a corpus folder). The first
exception that a reader does not document ends it, with the input in a file `crash-*`. Needs atheris
(3.0.0 pinned), which instruments the package's bytecode; hypothesis covers the same readers in CI.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["pairbench"]):
    from pairbench.errors import PairBenchError
    from pairbench.experiments.status import look, render
    from pairbench.experiments.suite import expand, load_suite
    from pairbench.experiments.tuning.study import Study, read_study
    from pairbench.language.data.load import _records
    from pairbench.results.heartbeat import read_log
    from pairbench.results.marks import MARKS, marks
    from pairbench.results.record_file import Unreadable, as_json, read_record
    from pairbench.training.checkpoint import load_state, save_state

from tests.support.records import record

SUITE = b"""summary = "s"
seeds = "0-1"
[protocol]
budget = { steps = 100 }
[[rows]]
name = "a"
algorithm = "grpo"
tasks = ["preference-bandit"]
settings = { lr = 0.1 }
"""
GOOD = as_json(record("grpo", 0))


def a_record(data: bytes, folder: Path) -> None:
    """A run's record, and what is written of it again."""
    path = folder / f"{record('grpo', 0).identity[:16]}.json"
    path.write_bytes(data)
    with contextlib.suppress(Unreadable):
        as_json(read_record(path))


def a_suite(data: bytes, folder: Path) -> None:
    """A suite, as far as the runs it asks for."""
    path = folder / "s.toml"
    path.write_bytes(data)
    with contextlib.suppress(PairBenchError):
        expand(load_suite(str(path)))


def pairs(data: bytes, folder: Path) -> None:
    """Preference data, plain and compressed."""
    for name in ("p.jsonl", "p.jsonl.gz"):
        path = folder / name
        path.write_bytes(data)
        with contextlib.suppress(PairBenchError):
            list(_records(path))


def a_study(data: bytes, folder: Path) -> None:
    """A study of `pairbench tune`."""
    path = folder / "study.json"
    path.write_bytes(data)
    with contextlib.suppress(PairBenchError):
        read_study(path)


def signs(data: bytes, folder: Path) -> None:
    """Signs of life, logs and marks, which are left out where they are none."""
    (folder / ".runs").mkdir(exist_ok=True)
    for name in (".runs/0.json", ".runs/driver.json", MARKS):
        (folder / name).write_bytes(data)
    read_log(folder / MARKS)
    marks(folder)
    assert "\x1b" not in render(look(folder))


def a_checkpoint(data: bytes, folder: Path) -> None:
    """A checkpoint: a safetensors header before its tensors."""
    path = folder / "c.safetensors"
    path.write_bytes(data)
    with contextlib.suppress(ValueError):
        load_state(path)


TARGETS: Mapping[str, Callable[[bytes, Path], None]] = {
    "record": a_record,
    "suite": a_suite,
    "pairs": pairs,
    "study": a_study,
    "signs": signs,
    "checkpoint": a_checkpoint,
}


def seeds(what: str, folder: Path) -> list[bytes]:
    """Good inputs to begin with."""
    if what == "checkpoint":
        import torch

        path = folder / "seed.safetensors"
        save_state(path, {"a": [torch.ones(2), 1.5, "x"], "b": {"c": None}})
        return [path.read_bytes()]
    one = record("grpo", 0)
    terms = {"task": one.task, "task_version": one.task_version, "task_config": {}, "seeds": [1000],
             "protocol": one.protocol.model_dump(mode="json"), "sampler": 0}  # fmt: skip
    trial = {"settings": {"lr": 0.1}, "runs": {"1000": "x"}, "rewards": {"1000": 1.5}}
    search = {"algorithm": "grpo", "config": {"lr": 0.1}, "space": {}, "trials": [trial]}
    study = {"terms": terms, "rows": {"grpo": search}}
    Study.model_validate(study)
    good = {
        "record": GOOD,
        "suite": SUITE,
        "study": json.dumps(study).encode(),
        "pairs": b'{"prompt": "p", "chosen": "c"}\n',
    }
    return [good.get(what, b'{"identity": "x", "row": "y", "spent": 1.0, "rows": {}}\n')]


VALUES = (None, True, -1, 1.5, 10**20, 10**400, 1e308, "", "..", "\ud800", [], {}, [[]], {"": 0})


def changed(data: bytes, most: int, seed: int) -> bytes:
    """One value replaced in JSON text, or a checkpoint's header; else libFuzzer's own change."""
    chance = random.Random(seed)
    framed = data[8:9] == b"{"
    end = 8 + int.from_bytes(data[:8], "little") if framed else len(data)
    try:
        tree = json.loads(data[8 if framed else 0 : end])
        inner = json.loads(tree["__metadata__"]["tree"]) if framed else tree
        if chance.random() < 0.3:
            raise ValueError("libFuzzer's turn")
        _replace(inner, chance)
        if framed:
            tree["__metadata__"]["tree"] = json.dumps(inner)
        text = json.dumps(tree).encode()
    except (ValueError, TypeError, LookupError, RecursionError):
        return bytes(atheris.Mutate(data, most))
    head = len(text).to_bytes(8, "little") if framed else b""
    return (head + text + (data[end:] if framed else b""))[:most]


def _replace(tree: Any, chance: random.Random) -> None:
    while True:
        keys = list(tree) if isinstance(tree, dict) else range(len(tree))
        key = chance.choice(keys)
        if not isinstance(tree[key], dict | list) or not tree[key] or chance.random() < 0.3:
            tree[key] = chance.choice(VALUES)
            return
        tree = tree[key]


def main() -> None:
    """Fuzzes one reader until an argument's end, or the first exception it should not raise."""
    what = sys.argv.pop(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds(what, folder)):
            (corpus / str(number)).write_bytes(seed)
        place = folder / "place"
        place.mkdir()
        atheris.Setup(
            [*sys.argv, "-max_len=20000", str(corpus)],
            lambda data: TARGETS[what](data, place),
            custom_mutator=changed,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
