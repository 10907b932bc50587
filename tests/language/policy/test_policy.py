"""The causal LM as a policy: every short cut against a full forward pass of every row."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pairbench import seeding
from pairbench.batch import Batch
from pairbench.errors import PairBenchError
from pairbench.language.policy.policy import LanguagePolicy, Lora
from pairbench.training.checkpoint import weights_sha256
from pairbench.training.optimiser import Adam, Group

transformers = pytest.importorskip("transformers")

VOCAB, EOS = 50, 1
PROMPTS, SIZE, STEPS = 3, 4, 7


def llama(seed: int = 0, **settings: Any) -> Any:
    """Returns a small random Llama with grouped keys and weights large enough to matter."""
    config = transformers.LlamaConfig(
        **{
            "vocab_size": VOCAB,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 40,
            "tie_word_embeddings": True,
            **settings,
        }
    )
    with torch.random.fork_rng():
        model = transformers.LlamaForCausalLM(config)
    draw = seeding.generator(seed, "init")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.from_numpy(draw.normal(0, 0.2, tuple(parameter.shape))))
    return model


def policy(seed: int = 0, **settings: Any) -> LanguagePolicy:
    return LanguagePolicy(llama(seed), EOS, **settings)


def prompts(lengths: tuple[int, ...] = (9, 4, 6), seed: int = 1) -> Tensor:
    """Returns (N, P) left-padded prompts, one column wider than the longest."""
    draw = seeding.generator(seed, "contexts")
    table = torch.full((len(lengths), max(lengths) + 1), -1)
    for row, length in enumerate(lengths):
        table[row, -length:] = torch.from_numpy(draw.integers(2, VOCAB, length))
    return table


def batch(size: int = SIZE, seed: int = 2) -> Batch:
    """Returns groups of `size` responses of unequal lengths, none as long as the batch is wide."""
    draw = seeding.generator(seed, "data")
    contexts = prompts().repeat_interleave(size, 0)
    rows = len(contexts)
    lengths = torch.from_numpy(draw.integers(1, STEPS, rows))
    responses = torch.from_numpy(draw.integers(2, VOCAB, (rows, STEPS + 1)))
    mask = (torch.arange(STEPS + 1) < lengths.unsqueeze(1)).float()
    responses = responses.masked_fill(mask == 0, -1)
    ended = torch.arange(rows) % 2 == 0
    responses[ended, lengths[ended] - 1] = EOS
    group = torch.arange(PROMPTS).repeat_interleave(size)
    return Batch(contexts, responses, mask, torch.zeros_like(mask), group).check()


def by_hand(model: Any, given: Batch) -> Tensor:
    """Returns (B, T) log-probabilities from the model alone, one row at a time, without padding."""
    rows = []
    for context, response, mask in zip(given.contexts, given.responses, given.mask):
        prompt, answer = context[context >= 0], response[mask > 0]
        logits = model(torch.cat([prompt, answer]).unsqueeze(0)).logits[0]
        logp = logits.log_softmax(1)[len(prompt) - 1 : -1].gather(1, answer.unsqueeze(1))
        rows.append(torch.nn.functional.pad(logp[:, 0], (0, len(mask) - len(answer))))
    return torch.stack(rows)


def loss(logp: Tensor, given: Batch) -> Tensor:
    """Returns a loss in which every token has its own weight."""
    weight = torch.from_numpy(seeding.generator(3, "data").normal(size=tuple(logp.shape)))
    return (logp.square() * weight * given.mask).sum()


def gradients(of: Tensor, tensors: list[Tensor]) -> Tensor:
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(of, tensors)])


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("size", [1, SIZE])
def test_losses_and_gradients_are_those_of_each_row_alone(shared: bool, size: int) -> None:
    given = batch(size)
    ours = policy(shared_prompt=shared)
    expected = by_hand(ours.model, given)
    got = ours(given).logp
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert bool((got[given.mask == 0] == 0).all())
    torch.testing.assert_close(loss(got, given), loss(expected, given), atol=0, rtol=1e-5)
    tensors = ours.parameters()[0].tensors
    ideal = gradients(loss(by_hand(ours.model, given), given), tensors)
    gap = gradients(loss(got, given), tensors) - ideal
    assert float(gap.norm() / ideal.norm()) < 1e-5


def test_prompts_of_equal_length_need_no_mask() -> None:
    given = batch()
    ours = policy()
    contexts = prompts((5, 5, 5)).repeat_interleave(SIZE, 0)
    even = Batch(contexts, given.responses, given.mask, given.old_logp, given.group)
    torch.testing.assert_close(ours(even).logp, by_hand(ours.model, even), atol=1e-5, rtol=0)


@pytest.mark.parametrize("micro_rows", [1, 5, 8])
def test_chunks_give_the_same_gradient(micro_rows: int) -> None:
    given = batch()
    whole, chunked = policy(critic=True), policy(critic=True, micro_rows=micro_rows)
    results = []
    for ours in (whole, chunked):
        output = ours(given)
        assert output.value is not None and output.entropy is not None
        total = loss(output.logp, given) + (output.value - 1).square().sum()
        total = total + (output.entropy * given.mask).sum()
        tensors = [tensor for group in ours.parameters() for tensor in group.tensors]
        results.append((output.logp.detach(), gradients(total, tensors)))
    torch.testing.assert_close(results[1][0], results[0][0], atol=1e-6, rtol=1e-6)
    gap = results[1][1] - results[0][1]
    assert float(gap.norm() / results[0][1].norm()) < 1e-6


def test_chunks_are_whole_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = policy(micro_rows=5)
    seen: list[tuple[int, int]] = []
    original = ours._chunk

    def watched(model: Any, contexts: Tensor, *rest: Any) -> Tensor:
        seen.append((len(contexts), rest[2]))
        return original(model, contexts, *rest)

    monkeypatch.setattr(ours, "_chunk", watched)
    ours(batch()).logp.sum().backward()  # type: ignore[no-untyped-call]
    assert seen == [(SIZE, SIZE)] * 6  # three groups forward, and again backward


def test_entropy_is_that_of_the_distribution() -> None:
    given = batch()
    ours = policy()
    entropy = ours(given).entropy
    assert entropy is not None
    context, response = given.contexts[0], given.responses[0]
    row = torch.cat([context[context >= 0], response[given.mask[0] > 0]])
    probabilities = ours.model(row.unsqueeze(0)).logits[0].softmax(1)
    places = slice(int((context >= 0).sum()) - 1, -1)
    expected = -(probabilities * probabilities.log()).sum(1)[places]
    torch.testing.assert_close(entropy[0, : len(expected)], expected, atol=1e-5, rtol=0)


def test_the_value_head_starts_at_zero_and_leaves_the_policy_alone() -> None:
    given = batch()
    ours = policy(critic=True)
    assert [group.role for group in ours.parameters()] == ["policy", "critic"]
    value = ours(given).value
    assert value is not None and value.shape == given.mask.shape
    assert bool((value == 0).all())
    (value - 1).square().sum().backward()  # type: ignore[no-untyped-call]
    head = ours.parameters()[1].tensors[0]
    assert head.grad is not None and float(head.grad.abs().sum()) > 0
    assert all(t.grad is None or not t.grad.any() for t in ours.parameters()[0].tensors)
    # the value of a step is read before its own token: the first does not depend on the response
    with torch.no_grad():
        head.normal_(generator=torch.Generator().manual_seed(0))
    value = ours(given).value
    assert value is not None
    first = value[:, 0].reshape(PROMPTS, SIZE)
    torch.testing.assert_close(first, first[:, :1].expand_as(first))


# sampling


def draw(ours: LanguagePolicy, size: int = SIZE, length: int = 12, **settings: Any) -> Any:
    temperature = settings.pop("temperature", 1.0)
    return ours.sample(
        prompts(), size, length, temperature, seeding.generator(settings.pop("seed", 5), "sampling")
    )


@pytest.mark.parametrize("min_length", [0, 3, 12])
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_sampled_log_probabilities_are_those_of_scoring(
    min_length: int, temperature: float
) -> None:
    ours = policy(min_length=min_length)
    responses, mask, logp = draw(ours, temperature=temperature)
    contexts = prompts().repeat_interleave(SIZE, 0)
    torch.testing.assert_close(ours.logp(contexts, responses, mask), logp, atol=1e-4, rtol=0)
    assert bool(((responses >= 0) == (mask > 0)).all())
    ends = (responses == EOS).nonzero()
    assert bool((ends[:, 1] >= min_length).all())
    for row, column in ends.tolist():
        assert mask[row].tolist() == [1.0] * (column + 1) + [0.0] * (11 - column)
    if min_length == 12:
        assert bool((mask == 1).all())


def test_some_completions_end_and_some_do_not() -> None:
    """What the other tests of sampling rest on."""
    responses, mask, _ = draw(policy(), size=16, length=20)
    lengths = mask.sum(1)
    assert 3 <= int((lengths < 20).sum()) < len(mask) and len(lengths.unique()) > 4
    assert int((responses == EOS).any(1).sum()) >= 3


def test_a_completion_does_not_depend_on_its_batch() -> None:
    whole = draw(policy(), size=8, length=20)
    chunked = draw(policy(micro_rows=8), size=8, length=20)
    assert torch.equal(whole[0], chunked[0])
    torch.testing.assert_close(whole[2], chunked[2], atol=1e-5, rtol=0)


def test_tokens_are_drawn_by_their_probabilities() -> None:
    ours = policy()
    prompt = prompts()[1:2]
    count = 20_000
    responses, _, _ = ours.sample(prompt, count, 1, 1.0, seeding.generator(0, "sampling"))
    ids = prompt[prompt >= 0]
    expected = ours.model(ids.unsqueeze(0)).logits[0, -1].softmax(0).detach()
    got = torch.bincount(responses[:, 0], minlength=VOCAB) / count
    error = (expected * (1 - expected) / count).sqrt()
    assert float(((got - expected) / error.clamp_min(1e-4)).abs().max()) < 4.5
    cold, _, _ = ours.sample(prompt, 10, 1, 0.0, seeding.generator(0, "sampling"))
    assert set(cold[:, 0].tolist()) == {int(expected.argmax())}


def test_forbidden_tokens_stay_forbidden_whatever_the_draw() -> None:
    class Edge:
        def random(self, shape: tuple[int, ...]) -> np.ndarray:
            return np.where(np.arange(np.prod(shape)).reshape(shape) % 2, 0.0, 1 - 2.0**-53)

    model = llama()
    ours = LanguagePolicy(model, VOCAB - 1, min_length=5)  # the last id, beyond all others
    responses, _, logp = ours.sample(prompts(), 2, 5, 1.0, Edge())  # type: ignore[arg-type]
    assert bool((responses < VOCAB - 1).all()) and bool(torch.isfinite(logp).all())


# the reference, adapters and state


def trained(ours: LanguagePolicy, steps: int = 3) -> LanguagePolicy:
    """Takes a few gradient steps that raise the log-probability of a batch."""
    given = batch()
    optimiser = Adam([Group(group.tensors, 1e-2) for group in ours.parameters()])
    for _ in range(steps):
        output = ours(given)
        total = -(output.logp * given.mask).sum()
        if output.value is not None:
            total = total + (output.value - 1).square().sum()
        optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimiser.step(1.0)
    return ours


@pytest.mark.parametrize("lora", [None, Lora(rank=4)])
@pytest.mark.parametrize("micro_rows", [None, SIZE])
def test_the_reference_is_the_policy_before_training(
    lora: Lora | None, micro_rows: int | None
) -> None:
    given = batch()
    rows = given.contexts, given.responses, given.mask
    expected = by_hand(llama(), given).detach()
    ours = policy(lora=lora, micro_rows=micro_rows)
    torch.testing.assert_close(ours.logp(*rows), expected, atol=1e-5, rtol=0)
    before = ours.reference_logp(*rows)
    trained(ours)
    assert float((ours.logp(*rows) - expected).abs().max()) > 0.01
    assert torch.equal(ours.reference_logp(*rows), before)
    torch.testing.assert_close(before, expected, atol=1e-5, rtol=0)


def test_adapters_alone_are_trained_and_saved() -> None:
    ours = policy(lora=Lora(rank=4))
    frozen = {n: p.clone() for n, p in ours.model.named_parameters() if not p.requires_grad}
    assert ours.state() and all("lora" in name for name in ours.state())
    trained(ours)
    now = dict(ours.model.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in frozen.items())
    assert any(bool(t.any()) for n, t in ours.state().items() if "lora_B" in n)


@pytest.mark.parametrize("lora", [None, Lora(rank=4)])
def test_state_restores_a_policy(lora: Lora | None) -> None:
    ours = trained(policy(lora=lora, critic=True))
    saved = copy.deepcopy(ours.state())
    other = policy(lora=lora, critic=True)
    other.load_state(saved)
    given = batch()
    mine, theirs = ours(given), other(given)
    assert torch.equal(mine.logp, theirs.logp)
    assert mine.value is not None and theirs.value is not None
    assert torch.equal(mine.value, theirs.value)
    assert torch.equal(
        other.reference_logp(given.contexts, given.responses, given.mask),
        policy(lora=lora).logp(given.contexts, given.responses, given.mask),
    )


@pytest.mark.parametrize("settings", [{}, {"lora": Lora(4)}, {"micro_rows": SIZE}, {"bf16": True}])
def test_two_runs_are_equal_to_the_bit(settings: dict[str, Any]) -> None:
    def run() -> tuple[str, Any]:
        ours = trained(policy(critic=True, **settings))
        return weights_sha256(ours.state()), draw(ours)

    torch.manual_seed(0)
    first, one = run()
    torch.manual_seed(1)  # nothing reads the global generator
    before = torch.get_rng_state()
    second, two = run()
    assert torch.equal(torch.get_rng_state(), before)
    assert first == second
    assert all(torch.equal(a, b) for a, b in zip(one, two))


def test_bfloat16_is_close_and_trains_float32_weights() -> None:
    given = batch()
    ours = policy(bf16=True)
    expected = by_hand(llama(), given)
    assert all(t.dtype == torch.float32 for t in ours.parameters()[0].tensors)
    torch.testing.assert_close(ours(given).logp, expected, atol=0.3, rtol=0)
    assert all(t.dtype == torch.float32 for t in trained(ours).state().values())
    adapted = policy(bf16=True, lora=Lora(4))
    assert all(t.dtype == torch.float32 for t in adapted.state().values())
    assert adapted.model.get_input_embeddings().weight.dtype == torch.bfloat16
    trained(adapted)


# bad input


def test_without_a_reference_there_is_none() -> None:
    given = batch()
    with pytest.raises(TypeError, match="without its reference"):
        policy(reference=False).reference_logp(given.contexts, given.responses, given.mask)


def test_a_prompt_beyond_the_context_is_refused() -> None:
    with pytest.raises(PairBenchError, match=r"prompt of 30 tokens.*20.*context of 40"):
        policy().sample(prompts((30,)), 2, 20, 1.0, seeding.generator(0, "sampling"))
    given = batch()
    wide = torch.cat([torch.full((len(given), 30), 5), given.contexts.clamp_min(2)], 1)
    with pytest.raises(PairBenchError, match="context of 40"):
        policy()(Batch(wide, given.responses, given.mask, given.old_logp, given.group))


def test_prompts_padded_on_the_wrong_side_are_refused() -> None:
    with pytest.raises(PairBenchError, match="prompt 0 of the batch"):
        policy().sample(prompts().flip(1), 2, 4, 1.0, seeding.generator(0, "sampling"))


def test_a_response_that_ends_too_early_is_refused() -> None:
    with pytest.raises(PairBenchError, match="ends within its first 6 tokens"):
        policy(min_length=6)(batch())


def test_models_of_other_kinds_are_refused() -> None:
    class Scaled(transformers.LlamaForCausalLM):  # type: ignore[misc, name-defined]
        def forward(self, *args: Any, **named: Any) -> Any:
            out = super().forward(*args, **named)
            out.logits = out.logits * 3
            return out

    model = Scaled(llama().config)
    model.load_state_dict(llama().state_dict())
    with pytest.raises(PairBenchError, match="does not compute its logits"):
        LanguagePolicy(model, EOS)
    with pytest.raises(PairBenchError, match="choose another model"):
        LanguagePolicy(
            transformers.MambaForCausalLM(
                transformers.MambaConfig(vocab_size=VOCAB, hidden_size=16, num_hidden_layers=1)
            ),
            EOS,
        )


def test_other_decoders_work() -> None:
    """Learned positions (GPT-2) and a sliding window (Mistral) beside Llama."""
    given = batch()
    gpt2 = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=VOCAB, n_embd=16, n_layer=2, n_head=2, n_positions=40)
    )
    window = transformers.MistralForCausalLM(
        transformers.MistralConfig(
            vocab_size=VOCAB,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            sliding_window=64,
            max_position_embeddings=128,
        )
    )
    for model in (gpt2, window):
        ours = LanguagePolicy(model, EOS)
        torch.testing.assert_close(ours(given).logp, by_hand(model, given), atol=1e-5, rtol=0)
        responses, mask, logp = draw(ours)
        contexts = prompts().repeat_interleave(SIZE, 0)
        torch.testing.assert_close(ours.logp(contexts, responses, mask), logp, atol=1e-4, rtol=0)
