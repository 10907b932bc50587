"""Text to ids and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairbench.errors import PairBenchError
from pairbench.language.policy.encoding import decode, encode_answers, encode_prompts
from pairbench.language.policy.models import load_model
from tests.support.tiny_model import texts


def test_text_to_ids_and_back(trained: Path) -> None:
    model = load_model(str(trained))
    prompts = encode_prompts(model.tokenizer, [text for text, _ in texts(3)], 10)
    assert prompts.shape == (3, 10) and bool((prompts >= 0).all())
    whole = encode_prompts(model.tokenizer, ["a", texts(1)[0][0]], 999)
    assert whole[0, -1] >= 0 and bool((whole[0, :-1] == -1).all())
    assert decode(model.tokenizer, whole) == ["a", texts(1)[0][0]]
    answers, mask = encode_answers(model.tokenizer, [" It is", " It is blue." * 9], 12, model.eos)
    assert bool(((answers >= 0) == (mask > 0)).all())
    ends = answers == model.eos
    assert ends[0].sum() == 1 and int(ends[0].nonzero()) == int(mask[0].sum()) - 1
    assert not ends[1].any() and mask[1].sum() == 12  # cut: it does not end
    assert decode(model.tokenizer, answers)[0] == " It is"


def test_an_answer_cannot_hold_a_special_token(trained: Path) -> None:
    model = load_model(str(trained))
    answers, _ = encode_answers(model.tokenizer, ["a<eos>b<pad>"], 40, model.eos)
    assert int((answers == model.eos).sum()) == 1 and answers[0, -1] == model.eos
    assert decode(model.tokenizer, answers) == ["a<eos>b<pad>"]


def test_empty_text_is_refused(trained: Path) -> None:
    model = load_model(str(trained))
    with pytest.raises(PairBenchError, match="prompt 1 of 2 has no token"):
        encode_prompts(model.tokenizer, ["a", ""], 5)
    with pytest.raises(PairBenchError, match="answer 1 of 2 has no token"):
        encode_answers(model.tokenizer, ["a", ""], 5, model.eos)
