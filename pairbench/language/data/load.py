"""Where preference data come from: HH-RLHF, UltraFeedback, our own toy dialogues, or any file.

Sources: Bai et al. 2022 (arXiv 2204.05862) for HH-RLHF, Cui et al. 2023 (arXiv 2310.01377) for
UltraFeedback, binarised as in Tunstall et al. 2023 (arXiv 2310.16944).
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import ssl
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from pairbench.errors import PairBenchError
from pairbench.language.data import toy
from pairbench.language.data.forms import RawPair, blank
from pairbench.language.data.pairs import Preferences, clean
from pairbench.results.files import read_untrusted
from pairbench.results.parquet import rows_of
from pairbench.text import did_you_mean

MOST_BYTES = 2**32
"""What a file of pairs may unpack to: twenty times UltraFeedback."""

DATA_VARIABLE = "PAIRBENCH_DATA"
_SPACE = re.compile(r"\s*")
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


def load(dataset: str, data_dir: Path | None = None, *, online: bool = False) -> Preferences:
    """Loads and cleans a data set of preference pairs.

    Args:
        dataset: "hh-rlhf-helpful" (helpful-base and rejection-sampled), "hh-rlhf-harmless",
            "hh-rlhf" (both), "ultrafeedback", "toy-dialogue", or a .jsonl, .json, .csv (each also
            with .gz) or .parquet file of prompt, chosen and rejected, and optionally id, source,
            score_chosen and score_rejected. A prompt or side is text, a transcript in HH-RLHF's
            form, or a list of messages with role and content.
        data_dir: the folder to read instead of the hub; PAIRBENCH_DATA if None. It holds files of
            one schema (`hh_helpful_base_test.jsonl.gz`, ...), their originals
            (`original/hh-helpful-base-test.jsonl.gz`, ...) or a copy of the hub's repository.
        online: whether hh-rlhf-helpful and hh-rlhf include the online part.

    Raises:
        PairBenchError: unknown data set, no source within reach, a file that is missing or
            damaged, a row without a side, or nothing left after cleaning.
    """
    if online and dataset not in _WITH_ONLINE:
        raise PairBenchError(
            f"{dataset} has no online part; only {' and '.join(_WITH_ONLINE)} take online=True"
        )
    if dataset == "toy-dialogue":
        return Preferences.of(dataset, toy.dialogues(), {}, f"toy-{toy.VERSION}")
    if dataset in _PARTS:
        parts = (*_PARTS[dataset], *((_ONLINE,) if online else ()))
        folder = _folder(data_dir)
        if folder is None:
            rows, revision = _from_hub(dataset, parts), parts[0].revision
        else:
            rows, revision = _from_folder(folder, dataset, parts), "local"
        return _cleaned(dataset, rows, revision)
    path = Path(dataset)
    if _suffix(path) in SUFFIXES:
        name = path.name.removesuffix(".gz").removesuffix(_suffix(path))
        return _cleaned(name, _from_file(path, "file", name), "local")
    names = [*_PARTS, "toy-dialogue"]
    raise PairBenchError(
        f"no data set is named {dataset!r}{did_you_mean(dataset, names)} "
        f"(a file of pairs ends in {', '.join(SUFFIXES)})"
    )


def _cleaned(name: str, rows: Iterable[RawPair], revision: str) -> Preferences:
    pairs, dropped, repeated = clean(rows)
    return Preferences.of(name, pairs, dropped, revision, repeated)


# Where the data sets are.


@dataclass(frozen=True)
class _Part:
    """A part of a data set: where the hub has it, and the names its files have in a folder.

    Attributes:
        layouts: alternatives, each the patterns of files that must be there, by name of the split.
        optional: patterns that are read too where they are, of the layouts in the same order.
    """

    source: str
    hub: str
    revision: str
    hub_dir: str | None
    hub_splits: tuple[str, ...]
    prefix: str
    layouts: tuple[Mapping[str, str], ...]
    optional: tuple[Mapping[str, str], ...]


# Commits of the hub's repositories. The hub was out of reach where this was written, so no download
# has verified them: several independent public repositories pin the same two.
_HH_REVISION = "09be8c5bbc57cb3887f3a9732ad6aa7ec602a1fa"
_ULTRAFEEDBACK_REVISION = "3949bf5f8c17c394422ccfab0c31ea9c20bdeb85"


def _hh(source: str, folder: str) -> _Part:
    name = f"hh_{folder.replace('-', '_')}"
    stems = (name + "_", f"original/hh-{folder}-", f"hh-{folder}-")
    return _Part(
        source=source,
        hub="Anthropic/hh-rlhf",
        revision=_HH_REVISION,
        hub_dir=folder,
        hub_splits=("train", "test"),
        prefix=f"hh-{folder}",
        layouts=(
            *({"test": f"{stem}test.jsonl.gz"} for stem in stems),
            {split: f"{folder}/{split}.jsonl.gz" for split in ("train", "test")},
        ),
        optional=(*({"train": f"{stem}train.jsonl.gz"} for stem in stems), {}),
    )


_HELPFUL = (
    _hh("helpful-base", "helpful-base"),
    _hh("rejection-sampled", "helpful-rejection-sampled"),
)
_ONLINE = _hh("online", "helpful-online")
_HARMLESS = (_hh("harmless-base", "harmless-base"),)
_ULTRAFEEDBACK = _Part(
    source="ultrafeedback",
    hub="HuggingFaceH4/ultrafeedback_binarized",
    revision=_ULTRAFEEDBACK_REVISION,
    hub_dir=None,
    hub_splits=("train_prefs", "test_prefs"),
    prefix="uf",
    layouts=(
        {s: f"ultrafeedback_binarized_{s}.jsonl.gz" for s in ("train", "eval")},
        {s: f"original/ultrafeedback-{s}_clean.jsonl.gz" for s in ("train", "eval")},
        {s: f"ultrafeedback-{s}_clean.jsonl.gz" for s in ("train", "eval")},
        {s: f"data/{s}_prefs-*.parquet" for s in ("train", "test")},
    ),
    optional=({}, {}, {}, {}),
)
_PARTS: Mapping[str, tuple[_Part, ...]] = {
    "hh-rlhf-helpful": _HELPFUL,
    "hh-rlhf-harmless": _HARMLESS,
    "hh-rlhf": (*_HELPFUL, *_HARMLESS),
    "ultrafeedback": (_ULTRAFEEDBACK,),
}
_WITH_ONLINE = ("hh-rlhf-helpful", "hh-rlhf")


def _folder(data_dir: Path | None) -> Path | None:
    if data_dir is None and not os.environ.get(DATA_VARIABLE):
        return None
    folder = Path(os.environ[DATA_VARIABLE]) if data_dir is None else Path(data_dir)
    if not folder.is_dir():
        option = f"the environment's {DATA_VARIABLE}" if data_dir is None else "--data-dir"
        raise PairBenchError(f"{folder}, named by {option}, is not a folder")
    return folder


def _from_folder(folder: Path, dataset: str, parts: Iterable[_Part]) -> Iterator[RawPair]:
    for part in parts:
        for split, path in _files(folder, dataset, part):
            yield from _from_file(path, part.source, f"{part.prefix}-{split}", named=True)


def _files(folder: Path, dataset: str, part: _Part) -> list[tuple[str, Path]]:
    """Returns the files of a part in the first layout that is complete, with their splits."""
    missing = next(iter(part.layouts[0].values()))
    begun = False
    for layout, optional in zip(part.layouts, part.optional):
        found = {split: sorted(folder.glob(pattern)) for split, pattern in layout.items()}
        if all(found.values()):
            found |= {split: sorted(folder.glob(pattern)) for split, pattern in optional.items()}
            return [(split, path) for split, paths in found.items() for path in paths]
        if any(found.values()) and not begun:
            begun = True
            missing = next(layout[split] for split, paths in found.items() if not paths)
    raise PairBenchError(
        f"{dataset} needs {missing} in the folder {folder}, which lacks it: add the file, or unset "
        f"--data-dir and {DATA_VARIABLE} to read {part.hub} from the hub"
    )


def _from_hub(dataset: str, parts: Iterable[_Part]) -> Iterator[RawPair]:
    try:
        import datasets
        from huggingface_hub import constants
    except ImportError as error:
        raise PairBenchError(
            f"{dataset} comes from the hub through the package datasets, which is not installed: "
            f'pip install "pairbench[language]", or name a local folder by --data-dir or '
            f"{DATA_VARIABLE}"
        ) from error
    ways = (
        f"connect to the hub (with HF_HUB_OFFLINE=1 only what is in its cache is found), or name "
        f"a local folder of the data by --data-dir or {DATA_VARIABLE}"
    )
    # With no network, datasets would spend half a minute on retries for every part.
    if not constants.HF_HUB_OFFLINE and not _answers(constants.ENDPOINT):
        raise PairBenchError(
            f"{dataset} cannot be read, {constants.ENDPOINT} does not answer: {ways}"
        )
    for part in parts:
        try:
            tables = datasets.load_dataset(
                part.hub,
                data_dir=part.hub_dir,
                revision=part.revision,
                split=list(part.hub_splits),
            )
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            reason = " ".join(str(error).split())
            raise PairBenchError(
                f"{dataset} cannot be read, {part.hub} at {part.revision} did not load "
                f"({reason}): {ways}"
            ) from error
        for split, table in zip(part.hub_splits, tables):
            for n, fields in enumerate(table):
                where = f"{part.hub}, {split}, row {n + 1}"
                yield RawPair(fields, where, part.source, f"{part.prefix}-{split}-{n}")


def _answers(url: str, seconds: float = 5) -> bool:
    """Whether a server answers, be it with an error; the environment's proxies are used."""
    try:
        urlopen(Request(url, method="HEAD"), timeout=seconds).close()
    except HTTPError:
        return True
    except URLError as error:
        return isinstance(error.reason, ssl.SSLError)
    except OSError:
        return False
    return True


# Reading files.


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _from_file(path: Path, source: str, prefix: str, named: bool = False) -> Iterator[RawPair]:
    """Yields the rows of a file; `source` is all rows' if `named`, else that of rows with none."""
    for n, (where, fields) in enumerate(_records(path)):
        if not isinstance(fields, Mapping):
            raise PairBenchError(f"{where} is not an object with prompt, chosen and rejected")
        part, row_id = fields.get("source"), fields.get("id")
        yield RawPair(
            fields,
            where,
            source if named or blank(part) else str(part),
            f"{prefix}-{n}" if blank(row_id) else str(row_id),
            named,
        )


def records(path: Path) -> Iterator[tuple[str, Any]]:
    """Yields each record of a file, of one of `SUFFIXES` or with .gz, with where it stands.

    Raises:
        PairBenchError: it cannot be read, or is called otherwise.
    """
    if _suffix(path) not in SUFFIXES:
        raise PairBenchError(f"{path} is read by its name's end, one of {', '.join(SUFFIXES)}")
    return _records(path)


def hub_answers() -> bool:
    """Whether the hub is within reach."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE or _answers(constants.ENDPOINT)


def raw_pairs(path: Path) -> Iterator[RawPair]:
    """Yields the rows of a file as they were written."""
    return _from_file(path, "file", path.name)


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    """Yields each record of a file with where it stands."""
    suffix = _suffix(path)
    if suffix == ".parquet":
        yield from _parquet(path)
        return
    data = _read(path)
    if suffix == ".jsonl":
        for n, line in enumerate(data.split(b"\n"), 1):
            if line.strip():
                where = f"{path}, line {n}"
                yield where, _json(_decoded(line, where), where)
    elif suffix == ".json":
        for n, record in enumerate(_values(_decoded(data, str(path)), str(path)), 1):
            yield f"{path}, row {n}", record
    else:
        csv.field_size_limit(MOST_BYTES)
        text = io.StringIO(_decoded(data, str(path)), newline="")
        table = csv.DictReader(text, strict=True)
        try:
            for record in table:
                where = f"{path}, line {table.line_num}"
                if None in record:
                    raise PairBenchError(
                        f"{where} has more cells than the header: quote text that holds a comma"
                    )
                yield where, record
        except csv.Error as error:
            where = f"{path}, line {table.line_num}"
            raise PairBenchError(f"{where} is not valid CSV: {error}") from error


def _read(path: Path) -> bytes:
    try:
        data = read_untrusted(path, MOST_BYTES)
        if path.suffix != ".gz":
            return data
        with gzip.open(io.BytesIO(data)) as file:
            data = file.read(MOST_BYTES + 1)  # a small file may unpack to a very large one
        if len(data) > MOST_BYTES:
            raise PairBenchError(f"{path} unpacks to more than {MOST_BYTES} bytes: split it")
        return data
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise PairBenchError(
            f"{path} is not a whole gzip file ({error}): copy or download it again"
        ) from error
    except OSError as error:
        raise PairBenchError(f"{path} cannot be read: {error.strerror or error}") from error


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PairBenchError(
            f"{where} is not UTF-8 (byte {error.start}): convert the file to UTF-8"
        ) from error


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: a number of 5000 digits too
        raise PairBenchError(f"{where} is not valid JSON: {error}") from error


def _values(text: str, where: str) -> list[Any]:
    """Returns the rows of a JSON list, or those that stand one after another, as on lines."""
    rows: list[Any] = []
    text, at = text.strip(), 0
    try:
        while at < len(text):
            row, at = json.JSONDecoder().raw_decode(text, at)
            rows.append(row)
            space = _SPACE.match(text, at)
            at = space.end() if space else at
    except (ValueError, RecursionError) as error:
        raise PairBenchError(f"{where}, row {len(rows) + 1} is not valid JSON: {error}") from error
    return rows[0] if len(rows) == 1 and isinstance(rows[0], list) else rows


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import duckdb

    with duckdb.connect() as connection:
        try:
            source = rows_of(connection, [path], most=MOST_BYTES, follow=True)
            table = connection.execute(f"FROM {source}")
            names = [column[0] for column in table.description or ()]
            rows = table.fetchall()
        except FileNotFoundError as error:
            raise PairBenchError(f"{path} cannot be read: there is no such file") from error
        except (duckdb.Error, OSError) as error:
            reason = str(error).splitlines()[0]
            raise PairBenchError(f"{path} is not a readable Parquet file: {reason}") from error
    for n, row in enumerate(rows, 1):
        yield f"{path}, row {n}", dict(zip(names, row))
