"""Reference pages from the code itself: commands, settings, records, suites, columns."""

from __future__ import annotations

import enum
import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import pairbench
from docs.generator.numbers import cell, read, table
from docs.generator.pages import filler
from pairbench.algorithm import Algorithm, AlgorithmConfig, External, Floor
from pairbench.registry import get_algorithm, get_task, listing

# What there is


def algorithms() -> list[Any]:
    """Returns the entries of the algorithms that PairBench brings."""
    return [entry for entry in listing("algorithm") if entry.origin == "built in"]


def named(kind: type) -> list[str]:
    """Returns the names of the algorithms of a kind: `Algorithm`, `External` or `Floor`."""
    return [entry.name for entry in algorithms() if issubclass(get_algorithm(entry.name), kind)]


def tasks() -> list[Any]:
    """Returns the entries of the tasks that PairBench brings."""
    return [entry for entry in listing("task") if entry.origin == "built in"]


@filler
def nouns(board: str) -> str:
    """Returns every name at the root of the package, where it is from and what it is."""
    lines = []
    for name in sorted({*pairbench.__all__} - {"__version__"}):
        found = getattr(pairbench, name)
        said = (inspect.getdoc(found) or "").partition("\n")[0]
        home = pairbench._HOME.get(name, f"pairbench.{name}")
        if said and (inspect.ismodule(found) or found.__module__.startswith("pairbench")):
            lines.append([f"`{name}`", f"`{home}`", cell(said)])
    return table(["name", "from", "what it is"], lines)


@filler
def inside(board: str) -> str:
    """Returns what PairBench brings, by name."""
    from pairbench.experiments.suite import suite_names

    brought = {
        "methods": named(Algorithm),
        "rows of other libraries, as peers": named(External),
        "rows without training": named(Floor),
        "tasks": [entry.name for entry in tasks()],
        "suites": suite_names(),
    }
    return "\n".join(
        f"- **{len(names)} {what}**: {', '.join(f'`{name}`' for name in names)}."
        for what, names in brought.items()
    )


@filler
def method_count(board: str) -> str:
    """Returns how many methods there are."""
    return str(len(named(Algorithm)))


@filler
def task_count(board: str) -> str:
    """Returns how many tasks there are."""
    return str(len(tasks()))


# The command line


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yields every command with its full name."""
    for name, command in sorted(group.commands.items()):
        full = f"{before}{name}"
        if isinstance(command, click.Group):
            yield from commands(command, f"{full} ")
        else:
            yield full, command


@filler
def command_line(board: str) -> str:
    """Returns every command with its arguments and options."""
    from pairbench.cli.main import cli

    parts = []
    for name, command in commands(cli):
        context = click.Context(command, info_name=name, max_content_width=100)
        usage = " ".join([f"pairbench {name}", *command.collect_usage_pieces(context)])
        told = re.sub(r"\n(?!\n)\s*", " ", (command.help or "").strip()).replace("\n ", "\n\n")
        lines = []
        for option in command.params:
            if not isinstance(option, click.Option):
                continue
            found = option.get_help_record(context)
            if found is not None:
                lines.append([f"`{cell(found[0])}`", cell(found[1])])
        parts += [f"## `{name}`", f"```text\n{usage}\n```", told]
        parts += [table(["option", "what it does"], lines)] if lines else []
    return "\n\n".join(parts)


# Settings


def kind_of(annotation: Any) -> str:
    """Returns a type as a reader writes it."""
    origin = get_origin(annotation)
    if annotation is type(None):
        return "nothing"
    if origin is typing.Annotated:
        return kind_of(get_args(annotation)[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " or ".join(kind_of(part) for part in get_args(annotation))
    if origin in (dict, Mapping):
        return "object"
    if origin in (list, tuple):
        return f"list of {kind_of(get_args(annotation)[0])}"
    if origin is not None:
        inner = ", ".join(kind_of(part) for part in get_args(annotation) if part is not Ellipsis)
        return f"{origin.__name__} of {inner}"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return " or ".join(f"`{member.value}`" for member in annotation)
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}
    return names.get(getattr(annotation, "__name__", ""), getattr(annotation, "__name__", "any"))


LIMITS = {"gt": "above", "ge": "from", "lt": "below", "le": "to"}


def limits_of(field: FieldInfo) -> str:
    """Returns the limits of a field in words."""
    found = []
    for limit in field.metadata:
        for key, word in LIMITS.items():
            value = getattr(limit, key, None)
            if value is not None:
                found.append(f"{word} {value:g}")
    return " ".join(found)


def default_of(field: FieldInfo) -> str:
    """Returns a field's default."""
    if field.default_factory is not None:
        return "empty"
    if field.default is PydanticUndefined:
        return "(required)"
    if isinstance(field.default, float):
        return f"{field.default:g}"
    if field.default is None or field.default in ("", [], {}, ()):
        return "none"
    if isinstance(field.default, BaseModel):
        return "its own"
    return cell(
        str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
    )


def attributes(model: type[BaseModel]) -> dict[str, str]:
    """Returns what a class's docstring says of its attributes, by name."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        text = (base.__doc__ or "").partition("Attributes:\n")[2]
        for match in re.finditer(r"^ {8}([\w, ]+): (.+(?:\n {10,}.+)*)", text, re.M):
            for name in match[1].split(", "):
                found[name] = " ".join(match[2].split())
    return found


def fields(model: type[BaseModel], without: set[str] = frozenset()) -> str:  # type: ignore[assignment]
    """Returns the fields of a model as a table."""
    told = attributes(model)
    lines = []
    for name, field in model.model_fields.items():
        if name in without:
            continue
        kind = " ".join(filter(None, (kind_of(field.annotation), limits_of(field))))
        meaning = field.description or told.get(name, "")
        lines.append([f"`{name}`", cell(kind), default_of(field), cell(meaning)])
    return table(["name", "kind", "default", "meaning"], lines)


def first_line(text: str | None) -> str:
    """Returns the first line of a docstring, which may be a sentence that goes on below."""
    return " ".join((text or "").strip().partition("\n\n")[0].split())


@filler
def algorithm_settings(board: str) -> str:
    """Returns every method with its settings, its presets and what tuning may try."""
    parts = ["## Settings that all have", fields(AlgorithmConfig)]
    common = AlgorithmConfig.model_fields
    for entry in algorithms():
        cls = get_algorithm(entry.name)
        config = cls.Config
        same = {
            name
            for name, field in common.items()
            if config.model_fields[name].default == field.default
        }
        parts += [f"## `{entry.name}`", first_line(cls.__doc__), f"Source: {cls.source}."]
        if cls.departures:
            parts.append(f"Not the paper's: {cls.departures}")
        if len(same) < len(config.model_fields):
            parts.append(fields(config, same))
        presets = [
            [f"`{kind}`", ", ".join(f"`{key}` {value}" for key, value in settings.items())]
            for kind, settings in cls.presets.items()
        ]
        if presets:
            parts.append(table(["on tasks of kind", "replaces defaults by"], presets))
    return "\n\n".join(parts)


@filler
def task_settings(board: str) -> str:
    """Returns every task with its variants and settings."""
    parts = []
    for entry in tasks():
        cls = get_task(entry.name)
        parts += [f"## `{entry.name}`", first_line(cls.__doc__)]
        told = [f"Kind: `{cls.kind}`.", f"Version: {cls.version}."]
        if entry.variants:
            told.append(f"Variants: {', '.join(f'`@{name}`' for name in entry.variants)}.")
        parts += [" ".join(told), fields(cls.Config)]
    return "\n\n".join(parts)


@filler
def schema(board: str, *names: str) -> str:
    """Returns the fields of models, as "module:Class"."""
    from importlib import import_module

    parts = []
    for target in names:
        module, name = target.split(":")
        model = getattr(import_module(module), name)
        parts += [f"### {name}", first_line(inspect.cleandoc(model.__doc__ or "")), fields(model)]
    return "\n\n".join(parts)


@filler
def suite_list(board: str) -> str:
    """Returns the suites that PairBench brings."""
    from pairbench.experiments.suite import load_suite, suite_names

    lines = []
    for name in suite_names():
        suite = load_suite(name)
        lines.append([f"`{name}`", str(len(suite.rows)), cell(suite.summary)])
    return table(["suite", "rows", "what it is"], lines)


# Columns


@filler
def columns(board: str) -> str:
    """Returns every column of the committed boards with its meaning."""
    from pairbench.leaderboard import Board
    from pairbench.leaderboard.columns import columns as of

    found: dict[str, tuple[str, str]] = {}
    for name in BOARDS:
        for column in of(Board.model_validate(read(name))):
            found.setdefault(column.key, (column.title, column.meaning))
    return table(
        ["column", "meaning"], [[cell(title), cell(told)] for title, told in found.values()]
    )


BOARDS = ("halfcheetah-v4--1M-steps", "hh-rlhf-helpful--40-updates", "ultrafeedback--40-updates")
"""Boards that between them have every column."""
