"""A hook of mkdocs: links that lead out of docs/ become text, since the site ends there."""

from __future__ import annotations

import re
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./){2,}([^)#]+)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Returns a page's Markdown, in which such a link names its file of the repository."""
    return OUTSIDE.sub(r"\1 (`\2`)", markdown)
