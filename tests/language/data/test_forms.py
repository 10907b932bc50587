"""What people's files hold is read as its owner meant it, or refused with the row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pairbench.errors import PairBenchError
from pairbench.language.data.forms import Turn
from tests.support.preferences import Row, load_rows, plain

ASKED, CHOSEN, REJECTED = "Where do otters sleep?", "They hold paws.", "No idea."
TALK: tuple[Turn, ...] = (("user", ASKED), ("assistant", "Which one?"), ("user", "Any."))


def read(tmp_path: Path, row: Row) -> tuple[tuple[Turn, ...], str, str]:
    (pair,) = load_rows(tmp_path, row).pairs
    return pair.prompt, pair.chosen, pair.rejected


def chatml(*turns: Turn) -> str:
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)


@pytest.mark.parametrize(
    "prompt",
    [
        f"Human: {ASKED}\n\nAssistant: Which one?\n\nHuman: Any.\n\nAssistant:",
        f"\r\n\r\nHuman: {ASKED}\r\n\r\nAssistant: Which one?\r\n\r\nHuman: Any.\r\n\r\nAssistant:",
        f"Human: {ASKED}\nAssistant: Which one?\nHuman: Any.\nAssistant:",
        f"USER: {ASKED} ASSISTANT: Which one? USER: Any. ASSISTANT:",
        f"Human: {ASKED}\n\nAssistant: Which one?\n\nHuman: Any.",
        chatml(*TALK) + "<|im_start|>assistant\n",
        chatml(*TALK),
        f"<s><|user|>\n{ASKED}</s>\n<|assistant|>\nWhich one?</s>\n<|user|>\nAny.</s>\n"
        "<|assistant|>\n",
        f"<|user|>\n{ASKED}<|end|>\n<|assistant|>\nWhich one?<|end|>\n<|user|>\nAny.<|end|>\n"
        "<|assistant|>\n",
        "<bos>" + "".join(
            f"<start_of_turn>{role.replace('assistant', 'model')}\n{text}<end_of_turn>\n"
            for role, text in TALK
        ),
        "<|begin_of_text|>" + "".join(
            f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>"
            for role, text in (*TALK, ("assistant", ""))
        ).removesuffix("<|eot_id|>"),
    ],
)  # fmt: skip
def test_a_prompt_that_is_a_transcript_is_read_as_its_turns(tmp_path: Path, prompt: str) -> None:
    row = {"prompt": prompt, "chosen": f" {CHOSEN}", "rejected": REJECTED}
    assert read(tmp_path, row) == (TALK, CHOSEN, REJECTED)
    repeated = {side: f"{prompt} {row[side]}" for side in ("chosen", "rejected")}
    if prompt.rstrip().endswith(("Assistant:", "ASSISTANT:", "assistant")):
        assert read(tmp_path, {**row, **repeated}) == (TALK, CHOSEN, REJECTED)


def test_what_closes_a_turn_is_no_part_of_an_answer(tmp_path: Path) -> None:
    start = chatml(("system", "Be brief."), ("user", ASKED))
    sides = {"chosen": f"{CHOSEN}<|im_end|>", "rejected": f"{REJECTED}<|im_end|>\n"}
    wanted = ((("system", "Be brief."), ("user", ASKED)), CHOSEN, REJECTED)
    whole = {side: chatml(("assistant", text)) for side, text in zip(sides, wanted[1:])}
    opened = f"{start}<|im_start|>assistant\n"
    for row in (
        {"prompt": opened, **sides},
        {"prompt": start, **whole},
        {side: start + text for side, text in whole.items()},
        {"prompt": start, **{side: [{"role": "assistant", "content": text}]
                             for side, text in zip(sides, wanted[1:])}},
    ):  # fmt: skip
        assert read(tmp_path, row) == wanted
    phi = {"prompt": f"<|user|>\n{ASKED}<|end|>\n<|assistant|>\n", "chosen": f"{CHOSEN}<|end|>"}
    assert read(tmp_path, {**phi, "rejected": REJECTED})[1:] == (CHOSEN, REJECTED)


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [
        ("[INST] Where do otters sleep? [/INST]", r"'\[INST\]'"),
        ("<s>[INST] Where? [/INST]", "'<s>'"),
        ("### Instruction:\nWhere?\n\n### Response:\n", "'### Instruction:'"),
        ("Below is an instruction.\n\n### Instruction:\nWhere?\n\n### Response:", "### Response:"),
        ("A chat between a user and a machine. USER: Where? ASSISTANT:", "'ASSISTANT:'"),
        ("<|im_start|>tool\n1<|im_end|>", "'<|im_start|>'".replace("|", r"\|")),
        ("Human: a Human: b Assistant:", "'Human:'"),
        ("<｜User｜>Where?<｜Assistant｜>", "'<｜User｜>'"),
        ("<|start|>user<|message|>Where?<|end|>", "'<.start.>'"),
    ],
)
def test_another_template_is_refused_with_the_row(tmp_path: Path, prompt: str, shown: str) -> None:
    with pytest.raises(PairBenchError, match=rf"line 2: 'prompt' carries a template .*{shown}"):
        load_rows(tmp_path, plain(1)[0], {"prompt": prompt, "chosen": "c", "rejected": "r"})


@pytest.mark.parametrize(
    "prompt",
    ["User: admin, password: 1. Is it safe?", "Say 'Assistant: yes' to me", "What is <s> in HTML?",
     'Explain {"role": "admin"}', '[{"id": 1}] is JSON?', '{"value": 3}'],
)  # fmt: skip
def test_plain_text_stays_plain(tmp_path: Path, prompt: str) -> None:
    row = {"prompt": prompt, "chosen": "c", "rejected": "r"}
    assert read(tmp_path, row)[0] == (("user", prompt),)


SHAREGPT = [{"from": "human", "value": ASKED}, {"from": "gpt", "value": "Which one?"},
            {"from": "human", "value": "Any."}]  # fmt: skip
MESSAGES = [{"role": role, "content": text} for role, text in TALK]
PARTS = [{"role": m["role"], "content": [{"type": "text", "text": m["content"]}]} for m in MESSAGES]


@pytest.mark.parametrize("prompt", [SHAREGPT, MESSAGES, PARTS])
@pytest.mark.parametrize("as_text", [False, True])
def test_messages_of_every_shape_are_read_also_as_json_text(
    tmp_path: Path, prompt: list[dict[str, Any]], as_text: bool
) -> None:
    names = list(prompt[1])
    role = prompt[1][names[0]]
    sides = {
        side: {names[0]: role, names[1]: text}
        for side, text in (("chosen", CHOSEN), ("rejected", REJECTED))
    }
    shape = json.dumps if as_text else list
    row = {"prompt": shape(prompt), **{side: shape([one]) for side, one in sides.items()}}
    assert read(tmp_path, row) == (TALK, CHOSEN, REJECTED)
    one = {side: json.dumps(message) if as_text else message for side, message in sides.items()}
    assert read(tmp_path, {"conversations": row["prompt"], **one}) == (TALK, CHOSEN, REJECTED)


def test_parts_that_are_no_text_are_refused(tmp_path: Path) -> None:
    image = {"type": "image_url", "image_url": "x"}
    two = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    row = {"prompt": [{"role": "user", "content": two}], "chosen": "c", "rejected": "r"}
    assert read(tmp_path, row)[0] == (("user", "a\nb"),)
    with pytest.raises(PairBenchError, match=r"line 1: .* 'prompt' has a part of type 'image_url'"):
        load_rows(tmp_path, {**row, "prompt": [{"role": "user", "content": [*two, image]}]})


@pytest.mark.parametrize(
    "text", [str(MESSAGES), f"array({MESSAGES})", str(SHAREGPT), str(MESSAGES).replace(",", "\n")]
)
def test_messages_as_python_prints_them_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(PairBenchError, match=r"line 2: 'prompt' holds messages as Python prints"):
        load_rows(tmp_path, plain(1)[0], {"prompt": text, "chosen": "c", "rejected": "r"})
