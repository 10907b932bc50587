"""Judges of answers: frozen features and a Bradley-Terry head, learned from human pairs.

Every objective has two, which share neither prompts nor network: the proxy, which training sees,
and the gold one, which only evaluation sees, so that over-optimisation can show (Gao et al. 2023,
arXiv 2210.10760). A judge is a synthetic stand-in and no human preference; its card says how far it
can be trusted, and `JudgeCard.ranks` whether it may rank at all.

`pairbench.language.judges.fit` fits them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from pairbench.errors import PairBenchError
from pairbench.evaluation import Strict
from pairbench.language.data.forms import Turn
from pairbench.language.data.pairs import Split
from pairbench.language.judges.features import encoder
from pairbench.results.files import atomic_write

Float = NDArray[np.float64]
Role = Literal["proxy", "gold"]
ROLES: tuple[Role, ...] = get_args(Role)

FOLDER = Path(__file__).parent / "fitted"
NEAR = 0.1
"""Sides whose lengths differ by at most this share of the longer are nearly equal."""

STANDARD_ERRORS = 3.0
"""By which a judge must beat the length rule to rank."""

_RESTORE = "restore its files, or fit it again with `python -m pairbench.language.judges.fit`"


class Estimate(Strict):
    """A mean over pairs and its standard error; a tie of a judge or rule counts one half."""

    value: float
    error: float = Field(ge=0)


class Accuracy(Strict):
    """How often the preferred side of held-out pairs is scored higher.

    Attributes:
        source: the part of the data, or "all".
        tokens: answers were cut to so many of the network's tokens.
        judge: share of pairs that the judge orders as their label does.
        longer: the rule "the longer answer wins", by characters of the whole answers.
        shorter: its opposite.
        constant: a judge that gives all answers one score.
        margin: the judge less the better of both rules, with the standard error of the
            difference on the same pairs.
        near_equal: the judge on pairs of nearly equal length (`NEAR`), None without such pairs.
        near_equal_n: how many those are.
    """

    source: str
    tokens: int
    n: int = Field(gt=0)
    judge: Estimate
    longer: Estimate
    shorter: Estimate
    constant: float = 0.5
    margin: Estimate
    near_equal: Estimate | None
    near_equal_n: int


class Agreement(Strict):
    """How far two judges order the same answers to a prompt alike.

    Attributes:
        judge: the other one.
        texts: what was scored, for example "held-out pairs".
        prompts: groups of answers, at least two in each.
        alike: share of a prompt's pairs of answers that both order alike, a tie of either counts
            one half; mean over prompts.
        correlation: of scores less their prompt's mean; None if either never varies.
    """

    judge: str
    texts: str
    prompts: int = Field(gt=0)
    alike: Estimate
    correlation: float | None


class Correlations(Strict):
    """Pearson correlations of scores on held-out answers; None where a side never varies.

    Attributes:
        length: with the logarithm of an answer's characters.
        length_within: the same of the differences between a pair's sides.
        distinct: with the share of distinct words among an answer's words.
        distinct_within: the same of the differences between a pair's sides.
    """

    length: float | None
    length_within: float | None
    distinct: float | None
    distinct_within: float | None


class JudgeCard(Strict):
    """What a judge is, what it was fitted on, and how well it predicts held-out pairs.

    Attributes:
        kind: of the features.
        weights_sha256: of the file with the features' network.
        head_sha256: of the safetensors file with the trained part.
        dataset, dataset_sha256, revision: of `Preferences`.
        fitted_on: split of the data set.
        fitted_sha256, fitted_pairs: of the pairs fitted on.
        prompt_tokens, answer_tokens: so many of a prompt's last and an answer's first are read.
        penalty: ridge penalty on the mean loss, chosen by cross-validation within those pairs.
        cross_validation: mean loss (nats per pair) by penalty.
        held_out: accuracies on pairs of all other splits: "all" first, then by source.
        held_out_short: "all" again with answers cut short, on the splits not of the policy.
        correlations: of scores with length and repetition.
        agreement: with the objective's other judge on pairs that neither was fitted on.
        agreement_on_samples: likewise on completions of the initial policy tiny.
        ranks: whether it beats the better length rule by `STANDARD_ERRORS` on held-out pairs; a
            judge that does not may drive smoke tests only.
    """

    schema_version: Literal[1] = 1
    name: str
    objective: str
    role: Role
    kind: str
    weights_sha256: str
    head_sha256: str
    dataset: str
    dataset_sha256: str
    revision: str
    fitted_on: Split
    fitted_sha256: str
    fitted_pairs: int
    prompt_tokens: int
    answer_tokens: int
    penalty: float
    cross_validation: dict[str, float]
    held_out: tuple[Accuracy, ...]
    held_out_short: Accuracy | None
    correlations: Correlations
    agreement: Agreement | None
    agreement_on_samples: Agreement | None = None
    ranks: bool

    def short(self) -> dict[str, Any]:
        """Returns what a board shows of the card, in JSON types; shares with standard errors."""

        def share(estimate: Estimate | None) -> str | None:
            return None if estimate is None else f"{estimate.value:.3f} ± {estimate.error:.3f}"

        every, *sources = self.held_out
        on_data, on_samples = self.agreement, self.agreement_on_samples
        entries = {
            "kind": self.kind,
            "head_sha256": self.head_sha256,
            "pairs fitted on": self.fitted_pairs,
            "held-out pairs": every.n,
            "accuracy": share(every.judge),
            **{f"accuracy, {part.source}": share(part.judge) for part in sources},
            "longer wins": share(every.longer),
            "shorter wins": share(every.shorter),
            "constant judge": every.constant,
            "margin over the better rule": share(every.margin),
            "accuracy at near-equal length": share(every.near_equal),
            "accuracy on answers cut short": self.held_out_short
            and f"{share(self.held_out_short.judge)} at {self.held_out_short.tokens} tokens",
            "agreement on held-out pairs": on_data and share(on_data.alike),
            "agreement on the policy's samples": on_samples and share(on_samples.alike),
            "correlation with log length": self.correlations.length,
            "correlation with distinct words": self.correlations.distinct,
            "may rank": "yes" if self.ranks else "no",
        }
        return {name: entry for name, entry in entries.items() if entry is not None}


@dataclass(frozen=True)
class Head:
    """A linear score of D features, standardised on the answers it was fitted on.

    Attributes:
        weight: (D,) float64.
        bias: scores have mean 0 and standard deviation 1 over the answers fitted on.
    """

    weight: Float
    bias: float

    def __call__(self, features: NDArray[Any]) -> Float:
        """Returns the scores (...) of features (..., D)."""
        score: Float = np.asarray(features, np.float64) @ self.weight + self.bias
        return score

    def data(self) -> bytes:
        """Returns the head as a safetensors file."""
        tensors = {"bias": np.array([self.bias]), "weight": self.weight}
        return safetensors.numpy.save(tensors, metadata={"format": "pairbench-judge-1"})


@dataclass(frozen=True)
class Judge:
    """Scores answers; see `load_judge` and `fit_judge`."""

    card: JudgeCard
    head: Head

    def score(self, prompts: Sequence[tuple[Turn, ...]], answers: Sequence[str]) -> Float:
        """Returns (N,) float64 scores, in standard deviations of the answers fitted on.

        Give the answers to one prompt next to each other: some kinds then read it once.

        Raises:
            PairBenchError: there are not as many prompts as answers, the network's weights are
                missing or not those the head was fitted on, or a score is not finite.
        """
        if len(prompts) != len(answers):
            raise PairBenchError(
                f"the judge {self.card.name} was given {len(prompts)} prompts and {len(answers)} "
                "answers: give one prompt for each answer"
            )
        encode = encoder(self.card.kind)
        if encode.weights != self.card.weights_sha256:
            raise PairBenchError(
                f"the judge {self.card.name} was fitted on other weights of {self.card.kind} "
                f"(SHA-256 {self.card.weights_sha256[:12]}) than those installed "
                f"({encode.weights[:12]}): install the version in constraints.txt, or fit the "
                "judges again with `python -m pairbench.language.judges.fit`"
            )
        if not answers:
            return np.empty(0)
        return self.finite(self.head(encode(prompts, answers, (self.card.answer_tokens,))[:, 0]))

    def save(self, folder: Path) -> None:
        """Writes `<name>.safetensors` and `<name>.json`."""
        atomic_write(folder / f"{self.card.name}.safetensors", self.head.data())
        text = json.dumps(self.card.model_dump(mode="json"), indent=2) + "\n"
        atomic_write(folder / f"{self.card.name}.json", text.encode())

    def finite(self, scores: Float) -> Float:
        """Returns the scores (N,) as they are.

        Raises:
            PairBenchError: one is not finite.
        """
        wrong = np.flatnonzero(~np.isfinite(scores))
        if len(wrong):
            raise PairBenchError(
                f"the judge {self.card.name} gave {scores[wrong[0]]} for answer {wrong[0]} of "
                f"{len(scores)}: its head or the features {self.card.kind} are damaged; fit it "
                "again with `python -m pairbench.language.judges.fit`, or install the wheel again"
            )
        return scores


def judge_names(folder: Path = FOLDER) -> list[str]:
    """Returns the names of the judges in a folder, the committed ones by default."""
    return sorted(path.stem for path in folder.glob("*.json"))


def load_judge(name: str, folder: Path = FOLDER) -> Judge:
    """Loads a judge; the network of its features is read when it first scores.

    Args:
        name: objective and role, for example "helpful-proxy".
        folder: holds `<name>.json` and `<name>.safetensors`.

    Raises:
        PairBenchError: there is no such judge, or its files are damaged.
    """
    card_path, head_path = folder / f"{name}.json", folder / f"{name}.safetensors"
    if not card_path.is_file():
        raise PairBenchError(
            f"no judge is named {name!r} in {folder}: there are "
            f"{', '.join(judge_names(folder)) or 'none'}"
        )
    try:
        card = JudgeCard.model_validate_json(card_path.read_bytes())
        data = head_path.read_bytes()
        tensors = safetensors.numpy.load(data)
        head = Head(tensors["weight"].astype(np.float64), float(tensors["bias"][0]))
        whole = hashlib.sha256(data).hexdigest() == card.head_sha256
    except (OSError, ValidationError, KeyError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise PairBenchError(f"the judge {name} cannot be read ({reason}): {_RESTORE}") from error
    if not whole:
        raise PairBenchError(f"the judge {name} is not the one its card describes: {_RESTORE}")
    return Judge(card, head)
