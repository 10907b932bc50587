"""The model tiny learns from texts, the same to the bit each time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pairbench.errors import PairBenchError
from pairbench.language.policy.models import load_model
from pairbench.language.policy.tiny import Tiny, train_tiny
from pairbench.training.checkpoint import weights_sha256
from tests.support.tiny_model import QUICK, texts


def test_few_texts_are_not_learned_by_heart(cache: Path) -> None:
    twice = QUICK.model_copy(update={"steps": 60, "passes": 2.0})
    model = load_model("tiny", sft=texts(), tiny=twice)
    assert model.card["steps"] == 2 * model.card["texts"] // 8 < 60


def test_tiny_learns_and_is_trained_once(cache: Path) -> None:
    longer = QUICK.model_copy(update={"steps": 60})
    model = load_model("tiny", sft=texts(), tiny=longer)
    card = model.card
    assert card["texts"] + card["held_out"] == 60 and card["held_out"] > 0
    assert 1 < card["perplexity"] < 300 / 2 and card["perplexity_tokens"] > 0
    assert card["settings"]["steps"] == 60 and set(card["sha256"]) >= {
        "model.safetensors",
        "tokenizer.json",
        "config.json",
    }
    folders = {p.name for p in cache.iterdir() if p.is_dir()}
    again = load_model("tiny", sft=texts(), tiny=longer)
    assert again.card == card and folders == {p.name for p in cache.iterdir() if p.is_dir()}
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


def test_too_few_texts() -> None:
    with pytest.raises(PairBenchError, match="0 texts to train on"):
        load_model("tiny")


def test_settings_are_checked() -> None:
    bad: Sequence[dict[str, Any]] = ({"steps": 0}, {"unknown": 1}, {"vocabulary": 10})
    for settings in bad:
        with pytest.raises(ValueError):  # noqa: PT011 (pydantic's own, whose text is not ours)
            Tiny.model_validate(settings)
