"""Results at a url, here a folder's (`file://`): what is sent and fetched, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pairbench.cli.main import main
from pairbench.errors import Interrupted, PairBenchError
from pairbench.experiments.launch.base import Ended, Execution, Job
from pairbench.experiments.launch.worker import decode, encode, perform
from pairbench.experiments.progress import Monitor, Tally
from pairbench.experiments.runner import execute
from pairbench.experiments.status import look
from pairbench.experiments.suite import Plan, plan
from pairbench.results.files import atomic_write
from pairbench.results.folder import Store
from pairbench.results.heartbeat import RunLog, heartbeat_path, read_log
from pairbench.results.load import load_records, load_series
from pairbench.results.place import at_hand, open_store
from pairbench.results.query import query
from pairbench.results.url import lock, objects, store as url_store
from pairbench.results.url.lock import UrlLock
from pairbench.results.url.run_files import UrlRunFiles
from pairbench.results.url.store import UrlStore
from pairbench.seeding import generator
from tests.experiments.launch.test_launch import children
from tests.faults.forked import Here
from tests.support.grids import same, wait_for
from tests.support.records import record

pytest.importorskip("obstore", reason="obstore is missing: pip install 'pairbench[s3]'")

RUN = "0123456789abcdef"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Moves this process to a machine of that name, as far as its files go."""

    def move(name: str) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))

    move("one")
    return move


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """What is behind the url."""
    return tmp_path / "bucket" / "prefix"


@pytest.fixture
def url(place: Path, machine: Callable[[str], None]) -> str:
    return f"file://{place}"


def grid(seeds: str = "0-1", steps: int = 2560) -> Plan:
    return plan(
        algorithms=["grpo"], tasks=["preference-bandit"], seeds=seeds, budget={"steps": steps},
        protocol={"evaluations": 2, "probes": 0}, overrides=["grpo.epochs=1"],
    )  # fmt: skip


class Breaks(Monitor):
    """Does something to the url when the first run has ended."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act, self.notes, self.done = act, list[str](), False

    def note(self, text: str) -> None:
        self.notes.append(text)

    def tick(self, tally: Tally) -> None:
        if tally.finished and not self.done:
            self.done = True
            self.act()


def test_a_grid_at_a_url_is_that_of_a_folder_and_another_machine_reads_it(
    tmp_path: Path, place: Path, url: str, machine: Callable[[str], None]
) -> None:
    runs, local = grid(), Store(tmp_path / "local")
    execute(runs, local, Here())
    how = Execution(checkpoint_seconds=0.0)
    assert len(execute(runs, open_store(url), Here(), execution=how).finished) == 2
    same(Store(place), local, runs)
    left = {path.name for path in place.rglob("*") if path.is_file()}
    names = {spec.identity[:16] for spec in runs.specs}
    endings = (".json", ".parquet", ".jsonl")
    assert left == {f"{name}{end}" for name in names for end in endings} | {"00000001.json"}
    machine("two")
    records, problems = load_records(url)
    assert [one.seed for one in records] == [0, 1]
    assert not problems
    assert set(load_series(url, records)) == {one.identity for one in records}
    assert query("SELECT count(*) FROM series", url).fetchall() == [(20,)]
    assert len(execute(runs, open_store(url), Here()).cached) == 2


def test_the_verbs_read_from_a_url(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--results", url])
        return int(ended.value.code or 0), capsys.readouterr().out

    done = execute(grid(), open_store(url), Here()).finished
    assert call("status") == (0, "0 running, 0 waiting, 0 stalled, 0 failed, 2 finished\n")
    assert "grpo" in call("leaderboard", "--task", "preference-bandit")[1]
    assert call("show", done[0].identity[:12], "--format", "json")[0] == 0
    status, out = call("reproduce", done[0].identity[:12], "--quick", "2")
    assert (status, "equal; bit for bit equal" in out) == (0, True)
    for verb in (["judge", "--judge", "gold"], ["tune", "--task", "t", "--trials", "1"]):
        assert call(*verb)[0] == 2
    with pytest.raises(SystemExit):
        main(["compare", url, url])
    assert "the same mean score at each of 2 shared seeds" in capsys.readouterr().out


def test_a_checkpoint_goes_to_the_url_and_on_from_there(
    url: str, place: Path, machine: Callable[[str], None], tmp_path: Path
) -> None:
    """Interrupted on one machine, a run is continued by another that has the url alone."""
    (spec,) = grid("0").specs
    whole = decode(spec.identity, perform(encode(Job(spec, tmp_path / "a")), print))

    def job() -> str:
        store = open_store(url)
        return encode(Job(spec, store.checkpoint(spec), log=store.log(spec), url=url))

    asked = iter([False] * 4)  # and True from then on
    with pytest.raises(Interrupted):
        perform(job(), print, lambda: next(asked, True))
    assert (place / ".checkpoints" / f"{spec.identity[:16]}.safetensors").is_file()
    machine("two")
    again = decode(spec.identity, perform(job(), print))
    assert isinstance(whole, Ended)
    assert isinstance(again, Ended)
    assert again.record.weights_sha256 == whole.record.weights_sha256
    log = read_log(place / ".runs" / f"{spec.identity[:16]}.jsonl")
    events = [line["event"] for line in log]
    assert (events.count("started"), events.count("resumed"), events[-1]) == (2, 1, "ended")
    assert not open_store(url).checkpoint(spec).exists()  # the url keeps it till the record ends


def test_a_runs_files_are_sent_as_they_change_and_the_later_ones_fetched(
    url: str, place: Path, machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "SYNC", 0.01)
    place.mkdir(parents=True)
    there = place / ".checkpoints" / f"{RUN}.safetensors"
    with UrlRunFiles(url, there.name, f"{RUN}.jsonl") as files:
        for text in ("early", "later"):
            files.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            files.checkpoint.write_text(text)
            heartbeat_path(files.log).parent.mkdir(parents=True, exist_ok=True)
            heartbeat_path(files.log).write_text(text)
            wait_for(lambda text=text: there.exists() and there.read_text() == text)
            wait_for((place / ".runs" / f"{RUN}.json").exists)
    assert not (place / ".runs" / f"{RUN}.json").exists()
    machine("two")
    with UrlRunFiles(url, there.name, f"{RUN}.jsonl") as files:
        assert files.checkpoint.read_text() == "later"
        files.checkpoint.write_text("latest, and never sent")
        monkeypatch.setattr(files._objects, "put", None)
        files._over.set()
    files.checkpoint.write_text("latest")
    future = there.stat().st_mtime + 100
    os.utime(files.checkpoint, (future, future))
    with UrlRunFiles(url, there.name, f"{RUN}.jsonl") as files:
        assert files.checkpoint.read_text() == "latest"  # what an outage left here goes on


def test_status_from_another_machine(
    url: str, machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "SYNC", 0.01)
    store, (one, other) = open_store(url), (record("grpo", seed).spec for seed in range(2))
    with store.lock():
        names = {spec.identity: str(spec.seed) for spec in (one, other)}
        atomic_write(store.driver_heartbeat, json.dumps({"runs": names}).encode())
        with (
            UrlRunFiles(url, store.checkpoint(one).name, store.log(one).name) as files,
            RunLog(files.log, one),
        ):
            machine("two")

            def counts() -> list[int]:
                with suppress(PairBenchError):  # there is nothing yet
                    return list(look(at_hand(url)[0]).counts.values())[:3]
                return []

            wait_for(lambda: counts() == [1, 1, 0], 20.0)  # running, waiting, stalled
        wait_for(lambda: counts() == [0, 2, 0], 20.0)
    with pytest.raises(PairBenchError, match="there are no results"):
        at_hand(url)


def test_what_cannot_be_sent_is_kept_and_sent_by_the_next_call(
    tmp_path: Path, url: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(url_store.time, "sleep", lambda seconds: None)
    runs, local = grid("0-2"), Store(tmp_path / "local")
    execute(runs, local, Here())
    away = place.with_name("away")

    def cut() -> None:
        place.rename(away)
        place.write_text("no folder")

    breaks = Breaks(cut)
    with pytest.raises(PairBenchError) as error:
        execute(runs, open_store(url), Here(), monitor=breaks)
    assert "4 files are kept in " in str(error.value)  # two records, and their series
    assert str(error.value).endswith("and the same command sends them")
    assert sum("what ends meanwhile is kept and sent later" in note for note in breaks.notes) == 1
    place.unlink()
    away.rename(place)
    assert len(load_records(place).records) == 1
    assert len(execute(runs, open_store(url), Here()).cached) == 3
    same(Store(place), local, runs)


def test_a_finished_record_at_the_url_is_never_overwritten(url: str, place: Path) -> None:
    store, theirs = UrlStore(url), record("grpo", 0)
    Store(place).write(theirs)
    ours = theirs.model_copy(update={"cost": theirs.cost.model_copy(update={"seconds": 1.25})})
    with pytest.raises(PairBenchError, match="holds a finished run, which is never overwritten"):
        store.write(ours)
    assert Store(place).find(theirs.spec)[0] == theirs
    store._send(store.path(ours).with_suffix(".gone"))  # a file that is gone is no error
    with store.lock():  # ours is kept beside
        assert store.find(theirs.spec)[0] == theirs
    assert [path.name[-8:] for path in store.path(ours).parent.glob("*aside*")] == [".aside-1"]
    assert any("was there first" in text for text in store.news())
    Store(place).path(theirs).write_text("{")  # what is no record makes room, and is kept
    store.path(ours).unlink()
    store.write(ours)
    assert Store(place).find(theirs.spec)[0] == ours
    assert len(list(Store(place).path(ours).parent.glob("*.aside-*"))) == 1


def test_two_calls_at_one_url(
    url: str, machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_store(url)
    refusal = rf"results {url} are in use by process {os.getpid()} on .*: wait for it to end"
    with first.lock():
        machine("two")
        second = open_store(url)
        with pytest.raises(PairBenchError, match=refusal), second.lock():
            pass
        monkeypatch.setattr(lock, "EXPIRES", 0.0)  # the first has not been heard of for long
        monkeypatch.setattr(objects, "SYNC", 0.01)
        with second.lock():
            assert second.news() == []
    monkeypatch.setattr(lock, "EXPIRES", 60.0)
    with first.lock():  # it is over, which needs no waiting
        pass


def test_a_call_that_has_lost_the_url_stops(
    url: str, machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "SYNC", 0.01)
    store = UrlStore(url)

    def take_over() -> None:
        other = UrlLock(store.objects.store, url, store.root / "other")
        monkeypatch.setattr(lock, "EXPIRES", 0.0)
        other.acquire()
        wait_for(lambda: store._error is not None)

    with pytest.raises(PairBenchError, match="are in use by process"):
        execute(grid(), store, Here(), monitor=Breaks(take_over))


def test_a_killed_call_of_this_machine_is_followed_at_once(url: str) -> None:
    store = UrlStore(url)
    mine = store.root / ".url-lock.json"
    UrlLock(store.objects.store, url, mine).acquire()  # and never released
    with store.lock():
        pass


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_machines_that_vanish_at_random_cost_nothing(tmp_path: Path, place: Path, url: str) -> None:
    """Driver and worker are killed and their folder is deleted, until a call comes to the end."""
    runs, local, stream = (
        grid("0-15", 20_480),
        Store(tmp_path / "local"),
        generator(0, "test:kills"),
    )
    execute(runs, local, Here())
    command = [
        sys.executable, "-c", "from pairbench.results.url import lock; lock.EXPIRES = 0.0; "
        "from pairbench.cli.main import main; main()",
        "run", "--algorithms", "grpo", "--tasks", "preference-bandit", "--seeds", "0-15",
        "--budget-steps", "20480", "--evaluations", "2", "--probes", "0", "--set", "grpo.epochs=1",
        "--workers", "1", "--results", url,
    ]  # fmt: skip
    kills, before, status = 0, 0, None

    def sent() -> int:
        return sum(1 for _ in place.glob("preference-bandit/*/*.json"))

    while status is None:
        more = int(stream.integers(1, 3))
        driver = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_for(lambda: sent() >= before + more or driver.poll() is not None)  # noqa: B023 (called at once)
        try:
            status = driver.wait(float(stream.uniform(0.0, 0.2)))
        except subprocess.TimeoutExpired:
            for pid in (driver.pid, *children(driver.pid)):
                os.kill(pid, signal.SIGKILL)
            driver.wait()
            kills += 1
            shutil.rmtree(tmp_path / "one")
            records, problems = load_records(place) if place.exists() else ([], [])
            assert problems == []
            assert len(records) >= before
            before = len(records)
    print(f"\n{kills} machines lost")
    assert status == 0
    assert kills
    same(Store(place), local, runs)


HOSTILE = (
    "../../etc/passwd.json",
    f"task/..{os.sep}..{os.sep}{RUN}.json",
    f".hidden/grpo/{RUN}.json",
    f"task/.ssh/{RUN}.json",
    f"task/grpo/{RUN}.json.exe",
    f".runs/../{RUN}.json",
    f"/etc/grpo/{RUN}.json",
    f"a/b/c/{RUN}.json",
    f"task/gr\npo/{RUN}.json",
    f"{'x' * 300}/grpo/{RUN}.json",
    f"{'ü' * 150}/grpo/{RUN}.json",
    ".lock",
    "",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_of_an_object_leads_anywhere(name: str) -> None:
    assert objects.size_limit(name) is None


def test_of_a_strangers_bucket_only_records_are_fetched(
    url: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PairBenchError):  # there is none
        load_records(url)
    place.mkdir(parents=True)
    with pytest.raises(PairBenchError, match="there are no results at file://"):
        load_records(url)
    good = Store(place).write(record("grpo", 0))
    (place / "task" / "grpo").mkdir(parents=True)
    (place / "task" / "grpo" / f"{RUN}.py").write_text("import os")
    with (place / "task" / "grpo" / f"{RUN}.json").open("wb") as file:
        file.truncate(2**33)  # a hole, which takes no room
    (place / ".checkpoints").mkdir()
    (place / ".checkpoints" / f"{RUN}.safetensors").write_bytes(b"0" * 1000)
    records, problems = load_records(url)
    assert records == [good]
    (problem,) = problems
    assert problem.startswith(f"{url}/task/grpo/{RUN}.json is not used: it has 8589934592 bytes")
    files = [path for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert [path.name for path in files] == [f"{good.identity[:16]}.json"]
    Store(place).path(good).unlink()  # what is gone there, is gone here
    Store(place).write(other := record("grpo", 1))
    assert load_records(url).records == [other]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("s3://me:secret@bucket/x", "must hold no user name, password, query or fragment"),
        ("s3://bucket/x?sig=secret", "must hold no user name, password, query or fragment"),
        ("ftp://host/x", "results cannot be kept at ftp:// urls"),
        ("memory://x", "results cannot be kept at memory:// urls"),
        ("s3://", "is no url that can be used"),
    ],
)
def test_urls_that_are_refused(bad: str, says: str, machine: Callable[[str], None]) -> None:
    with pytest.raises(PairBenchError) as error:
        open_store(bad)
    assert says in str(error.value)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unreachable_url_is_one_sentence_without_secrets(tmp_path: Path) -> None:
    given = {
        "AWS_ACCESS_KEY_ID": "AKIAsecret", "AWS_SECRET_ACCESS_KEY": "verysecret",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1", "XDG_CACHE_HOME": str(tmp_path),
    }  # fmt: skip
    done = subprocess.run(
        [
            sys.executable, "-m", "pairbench", "run", "--algorithms", "grpo", "--tasks",
            "preference-bandit", "--budget-steps", "100", "--results", "s3://bucket/prefix",
        ],
        env={**os.environ, **given}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("pairbench: s3://bucket/prefix cannot be used (")
    assert "secret" not in line


def test_what_the_environment_holds_of_secrets_is_told_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abc/def+ghi")
    error = OSError("PUT http://me:you@host/x said abc/def+ghi is wrong\nDebug source: more")
    assert objects._why(error) == "PUT http://***@host/x said *** is wrong"


def test_no_obstore_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, machine: Callable[[str], None]
) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(PairBenchError, match=r"need obstore: pip install 'pairbench\[s3\]'"):
        open_store("s3://bucket/prefix")
