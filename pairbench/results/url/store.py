"""Results at a url: a store that works in a folder of this machine and sends what ends there.

What a call writes goes to the working folder first, and to the url as it comes. What cannot be sent
stays in the folder, and the next call sends it. One call at a time writes at a url; it holds the
url's lock.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pairbench.errors import PairBenchError
from pairbench.results.files import set_aside
from pairbench.results.folder import Store
from pairbench.results.layout import DRIVER, RUNS
from pairbench.results.record import RunSpec
from pairbench.results.url import objects
from pairbench.results.url.lock import UrlLock
from pairbench.results.url.objects import (
    CHECKPOINT,
    HEARTBEAT,
    RECORD,
    Objects,
    Unreachable,
    is_later,
    on_disk,
    size_limit,
)

TRIES = 3
"""Times that what could not be sent is tried again at the end of a call."""


class UrlStore(Store):
    """A store whose records are at a url.

    Args:
        url: as s3://bucket/prefix.

    Raises:
        PairBenchError: the url cannot be used.
    """

    def __init__(self, url: str) -> None:
        self.objects = Objects(url, new=True)
        super().__init__(self.objects.home / "work")
        self.name = self.url = self.objects.url
        self._waiting: deque[tuple[Callable[[str], None], str]] = deque()
        self._sending = threading.Lock()
        self._failed = float("-inf")  # monotonic seconds at which the url was last out of reach
        self._news: deque[str] = deque()
        self._there: frozenset[str] = frozenset()  # what the url had when the lock was taken
        self._error: PairBenchError | None = None
        self._over = threading.Event()

    def forget(self, spec: RunSpec, checkpoint: bool = True) -> None:
        """Removes the same at the url, once all that was sent before is there."""
        super().forget(spec, checkpoint)
        for path in self._of_run(spec, checkpoint):
            if checkpoint or self._object(path) in self._there:
                self._do(self.objects.delete, self._object(path))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds folder and url for one writing call; the folder then has the url's records.

        Raises:
            PairBenchError: another call holds one of them, the url is out of reach, or at the end,
                something could not be sent.
        """
        lock = UrlLock(self.objects.store, self.name, self.root / ".url-lock.json")
        with super().lock():
            with on_disk(self.root), self.objects.reached():
                lock.acquire()
            self._over.clear()
            thread = threading.Thread(target=self._keep_in_step, args=(lock,), daemon=True)
            try:
                thread.start()  # first, as there may be much to fetch and to send
                self._begin()
                yield
                self._finish()
            finally:
                self._over.set()
                thread.join(objects.SYNC)  # it may be waiting for an answer that does not come
                with suppress(PairBenchError, OSError), self.objects.reached():
                    lock.release()

    def news(self) -> list[str]:
        """Returns what a user should know that has happened since the last call.

        Raises:
            PairBenchError: this call must not go on, as another one has taken the url over.
        """
        if self._error is not None:
            raise self._error
        return [self._news.popleft() for _ in range(len(self._news))]

    def _object(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _put(self, name: str) -> None:
        self.objects.put(name, self.root / name)

    def _send(self, path: Path) -> None:
        """Sends a file, now or, where the url is out of reach, later.

        Raises:
            PairBenchError: the url holds a finished record in its place.
        """
        self._do(self._put, self._object(path))

    def _do(self, act: Callable[[str], None], name: str) -> None:
        """Does it after all that waits before it; where the url is out of reach, later."""
        self._waiting.append((act, name))
        if time.monotonic() - self._failed >= objects.SYNC:
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
            while self._waiting:
                act, name = self._waiting[0]
                try:
                    act(name)
                except Unreachable as error:
                    if self._failed == float("-inf"):
                        self._news.append(f"{error}: what ends meanwhile is kept and sent later")
                    self._failed = time.monotonic()
                    raise
                except PairBenchError:
                    self._waiting.popleft()
                    raise
                self._waiting.popleft()
            self._failed = float("-inf")
        finally:
            self._sending.release()

    def _replacing(self, name: str, fetched: Path) -> None:
        """Keeps a record of ours beside the url's own, which takes its place."""
        ours = self.root / name
        if RECORD.fullmatch(name) and ours.exists() and ours.read_bytes() != fetched.read_bytes():
            aside = set_aside(ours)
            self._news.append(f"{self.name}/{name} was there first: ours is now {aside}")

    def _begin(self) -> None:
        """Fetches the url's records, and sends what an earlier call could not."""
        there = self.objects.listing()
        self._there = frozenset(there)
        records = {name: about for name, about in there.items() if RECORD.fullmatch(name)}
        self._news.extend(self.objects.fetch_all(records, self.root, self._replacing))
        ours = {self._object(path): path for path in self.root.rglob("*") if path.is_file()}
        ended = {name.rpartition("/")[2].removesuffix(".json") for name in records}
        # a record last: with it, its series and texts are there
        for name in sorted(ours, key=lambda name: RECORD.fullmatch(name) is not None):
            if size_limit(name) is None or HEARTBEAT.fullmatch(name):
                continue
            if CHECKPOINT.fullmatch(name) and ours[name].stem in ended:
                ours[name].unlink()
            elif name not in there or (
                CHECKPOINT.fullmatch(name) and ours[name].stat().st_mtime > there[name].moment
            ):
                self._send(ours[name])
        for name in there:  # of calls that were killed between the two
            if CHECKPOINT.fullmatch(name) and Path(name).stem in ended:
                self._do(self.objects.delete, name)

    def _keep_in_step(self, lock: UrlLock) -> None:
        """Keeps the lock, tells of this call's runs, sends what waits, fetches heartbeats."""
        driver = f"{RUNS}/{DRIVER}"
        while not self._over.wait(objects.SYNC):
            try:
                with self.objects.reached():
                    lock.renew()
                if (self.root / driver).exists():
                    self._put(driver)
                self._flush()
                fresh = {
                    name: about
                    for name, about in self.objects.listing(RUNS).items()
                    if HEARTBEAT.fullmatch(name) and name != driver
                    if not is_later(self.root / name, about)
                }
                self.objects.fetch_all(fresh, self.root)
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
                self.objects.delete(f"{RUNS}/{DRIVER}")
                self._flush()
                return
            except Unreachable as error:
                why = error
                if number + 1 < TRIES:
                    time.sleep(2.0**number)
        left = {name for act, name in self._waiting if act == self._put}
        raise PairBenchError(
            f"{why}: {len(left)} files are kept in {self.root}, and the same command sends them"
        )
