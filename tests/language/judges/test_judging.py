"""Kept completions judged later: local judges, a fake endpoint, and the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the extra language is not installed")

from pairbench.cli.main import main
from pairbench.errors import PairBenchError
from pairbench.evaluation import Evaluation
from pairbench.experiments.suite import plan
from pairbench.language.data import toy
from pairbench.language.data.load import load
from pairbench.language.data.pairs import Pair, prompt_id
from pairbench.language.judges.endpoint import Choice, Verdict
from pairbench.language.judges.judgement import JudgedRow, Judgement, both_orders, table
from pairbench.language.judges.judging import judge
from pairbench.language.judges.panel import KnownAnswers
from pairbench.results.folder import Store
from pairbench.results.load import load_records
from pairbench.results.record import RunRecord
from tests.support.fake_judge import FakeJudge, Trouble, longer
from tests.support.records import record

PROMPTS = 6
HELD_OUT = sorted(
    {pair.prompt: pair for pair in reversed(load("toy-dialogue").split()["evaluation"])}.values(),
    key=lambda pair: pair.prompt,
)[:PROMPTS]


def text(row: str, seed: int, number: int, pair: Pair) -> str:
    """What a row answers: grpo right, dpo wrong, orpo as the reference does, which is short."""
    match row:
        case "grpo":
            return pair.chosen
        case "dpo":
            return pair.rejected if seed else f"{pair.rejected} {number}"
        case _:
            return "?"


def kept(row: str, seed: int, texts: dict[str, list[str]] | None = None) -> Any:
    """Returns the record and texts of a run that nobody ran."""
    grid = plan(
        algorithms=[row], tasks=["toy-dialogue"], seeds=[seed], budget={"gradient_steps": 2},
    )  # fmt: skip
    (spec,) = grid.specs
    texts = texts or {
        "prompt": [prompt_id(pair.prompt) for pair in HELD_OUT],
        "completion": [text(row, seed, k, pair) for k, pair in enumerate(HELD_OUT)],
    }
    gold = KnownAnswers("gold").score(
        [pair.prompt for pair in HELD_OUT], texts["completion"], [""] * PROMPTS
    )
    made = RunRecord(
        **spec.model_dump(),
        identity=spec.identity,
        status="finished",
        evaluation=Evaluation(scores={"gold judge": gold.tolist()}),
    )
    return made, texts


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Three rows and the reference, two seeds, six prompts each."""
    store = Store(tmp_path / "results")
    for row, seed in product(("grpo", "dpo", "orpo", "reference"), (0, 1)):
        made, texts = kept(row, seed)
        store.write(made, texts=texts)
    return store.root


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeJudge]:
    monkeypatch.delenv("PAIRBENCH_JUDGE_KEY", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeJudge() as server:
        yield server


def judged(results: Path, who: str, **options: Any) -> Judgement:
    return judge(load_records(results).records, results, who, **options)


def rows(judgement: Judgement) -> dict[str, JudgedRow]:
    return {row.row: row for row in judgement.rows}


def openai(fake: FakeJudge) -> str:
    return f"openai:{fake.url},judge-1"


def rate(value: Any) -> tuple[float, float | None, float | None]:
    return value.estimate, value.low, value.high


# Local judges.


def test_the_gold_judge_says_again_what_the_records_say(results: Path) -> None:
    found = judged(results, "gold")
    evaluations = {(r.row, r.seed): r.evaluation for r in load_records(results).records}
    for name, row in rows(found).items():
        means = [e.reward for (of, _), e in evaluations.items() if of == name and e is not None]
        assert row.score is not None
        assert row.score.mean == pytest.approx(np.mean(means), rel=1e-5)
        assert row.score.low is not None and row.score.low <= row.score.mean
    assert found.judge.name == "gold score of toy-dialogue"
    assert (found.requests, found.stopped, found.left_out, found.failed) == (0, None, [], False)


def test_ties_count_one_half_and_head_to_head_is_seen_from_both_sides(results: Path) -> None:
    found = rows(judged(results, "gold"))
    assert next(iter(found)) == "grpo"
    grpo, orpo = found["grpo"].versus, found["orpo"].versus
    assert grpo is not None and orpo is not None
    assert rate(grpo.win_rate) == (1.0, 1.0, 1.0)
    assert (grpo.comparisons, grpo.seeds, grpo.position_bias) == (2 * PROMPTS, [0, 1], None)
    assert (rate(orpo.win_rate)[0], rate(orpo.ties)[0], orpo.identical) == (0.5, 1.0, 2 * PROMPTS)
    assert found["reference"].versus is None
    for a, b in (("grpo", "dpo"), ("dpo", "orpo"), ("grpo", "orpo")):
        there, back = found[a].head_to_head[b], found[b].head_to_head[a]
        assert rate(there.win_rate)[0] + rate(back.win_rate)[0] == pytest.approx(1.0)
        assert there.ties == back.ties


def test_the_proxy_says_that_methods_were_trained_on_it(results: Path) -> None:
    shown = table(judged(results, "proxy"))
    assert "Judge: proxy score of toy-dialogue, a stand-in and not people." in shown
    assert "trained on this judge's scores" in shown


def test_rows_and_seeds_are_chosen(results: Path) -> None:
    found = judged(results, "gold", rows=["dpo"], seeds=[1], baseline="grpo")
    assert set(rows(found)) == {"dpo", "grpo"}
    versus = rows(found)["dpo"].versus
    assert versus is not None
    assert versus.seeds == [1]
    assert versus.win_rate is not None and versus.win_rate.low is None  # one seed, no interval


# What is kept may be damaged.


def path_of(results: Path, row: str, seed: int) -> Path:
    (found,) = [r for r in load_records(results).records if (r.row, r.seed) == (row, seed)]
    return Store(results).path(found).with_suffix(".texts.parquet")


def test_completions_that_are_not_the_record_s_are_left_out_and_named(results: Path) -> None:
    changed, gone = path_of(results, "grpo", 0), path_of(results, "dpo", 1)
    changed.write_bytes(path_of(results, "dpo", 0).read_bytes())
    gone.unlink()
    found = judged(results, "gold")
    assert found.failed
    by_dpo, by_grpo = sorted(found.left_out)
    assert by_dpo.startswith("dpo, seed 1, is left out:")
    assert f"{changed} is not the file that its record names (SHA-256" in by_grpo
    assert {name: row.seeds for name, row in rows(found).items()} == {
        "grpo": [1], "dpo": [0], "orpo": [0, 1], "reference": [0, 1],
    }  # fmt: skip
    assert rows(found)["grpo"].head_to_head["dpo"].win_rate is None  # no seed in common
    for line in found.left_out:
        assert line in table(found)


def test_a_run_without_completions_is_left_out_and_is_no_failure(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for row, seed in (("grpo", 0), ("grpo", 1), ("reference", 0)):
        made, texts = kept(row, seed)
        store.write(made, texts=None if (row, seed) == ("grpo", 1) else texts)
    found = judged(tmp_path, "gold")
    assert found.left_out == ["grpo, seed 1, is left out: it was run before completions were kept"]
    assert not found.failed


def test_prompts_of_other_data_are_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made, texts = kept("reference", 0)
    texts["prompt"][2] = "0123456789abcdef"
    store.write(made, texts=texts)
    with pytest.raises(PairBenchError, match="1 of its 6 prompts are not among the held-out ones"):
        judged(tmp_path, "gold")


# An endpoint.


def test_every_pair_is_asked_in_both_orders_and_no_text_twice(
    results: Path, fake: FakeJudge
) -> None:
    found = judged(results, openai(fake))
    assert set(fake.asked) == {(b, a) for a, b in fake.asked}
    assert len(fake.asked) == len(set(fake.asked)) == found.requests
    # grpo answers alike at both seeds, orpo as the reference does, dpo otherwise at each seed
    assert found.requests == 2 * (PROMPTS + 2 * PROMPTS)
    by_row = rows(found)
    assert set(by_row) == {"grpo", "dpo", "orpo"}
    for name in ("grpo", "dpo"):
        versus = by_row[name].versus
        assert versus is not None
        assert rate(versus.win_rate) == (1.0, 1.0, 1.0)
        assert rate(versus.position_bias) == (0.0, 0.0, 0.0)
        assert (versus.comparisons, versus.unreadable) == (2 * PROMPTS, 0)
        assert by_row[name].head_to_head == {}
    orpo = by_row["orpo"].versus
    assert orpo is not None
    assert (orpo.identical, rate(orpo.ties)[0], orpo.position_bias) == (2 * PROMPTS, 1.0, None)
    assert load_records(results).problems == []
    assert found.judge.served == ["fake-1"]


def test_a_judge_that_always_takes_the_first_shows_as_position_bias(
    results: Path, fake: FakeJudge
) -> None:
    fake.better = lambda a, b: "A"
    found = judged(results, openai(fake), rows=["grpo"])
    versus = rows(found)["grpo"].versus
    assert versus is not None
    assert rate(versus.win_rate)[0] == 0.5
    assert rate(versus.ties)[0] == 1.0
    assert rate(versus.position_bias)[0] == 1.0


def test_a_verdict_in_one_order_and_a_tie_in_the_other_is_a_quarter(
    results: Path, fake: FakeJudge
) -> None:
    fake.better = lambda a, b: "B" if b == "?" else "tie"
    versus = rows(judged(results, openai(fake), rows=["grpo"]))["grpo"].versus
    assert versus is not None
    assert rate(versus.win_rate)[0] == 0.25
    assert (rate(versus.ties)[0], rate(versus.position_bias)[0]) == (0.0, 1.0)


def test_unreadable_verdicts_are_ties_that_are_counted(results: Path, fake: FakeJudge) -> None:
    fake.better = lambda a, b: "A" if b == "?" else "I cannot say"
    versus = rows(judged(results, openai(fake), rows=["grpo"], seeds=[0]))["grpo"].versus
    assert versus is not None
    assert rate(versus.win_rate)[0] == 0.75
    assert (versus.unreadable, versus.position_bias) == (PROMPTS, None)


def test_other_sides_and_meetings_of_rows_ask_only_what_is_new(
    results: Path, fake: FakeJudge
) -> None:
    first = judged(results, openai(fake), rows=["grpo"])
    sent = first.requests
    swapped = judged(results, openai(fake), rows=["reference"], baseline="grpo", budget=0)
    ours, theirs = rows(first)["grpo"].versus, rows(swapped)["reference"].versus
    assert ours is not None and theirs is not None
    assert rate(ours.win_rate)[0] + rate(theirs.win_rate)[0] == 1.0
    assert ours.position_bias == theirs.position_bias
    met = judged(results, openai(fake), rows=["grpo", "orpo"], head_to_head=True)
    assert met.requests == 0  # orpo says what the reference says
    assert rows(met)["grpo"].head_to_head["orpo"].win_rate == ours.win_rate
    assert len(fake.asked) == sent


def test_a_budget_is_spread_over_rows_and_the_next_call_ends_the_work(
    results: Path, fake: FakeJudge
) -> None:
    whole = 2 * 3 * PROMPTS
    part = judged(results, openai(fake), budget=13)
    assert (part.requests, part.failed) == (13, False)
    assert "budget of 13 requests is used up" in str(part.stopped)
    for name in ("grpo", "dpo"):
        versus = rows(part)[name].versus
        assert versus is not None
        assert versus.seeds == [0, 1]
        assert 0 < versus.comparisons < 2 * PROMPTS
        assert versus.comparisons + versus.missing == 2 * PROMPTS
    assert "Incomplete," in table(part)
    rest = judged(results, openai(fake))
    assert (rest.requests, rest.stopped) == (whole - 13, None)
    fake.better = lambda a, b: "no longer asked"
    again = judged(results, openai(fake), budget=0)
    assert again.model_dump(exclude={"requests"}) == rest.model_dump(exclude={"requests"})
    assert len(fake.asked) == whole == len(set(fake.asked))


@pytest.mark.slow
def test_a_killed_command_leaves_what_was_said_and_the_next_asks_the_rest(
    results: Path, fake: FakeJudge
) -> None:
    """It is killed while the seventh answer is waited for, which alone is asked for twice."""
    shutil.copytree(results, results.with_name("whole"))
    whole = judged(results.with_name("whole"), openai(fake))
    asked, over = len(fake.asked), threading.Event()
    fake.asked.clear()
    command = [sys.executable, "-m", "pairbench", "judge", "--judge", openai(fake)]
    command += ["--results", str(results), "--format", "json"]

    def waits(a: str, b: str) -> str:
        if len(fake.asked) == 7:
            call.kill()
            over.wait(600)
        return longer(a, b)

    fake.better = waits
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as call:
        call.wait(600)
    over.set()
    done = subprocess.run(command, check=True, capture_output=True, timeout=600)
    assert len(fake.asked) == asked + 1 and len(set(fake.asked)) == asked
    again = Judgement.model_validate_json(done.stdout)
    assert again.model_dump(exclude={"requests"}) == whole.model_dump(exclude={"requests"})


def test_an_endpoint_that_gives_up_leaves_what_it_said(results: Path, fake: FakeJudge) -> None:
    fake.troubles = [Trouble(401)]
    with pytest.raises(PairBenchError, match=r"nothing was judged: .* refuses a call without"):
        judged(results, openai(fake), rows=["grpo"])

    def vanishing(a: str, b: str) -> str:
        fake.troubles = [Trouble(404)] * (len(fake.asked) == 6)
        return "tie"

    fake.better = vanishing
    part = judged(results, openai(fake), rows=["grpo"])
    assert part.failed and part.stopped is not None
    assert "refuses to answer as judge-1 (HTTP status 404" in part.stopped
    versus = rows(part)["grpo"].versus
    assert versus is not None
    assert (versus.comparisons, versus.missing) == (2 * 2, 2 * (PROMPTS - 2))


def test_an_endpoint_is_not_asked_where_there_is_nothing_to_compare(
    results: Path, fake: FakeJudge
) -> None:
    with pytest.raises(PairBenchError, match="nothing to compare with reference"):
        judged(results, openai(fake), rows=["reference"])
    assert fake.asked == []


@pytest.mark.parametrize(("there", "back"), list(product(get_args(Choice), repeat=2)))
def test_the_outcome_of_both_orders_turns_with_the_sides(there: Choice, back: Choice) -> None:
    said = [
        Verdict(judge="u", model="m", served=None, prompt_version="1", prompt="p", first=first,
                second=second, verdict=verdict, reply="", at="2026-01-01T00:00:00+00:00")
        for first, second, verdict in (("x", "y", there), ("y", "x", back))
    ]  # fmt: skip
    ours, theirs = both_orders(*said), both_orders(*said[::-1])
    assert ours.points + theirs.points == 1.0
    assert theirs == ours.swapped
    assert ours.points in (0.0, 0.25, 0.5, 0.75, 1.0)
    if "unreadable" not in (there, back):
        agree = {("A", "B"), ("B", "A"), ("tie", "tie")}
        assert ours.disagree == ((there, back) not in agree)


# The command line.


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["judge", *arguments])
        printed = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, printed.out, printed.err

    return run


def test_the_table_names_the_judge_that_is_not_people(
    call: Any, results: Path, fake: FakeJudge
) -> None:
    status, out, err = call("--results", str(results), "--judge", openai(fake), "--head-to-head")
    assert (status, err) == (0, "")
    assert f"Judge: judge-1 at {fake.url}, prompt version 1, 20" in out
    assert "a language model and not people." in out
    for title in ("judge: beats reference", "judge: ties", "judge: position bias",
                  "judge: head to head"):  # fmt: skip
        assert title in out
    assert "human" not in out.casefold()
    assert "12 comparisons were of equal completions" in out


def test_json_holds_everything_and_nothing_else_is_printed(
    call: Any, results: Path, fake: FakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-of-the-environment"
    monkeypatch.setenv("PAIRBENCH_JUDGE_KEY", key)
    status, out, err = call(
        "--results", str(results), "--judge", openai(fake), "--rows", "grpo", "--seeds", "0-1",
        "--task", "toy-dialogue", "--format", "json",
    )  # fmt: skip
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["judge"]["kind"] == "openai"
    assert found["judge"]["first"] <= found["judge"]["last"]
    assert found["rows"][0]["versus"]["win_rate"] == {"estimate": 1.0, "low": 1.0, "high": 1.0}
    assert set(fake.keys) == {f"Bearer {key}"}
    assert key not in out
    assert all(key.encode() not in p.read_bytes() for p in results.rglob("*") if p.is_file())


def test_a_changed_file_is_status_1(call: Any, results: Path) -> None:
    path_of(results, "grpo", 0).write_bytes(b"something else")
    status, out, _ = call("--results", str(results), "--judge", "gold")
    assert status == 1
    assert "grpo, seed 0, is left out" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--judge", "silver"), "that judge is not known: name gold, proxy or openai:"),
        (("--judge", "openai:gpt"), "needs an address and a model"),
        (("--judge", "gold", "--task", "toy"), "did you mean toy-dialogue?"),
        (("--judge", "gold", "--board", "zz"), "0 boards begin with 'zz': there are toy-dialogue"),
        (("--judge", "gold", "--rows", "grop"), "no row 'grop' of toy-dialogue"),
        (("--judge", "gold", "--seeds", "7"), "has a finished run at these seeds"),
        (("--judge", "gold", "--seeds", "x"), "seeds 'x' cannot be read"),
        (("--judge", "gold", "--baseline", "none"), "no row 'none' on toy-dialogue"),
        (("--judge", "gold", "--budget", "-1"), "is not in the range"),
        ((), "Missing option '--judge'"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(
    call: Any, results: Path, arguments: tuple[str, ...], message: str
) -> None:
    status, out, err = call("--results", str(results), *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.startswith("pairbench: ")
    assert err.count("\n") == 1


def test_a_folder_without_completions_is_status_2(call: Any, tmp_path: Path) -> None:
    Store(tmp_path / "results").write(record("grpo"))
    status, _, err = call("--results", str(tmp_path / "results"), "--judge", "gold")
    assert status == 2
    assert "has kept its completions: run a language task first" in err


def test_the_toy_s_prompts_are_those_the_task_holds_out() -> None:
    assert len(HELD_OUT) == PROMPTS
    assert {pair.prompt for pair in HELD_OUT} <= {pair.prompt for pair in toy.dialogues()}
