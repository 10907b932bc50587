"""What Markdown files show: links, and commands of `pairbench` that must parse."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click

BLOCK = re.compile(r"^ *```(?:bash|text|console|toml)?\n(.*?)^ *```$", re.M | re.S)
COMMAND = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )?(?:\.venv/bin/)?pairbench (.+)$")


def links(text: str) -> list[str]:
    """Returns the files that a page's links and pictures name."""
    return re.findall(r"\]\((?!https?:|#)([^)#]+)", text)


def shown_commands(page: Path) -> list[str]:
    """Returns each command of `pairbench` in a page's blocks or between backticks, in one line."""
    text = page.read_text(encoding="utf-8")
    found = []
    for block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r" && | \| | # ", line):
                match = COMMAND.match(part.strip())
                if match is not None:
                    found.append(" ".join(match[1].split()))
    found += [" ".join(told.split()) for told in re.findall(r"`pairbench ([^`]+)`", text)]
    return list(dict.fromkeys(found))


def wrong_command(line: str) -> str | None:
    """Returns why a command cannot be parsed, or None. Nothing is run.

    Words in capitals, dots and what follows a > stand for what a reader fills in.
    """
    from pairbench.cli.main import cli

    words = shlex.split(line.partition(" > ")[0])
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].isupper():
        name = words.pop(0)
        if name not in command.commands:
            return f"there is no command {name!r}"
        command = command.commands[name]
    told = [word for word in words if word != "..."]
    if not told or any(word.isupper() for word in told) or "--help" in told:
        known = {opt for option in command.params for opt in (*option.opts, *option.secondary_opts)}
        unknown = [
            word for word in told if word.startswith("--") and word not in known | {"--help"}
        ]
        return f"{command.name} has no {unknown[0]}" if unknown else None
    parser = command.make_parser(click.Context(command))
    try:
        parser.parse_args(told)
    except click.ClickException as error:
        return error.format_message()
    return None
