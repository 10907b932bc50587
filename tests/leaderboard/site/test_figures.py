"""Figures for papers: each kind drawn, the same bytes twice, no date, names as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.records import board_records, language_records, record

pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra plot)")

from pairbench.errors import PairBenchError
from pairbench.leaderboard.site.figures import draw
from pairbench.results.record import RunRecord


def two_tasks() -> list[RunRecord]:
    rows = ("grpo", "ppo", "reference")
    return [
        record(row, seed, task=task) for task in ("a", "b") for row in rows for seed in range(3)
    ]


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
@pytest.mark.parametrize("kind", ["curves", "intervals", "profile", "frontier", "overall"])
def test_the_same_records_give_the_same_bytes(kind: str, suffix: str, tmp_path: Path) -> None:
    if kind == "overall":
        records, kind, task = two_tasks(), "profile", None
    elif kind == "frontier":
        records, task = language_records(), "hh-rlhf-helpful"
    else:
        records, task = board_records(3), "halfcheetah-v4"
    one, two = (tmp_path / f"{name}.{suffix}" for name in ("one", "two"))
    assert draw(records, kind, task=task, out=one) == one
    draw(list(reversed(records)), kind, task=task, out=two)
    assert one.read_bytes() == two.read_bytes()
    assert len(one.read_bytes()) > 3000
    text = one.read_text(encoding="latin-1")
    assert "Date" not in text and "<dc:date>" not in text


def test_it_fits_the_width_and_has_a_line_per_row(tmp_path: Path) -> None:
    records = board_records(3)
    path = draw(records, "curves", "halfcheetah-v4", ("grpo", "ppo"), tmp_path / "f.svg", 5.0)
    text = path.read_text()
    assert re.search(r'width="360pt"', text)  # 72 points an inch
    dashes = "stroke: #0072b2", "stroke: #d55e00"
    assert all(colour in text for colour in dashes) and "stroke: #009e73" not in text
    assert "fill-opacity: 0.15" in text  # two rows: their intervals are drawn


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    names = ("_hidden", "$x^2$ 100%", "\\frac & <b>")
    records = [record(n, s, algorithm="a", config={"n": n}) for n in names for s in range(2)]
    draw(records, "curves", "halfcheetah-v4", out=tmp_path / "f.pdf")
    draw(records, "intervals", "halfcheetah-v4", out=tmp_path / "g.svg")
    comments = (tmp_path / "g.svg").read_text()
    assert "$x^2$ 100% (2)" in comments  # matplotlib notes each text beside its outlines


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    records = board_records(2)
    task, out = "halfcheetah-v4", tmp_path / "f.svg"
    with pytest.raises(PairBenchError, match=r"no row 'grop'.*did you mean grpo"):
        draw(records, "curves", task, ["grop"], out)
    with pytest.raises(PairBenchError, match="does not measure a distance"):
        draw(records, "frontier", task, out=out)
    with pytest.raises(PairBenchError, match="is no vector file"):
        draw(records, "curves", task, out=tmp_path / "f.png")
    with pytest.raises(PairBenchError, match="name it with --task"):
        draw(records, "curves", out=out)
    with pytest.raises(PairBenchError, match="no profile over tasks"):
        draw(records, "profile", out=out)
    with pytest.raises(PairBenchError, match="no row with two seeds"):
        draw(board_records(1), "profile", task, out=out)
    (tmp_path / "file").write_text("")
    with pytest.raises(PairBenchError, match="cannot be written"):
        draw(records, "curves", task, out=tmp_path / "file" / "f.svg")
    assert not out.exists()
