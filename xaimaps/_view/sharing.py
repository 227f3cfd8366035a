"""One HTML file with the page and its maps, which needs no server and no network."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "page"
"""The files of the page."""


def as_json(value: Any) -> str:
    """Return JSON in ASCII, which can also be the text of a script element.

    NaN and infinity, which JSON lacks, become null.
    """
    finite = json.loads(json.dumps(value), parse_constant=lambda name: None)
    return json.dumps(finite).replace("<", "\\u003c")


def standalone(shown: dict[str, Any]) -> str:
    """Return the page with its style, its script, and what it shows.

    Args:
        shown: values for JSON; the texts in it are never markup.
    """
    style, script = ((PAGE / name).read_text("utf-8") for name in ("viewer.css", "viewer.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}"
    )
    replaced = {
        '<link rel="stylesheet" href="viewer.css">': (
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            f"<style>{style}</style>"
        ),
        '<script type="module" src="viewer.js"></script>': (
            f'<script type="application/json" id="shown">{as_json(shown)}</script>\n'
            f'<script type="module">{script}</script>'
        ),
    }
    page = (PAGE / "index.html").read_text("utf-8")
    for element, inlined in replaced.items():
        page = page.replace(element, inlined)
    return page


def _hash(text: str) -> str:
    """Return the expression of a policy that allows exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
