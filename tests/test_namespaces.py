"""The methods use nothing but what every array namespace has."""

import ast
import operator
import re
from dataclasses import dataclass
from pathlib import Path

import array_api_strict
import numpy as np
import pytest

import xaimaps
from xaimaps._attribute import attribute
from xaimaps._images.preprocess import PRESETS
from xaimaps.backend import INPUT, Classifier, Cut, Gradients
from xaimaps.targets import several
from xaimaps.testing import REFERENCE_METHODS, ReferenceBackend, pooled_network

ROOT = Path(xaimaps.__file__).parent


def convert(to, value):
    """Turn every array inside of tuples and dictionaries."""
    if isinstance(value, dict):
        return {key: convert(to, one) for key, one in value.items()}
    if isinstance(value, Gradients | Classifier):
        return type(value)(*(convert(to, one) for one in value))
    if isinstance(value, tuple | list):
        return type(value)(convert(to, one) for one in value)
    return to(value) if hasattr(value, "shape") else value


class StrictBackend(ReferenceBackend):
    """The reference, on arrays that do what the Array API standard says and nothing else."""

    xp = array_api_strict

    def asarray(self, array):
        return array_api_strict.asarray(array)

    def classifier(self):
        return convert(self.asarray, super().classifier())

    def forward_with_activations(self, images, layers, rules=None):
        found = super().forward_with_activations(np.asarray(images), layers, rules)
        return convert(self.asarray, found)

    def cut(self, images, layer=INPUT, rules=None):
        cut = ReferenceBackend(self.chain).cut(np.asarray(images), layer, rules)

        def forward(point):
            return self.asarray(cut.forward(np.asarray(point)))

        return StrictCut(self, layer, self.asarray(cut.value), forward, cut)

    def differentiate(self, fn, point):
        def plain(point):
            return convert(np.asarray, fn(self.asarray(point)))

        return convert(self.asarray, super().differentiate(plain, np.asarray(point)))

    def biases(self, images, target):
        values = ReferenceBackend(self.chain).biases(np.asarray(images), plain(target))
        return convert(self.asarray, values)

    def _scan(self, step, carry, xs):
        count = (xs[0] if isinstance(xs, tuple) else xs).shape[0]
        ys = []
        for i in range(count):
            carry, y = step(carry, convert(lambda x, i=i: x[i, ...], xs))
            ys.append(y)
        if isinstance(ys[0], tuple):
            return carry, tuple(array_api_strict.stack(part) for part in zip(*ys, strict=True))
        return carry, None if ys[0] is None else array_api_strict.stack(ys)


@dataclass(frozen=True)
class StrictCut(Cut):
    """A cut of the reference, on such arrays."""

    own: Cut

    def pull(self, activations, target):
        found = self.own.pull(np.asarray(activations), plain(target))
        return convert(self.backend.asarray, found)


def plain(target):
    return target.with_arrays(tuple(map(np.asarray, target.arrays)))


@pytest.mark.parametrize("name", REFERENCE_METHODS)
@pytest.mark.parametrize("target", [None, [0, 1, 2], several(1, None)], ids=repr)
def test_methods_run_on_strict_arrays(images, name, target):
    maps = []
    for kind in (StrictBackend, ReferenceBackend):
        backend = kind(pooled_network())
        backend.info.preprocess = PRESETS["unit"]
        maps.append(attribute(backend, images[:3], name, target=target).maps)
    np.testing.assert_allclose(*maps, rtol=1e-5, atol=1e-6)


def names_of_the_namespace(path):
    """Each `xp.name` or `xp.part.name` that a file writes."""
    chains = (ast.unparse(n) for n in ast.walk(ast.parse(path.read_text())) if is_chain(n))
    yield from (name for chain in chains for name in re.findall(r"^(?:\w+\.)?xp\.([\w.]+)$", chain))


def is_chain(node):
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


@pytest.mark.parametrize(
    "path",
    [path for name in ("methods", "targets") for path in sorted((ROOT / name).glob("*.py"))],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
@pytest.mark.parametrize("xp", [np, array_api_strict, pytest.importorskip("jax.numpy")])
def test_every_namespace_has_the_names(path, xp):
    for name in names_of_the_namespace(path):
        assert operator.attrgetter(name)(xp) is not None


def test_the_names_are_found():
    paths = (ROOT / "targets").glob("*.py")
    found = {name for path in paths for name in names_of_the_namespace(path)}
    assert {"sum", "where", "zeros_like"} <= found
