"""Hours of everything at once over one grid: `python -m tests.faults.soak --hours 2 --seed 1`.

Drivers and workers are killed, the disk fills, records and checkpoints are deleted, and hostile
files dropped into the folder, each at a random moment, seeded. What has gone is run again. In the
end one call without a fault goes through, and every record must be that of a grid which was never
disturbed, bit for bit. Figures go to `benchmarks/soak.json`. A full disk takes Linux and its
superuser; without, there is none, and the figures say so.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pairbench.experiments.runner import execute
from pairbench.experiments.suite import Plan, plan
from pairbench.results.folder import Store
from pairbench.results.load import load_records
from pairbench.results.record import RunSpec
from pairbench.seeding import generator, pin_threads
from pairbench.training import provenance
from tests.faults.forked import Here, driver
from tests.support.grids import children, outcome

FILE = Path(__file__).parents[2] / "benchmarks" / "soak.json"

DISK = "96m"
"""Size of the file system that the grid is on."""

HANG = 900.0
"""Seconds after which a call that should end counts as one that hangs."""


def grid(seeds: int) -> Plan:
    """Runs of ten iterations each, two to a seed."""
    return plan(
        algorithms=["grpo", "dpo"], tasks=["preference-bandit"], seeds=f"0-{seeds - 1}",
        budget={"steps": 2560}, protocol={"evaluations": 2, "probes": 0},
        overrides=["grpo.epochs=1", "dpo.epochs=1"],
    )  # fmt: skip


class Soak:
    """One grid under attack.

    Attributes:
        count: of what has happened, by name.
        truth: the records of the undisturbed grid, by identity.
    """

    def __init__(self, runs: Plan, folder: Path, disk: Path, seed: int, full: bool) -> None:
        self.runs, self.disk, self.full = runs, disk, full
        self.stream = generator(seed, "test:soak")
        self.count: Counter[str] = Counter()
        self.calls: set[int] = set()
        began = time.monotonic()
        self.reference = Store(folder / "reference")
        self.truth = {r.identity: r for r in execute(runs, self.reference, Here()).finished}
        assert len(self.truth) == len(runs.specs)
        self.each = (time.monotonic() - began) / len(runs.specs)
        self.store = Store(disk / "results")
        self.log = (folder / "log").open("ab")

    def start(self) -> int:
        self.count["calls"] += 1
        pid = driver(self.runs, self.store.root, log=self.log.fileno())
        self.calls.add(pid)
        return pid

    def over(self, pid: int) -> bool:
        """Whether a call has ended; well, in a sentence, or because it was killed."""
        if pid not in self.calls:
            return True
        done, status = os.waitpid(pid, os.WNOHANG)
        if not done:
            return False
        self.calls.remove(pid)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, 2, -signal.SIGKILL), f"a call ended with status {code}"
        self.count["calls that ended well" if code == 0 else "calls that ended early"] += 1
        return True

    def wait(self, pid: int, seconds: float = HANG, *, must: bool = True) -> bool:
        """Waits for a call to end; returns whether it has."""
        until = time.monotonic() + seconds
        while not (over := self.over(pid)) and time.monotonic() < until:
            time.sleep(0.01)
        if must and not over:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError("a call hangs")
        return over

    def some(self, most: int) -> list[RunSpec]:
        """Returns a few runs of the grid."""
        size = int(self.stream.integers(1, most + 1))
        chosen = self.stream.choice(len(self.runs.specs), size, replace=False)
        return [self.runs.specs[index] for index in chosen]

    def kill_driver(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.count["drivers killed"] += 1
        self.wait(pid)

    def kill_worker(self, pid: int) -> None:
        if workers := children(pid):
            worker = workers[int(self.stream.integers(len(workers)))]
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL if self.stream.random() < 0.7 else signal.SIGTERM)
                self.count["workers killed"] += 1

    def fill_disk(self, pid: int) -> None:
        """Fills the disk for a moment, and frees it."""
        if not self.full:
            return
        filler = self.disk / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"\0" * 4096)
        self.count["full disks"] += 1
        self.wait(pid, float(self.stream.uniform(0, 20 * self.each)), must=False)
        filler.unlink()

    def delete(self, pid: int) -> None:
        """Removes records with their series, checkpoints and logs, each or not, of a few runs."""
        for spec in self.some(6):
            if self.stream.random() < 0.7:
                self.remove(spec)
            for path in (self.store.checkpoint(spec), self.store.log(spec)):
                if self.stream.random() < 0.7:
                    self.unlink(path)

    def remove(self, spec: RunSpec) -> None:
        """The record before its series: without it that is nothing, and the run is made anew."""
        self.unlink(self.store.path(spec))
        self.unlink(self.store.path(spec).with_suffix(".parquet"))

    def unlink(self, path: Path) -> None:
        with suppress(FileNotFoundError):
            path.unlink()
            self.count["files deleted"] += 1

    def hurt(self, pid: int) -> None:
        """Puts hostile files where records, checkpoints and logs belong, and where none does."""
        for spec in self.some(3):
            name = list(HOSTILE)[int(self.stream.integers(len(HOSTILE)))]
            record = self.store.path(spec)
            places = [record, self.store.checkpoint(spec), self.store.log(spec),
                      record.with_name(f"stranger-{self.count['hostile files']}.json"),
                      record.with_suffix(".failed-1.json"),
                      self.store.log(spec).with_suffix(".json")]  # fmt: skip
            path = places[int(self.stream.integers(len(places)))]
            with suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                HOSTILE[name](self, path)
                self.count["hostile files"] += 1
                self.count[f"hostile: {name}"] += 1

    def sound(self) -> int:
        """Asserts that what is read is true; returns how many runs have a record."""
        if not self.store.root.is_dir():
            return 0
        records = load_records(self.store.root).records
        found = [record for record in records if record.status == "finished"]
        for record in found:
            assert outcome(record) == outcome(self.truth[record.identity]), record.identity
        self.count["records compared"] += len(found)
        return len(found)

    def attack(self, hours: float, faults: int) -> None:
        """Disturbs calls until the hours are over or so many faults have happened."""
        until = time.monotonic() + 3600 * hours
        kinds: list[Callable[[int], None]] = [
            self.kill_driver, self.kill_worker, self.fill_disk, self.delete, self.hurt,
        ]  # fmt: skip
        pid = self.start()
        while self.count["faults"] < faults and time.monotonic() < until:
            if not self.wait(pid, float(self.stream.uniform(0, 8 * self.each)), must=False):
                kinds[int(self.stream.integers(len(kinds)))](pid)
                self.count["faults"] += 1
            whole = self.sound() == len(self.runs.specs)
            if self.over(pid):
                if whole:
                    self.count["grids completed"] += 1
                    self.delete_half()
                pid = self.start()
        if not self.over(pid):
            self.kill_driver(pid)

    def delete_half(self) -> None:
        """A complete grid leaves nothing to disturb."""
        for spec in self.runs.specs:
            if self.stream.random() < 0.5:
                self.remove(spec)

    def any_record(self) -> bytes:
        """Returns the file of some run of the undisturbed grid."""
        return self.reference.path(self.some(1)[0]).read_bytes()

    def settle(self) -> dict[str, float]:
        """Calls without a fault until the grid is whole; every record must be the true one."""
        for _ in range(3):
            self.wait(self.start())
            if self.sound() == len(self.runs.specs):
                break
        equal = 0
        for spec in self.runs.specs:
            record, _ = self.store.find(spec)
            assert record is not None, f"{spec.identity} has no record"
            assert outcome(record) == outcome(self.truth[spec.identity])
            series = self.store.path(spec).with_suffix(".parquet").read_bytes()
            assert hashlib.sha256(series).hexdigest() == record.series_sha256
            equal += 1
        loaded = load_records(self.store.root)
        assert {r.identity for r in loaded.records} == set(self.truth)
        assert not list(self.store.root.rglob("*.tmp"))
        return {"runs": len(self.runs.specs), "records equal": equal,
                "files named and left out": len(loaded.problems)}  # fmt: skip


def _text(text: str) -> Callable[[Soak, Path], None]:
    return lambda soak, path: path.write_text(text) and None


def _torn(soak: Soak, path: Path) -> None:
    """A record of the grid, cut short."""
    data = soak.any_record()
    path.write_bytes(data[: int(soak.stream.integers(len(data)))])


def _other(soak: Soak, path: Path) -> None:
    path.write_bytes(soak.any_record())


HOSTILE: dict[str, Callable[[Soak, Path], None]] = {
    "a record cut short": _torn,
    "another run's record": _other,
    "random bytes": lambda soak, path: path.write_bytes(soak.stream.bytes(5000)) and None,
    "3,000 brackets": _text("[" * 3000),
    "a text of 400,000 letters": _text(json.dumps({"row": "x" * 400_000})),
    "no object": _text("[1e999, NaN]"),
    "a pipe": lambda soak, path: os.mkfifo(path),
    "a link": lambda soak, path: path.symlink_to("/etc/passwd"),
    "nothing": _text(""),
}
"""What is put into the folder, by name."""


def soak(
    folder: Path, *, seeds: int, seed: int, hours: float = 1e9, faults: int = 2**63
) -> dict[str, float]:
    """Attacks a grid in a folder until the hours are over or so many faults have happened.

    Returns:
        how often what has happened, by name.
    """
    began = time.monotonic()
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(disk)]
    full = sys.platform == "linux" and os.geteuid() == 0 and not subprocess.run(mount).returncode
    try:
        one = Soak(grid(seeds), folder, disk, seed, full)
        one.attack(hours, faults)
        whole = one.settle()
    finally:
        if full:
            subprocess.run(["umount", "-l", str(disk)], check=True)
    hours = round((time.monotonic() - began) / 3600, 2)
    return {"seed": seed, "hours": hours, **dict(sorted(one.count.items())), **whole}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=50, help="of the grid, with two runs to each")
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args()
    pin_threads(1)
    # asking git which commit this is takes longer than these runs, and no bit depends on it
    provenance._git = lambda: (None, None)
    with tempfile.TemporaryDirectory() as folder:
        figures = soak(Path(folder), seeds=given.seeds, seed=given.seed, hours=given.hours)
    given.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
