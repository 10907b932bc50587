"""`toy-dialogue`: short dialogues of our own writing whose better answer is known.

Made by the code below from templates, the same on every machine, so the whole engine runs where no
data can be had. Each prompt has a correct and civil answer and one that is wrong, rude, repetitive
or in the wrong form. Whether the better one is worded at length alternates from pair to pair, so
that length says nothing. It is a check of the machine: no rank here says anything of real data.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from pairbench.language.data.pairs import Pair, Turn

VERSION = "1"

CAPITALS = {
    "France": "Paris",
    "Spain": "Madrid",
    "Italy": "Rome",
    "Germany": "Berlin",
    "Japan": "Tokyo",
    "Egypt": "Cairo",
    "Kenya": "Nairobi",
    "Peru": "Lima",
    "Cuba": "Havana",
    "Norway": "Oslo",
    "Greece": "Athens",
    "Poland": "Warsaw",
    "Austria": "Vienna",
    "Ireland": "Dublin",
    "Portugal": "Lisbon",
    "Hungary": "Budapest",
    "Finland": "Helsinki",
    "Sweden": "Stockholm",
    "Denmark": "Copenhagen",
    "Canada": "Ottawa",
    "Chile": "Santiago",
    "Thailand": "Bangkok",
    "Vietnam": "Hanoi",
    "Russia": "Moscow",
}
OPPOSITES = {
    "hot": "cold",
    "big": "small",
    "early": "late",
    "fast": "slow",
    "open": "closed",
    "full": "empty",
    "heavy": "light",
    "old": "young",
    "rich": "poor",
    "wet": "dry",
    "loud": "quiet",
    "hard": "soft",
    "tall": "short",
    "dark": "bright",
    "clean": "dirty",
    "happy": "sad",
    "near": "far",
    "strong": "weak",
    "wide": "narrow",
    "right": "wrong",
}
PLURALS = {
    "child": "children",
    "mouse": "mice",
    "foot": "feet",
    "tooth": "teeth",
    "goose": "geese",
    "man": "men",
    "woman": "women",
    "leaf": "leaves",
    "knife": "knives",
    "city": "cities",
    "box": "boxes",
    "baby": "babies",
    "wolf": "wolves",
    "person": "people",
    "berry": "berries",
    "glass": "glasses",
}
SOUNDS = {
    "cow": "moos",
    "dog": "barks",
    "cat": "meows",
    "duck": "quacks",
    "lion": "roars",
    "sheep": "bleats",
    "horse": "neighs",
    "owl": "hoots",
    "frog": "croaks",
    "pig": "oinks",
    "bee": "buzzes",
    "snake": "hisses",
}
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
GROUPS = {
    "fruits": ("apple", "pear", "plum"),
    "colours": ("red", "green", "blue"),
    "metals": ("iron", "gold", "tin"),
    "planets": ("Mars", "Venus", "Saturn"),
    "trees": ("oak", "birch", "pine"),
    "rivers": ("Nile", "Rhine", "Amazon"),
    "tools": ("hammer", "saw", "drill"),
    "birds": ("robin", "crow", "swan"),
    "vegetables": ("carrot", "leek", "pea"),
    "instruments": ("piano", "flute", "drum"),
    "sports": ("tennis", "rowing", "judo"),
    "shapes": ("circle", "square", "cube"),
}
ADVICE = {
    "boil an egg": "Put it in boiling water for eight minutes, then cool it in cold water.",
    "write a thank-you note": "Say what you received, why you liked it, and close with thanks.",
    "learn a poem": "Read it aloud one line at a time and repeat each line from memory.",
    "fold a shirt": "Lay it face down, fold in both sides, then fold it up from the bottom.",
    "clean a window": "Wipe it with soapy water, rinse, and dry it with a soft cloth.",
    "plant a tree": "Dig a wide hole, set the roots in, fill it with soil and water it well.",
    "save money": "Write down what you spend each week and set a small sum aside first.",
    "make tea": "Pour boiling water over the leaves, wait for four minutes, then strain it.",
    "fix a flat tyre": "Take the tube out, find the hole, glue a patch on and pump it up.",
    "sleep better": "Go to bed at the same hour, keep the room dark and put screens away.",
    "pack a suitcase": "Put heavy things at the bottom, roll the clothes and fill the shoes.",
    "start running": "Begin with short, slow runs on three days a week and rest in between.",
    "sharpen a pencil": "Turn it in the sharpener with light pressure until the point is fine.",
    "remove a stain": "Dab it with cold water and soap as soon as you can; do not rub it.",
    "wrap a present": "Cut the paper to size, fold it over the box and tape down the ends.",
    "grow tomatoes": "Keep them warm and in the sun, water them often and tie up the stems.",
    "cook rice": "Use two cups of water to one of rice and simmer it under a lid.",
    "paint a wall": "Clean it, tape the edges, and roll on two thin coats of paint.",
    "calm a baby": "Hold it close, rock it slowly, and hum or speak in a soft voice.",
    "read a map": "Find north and the scale first, then look for a landmark near you.",
}
REQUESTS = ("How do I {}?", "Please tell me how to {}.", "Can you help me {}?")
RUDE = (
    "What a stupid question. Only a fool does not know how to {}. Go and bother someone else.",
    "I could tell you how to {}, but you are too lazy and slow to do it. Leave me alone, please.",
    "Nobody cares that you want to {}. Stop wasting my time with this nonsense and go away now.",
)


def dialogues() -> tuple[Pair, ...]:
    """Returns the pairs, all prompts distinct, in a fixed order; source "toy-dialogue"."""
    return tuple(
        Pair(f"toy-{n:03d}-{kind}", "toy-dialogue", prompt, chosen, rejected)
        for n, (kind, prompt, chosen, rejected) in enumerate(_all())
    )


_Item = tuple[str, tuple[Turn, ...], str, str]


def _all() -> Iterator[_Item]:
    yield from _arithmetic()
    yield from _words()
    yield from _order()
    yield from _lists()
    yield from _follow_ups()
    yield from _help()


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
    for what, names in (("day", DAYS), ("month", MONTHS)):
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
        for k, request in enumerate(REQUESTS):
            opening = ("", "Gladly. ", "Of course, here is one good way. ")[(n + k) % 3]
            first = advice.split(" ", 4)[:4]
            circles = " ".join([*first, *first, *first, *first, *first][: 12 + 2 * (n % 5)]) + "."
            worse = RUDE[n % 3].format(task) if (n + k) % 2 else circles
            yield "help", (("user", request.format(task)),), opening + advice, worse
