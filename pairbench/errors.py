"""The errors a user is meant to read: one sentence saying what, where and what to do."""

from __future__ import annotations


class PairBenchError(Exception):
    """Wrong use or bad input; the command line prints the message alone and exits with 2."""


class DivergedError(Exception):
    """A loss, gradient or weight stopped being finite; the run is recorded as failed.

    Attributes:
        iteration: the training iteration (from 0) in which it happened.
        where: the quantity that was not finite, for example ``"loss"``.
    """

    def __init__(self, iteration: int, where: str) -> None:
        self.iteration = iteration
        self.where = where
        super().__init__(f"{where} is not finite in iteration {iteration}")


class Interrupted(BaseException):
    """A run was asked to stop and has saved its state: neither finished nor failed."""
