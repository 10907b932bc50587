"""Every built-in algorithm keeps the contract, and each check can fail."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import ConfigDict, Field, field_serializer
from torch import Tensor

from pairbench import objectives as o
from pairbench.algorithm import Algorithm, External, Loss, Needs, Presets
from pairbench.authoring import situations as contract
from pairbench.authoring.checks import NAMES, Finding, check
from pairbench.batch import Batch, Signal, pick
from pairbench.cli.main import main
from pairbench.errors import PairBenchError
from pairbench.policy import PolicyOutput
from pairbench.registry import BUILT_IN, entries, get_algorithm
from pairbench.space import integers, log_uniform

BUILT = [entry.name for entry in entries("algorithm").values() if entry.origin == BUILT_IN]
FLOORS = ("best-of-n", "optimum", "random", "reference")
OTHERS = [name for name in BUILT if name in FLOORS or name.startswith(("sb3-", "trl-"))]
"""Floor rows and other libraries' trainers."""

RATES = log_uniform(0.1, 1.0)
"""A space that `Sound`'s preset is not in."""

LEARNERS = [name for name in BUILT if name not in OTHERS]
MOOT = {
    "krpo": {"member-order"},
    "ppo": {"member-order"},
    "distilled": {"member-order", "bandit", "learning"},
}
"""Checks that say nothing of a method: of its order, or because the bandit has not what it asks."""

ON_THE_BANDIT = ("bandit", "learning")
SYNTHETIC = tuple(name for name in NAMES if name not in ON_THE_BANDIT)


class Sound(Algorithm):
    """A policy gradient with the group's mean as its baseline."""

    name = "sound"
    source = "tests"
    presets: ClassVar[Presets] = {"tabular": {"contexts": 32, "lr": 0.03, "epochs": 2}}

    class Config(Algorithm.Config):
        """A group."""

        group_size: int = Field(4, ge=2, description="G, responses per context")
        scale: float = Field(1.0, ge=0, description="factor of the loss")

    config: Config

    @property
    def needs(self) -> Needs:
        return Needs("groups", "scores")

    def prepare(self, batch: Batch, progress: float, iteration: int) -> Signal:
        assert batch.score is not None
        groups = batch.score.view(-1, self.config.group_size)
        return {"advantage": (groups - groups.mean(1, keepdim=True)).view(-1, 1)}

    def per_step(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Tensor:
        return -signal["advantage"] * (output.logp - batch.old_logp).exp()

    def loss(self, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        each = self.per_step(output, batch, signal)
        return Loss(self.config.scale * o.masked_mean(each, batch.mask))


Loses = Callable[[Sound, PolicyOutput, Batch, Signal], Any]
Prepares = Callable[[Sound, Batch], Any]


def variant(
    loss: Loses | None = None, prepare: Prepares | None = None, **attributes: Any
) -> type[Sound]:
    """Returns `Sound` with another loss, signal or class attribute."""
    body: dict[str, Any] = {"__doc__": Sound.__doc__, **attributes}
    if loss is not None:
        body["loss"] = loss
    if prepare is not None:
        body["prepare"] = lambda self, batch, progress, iteration: prepare(self, batch)
    return type("Broken", (Sound,), body)


def plain(self: Sound, output: PolicyOutput, batch: Batch, signal: Signal) -> Tensor:
    """Returns the sound loss."""
    return Sound.loss(self, output, batch, signal).value


def advantage(self: Sound, batch: Batch) -> Tensor:
    """Returns the sound advantages."""
    return Sound.prepare(self, batch, 0.0, 0)["advantage"]


def groups_of(self: Sound, batch: Batch) -> Tensor:
    assert batch.score is not None
    return batch.score.view(-1, self.config.group_size)


def drawing(draw: Callable[[], object]) -> Loses:
    """Returns the sound loss, which calls `draw` on the way."""

    def loss(self: Sound, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        draw()
        return Loss(plain(self, output, batch, signal))

    return loss


def counting(self: Sound, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
    self.calls = getattr(self, "calls", 0) + 1  # type: ignore[attr-defined]
    return Loss(plain(self, output, batch, signal) * self.calls)  # type: ignore[attr-defined]


def remembering(self: Sound, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
    """Counts instances in the class: the first instance is consistent, the next one differs."""
    cls = type(self)
    if getattr(cls, "first", None) is None:
        cls.first = self  # type: ignore[attr-defined]
    factor = 1.0 if cls.first is self else 2.0  # type: ignore[attr-defined]
    return Loss(plain(self, output, batch, signal) * factor)


def writing(what: str) -> Loses:
    """Returns the sound loss, which writes to the batch or to the signal afterwards."""

    def loss(self: Sound, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
        value = plain(self, output, batch, signal)
        (batch.mask if what == "batch" else signal["advantage"]).add_(1.0)
        return Loss(value)

    return loss


def centring(self: Sound, batch: Batch) -> Signal:
    groups = groups_of(self, batch)
    groups -= groups.mean(1, keepdim=True)  # in place: these are the batch's own scores
    return {"advantage": groups.reshape(-1, 1)}


def by_row(self: Sound, batch: Batch) -> Signal:
    return {"advantage": advantage(self, batch) * torch.arange(len(batch)).unsqueeze(1)}


def against_the_first(self: Sound, batch: Batch) -> Signal:
    groups = groups_of(self, batch)
    return {"advantage": (groups - groups[:, :1]).view(-1, 1)}


def undefined_when_tied(self: Sound, batch: Batch) -> Signal:
    groups = groups_of(self, batch)
    centred = groups - groups.mean(1, keepdim=True)
    return {"advantage": (centred / groups.std(1, keepdim=True)).view(-1, 1)}


def across_groups(self: Sound, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
    per_group = (output.logp.detach() * batch.mask).sum(1).view(-1, self.config.group_size).mean(1)
    return Loss(plain(self, output, batch, signal) / (per_group - per_group.mean()).square().sum())


def reads_scores(self: Sound, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
    assert batch.score is not None
    return Loss(plain(self, output, batch, signal))


def unmasked(self: Sound, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
    return Loss(self.per_step(output, batch, signal).mean())


def unmasked_weights(self: Sound, output: PolicyOutput, batch: Batch, signal: Signal) -> Loss:
    """No gradient from padding, but its scale is read from there."""
    return Loss(plain(self, output, batch, signal) * batch.old_logp.mean())


def needing(*arguments: Any, **options: Any) -> Any:
    """Returns a `needs` property."""
    return property(lambda self: Needs(*arguments, **options))


class Rounded(Sound.Config):
    """Says another number than it has."""

    scale: float = Field(1.23456, description="a factor")

    @field_serializer("scale")
    def _short(self, scale: float) -> float:
        return round(scale, 1)


class Lenient(Sound.Config):
    """Takes anything."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Bare(Sound.Config):
    """A setting without a word."""

    secret: float = 1.0


CASES: list[tuple[str, str, type[Algorithm], str]] = [
    ("documents", "no docstring", variant(__doc__=None), "no docstring"),
    ("documents", "no source", variant(source=""), "has no source"),
    ("documents", "no name", variant(name=""), "has no name"),
    ("documents", "bare setting", variant(Config=Bare), "without a description: secret"),
    ("settings", "bad preset", variant(presets={"tabular": {"group_size": 1}}), "group_size"),
    ("settings", "searches nothing", variant(spaces={"tabular": {"speed": RATES}}),
     "names 'speed', which is no setting"),
    ("settings", "searches elsewhere", variant(spaces={"tabular": {"lr": RATES}}),
     "leaves out lr = 0.03"),
    ("settings", "searches too far", variant(spaces={"tabular": {"group_size": integers(1, 8)}}),
     "the space of tabular gives"),
    ("settings", "rounded in JSON", variant(Config=Rounded), "others after a way through JSON"),
    ("settings", "takes anything", variant(Config=Lenient), "forbid extra ones"),
    ("settings", "no queries", variant(needs=needing("groups", "comparisons")), "by no queries"),
    ("settings", "odd data", variant(needs=needing("words", "scores")), "needs.data is 'words'"),
    ("settings", "offline groups",
     variant(needs=needing("groups", "scores", offline=True)), "only pairs can be offline"),
    ("signal", "a scalar",
     variant(prepare=lambda self, batch: {"advantage": advantage(self, batch).mean()}),
     "its first axis must be"),
    ("signal", "a list", variant(prepare=lambda self, batch: [1.0]), "a mapping of names"),
    ("signal", "a number", variant(prepare=lambda self, batch: {"n": 3}), "is a int, no tensor"),
    ("signal", "no steps",
     variant(
         prepare=lambda self, batch: {"advantage": batch.step_reward.sum(1, keepdim=True)},
         needs=needing("steps", "rewards"),
     ), "trained on single ones"),
    ("gradient", "NaN",
     variant(lambda s, o, b, g: Loss(plain(s, o, b, g) * float("nan"))), "the loss is nan"),
    ("gradient", "detached",
     variant(lambda s, o, b, g: Loss(plain(s, o, b, g).detach())), "was detached"),
    ("gradient", "a vector",
     variant(lambda s, o, b, g: Loss(s.per_step(o, b, g).sum(1))), "must be a scalar"),
    ("gradient", "zero", variant(lambda s, o, b, g: Loss(0.0 * plain(s, o, b, g))),
     "no step of the policy gets a gradient"),
    ("gradient", "no Loss", variant(lambda s, o, b, g: plain(s, o, b, g)), "must return a"),
    ("gradient", "live diagnostic",
     variant(lambda s, o, b, g: Loss(plain(s, o, b, g), {"x": plain(s, o, b, g)})),
     "diagnostic 'x' must be a detached scalar"),
    ("gradient", "idle critic", variant(needs=needing("groups", "scores", critic=True)),
     "no gradient in its values"),
    ("gradient", "undeclared need",
     variant(lambda s, o, b, g: Loss(plain(s, o, b, g) + b.ref_logp.sum())),
     "raises AttributeError"),
    ("gradient", "infinite slope",
     variant(lambda s, o, b, g: Loss(plain(s, o, b, g) + (o.logp - o.logp.detach()).sqrt().sum())),
     "the gradient of the policy is not finite"),
    ("padding", "a mean over padding", variant(unmasked), "masked steps get a gradient"),
    ("padding", "a scale from padding", variant(unmasked_weights), "at masked steps changes"),
    ("group-order", "row numbers", variant(prepare=by_row), "when the groups are in another"),
    ("member-order", "the first is the baseline", variant(prepare=against_the_first),
     "when the responses of each group are in another"),
    ("repeat", "a counter", variant(counting), "when it is called again"),
    ("repeat", "a class that remembers", variant(remembering), "in a new instance"),
    ("random-state", "torch.rand", variant(drawing(lambda: torch.rand(1))), "of torch"),
    ("random-state", "torch.manual_seed", variant(drawing(lambda: torch.manual_seed(0))),
     "of torch"),
    ("random-state", "numpy", variant(drawing(lambda: np.random.rand())), "of numpy"),  # noqa: NPY002 (what the check is for)
    ("random-state", "random", variant(drawing(random.random)), "of random"),
    ("mutation", "scores in place", variant(prepare=centring), "prepare() writes to batch.score"),
    ("mutation", "the mask", variant(writing("batch")), "loss() writes to batch.mask"),
    ("mutation", "the signal", variant(writing("signal")), "writes to signal['advantage']"),
    ("precision", "cast", variant(lambda s, o, b, g: Loss(plain(s, o, b, g).float())),
     "the loss of a batch of float64 is float32"),
    ("precision", "cancellation",
     variant(lambda s, o, b, g: Loss(1e7 * ((1.0 + 1e-7 * plain(s, o, b, g)) - 1.0))),
     "from float64 to float32"),
    ("ties", "no floor under the deviation", variant(prepare=undefined_when_tied), "loss is nan"),
    ("extremes", "a ratio cubed",
     variant(lambda s, o, b, g: Loss((((o.logp - b.old_logp) * b.mask).sum(1).exp() ** 3).mean())),
     "the loss is inf"),
    ("empty-rows", "a mean over no step",
     variant(lambda s, o, b, g: Loss((s.per_step(o, b, g) * b.mask).sum() / b.mask.sum())),
     "the loss is nan"),
    ("empty-rows", "the mask forgotten", variant(unmasked), "rows without a real step get a"),
    ("minibatch", "a deviation over groups", variant(across_groups), "the loss is -inf"),
    ("minibatch", "scores in the loss", variant(reads_scores), "a loss cannot read batch.score"),
    ("bandit", "the wrong sign", variant(lambda s, o, b, g: Loss(-plain(s, o, b, g))),
     "not 3 standard errors and 0.1 above it"),
    ("bandit", "a run that fails",
     variant(lambda s, o, b, g: Loss(plain(s, o, b, g) * float("nan"))),
     "its run of seed 0 on preference-bandit failed: the loss is not finite"),
    ("learning", "no step to speak of", variant(presets={"tabular": {"lr": 1e-12}}),
     "not 3 standard errors and 0.1 above it"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Runs of broken algorithms on the bandit need not be long."""
    if "broken" in request.fixturenames:
        monkeypatch.setattr(contract, "BANDIT_STEPS", 3000)


def one(algorithm: type[Algorithm], name: str, **options: Any) -> Finding:
    (found,) = check(algorithm, only=(name,), **options)
    assert found.name == name
    return found


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_built_in_algorithms_keep_the_contract(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "BANDIT_STEPS", 5000)
    found = check(get_algorithm(algorithm))
    assert [f.name for f in found] == list(NAMES)
    assert {f.name: f.sentence for f in found if f.passed is False} == {}
    moot = {f.name for f in found if f.passed is None}
    assert moot == MOOT.get(algorithm, set())


def test_rows_without_a_loss_of_ours_are_skipped_with_a_reason() -> None:
    assert {"random", "reference", "sb3-ppo", "trl-grpo"} <= set(OTHERS)
    for name in OTHERS:
        try:
            cls = get_algorithm(name)
        except PairBenchError:  # an extra that is not installed
            continue
        found = {f.name: f for f in check(cls)}
        assert found["documents"].passed and found["settings"].passed
        reason = "brings its own trainer" if issubclass(cls, External) else "is a floor row"
        for other in SYNTHETIC[2:]:
            assert found[other].passed is None and reason in found[other].sentence
        for other in ON_THE_BANDIT:
            assert found[other].passed is None and found[other].sentence


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        ("grpo", {"aggregation": "bnpo", "beta": 0.1, "penalty": "direct"}),
        ("grpo", {"ratio_level": "trajectory", "trust_region": True}),
        ("hard-pair-grpo", {"target": "tabular"}),
        ("soft-pair-grpo", {"pairing": "disjoint-pairs"}),
        ("dpo", {"loss_type": "ipo-mean", "data": "offline"}),
        ("ppo", {"kl_coef": 0.1, "value_clip": 0.2, "ent_coef": 0.1}),
    ],
)
def test_other_settings_keep_it_too(algorithm: str, settings: dict[str, Any]) -> None:
    found = check(get_algorithm(algorithm), only=SYNTHETIC, settings=settings)
    assert {f.name: f.sentence for f in found if f.passed is False} == {}


def test_a_sound_method_passes_every_check() -> None:
    found = check(Sound)
    assert [(f.name, f.sentence) for f in found if not f.passed] == []
    assert all(f.sentence for f in found)


@pytest.mark.parametrize(
    ("name", "broken", "says"),
    [pytest.param(name, cls, says, id=f"{name}: {what}") for name, what, cls, says in CASES],
)
def test_each_check_can_fail(name: str, broken: type[Algorithm], says: str) -> None:
    found = one(broken, name)
    assert found.passed is False
    assert says in found.sentence


def test_every_check_is_shown_to_fail() -> None:
    assert {name for name, *_ in CASES} == set(NAMES)


def test_doing_nothing_is_above_random_on_the_bandit_and_so_not_enough() -> None:
    idle = variant(presets={"tabular": {"lr": 1e-12}})
    assert one(idle, "bandit").passed
    assert one(idle, "learning").passed is False


def test_what_a_method_cannot_run_on_is_skipped_in_words() -> None:
    found = one(variant(kinds=("language",)), "bandit")
    assert (found.passed, found.sentence) == (None, "sound runs on language tasks only")


def test_global_generators_are_as_they_were_before_a_check() -> None:
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 (what the check promises)
    random.seed(5)
    before = torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    assert one(variant(drawing(lambda: torch.rand(3))), "random-state").passed is False
    assert before == (torch.rand(1), np.random.rand(), random.random())  # noqa: NPY002


def test_a_method_may_say_that_order_is_part_of_it() -> None:
    found = one(variant(prepare=against_the_first, ordered=True), "member-order")
    assert found.passed is None and "is part of it" in found.sentence


def keeping(self: Sound, batch: Batch) -> Batch:
    size = self.config.group_size
    kept = torch.arange(len(batch)).view(-1, size)[:, : size // 2].reshape(-1)
    return pick(batch, kept, size // 2)


def halved(self: Sound, batch: Batch) -> Signal:
    assert batch.score is not None
    groups = batch.score.view(-1, self.config.group_size // 2)
    return {"advantage": (groups - groups.mean(1, keepdim=True)).view(-1, 1)}


def test_what_a_method_selects_is_what_it_is_given() -> None:
    chosen = variant(prepare=halved, select=keeping)
    synthetic = [name for name in SYNTHETIC if name != "member-order"]
    assert [f for f in check(chosen, only=synthetic) if not f.passed] == []
    lost = one(variant(select=lambda self, batch: None), "signal")
    assert lost.passed is False and "select() must return a Batch" in lost.sentence


def test_scores_are_in_the_unit_interval_by_default_and_any_number_under_a_preset() -> None:
    low = []
    for situation in contract.Subject(Sound, {}).situations:
        batch, _ = situation.world()
        assert batch.score is not None
        assert situation.unit == situation.label.startswith("default settings")
        if situation.unit:
            assert batch.score.min() >= 0.0 and batch.score.max() <= 1.0
        low.append(float(batch.score.min()))
    assert min(low) < 0.0


def test_an_unknown_check_is_named() -> None:
    with pytest.raises(PairBenchError, match="no check 'paddling'; known are documents"):
        check(Sound, only=("paddling",))


@pytest.mark.parametrize("kind", ["control", "language", "tabular"])
@pytest.mark.parametrize(
    "needs",
    [
        Needs("groups", "scores", reference=True),
        Needs("groups", "comparisons", "all-pairs"),
        Needs("groups", "comparisons", "disjoint-pairs"),
        Needs("groups", "comparisons", "best-worst"),
        Needs("groups+pairs", "scores", "all-pairs"),
        Needs("pairs", "comparisons", "best-worst"),
        Needs("pairs", "comparisons", offline=True, reference=True),
        Needs("groups+pairs", "scores", offline=True, reference=True),
        Needs("groups", "scores", components=True),
        Needs("steps", "rewards", critic=True),
    ],
    ids=str,
)
def test_batches_hold_what_is_needed_and_no_more(kind: str, needs: Needs) -> None:
    cls = variant(needs=property(lambda self: needs))
    situation = contract.Situation("test", cls, cls.Config(group_size=4), kind)
    batch, table = situation.world()
    again, _ = situation.world()
    assert torch.equal(batch.old_logp, again.old_logp)
    assert torch.equal(batch.mask, again.mask)
    assert (batch.ref_logp is not None) == needs.reference
    scores = needs.feedback == "scores"
    assert (batch.score is not None) == (scores and not needs.components)
    assert (batch.components is not None) == needs.components
    assert (batch.domain_share is not None) == (kind == "language" and batch.sampler != -1)
    beside = needs.offline and needs.data == "groups+pairs"
    assert (batch.offline is not None) == beside
    compared = "pairs" in needs.data or needs.feedback == "comparisons"
    assert (batch.pairs is not None) == (compared and not beside)
    if batch.offline is not None:
        assert batch.offline.pairs is not None and batch.offline.sampler == -1
        assert batch.offline.steps == (1 if kind == "tabular" else batch.steps + 1)
        assert not set(batch.contexts.unique().tolist()) & set(
            batch.offline.contexts.unique().tolist()
        )
    assert (batch.step_reward is not None) == (needs.data == "steps")
    assert (batch.value is not None) == needs.critic
    assert batch.steps == (1 if kind == "tabular" else contract.STEPS)
    ragged = batch.mask.sum(1)
    assert ragged.min() == 1 and ragged.max() == batch.steps
    assert batch.group_size == (2 if needs.data == "pairs" else 4)
    if needs.data == "steps":
        assert batch.boundary is not None and batch.next_value is not None
        last = ragged.long() - 1
        assert bool((batch.boundary.gather(1, last.unsqueeze(1)) == 1).all())
    # the policy at the sampler's own logits says what the batch says of the sampler
    same, here = situation.world(moved=0.0)
    output = here(same)
    torch.testing.assert_close(output.logp * same.mask, same.old_logp)
    exact = output.kl_old
    assert (exact is None) == (kind == "language")
    if exact is not None:
        torch.testing.assert_close(exact, torch.zeros_like(exact), atol=1e-12, rtol=0.0)
    tied, _ = situation.world(tied=True)
    if tied.score is not None:
        assert tied.score.unique().numel() == 1
    if tied.pairs is not None and not needs.offline:
        assert len(tied.pairs) == 0
    far, table = situation.world(extreme=True)
    gap = ((table(far).logp.detach() - far.old_logp) * far.mask).abs()
    height = min(contract.EXTREME, contract.EXTREME_RESPONSE / far.steps)
    assert gap.max() > 0.9 * height
    assert gap.sum(1).max() <= contract.EXTREME_RESPONSE + 5.0


def said(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, pytest.CaptureResult[str]]:
    """Calls the command line; returns its exit status and what it printed."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["check", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code, capsys.readouterr()


def test_the_command_says_what_was_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, printed = said(capsys, "grpo", "--only", "padding,ties", "--set", "beta=0.1")
    assert status == 0
    assert printed.out.splitlines()[-1] == "2 passed, 0 failed, 0 skipped"
    assert printed.out.startswith("ok      padding  what stands at masked steps changes no bit")

    status, printed = said(capsys, "random", "--format", "json", "--only", "padding")
    assert (status, json.loads(printed.out)[0]["passed"]) == (0, None)

    monkeypatch.setattr("pairbench.registry.get_algorithm", lambda name: variant(unmasked))
    status, printed = said(capsys, "sound", "--only", "padding,repeat")
    assert status == 1
    assert printed.out.startswith("FAILED  padding  with default settings and scores in [0, 1], ")
    assert printed.out.splitlines()[-1] == "1 passed, 1 failed, 0 skipped"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gpro",), "there is no algorithm 'gpro'; did you mean grpo"),
        (("grpo", "--only", "paddling"), "there is no check 'paddling'"),
        (("grpo", "--set", "beta"), "write key=value"),
        (("grpo", "--set", "betta=1"), "grpo has no setting 'betta'; did you mean beta"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, printed = said(capsys, *arguments)
    assert status == 2
    assert message in printed.err and printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("dpo", {"loss_type": "ipo-mean"}),
        ("grpo", {"trust_region": True, "threshold": 0.0}),
        ("grpo", {"penalty": "direct", "ratio_level": "sequence_mean"}),
        ("hard-pair-grpo", {"kappa": 1.0, "base": "restricted"}),
        ("f-grpo", {"weights": "self-normalised-mean"}),
        ("rlrr", {"form": "hrr"}),
        ("amir-grpo", {"margin": 0.0}),
        *(
            ("grpo", {"aggregation": how, "ratio_level": level})
            for how in ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "luspo", "sapo")
            for level in ("token", "sequence_mean", "trajectory")
        ),
    ],
    ids=str,
)
def test_rows_without_steps_count_for_nothing_in_any_form(
    name: str, settings: dict[str, Any]
) -> None:
    assert one(get_algorithm(name), "empty-rows", settings=settings).passed
