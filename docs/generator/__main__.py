"""`python -m docs.generator`: fills the generated parts; with --check only names what differs."""

from __future__ import annotations

import sys

from docs.generator import measured, numbers, reference  # noqa: F401 (they register what fills the parts)
from docs.generator.pages import ROOT, Wrong, files, filled


def main(arguments: list[str]) -> int:
    """Writes every file whose generated parts have changed, and names it."""
    changed = False
    try:
        for path in files():
            text = path.read_text("utf-8")
            new = filled(text, str(path.relative_to(ROOT)))
            if new != text:
                changed = True
                print(path.relative_to(ROOT))
                if "--check" not in arguments:
                    path.write_text(new, "utf-8")
    except Wrong as error:
        print(error, file=sys.stderr)
        return 2
    return int(changed and "--check" in arguments)


sys.exit(main(sys.argv[1:]))
