"""`Rules`: which rule an operation of each kind has."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xaimaps.errors import UnsupportedModelError
from xaimaps.graph import Graph, Operation
from xaimaps.propagation._change import Change, Rule
from xaimaps.propagation._elementwise import Keep, Pass, Weighted
from xaimaps.propagation._groups import LINEAR, Groups

OPAQUE = frozenset({"attention", "recurrent", "control", "other"})
"""Kinds that have no rule, because they do several things at once."""


@dataclass(frozen=True)
class Rules:
    """A rule for each kind of operation; an operation without one keeps its derivative.

    Attributes:
        rectifier: for rectifiers.
        conv: for convolutions.
        dense: for all other layers with weights.
        first: for the layers with weights that read the images; their rule returns R.
        function: for every other function of single elements.
        product: for products of two values that depend on the images.
        divides: whether a value by which others are divided counts as a constant, as the standard
            deviation of a normalisation does.
        weighs: whether the weights of attention, which a softmax makes, count as constants.
        quotient: for quotients whose divisor depends on the images.
        max_pool: for max pooling.
        compares: whether the rules compare two batches, as DeepLIFT does. The images are then a
            batch and, behind it, one reference for each image. Every operation is linear or has a
            rule.
        folds: whether constants that follow a layer with weights, as those of batch
            normalisation, count as its weights and bias. If not, relevance passes them unchanged;
            the first sum right after a layer is its bias.
    """

    rectifier: Rule | None = None
    conv: Rule | None = None
    dense: Rule | None = None
    first: Rule | None = None
    function: Rule | None = None
    product: Rule | None = None
    divides: bool = False
    weighs: bool = False
    quotient: Rule | None = None
    max_pool: Rule | None = None
    compares: bool = False
    folds: bool = True

    def changes(self, graph: Graph) -> tuple[Change, ...]:
        """Return the operations of a network whose derivatives the rules replace.

        Raises:
            UnsupportedModelError: an operation on the way has no rule.
        """
        groups = Groups(graph)
        found = {change.result: change for change in self._found(groups)}
        inner = {value for change in found.values() for value in change.inner}
        return tuple(change for result, change in found.items() if result not in inner)

    def _found(self, groups: Groups) -> Iterator[Change]:
        for one in groups.operations:
            if self.rectifier is not None and one.kind == "relu":
                yield Change((one,), groups.data(one), self.rectifier)
        if self.function is None:
            return
        self._require_rules(groups)
        yield from self._at_products(groups)
        yield from self._at_functions(groups)
        yield from self._at_constants(groups)
        yield from self._at_layers(groups)

    def _at_layers(self, groups: Groups) -> Iterator[Change]:
        for first, *constants in groups.layers:
            (data,) = groups.data(first)
            weights = next(value for value in first.reads if value and value != data)
            bias = "".join(first.reads[2:3]) if first.adds else ""
            rule = self.conv if first.kind == "conv" else self.dense
            if self.first is not None and data in groups.front:
                rule = self.first
            own = 1 + (len(constants) if self.folds else _bias(constants))
            if rule is not None:
                yield Change((first, *constants), (data,), rule, weights, bias, own)

    def _at_constants(self, groups: Groups) -> Iterator[Change]:
        """Yield the constants that rescale the images, or that follow no layer with weights."""
        for one in groups.operations:
            if groups.is_constant(one) and one not in groups.folded and not self.compares:
                data = groups.data(one)
                is_front = data[0] in groups.front
                if is_front and self.first is not None:
                    yield Change((one,), data, Keep())
                elif is_front or (one.kind == "batch_norm" and not self.folds):
                    yield Change((one,), data, Pass())

    def _at_functions(self, groups: Groups) -> Iterator[Change]:
        for operations, root in groups.functions:
            if self.function is not None:
                yield Change(operations, (root,), self.function)

    def _at_products(self, groups: Groups) -> Iterator[Change]:
        for one in groups.operations:
            data = groups.data(one)
            if one.kind == "max_pool" and self.max_pool is not None:
                yield Change((one,), data, self.max_pool)
            elif one.kind == "quotient" and one.reads[1] in data and self.quotient is not None:
                yield Change((one,), data, self.quotient)
            elif one.kind == "norm" and self.divides:
                yield Change((one,), data, Weighted((1.0,) * len(data)))
            elif one.kind == "quotient" and one.reads[1] in data and self.divides:
                factors = tuple(float(value == one.reads[0]) for value in data)
                yield Change((one,), data, Weighted(factors))
            elif one.kind in LINEAR | {"product"} and len(data) == 2:
                yield from self._at_product(groups, one)

    def _at_product(self, groups: Groups, one: Operation) -> Iterator[Change]:
        data = groups.data(one)
        divisors = groups.divisors if self.divides else frozenset()
        constants = divisors | (groups.attention if self.weighs else frozenset())
        constant = [value in constants for value in data]
        if sum(constant) == 1:
            yield Change((one,), data, Weighted(tuple(float(not is_) for is_ in constant)))
        elif self.product is not None:
            yield Change((one,), data, self.product)

    def _require_rules(self, groups: Groups) -> None:
        for one in groups.operations:
            is_fused = one.kind in LINEAR and not one.is_linear
            is_curved = self.compares and not groups.is_known(one)
            if one.kind in OPAQUE or is_fused or is_curved:
                raise UnsupportedModelError(
                    f"there is no propagation rule for {one}; use a method of gradients, such as "
                    "integrated_gradients"
                )
            reads_images = groups.front.intersection(groups.data(one))
            is_layer = one.kind in LINEAR or groups.front.issuperset(one.makes)
            if self.first is not None and reads_images and not is_layer:
                raise UnsupportedModelError(
                    f"the rule of the first layer needs a convolution or dense layer that reads "
                    f"the images, but {one} reads them; use a composite without such a rule"
                )


def _bias(constants: Sequence[Operation]) -> int:
    """Return the number of operations up to the first sum, which is the bias, or 0."""
    kinds = [one.kind for one in constants]
    plain = list(itertools.takewhile(lambda kind: kind in ("view", "sum"), kinds))
    return plain.index("sum") + 1 if "sum" in plain else 0
