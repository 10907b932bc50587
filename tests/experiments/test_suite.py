"""Settings come in layers, a mistake is one sentence, and grids are resolved before they run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pairbench.errors import PairBenchError
from pairbench.experiments.settings import parse_setting
from pairbench.experiments.suite import (
    Row,
    Suite,
    TaskTerms,
    expand,
    load_suite,
    parse_seeds,
    plan,
    select,
    suite_names,
)
from pairbench.registry import get_algorithm
from pairbench.results.record import Budget, Protocol, RunSpec

BANDIT = "preference-bandit"


def suite(*rows: dict[str, Any], **fields: Any) -> Suite:
    """Returns a suite on the bandit."""
    made = [Row(**{"name": row["algorithm"], "tasks": [BANDIT], **row}) for row in rows]
    return Suite(name="t", protocol=Protocol(budget=Budget(steps=100)), rows=tuple(made), **fields)


def test_each_layer_of_settings_replaces_the_one_before() -> None:
    default = get_algorithm("grpo").Config()
    preset = get_algorithm("grpo").presets["tabular"]
    assert preset["lr"] != default.lr
    plain = {"algorithm": "grpo"}
    row = {"algorithm": "grpo", "name": "mine", "settings": {"lr": 0.5, "clip_low": 0.1}}
    specs = expand(suite(plain, row), ["mine.clip_low=0.3"]).specs
    by_row = {spec.row: spec.algorithm_config for spec in specs}
    assert by_row["grpo"]["clip_high"] == default.clip_high  # type: ignore[attr-defined]
    assert by_row["grpo"]["lr"] == preset["lr"]
    assert (by_row["mine"]["lr"], by_row["mine"]["clip_low"]) == (0.5, 0.3)
    assert by_row["grpo"]["clip_low"] == 0.2  # --set named a row, not the algorithm
    changed = expand(suite(plain, row), ["grpo.clip_low=0.4"]).specs
    assert [spec.algorithm_config["clip_low"] for spec in changed] == [0.4, 0.4]


def test_a_suite_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = """protocol = { budget = { steps = 4 } }
    rows = [{ name = "grpo", algorithm = "grpo", tasks = ["preference-bandit"] }]"""
    path.write_text(text, encoding="utf-8-sig")
    assert load_suite(str(path)).rows[0].name == "grpo"


def test_adams_epsilon_is_the_tasks_unless_the_protocol_says_it() -> None:
    """The usual one is no part of an identity: runs from before it could be set are the same."""
    budget = {"gradient_steps": 4}
    tasks = [BANDIT, "toy-dialogue"]

    def chosen(**protocol: Any) -> list[float]:
        specs = plan(algorithms=["grpo"], tasks=tasks, budget=budget, protocol=protocol).specs
        again = [RunSpec.model_validate_json(spec.model_dump_json()) for spec in specs]
        assert [spec.identity for spec in again] == [spec.identity for spec in specs]
        return [spec.protocol.adam_eps for spec in again]

    assert chosen() == [1e-5, 1e-8]
    assert chosen(adam_eps=1e-5) == [1e-5, 1e-5]
    assert chosen(adam_eps=1e-6, evaluations=2) == [1e-6, 1e-6]
    assert "adam_eps" not in Protocol(budget=Budget(steps=1)).model_dump()
    own = {"toy-dialogue": TaskTerms(protocol=Protocol(budget=Budget(**budget), adam_eps=1e-5))}
    grid = suite({"algorithm": "grpo", "tasks": tasks}, terms=own)
    assert [spec.protocol.adam_eps for spec in plan(grid).specs] == [1e-5, 1e-5]
    changed = plan(grid, protocol={"probes": 0}, tasks=["toy-dialogue"]).specs
    assert [spec.protocol.adam_eps for spec in changed] == [1e-5]


def test_a_variant_has_its_settings_and_set_reaches_one_task_or_all_its_variants() -> None:
    grid = suite({"algorithm": "grpo", "tasks": [BANDIT, f"{BANDIT}@noisy"]})
    exact, noisy = expand(grid, [f"{BANDIT}.arms=4", f"{BANDIT}@noisy.contexts=3"]).specs
    assert (exact.task_config["reward_noise"], noisy.task_config["reward_noise"]) == (0.0, 1.0)
    assert (exact.task_config["arms"], noisy.task_config["arms"]) == (4, 4)
    assert (exact.task_config["contexts"], noisy.task_config["contexts"]) == (8, 3)
    assert exact.board != noisy.board


def test_seeds_of_rows_replace_those_of_the_suite_and_the_first_ones_come_first() -> None:
    grid = suite({"algorithm": "grpo"}, {"algorithm": "ppo", "seeds": "5-6"}, seeds=(0, 1, 2))
    assert [(spec.row, spec.seed) for spec in expand(grid).specs] == [
        ("grpo", 0), ("ppo", 5), ("grpo", 1), ("ppo", 6), ("grpo", 2),
    ]  # fmt: skip
    assert {spec.seed for spec in expand(grid, seeds=[9]).specs} == {9}


def test_a_row_that_its_task_refuses_is_skipped_with_the_reason() -> None:
    grid = expand(suite({"algorithm": "sb3-ppo"}, {"algorithm": "grpo"}, seeds=(3, 4)))
    (record,) = grid.skipped
    assert (record.status, record.row, record.seed) == ("skipped", "sb3-ppo", 3)
    assert record.reason
    assert {spec.row for spec in grid.specs} == {"grpo"}


def test_terms_of_a_task_replace_those_of_the_suite_there_alone() -> None:
    row = {"algorithm": "grpo", "tasks": [BANDIT, f"{BANDIT}@noisy"]}
    own = {"seeds": "3-4", "protocol": {"budget": {"steps": 7}}}
    grid = suite(row, {"algorithm": "ppo", "seeds": "9"}, seeds=(0,), terms={BANDIT: own})
    found = {(s.row, s.task, s.seed, s.protocol.budget.steps) for s in expand(grid).specs}
    assert found == {
        ("grpo", BANDIT, 3, 7), ("grpo", BANDIT, 4, 7), ("grpo", f"{BANDIT}@noisy", 0, 100),
        ("ppo", BANDIT, 9, 7),
    }  # fmt: skip
    changed = plan(grid, budget={"labels": 5}, protocol={"probes": 1}).specs
    assert {(s.protocol.budget, s.protocol.probes) for s in changed} == {(Budget(labels=5), 1)}
    part = plan(grid, tasks=[f"{BANDIT}@noisy"]).specs
    assert [spec.protocol.budget.steps for spec in part] == [100]
    with pytest.raises(PairBenchError, match="terms for 'bandit', which none of its rows is on"):
        expand(suite(row, terms={"bandit": own}))


def identities(name: str, tasks: Sequence[str] = ()) -> dict[str, str]:
    """Returns the identities of a suite's runs, with the row of each."""
    return {spec.identity: spec.row for spec in plan(name, tasks=tasks).specs}


def test_a_suite_on_another_ones_boards_has_its_very_runs() -> None:
    """So one run serves both: all of `paper` is there once `control` and `language` are."""
    there = identities("control") | identities("language")
    assert identities("paper").items() <= there.items()
    ablation = identities("ablation").items()
    assert {row for _, row in ablation - there.items()} == {
        "hard-pair-grpo-delta-0.01", "hard-pair-grpo-delta-0.02", "hard-pair-grpo-delta-0.05",
        "hard-pair-grpo-delta-0.02-fixed",
    }  # fmt: skip
    for other, task, seeds in (("quick", "halfcheetah-v4", 3), ("language", "hh-rlhf-helpful", 5)):
        mine, theirs = identities("methods", [task]), identities(other, [task])
        rows = set(mine.values()) & set(theirs.values())
        assert len(rows) > 6
        both = mine.items() & theirs.items()
        assert len(both) == seeds * len(rows)  # all seeds that the other suite has


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_resolves(name: str) -> None:
    grid = plan(name)
    assert grid.specs
    assert len({spec.identity for spec in grid.specs}) == len(grid.specs)
    assert all(record.reason for record in grid.skipped)


def test_the_identity_is_of_what_is_computed_not_of_how_it_was_asked_for() -> None:
    (asked,) = plan(algorithms=["grpo"], tasks=[BANDIT], budget={"steps": 1e2}).specs
    (same,) = plan(
        suite({"algorithm": "grpo", "name": "other", "settings": {"lr": 0.03}}), overrides=[]
    ).specs
    assert asked.algorithm_config["lr"] == 0.03
    assert asked.identity == same.identity
    (longer,) = plan(algorithms=["grpo"], tasks=[BANDIT], budget={"steps": 101}).specs
    assert longer.identity != asked.identity


def test_a_setting_left_to_the_task_is_absent_from_the_configuration() -> None:
    row = {"algorithm": "soft-pair-grpo", "tasks": ["halfcheetah-v4"]}
    (own,) = plan(suite(row), overrides=[]).specs
    (free,) = plan(suite({**row, "tasks": ["halfcheetah-v4@critic-free"]}), overrides=[]).specs
    assert own.algorithm_config["log_std_floor"] == -20.0
    assert "log_std_floor" not in free.algorithm_config


@pytest.mark.parametrize(
    ("rows", "overrides", "message"),
    [
        ([{"algorithm": "gpro"}], [], r"no algorithm 'gpro'; did you mean grpo"),
        ([{"algorithm": "grpo", "tasks": ["preference-bandid"]}], [], r"did you mean preference-"),
        ([{"algorithm": "grpo", "tasks": [f"{BANDIT}@x"]}], [], r"no variant 'x'"),
        (
            [{"algorithm": "grpo"}],
            ["grpo.group_sise=8"],
            r"^grpo has no setting 'group_sise'; did you mean group_size",
        ),
        (
            [{"algorithm": "grpo"}],
            ["grpo.group_size=1"],
            r"^group_size = 1 of grpo is out of range: it must be at least 2$",
        ),
        (
            [{"algorithm": "ppo"}],
            ["ppo.clip=1"],
            r"^clip = 1 of ppo is out of range: it must be above 0 and below 1$",
        ),
        ([{"algorithm": "ppo"}], ["ppo.clip=NaN"], r"^clip = nan of ppo is not allowed"),
        ([{"algorithm": "grpo"}], ["grpo.lr=fast"], r"^lr = 'fast' of grpo is not allowed: .*num"),
        (
            [{"algorithm": "grpo"}],
            ["grpo.std=some"],
            r"^std = 'some' of grpo is not allowed: .*'pop",
        ),
        ([{"algorithm": "grpo"}], [f"{BANDIT}.arms=1"], r"^arms = 1 of task .* at least 2$"),
        ([{"algorithm": "grpo"}], ["grop.lr=1"], r"names 'grop'.*; did you mean grpo"),
        ([{"algorithm": "grpo"}], ["lr=1"], r"write target.key=value"),
        (
            [{"algorithm": "grpo", "name": "x"}, {"algorithm": "ppo", "name": "x"}],
            [],
            r"two rows named 'x'",
        ),
        (
            [{"algorithm": "grpo"}, {"algorithm": "grpo", "name": "again"}],
            [],
            r"rows grpo and again .* same settings",
        ),
    ],
)
def test_a_mistake_is_one_sentence(
    rows: list[dict[str, Any]], overrides: list[str], message: str
) -> None:
    with pytest.raises(PairBenchError, match=message) as caught:
        expand(suite(*rows), overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[protocol", "not valid TOML"),
        ("seeds = '0-2'", "lacks 'protocol'"),
        ("[protocol]\nbudget = {steps = -5}\n[[rows]]\nname='a'\nalgorithm='ppo'\ntasks=['t']",
         r"protocol.budget.steps = -5 of suite .* is out of range: it must be above 0"),
        ("[protocol]\nbudget = {}\n[[rows]]\nname='a'\nalgorithm='ppo'\ntasks=['t']",
         "needs at least one of steps"),
        ("[protocol]\nbudget = {stepps = 5}\n[[rows]]\nname='a'\nalgorithm='ppo'\ntasks=['t']",
         "no setting 'protocol.budget.stepps'; did you mean steps"),
        ("[protocol]\nbudget = {steps = 5}\n[[rows]]\nname='a'\nalgoritm='ppo'\ntasks=['t']",
         "algorithm"),
        ("[protocol]\nbudget = {steps = 5}\n[terms.t]\nprotocol = {budget = {steps = 0}}\n"
         "[[rows]]\nname='a'\nalgorithm='ppo'\ntasks=['t']",
         r"terms.t.protocol.budget.steps = 0 of suite .* is out of range: it must be above 0"),
        ("seeds = '3-x'\n[protocol]\nbudget = {steps = 5}", "seeds '3-x' cannot be read"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_suite_file_is_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(PairBenchError, match=message) as caught:
        load_suite(str(path))
    assert "\n" not in str(caught.value)


def test_an_unknown_suite_gets_the_nearest_name() -> None:
    with pytest.raises(PairBenchError, match="no suite 'quik'; did you mean quick"):
        load_suite("quik")
    with pytest.raises(PairBenchError, match="cannot be read"):
        load_suite("nowhere/suite.toml")


def test_without_a_suite_everything_must_be_said() -> None:
    with pytest.raises(PairBenchError, match="needs algorithms, tasks and a budget"):
        plan(algorithms=["grpo"], tasks=[BANDIT])


def test_parts_of_a_suite_can_be_asked_for() -> None:
    grid = plan("bandit", algorithms=["dpo", "grpo"], seeds="1", budget={"labels": 50})
    assert {spec.row for spec in grid.specs} == {"dpo", "grpo"}  # online-dpo is a row of its own
    assert {spec.protocol.budget for spec in grid.specs} == {Budget(labels=50)}
    with pytest.raises(PairBenchError, match="no row or algorithm 'gpro'; did you mean grpo"):
        plan("bandit", algorithms=["gpro"])


def test_an_algorithm_that_is_no_row_stands_for_its_rows() -> None:
    betas = [{"algorithm": "dpo", "name": f"beta-{b}", "settings": {"beta": b}} for b in (1, 2)]
    kept = select(suite(*betas, {"algorithm": "grpo"}), ["dpo"])
    assert [row.name for row in kept.rows] == ["beta-1", "beta-2"]


def test_no_seeds_are_one_sentence() -> None:
    with pytest.raises(PairBenchError, match="no seeds were given"):
        plan(algorithms=["grpo"], tasks=[BANDIT], budget={"steps": 10}, seeds=[])
    with pytest.raises(ValueError, match="at least 1 item"):
        suite({"algorithm": "grpo"}, seeds=())


def test_a_library_says_which_limit_it_needs() -> None:
    cheetah = {"algorithms": ["sb3-ppo"], "tasks": ["halfcheetah-v4"]}
    with pytest.raises(PairBenchError, match="needs a budget of steps: add --budget-steps"):
        plan(**cheetah, budget={"gradient_steps": 40})
    assert plan(**cheetah, budget={"steps": 40}).specs
    skipped = plan(algorithms=["sb3-ppo"], tasks=[BANDIT], budget={"labels": 50}).skipped
    assert len(skipped) == 1  # and what does not run needs nothing


def test_seeds_and_values_are_read() -> None:
    assert parse_seeds("0-2,7, 9") == (0, 1, 2, 7, 9)
    for wrong in ("", "a", "-1", "4-2", "1,,2", "3,5-2"):
        with pytest.raises(PairBenchError, match="cannot be read"):
            parse_seeds(wrong)
    texts = ("8", "1e-3", "true", "null", "x", "[1, 2]")
    assert [parse_setting(f"x={text}")[1] for text in texts] == [
        8, 1e-3, True, None, "x", [1, 2],
    ]  # fmt: skip
