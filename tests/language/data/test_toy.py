"""The toy dialogues: the same everywhere, distinct, well formed, and length says nothing."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from pairbench.language.data import toy
from pairbench.language.data.load import load
from pairbench.language.data.pairs import Pair

PAIRS = toy.dialogues()


def longer_wins(pairs: list[Pair]) -> float:
    signs = [len(p.chosen) - len(p.rejected) for p in pairs]
    return sum(1.0 if s > 0 else 0.5 if s == 0 else 0.0 for s in signs) / len(signs)


def kind(pair: Pair) -> str:
    return pair.id.split("-")[2]


def test_content_is_the_same_on_every_machine() -> None:
    # a change of any row is a change of the data set: raise VERSION with this
    assert toy.VERSION == "1"
    loaded = load("toy-dialogue")
    assert loaded.sha256 == "6a4daa26c9a1e788dc6f8909846735457fb5e78fb47e4ed3af0ece8e29c8e0dd"
    assert loaded.revision == "toy-1" and loaded.dropped == {} and loaded.pairs == PAIRS


def test_some_hundred_pairs_with_distinct_prompts_and_ids() -> None:
    assert 300 <= len(PAIRS) <= 999
    assert len({p.prompt for p in PAIRS}) == len({p.prompt[0] for p in PAIRS}) == len(PAIRS)
    assert len({p.id for p in PAIRS}) == len(PAIRS)


def test_each_pair_would_pass_the_cleaning_of_real_data() -> None:
    for pair in PAIRS:
        assert pair.source == "toy-dialogue"
        assert [role for role, _ in pair.prompt] in (["user"], ["user", "assistant", "user"])
        texts = [text for _, text in pair.prompt] + [pair.chosen, pair.rejected]
        assert all(text and text == text.strip() for text in texts)
        assert pair.chosen != pair.rejected


def test_longer_wins_is_no_rule() -> None:
    assert abs(longer_wins(list(PAIRS)) - 0.5) < 0.05
    chosen = sum(len(p.chosen) for p in PAIRS)
    rejected = sum(len(p.rejected) for p in PAIRS)
    assert abs(chosen / rejected - 1) < 0.1
    by_kind: dict[str, list[Pair]] = defaultdict(list)
    for pair in PAIRS:
        by_kind[kind(pair)].append(pair)
    for pairs in by_kind.values():
        assert abs(longer_wins(pairs) - 0.5) <= 0.15


def test_chosen_sums_and_comparisons_are_right_and_rejected_ones_wrong() -> None:
    checked = Counter[str]()
    for pair in PAIRS:
        question = pair.prompt[-1][1]
        if found := re.search(r"(\d+) (plus|times) (\d+)", question):
            a, b = int(found[1]), int(found[3])
            value = a + b if found[2] == "plus" else a * b
            right = rf"\b{value}\.$"
        elif found := re.search(r"Is (\d+) larger than (\d+)", question):
            right = "^Yes" if int(found[1]) > int(found[2]) else "^No"
        elif found := re.search(r'How many letters are in "(\w+)"', question):
            right = rf"\b{len(found[1])}\b"
        elif found := re.search(r"capital of (\w+)|^I am learning about (\w+)", pair.prompt[0][1]):
            right = rf"\b{toy.CAPITALS[found[1] or found[2]]}\b"
        else:
            continue
        assert re.search(right, pair.chosen) and not re.search(right, pair.rejected), pair
        checked[kind(pair)] += 1
    assert set(checked) == {"sum", "compare", "letters", "capital", "talk"}


def test_every_split_has_pairs() -> None:
    parts = load("toy-dialogue").split()
    assert all(len(part) >= 20 for part in parts.values())
