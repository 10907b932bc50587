"""Preference data: HH-RLHF, UltraFeedback, our own toy dialogues, or any file of pairs.

A pair is a prompt that ends with the user's turn and two answers, one preferred. Whatever form the
rows come in, they pass through one parser and one set of cleaning rules, so two forms of the same
data give the same pairs and the same `Preferences.sha256`; what was dropped is counted by reason.

Sources: Bai et al. 2022 (arXiv 2204.05862) for HH-RLHF, Cui et al. 2023 (arXiv 2310.01377) for
UltraFeedback, binarised as in Tunstall et al. 2023 (arXiv 2310.16944).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import math
import os
import re
import ssl
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from pairbench.errors import PairBenchError
from pairbench.results.files import read_untrusted, refuse_large_parquet
from pairbench.text import did_you_mean

MOST_BYTES = 2**32
"""What a file of pairs may unpack to: twenty times UltraFeedback."""

Turn = tuple[str, str]  # role, one of ROLES, and text
Split = Literal["policy", "proxy", "gold", "evaluation"]

ROLES = ("user", "assistant", "system")
SPLITS: tuple[Split, ...] = ("policy", "proxy", "gold", "evaluation")
SHARES: Mapping[Split, float] = {"policy": 0.45, "proxy": 0.25, "gold": 0.20, "evaluation": 0.10}

# Why a row is dropped; the first that applies is the one counted.
FIRST_TURN = "first turn not the user's"
NO_SHARED_PROMPT = "no shared prompt"  # not one answer each to one and the same prompt
NOT_ALTERNATING = "turns do not alternate"  # user and assistant, and the prompt ends with the user
EMPTY_TURN = "empty turn in the prompt"
EMPTY_SIDE = "empty side"
IDENTICAL_SIDES = "identical sides"
SCORE_TIE = "score tie"
SCORE_REVERSED = "score against the label"
REASONS = (
    FIRST_TURN,
    NO_SHARED_PROMPT,
    NOT_ALTERNATING,
    EMPTY_TURN,
    EMPTY_SIDE,
    IDENTICAL_SIDES,
    SCORE_TIE,
    SCORE_REVERSED,
)

DATA_VARIABLE = "PAIRBENCH_DATA"
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


@dataclass(frozen=True)
class Pair:
    """One preference between two answers.

    Attributes:
        id: names the row within its data set.
        source: the part of the data set, for example "helpful-base".
        prompt: turns that alternate from user to user (after a system turn, if any), none empty.
        chosen: the preferred final answer of the assistant, stripped and not empty.
        rejected: the other one, stripped, not empty and not the same.
        score_chosen: what the origin scored the preferred answer with, or None.
        score_rejected: likewise; below `score_chosen` where both are given.
    """

    id: str
    source: str
    prompt: tuple[Turn, ...]
    chosen: str
    rejected: str
    score_chosen: float | None = None
    score_rejected: float | None = None


@dataclass(frozen=True)
class Preferences:
    """A cleaned data set of pairs.

    Attributes:
        name: of the data set.
        pairs: the pairs that are left, in the order of the rows.
        dropped: how many rows were dropped, by reason (`REASONS`); reasons with none are absent.
        revision: the hub's commit, "local" for a folder or file, "toy-<version>" for ours.
        sha256: of the pairs' content, whatever their ids and order.
    """

    name: str
    pairs: tuple[Pair, ...]
    dropped: Mapping[str, int]
    revision: str
    sha256: str

    def split(self) -> Mapping[Split, tuple[Pair, ...]]:
        """Returns the pairs by use: a pair's prompt alone decides, so no prompt is in two.

        The shares (`SHARES`) hold in expectation; rows that come or go move no other.
        """
        parts: dict[Split, list[Pair]] = {name: [] for name in SPLITS}
        for pair in self.pairs:
            parts[split_of(pair.prompt)].append(pair)
        return {name: tuple(part) for name, part in parts.items()}


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
        from pairbench.language.data import toy

        return _preferences(dataset, toy.dialogues(), Counter(), f"toy-{toy.VERSION}")
    if dataset in _PARTS:
        parts = (*_PARTS[dataset], *((_ONLINE,) if online else ()))
        folder = _folder(data_dir)
        if folder is None:
            rows, revision = _from_hub(dataset, parts), parts[0].revision
        else:
            rows, revision = _from_folder(folder, dataset, parts), "local"
        return _preferences(dataset, *_clean(rows), revision)
    path = Path(dataset)
    if _suffix(path) in SUFFIXES:
        name = path.name.removesuffix(".gz").removesuffix(_suffix(path))
        return _preferences(name, *_clean(_from_file(path, "file", name)), "local")
    names = [*_PARTS, "toy-dialogue"]
    raise PairBenchError(
        f"no data set is named {dataset!r}{did_you_mean(dataset, names)} "
        f"(a file of pairs ends in {', '.join(SUFFIXES)})"
    )


def split_of(prompt: Iterable[Turn]) -> Split:
    """Returns the split of a prompt, by a hash of its first user turn.

    Case and white space do not count, so trivial variants of a question share a split.
    """
    first = next((text for role, text in prompt if role == "user"), "")
    key = "pairbench-split:" + " ".join(first.casefold().split())
    position = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64
    for name in SPLITS[:-1]:
        if position < SHARES[name]:
            return name
        position -= SHARES[name]
    return SPLITS[-1]


def render(prompt: Iterable[Turn], tokenizer: Any) -> str:
    """Returns the text a model continues with the assistant's answer.

    Args:
        prompt: turns that end with the user's.
        tokenizer: of transformers; its chat template is used if it has one, with the marker of
            the assistant's turn, and HH-RLHF's transcript otherwise.
    """
    turns = tuple(prompt)
    if getattr(tokenizer, "chat_template", None):
        messages = [{"role": role, "content": text} for role, text in turns]
        return str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        )
    return "".join(f"\n\n{_SPEAKERS[role]}: {text}" for role, text in turns) + "\n\nAssistant:"


def content_hash(pairs: Iterable[Pair]) -> str:
    """Returns SHA-256 of the pairs' content; neither ids nor order count."""
    digests = sorted(
        hashlib.sha256(
            json.dumps(
                [p.source, p.prompt, p.chosen, p.rejected, p.score_chosen, p.score_rejected],
                ensure_ascii=False,
            ).encode()
        ).digest()
        for p in pairs
    )
    return hashlib.sha256(b"".join(digests)).hexdigest()


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


@dataclass(frozen=True)
class _Row:
    """A row as it was read; `where` says where, for errors; `named` is of a data set with a name.

    A row without a prompt that is no transcript is dropped from a data set with a name, and wrong
    use in a file of the user's.
    """

    fields: Mapping[str, Any]
    where: str
    source: str
    id: str
    named: bool = True


def _folder(data_dir: Path | None) -> Path | None:
    if data_dir is None and not os.environ.get(DATA_VARIABLE):
        return None
    folder = Path(os.environ[DATA_VARIABLE]) if data_dir is None else Path(data_dir)
    if not folder.is_dir():
        option = f"the environment's {DATA_VARIABLE}" if data_dir is None else "--data-dir"
        raise PairBenchError(f"{folder}, named by {option}, is not a folder")
    return folder


def _from_folder(folder: Path, dataset: str, parts: Iterable[_Part]) -> Iterator[_Row]:
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


def _from_hub(dataset: str, parts: Iterable[_Part]) -> Iterator[_Row]:
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
                yield _Row(fields, where, part.source, f"{part.prefix}-{split}-{n}")


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


def _from_file(path: Path, source: str, prefix: str, named: bool = False) -> Iterator[_Row]:
    """Yields the rows of a file; `source` is all rows' if `named`, else that of rows with none."""
    for n, (where, fields) in enumerate(_records(path)):
        if not isinstance(fields, Mapping):
            raise PairBenchError(f"{where} is not an object with prompt, chosen and rejected")
        part, row_id = fields.get("source"), fields.get("id")
        yield _Row(
            fields,
            where,
            source if named or part is None else str(part),
            f"{prefix}-{n}" if row_id is None else str(row_id),
            named,
        )


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
        records = _json(_decoded(data, str(path)), str(path))
        if not isinstance(records, list):
            raise PairBenchError(f"{path} is not a JSON list of rows")
        for n, record in enumerate(records, 1):
            yield f"{path}, row {n}", record
    else:
        table = csv.DictReader(io.StringIO(_decoded(data, str(path)), newline=""))
        try:
            for record in table:
                yield f"{path}, line {table.line_num}", record
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


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import duckdb

    if not path.is_file():
        raise PairBenchError(f"{path} cannot be read: there is no such file")
    with duckdb.connect() as connection:
        try:
            refuse_large_parquet(connection, path, MOST_BYTES)
            table = connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
            names = [column[0] for column in table.description or ()]
            rows = table.fetchall()
        except (duckdb.Error, OSError) as error:
            reason = str(error).splitlines()[0]
            raise PairBenchError(f"{path} is not a readable Parquet file: {reason}") from error
    for n, row in enumerate(rows, 1):
        yield f"{path}, row {n}", dict(zip(names, row))


# From rows to pairs.

_MARKER = re.compile(r"\n\n(Human|Assistant):")
_MARKERS = ("\n\nHuman:", "\n\nAssistant:")
_SPEAKERS: Mapping[str, str] = {"user": "Human", "assistant": "Assistant", "system": "System"}


def _preferences(
    name: str, pairs: Iterable[Pair], dropped: Mapping[str, int], revision: str
) -> Preferences:
    kept = tuple(pairs)
    if not kept:
        said = ", ".join(f"{count} for {reason!r}" for reason, count in dropped.items())
        raise PairBenchError(
            f"{name} has no pair left after cleaning"
            + (f"; rows were dropped: {said}" if said else "; it has no rows")
        )
    seen: set[str] = set()
    for pair in kept:
        if pair.id in seen:
            raise PairBenchError(f"{name} has two rows with the id {pair.id!r}: make them distinct")
        seen.add(pair.id)
    return Preferences(name, kept, dict(dropped), revision, content_hash(kept))


def _clean(rows: Iterable[_Row]) -> tuple[list[Pair], dict[str, int]]:
    pairs: list[Pair] = []
    dropped: Counter[str] = Counter()
    for row in rows:
        outcome = _pair(row)
        if isinstance(outcome, Pair):
            pairs.append(outcome)
        else:
            dropped[outcome] += 1
    return pairs, {reason: dropped[reason] for reason in REASONS if dropped[reason]}


def _pair(row: _Row) -> Pair | str:
    """Returns the row's pair, or the reason for which it is dropped."""
    dialogue = _dialogue(row, "chosen"), _dialogue(row, "rejected")
    shared = _shared(*dialogue)
    if isinstance(shared, str):
        return shared
    prompt, chosen, rejected = shared
    high, low = _score(row, "score_chosen"), _score(row, "score_rejected")
    if not chosen or not rejected:
        return EMPTY_SIDE
    if chosen == rejected:
        return IDENTICAL_SIDES
    if high is not None and low is not None and high <= low:
        return SCORE_TIE if high == low else SCORE_REVERSED
    return Pair(row.id, row.source, prompt, chosen, rejected, high, low)


def _shared(chosen: list[Turn], rejected: list[Turn]) -> tuple[tuple[Turn, ...], str, str] | str:
    """Splits two dialogues into the prompt they share and the answer of each, or says why not."""
    for dialogue in (chosen, rejected):
        if next((role for role, _ in dialogue if role != "system"), None) != "user":
            return FIRST_TURN
    n = next(
        (k for k, (one, other) in enumerate(zip(chosen, rejected)) if one != other),
        min(len(chosen), len(rejected)),
    )
    if n == len(chosen) == len(rejected):
        n -= 1
    for dialogue in (chosen, rejected):
        if len(dialogue) != n + 1 or dialogue[n][0] != "assistant":
            return NO_SHARED_PROMPT
    prompt = tuple(chosen[:n])
    talk = prompt[1:] if prompt[0][0] == "system" else prompt
    if len(talk) % 2 == 0 or any(
        role != ("user", "assistant")[k % 2] for k, (role, _) in enumerate(talk)
    ):
        return NOT_ALTERNATING
    if not all(text for _, text in prompt):
        return EMPTY_TURN
    return prompt, chosen[n][1], rejected[n][1]


def _dialogue(row: _Row, side: Literal["chosen", "rejected"]) -> list[Turn]:
    """Returns all turns of one side, the prompt's and the answer."""
    prompt, answer = row.fields.get("prompt"), row.fields.get(side)
    if answer is None:
        raise PairBenchError(f"{row.where} has no {side!r}: every row needs chosen and rejected")
    if isinstance(answer, list):
        turns = _messages(answer, row, side)
        if prompt is None or (turns and turns[0][0] != "assistant"):
            return turns
        if isinstance(prompt, list):
            return _messages(prompt, row, "prompt") + turns
        start = _text(prompt, row, "prompt")
        return [*(_transcript(start) or [("user", start.strip())]), *turns]
    text = _text(answer, row, side)
    if prompt is None:
        turns = _transcript("\n\n" + text.lstrip())
        if not turns and not row.named:
            raise PairBenchError(
                f"{row.where} has no 'prompt', and its {side!r} is no transcript that starts with "
                f"'Human:': add the column prompt"
            )
        return turns
    if isinstance(prompt, list):
        return [*_messages(prompt, row, "prompt"), ("assistant", text.strip())]
    start = _text(prompt, row, "prompt")
    if not start.startswith(_MARKERS):
        return [("user", start.strip()), ("assistant", text.strip())]
    # The whole transcript again, so that this form and the originals are read by the same rule.
    ends = start.rstrip().endswith(_MARKERS[1])
    return _transcript(start.rstrip() + text if ends else f"{start}{_MARKERS[1]}{text}")


def _transcript(text: str) -> list[Turn]:
    """Returns the turns of a transcript in HH-RLHF's form, none if it does not start as one."""
    if not text.startswith(_MARKERS):
        return []
    parts = _MARKER.split(text)
    return [
        ("user" if speaker == "Human" else "assistant", said.strip())
        for speaker, said in zip(parts[1::2], parts[2::2])
    ]


def _messages(messages: list[Any], row: _Row, column: str) -> list[Turn]:
    turns: list[Turn] = []
    for message in messages:
        role = message.get("role") if isinstance(message, Mapping) else None
        if role not in ROLES:
            raise PairBenchError(
                f"{row.where}: a message of {column!r} has the role {role!r}; it must be one of "
                f"{', '.join(ROLES)}"
            )
        turns.append((role, _text(message.get("content"), row, column).strip()))
    return turns


def _text(value: Any, row: _Row, column: str) -> str:
    if not isinstance(value, str):
        raise PairBenchError(f"{row.where}: {column!r} holds {value!r:.40}, which is not text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise PairBenchError(
            f"{row.where}: {column!r} is not valid Unicode (half a surrogate pair)"
        ) from error
    return value


def _score(row: _Row, column: str) -> float | None:
    """Returns a score, where the row or the row's metadata gives one."""
    value = row.fields.get(column)
    metadata = row.fields.get("metadata")
    if value is None and isinstance(metadata, Mapping):
        value = metadata.get(column)
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise PairBenchError(f"{row.where}: {column!r} holds {value!r:.40}, not a finite number")
    return number
