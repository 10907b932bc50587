"""What records of schema version 1 do not say themselves: what measures mean, what only shows.

Those records are evidence and are never edited. This table is what the tasks that wrote them meant,
by the task's name without a variant; it is history, and no later task is added.
"""

from __future__ import annotations

from pairbench.evaluation import Guard, Measure

_BANDIT = (
    Measure(
        name="kl_ref",
        title="KL to reference",
        meaning="KL to the untrained policy",
        unit="nats per response",
        role="distance",
        levels=(1.0, 3.0, 8.0),
    ),
    Measure(
        name="regret",
        title="regret",
        meaning="Expected reward of the best policy less the policy's",
        better=-1,
    ),
    Measure(name="entropy", title="entropy", meaning="Mean entropy over contexts", unit="nats"),
)

_CONTROL = (
    Measure(
        name="episode_length", title="episode length", meaning="Mean length of an episode",
        unit="steps",
    ),
)  # fmt: skip

_LANGUAGE = (
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

MEASURES = {
    "preference-bandit": _BANDIT,
    **dict.fromkeys(("halfcheetah-v4", "hopper-v4", "walker2d-v4"), _CONTROL),
    **dict.fromkeys(
        (
            "hh-rlhf",
            "hh-rlhf-harmless",
            "hh-rlhf-helpful",
            "preference-file",
            "toy-dialogue",
            "ultrafeedback",
        ),
        _LANGUAGE,
    ),
}
"""By task."""


DEMONSTRATIONS = {
    "hh-rlhf-helpful@smollm2-135m": "three seeds of ten iterations, and the gold judge reads the "
    "first layers of the very model that is trained"
}
"""Why runs of a task rank nobody, by task."""


def measures_of(task: str) -> tuple[Measure, ...]:
    """Returns the measures of a task, or of a variant of it; none of one that is not known."""
    return MEASURES.get(task.partition("@")[0], ())
