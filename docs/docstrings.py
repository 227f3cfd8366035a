"""Extensions of griffe, which reads docstrings and signatures without importing the modules."""

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


class OverLayers(griffe.Extension):
    """Adds the option that the decorator `over_layers` gives a method."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Add the parameter, before the docstring is compared with the signature."""
        if any(str(decorator.value) == "over_layers" for decorator in func.decorators):
            kind = griffe.ParameterKind.keyword_only
            option = griffe.Parameter("fuse", annotation="Fuse", kind=kind, default='"mean"')
            func.parameters.add(option)
