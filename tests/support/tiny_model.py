"""A tiny model that is trained in a second."""

from __future__ import annotations

from pairbench.language.policy.tiny import Text, Tiny

SMALL = {"vocabulary": 300, "hidden": 16, "intermediate": 24, "layers": 2, "heads": 2}
QUICK = Tiny.model_validate(
    {**SMALL, "steps": 12, "passes": 100, "batch": 8, "prompt": 12, "answer": 6}
)


def texts(count: int = 60) -> list[Text]:
    colours = ("red", "blue", "green", "grey")
    return [
        (f"\n\nHuman: what colour is thing {i}?\n\nAssistant:", f" It is {colours[i % 4]}.")
        for i in range(count)
    ]
