"""Settings as people write them: `--set` texts, and what is wrong with a value, in one sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pairbench.errors import PairBenchError
from pairbench.text import did_you_mean

M = TypeVar("M", bound=BaseModel)


def validated(model: type[M], data: Mapping[str, Any], owner: str) -> M:
    """Returns `model(**data)`, or raises the first thing wrong with it as one sentence.

    Raises:
        PairBenchError: naming the key, the value, what is allowed, and the owner of the key.
    """
    try:
        return model(**data)
    except ValidationError as error:
        raise PairBenchError(_sentence(model, error, owner)) from error


_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def _sentence(model: type[BaseModel], error: ValidationError, owner: str) -> str:
    problem = error.errors()[0]
    path = [part for part in problem["loc"] if part != "function-after"]
    key, value = ".".join(map(str, path)), problem.get("input")
    shown = str(value) if isinstance(value, int | float) else repr(value)
    field_ = _field(model, path)
    if problem["type"] == "extra_forbidden":
        known = list(_model(model, path[:-1]).model_fields)
        return f"{owner} has no setting {key!r}{did_you_mean(str(path[-1]), known)}"
    if problem["type"] == "missing":
        return f"{owner} lacks {key!r}: add it"
    if problem["type"] == "value_error":
        message = str(problem["ctx"]["error"]) if "ctx" in problem else problem["msg"]
        return f"{key} of {owner}: {message}" if key else f"{owner}: {message}"
    bounds = [
        f"{word} {limit:g}"
        for item in (field_.metadata if field_ is not None else ())
        for name, word in _BOUNDS.items()
        if isinstance(limit := getattr(item, name, None), int | float)
    ]
    if problem["type"] in {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}:
        allowed = f"it must be {' and '.join(bounds)}" if bounds else _lower(problem["msg"])
        return f"{key} = {shown} of {owner} is out of range: {allowed}"
    return f"{key} = {shown} of {owner} is not allowed: {_lower(problem['msg'])}"


def _model(model: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel]:
    """The model that the keys of `path` lead to, as far as fields are models or tuples of them."""
    for part in path:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            inner = [annotation, *getattr(annotation, "__args__", ())]
            model = next(
                (a for a in inner if isinstance(a, type) and issubclass(a, BaseModel)), model
            )
    return model


def _field(model: type[BaseModel], path: Sequence[int | str]) -> Any:
    names = [part for part in path if isinstance(part, str)]
    if not names:
        return None
    return _model(model, path[: path.index(names[-1])]).model_fields.get(names[-1])


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def parse_targeted(text: str) -> tuple[str, str, Any]:
    """Returns the target, the key and the value of a text "target.key=value" of --set.

    Raises:
        PairBenchError: it is none.
    """
    left, equals, right = text.partition("=")
    target, dot, key = left.strip().rpartition(".")
    if not (equals and dot and target and key):
        raise PairBenchError(
            f"--set {text!r} cannot be read: write target.key=value, as in grpo.group_size=8"
        )
    return target, key, _value(right)


def parse_setting(text: str) -> tuple[str, Any]:
    """Returns the key and the value of a text "key=value" of --set.

    Raises:
        PairBenchError: it is none.
    """
    key, equals, value = text.partition("=")
    if not (equals and key.strip()):
        raise PairBenchError(f"--set {text!r} cannot be read: write key=value, as in beta=0.1")
    return key.strip(), _value(value)


def _value(text: str) -> Any:
    """The JSON value of `text` (8, 1e-3, true, [1, 2], null), or the text itself."""
    try:
        return json.loads(text.strip())
    except json.JSONDecodeError:
        return text.strip()
