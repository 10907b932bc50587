"""`toy-dialogue`: short dialogues of our own writing whose better answer is known.

Made from the words and sentences in `toy.toml`, the same on every machine, so the whole engine runs
where no data can be had. Each prompt has a correct and civil answer and one that is wrong, rude,
repetitive or in the wrong form. Whether the better one is worded at length alternates from pair to
pair, so that length says nothing. It is a check of the machine: no rank here says anything of real
data.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib.resources import files
from itertools import chain, product

from pairbench.language.data.forms import Turn
from pairbench.language.data.pairs import Pair

VERSION = "1"

_MADE_OF = tomllib.loads(files(__package__).joinpath("toy.toml").read_text("utf-8"))
CAPITALS, OPPOSITES, PLURALS, SOUNDS, GROUPS, ADVICE = (
    _MADE_OF[name] for name in ("capitals", "opposites", "plurals", "sounds", "groups", "advice")
)


def dialogues() -> tuple[Pair, ...]:
    """Returns the pairs, all prompts distinct, in a fixed order; source "toy-dialogue"."""
    items = chain(_arithmetic(), _words(), _order(), _lists(), _follow_ups(), _help())
    return tuple(
        Pair(f"toy-{n:03d}-{kind}", "toy-dialogue", prompt, chosen, rejected)
        for n, (kind, prompt, chosen, rejected) in enumerate(items)
    )


_Item = tuple[str, tuple[Turn, ...], str, str]


def _worded(kind: str, question: str, right: str, wrong: str, framed: str, n: int) -> _Item:
    """A right and a wrong short answer, one of them in a sentence: which one alternates with n."""
    long_right, long_wrong = framed.format(right), framed.format(wrong)
    sides = (long_right, f"{wrong}.") if n % 2 else (f"{right}.", long_wrong)
    return kind, (("user", question),), *sides


def _arithmetic() -> Iterator[_Item]:
    for n, (a, b) in enumerate(product((3, 8, 14, 27, 36), (2, 5, 9, 11, 16))):
        for k, (word, result) in enumerate((("plus", a + b), ("times", a * b))):
            right, wrong = str(result), str(result + (1, 10, -1, 3)[(n + k) % 4])
            question = (f"What is {a} {word} {b}?", f"Please work out {a} {word} {b}.")[n % 2]
            framed = f"{a} {word} {b} is {{}}."
            yield _worded("sum", question, right, wrong, framed, n // 2 + k)
    for n, a in enumerate(range(4, 64, 3)):
        b = a + (-2, 3, 5, -1)[n % 4]
        right, wrong = ("Yes", "No") if a > b else ("No", "Yes")
        framed = f"{{}}, I compared {a} with {b}."
        yield _worded("compare", f"Is {a} larger than {b}?", right, wrong, framed, n // 4)


def _words() -> Iterator[_Item]:
    tables = (
        ("capital", CAPITALS, "What is the capital of {}?", "The capital of {} is {{}}."),
        ("opposite", OPPOSITES, 'What is the opposite of "{}"?', "The opposite of {} is {{}}."),
        ("plural", PLURALS, 'What is the plural of "{}"?', "The plural of {} is {{}}."),
        ("sound", SOUNDS, "Which sound does a {} make?", "I think that a {} {{}}."),
    )
    for kind, table, question, framed in tables:
        answers = list(table.values())
        for n, (word, right) in enumerate(table.items()):
            wrong = answers[(n + 5) % len(answers)]
            yield _worded(kind, question.format(word), right, wrong, framed.format(word), n)
    for n, word in enumerate((*OPPOSITES, *PLURALS)):
        count = len(word)
        framed = f'The word "{word}" has {{}} letters.'
        question = f'How many letters are in "{word}"?'
        yield _worded("letters", question, str(count), str(count + (2, -1)[n // 2 % 2]), framed, n)


def _order() -> Iterator[_Item]:
    for what, names in (("day", _MADE_OF["days"]), ("month", _MADE_OF["months"])):
        for k, (side, step) in enumerate((("after", 1), ("before", -1))):
            for n, name in enumerate(names):
                right, wrong = names[(n + step) % len(names)], names[(n - 2 * step) % len(names)]
                framed = f"The {what} {side} {name} is {{}}."
                yield _worded(
                    "order", f"Which {what} comes {side} {name}?", right, wrong, framed, n + k
                )


def _lists() -> Iterator[_Item]:
    for n, (group, (a, b, c)) in enumerate(GROUPS.items()):
        ask = f"Name three {group}"
        plain, numbered = f"{a}, {b}, {c}", f"1. {a}\n2. {b}\n3. {c}"
        repeated = f"{a}, {a}, {a}, {a}" if n % 2 else f"{a}, {a}"
        yield "list", (("user", f"{ask}, separated by commas."),), plain, repeated
        yield (
            "list",
            (("user", f"{ask} as a numbered list."),),
            numbered,
            (f"{a} and {b} and {c}, that is all I know" if n % 2 else f"{a} {b} {c}"),
        )
        shouted = f"{a}, {b}, {c}".upper() + ("!!!" if n % 2 else "")
        lower = f"{a}, {b}, {c}".lower() + ("" if n % 2 else " (three of them)")
        yield "list", (("user", f"{ask} in lower case."),), lower, shouted


def _follow_ups() -> Iterator[_Item]:
    """Two questions of the user's, the second about the first."""
    for n, (country, capital) in enumerate(CAPITALS.items()):
        other = list(CAPITALS.values())[(n + 7) % len(CAPITALS)]
        start: tuple[Turn, ...] = (
            ("user", f"I am learning about {country} today."),
            ("assistant", f"How nice! What would you like to know about {country}?"),
        )
        _, ask, *sides = _worded("talk", "Its capital, please.", capital, other, "It is {}.", n)
        yield "talk", (*start, *ask), sides[0], sides[1]


def _help() -> Iterator[_Item]:
    """Requests for advice: the answer that helps against one that is rude or goes in circles."""
    for n, (task, advice) in enumerate(ADVICE.items()):
        for k, request in enumerate(_MADE_OF["requests"]):
            opening = ("", "Gladly. ", "Of course, here is one good way. ")[(n + k) % 3]
            first = advice.split(" ", 4)[:4]
            circles = " ".join([*first, *first, *first, *first, *first][: 12 + 2 * (n % 5)]) + "."
            worse = _MADE_OF["rude"][n % 3].format(task) if (n + k) % 2 else circles
            yield "help", (("user", request.format(task)),), opening + advice, worse
