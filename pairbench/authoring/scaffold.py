"""A new plug-in package from templates: one method that works, its tests, and a README."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from pathlib import Path

from pairbench.errors import PairBenchError
from pairbench.registry import BUILT_IN, entries
from pairbench.results.files import atomic_write

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST = 40

FILES = {
    "pyproject.toml": "pyproject.toml.j2",
    "README.md": "README.md.j2",
    "{module}.py": "module.py.j2",
    "tests/test_{stem}.py": "test_module.py.j2",
}
"""Places in a new package, and the templates that fill them."""

IMPORTED = frozenset(
    {"Algorithm", "Batch", "Field", "GroupConfig", "Loss", "Needs", "PolicyOutput", "Signal"}
)
"""Names that a new module imports, which its class must not take."""


def new_algorithm(name: str, folder: Path) -> list[Path]:
    """Writes the package of a new algorithm to `folder`/`name` and returns its files.

    Raises:
        PairBenchError: the name is not fit or taken, the folder is there already, or it cannot be
            written.
    """
    from jinja2 import Environment, StrictUndefined

    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise PairBenchError(
            f"{name!r} is no name for an algorithm: use up to {LONGEST} small letters and digits, "
            "words joined by single hyphens, a letter first, as in my-method"
        )
    for kind in ("algorithm", "task"):
        taken = entries(kind).get(name)
        if taken is not None:
            owner = "PairBench itself" if taken.origin == BUILT_IN else f"package {taken.origin}"
            article = "an algorithm" if kind == "algorithm" else "a task"
            raise PairBenchError(f"{name} is {article} of {owner} already: choose another name")
    place = folder / name
    if place.exists():
        raise PairBenchError(f"{place} is there already: choose another name or --folder")
    values = {
        "name": name,
        "package": f"pairbench-{name}",
        "stem": name.replace("-", "_"),
        "module": f"pairbench_{name.replace('-', '_')}",
        "cls": class_name(name),
    }
    engine = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    templates = files("pairbench.authoring") / "templates" / "algorithm"
    written = []
    try:
        for path, template in FILES.items():
            text = engine.from_string((templates / template).read_text(encoding="utf-8"))
            target = place / path.format(**values)
            atomic_write(target, text.render(values).encode())
            written.append(target)
    except OSError as error:
        raise PairBenchError(f"{place} cannot be written ({error.strerror or error})") from error
    return written


def class_name(name: str) -> str:
    """Returns the class's name for an algorithm's: "MyMethod" for "my-method"."""
    joined = "".join(part[:1].upper() + part[1:] for part in name.split("-"))
    return f"{joined}Method" if joined in IMPORTED or keyword.iskeyword(joined) else joined
