"""Equal trials on seeds and contexts no board has, the same after a kill, and a suite that runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

pytest.importorskip("optuna", reason="the extra tune is not installed")
pytest.importorskip("tomli_w", reason="the extra tune is not installed")

from pairbench.cli.main import main
from pairbench.errors import PairBenchError
from pairbench.experiments.launch.base import Ended, Event, Job
from pairbench.experiments.runner import run
from pairbench.experiments.suite import Suite, load_suite, plan
from pairbench.experiments.tuning.report import render as as_table
from pairbench.experiments.tuning.search import DRAWN, as_toml, propose, tune
from pairbench.experiments.tuning.study import Outcome, Study, Trial
from pairbench.experiments.tuning.trials import read_records
from pairbench.leaderboard import build, render
from pairbench.registry import BUILT_IN, entries, get_algorithm
from pairbench.results.folder import Store
from pairbench.results.load import load_records
from pairbench.results.record import RunRecord
from pairbench.seeding import TUNING_SEEDS
from pairbench.space import Choice, Range, choice, integers, log_uniform, uniform
from pairbench.training import sources
from pairbench.training.train import train
from tests.support.gate import Gate
from tests.support.grids import children, wait_for
from tests.support.study_series import read_series

BANDIT = "preference-bandit"
RESULTS = Path(__file__).resolve().parents[3] / "results"
SPACE: dict[str, Range | Choice] = {
    "lr": log_uniform(1e-3, 1.0),
    "clip": uniform(0.1, 0.4),
    "keep": integers(2, 8),
    "form": choice("a", "b"),
}
START = {"lr": 0.03, "clip": 0.2, "keep": 4, "form": "a", "other": None}


class Here:
    """A launcher that runs jobs in this process, one at a poll.

    Attributes:
        seen: rows and seeds of the jobs, in their order.
        broken: rows whose runs fail.
        limit: jobs after which it is interrupted.
    """

    def __init__(self, broken: tuple[str, ...] = (), limit: int = 10_000) -> None:
        self.jobs: deque[Job] = deque()
        self.seen: list[tuple[str, int]] = []
        self.broken, self.limit, self.closed = broken, limit, False

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def poll(self, timeout: float) -> list[Event]:
        if len(self.seen) == self.limit:
            raise KeyboardInterrupt
        spec = self.jobs.popleft().spec
        self.seen.append((spec.row, spec.seed))
        result = train(spec)
        record = result.record
        if spec.row in self.broken:
            update = {"status": "failed", "reason": "the loss is not finite", "evaluation": None}
            record = record.model_copy(update=update)
        return [Ended(record, result.series)]

    def close(self) -> None:
        self.closed = True


def search(results: Path, launcher: Here | None = None, **changes: Any) -> Outcome:
    """Tunes two rows on the bandit in this process, three trials each unless `changes` differ."""
    asked: dict[str, Any] = {
        "algorithms": ["grpo", "dpo"],
        "task": BANDIT,
        "trials": 3,
        "seeds": [1000, 1001],
        "budget": {"steps": 600},
        "results": results,
    }
    return tune(**{**asked, **changes}, launcher=launcher or Here())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A study of twelve trials of two rows and one seed, two of them by the estimator."""
    results = tmp_path_factory.mktemp("whole")
    return results, search(results, trials=DRAWN + 2, seeds=[1000])


def test_trials_of_other_code_are_named_and_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(tmp_path, trials=1, seeds=[1000])
    before = sources.sources

    def edited(*parts: Any) -> dict[str, str]:
        found = before(*parts)
        return found | ({"source of dpo": "f" * 64} if "source of dpo" in found else {})

    with monkeypatch.context() as patch:
        patch.setattr(sources, "sources", edited)
        with pytest.raises(PairBenchError, match=r"^the source of dpo changed: \w+ to ffffffff "):
            search(tmp_path, trials=2, seeds=[1000])
    assert search(tmp_path, trials=2, seeds=[1000]).study.rows["dpo"].trials[1].value is not None


# what is searched


@pytest.mark.parametrize("values", SPACE.values(), ids=list(SPACE))
@given(seed=st.integers(0, 2**32))
def test_what_is_drawn_lies_in_its_space_and_can_be_written(
    values: Range | Choice, seed: int
) -> None:
    drawn = values.draw(np.random.default_rng(seed))
    assert drawn in values
    assert json.loads(json.dumps(drawn)) == drawn
    if isinstance(values, Range):
        assert values.rounded(float(drawn)) == drawn  # type: ignore[arg-type]


def test_equal_ratios_are_equally_likely_under_log_uniform() -> None:
    draw = np.random.default_rng(0)
    drawn = np.array([SPACE["lr"].draw(draw) for _ in range(2000)], dtype=float)
    assert abs((drawn < 10**-1.5).mean() - 0.5) < 0.04
    assert {SPACE["keep"].draw(draw) for _ in range(200)} == set(range(2, 9))


def test_every_learner_that_is_ours_has_a_space_for_each_kind_it_has_a_preset_for() -> None:
    for name, entry in entries("algorithm").items():
        if entry.origin != BUILT_IN or entry.name.startswith("trl-"):  # TRL may not be installed
            continue
        cls = get_algorithm(name)
        kinds = {preset.partition("@")[0] for preset in cls.presets}
        searched = [kind for kind in kinds if cls.space(kind)]
        assert bool(cls.untuned) == (not searched), name
        if not cls.untuned:
            assert set(searched) == kinds, name
            assert all("lr" in cls.space(kind) for kind in kinds), name
            assert not cls.space("no-such-kind"), name


def test_the_space_of_a_variant_replaces_its_kinds() -> None:
    cls = get_algorithm("gspo")
    assert cls.space("language")["clip_low"] != cls.space("control")["clip_low"]
    pretrained = cls.space("language", "smollm2-135m")
    assert pretrained["lr"] != cls.space("language")["lr"]
    assert pretrained["clip_low"] == cls.space("language")["clip_low"]


def test_proposals_depend_on_the_seed_the_row_and_the_trials_before() -> None:
    def trials(sampler: int, row: str = "a", count: int = DRAWN + 3) -> list[dict[str, Any]]:
        made: list[Trial] = []
        for _ in range(count):
            settings = propose(SPACE, made, START, row, sampler)
            assert all(settings[key] in SPACE[key] for key in SPACE)
            made.append(Trial(settings=settings, rewards={1000: -abs(float(settings["lr"]) - 0.1)}))
        return [trial.settings for trial in made]

    first = trials(0)
    assert first == trials(0)
    assert first[0] == {key: START[key] for key in SPACE}
    assert first[1:] != trials(1)[1:]
    assert first[1:] != trials(0, "b")[1:]
    assert len({json.dumps(settings) for settings in first}) == len(first)


def test_the_estimator_reads_the_outcomes_and_counts_a_failure_as_bad() -> None:
    def after(good: float, failed: bool) -> float:
        """The mean of what is proposed after trials that fail, or earn little, above `good`."""
        draw = np.random.default_rng(1)
        space = {"x": uniform(0.0, 1.0)}
        made = [Trial(settings={"x": 0.5}, rewards={1000: 0.5})]
        for _ in range(30):
            x = float(space["x"].draw(draw))
            bad = x > good
            rewards = {} if bad and failed else {1000: 0.0 if bad else 1.0}
            failures = {1000: "NaN"} if bad and failed else {}
            made.append(Trial(settings={"x": x}, rewards=rewards, failures=failures))
        told = [float(propose(space, made, {}, f"row {n}", 0)["x"]) for n in range(8)]
        return float(np.mean(told))

    assert after(0.3, failed=False) < 0.4
    assert after(0.3, failed=True) < 0.4


# trials and their value


def record_with(reward: float | None, seed: int = 1000) -> RunRecord:
    (spec,) = plan(
        algorithms=["random"], tasks=[BANDIT], seeds=[seed - 1000], budget={"steps": 9}
    ).specs
    made = train(spec).record
    assert made.evaluation is not None
    if reward is None:
        failed = {"seed": seed, "status": "failed", "reason": "why", "evaluation": None}
        return made.model_copy(update=failed)
    scores = {"stochastic": [reward, reward]}
    changed = made.evaluation.model_copy(update={"scores": scores})
    return made.model_copy(update={"seed": seed, "evaluation": changed})


def test_a_trials_value_is_the_mean_over_seeds_with_its_standard_error() -> None:
    trial = Trial(settings={})
    for seed, reward in ((1000, 1.0), (1001, 3.0)):
        trial.note(record_with(reward, seed))
    assert trial.value == 2.0
    assert trial.error == pytest.approx(1.0)  # sd 1.4142 / sqrt 2
    assert Trial(settings={}, rewards={1000: 1.0}).error is None


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), None])
def test_a_run_that_failed_or_has_no_finite_reward_fails_its_trial(reward: float | None) -> None:
    trial = Trial(settings={}, rewards={1001: 5.0})
    trial.note(record_with(reward))
    assert trial.value is None and trial.error is None
    assert trial.done([1000, 1001])
    assert trial.failures == {1000: "why" if reward is None else "its reward is not finite"}


# a study


def test_all_rows_get_the_same_trials_on_tuning_seeds_and_validation_contexts(
    whole: tuple[Path, Outcome],
) -> None:
    results, outcome = whole
    rows = outcome.study.rows
    assert {name: len(search.trials) for name, search in rows.items()} == {
        "grpo": DRAWN + 2, "dpo": DRAWN + 2,
    }  # fmt: skip
    folder = results / "tuning" / BANDIT
    assert not (folder / "runs").exists()
    records = read_records(folder)
    assert len(records) == len(read_series(folder)) == 2 * (DRAWN + 2)
    assert {record.seed for record in records} == {1000}
    assert {record.task_config["held_out"] for record in records} == {"validation"}
    assert len({record.spec.board for record in records}) == 1  # one budget, one protocol
    assert {record.protocol.budget.steps for record in records} == {600}


def test_trial_0_is_the_preset_and_the_best_is_never_below_it(whole: tuple[Path, Outcome]) -> None:
    _, outcome = whole
    for name, search in outcome.study.rows.items():
        preset = plan(algorithms=[name], tasks=[BANDIT], budget={"steps": 9}).specs[0]
        assert search.trials[0].settings == {
            key: preset.algorithm_config[key] for key in search.space
        }
        assert search.best is not None and search.trials[0].value is not None
        values = [trial.value for trial in search.trials]
        assert search.best.value == max(value for value in values if value is not None)
        assert (search.best.value or 0.0) >= search.trials[0].value


def test_results_of_tuning_are_on_no_board(whole: tuple[Path, Outcome]) -> None:
    assert load_records(whole[0]).records == []


def test_a_second_call_runs_nothing_and_says_the_same(whole: tuple[Path, Outcome]) -> None:
    results, outcome = whole
    launcher = Here(limit=0)
    again = search(results, launcher, trials=DRAWN + 2, seeds=[1000])
    assert launcher.seen == [] and launcher.closed
    assert again.study == outcome.study and again.suite == outcome.suite


@pytest.mark.parametrize("limit", [5, 21])
def test_a_killed_study_goes_on_as_if_it_had_not_been(
    tmp_path: Path, whole: tuple[Path, Outcome], limit: int
) -> None:
    """Once among the drawn trials, once among the estimator's."""
    first, second = Here(limit=limit), Here()
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, first, trials=DRAWN + 2, seeds=[1000])
    again = search(tmp_path, second, trials=DRAWN + 2, seeds=[1000])
    assert again.study.sha256 == whole[1].study.sha256
    assert again.suite == whole[1].suite
    together = first.seen + second.seen
    assert len(together) == len(set(together)) == 2 * (DRAWN + 2)


@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_same_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(tmp_path / "site", monkeypatch)
    asked = {"algorithms": ["reference", "grpo", gate.name], "trials": 2, "budget": {"steps": 2000}}
    whole = search(tmp_path / "whole", seeds=[1000], **asked)
    gate.shut()
    command = [
        sys.executable, "-m", "pairbench", "tune", "--algorithms", f"reference,grpo,{gate.name}",
        "--task", BANDIT, "--trials", "2", "--seeds", "1000", "--budget-steps", "2000",
        "--workers", "1", "--checkpoint-seconds", "0", "--results", str(tmp_path / "mine"),
    ]  # fmt: skip
    runs = Store(tmp_path / "mine" / "tuning" / BANDIT / "runs")
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as driver:
        wait_for(
            lambda: list(runs.root.glob(".checkpoints/*s")) and list(runs.root.glob("*/*/*.json"))
        )
        for pid in (driver.pid, *children(driver.pid)):
            os.kill(pid, signal.SIGKILL)
    gate.open()
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    study = tmp_path / "mine" / "tuning" / BANDIT / "study.json"
    assert Study.model_validate_json(study.read_bytes()).sha256 == whole.study.sha256


def test_a_study_grows_by_trials_and_rows_and_keeps_those_it_has(
    tmp_path: Path, whole: tuple[Path, Outcome]
) -> None:
    few = search(tmp_path, algorithms=["grpo"], trials=4, seeds=[1000])
    launcher = Here()
    more = search(tmp_path, launcher, trials=DRAWN + 2, seeds=[1000])
    assert len(launcher.seen) == 2 * (DRAWN + 2) - 4
    assert more.study.rows["grpo"].trials[:4] == few.study.rows["grpo"].trials
    assert more.study.sha256 == whole[1].study.sha256 != few.study.sha256


def test_workers_do_not_change_what_is_found(tmp_path: Path) -> None:
    mine = search(tmp_path / "here")
    theirs = tune(
        algorithms=["grpo", "dpo"], task=BANDIT, trials=3, budget={"steps": 600}, workers=2,
        results=tmp_path / "there",
    )  # fmt: skip
    assert mine.study.sha256 == theirs.study.sha256


def test_a_failed_trial_stops_no_other_is_never_best_and_not_run_again(tmp_path: Path) -> None:
    launcher = Here(broken=("grpo, trial 0", "dpo, trial 1", "dpo, trial 2", "dpo, trial 0"))
    outcome = search(tmp_path, launcher, trials=3)
    assert len(launcher.seen) == 12
    rows = outcome.study.rows
    assert (rows["grpo"].failed, rows["dpo"].failed) == (1, 3)
    assert rows["grpo"].best is not None and rows["grpo"].best is not rows["grpo"].trials[0]
    assert rows["dpo"].best is None
    assert outcome.suite is not None
    assert [row.name for row in outcome.suite.rows] == ["grpo+tuned"]
    said = as_table(outcome)
    assert "FAILED grpo, trial 0, seed 1000: the loss is not finite" in said
    assert "dpo has no finished trial: it is not in the suite" in said
    launcher = Here(limit=0)
    assert search(tmp_path, launcher, trials=3).study == outcome.study


def test_failures_of_before_a_kill_are_not_run_again(tmp_path: Path) -> None:
    broken = ("grpo, trial 0",)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, Here(broken, limit=2))
    launcher = Here()
    outcome = search(tmp_path, launcher)
    assert "grpo, trial 0" not in {row for row, _ in launcher.seen}
    assert outcome.study.rows["grpo"].failed == 1


@pytest.mark.skipif(not RESULTS.is_dir(), reason="no committed results here")
def test_identities_of_committed_records_are_those_they_were() -> None:
    """Nothing that tuning has added changes what an untuned run is known by."""
    store = Store(RESULTS)
    specs = plan("control", algorithms=["grpo"], tasks=["halfcheetah-v4"]).specs
    assert specs != [] and all(store.find(spec)[0] for spec in specs)


# the suite


def test_the_suite_runs_and_its_board_says_what_was_spent(
    tmp_path: Path, whole: tuple[Path, Outcome]
) -> None:
    _, outcome = whole
    assert outcome.path is not None and outcome.suite is not None
    suite = load_suite(str(outcome.path))
    assert suite.model_dump(exclude={"name"}) == outcome.suite.model_dump(exclude={"name"})
    plain = {"algorithms": ["grpo"], "tasks": [BANDIT], "budget": {"steps": 600}}
    by_hand = run(**plain, seeds="0-1", results=tmp_path, workers=1)
    records = run(str(outcome.path), seeds="0-1", results=tmp_path, workers=1)
    assert {record.status for record in records} == {"finished"}
    for name, search in outcome.study.rows.items():
        assert search.best is not None
        mine = [record for record in records if record.row == f"{name}+tuned"]
        assert [record.seed for record in mine] == [0, 1]
        for record in mine:
            assert record.algorithm_config == {**search.config, **search.best.settings}
            assert record.task_config == by_hand[0].task_config  # the boards' contexts
            assert record.tuning is not None
            assert (record.tuning.trials, record.tuning.study) == (DRAWN + 2, outcome.study.sha256)
    stored = load_records(tmp_path).records
    assert {r.identity: r.tuning for r in stored} == {
        r.identity: r.tuning for r in [*records, *by_hand]
    }
    (board,) = build(stored)
    assert {row.row: row.tuning and row.tuning.trials for row in board.rows} == {
        "grpo": None, "grpo+tuned": DRAWN + 2, "dpo+tuned": DRAWN + 2,
    }  # fmt: skip
    for form in ("table", "markdown", "csv", "html"):
        assert "trials" in render(board, form), form
        assert "trials" not in render(build(by_hand)[0], form), form
    assert outcome.study.sha256 in render(board, "html")
    assert "tuning" not in render(build(by_hand)[0], "json")


def test_a_row_that_was_searched_for_is_another_than_one_set_by_hand() -> None:
    plain = {"name": "grpo", "algorithm": "grpo", "tasks": [BANDIT]}
    tuned = {**plain, "name": "tuned", "tuning": {"trials": 1, "study": "0" * 64}}
    terms = {"budget": {"steps": 9}}
    suite = Suite.model_validate({"name": "t", "protocol": terms, "rows": [plain, tuned]})
    hand, found = plan(suite).specs
    assert hand.algorithm_config == found.algorithm_config
    assert hand.identity != found.identity and hand.configuration != found.configuration
    assert hand.board == found.board
    assert "tuning" not in hand.model_dump()


def test_a_suite_says_adams_epsilon_where_it_was_said(tmp_path: Path) -> None:
    """The usual one too, which is not every task's: language tasks have another by default."""
    row = {"name": "grpo", "algorithm": "grpo", "tasks": ["toy-dialogue", "ultrafeedback"]}
    own = {"toy-dialogue": {"protocol": {"budget": {"steps": 9}, "adam_eps": 1e-5}}}
    suite = Suite.model_validate(
        {"name": "t", "protocol": {"budget": {"steps": 9}}, "terms": own, "rows": [row]}
    )
    path = tmp_path / "again.toml"
    path.write_text(as_toml(suite))
    found = {spec.task: spec.protocol.adam_eps for spec in plan(str(path)).specs}
    assert found == {"toy-dialogue": 1e-5, "ultrafeedback": 1e-8}


def test_a_suite_is_tuned_row_by_row_and_what_cannot_be_goes_along(tmp_path: Path) -> None:
    rows = [
        {"name": "mine", "algorithm": "dpo", "settings": {"lr": 0.05}},
        {"name": "reference", "algorithm": "reference"},
        {"name": "sb3-ppo", "algorithm": "sb3-ppo"},
    ]
    suite = Suite.model_validate(
        {
            "name": "t",
            "protocol": {"budget": {"steps": 900}, "evaluations": 2},
            "seeds": "3-4",
            "rows": [{**row, "tasks": [BANDIT, f"{BANDIT}@noisy"]} for row in rows],
        }
    )
    outcome = search(
        tmp_path, suite=suite, algorithms=[], task=f"{BANDIT}@noisy", trials=1, budget=None
    )
    assert outcome.left_out.keys() == {"reference", "sb3-ppo"}
    assert "does not learn" in outcome.left_out["reference"]
    assert outcome.study.terms.protocol.evaluations == 1  # of a trial, the end alone counts
    assert outcome.path is not None and outcome.path.name == "tuned-preference-bandit@noisy.toml"
    again = load_suite(str(outcome.path))
    assert (again.protocol, again.seeds) == (suite.protocol, (3, 4))
    assert [row.name for row in again.rows] == ["mine+tuned", "reference", "sb3-ppo"]
    assert again.rows[0].settings == {"beta": 1.0, "lr": 0.05}


# what is refused


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"trials": 0}, "trials = 0 is out of range"),
        ({"workers": 0}, "workers = 0 is out of range"),
        ({"algorithms": ["gpro"]}, "did you mean grpo"),
        ({"task": "preference-bandti"}, "did you mean preference-bandit"),
        ({"algorithms": ["sb3-ppo"]}, "sb3-ppo cannot be tuned on preference-bandit: a peer is"),
        ({"algorithms": ["reference"]}, "nothing on preference-bandit is left to tune"),
        ({"task": "halfcheetah-v4", "algorithms": ["orpo"]}, "orpo's log odds need"),
        ({"seeds": "0-1"}, "seed 0 may be on a board"),
        ({"seeds": [1000, 1100]}, "seed 1100 may be on a board"),
        ({"seeds": []}, "no seeds were given"),
        ({"budget": None}, "without a suite, tuning needs algorithms and a budget"),
        ({"overrides": ["grpo.lr=1"]}, "is not of the task"),
        ({"study": "../elsewhere"}, "cannot be named"),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_use_is_one_sentence(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(PairBenchError, match=says):
        search(tmp_path, Here(limit=0), **changes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"budget": {"steps": 700}}, 'protocol .*"steps": 600'),
        ({"seeds": [1000]}, r"seeds \[1000, 1001\], not \[1000\]"),
        ({"sampler_seed": 1}, "sampler 0, not 1"),
        ({"algorithms": ["dpo"]}, "row grpo, which is not asked for"),
        ({"trials": 1}, "3 trials of a row, not 1"),
        ({"overrides": [f"{BANDIT}.arms=4"]}, "task_config"),
    ],
    ids=str,
)
def test_a_folder_of_other_settings_is_left_alone(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any], says: str
) -> None:
    results = tmp_path_factory.getbasetemp() / "other-settings"
    if not results.exists():
        search(results)
    path = results / "tuning" / BANDIT / "study.json"
    before = path.read_bytes()
    with pytest.raises(PairBenchError, match=f"holds a study of other settings .*{says}"):
        search(results, Here(limit=0), **changes)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ['{"terms": ', "[]", '{"rows": {}, "rows": {}}', "[" * 100_000])
def test_a_damaged_study_is_not_overwritten(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tuning" / BANDIT / "study.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(PairBenchError, match="cannot be read as a study"):
        search(tmp_path, Here(limit=0))
    assert path.read_text() == text


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"other": 1}},
        {"settings": {"lr": "x"}},
        {"settings": {}},
        {"settings": {"lr": 1e308}},
        {"rewards": {"7": 1.0}},
    ],
    ids=str,
)
def test_trials_that_are_not_of_the_study_are_refused(
    change: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, Here(limit=1), trials=2)
    path = tmp_path / "tuning" / BANDIT / "study.json"
    study = json.loads(path.read_text())
    study["rows"]["grpo"]["trials"][1].update(change)
    path.write_text(json.dumps(study))
    with pytest.raises(PairBenchError, match="trial 1 of grpo has settings outside its space or"):
        search(tmp_path, Here(limit=0), trials=2)


def test_boards_refuse_the_seeds_of_tuning() -> None:
    bandit: dict[str, Any] = {"algorithms": ["grpo"], "tasks": [BANDIT], "budget": {"steps": 9}}
    for seed in (TUNING_SEEDS[0], TUNING_SEEDS[-1]):
        with pytest.raises(PairBenchError, match=f"seed {seed} is for `pairbench tune` alone"):
            plan(**bandit, seeds=[0, seed])
        plan(**bandit, seeds=[seed], overrides=[f"{BANDIT}.held_out=validation"])
    plan(**bandit, seeds=[TUNING_SEEDS[-1] + 1])


def test_without_optuna_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(PairBenchError, match=r"pip install 'pairbench\[tune\]'"):
        search(tmp_path)


def test_a_task_without_validation_contexts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pairbench.task import TaskConfig
    from pairbench.tasks.preference_bandit import PreferenceBandit

    monkeypatch.setattr(PreferenceBandit, "Config", TaskConfig)
    with pytest.raises(PairBenchError, match="holds no validation contexts out"):
        search(tmp_path)


# the command


def test_the_command_prints_the_table_and_what_to_run_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "tune", "--algorithms", "grpo,reference", "--task", BANDIT, "--trials", "2",
        "--budget-steps", "300", "--workers", "1", "--results", str(tmp_path),
    ]  # fmt: skip
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert "as it stands" in said and "reference was not tuned: it does not learn" in said
    assert "±" in said
    study = Study.model_validate_json((tmp_path / "tuning" / BANDIT / "study.json").read_bytes())
    path = tmp_path / "tuning" / BANDIT / f"tuned-{BANDIT}.toml"
    assert f"next: pairbench run {path} --results {tmp_path}" in said
    with pytest.raises(SystemExit) as left:
        main([*arguments, "--format", "json"])
    assert left.value.code == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["row"], row["trials"], row["failed"]) == ("grpo", 2, 0)
    assert row["preset"]["value"] == study.rows["grpo"].trials[0].value


def test_wrong_use_of_the_command_is_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["tune", "--algorithms", "grpo", "--task", BANDIT, "--trials", "0",
              "--budget-steps", "9", "--results", str(tmp_path)])  # fmt: skip
    assert left.value.code == 2
    assert capsys.readouterr().err == (
        "pairbench: trials = 0 is out of range: it must be at least 1\n"
    )
