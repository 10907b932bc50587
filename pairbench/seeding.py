"""Named independent random streams from one seed; nothing here or elsewhere uses a global one.

A stream is a Philox counter generator keyed by SHA-256 of the seed and the stream's name, so
adding a stream, or drawing more from one, never moves another: two algorithms with the same seed
see the same initial weights and the same contexts however differently they sample.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

TUNING_SEEDS = range(1000, 1100)
"""Seeds of `pairbench tune` alone: it takes no other, and no board's runs may have one of them."""

STREAMS = (
    "init",  # initial weights
    "data",  # generated or shuffled data sets
    "contexts",  # which contexts are drawn
    "sampling",  # the policy's own randomness
    "minibatch",  # the order of minibatches
    "oracle",  # the teacher's noise and its choice of queries
    "evaluation",  # evaluation contexts and the policy's randomness there
    "probe",  # measurements that must not disturb training
)


def derive(seed: int, name: str) -> int:
    """Returns a 128-bit key that depends on `seed` and `name` only."""
    digest = hashlib.sha256(f"pairbench:{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:16], "little")


def generator(seed: int, name: str) -> np.random.Generator:
    """Returns a fresh generator for the stream `name` of `seed`."""
    return np.random.Generator(np.random.Philox(key=derive(seed, name)))


class Streams:
    """The random streams of one run, created on first use, saved and restored as plain JSON."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._generators: dict[str, np.random.Generator] = {}

    def __getitem__(self, name: str) -> np.random.Generator:
        if name not in STREAMS:
            raise KeyError(f"no random stream named {name!r}; the streams are {', '.join(STREAMS)}")
        if name not in self._generators:
            self._generators[name] = generator(self.seed, name)
        return self._generators[name]

    def state(self) -> dict[str, Any]:
        """Returns the state of every stream used so far, as JSON types."""
        return {name: _plain(g.bit_generator.state) for name, g in self._generators.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `state()` returned, in place: generators already handed out follow."""
        for name, used in self._generators.items():
            if name not in state:
                used.bit_generator.state = generator(self.seed, name).bit_generator.state
        for name, saved in state.items():
            self[name].bit_generator.state = _arrays(saved)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return {"uint64": [int(item) for item in value]}
    if isinstance(value, np.generic):
        return value.item()
    return value


def _arrays(value: Any) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {"uint64"}:
            return np.array(value["uint64"], dtype=np.uint64)
        return {key: _arrays(item) for key, item in value.items()}
    return value


THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def pin_threads(count: int = 1) -> None:
    """Fixes the threads of torch and BLAS in this process and its children to `count`.

    Results repeat bit for bit at one thread count only, and a second BLAS thread halves the speed
    of small matrix products, so a run always uses one and parallelism comes from more runs.
    """
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    for name in THREAD_VARIABLES:
        os.environ[name] = str(count)
    torch.set_num_threads(count)
    threadpool_limits(limits=count)
