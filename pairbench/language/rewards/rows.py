"""Prompts without answers: from a file, a folder that `datasets` has saved, or the hub."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pairbench.errors import PairBenchError
from pairbench.language.data.forms import RawPair, Turn, blank, prompt_of
from pairbench.language.data.load import SUFFIXES, hub_answers, records
from pairbench.language.data.pairs import Pair, Preferences, Split, prompt_text
from pairbench.text import did_you_mean, error_line

HUB = re.compile(r"[\w.-]+/[\w.-]+")
"""How data sets of the hub are called."""

HELD_OUT: Mapping[Split, float] = MappingProxyType({"evaluation": 0.2, "proxy": 0.1})
"""Shares of the prompts that are evaluated on, and on which `pairbench tune` evaluates."""


@dataclass(frozen=True)
class Row:
    """A prompt as the data have it, text or messages, and the values of the other columns."""

    prompt: Any
    columns: Mapping[str, Any]


@dataclass(frozen=True)
class PromptSet(Preferences):
    """Prompts as pairs without answers, and the row of each.

    Attributes:
        rows: by the turns of the prompt.
        columns: names of the columns beside the prompt.
    """

    rows: Mapping[tuple[Turn, ...], Row] = field(default_factory=dict)
    columns: tuple[str, ...] = ()

    def split(self) -> Mapping[Split, tuple[Pair, ...]]:
        """Returns the prompts by use: those of the smallest hashes are held out, one at least.

        "proxy" are those of `pairbench tune`, and "gold" has none: nothing is fitted to them.
        """
        order = sorted(self.pairs, key=lambda pair: _hash(pair.prompt))
        parts: dict[Split, tuple[Pair, ...]] = {"gold": ()}
        for name, share in HELD_OUT.items():
            count = max(1, round(share * len(self.pairs)))
            parts[name], order = tuple(order[:count]), order[count:]
        left = set(order)
        return {**parts, "policy": tuple(pair for pair in self.pairs if pair in left)}


def _hash(prompt: Iterable[Turn]) -> bytes:
    said = " ".join(prompt_text(prompt).casefold().split())
    return hashlib.sha256(f"pairbench-prompt:{said}".encode()).digest()


def of_rows(
    name: str, rows: Iterable[tuple[str, Any]], column: str = "prompt", revision: str = "local"
) -> PromptSet:
    """Returns the prompts of rows, each a mapping with where it stands.

    A row that is another's again is dropped and counted.

    Raises:
        PairBenchError: a row has no prompt, or one that another has with other columns; or there
            are fewer than four.
    """
    found: dict[tuple[Turn, ...], Row] = {}
    pairs: list[Pair] = []
    repeated = 0
    for where, fields in rows:
        if not isinstance(fields, Mapping):
            raise PairBenchError(f"{where} is no object with a {column}")
        if column not in fields:
            raise PairBenchError(
                f"{where} has no column {column!r}{did_you_mean(column, map(str, fields))}: name "
                "the prompts' column by the setting column"
            )
        raw = RawPair({"prompt": fields[column]}, where, name, where, named=False)
        written, turns = prompt_of(raw)
        row = Row(written, {key: value for key, value in fields.items() if key != column})
        if turns in found:
            if found[turns] != row:
                raise PairBenchError(
                    f"{where} has the prompt of an earlier row, with other columns: a prompt is "
                    "scored in one way, so put both in one row or make the prompts differ"
                )
            repeated += 1
            continue
        found[turns] = row
        part = fields.get("source")
        source = part if isinstance(part, str) and not blank(part) else name
        pairs.append(Pair(f"{name}-{len(pairs)}", source, turns, "", "", where=where))
    if len(pairs) < 4:
        raise PairBenchError(f"{name} has {len(pairs)} different prompts: give four at least")
    content = sorted(json.dumps([r.prompt, r.columns], default=repr) for r in found.values())
    names = dict.fromkeys(key for row in found.values() for key in row.columns)
    return PromptSet(
        name,
        tuple(pairs),
        {"repeated": repeated} if repeated else {},
        revision,
        hashlib.sha256("\n".join(content).encode()).hexdigest(),
        rows=found,
        columns=tuple(names),
    )


def read_prompts(
    name: str,
    path: str,
    column: str = "prompt",
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
) -> PromptSet:
    """Returns the prompts of a file, of a folder saved by `datasets`, or of the hub.

    Args:
        name: what the prompts are called.
        path: the file, the folder, or owner/name on the hub.
        column: with the prompts.
        split, subset: of a folder of several splits, and of the hub.
        revision: on the hub; the newest by default. Which it was is recorded.

    Raises:
        PairBenchError: there is nothing like that, or it cannot be read.
    """
    place = Path(path)
    if place.is_dir():
        return of_rows(name, _folder(place, split), column)
    if place.is_file():
        return of_rows(name, records(place), column)
    if place.suffix in (*SUFFIXES, ".gz") or not HUB.fullmatch(path):
        raise PairBenchError(
            f"there is no file {path} with prompts: name a {', '.join(SUFFIXES)} file, a folder "
            "saved by datasets, or owner/name on the hub"
        )
    rows, sha = _hub(path, split, subset, revision)
    return of_rows(name, rows, column, sha)


def _folder(place: Path, split: str) -> Iterator[tuple[str, Any]]:
    import datasets

    try:
        found = datasets.load_from_disk(str(place))
    except Exception as error:  # of pyarrow's many kinds
        raise PairBenchError(
            f"{place} is no folder that datasets has saved ({error_line(error)}): name a file, or "
            "the folder that save_to_disk wrote"
        ) from error
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise PairBenchError(f"{place} has no split {split!r}{did_you_mean(split, found)}")
        found = found[split]
    for n, row in enumerate(found, 1):
        yield f"{place}, row {n}", row


def _hub(
    name: str, split: str, subset: str | None, revision: str | None
) -> tuple[Iterator[tuple[str, Any]], str]:
    """Returns the rows of a data set of the hub, and the commit they are of."""
    import datasets
    from huggingface_hub import HfApi, constants

    if not hub_answers():
        raise PairBenchError(
            f"there is no file or folder {name} here, and the hub does not answer: check the path, "
            "or connect"
        )
    try:
        sha = revision
        if not constants.HF_HUB_OFFLINE:
            sha = str(HfApi().dataset_info(name, revision=revision, timeout=10).sha)
        table = datasets.load_dataset(name, subset, split=split, revision=sha)
    except Exception as error:  # a hub, a cache and a script of many kinds
        raise PairBenchError(
            f"there is no file or folder {name} here, and the hub's did not load "
            f"({error_line(error)}): check the name and the settings split, subset and revision"
        ) from error
    rows = ((f"{name}, {split}, row {n}", row) for n, row in enumerate(table, 1))
    return rows, sha or "of the hub's cache"
