"""A model is kept whole or not at all, and made once."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the extra language is not installed")

from pairbench import seeding
from pairbench.errors import PairBenchError
from pairbench.language.model_cache import cache_folder
from pairbench.language.policy import tiny
from pairbench.language.policy.tiny import train_tiny
from tests.support.tiny_model import QUICK, texts


def test_the_folder_of_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PAIRBENCH_CACHE", str(tmp_path / "told"))
    assert cache_folder() == tmp_path / "told"
    monkeypatch.delenv("PAIRBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache" / "pairbench"


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
    assert (cache / f"{folder.name}.aside-1").is_dir()


def test_a_training_that_stops_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(step: int, steps: int, warmup: float) -> float:
        if step == 5:
            raise KeyboardInterrupt
        return 1.0

    with monkeypatch.context() as patched:
        patched.setattr(tiny, "_schedule", stop)
        with pytest.raises(KeyboardInterrupt):
            train_tiny(texts(), QUICK)
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
    steps: list[int] = []
    tiny._schedule = lambda step, *of: steps.append(step) or 1.0
    train_tiny(texts(), QUICK)
    queue.put(len(set(steps)))  # it is asked for each group of parameters


def test_two_processes_train_it_once(cache: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_ask, args=(str(cache), queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    steps = sorted(queue.get(timeout=600) for _ in workers)
    for worker in workers:
        worker.join()
    assert steps == [0, QUICK.steps]


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PAIRBENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(PairBenchError, match="set PAIRBENCH_CACHE"):
        train_tiny(texts(), QUICK)
