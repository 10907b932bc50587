"""What the measures of a language task mean; `metrics` computes them."""

from __future__ import annotations

from pairbench.evaluation import Guard, Measure

MEASURES = (
    Measure(
        name="kl_ref",
        title="KL to SFT",
        meaning="KL to the untrained policy",
        unit="nats per response",
        role="distance",
        levels=(1.0, 3.0, 8.0),
    ),
    Measure(
        name="beats_sft",
        title="beats SFT",
        meaning="Win rate against the untrained policy's own responses",
        better=1,
        role="win rate",
    ),
    Measure(
        name="variety_of_sft",
        title="variety / SFT",
        meaning="Share of different tokens in a response over the untrained policy's",
        guard=Guard(
            floor=0.8, fails="repeats itself", of="of the untrained policy's variety"
        ),
    ),
    Measure(name="variety", title="variety", meaning="Share of different tokens in a response"),
    Measure(
        name="distinct_1", title="distinct 1",
        meaning="Different tokens over all tokens of all responses",
    ),
    Measure(
        name="distinct_2", title="distinct 2",
        meaning="Different pairs of tokens over all pairs of all responses",
    ),
    Measure(
        name="refusals", title="refusals", meaning="Share of responses that refuse in so many words"
    ),
    Measure(name="length", title="length", meaning="Mean tokens of a response"),
)  # fmt: skip
