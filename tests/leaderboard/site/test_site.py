"""The pages beside the boards: links that lead somewhere, commands that make the same run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest

from pairbench.experiments.suite import Row, Suite, expand
from pairbench.leaderboard import write_site
from pairbench.leaderboard.site.site import reproduce_command, run_command
from pairbench.results.load import load_records
from pairbench.results.marks import Reproduction
from pairbench.results.record import Protocol, RunRecord
from tests.support.records import board_records, language_records, record

RESULTS = Path(__file__).resolve().parents[3] / "results"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    records = [*board_records(2), *language_records()]
    mark = Reproduction(
        identity=records[0].identity, name="ppo", verdict="equal", date="2026-02-03T00:00:00",
        detail="bit for bit equal: the whole run", cpu="Another CPU",
    )  # fmt: skip
    write_site(records, folder, [mark])
    return folder


def test_every_link_leads_to_a_page_and_to_a_place_on_it(site: Path) -> None:
    seen = 0
    for page in site.rglob("*.html"):
        for link in re.findall(r'href="([^"]+)"', page.read_text(encoding="utf-8")):
            if link.startswith("data:"):
                continue
            name, _, place = link.partition("#")
            target = (page.parent / unquote(name)).resolve() if name else page
            assert target.is_file(), f"{page.name}: {link}"
            assert not place or f'id="{place}"' in target.read_text(encoding="utf-8"), link
            seen += 1
    assert seen > 100


def test_a_page_for_each_run_and_each_algorithm(site: Path) -> None:
    records = [*board_records(2), *language_records()]
    runs = {path.stem for path in (site / "runs").iterdir()}
    assert runs == {record.identity[:16] for record in records}
    algorithms = {path.stem for path in (site / "algorithms").iterdir()}
    assert algorithms == {record.algorithm for record in records}
    failed = next(record for record in records if record.status == "failed")
    text = (site / "runs" / f"{failed.identity[:16]}.html").read_text(encoding="utf-8")
    assert "DivergedError" in text and "pairbench reproduce" not in text
    marked = (site / "runs" / f"{records[0].identity[:16]}.html").read_text(encoding="utf-8")
    assert "2026-02-03 on Another CPU: bit for bit equal" in marked


def test_what_would_not_change_is_not_touched(tmp_path: Path) -> None:
    records = board_records(1)
    paths = write_site(records, tmp_path)
    for path in paths:
        path.touch()
    before = {path: path.stat().st_ino for path in paths}
    (tmp_path / "index.html").write_text("old")
    assert write_site(records, tmp_path) == paths
    after = {path: path.stat().st_ino for path in paths}
    assert [path.name for path in paths if before[path] != after[path]] == ["index.html"]


def arguments(command: str) -> dict[str, list[str]]:
    words = shlex.split(command)
    assert words[:2] == ["pairbench", "run"]
    found: dict[str, list[str]] = {}
    for word, following in zip(words[2:], [*words[3:], "--"], strict=True):
        if word.startswith("--"):
            found.setdefault(word, []).append(following)
    return found


def respecified(record: RunRecord) -> str:
    """The identity of the run that a record's command would make."""
    given = arguments(run_command(record))
    budget = {
        name.removeprefix("--budget-").replace("-", "_"): float(value)
        for name, (value, *_) in given.items()
        if name.startswith("--budget-")
    }
    protocol = Protocol.model_validate(
        {"budget": budget, "anneal": "--anneal" in given}
        | ({"engine": given["--engine"][0]} if "--engine" in given else {})
        | {name: int(given[f"--{name}"][0]) for name in ("evaluations", "probes")}
    )
    (algorithm,), (task,) = given["--algorithms"], given["--tasks"]
    row = Row(name=algorithm, algorithm=algorithm, tasks=(task,))
    suite = Suite(name="x", protocol=protocol, rows=(row,))
    (spec,) = expand(suite, given["--set"], [int(given["--seeds"][0])]).specs
    return spec.identity


def test_the_command_of_a_run_names_its_engine() -> None:
    one = record("grpo", 0)
    trl = one.model_copy(update={"protocol": one.protocol.model_copy(update={"engine": "trl"})})
    assert arguments(run_command(trl))["--engine"] == ["trl"]
    assert "--engine" not in arguments(run_command(one))


def test_the_command_of_a_run_makes_that_run() -> None:
    """Of every committed algorithm and task one record, whatever presets and suites set for it."""
    found = {(r.algorithm, r.task, r.tuning is None): r for r in load_records(RESULTS).records}
    kept = [
        run
        for (_, task, _), run in found.items()
        if run.status == "finished" and task.startswith("halfcheetah")
    ]
    assert len(kept) > 5
    for run in kept:
        by_hand = run.spec.model_copy(update={"tuning": None})
        assert respecified(run) == by_hand.identity, run_command(run)
        place = reproduce_command(run).split()[-1]
        assert (RESULTS.parent / place).is_file()
