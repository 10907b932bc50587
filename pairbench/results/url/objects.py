"""The objects below a url, in an object store: listed, fetched, put and removed.

An object is whole or absent. A record is put only where there is none (a conditional put, which
S3, Google's and Azure's stores and `file://` decide themselves). What others put there is data:
only objects named as ours are fetched, up to a size. Credentials are those that the environment
holds; none is kept.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from pairbench.errors import PairBenchError
from pairbench.results.files import JSON_BYTES, strict_json
from pairbench.results.layout import RUNS, folder_name
from pairbench.results.parquet import MOST_BYTES
from pairbench.secrets import refuse_secrets, shown
from pairbench.text import printable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SYNC = 10.0
"""Seconds between two looks at what has changed in a folder."""

AT_ONCE = 16
"""Objects that are fetched at a time."""

CHECKPOINT_BYTES = 2**36
"""The largest checkpoint that is fetched: weights and optimiser of a model of 5e9 parameters."""

SCHEMES = ("s3", "s3a", "gs", "az", "abfs", "abfss", "file")

RUN = "[0-9a-f]{16}"

RECORD = re.compile(rf"[^/.][^/]*/[^/.][^/]*/{RUN}(\.failed-\d{{1,6}})?\.json")
HEARTBEAT = re.compile(rf"\.runs/({RUN}|driver)\.json")
CHECKPOINT = re.compile(rf"\.checkpoints/{RUN}\.safetensors")

LARGEST: Sequence[tuple[re.Pattern[str], int]] = (
    (RECORD, JSON_BYTES),
    (re.compile(rf"[^/.][^/]*/[^/.][^/]*/{RUN}(\.texts)?\.parquet"), MOST_BYTES),
    (HEARTBEAT, JSON_BYTES),
    (re.compile(rf"\.runs/{RUN}\.jsonl"), JSON_BYTES),
    (CHECKPOINT, CHECKPOINT_BYTES),
)
"""What objects of ours are called, below the url, and the most bytes that one may have."""


class Unreachable(PairBenchError):
    """The url did not answer, or refused."""


class Stat(NamedTuple):
    """What a listing says of an object: its bytes, and the seconds (UTC) it was put at."""

    size: int
    moment: float


class Objects:
    """The objects below a url.

    Attributes:
        url: as it was given, without a slash at its end.
        store: obstore's own.
        home: folder of this machine for what is fetched from there, and for what waits to be sent.

    Args:
        url: of the prefix.
        new: that it may be a folder (`file://`) which is not there yet.

    Raises:
        PairBenchError: the url holds a password or is none that can be used, or the package that
            it needs is missing; from every method, where the url is out of reach.
    """

    def __init__(self, url: str, new: bool = False) -> None:
        self.url = _checked(url)
        self.store = _open(self.url, new)
        name = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        self.home = cache.absolute() / "pairbench" / "urls" / name
        with on_disk(self.home):
            self.home.mkdir(parents=True, exist_ok=True, mode=0o700)

    def listing(self, below: str = "") -> dict[str, Stat]:
        """Returns what objects of ours there are, by their names below the url."""
        import obstore

        found = {}
        with self.reached():
            for page in obstore.list(self.store, below or None, chunk_size=1000):
                for one in page:
                    if size_limit(one["path"]) is not None:
                        about = Stat(one["size"], one["last_modified"].timestamp())
                        found[one["path"]] = about
        return found

    def stat(self, name: str) -> Stat | None:
        """Returns what there is to say of one object, None if it is not there."""
        import obstore

        with self.reached(), suppress(FileNotFoundError):
            one = obstore.head(self.store, name)
            return Stat(one["size"], one["last_modified"].timestamp())
        return None

    def fetch_all(
        self,
        names: Mapping[str, Stat],
        folder: Path,
        replacing: Callable[[str, Path], None] = lambda name, fetched: None,
    ) -> list[str]:
        """Brings a folder's files up to the objects; returns a sentence for each too large.

        Args:
            names: of the objects, with what a listing says of them.
            folder: for the files.
            replacing: called with an object's name and the file that is about to take its place.

        Raises:
            PairBenchError: the folder cannot be written.
        """
        wanted = {n: a for n, a in names.items() if not same_file(folder / n, a)}
        large = {n: a for n, a in wanted.items() if a.size > (size_limit(n) or 0)}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            jobs = [
                pool.submit(self._fetch, name, about, folder, replacing)
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
            f"{self.url}/{name} is not used: "
            f"it has {about.size} bytes, more than {size_limit(name)}"
            for name, about in large.items()
        ]

    def _fetch(
        self, name: str, about: Stat, folder: Path, replacing: Callable[[str, Path], None]
    ) -> None:
        """Writes an object to a folder, whole or not at all, with the time it was put at."""
        import obstore

        target = folder / name
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        with on_disk(folder), self.reached():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                left = about.size
                with temporary.open("wb") as file:
                    for chunk in obstore.get(self.store, name).stream():
                        left -= len(chunk)
                        if left < 0:  # it has grown since, and could grow without end
                            raise FileNotFoundError
                        file.write(chunk)
                os.utime(temporary, (about.moment, about.moment))
                replacing(name, temporary)
                os.replace(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)

    def put(self, name: str, path: Path) -> None:
        """Puts a file, unless it is gone.

        Raises:
            PairBenchError: the file is a record, and a finished one is in its place.
        """
        import obstore

        record = RECORD.fullmatch(name) is not None
        with self.reached(), suppress(FileNotFoundError):  # removed since
            try:
                obstore.put(self.store, name, path, mode="create" if record else "overwrite")
            except obstore.exceptions.AlreadyExistsError:
                there = self._record(name)
                if there == path.read_bytes():  # by a try whose answer was lost
                    return
                if there is not None and _status(there) == "finished":
                    raise PairBenchError(
                        f"{self.url}/{name} holds a finished run, which is never overwritten"
                    ) from None
                if there is None or _status(there) is None:
                    obstore.rename(self.store, name, f"{name}.aside-{time.time_ns()}")
                obstore.put(self.store, name, path)

    def _record(self, name: str) -> bytes | None:
        """The bytes of a record at the url, None if they are too many."""
        import obstore

        got = obstore.get(self.store, name)
        return bytes(got.bytes()) if got.meta["size"] <= JSON_BYTES else None

    def delete(self, name: str) -> None:
        """Removes an object, if it is there."""
        import obstore

        with self.reached(), suppress(FileNotFoundError):
            obstore.delete(self.store, name)

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Turns what the store or its network says into one sentence, without secrets."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (FileNotFoundError, PairBenchError):
            raise
        except (BaseError, ConnectionError, TimeoutError, ValueError) as error:
            raise Unreachable(f"{self.url} cannot be used ({_why(error)})") from None


def download(url: str) -> tuple[Path, list[str]]:
    """Returns a folder that holds what a url does, less checkpoints, and what was left out.

    Raises:
        PairBenchError: the url is out of reach, or holds no results.
    """
    objects = Objects(url)
    there = {n: a for n, a in objects.listing().items() if not CHECKPOINT.fullmatch(n)}
    folder = objects.home / "read"
    if not any(RECORD.fullmatch(name) or HEARTBEAT.fullmatch(name) for name in there):
        raise PairBenchError(f"there are no results at {objects.url}: run something first")
    with on_disk(folder):
        folder.mkdir(exist_ok=True)
        for path in folder.rglob("*"):
            name = path.relative_to(folder).as_posix()
            if size_limit(name) is not None and name not in there:
                path.unlink(missing_ok=True)
    return folder, objects.fetch_all(there, folder)


def _checked(url: str) -> str:
    """Returns a url without a slash at its end, unless it holds what may be a secret."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme and (parts.netloc or parts.path.strip("/"))
    except ValueError:
        whole = ""
    if not whole:
        raise PairBenchError(
            "--results is no url that can be used: write it as s3://bucket/prefix or gs://..."
        )
    refuse_secrets(
        url,
        "the url of --results",
        "give credentials in the environment, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
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


def size_limit(name: str) -> int | None:
    """The most bytes that an object of that name may have; None if it is none of ours."""
    parts = name.split("/")
    inside = all(part in (RUNS, ".checkpoints") or part == folder_name(part) for part in parts)
    if not inside or max(len(part.encode()) for part in parts) > 200:
        return None
    return next((most for pattern, most in LARGEST if pattern.fullmatch(name)), None)


def same_file(path: Path, about: Stat) -> bool:
    """Whether a file is the one that an object was put from, or fetched to."""
    try:
        now = path.stat()
    except OSError:
        return False
    return now.st_size == about.size and abs(now.st_mtime - about.moment) < 1e-3


def is_later(path: Path, about: Stat) -> bool:
    """Whether a file is there and no older than an object."""
    try:
        return path.stat().st_mtime >= about.moment
    except OSError:
        return False


def _status(record: bytes) -> str | None:
    """The status that a record's bytes name; None if they are none."""
    try:
        return str(strict_json(record)["status"])
    except (ValueError, TypeError, KeyError):
        return None


def _why(error: Exception) -> str:
    """The first line of an error, without what the environment holds of secrets."""
    text = next(iter(str(error).splitlines()), type(error).__name__)
    return printable(shown(text))[:300].strip()


@contextmanager
def on_disk(folder: Path) -> Iterator[None]:
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
