"""Nested state to one safetensors file and back: tensors and JSON, nothing to run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pairbench.results.files import atomic_write, refuse_unusual

MARK = "\x00tensor"  # a JSON string that starts so stands for the tensor of that name


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Writes nested dicts and lists of tensors, arrays and JSON values, atomically.

    Arrays come back as tensors. The file is complete on disk before it takes its name, so a
    reader, or a run killed at any moment, sees the old state or the new one.
    """
    tensors: dict[str, Tensor] = {}
    tree = _strip(state, "", tensors)
    data = save(tensors, metadata={"tree": json.dumps(tree, allow_nan=True)})
    atomic_write(path, data)


def load_state(path: Path) -> dict[str, Any]:
    """Returns what `save_state` wrote.

    Raises:
        ValueError: the file is cut short, or is not one of ours.
    """
    try:
        refuse_unusual(path)
        with safe_open(path, framework="pt") as file:
            tree = json.loads((file.metadata() or {})["tree"])
            # clone: the tensors would otherwise be views of a file that may be replaced
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
        restored = _fill(tree, tensors)
    except (SafetensorError, KeyError, ValueError, RecursionError, OSError) as error:
        raise ValueError(f"{path} is not a readable checkpoint ({error})") from error
    if not isinstance(restored, dict):
        raise ValueError(f"{path} is not a readable checkpoint (it holds no state)")
    return restored


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 (hex) of all tensors' names, types, shapes and bytes, in name order."""
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _strip(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return MARK + name
    if isinstance(value, Mapping):
        return {str(key): _strip(item, f"{name}/{key}", tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strip(item, f"{name}/{index}", tensors) for index, item in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    return value


def _fill(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, str) and value.startswith(MARK):
        return tensors[value[len(MARK) :]]
    if isinstance(value, dict):
        return {key: _fill(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, tensors) for item in value]
    return value
