"""The small Llama: transformers' arithmetic, one distribution however it is computed."""

from __future__ import annotations

import math

import numpy as np
import torch

from pairbench.batch import Batch
from pairbench.language.exact.llama import Shape, SmallLlama
from pairbench.language.exact.space import Space

SPACE = Space(4, 4, 12)


def policy(scale: float = 6.0, critic: bool = False) -> SmallLlama:
    """Returns a network whose probabilities are far from uniform."""
    draw = np.random.default_rng(3)
    return SmallLlama(SPACE, scale * Shape().initial(SPACE.symbols, draw), critic)


def every(space: Space, context: int) -> Batch:
    """Returns all responses to one context."""
    responses = space.responses
    mask = torch.ones(responses.shape)
    where = torch.full((len(responses), 1), context)
    return Batch(where, responses, mask, torch.zeros(mask.shape), torch.arange(len(responses)))


def test_it_computes_what_transformers_computes() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    ours, shape = policy(), Shape()
    config = LlamaConfig(
        vocab_size=SPACE.symbols,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=16,
        tie_word_embeddings=True,
        rms_norm_eps=1e-6,
    )
    theirs = LlamaForCausalLM(config).eval()
    state = {"model.embed_tokens.weight": (w := ours.state())["embedding"]}
    state |= {"model.norm.weight": w["norm"], "lm_head.weight": w["embedding"]}
    for layer in range(shape.layers):
        at = f"model.layers.{layer}"
        query, key, value = w[f"{layer}.qkv"].chunk(3)
        gate, up = w[f"{layer}.gate_up"].chunk(2)
        state |= {
            f"{at}.input_layernorm.weight": w[f"{layer}.norm"],
            f"{at}.self_attn.q_proj.weight": query,
            f"{at}.self_attn.k_proj.weight": key,
            f"{at}.self_attn.v_proj.weight": value,
            f"{at}.self_attn.o_proj.weight": w[f"{layer}.out"],
            f"{at}.post_attention_layernorm.weight": w[f"{layer}.norm_mlp"],
            f"{at}.mlp.gate_proj.weight": gate,
            f"{at}.mlp.up_proj.weight": up,
            f"{at}.mlp.down_proj.weight": w[f"{layer}.down"],
        }
    theirs.load_state_dict(state)
    batch = every(SPACE, 5)
    tokens = torch.cat([SPACE.prompts[batch.contexts[:, 0]], batch.responses], 1)
    with torch.no_grad():
        logits = theirs(input_ids=tokens).logits[:, 2:-1]
        dist = ours.dist(batch.contexts[:, 0], batch.responses)
    torch.testing.assert_close(dist, logits.log_softmax(-1), atol=2e-5, rtol=1e-5)


def test_the_tree_is_what_scoring_says_and_sums_to_one() -> None:
    ours = policy()
    log = ours.enumerate()
    assert log.shape == (12, 256) and log.dtype == torch.float64
    torch.testing.assert_close(log.exp().sum(1), torch.ones(12).double(), atol=1e-13, rtol=0)
    with torch.no_grad():
        for context in (0, 11):
            scored = ours(every(SPACE, context)).logp.double().sum(1)
            torch.testing.assert_close(log[context], scored, atol=3e-5, rtol=1e-5)


def test_what_is_drawn_is_what_is_enumerated_within_three_standard_errors() -> None:
    ours, count = policy(3.0), 30_000
    probability = ours.enumerate()[7].exp()
    where = torch.full((count,), 7)
    responses, dist = ours.sample(where, np.random.default_rng(0))
    numbers = SPACE.numbers(responses)
    worth = torch.from_numpy(np.random.default_rng(1).normal(size=256))
    exact = float(probability @ worth)
    spread = math.sqrt(float(probability @ (worth - exact).square()) / count)
    assert abs(float(worth[numbers].mean()) - exact) < 3 * spread
    chosen = dist.gather(-1, responses.unsqueeze(-1)).double().sum((1, 2))
    torch.testing.assert_close(chosen, ours.enumerate()[7][numbers], atol=3e-5, rtol=1e-5)


def test_divergences_are_exact_and_the_critic_moves_no_other_weight() -> None:
    ours = policy(critic=True)
    batch = every(SPACE, 2)
    with torch.no_grad():
        dist = ours.dist(batch.contexts[:, 0], batch.responses)
    uniform = torch.full_like(dist, -math.log(4))
    batch = Batch(**{**vars(batch), "old_dist": dist, "ref_dist": uniform})
    output = ours(batch)
    assert output.kl_old is not None and float(output.kl_old.detach().abs().max()) < 1e-6
    assert output.entropy is not None and output.kl_ref is not None
    torch.testing.assert_close(output.kl_ref, math.log(4) - output.entropy, atol=1e-5, rtol=0)
    assert output.value is not None
    output.value.sum().backward()
    assert ours.flat.grad is None
    assert [group.role for group in ours.parameters()] == ["policy", "critic"]


def test_its_state_is_all_of_it() -> None:
    one, other = policy(critic=True), policy(1.0, critic=True)
    other.load_state(one.state())
    assert torch.equal(one.enumerate(), other.enumerate())
