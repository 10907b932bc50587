"""Fitting judges to pairs of the data sets, and measuring how far they can be trusted.

`python -m pairbench.language.judges.fit` fits all of them again from the data, to the same bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from pairbench import seeding
from pairbench.errors import PairBenchError
from pairbench.language.data.load import load
from pairbench.language.data.pairs import Pair, Preferences, Split, content_hash, prompt_text
from pairbench.language.judges import features
from pairbench.language.judges.judge import (
    FOLDER,
    NEAR,
    ROLES,
    STANDARD_ERRORS,
    Accuracy,
    Agreement,
    Correlations,
    Estimate,
    Float,
    Head,
    Judge,
    JudgeCard,
    Role,
)
from pairbench.language.judges.panel import OBJECTIVES
from pairbench.language.policy.encoding import decode, encode_prompts
from pairbench.language.policy.models import load_model
from pairbench.language.policy.policy import LanguagePolicy

DATASET_OF: Mapping[str, str] = {
    objectives[0]: dataset for dataset, objectives in OBJECTIVES.items() if len(objectives) == 1
}
"""The data set that each objective's judges are fitted on."""

RECIPE: Mapping[Role, str] = {"proxy": "minilm-l3", "gold": "smollm2-l10"}
"""The kind of features of each role: the one that predicts better is the one that ranks."""

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)
FOLDS = 5
SHORT = 24
"""Tokens that answers are cut to as well: those of small policies are as short."""

SAMPLED = (64, 8, 24)
"""Prompts, completions of each, and tokens of each, on which agreement is measured too."""

Progress = Callable[[str, int, int], None]
"""Called with the kind of features, the pairs done, and their total."""


# One head.


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
    folds: NDArray[np.int64],
    penalties: Sequence[float] = PENALTIES,
) -> tuple[Head, float, dict[str, float]]:
    """Fits a standardised head to pairs.

    Args:
        features: (N, 2, D) of chosen and rejected.
        folds: (N,) which fold of the cross-validation a pair is in.
        penalties: to choose from, by mean loss on the folds left out. Margins are scaled to suit
            all folds first, since a strong penalty shrinks them but need not order worse.

    Returns:
        The head, the penalty chosen, and the cross-validated loss (nats per pair) by penalty.
    """
    margins: dict[float, list[Float]] = {penalty: [] for penalty in penalties}
    for fold in np.unique(folds):
        kept, left = folds != fold, folds == fold
        if not kept.any():
            raise PairBenchError("a judge needs pairs with at least two prompts to be fitted")
        scale = _scale(features[kept])
        train, test = (_differences(features[part]) / scale for part in (kept, left))
        weight = None
        for penalty in sorted(penalties, reverse=True):
            weight = bradley_terry(train, penalty, weight)
            margins[penalty].append(test @ weight)
    losses = {penalty: _scaled_loss(np.concatenate(margins[penalty])) for penalty in penalties}
    penalty = min(penalties, key=lambda p: (losses[p], -p))
    scale = _scale(features)
    weight = bradley_terry(_differences(features) / scale, penalty) / scale
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


def _scale(features: NDArray[Any]) -> Float:
    """Returns the (D,) standard deviations of features (N, 2, D), infinity for constants."""
    scale: Float = np.asarray(features, np.float64).reshape(-1, features.shape[-1]).std(0)
    scale[scale < 1e-6 * max(float(scale.max()), 1e-30)] = np.inf  # says nothing
    return scale


def _differences(features: NDArray[Any]) -> Float:
    """Returns (N, D) differences between the sides of features (N, 2, D)."""
    wide = np.asarray(features, np.float64)
    difference: Float = wide[:, 0] - wide[:, 1]
    return difference


# Measuring.


def distinct_share(answers: Sequence[str]) -> Float:
    """Returns (N,) the share of distinct words among an answer's words, 1 without any."""
    words = [re.findall(r"\w+", answer.lower()) for answer in answers]
    return np.array([len(set(w)) / len(w) if w else 1.0 for w in words])


def measure(scores: Float, lengths: Float, source: str, tokens: int) -> Accuracy:
    """Returns how well scores (N, 2) of chosen and rejected, of `lengths` (N, 2), order N pairs."""
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


def agree(first: Float, second: Float, judge: str, texts: str) -> Agreement:
    """Returns how far two judges' scores of the same answers agree within a prompt.

    Args:
        first, second: (N, G) scores of the two, of G answers to each of N prompts.
        judge: the other one's name, to be kept.
        texts: what the answers are, to be kept.
    """
    i, j = np.triu_indices(first.shape[1], 1)
    products = (first[:, i] - first[:, j]) * (second[:, i] - second[:, j])
    one, other = (scores - scores.mean(1, keepdims=True) for scores in (first, second))
    return Agreement(
        judge=judge,
        texts=texts,
        prompts=len(first),
        alike=_mean(_order(products).mean(1)),
        correlation=_correlation(one.reshape(-1), other.reshape(-1)),
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
    progress: Progress | None = None,
) -> Fitted:
    """Fits a judge on the split named like its role and measures it on all others.

    The judge is named by `objective`, the data set's name if None, and by its role.

    Raises:
        PairBenchError: too few pairs, or the features' network is not installed.
    """
    objective = objective or data.name
    encode = features.encoder(kind)
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

    head, penalty, losses = fit_head(table[role][:, :, 0], _folds(fitted))
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
    judge.finite(joined.reshape(-1))
    return Fitted(judge, scores)


def fit_objective(
    objective: str,
    data: Preferences,
    recipe: Mapping[Role, str],
    progress: Progress | None = None,
) -> dict[Role, Judge]:
    """Fits both judges of an objective and measures how far they agree."""
    fits = {role: fit_judge(recipe[role], data, role, objective, progress) for role in ROLES}
    judges = {role: fit.judge for role, fit in fits.items()}
    both = [name for name in fits["proxy"].held_out if name in fits["gold"].held_out]
    if not both:
        return judges
    scores = {
        role: np.concatenate([fit.held_out[name] for name in both]) for role, fit in fits.items()
    }
    return _agreeing(judges, scores, "held-out pairs of the data set", "agreement")


def agree_on_samples(judges: Mapping[Role, Judge], data: Preferences) -> dict[Role, Judge]:
    """Returns the judges, their cards telling how far they agree on completions of `tiny`.

    Those are for the first prompts of the split "evaluation", in the order of their text, at
    temperature 1.
    """
    count, size, length = SAMPLED
    model = load_model("tiny", sft=data.sft_texts())
    policy = LanguagePolicy(model.model, model.eos, reference=False, min_length=length)
    prompts = sorted({pair.prompt for pair in data.split()["evaluation"]})[:count]
    ids = encode_prompts(model.tokenizer, [prompt_text(prompt) for prompt in prompts], 64)
    draws = seeding.generator(0, "judges/samples")
    texts = decode(model.tokenizer, policy.sample(ids, size, length, 1.0, draws)[0])
    turns = [prompt for prompt in prompts for _ in range(size)]
    scores = {role: judge.score(turns, texts).reshape(-1, size) for role, judge in judges.items()}
    return _agreeing(judges, scores, "completions of tiny", "agreement_on_samples")


def _agreeing(
    judges: Mapping[Role, Judge], scores: Mapping[Role, Float], texts: str, field: str
) -> dict[Role, Judge]:
    """Returns the judges, a `field` of their cards telling how far they agree; see `agree`."""
    found: dict[Role, Judge] = {}
    for role, other in zip(ROLES, ROLES[::-1]):
        card = judges[role].card
        said = agree(scores[role], scores[other], judges[other].card.name, texts)
        found[role] = replace(judges[role], card=card.model_copy(update={field: said}))
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
    size = np.log(_lengths(pairs))
    distinct = distinct_share(answers).reshape(-1, 2)

    def within(values: Float) -> Float:
        return values[:, 0] - values[:, 1]

    return Correlations(
        length=_correlation(scores.reshape(-1), size.reshape(-1)),
        length_within=_correlation(within(scores), within(size), centred=False),
        distinct=_correlation(scores.reshape(-1), distinct.reshape(-1)),
        distinct_within=_correlation(within(scores), within(distinct), centred=False),
    )


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the data; else hub.")
@click.option("--out", type=click.Path(path_type=Path), default=FOLDER, show_default=False)
@click.option("--objective", "objectives", multiple=True, type=click.Choice(list(DATASET_OF)))
def main(data_dir: Path | None, out: Path, objectives: tuple[str, ...]) -> None:
    """Fits the judges from the data and writes them with their cards to OUT."""
    seeding.pin_threads(1)

    def progress(kind: str, done: int, total: int) -> None:
        click.echo(f"{kind}: {done} of {total} pairs", err=True)

    for objective in objectives or DATASET_OF:
        try:
            data = load(DATASET_OF[objective], data_dir)
            judges = agree_on_samples(fit_objective(objective, data, RECIPE, progress), data)
        except PairBenchError as error:
            raise click.ClickException(str(error)) from error
        for judge in judges.values():
            judge.save(out)
            said = "; ".join(f"{name} {entry}" for name, entry in judge.card.short().items())
            click.echo(f"{judge.card.name}: {said}")


if __name__ == "__main__":
    main()
