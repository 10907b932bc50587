"""The command line: what it prints, how it exits, and one sentence for every mistake."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pairbench
from pairbench.cli.main import main
from pairbench.errors import PairBenchError
from pairbench.results.folder import Store
from pairbench.results.load import load_records
from tests.support.records import language_records

RUN = ("run", "--algorithms", "grpo", "--tasks", "preference-bandit", "--budget-steps", "2000")


class Said:
    """What a call printed, and its exit status."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Calls the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Said:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        printed = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, printed.out, printed.err)

    return run


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with two rows of three seeds."""
    folder = tmp_path_factory.mktemp("cli") / "results"
    records = pairbench.run(
        algorithms=["grpo", "soft-pair-grpo", "reference", "sb3-ppo"], tasks=["preference-bandit"],
        seeds="0-2", budget={"steps": 3000}, results=folder, workers=1,
    )  # fmt: skip
    assert sorted({record.status for record in records}) == ["finished", "skipped"]
    return folder


def test_run_prints_its_board_and_page_and_a_second_call_runs_nothing(call) -> None:  # type: ignore[no-untyped-def]
    first = call(*RUN, "--seeds", "0-1", "--workers", "1")
    assert first.status == 0
    assert "2 runs; 2 to run, 1 at a time" in first.err
    assert "[2/2] grpo on preference-bandit, seed 1: reward" in first.err
    assert "grpo" in first.out
    page = Path(first.out.rpartition("page: ")[2].strip())
    assert page.parent == Path("leaderboards")
    assert "<html" in page.read_text()
    second = call(*RUN, "--seeds", "0-1", "--workers", "1")
    assert (second.status, second.out) == (0, first.out)
    assert "2 runs, 2 done before; 0 to run" in second.err


def test_a_failed_run_is_shown_and_the_exit_status_says_so(call) -> None:  # type: ignore[no-untyped-def]
    said = call(*RUN, "--set", "grpo.beta=1e300", "--workers", "1")
    assert said.status == 1
    assert "FAILED grpo on preference-bandit, seed 0:" in said.err
    assert "is not finite in iteration" in said.err
    assert said.err.rstrip().endswith("1 of 1 runs failed.")
    assert load_records("results").records[0].status == "failed"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "quik"), "there is no suite 'quik'; did you mean quick?"),
        (("run",), "name a suite, or give --algorithms, --tasks"),
        (("run", "--algorithms", "gpro", *RUN[3:]), "no algorithm 'gpro'; did you mean grpo"),
        ((*RUN[:3], "--tasks", "bandits", *RUN[5:]), "there is no task 'bandits'"),
        ((*RUN, "--set", "grpo.group_sise=4"), "no setting 'group_sise'; did you mean group_size"),
        ((*RUN, "--set", "grpo.group_size=1"), "group_size = 1 of grpo is out of range"),
        ((*RUN, "--set", "grpo.clip_high=1"), "clip_high = 1 of grpo is out of range"),
        ((*RUN[:5], "--budget-steps", "-5"), "budget.steps = -5.0 of the protocol is out of range"),
        ((*RUN[:5], "--budget-steps", "many"), "'many' is not a valid float"),
        ((*RUN, "--seeds", "x"), "seeds 'x' cannot be read"),
        ((*RUN, "--workers", "0"), "0 is not in the range"),
        (("list", "algorithm"), "'algorithm' is not one of"),
        (("leaderbord",), "No such command 'leaderbord'"),
        (("run", "--nothing"), "No such option"),
        (("leaderboard",), "there is no results folder results: run something first"),
        (("show", "abc"), "there is no results folder"),
        (("show", "none.json"), "there is no record file none.json"),
        (("models", "pull", "tiny"), "there is nothing to pull"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(  # type: ignore[no-untyped-def]
    arguments: tuple[str, ...], message: str, call
) -> None:
    said = call(*arguments)
    assert said.status == 2
    assert message in said.err
    assert said.err.startswith("pairbench: ")
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema_version": 99}', "schema version 99 is newer"),
        ('{"schema_version": 1, "iden', "perhaps cut short"),
        ('["something else"]', "no PairBench record"),
    ],
)
def test_a_damaged_record_is_named_set_aside_and_made_again(  # type: ignore[no-untyped-def]
    text: str, message: str, call
) -> None:
    call(*RUN, "--workers", "1")
    (path,) = Path("results/preference-bandit/grpo").glob("*.json")
    whole = json.loads(path.read_text())
    path.write_text(text)
    stray = path.with_name("0000000000000000.json")  # in nobody's way: named, and left alone
    stray.write_text(text)
    said = call(*RUN, "--workers", "1")
    assert said.status == 0
    assert f"was set aside as {path.name}.aside-1: " in said.err
    assert message in said.err
    assert f"{stray} is not used" in said.err
    assert path.with_name(f"{path.name}.aside-1").read_text() == text
    assert stray.read_text() == text
    assert json.loads(path.read_text())["weights_sha256"] == whole["weights_sha256"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file system that is read-only")
def test_a_results_folder_that_cannot_be_written_is_one_sentence(call) -> None:  # type: ignore[no-untyped-def]
    said = call(*RUN, "--results", "/proc/results")
    assert said.status == 2
    assert "results folder /proc/results cannot be written" in said.err
    assert said.err.count("\n") == 1


def test_lists(call) -> None:  # type: ignore[no-untyped-def]
    for what, name in [("algorithms", "grpo"), ("tasks", "preference-bandit"), ("suites", "quick")]:
        objects = {
            item["name"]: item for item in json.loads(call("list", what, "--format", "json").out)
        }
        assert {"name", "summary", "source", "origin"} <= set(objects[name])
        assert objects[name]["origin"] == "built in"
        assert objects[name]["summary"]
        assert name in call("list", what).out
    assert "preference-bandit@noisy" in call("list", "tasks").out


def test_show(call, results: Path) -> None:  # type: ignore[no-untyped-def]
    record = next(r for r in load_records(results).records if r.row == "grpo")
    shown = call("show", record.identity[:12], "--results", str(results))
    assert shown.status == 0
    assert "grpo on preference-bandit, seed 0: reward" in shown.out
    path = results / "preference-bandit" / "grpo" / f"{record.identity[:16]}.json"
    as_json = call("show", str(path), "--format", "json")
    assert as_json.out == path.read_text()
    wrong = call("show", "zz", "--results", str(results))
    assert wrong.status == 2
    assert "no record" in wrong.err


def test_two_suites_are_compared_by_the_runs_that_are_theirs(call, results: Path) -> None:  # type: ignore[no-untyped-def]
    """Both name the row grpo; only one of its two settings is in each."""
    suite = """summary = "one row"
seeds = "0-2"
protocol = {{ budget = {{ steps = 3000 }}, evaluations = 10, probes = 3, anneal = true }}
rows = [{{ name = "grpo", algorithm = "grpo", tasks = ["preference-bandit"], settings = {} }}]
"""
    for name, settings in (("plain", "{}"), ("strong", "{ beta = 0.5 }")):
        Path(f"{name}.toml").write_text(suite.format(settings))
        assert call("run", f"{name}.toml", "--workers", "1", "--results", "both").status == 0
    said = call("compare", "plain.toml", "strong.toml", "--results", "both", "--format", "json")
    pair = json.loads(said.out)
    assert (pair["a"], pair["b"]) == ("grpo (plain.toml)", "grpo (strong.toml)")
    assert pair["n_seeds"] == 3 and pair["difference"]["estimate"] > 0
    none = call("compare", "plain.toml", "strong.toml", "--results", str(results))
    assert none.status == 2 and "have no board in common" in none.err


def test_leaderboard_and_compare(call, results: Path) -> None:  # type: ignore[no-untyped-def]
    where = ("--task", "preference-bandit", "--results", str(results))
    board = json.loads(call("leaderboard", *where, "--format", "json").out)
    rows = {row["row"]: row for row in board["rows"]}
    assert board["task"] == "preference-bandit"
    assert rows["grpo"]["n_seeds"] == 3
    assert rows["grpo"]["reward"]["low"] <= rows["grpo"]["reward"]["iqm"]
    assert rows["sb3-ppo"]["status"] == "skipped"
    for form in ("table", "markdown", "csv", "latex", "html"):
        assert "soft-pair-grpo" in call("leaderboard", *where, "--format", form).out
    compared = json.loads(call("compare", "grpo", "reference", *where, "--format", "json").out)
    assert compared["n_seeds"] == 3
    assert compared["difference"]["estimate"] > 0
    said = call("compare", "grpo", "reference", *where).out.splitlines()
    assert said[0] == compared["conclusion"] and "3 seeds can only hint at" in said[2]
    three = ("compare", "grpo", "reference", "soft-pair-grpo", *where)
    pairs = json.loads(call(*three, "--format", "json").out)
    assert [(pair["a"], pair["b"]) for pair in pairs][1] == ("grpo", "soft-pair-grpo")
    assert all(pair["p_holm"] >= pair["p_value"] for pair in pairs)
    assert call(*three).out.count("Holm-corrected over 3 pairs") == 3
    assert call("compare", "grpo", *where).err == "pairbench: name at least two rows to compare\n"
    itself = call("compare", str(results), str(results))
    assert itself.status == 0 and "have the same mean score at each of 3 shared seeds" in itself.out
    assert "name its --task" in call("compare", "grpo", "reference").err
    overall = call("leaderboard", "--overall", "--results", str(results))
    assert overall.status == 2 and "there is no overall board yet" in overall.err
    unknown = call("compare", "grpo", "refrence", *where)
    assert unknown.status == 2
    assert "reference" in unknown.err
    written = call("leaderboard", "--results", str(results), "--site", "site").out.split()
    assert written
    assert all(Path(path).exists() for path in written)
    runs = Path("site/runs/index.js").read_text()
    assert all(run[:16] in runs for row in rows.values() for run in row["runs"].values())


def test_a_figure_is_one_file(call, results: Path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra plot)")
    where = ("--task", "preference-bandit", "--results", str(results))
    drawn = call("plot", "curves", *where, "--rows", "grpo,reference", "--out", "figure.svg")
    assert (drawn.status, drawn.out) == (0, "figure.svg\n") and Path("figure.svg").exists()
    wrong = call("plot", "curves", *where, "--rows", "gpro")
    assert wrong.status == 2 and "no row 'gpro'" in wrong.err


def test_an_empty_results_folder_is_one_sentence(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for form in ("table", "json", "csv"):
        said = call("leaderboard", "--results", str(tmp_path), "--format", form)
        assert (said.status, said.out) == (2, "")
        assert said.err == f"pairbench: there are no records in {tmp_path}: run something first\n"


def test_data_out_of_reach_are_one_sentence_before_any_run(  # type: ignore[no-untyped-def]
    call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAIRBENCH_DATA", "restored after this test")
    said = call(
        "run", "--algorithms", "dpo", "--tasks", "hh-rlhf-harmless", "--budget-gradient-steps", "1",
        "--seeds", "0-3", "--data-dir", str(tmp_path),
    )  # fmt: skip
    assert said.status == 2
    assert said.err.count("\n") == 1
    assert "hh" in said.err and str(tmp_path) in said.err


def test_the_verbs_are_in_python_too(results: Path) -> None:
    records, problems = pairbench.load_records(results)
    assert problems == []
    boards = pairbench.leaderboard.build(records, task="preference-bandit")
    assert {row.row for row in boards[0].rows} >= {"grpo", "reference"}
    comparison = pairbench.compare(records, "grpo", "reference", "preference-bandit")
    assert comparison.n_seeds == 3
    assert pairbench.query("SELECT count(*) FROM series", results).fetchall() != [(0,)]
    with pytest.raises(PairBenchError, match="did you mean"):
        pairbench.run(algorithms=["gpro"], tasks=["preference-bandit"], budget={"steps": 10})
    with pytest.raises(AttributeError):
        pairbench.nothing  # noqa: B018


def test_runs_of_skipped_rows_alone_say_so(call) -> None:  # type: ignore[no-untyped-def]
    found = call(
        *["run", "--algorithms", "sb3-ppo", "--tasks", "preference-bandit", "--budget-steps", "9"]
    )
    assert found.status == 0
    assert "Nothing was run, since every row was skipped. sb3-ppo: " in found.err


EXTRAS = (
    "accelerate datasets evaluate gguf imageio matplotlib obstore optuna peft ray requests "
    "stable_baselines3 submitit tensorboard tokenizers tomli_w transformers trl wandb"
)
WITHOUT_EXTRAS = f"""
import sys
class Missing:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS.split()}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing)
from pairbench.cli.main import main
for command in sys.argv[2:]:
    place = ["--results", sys.argv[1]] * command.startswith(("leaderboard", "compare", "replicate"))
    try:
        main([*command.split(), *place])
    except SystemExit as ended:
        if ended.code:
            raise
"""


def test_what_reads_records_needs_no_extra(tmp_path: Path) -> None:
    for one in language_records():
        Store(tmp_path).write(one)
    commands = [
        "leaderboard",
        "leaderboard --task hh-rlhf-helpful --format json",
        "compare far near --task hh-rlhf-helpful",
        "replicate",
        "claims covariance-sign",
        "list tasks",
    ]
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, str(tmp_path), *commands],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "far" in ran.stdout and "covariance-sign" in ran.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["tune", "--help"]])
def test_help_loads_no_large_package(arguments: list[str]) -> None:
    script = (
        "import sys; from pairbench.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print({'torch', 'numpy', 'duckdb'} & set(sys.modules), file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=600
    )
    assert ran.returncode == 0
    assert ran.stderr.strip() == "set()"


@pytest.mark.performance
@pytest.mark.parametrize(
    ("arguments", "most"),
    # a list imports what it lists, and so torch
    [(["--help"], 0.4), (["list", "algorithms"], 3.0), (["list", "suites"], 3.0)],
)
def test_help_and_lists_are_quick(arguments: list[str], most: float) -> None:
    def seconds() -> float:
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "pairbench", *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            env=os.environ,
        )
        return time.perf_counter() - began

    assert statistics.median(seconds() for _ in range(5)) < most
