"""Rows of preference data in every form, and files of them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pairbench.language.data.load import load
from pairbench.language.data.pairs import Pair, Preferences

Row = Mapping[str, Any]

EXPECTED = Pair("x", "s", (("user", "a?"), ("assistant", "b."), ("user", "c?")), "d", "e", 2, 1)
MESSAGES = [{"role": role, "content": text} for role, text in EXPECTED.prompt]
SIDES = {
    side: [{"role": "assistant", "content": text}]
    for side, text in (("chosen", "d"), ("rejected", "e"))
}


def talk(*texts: str) -> str:
    """A transcript in HH-RLHF's form: the human's turn first, then in turn."""
    return "".join(f"\n\n{('Human', 'Assistant')[k % 2]}: {text}" for k, text in enumerate(texts))


def lines(rows: Iterable[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def write(path: Path, rows: Iterable[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = lines(rows)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def plain(n: int = 3) -> list[dict[str, Any]]:
    return [{"prompt": f"q{k}", "chosen": f"good {k}", "rejected": f"bad {k}"} for k in range(n)]


def load_rows(tmp_path: Path, *rows: Row) -> Preferences:
    return load(str(write(tmp_path / "rows.jsonl", rows)))
