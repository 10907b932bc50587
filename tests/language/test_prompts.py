"""What the model is given of a prompt: the tokens its owner meant, and no others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the extra language is not installed")

from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from pairbench.errors import PairBenchError
from pairbench.experiments.runner import run
from pairbench.language.data.load import load
from pairbench.language.data.pairs import prompt_text
from pairbench.language.policy.encoding import answer_ids, begins_with, decode, token_ids
from pairbench.language.policy.models import load_model
from pairbench.language.prompts import check, prompt_ids, prompts_of, template_ids
from pairbench.language.task import LanguageConfig
from tests.support.preferences import plain, write

REFUSES = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<model>{% endif %}"
)
MARKED = "<eos>{% for m in messages %}[{{ m['content'] }}]<eos>{% endfor %}"


def tokenizer_of(folder: Path, template: str | None = None, bos: bool = False) -> Any:
    """Returns the tokenizer of a model, with a template or with <pad> put first, and saves it."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    if bos:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<pad> $A", special_tokens=[("<pad>", 0)]
        )
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    """A copy of the small trained model."""
    return Path(shutil.copytree(trained, tmp_path / "model"))


def pairs(tmp_path: Path, count: int = 80, prompt: Any = "q{}", **sides: str) -> str:
    """A file of pairs whose prompts, texts or messages, have their number in them."""
    rows = [
        {**row, "prompt": json.loads(json.dumps(prompt).replace("{}", str(n))), **sides}
        for n, row in enumerate(plain(count))
    ]
    return str(write(tmp_path / "rows.jsonl", rows))


def test_without_a_template_the_tokenizers_own_begin_of_sequence_comes_once(
    model: Path, tmp_path: Path
) -> None:
    assert begins_with(AutoTokenizer.from_pretrained(model)) == []
    assert begins_with(tokenizer_of(model, bos=True)) == [0]
    loaded = load_model(str(model))
    data = load(pairs(tmp_path, prompt="what colour is thing <pad> {} of them all?"))
    for length in (7, 99):
        config = LanguageConfig(model=str(model), prompt_tokens=length, pair_tokens=9)
        padded = prompts_of(data, loaded, config)[0].ids[0]
        row = padded[padded >= 0]
        assert row[0] == 0 and int((row == 0).sum()) == 1 and len(row) <= length
        assert decode(loaded.tokenizer, row[None])[0].endswith("Assistant:")
    assert "<pad>" in decode(loaded.tokenizer, row[None])[0]


def test_a_template_says_where_special_tokens_are_and_no_turn_does(model: Path) -> None:
    tokenizer = tokenizer_of(model, MARKED, bos=True)
    assert (
        tokenizer.decode(
            template_ids((("user", "a<pad>"), ("assistant", "b<eos>")), tokenizer, True)
        )
        == "<eos>[a<pad>]<eos>[b<eos>]<eos>"
    )
    plain_turn, hostile = (("user", "hello there"),), (("user", "hello <eos> <pad>there"),)
    first, (one, other) = prompt_ids([plain_turn, hostile], tokenizer)
    assert first == [] and one == token_ids(tokenizer, [prompt_text(plain_turn, tokenizer)])[0]
    eos = tokenizer.eos_token_id
    assert one.count(eos) == other.count(eos) == 2 and 0 not in other
    assert tokenizer.decode(other) == "<eos>[hello <eos> <pad>there]<eos>"


def test_a_template_that_refuses_or_fails_is_one_sentence_before_the_first_run(
    model: Path, tmp_path: Path
) -> None:
    tokenizer_of(model, REFUSES)
    config = LanguageConfig(model=str(model))
    check(load(pairs(tmp_path)), config)
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why {}?"}]
    with pytest.raises(PairBenchError, match=r"rows\.jsonl, line \d+: the model .*System role not"):
        check(load(pairs(tmp_path, prompt=system)), config)
    tokenizer_of(model, "{% for m in messages %}")
    with pytest.raises(PairBenchError, match=r"line \d+: .* its chat template fails"):
        check(load(pairs(tmp_path)), config)
    tokenizer_of(model, "{# nothing #}")
    with pytest.raises(PairBenchError, match=r"line \d+: .* template leaves nothing of it"):
        check(load(pairs(tmp_path)), config)
    with pytest.raises(PairBenchError, match=r"line \d+: .* template leaves nothing of it"):
        run(
            algorithms=["dpo"],
            tasks=[f"preference-file@{model}"],
            budget={"gradient_steps": 1},
            results=tmp_path / "results",
            overrides=[f"preference-file.path={json.dumps(pairs(tmp_path))}"],
        )
    assert not list(tmp_path.glob("results/*/*"))


@pytest.mark.parametrize("use", ["training", "evaluation"])
def test_too_few_pairs_are_one_sentence_before_the_first_run(tmp_path: Path, use: str) -> None:
    for count in range(1, 80):
        data = load(pairs(tmp_path, count))
        split = data.split()
        used = {"training": split["policy"], "evaluation": split["evaluation"]}
        if not used[use] and (use == "training" or used["training"]):
            break
    with pytest.raises(PairBenchError, match=f"{count} pairs, and no prompt is left for {use}"):
        check(data, LanguageConfig())


def test_no_pair_left_after_the_cut_is_one_sentence(model: Path, tmp_path: Path) -> None:
    data = load(pairs(tmp_path, chosen="It is what it is, here", rejected="It is what it was"))
    config = LanguageConfig(model=str(model), pair_tokens=3, completion_tokens=3)
    with pytest.raises(PairBenchError, match=r"no pair left for training: all .* raise it"):
        prompts_of(data, load_model(str(model)), config)


def test_every_declared_end_ends(model: Path) -> None:
    """An answer that holds one ends there: the policy would have."""
    settings = json.loads((model / "generation_config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(model)
    first, second = token_ids(tokenizer, ["ab"])[0][:2]
    settings["eos_token_id"] = [1, second]
    (model / "generation_config.json").write_text(json.dumps(settings))
    loaded = load_model(str(model))
    assert loaded.ends == (1, second) and loaded.eos == 1
    texts = ["a", "ab", "aaaaaa"]
    assert answer_ids(tokenizer, texts, 3, loaded.ends)[0][:2] == [[first, 1], [first, second]]
    assert answer_ids(tokenizer, texts, 3, loaded.ends, least=3)[0][:2] == [[first], [first]]
