"""The lock of a url, for one writing call at a time: numbered objects, the highest of which counts.

A call holds the url while its lock, the object of the highest number, is put again every few
seconds. A lock that has not been for `EXPIRES` seconds, by the store's own clock, or that says it
is over, is followed by that of the next number, which a conditional put gives to one call only.
Whoever finds a higher number than its own has lost the url, and stops.
"""

from __future__ import annotations

import json
import os
import re
import socket
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairbench.errors import PairBenchError
from pairbench.results.files import JSON_BYTES, atomic_write, read_json_object, strict_json

if TYPE_CHECKING:
    from obstore.store import ObjectStore

EXPIRES = 60.0
"""Seconds without being put again after which a call has lost the url to whoever asks."""

FOLDER = ".url-lock"
NAME = re.compile(r"\.url-lock/(\d{8})\.json")


class HeldByAnother(PairBenchError):
    """Another call holds the url."""


class UrlLock:
    """The right to write at a url.

    Args:
        store: the url's.
        url: for sentences.
        mine: file of this machine that says which lock its last call held. As a lock of the
            folder keeps two calls apart that have the same file, such a lock has no holder.
    """

    def __init__(self, store: ObjectStore, url: str, mine: Path) -> None:
        self._store, self._url, self._mine = store, url, mine
        self._number = 0
        self._state = {"token": uuid.uuid4().hex, "host": socket.gethostname(), "pid": os.getpid()}

    def acquire(self) -> None:
        """Takes the lock.

        Raises:
            HeldByAnother: another call holds it.
        """
        import obstore

        names = self._names()
        last = max(names, default=0)
        if last:
            state = self._read(last)
            if state and not state.get("over") and not self._was_ours(state):
                self._refuse_if_fresh(last, state)
        try:
            self._put(last + 1, mode="create")
        except obstore.exceptions.AlreadyExistsError:
            raise self._held(self._read(last + 1)) from None
        self._number = last + 1
        atomic_write(self._mine, json.dumps(self._state).encode())
        for number in names:
            with suppress(FileNotFoundError):
                obstore.delete(self._store, self._name(number))

    def renew(self) -> None:
        """Says that its holder lives.

        Raises:
            HeldByAnother: another call has followed.
        """
        later = [number for number in self._names() if number > self._number]
        if later:
            raise self._held(self._read(max(later)))
        self._put(self._number)

    def release(self) -> None:
        """Says that it is over, unless another call has followed."""
        if max(self._names(), default=0) <= self._number:
            self._state["over"] = True
            self._put(self._number)
        self._mine.unlink(missing_ok=True)

    def _names(self) -> list[int]:
        import obstore

        return [
            int(found[1])
            for page in obstore.list(self._store, FOLDER)
            for one in page
            if (found := NAME.fullmatch(one["path"]))
        ]

    def _refuse_if_fresh(self, number: int, state: dict[str, Any]) -> None:
        """Compares two of the store's own times, whatever this machine's clock shows."""
        import obstore

        clock = f"{FOLDER}/clock"
        obstore.put(self._store, clock, b"")
        now = obstore.head(self._store, clock)["last_modified"]
        with suppress(FileNotFoundError):  # followed meanwhile
            then = obstore.head(self._store, self._name(number))["last_modified"]
            if (now - then).total_seconds() < EXPIRES:
                raise self._held(state)

    def _was_ours(self, state: dict[str, Any]) -> bool:
        before = read_json_object(self._mine) or {}  # on a shared disk it may be another machine's
        here = before.get("host") == self._state["host"]
        return here and before.get("token") == state.get("token")

    def _held(self, state: dict[str, Any] | None) -> HeldByAnother:
        about = state or {}
        who = f"{about.get('pid', 'of unknown number')} on {about.get('host', 'another machine')}"
        return HeldByAnother(
            f"results {self._url} are in use by process {' '.join(who.split())[:120]}: wait for it "
            f"to end (or, if it was killed, {EXPIRES:g} s), or give another --results"
        )

    def _read(self, number: int) -> dict[str, Any] | None:
        import obstore

        try:
            got = obstore.get(self._store, self._name(number))
            state = strict_json(bytes(got.bytes())) if got.meta["size"] < JSON_BYTES else None
        except (FileNotFoundError, ValueError):
            return None
        return state if isinstance(state, dict) else None

    def _put(self, number: int, mode: str = "overwrite") -> None:
        import obstore

        put: Any = obstore.put
        put(self._store, self._name(number), json.dumps(self._state).encode(), mode=mode)

    @staticmethod
    def _name(number: int) -> str:
        return f"{FOLDER}/{number:08}.json"
