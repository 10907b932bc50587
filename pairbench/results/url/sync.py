"""Results at a url: an object store's prefix, and the folders of this machine that stand in for it.

What a call writes goes to a working folder, and from there to the url as it comes: records when
they end, and from each run's own process its checkpoint, log and sign of life. An object is whole
or absent, and a finished record is put only where there is none (a conditional put, which S3,
Google's and Azure's stores and `file://` decide themselves). What cannot be sent stays in the
working folder, and the next call sends it. Readers have a folder of their own, which is brought up
to what the url holds. Credentials are those that the environment holds; none is kept.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlsplit

from pairbench.errors import PairBenchError
from pairbench.results.columns import MOST_BYTES
from pairbench.results.files import JSON_BYTES, set_aside, strict_json
from pairbench.results.heartbeat import heartbeat_path
from pairbench.results.layout import DRIVER, RUNS, folder_name
from pairbench.results.url.lock import Lease
from pairbench.text import printable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SEND = 10.0
"""Seconds between two looks at what has changed in a folder."""

TRIES = 3
"""Times that what could not be sent is tried again at the end of a call."""

AT_ONCE = 16
"""Objects that are fetched at a time."""

CHECKPOINT_BYTES = 2**36
"""The largest checkpoint that is fetched: weights and optimiser of a model of 5e9 parameters."""

SCHEMES = ("s3", "s3a", "gs", "az", "abfs", "abfss", "file")

RUN = "[0-9a-f]{16}"

RECORD = re.compile(rf"[^/.][^/]*/[^/.][^/]*/{RUN}(\.failed-\d{{1,6}})?\.json")
SIGN = re.compile(rf"\.runs/({RUN}|driver)\.json")
CHECKPOINT = re.compile(rf"\.checkpoints/{RUN}\.safetensors")

LARGEST: Sequence[tuple[re.Pattern[str], int]] = (
    (RECORD, JSON_BYTES),
    (re.compile(rf"[^/.][^/]*/[^/.][^/]*/{RUN}(\.texts)?\.parquet"), MOST_BYTES),
    (SIGN, JSON_BYTES),
    (re.compile(rf"\.runs/{RUN}\.jsonl"), JSON_BYTES),
    (CHECKPOINT, CHECKPOINT_BYTES),
)
"""What objects of ours are called, below the url, and the most bytes that one may have."""

SECRET = re.compile(r"key|secret|token|password|credential|signature", re.I)


class Unreachable(PairBenchError):
    """The url did not answer, or refused."""


class About(NamedTuple):
    """What a listing says of an object: its bytes, and the seconds (UTC) it was put at."""

    size: int
    moment: float


class Mirror:
    """An object store's prefix.

    Attributes:
        url: as it was given, without a slash at its end.
        folder: where a call works; it holds what it needs of the url, and what it has not sent.

    Args:
        url: of the prefix.
        new: that it may be a folder (`file://`) which is not there yet.

    Raises:
        PairBenchError: the url holds a password or is none that can be used, or the package that
            it needs is missing.
    """

    def __init__(self, url: str, new: bool = False) -> None:
        self.url = _checked(url)
        self._store = _open(self.url, new)
        name = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        self._home = home.absolute() / "pairbench" / "urls" / name
        self.folder = self._home / "work"
        with _disk(self._home):
            self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._later: deque[tuple[Callable[[str], None], str]] = deque()
        self._sending = threading.Lock()
        self._failed = float("-inf")  # monotonic seconds at which the url was last out of reach
        self._told: deque[str] = deque()
        self._there: frozenset[str] = frozenset()
        self._error: PairBenchError | None = None
        self._over = threading.Event()

    # what readers do

    def show(self) -> tuple[Path, list[str]]:
        """Returns a folder that holds what the url does, less checkpoints, and what was left out.

        Raises:
            PairBenchError: the url is out of reach, or holds no results.
        """
        there = {n: a for n, a in self.listing().items() if not CHECKPOINT.fullmatch(n)}
        folder = self._home / "read"
        if not any(RECORD.fullmatch(name) or SIGN.fullmatch(name) for name in there):
            raise PairBenchError(f"there are no results at {self.url}: run something first")
        with _disk(folder):
            folder.mkdir(exist_ok=True)
            for path in folder.rglob("*"):
                name = path.relative_to(folder).as_posix()
                if _most(name) is not None and name not in there:
                    path.unlink(missing_ok=True)
        return folder, self._fetch_all(there, folder)

    def listing(self, below: str = "") -> dict[str, About]:
        """Returns what objects of ours there are, by their names below the url.

        Raises:
            PairBenchError: the url is out of reach.
        """
        import obstore

        found = {}
        with self._reached():
            for page in obstore.list(self._store, below or None, chunk_size=1000):
                for one in page:
                    if _most(one["path"]) is not None:
                        about = About(one["size"], one["last_modified"].timestamp())
                        found[one["path"]] = about
        return found

    def about(self, name: str) -> About | None:
        """Returns what there is to say of one object, None if it is not there."""
        import obstore

        with self._reached(), suppress(FileNotFoundError):
            one = obstore.head(self._store, name)
            return About(one["size"], one["last_modified"].timestamp())
        return None

    def _fetch_all(self, names: Mapping[str, About], folder: Path) -> list[str]:
        """Brings a folder's files up to the url's; returns a sentence for each too large."""
        wanted = {n: a for n, a in names.items() if not _has(folder / n, a)}
        large = {n: a for n, a in wanted.items() if a.size > (_most(n) or 0)}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            jobs = [
                pool.submit(self._fetch, name, about, folder)
                for name, about in wanted.items()
                if name not in large
            ]
            try:
                for job in jobs:
                    with suppress(FileNotFoundError):  # gone since it was listed
                        job.result()
            finally:
                pool.shutdown(cancel_futures=True)  # where one fails, the others would
        return [
            f"{self.url}/{name} is not used: it has {about.size} bytes, more than {_most(name)}"
            for name, about in large.items()
        ]

    def _fetch(self, name: str, about: About, folder: Path) -> None:
        """Writes an object to a folder, whole or not at all, with the time it was put at.

        Raises:
            FileNotFoundError: it is not there.
            PairBenchError: the url is out of reach, or the folder cannot be written.
        """
        import obstore

        target = folder / name
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        with _disk(folder), self._reached():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                left = about.size
                with temporary.open("wb") as file:
                    for chunk in obstore.get(self._store, name).stream():
                        left -= len(chunk)
                        if left < 0:  # it has grown since, and could grow without end
                            raise FileNotFoundError
                        file.write(chunk)
                os.utime(temporary, (about.moment, about.moment))
                ours = folder == self.folder and RECORD.fullmatch(name)
                if ours and _differ(target, temporary):
                    aside = set_aside(target)
                    self._told.append(f"{self.url}/{name} was there first: ours is now {aside}")
                os.replace(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)

    # what the one writing call does

    @contextmanager
    def session(self) -> Iterator[None]:
        """Holds the url for one writing call; the working folder has its records, and no other.

        Raises:
            PairBenchError: another call holds it, it is out of reach, or at the end, something
                could not be sent.
        """
        lease = Lease(self._store, self.url, self.folder / ".lease.json")
        with _disk(self.folder), self._reached():
            lease.take()
        self._over.clear()
        thread = threading.Thread(target=self._tend, args=(lease,), daemon=True)
        try:
            thread.start()  # first, as there may be much to fetch and to send
            self._begin()
            yield
            self._finish()
        finally:
            self._over.set()
            thread.join(SEND)  # it may be waiting for an answer that does not come
            with suppress(PairBenchError, OSError), self._reached():
                lease.release()

    def told(self) -> list[str]:
        """Returns what a user should know that has happened since the last call.

        Raises:
            PairBenchError: this call must not go on, as another one has taken the url over.
        """
        if self._error is not None:
            raise self._error
        return [self._told.popleft() for _ in range(len(self._told))]

    def held(self, path: Path) -> bool:
        """Whether the url had a file when the session began."""
        return path.relative_to(self.folder).as_posix() in self._there

    def send(self, path: Path) -> None:
        """Sends a file of the working folder, now or, where the url is out of reach, later.

        Raises:
            PairBenchError: it is a record, and the url holds a finished one in its place.
        """
        self._queue(self._put, path)

    def remove(self, path: Path) -> None:
        """Removes what the url holds of a file, once all that was sent before is there."""
        self._queue(self._delete, path)

    def _queue(self, act: Callable[[str], None], path: Path) -> None:
        self._later.append((act, path.relative_to(self.folder).as_posix()))
        if time.monotonic() - self._failed >= SEND:
            with suppress(Unreachable):
                self._flush(wait=False)

    def _flush(self, wait: bool = True) -> None:
        """Does what is to be done at the url, in its order; another thread may be at it.

        Raises:
            PairBenchError: it is out of reach; what is left is done later.
        """
        if not self._sending.acquire(blocking=wait):
            return
        try:
            while self._later:
                act, name = self._later[0]
                try:
                    act(name)
                except Unreachable as error:
                    if self._failed == float("-inf"):
                        self._told.append(f"{error}: what ends meanwhile is kept and sent later")
                    self._failed = time.monotonic()
                    raise
                except PairBenchError:
                    self._later.popleft()
                    raise
                self._later.popleft()
            self._failed = float("-inf")
        finally:
            self._sending.release()

    def _put(self, name: str) -> None:
        import obstore

        path = self.folder / name
        record = RECORD.fullmatch(name) is not None
        with self._reached(), suppress(FileNotFoundError):  # removed since
            try:
                obstore.put(self._store, name, path, mode="create" if record else "overwrite")
            except obstore.exceptions.AlreadyExistsError:
                there = self._record(name)
                if there == path.read_bytes():  # by a try whose answer was lost
                    return
                if there is not None and _status(there) == "finished":
                    raise PairBenchError(
                        f"{self.url}/{name} holds a finished run, which is never overwritten"
                    ) from None
                if there is None or _status(there) is None:
                    obstore.rename(self._store, name, f"{name}.damaged-{time.time_ns()}")
                obstore.put(self._store, name, path)

    def _dated(self, name: str, before: tuple[int, ...]) -> tuple[int, ...]:
        """Gives a file that was put the url's time, so that nobody fetches it back from there.

        Returns its signature, or that of `before` if another file has taken its place.
        """
        path, about = self.folder / name, self.about(name)
        with suppress(FileNotFoundError):
            if about is not None and _signature(path) == before:
                os.utime(path, (about.moment, about.moment))
                now = _signature(path)
                return now if now[:2] == before[:2] else before
        return before  # it has changed since, and is sent again

    def _record(self, name: str) -> bytes | None:
        """The bytes of a record at the url, None if they are too many."""
        import obstore

        got = obstore.get(self._store, name)
        return bytes(got.bytes()) if got.meta["size"] <= JSON_BYTES else None

    def _delete(self, name: str) -> None:
        import obstore

        with self._reached(), suppress(FileNotFoundError):
            obstore.delete(self._store, name)

    def _begin(self) -> None:
        """Fetches the url's records, and sends what an earlier call could not."""
        there = self.listing()
        self._there = frozenset(there)
        records = {name: about for name, about in there.items() if RECORD.fullmatch(name)}
        self._told.extend(self._fetch_all(records, self.folder))
        ours = {
            path.relative_to(self.folder).as_posix(): path
            for path in self.folder.rglob("*")
            if path.is_file()
        }
        ended = {name.rpartition("/")[2].removesuffix(".json") for name in records}
        # a record last: with it, its series and texts are there
        for name in sorted(ours, key=lambda name: RECORD.fullmatch(name) is not None):
            if _most(name) is None or SIGN.fullmatch(name):
                continue
            if CHECKPOINT.fullmatch(name) and ours[name].stem in ended:
                ours[name].unlink()
            elif name not in there or (
                CHECKPOINT.fullmatch(name) and ours[name].stat().st_mtime > there[name].moment
            ):
                self.send(ours[name])
        for name in there:  # of calls that were killed between the two
            if CHECKPOINT.fullmatch(name) and Path(name).stem in ended:
                self.remove(self.folder / name)

    def _tend(self, lease: Lease) -> None:
        """Keeps the lease, tells of this call's runs, sends what waits, fetches signs of life."""
        grid = f"{RUNS}/{DRIVER}"
        while not self._over.wait(SEND):
            try:
                with self._reached():
                    lease.renew()
                if (self.folder / grid).exists():
                    self._put(grid)
                self._flush()
                signs = self.listing(RUNS)
                fresh = {n: a for n, a in signs.items() if SIGN.fullmatch(n) and n != grid}
                self._fetch_all(
                    {n: a for n, a in fresh.items() if not _later(self.folder / n, a)}, self.folder
                )
            except (Unreachable, OSError):  # the next look tries again
                continue
            except PairBenchError as error:
                self._error = error
                return

    def _finish(self) -> None:
        """Sends what is left.

        Raises:
            PairBenchError: the url is out of reach; what is left stays.
        """
        for number in range(TRIES):
            try:
                self._delete(f"{RUNS}/{DRIVER}")
                self._flush()
                return
            except Unreachable as error:
                why = error
                if number + 1 < TRIES:
                    time.sleep(2.0**number)
        left = {name for act, name in self._later if act == self._put}
        raise PairBenchError(
            f"{why}: {len(left)} files are kept in {self.folder}, and the same command sends them"
        )

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Turns what the store or its network says into one sentence, without secrets."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (FileNotFoundError, PairBenchError):
            raise
        except (BaseError, ConnectionError, TimeoutError, ValueError) as error:
            raise Unreachable(f"{self.url} cannot be used ({_why(error)})") from None


class Courier:
    """Carries one run's checkpoint, log and sign of life between a node's folder and the url.

    It begins with what the url holds of the checkpoint and the log, where that is later than what
    is here, and removes the sign of life at the end.

    Attributes:
        checkpoint: the file that the run is to use.
        log: likewise.
        warning: why nothing could be fetched, if so; the run goes on from what is here.

    Raises:
        PairBenchError: the url cannot be used at all, as its package is missing here.
    """

    def __init__(self, url: str, checkpoint: str, log: str) -> None:
        self._mirror = Mirror(url)
        self.checkpoint = self._mirror.folder / ".checkpoints" / checkpoint
        self.log = self._mirror.folder / RUNS / log
        self._sent: dict[Path, tuple[int, ...]] = {}
        self.warning: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def __enter__(self) -> Self:
        try:
            self._fetch()
        except PairBenchError as error:  # of the url for now, or of the disk: no reason to stop
            self.warning = str(error)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        with suppress(PairBenchError):
            self._look(self.log, *([] if kind is None else [self.checkpoint]))
            self._mirror._delete(f"{RUNS}/{heartbeat_path(self.log).name}")
        if kind is None and self.checkpoint in self._sent:
            self.checkpoint.unlink(missing_ok=True)  # the url's goes when the record is there

    def _fetch(self) -> None:
        for path in (self.checkpoint, self.log):
            name = path.relative_to(self._mirror.folder).as_posix()
            about = self._mirror.about(name)
            if about is not None and not _later(path, about):
                self._mirror._fetch_all({name: about}, self._mirror.folder)
                self._sent[path] = _signature(path)

    def _carry(self) -> None:
        while not self._over.wait(SEND):
            with suppress(PairBenchError):  # the next look tries again
                self._look(self.checkpoint, self.log, heartbeat_path(self.log))

    def _look(self, *paths: Path) -> None:
        """Sends those of the files that have changed since they were sent."""
        for path in paths:
            now = _signature(path)
            if now and now != self._sent.get(path):
                name = path.relative_to(self._mirror.folder).as_posix()
                self._mirror._put(name)
                if path == self.checkpoint:
                    now = self._mirror._dated(name, now)
                self._sent[path] = now


def _checked(url: str) -> str:
    """Returns a url without a slash at its end.

    Raises:
        PairBenchError: it holds what may be a secret, or it is none.
    """
    try:
        parts = urlsplit(url)
        whole = parts.scheme and (parts.netloc or parts.path.strip("/"))
    except ValueError:
        whole = ""
    if not whole:
        raise PairBenchError(
            "--results is no url that can be used: write it as s3://bucket/prefix or gs://..."
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise PairBenchError(
            "the url of --results must hold no user name, password, query or fragment: "
            "give credentials in the environment, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return url.rstrip("/")


def _open(url: str, new: bool) -> ObjectStore:
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise PairBenchError(
            f"results cannot be kept at {scheme}:// urls: "
            f"give a folder, or a url that begins with one of {', '.join(SCHEMES)}"
        )
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise PairBenchError(
            f"results at {url} need obstore: pip install 'pairbench[s3]'"
        ) from error
    clear = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")  # options hide it
    given: dict[str, Any] = {
        "client_options": {
            "allow_http": clear,
            "connect_timeout": "10s",
            "read_timeout": "60s",
            "timeout": "1h",
        },
        "retry_config": {"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
    }
    if scheme == "file":
        given = {"mkdir": new}
    try:
        return from_url(url, **given)
    except (BaseError, OSError, ValueError) as error:
        raise PairBenchError(
            f"{url} cannot be used ({_why(error)}): write it as s3://bucket/prefix, and give what "
            "the store asks for in the environment"
        ) from None


def _most(name: str) -> int | None:
    """The most bytes that an object of that name may have; None if it is none of ours."""
    parts = name.split("/")
    inside = all(part in (RUNS, ".checkpoints") or part == folder_name(part) for part in parts)
    if not inside or max(len(part.encode()) for part in parts) > 200:
        return None
    return next((most for pattern, most in LARGEST if pattern.fullmatch(name)), None)


def _has(path: Path, about: About) -> bool:
    """Whether a file is the one that an object was put from, or fetched to."""
    try:
        now = path.stat()
    except OSError:
        return False
    return now.st_size == about.size and abs(now.st_mtime - about.moment) < 1e-3


def _later(path: Path, about: About) -> bool:
    try:
        return path.stat().st_mtime >= about.moment
    except OSError:
        return False


def _differ(path: Path, other: Path) -> bool:
    return path.exists() and path.read_bytes() != other.read_bytes()


def _signature(path: Path) -> tuple[int, ...]:
    try:
        now = path.stat()
    except OSError:
        return ()
    return now.st_ino, now.st_size, now.st_mtime_ns


def _status(record: bytes) -> str | None:
    """The status that a record's bytes name; None if they are none."""
    try:
        return str(strict_json(record)["status"])
    except (ValueError, TypeError, KeyError):
        return None


def _why(error: Exception) -> str:
    """The first line of an error, without what the environment holds of secrets."""
    text = printable(next(iter(str(error).splitlines()), type(error).__name__))
    for name, value in os.environ.items():
        if SECRET.search(name) and len(value) > 3:
            text = text.replace(value, "***")
    return re.sub(r"//[^/@\s]+@", "//***@", text)[:300].strip()


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Turns what this machine's disk refuses into one sentence."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        free = shutil.disk_usage(folder.anchor).free
        raise PairBenchError(
            f"the working folder {folder} cannot be written ({error.strerror or error}; "
            f"{free // 2**20} MiB free): make room, or set XDG_CACHE_HOME to another disk"
        ) from error
