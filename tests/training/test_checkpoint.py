"""Checkpoints: what goes in comes out, half a file is refused, a kill leaves the old one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pairbench.results.files import set_aside
from pairbench.seeding import Streams
from pairbench.training.checkpoint import load_state, save_state, weights_sha256


def test_state_comes_back(tmp_path: Path) -> None:
    state = {
        "weights": {"flat": torch.randn(5, dtype=torch.float64), "empty": torch.empty(0, 3)},
        "nested": [{"step": torch.tensor(3.0)}, [1, 2.5, None, "text", True]],
        "array": np.arange(6, dtype=np.int64).reshape(2, 3),
        "view": torch.arange(10.0)[::2],
    }
    save_state(tmp_path / "a.safetensors", state)
    back = load_state(tmp_path / "a.safetensors")
    assert torch.equal(back["weights"]["flat"], state["weights"]["flat"])  # type: ignore[index]
    assert back["weights"]["empty"].shape == (0, 3)
    assert back["nested"][0]["step"] == 3.0
    assert back["nested"][1] == [1, 2.5, None, "text", True]
    assert back["array"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert back["view"].tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]


def test_streams_continue_where_they_stopped(tmp_path: Path) -> None:
    streams = Streams(3)
    streams["sampling"].standard_normal(7)
    streams["minibatch"].permutation(5)
    save_state(tmp_path / "s", {"streams": streams.state()})
    expected = streams["sampling"].standard_normal(4), streams["minibatch"].permutation(9)
    again = Streams(3)
    again.load_state(load_state(tmp_path / "s")["streams"])
    assert np.array_equal(again["sampling"].standard_normal(4), expected[0])
    assert np.array_equal(again["minibatch"].permutation(9), expected[1])


@pytest.mark.parametrize("keep", [0, 7, 60, -1])
def test_half_a_file_is_refused_and_set_aside(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "c.safetensors"
    save_state(path, {"x": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        load_state(path)
    assert set_aside(path).name == "c.safetensors.aside-1"
    path.write_bytes(b"")
    assert set_aside(path).name == "c.safetensors.aside-2"


def test_weights_hash_sees_names_types_shapes_and_bits() -> None:
    base = weights_sha256({"a": torch.zeros(4), "b": torch.ones(2)})
    assert base == weights_sha256({"b": torch.ones(2), "a": torch.zeros(4)})
    for other in (
        {"a": torch.zeros(4), "c": torch.ones(2)},
        {"a": torch.zeros(2, 2), "b": torch.ones(2)},
        {"a": torch.zeros(4, dtype=torch.float64), "b": torch.ones(2)},
        {"a": torch.tensor([0.0, 0.0, 0.0, -0.0]), "b": torch.ones(2)},
    ):
        assert weights_sha256(other) != base
