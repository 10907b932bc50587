"""Standard output and error whose reader may leave, or whose disk may be full."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pairbench.errors import PairBenchError


class _Stream:
    """A stream that writes to nowhere once it cannot be written to.

    A reader that has seen enough, as `head`, is no error: the verb goes on and ends as it would
    have. What else goes wrong on standard output is told on standard error.
    """

    def __init__(self, stream: Any, told: bool) -> None:
        self._stream, self._told = stream, told
        self._failure: PairBenchError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._attempt(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def _attempt(self, act: Callable[..., Any], *arguments: Any) -> None:
        if self._failure is not None:  # told again: who asked first may not have listened
            raise self._failure
        try:
            act(*arguments)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if self._told and not isinstance(error, BrokenPipeError):
                self._failure = PairBenchError(
                    f"standard output cannot be written ({error.strerror or error}): make room, or "
                    "send it elsewhere"
                )
                raise self._failure from error


@contextmanager
def streams_that_may_close() -> Iterator[None]:
    """Standard output and error are such streams inside."""
    before = sys.stdout, sys.stderr
    if sys.stdout is not None:
        sys.stdout = _Stream(sys.stdout, told=True)
    if sys.stderr is not None:
        sys.stderr = _Stream(sys.stderr, told=False)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
