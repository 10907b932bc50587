"""From a row's prompt and sides, in whatever form they come, to the turns of two dialogues.

Read are plain text, transcripts as HH-RLHF has them, text in a chat template of `TEMPLATES`, and
messages: lists, or their JSON as text, of role and content or of from and value (ShareGPT), where
content may be parts of text. What carries another template is refused, since the model's own would
be put around it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pairbench.errors import PairBenchError

Turn = tuple[str, str]  # role, a value of ROLES, and text
Side = Literal["chosen", "rejected"]

ROLES: Mapping[str, str] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
}
"""Our names of roles by those that files have."""

Template = tuple[re.Pattern[str], re.Pattern[str]]

TEMPLATES: tuple[Template, ...] = (
    (re.compile(r"<\|im_start\|>(\w+)\n"), re.compile(r"<\|im_end\|>\Z")),
    (
        re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n"),
        re.compile(r"<\|eot_id\|>\Z"),
    ),
    (re.compile(r"<start_of_turn>(\w+)\n"), re.compile(r"<end_of_turn>\Z")),
    (
        re.compile(r"<\|(user|assistant|system)\|>\n"),
        re.compile(r"(?:</s>|<\|end\|>|<\|endoftext\|>)\Z"),
    ),
)
"""What opens a turn and what closes it: ChatML, Llama 3, Gemma, and Zephyr, Phi 3 and Tulu."""

_FOREIGN = re.compile(
    r"\s*(<s>|<bos>|<start_of_turn>|<[|｜][^\s<>|｜]{1,40}[|｜]>"
    r"|\[INST\]|### (?:Instruction|Human|User):|(?:Human|HUMAN):)"
    r"|[\s\S]*(?:^|\s)((?:### )?(?:Assistant|ASSISTANT):|### Response:)\s*\Z"
)
"""What a prompt begins or ends with that carries a template."""

_BEGINS = re.compile(r"\s*(?:<s>|<bos>|<\|begin_of_text\|>)?\s*")
_MARKER = re.compile(r"\n\n(Human|Assistant):")
_MARKERS = ("\n\nHuman:", "\n\nAssistant:")
_SPEAKER = "(Human|HUMAN|User|USER|Assistant|ASSISTANT):"
_GAPS = (r"\n\s*\n", r"\n\s*", r"\s+")
"""What lies between the turns of a transcript: blank lines, else lines, else spaces."""

_MESSAGES = re.compile(r"(?:array\()?\[?\s*\{\s*(['\"])(?:role|content|from|value)\1\s*:")


@dataclass(frozen=True)
class RawPair:
    """A row as it was read; `where` says where, for errors; `named` is of a data set with a name.

    A row without a prompt that is no transcript is dropped from a data set with a name, and wrong
    use in a file of the user's. Whatever else a file may hold than the data sets with a name do is
    looked for in files alone.
    """

    fields: Mapping[str, Any]
    where: str
    source: str
    id: str
    named: bool = True


def blank(value: Any) -> bool:
    """Whether a cell is empty: null, or text of nothing but spaces, as CSV writes it."""
    return value is None or (isinstance(value, str) and not value.strip())


def dialogue(row: RawPair, side: Side) -> list[Turn]:
    """Returns all turns of one side, the prompt's and the answer."""
    if side not in row.fields:
        raise PairBenchError(f"{row.where} has no {side!r}: every row needs chosen and rejected")
    prompt = _cell(row, "prompt" if "prompt" in row.fields else "conversations")
    answer = _cell(row, side)
    if isinstance(answer, list):
        turns = _messages(answer, row, side)
        if blank(prompt) or (turns and turns[0][0] != "assistant"):
            return turns
        start = _opening(prompt, row)[0]
        return [*(start[:-1] if start[-1:] == [("assistant", "")] else start), *turns]
    text = _text(answer, row, side)
    if blank(prompt):
        return _whole(text, row, side)
    if isinstance(prompt, str) and (start_text := _transcript_text(prompt, row)):
        # The whole transcript again, so that this form and the originals are read by one rule.
        ends = start_text.rstrip().endswith(_MARKERS[1])
        return _transcript(
            start_text.rstrip() + text if ends else f"{start_text}{_MARKERS[1]}{text}"
        )
    turns, template = _opening(prompt, row)
    if template is not None:
        opens, closes = template
        opened = opens.match(text.strip())
        text = closes.sub("", text.strip()[opened.end() if opened else 0 :])
    if isinstance(prompt, str) and turns[-1:] == [("assistant", "")]:
        turns.pop()
    return [*turns, ("assistant", text.strip())]


def prompt_of(row: RawPair) -> tuple[Any, tuple[Turn, ...]]:
    """Returns a row's prompt as it was written, text or messages, and its turns.

    Raises:
        PairBenchError: there is none, or it is not the user's turn to be answered.
    """
    if blank(row.fields.get("prompt")):
        raise PairBenchError(f"{row.where} has no prompt: give every row one, or leave it out")
    written = _cell(row, "prompt")
    turns = tuple(_opening(written, row)[0])
    if turns[-1:] == (("assistant", ""),):
        turns = turns[:-1]
    if not turns or turns[-1][0] != "user" or not all(text for _, text in turns):
        raise PairBenchError(f"{row.where}: its prompt does not end with something the user says")
    return written, turns


def _whole(text: str, row: RawPair, side: Side) -> list[Turn]:
    """Returns the turns of a side that has no prompt beside it."""
    turns = _transcript(_transcript_text("\n\n" + text.lstrip(), row))
    if not turns and not row.named:
        turns = next(filter(None, (_templated(text, *one) for one in TEMPLATES)), [])
    if turns or row.named:
        return turns
    if "prompt" in row.fields:
        return [("user", ""), ("assistant", text.strip())]
    raise PairBenchError(
        f"{row.where} has no 'prompt', and its {side!r} is no transcript that starts with "
        f"'Human:': add the column prompt"
    )


def _opening(prompt: Any, row: RawPair) -> tuple[list[Turn], Template | None]:
    """Returns the turns of a prompt, and the template it was written in, if any.

    Raises:
        PairBenchError: it carries a template that cannot be read.
    """
    if isinstance(prompt, list):
        return _messages(prompt, row, "prompt"), None
    text = _text(prompt, row, "prompt")
    if start := _transcript_text(text, row):
        return _transcript(start), None
    if row.named or not (foreign := _FOREIGN.match(text)):
        return [("user", text.strip())], None
    for template in TEMPLATES:
        if turns := _templated(text, *template):
            return turns, template
    if turns := _spoken(text):
        return turns, None
    raise PairBenchError(
        f"{row.where}: 'prompt' carries a template of its own "
        f"({(foreign[1] or foreign[2]).strip()!r}), and the model's would be put around it: give "
        "the user's words alone, or messages"
    )


def _transcript_text(text: str, row: RawPair) -> str:
    """Returns text that starts as HH-RLHF's transcripts do, its lines ending as theirs; or ""."""
    if not row.named and text.lstrip().startswith(("Human:", "Assistant:")):
        text = re.sub(r"\r\n?", "\n", text)
    return text if text.startswith(_MARKERS) else ""


def _transcript(text: str) -> list[Turn]:
    """Returns the turns of a transcript in HH-RLHF's form, none if it does not start as one."""
    if not text.startswith(_MARKERS):
        return []
    parts = _MARKER.split(text)
    return [
        ("user" if speaker == "Human" else "assistant", said.strip())
        for speaker, said in zip(parts[1::2], parts[2::2])
    ]


def _spoken(text: str) -> list[Turn]:
    """Returns the turns of another transcript: they alternate, and the last waits for an answer."""
    text = text.replace("\r\n", "\n").strip()
    for gap in _GAPS:
        parts = re.split(rf"(?:\A|{gap}){_SPEAKER}", text)
        turns = [
            ("assistant" if speaker.lower() == "assistant" else "user", said.strip())
            for speaker, said in zip(parts[1::2], parts[2::2])
        ]
        roles = [role for role, _ in turns]
        alternate = roles == ["user", "assistant"] * (len(roles) // 2) + ["user"] * (len(roles) % 2)
        waits = turns[-1:] == [("assistant", "")] or (gap == _GAPS[0] and len(turns) % 2)
        if not parts[0] and alternate and waits and not _FOREIGN.match(turns[-1][1]):
            return turns
    return []


def _templated(text: str, opens: re.Pattern[str], closes: re.Pattern[str]) -> list[Turn]:
    """Returns the turns of text in a chat template; none where it does not begin so."""
    begins = _BEGINS.match(text)
    text = text[begins.end() if begins else 0 :]
    parts = opens.split(text + "\n\n")
    roles = [ROLES.get(role, "") for role in parts[1::2]]
    said = [closes.sub("", part.strip()).strip() for part in parts[2::2]]
    return list(zip(roles, said)) if all(roles) and not parts[0] else []


def _cell(row: RawPair, column: str) -> Any:
    """Returns what a column holds: text, or messages as a list, also where text is their JSON.

    Raises:
        PairBenchError: the text is messages as Python prints them.
    """
    value = row.fields.get(column)
    if isinstance(value, str) and not row.named and (like := _MESSAGES.match(value.lstrip())):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            if like[1] == "'":
                raise PairBenchError(
                    f"{row.where}: {column!r} holds messages as Python prints them: write them "
                    "as JSON, with json.dumps"
                ) from error
        messages = [value] if isinstance(value, Mapping) else value
        if not isinstance(messages, list) or not all(map(_is_message, messages)):
            value = row.fields[column]
    return [value] if isinstance(value, Mapping) else "" if value is None else value


def _is_message(value: Any) -> bool:
    keys = value.keys() if isinstance(value, Mapping) else set()
    return {"role", "content"} <= keys or {"from", "value"} <= keys


def _messages(messages: list[Any], row: RawPair, column: str) -> list[Turn]:
    turns: list[Turn] = []
    for message in messages:
        fields = message if isinstance(message, Mapping) else {}
        named, said = ("from", "value") if "from" in fields else ("role", "content")
        role = fields.get(named)
        if not isinstance(role, str) or role not in ROLES:
            raise PairBenchError(
                f"{row.where}: a message of {column!r} has the role {role!r}; it must be one of "
                f"{', '.join(ROLES)}"
            )
        turns.append((ROLES[role], _content(fields.get(said), row, column).strip()))
    return turns


def _content(value: Any, row: RawPair, column: str) -> str:
    """Returns a message's text, lines of it where it has several parts."""
    if not isinstance(value, list):
        return _text(value, row, column)
    for part in value:
        if isinstance(part, Mapping) and part.get("type") != "text":
            raise PairBenchError(
                f"{row.where}: a message of {column!r} has a part of type {part.get('type')!r}; "
                "only text can be read"
            )
    return "\n".join(
        _text(part.get("text") if isinstance(part, Mapping) else part, row, column)
        for part in value
    )


def _text(value: Any, row: RawPair, column: str) -> str:
    if not isinstance(value, str):
        raise PairBenchError(f"{row.where}: {column!r} holds {value!r:.40}, which is not text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise PairBenchError(
            f"{row.where}: {column!r} is not valid Unicode (half a surrogate pair)"
        ) from error
    return value


def score(row: RawPair, column: str) -> float | None:
    """Returns a score, where the row or the row's metadata gives one."""
    value = row.fields.get(column)
    metadata = row.fields.get("metadata")
    if blank(value) and isinstance(metadata, Mapping):
        value = metadata.get(column)
    if blank(value):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise PairBenchError(f"{row.where}: {column!r} holds {value!r:.40}, not a finite number")
    return number
