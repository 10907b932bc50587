"""The causal LM as a policy: critic, reference, adapters and state."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers

from pairbench import seeding
from pairbench.batch import Batch
from pairbench.errors import PairBenchError
from pairbench.language.policy.policy import LanguagePolicy
from pairbench.training.checkpoint import weights_sha256
from pairbench.training.optimiser import Adam, Group
from tests.support.small_llama import (
    EOS,
    PROMPTS,
    SIZE,
    VOCAB,
    batch,
    by_hand,
    draw,
    llama,
    policy,
    prompts,
)


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


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("micro_rows", [None, SIZE])
def test_the_reference_is_the_policy_before_training(rank: int, micro_rows: int | None) -> None:
    given = batch()
    rows = given.contexts, given.responses, given.mask
    expected = by_hand(llama(), given).detach()
    ours = policy(lora_rank=rank, micro_rows=micro_rows)
    torch.testing.assert_close(ours.logp(*rows), expected, atol=1e-5, rtol=0)
    before = ours.reference_logp(*rows)
    trained(ours)
    assert float((ours.logp(*rows) - expected).abs().max()) > 0.01
    assert torch.equal(ours.reference_logp(*rows), before)
    torch.testing.assert_close(before, expected, atol=1e-5, rtol=0)


def test_adapters_alone_are_trained_and_saved() -> None:
    ours = policy(lora_rank=4)
    frozen = {n: p.clone() for n, p in ours.model.named_parameters() if not p.requires_grad}
    assert ours.state() and all("lora" in name for name in ours.state())
    trained(ours)
    now = dict(ours.model.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in frozen.items())
    assert any(bool(t.any()) for n, t in ours.state().items() if "lora_B" in n)


@pytest.mark.parametrize("rank", [0, 4])
def test_state_restores_a_policy(rank: int) -> None:
    ours = trained(policy(lora_rank=rank, critic=True))
    saved = copy.deepcopy(ours.state())
    other = policy(lora_rank=rank, critic=True)
    other.load_state(saved)
    given = batch()
    mine, theirs = ours(given), other(given)
    assert torch.equal(mine.logp, theirs.logp)
    assert mine.value is not None and theirs.value is not None
    assert torch.equal(mine.value, theirs.value)
    assert torch.equal(
        other.reference_logp(given.contexts, given.responses, given.mask),
        policy(lora_rank=rank).logp(given.contexts, given.responses, given.mask),
    )


@pytest.mark.parametrize("settings", [{}, {"lora_rank": 4}, {"micro_rows": SIZE}, {"bf16": True}])
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
    adapted = policy(bf16=True, lora_rank=4)
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
