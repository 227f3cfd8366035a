"""The other inputs of a model in `explain`: those of each picture, and those explained too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xaimaps._cli.console import print_table
from xaimaps._cli.parsing import parse_pairs

if TYPE_CHECKING:
    from xaimaps.backend import Backend


@dataclass(frozen=True)
class OtherInputs:
    """The options `--each` and `--explained`.

    Attributes:
        rows: the values of inputs for each picture; empty if all pictures have the same.
        explained: the inputs to explain, apart from the picture.
        methods: the methods that the user names, for them.
        options: the options of the methods.
    """

    rows: Sequence[dict[str, Any]] = ()
    explained: Sequence[str] = ()
    methods: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parsed(
        cls,
        each: Sequence[str],
        explained: Sequence[str],
        methods: Sequence[str],
        options: Mapping[str, Any],
    ) -> OtherInputs:
        """Parse the options."""
        from xaimaps._each import rows_of

        return cls(rows_of(parse_pairs(each)) if each else (), explained, methods, options)

    def loading(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of `load`, with the values of the first picture."""
        if not self.rows:
            return dict(given)
        return {**given, "inputs": {**given.get("inputs", {}), **self.rows[0]}}

    def check(self, model: Backend, count: int) -> None:
        """Refuse names of inputs that have no value, and values that are not one for each picture.

        Args:
            model: the model.
            count: the number of pictures.
        """
        from xaimaps._each import require_as_many
        from xaimaps._swapped import require_given

        require_given(model, self.explained)
        if self.rows:
            require_as_many(self.rows, count)

    def model(self, model: Backend, index: int) -> Backend:
        """Return the model with the values of one picture."""
        from xaimaps._each import with_row

        return with_row(model, self.rows[index]) if self.rows else model


def print_vectors(methods: Sequence[Mapping[str, Any]]) -> None:
    """Print the numbers of an explained vector, with what each method attributes to them."""
    if methods[0]["vector"] is None:
        return
    columns = [column for one in methods for column in one["vector"]["attributions"]]
    names = [f"{one['method']}: {aim['target']}" for one in methods for aim in one["targets"]]
    rows = zip(methods[0]["vector"]["values"], *columns, strict=True)
    print_table(
        "",
        ("number", "value", *names),
        [(str(index), *(f"{number:.4g}" for number in row)) for index, row in enumerate(rows)],
    )
