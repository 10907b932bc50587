"""Every form of a row reads alike, cleaning is counted, and splits depend on prompts only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pairbench.errors import PairBenchError
from pairbench.language.data.forms import Turn
from pairbench.language.data.pairs import (
    SHARES,
    Pair,
    Preferences,
    content_hash,
    prompt_text,
    split_of,
)
from tests.support.preferences import EXPECTED, MESSAGES, SIDES, Row, load_rows, plain, talk


def one_left(tmp_path: Path, row: Row) -> Mapping[str, int]:
    """What is dropped of `row` and a good row, of which the good one must be left."""
    loaded = load_rows(tmp_path, row, plain(1)[0])
    assert [p.chosen for p in loaded.pairs] == ["good 0"]
    return loaded.dropped


# Forms.


def test_a_transcript_becomes_alternating_turns_and_two_stripped_answers(tmp_path: Path) -> None:
    row = {"chosen": talk("a?", "b.", "c?", "d \n"), "rejected": talk("a?", "b.", "c?", "e")}
    (pair,) = load_rows(tmp_path, row).pairs
    assert pair == Pair(
        "rows-0", "file", (("user", "a?"), ("assistant", "b."), ("user", "c?")), "d", "e"
    )


def test_a_prompt_that_both_sides_repeat_is_taken_off_and_counted(tmp_path: Path) -> None:
    asked = "Where do otters sleep?"
    repeated = {"prompt": asked, "chosen": f"{asked} At sea.", "rejected": f" {asked}\nNo idea."}
    loaded = load_rows(tmp_path, repeated, {**plain(1)[0], "chosen": "prompt 0 good"})
    assert (loaded.pairs[0].chosen, loaded.pairs[0].rejected) == ("At sea.", "No idea.")
    assert loaded.pairs[1].chosen == "prompt 0 good" and loaded.repeated == 1
    whole = {side: talk(asked, answer) for side, answer in (("chosen", "x"), ("rejected", "y"))}
    (pair,) = load_rows(tmp_path, {"prompt": talk(asked, "")[:-1], **whole}).pairs
    assert (pair.prompt, pair.chosen, pair.rejected) == ((("user", asked),), "x", "y")


def test_a_greeting_that_both_answers_return_stays_unless_all_rows_repeat(tmp_path: Path) -> None:
    hello = {"prompt": "Hello", "chosen": "Hello, how are you?", "rejected": "Hello? Go."}
    loaded = load_rows(tmp_path, hello, *plain(2))
    assert loaded.pairs[0].chosen == hello["chosen"] and loaded.repeated == 0
    word = {"prompt": "2+2=", "chosen": "2+2=4", "rejected": "2+2=5"}
    loaded = load_rows(tmp_path, word)
    assert loaded.pairs[0].chosen == "4" and loaded.repeated == 1
    inside = {"prompt": "All", "chosen": "Allow me.", "rejected": "Alloys."}
    assert load_rows(tmp_path, inside).pairs[0].chosen == "Allow me."


@pytest.mark.parametrize(
    "form",
    [
        {"chosen": talk("a?", "b.", "c?", "d"), "rejected": talk("a?", "b.", "c?", "e")},
        {"prompt": talk("a?", "b.", "c?", "")[:-1], "chosen": " d", "rejected": " e "},
        {"prompt": talk("a?", "b.", "c?"), "chosen": "d", "rejected": "e"},
        {"prompt": MESSAGES, "chosen": "d", "rejected": "e"},
        {"prompt": MESSAGES, **SIDES},
        {"prompt": talk("a?", "b.", "c?"), **SIDES},
        {side: [*MESSAGES, *answer] for side, answer in SIDES.items()},
        {"prompt": "c?", **{side: [*MESSAGES, *answer] for side, answer in SIDES.items()}},
    ],
)
@pytest.mark.parametrize("scores", [{"score_chosen": 2, "score_rejected": 1.0}, None])
def test_every_form_of_a_row_gives_the_same_pair(tmp_path: Path, form: Row, scores: Any) -> None:
    more = scores or {"metadata": {"score_chosen": "2", "score_rejected": 1}}
    assert load_rows(tmp_path, {"id": "x", "source": "s", **form, **more}).pairs == (EXPECTED,)


def test_a_plain_prompt_is_one_turn_and_a_system_turn_may_come_first(tmp_path: Path) -> None:
    system = {"role": "system", "content": "be kind"}
    ask = {"role": "user", "content": "q"}
    loaded = load_rows(
        tmp_path, {**plain(1)[0], "prompt": "  says\n\nHuman: in a text "},
        {"prompt": [system, ask], "chosen": "c", "rejected": "r"},
    )  # fmt: skip
    assert loaded.pairs[0].prompt == (("user", "says\n\nHuman: in a text"),)
    assert loaded.pairs[1].prompt == (("system", "be kind"), ("user", "q"))


# Cleaning.

SHARED = {"prompt": talk("a?", "b.", "c?", "")}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"chosen": talk("a", "b"), "rejected": talk("x", "c")}, "no shared prompt"),
        (
            {"chosen": talk("a", "b", "c", "d"), "rejected": talk("a", "b", "x", "y")},
            "no shared prompt",
        ),
        ({"chosen": talk("a", "b"), "rejected": talk("a", "b", "c", "d")}, "no shared prompt"),
        ({"chosen": talk("a"), "rejected": talk("a")}, "no shared prompt"),
        ({**SHARED, "chosen": f"d{talk('e', 'f')}", "rejected": "g"}, "no shared prompt"),
        (
            {"chosen": "\n\nAssistant: hi\n\nHuman: a\n\nAssistant: b", "rejected": talk("a", "c")},
            "first turn not the user's",
        ),
        (
            {"prompt": "\n\nAssistant: hi\n\nHuman: a", "chosen": "b", "rejected": "c"},
            "first turn not the user's",
        ),
        ({"prompt": [], "chosen": "b", "rejected": "c"}, "first turn not the user's"),
        (
            {"prompt": MESSAGES[1:], "chosen": "b", "rejected": "c"},
            "first turn not the user's",
        ),
        (
            {"prompt": "\n\nHuman: a\n\nHuman: b\n\nAssistant:", "chosen": "c", "rejected": "d"},
            "turns do not alternate",
        ),
        ({"prompt": talk("a", "So,"), "chosen": "c", "rejected": "d"}, "turns do not alternate"),
        (
            {"prompt": talk("a", " ", "b"), "chosen": "c", "rejected": "d"},
            "empty turn in the prompt",
        ),
        ({"prompt": " ", "chosen": "c", "rejected": "d"}, "empty turn in the prompt"),
        ({"prompt": "q", "chosen": "", "rejected": "d"}, "empty side"),
        ({"prompt": "q", "chosen": "d", "rejected": " \n"}, "empty side"),
        ({**SHARED, "chosen": "", "rejected": ""}, "empty side"),
        ({"prompt": "q", "chosen": "d ", "rejected": " d"}, "identical sides"),
        ({"chosen": talk("a", "b"), "rejected": talk("a", "b")}, "identical sides"),
        (
            {"prompt": "q", "chosen": "d", "rejected": "e", "score_chosen": 1, "score_rejected": 1},
            "score tie",
        ),
        (
            {"prompt": "q", "chosen": "d", "rejected": "e", "score_chosen": 1, "score_rejected": 2},
            "score against the label",
        ),
    ],
)  # fmt: skip
def test_what_cleaning_drops_is_counted_by_reason(tmp_path: Path, row: Row, reason: str) -> None:
    assert one_left(tmp_path, row) == {reason: 1}


def test_nothing_left_after_cleaning_says_why(tmp_path: Path) -> None:
    row = {"prompt": "q", "chosen": "d", "rejected": "d"}
    with pytest.raises(PairBenchError, match=r"rows has no pair left.*2 for 'identical sides'"):
        load_rows(tmp_path, row, row)
    with pytest.raises(PairBenchError, match="it has no rows"):
        load_rows(tmp_path)


# Bad input.


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "q", "chosen": "c"}, r"line 2 has no 'rejected'"),
        ({"prompt": "q", "rejected": "r"}, r"line 2 has no 'chosen'"),
        ({"chosen": "c", "rejected": "r"}, r"line 2 has no 'prompt'.*add the column prompt"),
        ({"prompt": "q", "chosen": 3, "rejected": "r"}, r"line 2: 'chosen' holds 3, .*not text"),
        ({"prompt": 1, "chosen": "c", "rejected": "r"}, r"line 2: 'prompt' holds 1"),
        ({"prompt": "q", "chosen": "\ud800", "rejected": "r"}, r"line 2: 'chosen' is not valid"),
        (
            {"prompt": [{"role": "tool", "content": ""}], "chosen": "c", "rejected": "r"},
            r"line 2: a message of 'prompt' has the role 'tool'; .* user, assistant, system",
        ),
        ({"prompt": ["q"], "chosen": "c", "rejected": "r"}, r"line 2: .* has the role None"),
        (
            {"prompt": [{"role": "user"}], "chosen": "c", "rejected": "r"},
            r"line 2: 'prompt' holds None, which is not text",
        ),
        (
            {"prompt": "q", "chosen": "c", "rejected": "r", "score_chosen": float("nan")},
            r"line 2: 'score_chosen' holds nan, not a finite number",
        ),
        (
            {"prompt": "q", "chosen": "c", "rejected": "r", "score_rejected": "high"},
            r"line 2: 'score_rejected' holds 'high', not a finite number",
        ),
    ],
)  # fmt: skip
def test_a_row_that_is_wrong_is_named_with_its_line(tmp_path: Path, row: Row, message: str) -> None:
    with pytest.raises(PairBenchError, match=rf"rows\.jsonl, {message}"):
        load_rows(tmp_path, plain(1)[0], row)


def test_two_rows_with_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PairBenchError, match="two rows with the id 'x'"):
        load_rows(tmp_path, *({"id": "x", **row} for row in plain(2)))


# Splits and hashes.

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(str.strip)
QUESTIONS = st.lists(st.sampled_from([f"Question {k}?" for k in range(40)]) | TEXTS, min_size=1)


def of(questions: Iterable[str]) -> Preferences:
    pairs = tuple(
        Pair(str(k), "s", (("user", question),), f"a{k}", "b")
        for k, question in enumerate(questions)
    )
    return Preferences.of("p", pairs, {}, "local")


def places(preferences: Preferences) -> dict[str, str]:
    return {p.chosen: name for name, part in preferences.split().items() for p in part}


@given(QUESTIONS)
def test_no_prompt_is_in_two_splits_and_every_pair_is_in_one(questions: list[str]) -> None:
    parts = of(questions).split()
    assert sum(len(part) for part in parts.values()) == len(questions)
    prompts = [{p.prompt[0][1] for p in part} for part in parts.values()]
    assert len(set().union(*prompts)) == sum(len(each) for each in prompts)


@given(QUESTIONS, QUESTIONS, st.randoms())
def test_neither_order_nor_more_rows_move_a_pair(
    questions: list[str], more: list[str], shuffle: Any
) -> None:
    first = of(questions)
    pairs = list(first.pairs)
    shuffle.shuffle(pairs)
    moved = Preferences("p", tuple(pairs), {}, "local", content_hash(pairs))
    assert places(moved) == places(first) and moved.sha256 == first.sha256
    longer = places(of([*questions, *more]))
    assert {key: longer[key] for key in places(first)} == places(first)


@given(TEXTS, TEXTS)
def test_case_space_and_later_turns_do_not_change_the_split(first: str, later: str) -> None:
    turns: tuple[Turn, ...] = (("user", first), ("assistant", "x"), ("user", later))
    variant = f"  {' '.join(first.split())}\n".replace(" ", "  \t")
    assert split_of(turns) == split_of((("system", later), ("user", first)))
    assert split_of((("user", variant),)) == split_of(turns)


def test_case_does_not_change_the_split() -> None:
    for k in range(100):
        assert split_of((("user", f"Straße {k}"),)) == split_of((("user", f"STRASSE {k}"),))


def test_shares_of_the_splits() -> None:
    parts = of(f"question {k}" for k in range(20_000)).split()
    for name, share in SHARES.items():
        assert abs(len(parts[name]) / 20_000 - share) < 4 * (share * (1 - share) / 20_000) ** 0.5
    assert sum(SHARES.values()) == pytest.approx(1)


def test_where_a_prompt_goes_never_changes() -> None:
    # records name a split; moving prompts between splits would make old records wrong
    asked = ["What is 2 + 2?", "Hello", "How do I boil an egg?", "Why is the sky blue?"]
    assert [split_of((("user", q),)) for q in asked] == ["policy", "gold", "policy", "gold"]


@pytest.mark.parametrize("field", ["prompt", "chosen", "rejected", "score_chosen", "source"])
def test_the_hash_sees_content_and_not_ids(tmp_path: Path, field: str) -> None:
    base = {"id": "a", "source": "s", "prompt": "q", "chosen": "c", "rejected": "r",
            "score_chosen": 2.0, "score_rejected": 1.0}  # fmt: skip
    one = load_rows(tmp_path, base).sha256
    assert load_rows(tmp_path, {**base, "id": "b"}).sha256 == one
    changed = 3.0 if field == "score_chosen" else f"{base[field]}!"
    assert load_rows(tmp_path, {**base, field: changed}).sha256 != one


# Prompts as text.


def test_prompt_text_uses_the_chat_template_where_there_is_one() -> None:
    def apply(messages: list[Row], tokenize: bool, add_generation_prompt: bool) -> str:
        assert not tokenize and add_generation_prompt
        return "|".join(f"{m['role']}={m['content']}" for m in messages) + "|assistant="

    turns: tuple[Turn, ...] = (("user", "a"), ("assistant", "b"), ("user", "c"))
    with_template = SimpleNamespace(chat_template="...", apply_chat_template=apply)
    assert prompt_text(turns, with_template) == "user=a|assistant=b|user=c|assistant="
    transcript = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    assert prompt_text(turns, SimpleNamespace(chat_template=None)) == transcript
    assert prompt_text((("system", "s"), *turns), object()) == "\n\nSystem: s" + transcript


def test_a_rendered_prompt_reads_back(tmp_path: Path) -> None:
    prompt = prompt_text(EXPECTED.prompt, object())
    (pair,) = load_rows(tmp_path, {"prompt": prompt, "chosen": " d", "rejected": " e"}).pairs
    assert pair.prompt == EXPECTED.prompt
