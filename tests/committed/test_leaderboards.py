"""The committed leaderboards are exactly what the committed results give."""

from __future__ import annotations

import os
from pathlib import Path

from pairbench.leaderboard import write_site
from pairbench.papers.claims import write_site as write_claims
from pairbench.papers.replication import replicate, write_site as write_replication
from pairbench.results.load import load_records, load_series
from pairbench.results.marks import marks
from pairbench.results.record import RunRecord
from pairbench.results.record_file import as_json
from tests.support.kept_claims import load as load_claims
from tests.support.records import board_records

ROOT = Path(__file__).resolve().parents[2]
KINDS = {".md", ".json", ".html", ".js"}


def committed_records(folder: Path) -> list[RunRecord]:
    """Every record under a results folder (git keeps no empty one), none of them unreadable."""
    if not folder.is_dir():
        return []
    records, problems = load_records(folder)
    assert problems == []
    return records


def boards_in(folder: Path) -> dict[str, bytes]:
    """Every file of a site but pictures and the like, by its path in the folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in KINDS
    }


def test_committed_leaderboards_are_a_function_of_committed_results(tmp_path: Path) -> None:
    """The claims' files from their JSON, whose numbers tests/claims measures again."""
    records = committed_records(ROOT / "results")
    write_claims(load_claims((ROOT / "leaderboards" / "claims.json").read_text()), tmp_path)
    write_replication(replicate(records), tmp_path)
    write_site(records, tmp_path, marks(ROOT / "results"), load_series(ROOT / "results", records))
    rebuilt, committed = boards_in(tmp_path), boards_in(ROOT / "leaderboards")
    hint = (
        "run `pairbench claims --site leaderboards`, `pairbench replicate --site leaderboards`, "
        "then `pairbench leaderboard --site leaderboards`, and delete what they do not write"
    )
    assert sorted(rebuilt) == sorted(committed), hint
    assert [name for name in rebuilt if rebuilt[name] != committed[name]] == [], hint
    assert bool(records) == bool(rebuilt)


def test_the_folder_stays_small() -> None:
    """Few files, so that one more run or one edit of a page does not rewrite a thousand."""
    paths = [path for path in (ROOT / "leaderboards").rglob("*") if path.is_file()]
    assert len(paths) <= 100
    assert max(path.stat().st_size for path in paths) < 2e6
    assert sum(path.stat().st_size for path in paths) < 8e6
    assert sum(path.suffix == ".html" for path in paths) <= 40  # what one template may rewrite


def test_a_rebuild_sees_one_changed_score(tmp_path: Path) -> None:
    """The comparison above can fail: it works from files alone, and notices a single number."""
    records = board_records(2)
    results = tmp_path / "results"
    results.mkdir()
    for record in records:
        suffix = ".failed-1.json" if record.status == "failed" else ".json"
        (results / f"{record.identity}{suffix}").write_text(record.model_dump_json())
    write_site(records, tmp_path / "site")
    write_site(committed_records(results), tmp_path / "again")
    assert boards_in(tmp_path / "site") == boards_in(tmp_path / "again") != {}
    victim = next(r for r in records if r.evaluation is not None)
    assert victim.evaluation is not None
    victim.evaluation.scores["stochastic"][0] += 50.0
    write_site(records, tmp_path / "changed")
    assert boards_in(tmp_path / "changed") != boards_in(tmp_path / "again")


def test_what_ranks_survives_the_store(tmp_path: Path) -> None:
    """The first way of acting ranks, so storing must keep the order, alphabetical or not."""
    record = board_records(1)[0]
    (tmp_path / f"{record.identity}.json").write_bytes(as_json(record))
    (back,) = load_records(tmp_path).records
    assert back.evaluation is not None and record.evaluation is not None
    assert list(record.evaluation.scores) == ["stochastic", "mean"]
    assert back.evaluation.primary == record.evaluation.primary != back.evaluation.scores["mean"]


def test_records_name_no_machine() -> None:
    home = os.path.expanduser("~")
    for path in sorted(p for p in (ROOT / "leaderboards").rglob("*") if p.is_file()):
        assert home not in path.read_text(encoding="utf-8"), path.name
