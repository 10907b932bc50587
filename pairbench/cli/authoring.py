"""Verbs for who adds a method: new, check."""

from __future__ import annotations

from pathlib import Path

import click

from pairbench.cli.options import PLACE, as_json, form, names, overrides, say


@click.group()
def new() -> None:
    """Begin something of your own."""


@new.command("algorithm")
@click.argument("name")
@click.option("--folder", type=PLACE, default=Path("."), help="Where the package's folder goes.")
def new_algorithm(name: str, folder: Path) -> None:
    """Write a package with a working algorithm NAME: one file, tests, a README."""
    from pairbench.authoring.scaffold import new_algorithm as write

    for path in write(name, folder):
        say(path)
    say(f"next: pip install -e {folder / name} && pairbench check {name}")


@click.command()
@click.argument("name")
@overrides("KEY=VALUE", "A setting for defaults and presets alike, as beta=0.1")
@names("--only", "Checks to make, by comma; all by default.")
@form()
def check(name: str, overrides: tuple[str, ...], only: list[str], form: str) -> int:
    """Check what every algorithm must keep (masks, gradients, ties, random state, ...) of NAME.

    The status is 0 if it passes every check that applies to it, and else 1.
    """
    from pairbench.authoring.checks import NAMES, check as look
    from pairbench.experiments.settings import parse_setting, validated
    from pairbench.registry import get_algorithm
    from pairbench.seeding import pin_threads

    settings = dict(map(parse_setting, overrides))
    cls = get_algorithm(name)
    if settings:
        validated(cls.Config, settings, name)
    pin_threads(1)
    findings = look(cls, only=only or NAMES, settings=settings)
    failed = sum(finding.passed is False for finding in findings)
    if form == "json":
        say(as_json([finding._asdict() for finding in findings]))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            mark = {True: "ok", False: "FAILED", None: "skipped"}[finding.passed]
            say(f"{mark:<7} {finding.name:<{width}}  {finding.sentence}")
        skipped = sum(finding.passed is None for finding in findings)
        say(f"{len(findings) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0
