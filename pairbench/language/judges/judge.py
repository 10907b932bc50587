"""Judges of answers: frozen features and a Bradley-Terry head, learned from human pairs.

Every objective has two, which share neither prompts nor network: the proxy, which training sees,
and the gold one, which only evaluation sees, so that over-optimisation can show (Gao et al. 2023,
arXiv 2210.10760). A judge is a synthetic stand-in and no human preference; its card says how far it
can be trusted, and `JudgeCard.ranks` whether it may rank at all.

`python -m pairbench.language.judges.judge` fits all of them again from the data.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from pairbench.errors import PairBenchError
from pairbench.language.data.load import Pair, Preferences, Split, Turn, content_hash, load, render
from pairbench.results.files import atomic_write
from pairbench.results.record import Strict

if TYPE_CHECKING:
    from pairbench.language.judges.features import Encoder

Float = NDArray[np.float64]
Role = Literal["proxy", "gold"]

FOLDER = Path(__file__).parent / "fitted"
OBJECTIVES: Mapping[str, str] = {
    "helpful": "hh-rlhf-helpful",
    "harmless": "hh-rlhf-harmless",
    "ultrafeedback": "ultrafeedback",
}
"""The data set that each objective's judges are fitted on."""

RECIPE: Mapping[Role, str] = {"proxy": "minilm-l3", "gold": "smollm2-l10"}
"""The kind of features of each role: the one that predicts better is the one that ranks."""

ROLES: tuple[Role, ...] = ("proxy", "gold")
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)
FOLDS = 5
SHORT = 24  # tokens; answers of small policies are as short
NEAR = 0.1  # sides whose lengths differ by at most this share of the longer are nearly equal
STANDARD_ERRORS = 3.0  # by which a judge must beat the length rule to rank


class Estimate(Strict):
    """A mean over pairs and its standard error; a tie of a judge or rule counts one half."""

    value: float
    error: float = Field(ge=0)


class Accuracy(Strict):
    """How often the preferred side of held-out pairs is scored higher.

    Attributes:
        source: the part of the data, or "all".
        tokens: answers were cut to so many of the network's tokens.
        n: pairs.
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
        name: objective and role.
        kind: of the features.
        weights_sha256: of the file with the features' network.
        head_sha256: of the safetensors file with the trained part.
        dataset: what the pairs come from.
        dataset_sha256: of all its pairs (`Preferences.sha256`).
        revision: of the data set.
        fitted_on: split of the data set.
        fitted_sha256: of the pairs fitted on.
        fitted_pairs: their number.
        prompt_tokens: prompts are cut to their last so many tokens.
        answer_tokens: answers are cut to their first so many tokens.
        length_free: whether the head was kept uncorrelated with length on the pairs fitted on.
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
    length_free: bool
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

        Args:
            prompts: N prompts.
            answers: N answers, possibly empty.

        Raises:
            PairBenchError: there are not as many prompts as answers, the network's weights are
                missing or not those the head was fitted on, or a score is not finite.
        """
        from pairbench.language.judges import features

        if len(prompts) != len(answers):
            raise PairBenchError(
                f"the judge {self.card.name} was given {len(prompts)} prompts and {len(answers)} "
                "answers: give one prompt for each answer"
            )
        encode = features.encoder(self.card.kind)
        if encode.weights != self.card.weights_sha256:
            raise PairBenchError(
                f"the judge {self.card.name} was fitted on other weights of {self.card.kind} "
                f"(SHA-256 {self.card.weights_sha256[:12]}) than those installed "
                f"({encode.weights[:12]}): install the version in constraints.txt, or fit the "
                "judges again with `python -m pairbench.language.judges.judge`"
            )
        if not answers:
            return np.empty(0)
        return self._finite(self.head(encode(prompts, answers, (self.card.answer_tokens,))[:, 0]))

    def provenance(self, data: Preferences | None = None) -> dict[str, Any]:
        """Returns what a record should keep: which judge, and whether it was fitted on `data`."""
        kept = {
            "judge": self.card.name,
            "kind": self.card.kind,
            "head_sha256": self.card.head_sha256,
            "fitted_sha256": self.card.fitted_sha256,
            "dataset_sha256": self.card.dataset_sha256,
            "ranks": self.card.ranks,
        }
        if data is not None:
            kept["fitted_on_this_data"] = data.sha256 == self.card.dataset_sha256
        return kept

    def save(self, folder: Path) -> None:
        """Writes `<name>.safetensors` and `<name>.json`."""
        atomic_write(folder / f"{self.card.name}.safetensors", self.head.data())
        text = json.dumps(self.card.model_dump(mode="json"), indent=2) + "\n"
        atomic_write(folder / f"{self.card.name}.json", text.encode())

    def _finite(self, scores: Float) -> Float:
        wrong = np.flatnonzero(~np.isfinite(scores))
        if len(wrong):
            raise PairBenchError(
                f"the judge {self.card.name} gave {scores[wrong[0]]} for answer {wrong[0]} of "
                f"{len(scores)}: its head or the features {self.card.kind} are damaged; fit it "
                "again with `python -m pairbench.language.judges.judge`, or install the wheel again"
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


_RESTORE = "restore its files, or fit it again with `python -m pairbench.language.judges.judge`"


# Fitting.


def bradley_terry(differences: Float, penalty: float, start: Float | None = None) -> Float:
    """Returns the weights (D,) that minimise the penalised Bradley-Terry loss.

    The loss is the mean over pairs of log(1 + exp(-d.w)), in nats, plus penalty/2 |w|^2; it is
    convex, and Newton's method with halved steps finds its one minimum.

    Args:
        differences: (N, D) features of the preferred side less those of the other.
        penalty: above 0.
        start: (D,) weights to begin from, zero if None.
    """
    weight = np.zeros(differences.shape[1]) if start is None else start

    def loss(at: Float) -> float:
        return float(np.logaddexp(0, -differences @ at).mean() + penalty / 2 * at @ at)

    value = loss(weight)
    for _ in range(50):
        wrong = 1 / (1 + np.exp(np.clip(differences @ weight, -500, 500)))
        gradient = penalty * weight - differences.T @ wrong / len(differences)
        if np.abs(gradient).max() < 1e-9:
            break
        curved = differences * (wrong * (1 - wrong))[:, None]
        hessian = differences.T @ curved / len(differences) + penalty * np.eye(len(weight))
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while (new := loss(weight - size * step)) > value and size > 1e-6:
            size /= 2
        if new >= value:
            break
        weight, value = weight - size * step, new
    return weight


def fit_head(
    features: NDArray[Any],
    lengths: NDArray[Any],
    folds: NDArray[np.int64],
    *,
    penalties: Sequence[float] = PENALTIES,
    length_free: bool = False,
) -> tuple[Head, float, dict[str, float]]:
    """Fits a standardised head to pairs.

    Args:
        features: (N, 2, D) of chosen and rejected.
        lengths: (N, 2) characters.
        folds: (N,) which fold of the cross-validation a pair is in.
        penalties: to choose from, by mean loss on the folds left out. Margins are scaled to suit
            all folds first, since a strong penalty shrinks them but need not order worse.
        length_free: keep scores uncorrelated with log length over the answers.

    Returns:
        The head, the penalty chosen, and the cross-validated loss (nats per pair) by penalty.
    """
    margins: dict[float, list[Float]] = {penalty: [] for penalty in penalties}
    for fold in np.unique(folds):
        kept, left = folds != fold, folds == fold
        if not kept.any():
            raise PairBenchError("a judge needs pairs with at least two prompts to be fitted")
        space = _Space.of(features[kept], lengths[kept], length_free)
        train, test = space.differences(features[kept]), space.differences(features[left])
        weight = None
        for penalty in sorted(penalties, reverse=True):
            weight = bradley_terry(train, penalty, weight)
            margins[penalty].append(test @ weight)
    losses = {penalty: _scaled_loss(np.concatenate(margins[penalty])) for penalty in penalties}
    penalty = min(penalties, key=lambda p: (losses[p], -p))
    space = _Space.of(features, lengths, length_free)
    weight = space.basis(bradley_terry(space.differences(features), penalty)) / space.scale
    raw = np.asarray(features, np.float64) @ weight
    spread = float(raw.std())
    if not spread > 0:
        raise PairBenchError("a judge cannot be fitted: its features are the same for all answers")
    head = Head(weight / spread, -float(raw.mean()) / spread)
    return head, penalty, {str(p): round(loss, 6) for p, loss in losses.items()}


def _scaled_loss(margins: Float) -> float:
    """Returns the loss of margins times the scale that suits them best; scores have no unit."""
    spread = float(margins.std())
    if not spread > 0:
        return float(np.log(2))
    unit = margins[:, None] / spread
    return float(np.logaddexp(0, -unit @ bradley_terry(unit, 1e-6)).mean())


@dataclass(frozen=True)
class _Space:
    """Standardised features, without the direction of length if asked."""

    scale: Float
    along: Float | None

    @staticmethod
    def of(features: NDArray[Any], lengths: NDArray[Any], length_free: bool) -> _Space:
        flat = np.asarray(features, np.float64).reshape(-1, features.shape[-1])
        scale = flat.std(0)
        scale[scale < 1e-6 * max(float(scale.max()), 1e-30)] = np.inf  # says nothing
        if not length_free:
            return _Space(scale, None)
        size = np.log(np.maximum(lengths, 1)).reshape(-1)
        along = ((flat - flat.mean(0)) / scale).T @ (size - size.mean())
        norm = float(np.linalg.norm(along))
        return _Space(scale, along / norm if norm > 0 else None)

    def differences(self, features: NDArray[Any]) -> Float:
        """Returns (N, D) differences between the sides."""
        wide = np.asarray(features, np.float64)
        flat: Float = (wide[:, 0] - wide[:, 1]) / self.scale
        return flat if self.along is None else flat - np.outer(flat @ self.along, self.along)

    def basis(self, weight: Float) -> Float:
        """Returns the weights without the direction of length, if that was asked."""
        return weight if self.along is None else weight - (weight @ self.along) * self.along


# Measuring.


def text_length(answers: Sequence[str]) -> Float:
    """Returns (N,) characters."""
    return np.array([len(answer) for answer in answers], np.float64)


def distinct_share(answers: Sequence[str]) -> Float:
    """Returns (N,) the share of distinct words among an answer's words, 1 without any."""
    words = [re.findall(r"\w+", answer.lower()) for answer in answers]
    return np.array([len(set(w)) / len(w) if w else 1.0 for w in words])


def measure(scores: Float, lengths: Float, source: str, tokens: int) -> Accuracy:
    """Returns how well scores (N, 2) of chosen and rejected order N pairs.

    Args:
        scores: (N, 2).
        lengths: (N, 2) characters.
        source: to be named.
        tokens: to be named.
    """
    right = _order(scores[:, 0] - scores[:, 1])
    longer = _order(lengths[:, 0] - lengths[:, 1])
    better = longer if longer.mean() >= 0.5 else 1 - longer
    near = np.abs(lengths[:, 0] - lengths[:, 1]) <= NEAR * lengths.max(1)
    return Accuracy(
        source=source,
        tokens=tokens,
        n=len(scores),
        judge=_mean(right),
        longer=_mean(longer),
        shorter=_mean(1 - longer),
        margin=_mean(right - better),
        near_equal=_mean(right[near]) if near.any() else None,
        near_equal_n=int(near.sum()),
    )


def agree(
    first: Float, second: Float, groups: Sequence[Any] | NDArray[Any], judge: str, texts: str
) -> Agreement:
    """Returns how far two judges' scores of the same answers agree within a prompt.

    Args:
        first: (N,) scores of one judge.
        second: (N,) scores of the other.
        groups: (N,) the prompt of each answer, as anything that can be compared; prompts with one
            answer are left out.
        judge: the other one's name, to be kept.
        texts: what the answers are, to be kept.

    Raises:
        PairBenchError: no prompt has two answers.
    """
    alike, one, other = [], [], []
    members: dict[Any, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    for places in members.values():
        if len(places) < 2:
            continue
        a, b = first[places], second[places]
        i, j = np.triu_indices(len(places), 1)
        alike.append(float(_order((a[i] - a[j]) * (b[i] - b[j])).mean()))
        one.append(a - a.mean())
        other.append(b - b.mean())
    if not alike:
        raise PairBenchError(
            f"the agreement with {judge} needs two answers to a prompt, and no prompt has them"
        )
    return Agreement(
        judge=judge,
        texts=texts,
        prompts=len(alike),
        alike=_mean(np.array(alike)),
        correlation=_correlation(np.concatenate(one), np.concatenate(other)),
    )


def _order(difference: Float) -> Float:
    return np.where(difference > 0, 1.0, np.where(difference < 0, 0.0, 0.5))


def _mean(values: Float) -> Estimate:
    error = float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return Estimate(value=round(float(values.mean()), 6), error=round(error, 6))


def _correlation(first: Float, second: Float, centred: bool = True) -> float | None:
    """Returns Pearson's correlation; of differences, whose sign is arbitrary, about zero."""
    if centred:
        first, second = first - first.mean(), second - second.mean()
    size = float(np.sqrt((first @ first) * (second @ second)))
    return round(float(first @ second) / size, 6) if size > 0 else None


# From data to judges.

Progress = Callable[[str, int, int], None]
"""Called with the kind of features, the pairs done, and their total."""


@dataclass(frozen=True)
class Fitted:
    """A judge, and its scores (N, 2) of the pairs of each split it was not fitted on."""

    judge: Judge
    held_out: Mapping[Split, Float]


def fit_judge(
    kind: str,
    data: Preferences,
    role: Role,
    objective: str | None = None,
    *,
    length_free: bool = False,
    encode: Encoder | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """Fits a judge on the split named like its role and measures it on all others.

    Args:
        kind: of the features.
        data: cleaned pairs.
        role: "proxy" or "gold".
        objective: part of the name; the data set's name if None.
        length_free: keep the score uncorrelated with length on the pairs fitted on.
        encode: to use instead of the kind's own encoder.
        progress: told how far the features are.

    Raises:
        PairBenchError: too few pairs, or the features' network is not installed.
    """
    from pairbench.language.judges import features

    objective = objective or data.name
    encode = encode or features.encoder(kind)
    parts = data.split()
    fitted = parts[role]
    others = [name for name in parts if name != role and parts[name]]
    if len(fitted) < 2 * FOLDS or not others:
        raise PairBenchError(
            f"a {role} judge needs at least {2 * FOLDS} pairs in the split {role} and one in the "
            f"others; {data.name} has {len(fitted)} and {len(data.pairs) - len(fitted)}: add data"
        )
    cuts = (features.ANSWER_TOKENS, SHORT)
    table: dict[Split, NDArray[np.float32]] = {}
    total = len(data.pairs)
    for name in parts:
        before = sum(map(len, table.values()))

        def report(done: int, before: int = before) -> None:
            if progress is not None:
                progress(kind, before + done, total)

        lengths = cuts[:1] if name == "policy" else cuts  # most pairs are there
        table[name] = features.pair_features(encode, parts[name], lengths, report)

    head, penalty, losses = fit_head(
        table[role][:, :, 0], _lengths(fitted), _folds(fitted), length_free=length_free
    )
    scores = {name: head(table[name][:, :, 0]) for name in others}
    short = [name for name in others if name != "policy"]
    pairs = [pair for name in others for pair in parts[name]]
    joined = np.concatenate([scores[name] for name in others])
    sources = np.array([pair.source for pair in pairs])
    sizes = _lengths(pairs)
    measured = [measure(joined, sizes, "all", cuts[0])]
    if len(set(sources)) > 1:
        for source in sorted(set(sources)):
            chosen = sources == source
            measured.append(measure(joined[chosen], sizes[chosen], source, cuts[0]))
    card = JudgeCard(
        name=f"{objective}-{role}",
        objective=objective,
        role=role,
        kind=kind,
        weights_sha256=encode.weights,
        head_sha256=hashlib.sha256(head.data()).hexdigest(),
        dataset=data.name,
        dataset_sha256=data.sha256,
        revision=data.revision,
        fitted_on=role,
        fitted_sha256=content_hash(fitted),
        fitted_pairs=len(fitted),
        prompt_tokens=features.PROMPT_TOKENS,
        answer_tokens=cuts[0],
        length_free=length_free,
        penalty=penalty,
        cross_validation=losses,
        held_out=tuple(measured),
        held_out_short=measure(
            np.concatenate([head(table[name][:, :, 1]) for name in short]),
            np.concatenate([_lengths(parts[name]) for name in short]),
            "all",
            cuts[1],
        )
        if short
        else None,
        correlations=_correlations(joined, pairs),
        agreement=None,
        ranks=_beats(measured[0]),
    )
    judge = Judge(card, head)
    judge._finite(joined.reshape(-1))
    return Fitted(judge, scores)


def fit_objective(
    objective: str,
    data: Preferences,
    *,
    recipe: Mapping[Role, str] = RECIPE,
    length_free: bool = False,
    encoders: Mapping[str, Encoder] | None = None,
    progress: Progress | None = None,
) -> dict[Role, Judge]:
    """Fits both judges of an objective and measures how far they agree.

    Args:
        objective: names the judges.
        data: cleaned pairs.
        recipe: the kind of features of each role.
        length_free: see `fit_judge`.
        encoders: to use instead of the kinds' own, by kind.
        progress: told how far the features are.
    """
    fits = {
        role: fit_judge(
            recipe[role],
            data,
            role,
            objective,
            length_free=length_free,
            encode=(encoders or {}).get(recipe[role]),
            progress=progress,
        )
        for role in ROLES
    }
    both = [name for name in fits["proxy"].held_out if name in fits["gold"].held_out]
    if not both:
        return {role: fit.judge for role, fit in fits.items()}
    scores = {
        role: np.concatenate([fit.held_out[name] for name in both]) for role, fit in fits.items()
    }
    groups = np.repeat(np.arange(len(scores["proxy"])), 2)
    judges: dict[Role, Judge] = {}
    for role, other in zip(ROLES, ROLES[::-1]):
        found = agree(
            scores[role].reshape(-1),
            scores[other].reshape(-1),
            groups,
            f"{objective}-{other}",
            "held-out pairs of the data set",
        )
        judge = fits[role].judge
        judges[role] = replace(judge, card=judge.card.model_copy(update={"agreement": found}))
    return judges


SAMPLED = (64, 8, 24)  # prompts, completions of each, tokens of each


def agree_on_samples(judges: Mapping[Role, Judge], data: Preferences) -> dict[Role, Judge]:
    """Returns the judges, their cards telling how far they agree on the policy's own completions.

    Those of the initial policy `tiny` for the first prompts of the split "evaluation", in the order
    of their text, at temperature 1.
    """
    from pairbench import seeding
    from pairbench.language.policy.models import decode, encode_prompts, load_model
    from pairbench.language.policy.policy import LanguagePolicy
    from pairbench.language.prompts import sft_texts

    count, size, length = SAMPLED
    model = load_model("tiny", sft=sft_texts(data))
    policy = LanguagePolicy(model.model, model.eos, reference=False, min_length=length)
    prompts = sorted({pair.prompt for pair in data.split()["evaluation"]})[:count]
    ids = encode_prompts(model.tokenizer, [render(prompt, None) for prompt in prompts], 64)
    draws = seeding.generator(0, "judges/samples")
    texts = decode(model.tokenizer, policy.sample(ids, size, length, 1.0, draws)[0])
    turns = [prompt for prompt in prompts for _ in range(size)]
    scores = {role: judge.score(turns, texts) for role, judge in judges.items()}
    groups = np.repeat(np.arange(len(prompts)), size)
    found: dict[Role, Judge] = {}
    for role, other in zip(ROLES, ROLES[::-1]):
        card = judges[role].card
        name = judges[other].card.name
        said = agree(scores[role], scores[other], groups, name, "completions of tiny")
        found[role] = replace(
            judges[role], card=card.model_copy(update={"agreement_on_samples": said})
        )
    return found


def _beats(accuracy: Accuracy) -> bool:
    return accuracy.margin.value >= max(STANDARD_ERRORS * accuracy.margin.error, 1e-12)


def _lengths(pairs: Sequence[Pair]) -> Float:
    return np.array([[len(pair.chosen), len(pair.rejected)] for pair in pairs], np.float64)


def _folds(pairs: Sequence[Pair]) -> NDArray[np.int64]:
    """Returns the fold of each pair, by a hash of its prompt's first turns, so none is in two."""
    keys = [" ".join(pair.prompt[0][1].casefold().split()) for pair in pairs]
    digests = [hashlib.sha256(f"pairbench-fold:{key}".encode()).digest() for key in keys]
    return np.array([int.from_bytes(digest[:8]) % FOLDS for digest in digests])


def _correlations(scores: Float, pairs: Sequence[Pair]) -> Correlations:
    answers = [answer for pair in pairs for answer in (pair.chosen, pair.rejected)]
    size = np.log(text_length(answers)).reshape(-1, 2)
    distinct = distinct_share(answers).reshape(-1, 2)

    def within(values: Float) -> Float:
        return values[:, 0] - values[:, 1]

    return Correlations(
        length=_correlation(scores.reshape(-1), size.reshape(-1)),
        length_within=_correlation(within(scores), within(size), centred=False),
        distinct=_correlation(scores.reshape(-1), distinct.reshape(-1)),
        distinct_within=_correlation(within(scores), within(distinct), centred=False),
    )


def summary(card: JudgeCard) -> str:
    """Returns a card as a line for people: accuracies in percent with their standard errors."""

    def percent(found: Estimate | None) -> str:
        return "none" if found is None else f"{found.value:.3f}±{found.error:.3f}"

    parts = [
        f"{a.source}@{a.tokens} {percent(a.judge)} (n {a.n}; longer {a.longer.value:.3f}; margin "
        f"{percent(a.margin)}; near-equal {percent(a.near_equal)}, n {a.near_equal_n})"
        for a in (*card.held_out, *((card.held_out_short,) if card.held_out_short else ()))
    ]
    agreement = f"; alike {percent(card.agreement.alike)}" if card.agreement else ""
    verdict = "may rank" if card.ranks else "smoke tests only"
    return (
        f"{card.name} [{card.kind}, {card.fitted_pairs} pairs]: {'; '.join(parts)}{agreement}; "
        f"correlation with length {card.correlations.length}: {verdict}"
    )


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the data; else hub.")
@click.option("--out", type=click.Path(path_type=Path), default=FOLDER, show_default=False)
@click.option("--objective", "objectives", multiple=True, type=click.Choice(list(OBJECTIVES)))
@click.option("--length-free", is_flag=True, help="Keep scores uncorrelated with length.")
def main(data_dir: Path | None, out: Path, objectives: tuple[str, ...], length_free: bool) -> None:
    """Fits the judges from the data and writes them with their cards to OUT."""
    from pairbench.seeding import pin_threads

    pin_threads(1)

    def progress(kind: str, done: int, total: int) -> None:
        click.echo(f"{kind}: {done} of {total} pairs", err=True)

    for objective in objectives or OBJECTIVES:
        try:
            data = load(OBJECTIVES[objective], data_dir)
            judges = fit_objective(
                objective, data, recipe=RECIPE, length_free=length_free, progress=progress
            )
            judges = agree_on_samples(judges, data)
        except PairBenchError as error:
            raise click.ClickException(str(error)) from error
        for judge in judges.values():
            judge.save(out)
            click.echo(summary(judge.card))


if __name__ == "__main__":
    main()
