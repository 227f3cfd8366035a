"""Shows the examples of docstrings as code: a section of griffe is named `Examples`."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Names each section `Example` of a docstring so that griffe reads it as a session."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section, before the docstring is parsed."""
        if obj.docstring is not None:
            text = obj.docstring.value
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
