"""Language tasks end to end on the toy dialogues: every method, one loop, the same bits twice."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("transformers", reason="the extra language is not installed")
pytest.importorskip("evaluate", reason="the extra language is not installed")

import evaluate
from datasets import Features, Value

from pairbench.algorithm import Needs
from pairbench.errors import PairBenchError
from pairbench.evaluation import Evaluation
from pairbench.experiments.reproduce import rebuild
from pairbench.experiments.runner import run
from pairbench.experiments.suite import plan
from pairbench.language import session as language_session, task as language_task
from pairbench.language.data.pairs import prompt_id
from pairbench.language.judges.judge import Judge
from pairbench.language.judges.judging import judge
from pairbench.language.judges.panel import KnownAnswers, RewardModel, component_judges
from pairbench.language.metrics import load_metric
from pairbench.language.policy.encoding import answer_ids
from pairbench.language.policy.policy import LanguagePolicy
from pairbench.language.prompts import note
from pairbench.language.session import LanguageSession
from pairbench.language.task import LanguageConfig
from pairbench.leaderboard import build
from pairbench.leaderboard.compare import compare_sides
from pairbench.registry import get_algorithm, get_task
from pairbench.results.folder import Store
from pairbench.results.record import RunRecord, RunSpec
from pairbench.seeding import Streams
from pairbench.tasks.preference_file import PreferenceFile
from pairbench.tasks.toy_dialogue import ToyDialogue
from pairbench.training.train import train

SMALL = {"sft_steps": 8, "evaluation_prompts": 6, "completion_tokens": 5, "pair_tokens": 6}
ROWS: dict[str, dict[str, Any]] = {
    "ppo": {"contexts": 8},
    "grpo": {"contexts": 2, "group_size": 4},
    "soft-pair-grpo": {"contexts": 2, "group_size": 4},
    "hard-pair-grpo": {"contexts": 2, "group_size": 4},
    "dpo": {"contexts": 4},
    "orpo": {"contexts": 4},
    "gvpo": {"contexts": 2, "group_size": 4},
    "f-hal": {"contexts": 2, "group_size": 4},
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache of models for these tests: `tiny` is trained once, for eight steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAIRBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def spec(name: str, gradient_steps: int = 2, **settings: Any) -> RunSpec:
    """Returns a run of an algorithm on the toy dialogues, small."""
    changes = [f"toy-dialogue.{key}={value}" for key, value in SMALL.items()]
    changes += [f"{name}.{key}={json.dumps(value)}" for key, value in settings.items()]
    grid = plan(
        algorithms=[name],
        tasks=["toy-dialogue"],
        budget={"gradient_steps": gradient_steps},
        protocol={"evaluations": 1, "probes": 0},
        overrides=changes,
    )
    (only,) = grid.specs
    return only


def kept(record: RunRecord) -> dict[str, Any]:
    return record.model_dump(exclude={"provenance": True, "cost": {"seconds"}})


def begin(name: str, **settings: Any) -> LanguageSession:
    """Returns a session that has just begun."""
    cls = get_algorithm(name)
    preset = cls.presets["language"]
    algorithm = cls(cls.Config(**{**preset, **ROWS[name], **settings}))
    return ToyDialogue(ToyDialogue.Config(**SMALL)).begin(algorithm, Streams(3))


@pytest.mark.parametrize("name", ROWS)
def test_every_method_trains_and_the_seed_decides_every_bit(name: str) -> None:
    result = train(spec(name, **ROWS[name]))
    first, again = result.record, train(spec(name, **ROWS[name]))
    assert first.status == "finished", first.reason
    assert kept(again.record) == kept(first)
    assert again.texts == result.texts
    assert {len(column) for column in result.texts.values()} == {6}
    reference = train(spec("reference")).record
    assert first.weights_sha256 != reference.weights_sha256
    assert first.evaluation is not None
    assert list(first.evaluation.scores) == [
        "gold judge", "proxy judge", "preference accuracy", "likelihood margin",
    ]  # fmt: skip
    assert {len(scores) for scores in first.evaluation.scores.values()} == {6}
    assert first.evaluation.measures["length"] == 5.0
    assert first.provenance["task"]["data_revision"] == "toy-1"


def test_the_reference_has_moved_nowhere() -> None:
    evaluation = train(spec("reference")).record.evaluation
    assert evaluation is not None
    assert evaluation.scores["preference accuracy"] == [0.5] * 6
    assert evaluation.measures["kl_ref"] == pytest.approx(0.0, abs=1e-5)
    assert evaluation.measures["beats_sft"] == 0.5
    assert evaluation.measures["variety_of_sft"] == 1.0


def test_each_point_of_the_curve_has_what_a_frontier_needs() -> None:
    record = train(spec("grpo", 4, **ROWS["grpo"])).record
    assert record.evaluation is not None
    assert record.curve[-1].measures == record.evaluation.measures
    assert {"kl_ref", "beats_sft", "variety_of_sft"} <= record.curve[-1].measures.keys()


def test_completions_are_kept_without_their_prompts() -> None:
    texts = train(spec("reference")).texts
    session = begin("grpo")
    assert texts["prompt"] == [prompt_id(pair.prompt) for pair in session.held_out.pairs]
    assert all(len(name) == 16 for name in texts["prompt"])
    assert len(set(texts["prompt"])) == 6 and any(texts["completion"])


def test_groups_are_whole_and_scored_by_the_proxy() -> None:
    session = begin("grpo")
    batch = session.collect(7).check()
    assert (batch.n_groups, batch.group_size, batch.steps, batch.sampler) == (2, 4, 5, 7)
    assert batch.pairs is None and batch.score is not None and batch.ref_logp is not None
    assert bool((batch.mask == 1).all())  # completions of fixed length
    torch.testing.assert_close(session.policy(batch).logp, batch.old_logp, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(batch.ref_logp, batch.old_logp, atol=1e-4, rtol=1e-4)
    assert torch.equal(batch.contexts[0], batch.contexts[3])
    assert (session.cost.steps, session.cost.scores, session.cost.comparisons) == (40, 8, 0)


def test_offline_pairs_beside_groups_answer_the_same_prompts_and_are_paid_for() -> None:
    session = begin("f-hal")
    plain = begin("grpo")
    batch = session.collect(7).check()
    # nothing is drawn for the pairs
    assert torch.equal(batch.responses, plain.collect(7).responses)
    pairs = batch.offline
    assert pairs is not None and pairs.ref_logp is not None
    assert (pairs.n_groups, pairs.group_size, pairs.steps, pairs.sampler) == (
        2,
        2,
        7,
        -1,
    )  # and the end
    assert torch.equal(pairs.contexts, batch.contexts[[0, 0, 4, 4]])
    torch.testing.assert_close(session.policy(pairs).logp, pairs.old_logp, atol=1e-4, rtol=1e-4)
    assert session.cost.steps == 40 + int(pairs.mask.sum())
    assert (session.cost.scores, session.cost.comparisons, session.cost.labels) == (8, 2, 10)


def test_a_prompts_domain_is_its_source() -> None:
    session = begin("grpo")
    whole = session.collect(0).domain_share
    assert whole is not None and whole.tolist() == [1.0] * 8  # one source
    session._shares = {"toy-dialogue": 0.25}
    assert (share := session.collect(1).domain_share) is not None
    assert share.tolist() == [0.25] * 8


class Length(Judge):
    """Scores an answer by its characters, with a sign."""

    def __init__(self, sign: float) -> None:
        object.__setattr__(self, "sign", sign)  # a judge is frozen

    def score(self, prompts: Sequence[Any], answers: Sequence[str]) -> Any:
        return np.array([self.sign * len(answer) for answer in answers], float)


def test_several_judges_give_a_component_each(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = get_algorithm("gdpo")
    algorithm = cls(cls.Config(**{**cls.presets["language"], **ROWS["grpo"]}))
    task = ToyDialogue(ToyDialogue.Config(**SMALL))
    assert task.skip(algorithm) == (
        "gdpo needs several scores of each completion, and toy-dialogue has one judge"
    )
    judges = lambda *_: (Length(1.0), Length(-1.0))  # noqa: E731 (two stand-ins)
    monkeypatch.setattr(language_task, "COMPONENTS", {"toy-dialogue": ("long", "short")})
    monkeypatch.setattr(language_task, "component_judges", judges)
    assert task.skip(algorithm) is None
    session = task.begin(algorithm, Streams(3))
    batch = session.collect(0).check()
    assert batch.score is None and batch.components is not None
    lengths = [float(len(text)) for text in session._texts(batch.responses)]
    assert batch.components.tolist() == [[n, -n] for n in lengths]
    assert (session.cost.steps, session.cost.scores) == (40, 16)


def test_the_judges_of_hh_rlhf_are_both_there() -> None:
    for dataset in ("hh-rlhf", "hh-rlhf-helpful", "hh-rlhf-harmless"):
        names = [judge.card.name for judge in component_judges(dataset, "proxy")]
        assert names == ["helpful-proxy", "harmless-proxy"]
    assert component_judges("ultrafeedback", "proxy") == ()


def test_comparisons_follow_the_scores_and_are_counted() -> None:
    scored = begin("grpo")
    compared = begin("soft-pair-grpo")
    score = scored.collect(0).score
    batch = compared.collect(0)
    assert batch.score is None and batch.pairs is not None and score is not None
    assert torch.equal(batch.responses, scored_responses())
    better, worse = score[batch.pairs].unbind(1)
    assert bool((better > worse).all())
    assert (compared.cost.scores, compared.cost.comparisons) == (0, 12)


def scored_responses() -> torch.Tensor:
    """Returns what the first collection of the same seed sampled."""
    return begin("grpo").collect(0).responses


def test_the_score_is_the_reward_of_the_last_token() -> None:
    session = begin("ppo")
    batch = session.collect(0)
    assert batch.step_reward is not None and batch.boundary is not None
    assert batch.value is not None and batch.next_value is not None
    assert bool((batch.step_reward[:, :-1] == 0).all())
    assert batch.boundary.tolist() == [[0.0] * 4 + [1.0]] * 8
    torch.testing.assert_close(batch.next_value[:, :-1], batch.value[:, 1:])
    assert bool((batch.next_value[:, -1] == 0).all())


def test_offline_pairs_are_the_data_sets_own() -> None:
    session = begin("dpo")
    batch = session.collect(0).check()
    assert batch.pairs is not None
    assert batch.pairs.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    chosen = {pair.chosen for pair in session.task.data.split()["policy"]}
    rejected = {pair.rejected for pair in session.task.data.split()["policy"]}
    for row, text in enumerate(session._texts(batch.responses)):
        assert any(whole.startswith(text) for whole in (rejected if row % 2 else chosen))
    assert (session.cost.comparisons, session.cost.steps) == (4, int(batch.mask.sum()))


def test_pairs_that_a_cut_makes_equal_are_dropped_and_every_cut_is_counted(tmp_path: Path) -> None:
    """The sides of every other row begin alike for more tokens than the first cut leaves."""
    same = "This is what the catalogue says of it: "
    rows = [
        {"prompt": f"How do I use item {n}, please? " * 9, "chosen": f"{same * (n % 2)}press {n}.",
         "rejected": f"{same * (n % 2)}throw {n} away."}
        for n in range(80)
    ]  # fmt: skip
    path = tmp_path / "late.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    settings = {**SMALL, "prompt_tokens": 20, "path": str(path), "completion_tokens": 3}
    cut, whole = (
        PreferenceFile(PreferenceFile.Config(**{**settings, "pair_tokens": tokens}))
        for tokens in (6, 99)
    )
    needs = Needs("pairs", "comparisons")
    for task in (cut, whole):
        assert task.provenance(needs)["cut"] == {}  # nothing has been cut yet
        assert len(task.prompts) == 2
    training, held_out = (one.provenance(needs)["cut"] for one in (cut, whole))
    split = {name: len(part) for name, part in cut.data.split().items()}
    assert training["training"]["identical after the cut"] > 10
    for name, part in (("training", "policy"), ("held out", "evaluation")):
        counts = training[name]
        assert held_out[name] == {
            "pairs": min(split[part], 6 if name == "held out" else 99),
            "prompts": held_out[name]["pairs"], "answers": 0, "identical after the cut": 0,
        }  # fmt: skip
        assert counts["prompts"] == counts["pairs"]
        if name == "training":
            assert counts["pairs"] + counts["identical after the cut"] == split[part]
    note = cut.provenance(needs)["note"]
    assert note.startswith("Prompts cut to 20 tokens: ") and "identical after the cut" in note
    assert all("catalogue" not in pair.chosen for pair in cut.prompts[0].pairs)
    ids = answer_ids(cut.language_model.tokenizer, ["a b", "a b c d"], 3, 1, least=99)
    assert [len(row) for row in ids[0]] == [3, 3] and ids[1] == [False, True]


def test_all_methods_of_a_seed_see_the_same_prompts_and_begin_alike() -> None:
    one = begin("grpo", contexts=4)
    other = begin("dpo", contexts=4)
    assert torch.equal(one.collect(0).contexts[::4], other.collect(0).contexts[::2])
    for name, tensor in one.policy.state().items():
        assert torch.equal(tensor, other.policy.state()[name])


def test_no_prompt_is_trained_on_and_evaluated() -> None:
    session = begin("grpo")
    training = {pair.prompt for pair in session.training.pairs}
    held_out = [pair.prompt for pair in session.held_out.pairs]
    assert len(held_out) == len(set(held_out)) == 6
    assert training.isdisjoint(held_out)


def test_a_probe_leaves_the_run_as_it_was() -> None:
    session = begin("grpo")
    probe = session.probe(3, session.streams)
    assert probe.n_groups == 3
    assert session.cost.steps == 0
    plain = begin("grpo")
    assert torch.equal(session.collect(0).responses, plain.collect(0).responses)


def test_a_score_that_is_not_finite_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_session, "_INITIAL", {})
    monkeypatch.setattr(
        KnownAnswers, "score", lambda self, prompts, answers, sources: np.full(len(answers), np.nan)
    )
    record = train(spec("grpo", **ROWS["grpo"])).record
    assert record.status == "failed"
    assert record.reason is not None and "gold score of toy-dialogue" in record.reason


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_a_run_out_of_memory_is_recorded_and_the_grid_goes_on(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, calls = LanguagePolicy.sample, []

    def short(self: LanguagePolicy, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise error
        return sample(self, *arguments)

    monkeypatch.setattr(language_session, "_INITIAL", {})
    monkeypatch.setattr(LanguagePolicy, "sample", short)
    first = train(spec("grpo", 4, **ROWS["grpo"])).record
    assert first.status == "failed" and first.failure is not None
    assert (first.failure.kind, first.failure.iteration) == ("OutOfMemory", 1)
    assert first.reason is not None and "lower contexts" in first.reason
    assert "\n" not in first.reason
    assert train(spec("soft-pair-grpo", **ROWS["soft-pair-grpo"])).record.status == "finished"


def test_other_data_than_the_checkpoints_are_refused() -> None:
    session = begin("grpo")
    session.load_state(session.state())
    with pytest.raises(PairBenchError, match="have changed since this run's checkpoint"):
        session.load_state({"data": "0" * 64})


def test_what_cannot_run_says_why() -> None:
    grid = plan(algorithms=["random"], tasks=["toy-dialogue"], budget={"gradient_steps": 1})
    assert [r.reason for r in grid.skipped] == [
        "toy-dialogue has no random policy: uniform tokens are not language"
    ]
    task = ToyDialogue(ToyDialogue.Config(**SMALL))
    cls = get_algorithm("grpo")
    with pytest.raises(PairBenchError, match=r"151 training prompts, fewer than the 500"):
        task.begin(cls(cls.Config(contexts=500, group_size=2)), Streams(0))


@pytest.mark.slow
def test_a_file_is_known_by_its_content_and_never_by_its_path(tmp_path: Path) -> None:
    """Field cases f18 and f19: one file at two paths is one, two files at one path are two."""

    def go(folder: str, word: str, name: str = "mine.jsonl") -> RunRecord:
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        rows = [
            {"prompt": f"Say {n}", "chosen": f"{n} {word}", "rejected": "no"} for n in range(60)
        ]
        path.write_text("\n".join(map(json.dumps, rows)))
        settings = {**SMALL, "path": str(path)}
        (record,) = run(
            algorithms=["reference"],
            tasks=["preference-file"],
            budget={"gradient_steps": 1},
            protocol={"evaluations": 1, "probes": 0},
            overrides=[f"preference-file.{k}={json.dumps(v)}" for k, v in settings.items()],
            results=tmp_path / "results",
            workers=1,
        )
        return record

    first = go("here", "yes")
    assert first.status == "finished", first.reason
    assert first.task_config["path"].startswith("mine.jsonl+")
    assert set(first.read) == {
        "source of pairbench", "source of reference", "source of preference-file", "data",
        "model trained here",
    }  # fmt: skip
    assert go("there", "yes") == first
    assert go("there", "yes", "copied.jsonl") == first
    other = go("here", "maybe")
    assert other.identity != first.identity and other.read["data"] != first.read["data"]
    assert len(build([first, other])) == 2
    with pytest.raises(PairBenchError, match="no board in common"):
        compare_sides([first], [other], ("A", "B"))
    for file in (tmp_path / "results").rglob("*.json"):
        assert str(tmp_path) not in file.read_text()


@pytest.mark.slow
def test_weights_replaced_in_a_folder_are_another_model(tmp_path: Path, trained: Path) -> None:
    """Field case f01: the weights of a folder are replaced between two calls."""
    folder = Path(shutil.copytree(trained, tmp_path / "m"))
    (folder / "card.json").unlink()
    pairs = tmp_path / "mine.jsonl"
    rows = [{"prompt": f"Say {n}", "chosen": f"{n} it is", "rejected": "no"} for n in range(60)]
    pairs.write_text("\n".join(map(json.dumps, rows)))
    task = f"preference-file@{folder}"
    settings = {"path": str(pairs), "evaluation_prompts": 4}

    def go() -> RunRecord:
        (record,) = run(
            algorithms=["reference"], tasks=[task], budget={"gradient_steps": 1},
            protocol={"evaluations": 1, "probes": 0}, results=tmp_path / "results", workers=1,
            overrides=[f"{task}.{k}={json.dumps(v)}" for k, v in settings.items()],
        )  # fmt: skip
        assert record.status == "finished", record.reason
        return record

    first = go()
    assert first.task.startswith("preference-file@m+") and first.task_config["model"] in first.task
    tensors = load_file(folder / "model.safetensors")
    save_file({k: v + 0.01 for k, v in tensors.items()}, folder / "model.safetensors",
              {"format": "pt"})  # fmt: skip
    second = go()
    assert second.task != first.task and second.weights_sha256 != first.weights_sha256
    assert second.read["model"] != first.read["model"]
    assert second.read["tokenizer"] == first.read["tokenizer"]
    assert len(build([first, second])) == 2
    assert go() == second
    for file in (tmp_path / "results").rglob("*.json"):
        assert str(tmp_path) not in file.read_text()


def test_a_file_of_pairs_trains_offline_methods_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl.gz"
    rows = [
        {"prompt": f"Say {n}", "chosen": f"{n} it is, gladly", "rejected": f"not {n}, go away"}
        for n in range(60)
    ]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    changes = [f"preference-file.{key}={value}" for key, value in SMALL.items()]
    grid = plan(
        algorithms=["dpo", "grpo"],
        tasks=["preference-file"],
        budget={"gradient_steps": 1},
        protocol={"evaluations": 1, "probes": 0},
        overrides=[*changes, f"preference-file.path={json.dumps(str(path))}", "dpo.contexts=4"],
    )
    assert [r.reason for r in grid.skipped] == [
        "grpo needs completions scored, and preference-file has no judge"
    ]
    record = train(grid.specs[0]).record
    assert record.status == "finished", record.reason
    assert record.evaluation is not None
    assert list(record.evaluation.scores) == ["preference accuracy", "likelihood margin"]
    with pytest.raises(PairBenchError, match="name one with --set"):
        _ = PreferenceFile(PreferenceFile.Config()).data


def reward_model(folder: Path, outputs: int = 1) -> Path:
    """Saves a small classifier of random weights with the tokenizer of the toy dialogues' tiny."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    tokenizer = ToyDialogue(ToyDialogue.Config(**SMALL)).language_model.tokenizer
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    config = LlamaConfig(
        vocab_size=len(tokenizer), num_attention_heads=2, num_labels=outputs, **sizes
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_reward_model_may_replace_either_judge(tmp_path: Path) -> None:
    folder = reward_model(tmp_path / "rm")
    path = tmp_path / "mine.jsonl"
    rows = [{"prompt": f"Say {n}", "chosen": f"{n}, yes", "rejected": "no"} for n in range(60)]
    path.write_text("\n".join(map(json.dumps, rows)))
    settings = {**SMALL, "path": str(path), "proxy": str(folder), "gold": str(folder)}
    grid = plan(
        algorithms=["grpo"],
        tasks=["preference-file"],
        budget={"gradient_steps": 2},
        protocol={"evaluations": 1, "probes": 0},
        overrides=[
            *(f"preference-file.{key}={json.dumps(value)}" for key, value in settings.items()),
            "grpo.contexts=2",
            "grpo.group_size=4",
        ],
    )
    record = train(grid.specs[0]).record
    assert record.status == "finished", record.reason
    assert record.evaluation is not None
    assert list(record.evaluation.scores)[:2] == ["gold judge", "proxy judge"]
    assert record.evaluation.scores["gold judge"] == record.evaluation.scores["proxy judge"]
    assert len(set(record.evaluation.scores["gold judge"])) > 1
    assert record.provenance["task"]["caveat"] is None
    (card,) = (
        card
        for name, card in record.provenance["task"]["judges"].items()
        if name.startswith("gold")
    )
    assert card["kind"] == "sequence classification" and "not measured" in card["may rank"]


def test_rows_scored_together_score_as_they_do_alone(tmp_path: Path) -> None:
    judge = RewardModel("gold", str(reward_model(tmp_path / "rm")))
    prompts = [(("user", "Hello"),), (("user", "Tell me more about the long way home"),)]
    answers, sources = ["Hi", "It is long, and there is a bridge on it"], ["", ""]
    together = judge.score(prompts, answers, sources)
    alone = [judge.score([p], [a], [""])[0] for p, a in zip(prompts, answers)]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_reward_model_loses_the_beginning_of_a_prompt_and_never_an_answer(tmp_path: Path) -> None:
    folder = reward_model(tmp_path / "rm")
    judge = RewardModel("gold", str(folder))
    assert judge._context == judge._network.config.max_position_embeddings
    long = (("user", "word " * judge._context + "What is 2+2?"),)
    answers = ["It is four.", "Go away.", "Bananas are yellow."]
    scores = judge.score([long] * 3, answers, [""] * 3)
    assert len({round(float(score), 6) for score in scores}) == 3
    assert judge.refusal(long) is None and judge.cut == 3 and judge.role == "gold"
    assert (
        note({}, 0, ["gold"], LanguageConfig()) == "Prompts too long for the gold judge cut for it."
    )
    other = (("user", "other " * 9 + "word " * judge._context + "What is 2+2?"),)
    same = judge.score([other] * 3, answers, [""] * 3)
    np.testing.assert_allclose(same, scores, atol=1e-5)
    with pytest.raises(PairBenchError, match=r"an answer alone has .*: lower completion_tokens"):
        judge.score([long], ["word " * judge._context], [""])


def test_a_reward_model_whose_template_refuses_is_told_before_the_first_run(tmp_path: Path) -> None:
    folder = reward_model(tmp_path / "rm")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] = "{{ raise_exception('No.') }}"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    task = ToyDialogue(ToyDialogue.Config(**SMALL, gold=str(folder)))
    with pytest.raises(PairBenchError, match=r"^toy-000.*: the gold judge .*template fails .*No"):
        task.check()


def test_reward_models_that_cannot_judge_say_why(tmp_path: Path) -> None:
    with pytest.raises(PairBenchError, match="has 2 outputs, and a judge has one"):
        RewardModel("gold", str(reward_model(tmp_path / "two", 2)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(PairBenchError, match="cannot be read as sequence classification"):
        RewardModel("proxy", str(tmp_path / "empty"))


def test_any_model_is_a_variant_and_keeps_its_results_in_the_folder(tmp_path: Path) -> None:
    model = ToyDialogue(ToyDialogue.Config(**SMALL)).language_model
    folder = tmp_path / "model"
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    (spec_,) = plan(
        algorithms=["grpo"],
        tasks=[f"toy-dialogue@{folder}"],
        budget={"gradient_steps": 1},
        protocol={"evaluations": 1, "probes": 0},
        overrides=["toy-dialogue.completion_tokens=4", "grpo.group_size=2", "grpo.contexts=2",
                   "toy-dialogue.evaluation_prompts=4"],
    ).specs  # fmt: skip
    assert spec_.task_config["model"].startswith("model+")
    assert (
        spec_.algorithm_config["lr"] == get_algorithm("grpo").presets["language@smollm2-135m"]["lr"]
    )
    record = train(spec_).record
    assert record.status == "finished", record.reason
    place = Store(tmp_path / "results").path(spec_).relative_to(tmp_path / "results")
    assert ".." not in place.parts and len(place.parts) == 3
    with pytest.raises(PairBenchError, match="has no variant 'smolm2-135m'; did you mean smollm2"):
        plan(algorithms=["grpo"], tasks=["toy-dialogue@smolm2-135m"], budget={"steps": 1})


def test_validation_prompts_are_held_out_and_none_of_the_evaluations() -> None:
    """Nothing but the evaluation differs: training sees the same prompts in the same order."""
    method = get_algorithm("dpo")
    algorithm = method(method.Config(**{**method.presets["language"], **ROWS["dpo"]}))
    seen = {}
    for held_out in ("evaluation", "validation"):
        settings = {**SMALL, "evaluation_prompts": 1000, "held_out": held_out}
        task = ToyDialogue(ToyDialogue.Config(**settings))
        session = task.begin(algorithm, Streams(3))
        prompts = {pair.prompt for pair in session.held_out.pairs}
        trained = {pair.prompt for pair in session.training.pairs}
        assert len(prompts) > 20 and not prompts & trained
        batch = session.collect(0)
        seen[held_out] = prompts, trained, batch
    (board, trained, batch), (validation, same, other) = seen.values()
    assert not board & validation
    assert trained == same
    assert torch.equal(batch.responses, other.responses)
    proxy = {pair.prompt for pair in ToyDialogue(ToyDialogue.Config(**SMALL)).data.split()["proxy"]}
    assert validation < proxy and len(proxy - validation) == 1  # one is identical after the cut
    assert "held_out" not in ToyDialogue.Config().model_dump()


METRIC = """
import evaluate
from datasets import Features, Value
open({mark!r}, "a").write("run")

class Question(evaluate.Metric):
    def _info(self):
        features = Features({{"predictions": Value("string"), "prompts": Value("string")}})
        return evaluate.MetricInfo(description="Asks back.", citation="", features=features)

    def _compute(self, predictions, prompts):
        assert all(prompt.endswith("Assistant:") for prompt in prompts)
        return {{"questions": sum("?" in text for text in predictions) / len(predictions)}}
"""


@pytest.fixture
def question(tmp_path: Path) -> tuple[Path, Path]:
    """A metric's script, and a file that is there once the script has run."""
    script, mark = tmp_path / "question.py", tmp_path / "mark"
    script.write_text(METRIC.format(mark=str(mark)))
    return script, mark


def measured(script: Path) -> RunSpec:
    """Returns a run whose completions are measured by a script and by `exact_match`."""
    plain = spec("reference")
    task_config = {**plain.task_config, "metrics": [str(script), "exact_match"]}
    return plain.model_copy(update={"task_config": task_config})


def test_a_metric_named_in_a_setting_is_a_measure_and_changes_nothing_else(
    question: tuple[Path, Path],
) -> None:
    plain, more = (train(of).record for of in (spec("reference"), measured(question[0])))
    assert "metrics" not in plain.task_config and plain.identity != more.identity
    assert plain.evaluation is not None and more.evaluation is not None
    further = {"questions", "exact_match"}
    assert more.evaluation.measures.keys() - plain.evaluation.measures.keys() == further
    assert plain.evaluation.measures.items() <= more.evaluation.measures.items()
    assert more.evaluation.scores == plain.evaluation.scores
    titles = {measure.name: (measure.title, measure.meaning) for measure in more.measures}
    assert titles["questions"] == ("questions", "Asks back.")
    assert titles["exact_match"][0] == "exact match" and "variety" in titles
    assert set(more.provenance["task"]["metrics"]) == {str(question[0]), "exact_match"}
    assert "metrics" not in plain.provenance["task"]


def test_a_metric_that_cannot_be_had_stops_the_grid_before_its_first_run() -> None:
    config = ToyDialogue.Config(**SMALL, metrics=("no_such_module:Metric",))
    with pytest.raises(PairBenchError, match="no_such_module:Metric cannot be loaded"):
        ToyDialogue(config).check()
    own = ToyDialogue.Config(**SMALL, metrics=(f"{__name__}:OwnLength",))
    with pytest.raises(PairBenchError, match="length is a measure of every language task"):
        ToyDialogue(own).check()


class OwnLength(evaluate.Metric):  # type: ignore[misc]  # untyped base
    """A metric that gives a number which there is already."""

    def _info(self) -> evaluate.MetricInfo:
        features = Features({"predictions": Value("string")})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions: list[str]) -> dict[str, float]:
        return {"length": 1.0}


def test_no_record_runs_the_code_that_its_settings_name(
    tmp_path: Path, question: tuple[Path, Path]
) -> None:
    script, mark = question
    of = measured(script)
    record = RunRecord(
        **of.model_dump(),
        identity=of.identity,
        status="finished",
        evaluation=Evaluation(scores={"gold judge": [0.5]}),
    )
    store = Store(tmp_path / "results")
    store.write(record)
    with contextlib.suppress(PairBenchError):  # it has kept no completions
        judge([record], store.root, "gold")
    with pytest.raises(PairBenchError, match=rf"names code to run \({re.escape(str(script))}\)"):
        rebuild(record, None, MagicMock(), tmp_path)
    assert not mark.exists()
    load_metric(str(script))
    assert mark.exists()  # the script would have told


@pytest.mark.parametrize("metrics", [5, [["x"]], None, {"a": 1}, "module:Class"])
def test_settings_of_another_shape_in_a_record_are_one_sentence(
    metrics: Any, tmp_path: Path, question: tuple[Path, Path]
) -> None:
    of = measured(question[0])
    of = of.model_copy(update={"task_config": {**of.task_config, "metrics": metrics}})
    scores = Evaluation(scores={"gold judge": [0.5]})
    record = RunRecord(
        **of.model_dump(), identity=of.identity, status="finished", evaluation=scores
    )
    with pytest.raises(PairBenchError, match=r"metrics.* of task .*, as the record has it,"):
        rebuild(record, None, MagicMock(), tmp_path)


def test_a_judge_made_of_the_model_that_is_trained_ranks_nobody() -> None:
    kind = get_task("hh-rlhf-helpful")
    small = kind(kind.Config(model="smollm2-135m"))
    assert isinstance(small, language_task.LanguageTask) and "smollm2" in (
        small.demonstration or ""
    )
    tiny = kind(kind.Config())
    assert isinstance(tiny, language_task.LanguageTask) and tiny.demonstration is None
