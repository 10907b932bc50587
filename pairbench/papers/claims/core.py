"""What a claim is, and how its verdict follows from its numbers.

A claim's function measures; each number may carry a requirement, and the verdict is computed from
which requirements are met. No verdict is written down anywhere.
"""

from __future__ import annotations

import math
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import Literal

from torch import Tensor

from pairbench.errors import PairBenchError

Verdict = Literal["holds", "holds only if", "fails"]
Relation = Literal["<=", ">="]
Scope = Literal["stated", "restricted"]
Evidence = Literal["paper", "derived"]

Z = 3.0  # standard errors by which a Monte-Carlo number must clear its bound
ROUNDING = 1e-6  # bounds up to here ask for zero up to rounding
NOTHING = 1e-12  # exact values up to here are zero up to rounding


@dataclass(frozen=True)
class Requirement:
    """What a number must satisfy.

    Attributes:
        bound: same unit as the number.
        scope: "stated" for the claim as it is stated, "restricted" for what is left of it under
            the claim's assumption.
    """

    relation: Relation
    bound: float
    scope: Scope


@dataclass(frozen=True)
class Number:
    """One measured quantity.

    Attributes:
        name: what it is, in words, with its unit where it has one.
        error: standard error of a Monte-Carlo value; None for exact ones (float64 rounding only).
        requirement: what the verdict asks of it, or None for a number that is only shown.
    """

    name: str
    value: float
    error: float | None = None
    requirement: Requirement | None = None

    @property
    def met(self) -> bool:
        """Whether the requirement is met, for Monte-Carlo values by `Z` standard errors.

        A value that is not finite meets nothing.
        """
        need = self.requirement
        if need is None or not math.isfinite(self.value):
            return need is None
        room = need.bound - self.value if need.relation == "<=" else self.value - need.bound
        return room >= Z * (self.error or 0.0)

    @property
    def decided(self) -> bool:
        """Whether a Monte-Carlo value lies `Z` standard errors or more to one side of its bound."""
        need = self.requirement
        return need is None or abs(self.value - need.bound) >= Z * (self.error or 0.0)

    @property
    def vanishes(self) -> bool:
        """Whether it is zero up to rounding, as its requirement asks: its digits mean nothing."""
        need = self.requirement
        asked = need is not None and need.relation == "<=" and need.bound <= ROUNDING
        return abs(self.value) <= (max(need.bound, NOTHING) if need and asked else NOTHING)

    @property
    def rounded(self) -> float:
        """The value to the digits that mean something: two of its error, else six of its own."""
        if self.vanishes or not math.isfinite(self.value):
            return 0.0 if self.vanishes else self.value
        places = 5 - math.floor(math.log10(abs(self.value)))
        if self.error:
            places = 1 - math.floor(math.log10(self.error))
        return round(self.value, places)

    @property
    def rounded_error(self) -> float | None:
        """The error to two digits."""
        if not self.error:
            return self.error
        return round(self.error, 1 - math.floor(math.log10(self.error)))


def shown(name: str, value: float | Tensor, error: float | None = None) -> Number:
    """Returns a number that is only shown."""
    return Number(name, float(value), error)


def stated(
    name: str, value: float | Tensor, relation: Relation, bound: float, error: float | None = None
) -> Number:
    """Returns a number that the claim as stated requires."""
    return Number(name, float(value), error, Requirement(relation, bound, "stated"))


def restricted(
    name: str, value: float | Tensor, relation: Relation, bound: float, error: float | None = None
) -> Number:
    """Returns a number that what is left of the claim under its assumption requires."""
    return Number(name, float(value), error, Requirement(relation, bound, "restricted"))


def verdict(numbers: Iterable[Number]) -> Verdict:
    """Returns what the requirements of `numbers` say.

    "holds": all are met. "holds only if": those of the restricted claim are met, of which there is
    at least one, and some of the stated claim's are not. "fails": otherwise.
    """
    needs = [(n.requirement.scope, n.met) for n in numbers if n.requirement is not None]
    if not needs:
        raise PairBenchError("a claim without a requirement has no verdict: state what must hold")
    if all(met for _, met in needs):
        return "holds"
    under = [met for scope, met in needs if scope == "restricted"]
    return "holds only if" if under and all(under) else "fails"


@dataclass(frozen=True)
class Finding:
    """What a claim's function returns.

    Attributes:
        numbers: the measurements, the most telling first.
        holds, only_if, fails: the sentence that says why, or names the counterexample, for the
            verdict of that name. A verdict that nobody foresaw has none: it is explained by the
            requirements that are not met.
    """

    numbers: Sequence[Number]
    holds: str = ""
    only_if: str = ""
    fails: str = ""


@dataclass(frozen=True)
class Claim:
    """One assertion of a paper, as `claims.toml` has it.

    Attributes:
        group: heading it is listed under.
        where: the part of the paper, or of our notes on it.
        statement: the assertion in our words.
        assumption: under which it is measured, and to which "holds only if" refers.
        method: "exact enumeration", "closed form", or "Monte Carlo, n draws", and of what.
        evidence: "paper" where the paper says it, "derived" where we derived it from the paper.
        measure: the function that measures it.
    """

    id: str
    group: str
    paper: str
    where: str
    statement: str
    assumption: str
    method: str
    evidence: Evidence = "derived"
    measure: Callable[[], Finding] = field(default=lambda: Finding(()), repr=False)

    @property
    def exact(self) -> bool:
        """Whether no number has a sampling error."""
        return "Monte Carlo" not in self.method


def _read() -> Iterator[Claim]:
    text = (files("pairbench.papers.claims") / "claims.toml").read_text(encoding="utf-8")
    for group in tomllib.loads(text)["groups"]:
        for name, words in group["claims"].items():
            yield Claim(name, group["group"], group["paper"], **words)


CLAIMS: dict[str, Claim] = {made.id: made for made in _read()}
"""Every claim by id, in the order of the file."""


def claim(name: str) -> Callable[[Callable[[], Finding]], Callable[[], Finding]]:
    """Decorates the function that measures the claim of that id."""

    def taken(measure: Callable[[], Finding]) -> Callable[[], Finding]:
        CLAIMS[name] = replace(CLAIMS[name], measure=measure)
        return measure

    return taken


@dataclass(frozen=True)
class Result:
    """A claim, measured."""

    claim: Claim
    numbers: Sequence[Number]
    verdict: Verdict
    reason: str
    seconds: float = 0.0


def judge(made: Claim, finding: Finding, seconds: float = 0.0) -> Result:
    """Returns the claim's result: verdict and reason follow from the finding's numbers."""
    outcome = verdict(finding.numbers)
    reasons = {"holds": finding.holds, "holds only if": finding.only_if, "fails": finding.fails}
    reason = reasons[outcome]
    if not reason:
        missed = [n.name for n in finding.numbers if not n.met]
        reason = f"Not met: {'; '.join(missed)}." if missed else "Every requirement is met."
    return Result(made, tuple(finding.numbers), outcome, reason, seconds)


def check(made: Claim) -> Result:
    """Measures a claim."""
    began = time.perf_counter()
    finding = made.measure()
    return judge(made, finding, time.perf_counter() - began)
