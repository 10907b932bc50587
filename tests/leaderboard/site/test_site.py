"""The pages beside the boards: links that lead somewhere, commands that make the same run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from pairbench.experiments.suite import Row, Suite, expand
from pairbench.leaderboard import build, write_site
from pairbench.leaderboard.site import site as site_module
from pairbench.leaderboard.site.runs import reproduce_command, run_command
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
    runs = {record.identity[:16] for record in (*board_records(2), *language_records())}
    for page in site.rglob("*.html"):
        for link in re.findall(r'href="([^"]+)"', page.read_text(encoding="utf-8")):
            if link.startswith("data:"):
                continue
            name, _, place = link.partition("#")
            if name == "run.html":
                assert place in runs
                seen += 1
                continue
            target = (page.parent / unquote(name)).resolve() if name else page
            assert target.is_file(), f"{page.name}: {link}"
            assert not place or f'id="{place}"' in target.read_text(encoding="utf-8"), link
            seen += 1
    assert seen > 100


def lines_of(script: Path) -> list[tuple[str, dict[str, Any]]]:
    """What a data file hands over, read as JavaScript reads its strings."""
    found = []
    for line in script.read_text(encoding="ascii").splitlines():
        kind, text = re.fullmatch(r"pairbench\('(\w+)','((?:[^'\\]|\\.)*)'\);", line).groups()  # type: ignore[union-attr]
        plain = re.sub(r"\\(x(..)|.)", lambda m: chr(int(m[2], 16)) if m[2] else m[1], text)
        found.append((kind, json.loads(plain)))
    return found


def test_every_run_and_every_algorithm_is_there(site: Path) -> None:
    records = [*board_records(2), *language_records()]
    runs: dict[str, Any] = {}
    for script in sorted((site / "runs").glob("*.js")):
        lines = lines_of(script)
        if script.name == "index.js":
            index = {run: line["stem"] for _, line in lines for run in line["runs"]}
            continue
        (board,) = [data for kind, data in lines if kind == "board"]
        assert (site / f"{board['stem']}.html").is_file() and script.stem == board["stem"]
        rows = [data for kind, data in lines if kind == "row"]
        for kind, data in lines:
            if kind == "run":
                place = {"home": script.stem, "of": rows[data["row"]], "board": board}
                runs[data["id"]] = {**data, **place}
    assert set(runs) == {record.identity for record in records}
    assert index == {run[:16]: data["home"] for run, data in runs.items()}
    for one in records:
        found = runs[one.identity]
        assert found["of"]["row"].startswith(one.row) and found["seed"] == one.seed
        assert str(one.seed).join(found["of"]["command"]) == run_command(one)
        assert found["of"]["settings"] == one.algorithm_config
        if one.evaluation is not None:
            reward = pytest.approx(one.evaluation.reward, rel=1e-5)
            assert next(iter(found["scores"].values())) == reward
            assert [point[0] for point in found["curve"]] == [p.steps for p in one.curve]
            facts = dict(found["board"]["facts"][k] for k in found["facts"])
            assert facts.get("cpu") == one.provenance.get("cpu")
    failed = next(one for one in records if one.status == "failed")
    assert "DivergedError" in runs[failed.identity]["reason"]
    assert runs[records[0].identity]["marks"] == [
        "2026-02-03 on Another CPU: bit for bit equal: the whole run."
    ]
    text = (site / "algorithms.html").read_text(encoding="utf-8")
    assert all(f'id="{one.algorithm}"' in text for one in records)


def test_the_index_of_markdown_links_every_board(site: Path) -> None:
    text = (site / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([^)]+)\)", text))
    assert {unquote(name) for name in linked} == {
        path.name for path in site.glob("*.md") if path.name != "README.md"
    }


def test_boards_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(site_module, "build", lambda *a, **k: asked.append(1) or build(*a, **k))
    found = write_site(board_records(2), tmp_path)
    assert len(asked) == 1 and len(found.boards) == len(found.pages) == 1
    assert found.pages[0] in found.files and found.pages[0].suffix == ".html"


def test_what_would_not_change_is_not_touched(tmp_path: Path) -> None:
    records = board_records(1)
    paths = write_site(records, tmp_path).files
    for path in paths:
        path.touch()
    before = {path: path.stat().st_ino for path in paths}
    (tmp_path / "index.html").write_text("old")
    assert write_site(records, tmp_path).files == paths
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
        {"budget": budget, "anneal": "--anneal" in given, "adam_eps": given["--adam-eps"][0]}
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
        assert (RESULTS.parent / reproduce_command(run).split()[-1]).is_file()


def test_what_a_page_says_runs_a_run_again(tmp_path: Path) -> None:
    """The page's own command, given to a shell where the results folder lies."""
    program = f"{shlex.quote(sys.executable)} -m pairbench"
    asked = "--algorithms grpo --tasks preference-bandit --budget-steps 512 --evaluations 1"
    made = f"{program} run {asked} --workers 1 --results my-results"
    subprocess.run(made, shell=True, cwd=tmp_path, check=True, capture_output=True, timeout=600)
    (script,) = tmp_path.rglob("leaderboards/runs/preference-bandit*.js")
    (run,) = [data for kind, data in lines_of(script) if kind == "run"]
    command = run["again"].replace("pairbench", program, 1)
    ran = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert (ran.returncode, ran.stderr) == (0, "") and ": equal; bit for bit" in ran.stdout


def test_no_command_names_a_place_on_a_machine(tmp_path: Path) -> None:
    one = record("grpo", 0)
    command = reproduce_command(one, tmp_path / "mine")
    assert command.endswith(" --results mine") and str(tmp_path) not in command
    there = f"pairbench reproduce {one.identity[:16]} --results s3://bucket/runs"
    assert reproduce_command(one, "s3://bucket/runs") == there
