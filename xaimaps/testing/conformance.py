"""The tests that every backend must pass, as one suite that a plugin's tests inherit.

    from xaimaps.testing import BackendConformance

    class TestMine(BackendConformance):
        def make(self, network):
            return MyBackend(...)  # a native copy of the network

Every result is compared with the numpy reference. If the backend lacks a capability, its test
checks that the backend refuses it.
"""

from __future__ import annotations

import time
from typing import Any, get_args

import numpy as np
import pytest

import xaimaps
from xaimaps._images.preprocess import PRESETS
from xaimaps.backend import INPUT, Backend, Capability
from xaimaps.errors import BackendError, LayerError
from xaimaps.methods import METHODS
from xaimaps.metrics import METRICS, evaluate, measure
from xaimaps.targets import as_target, several
from xaimaps.testing.networks import (
    Dense,
    Network,
    detector_network,
    one_conv_network,
    pooled_network,
)
from xaimaps.testing.reference import REFERENCE_METHODS, ReferenceBackend

Array = np.ndarray[Any, Any]

TARGETS = [3, 0, 2]
LAYERS = ("conv1", "relu1", "conv2", "relu2")
FEW: dict[str, dict[str, Any]] = {
    "kernel_shap": {"n_samples": 60, "segments": 4},
    "lime": {"n_samples": 60, "segments": 4},
    "shapley_sampling": {"n_permutations": 3, "segments": 4},
    "owen": {"depth": 3},
    "sobol": {"n_designs": 4, "segments": 4},
    "hsic": {"n_samples": 60, "segments": 4},
    "rise": {"n_masks": 40, "memory": 0.1},
    "smoothgrad": {"n_samples": 7, "memory": 0.1, "base": "input_x_gradient"},
    "smoothgrad_squared": {"n_samples": 7},
    "vargrad": {"n_samples": 7, "memory": 0.1},
    "integrated_gradients": {"baseline": "noise", "n_baselines": 2, "n_steps": 7, "memory": 0.1},
    "blur_ig": {"n_steps": 7, "max_sigma": 3, "memory": 0.1},
    "expected_gradients": {"n_samples": 7, "memory": 0.1},
    "guided_ig": {"n_steps": 5},
    "smooth_grad_cam_plusplus": {"n_samples": 3},
    "ss_cam": {"n_samples": 3},
    "is_cam": {"n_steps": 3, "memory": 0.1},
    "opti_cam": {"n_steps": 5},
    "dff": {"n_steps": 20},
    "score_cam": {"channels": 4, "memory": 0.01},
    "sess": {"base": "score_cam", "n_scales": 3, "memory": 0.1},
    "ablation_cam": {"layer": "relu1", "memory": 0.01},
}
"""Options that make a method quick; the reference runs with the same options.

A small memory lets a method run in several chunks.
"""


of_targets = pytest.mark.parametrize(
    "target", [TARGETS, several(4, TARGETS)], ids=["one", "several"]
)


def close(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Compare with a tolerance relative to the largest value."""
    size = max(float(np.abs(expected).max(initial=0)), 1e-9)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * size)


class BackendConformance:
    """The conformance tests; a subclass defines how its backend loads a network."""

    def make(self, network: Network) -> Backend:
        """Load a native copy of the network, with the same layer names."""
        raise NotImplementedError("a conformance test makes the backend under test")

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls) -> Backend:
        """Return the backend under test with a network of convolutions and pooling."""
        made = cls().make(pooled_network(channels=8))
        made.info.preprocess = PRESETS["unit"]
        return made

    @pytest.fixture(scope="class")
    @classmethod
    def reference(cls) -> ReferenceBackend:
        """Return the same network in numpy."""
        made = ReferenceBackend(pooled_network(channels=8))
        made.info.preprocess = PRESETS["unit"]
        return made

    @pytest.fixture(scope="class")
    @classmethod
    def images(cls) -> Array:
        """Return three random images."""
        return np.random.default_rng(1).normal(size=(3, 9, 9, 3)).astype(np.float32)

    # Its name, capabilities and layers

    def test_it_has_a_name_and_known_capabilities(self, backend: Backend) -> None:
        assert backend.name
        assert {"forward", "activations"} <= backend.capabilities <= set(get_args(Capability))
        assert all(isinstance(text, str) for text in backend.versions().values())

    def test_it_accepts_no_foreign_model(self, backend: Backend) -> None:
        assert not backend.accepts(object())
        assert not backend.accepts("no-such-model.xyz")

    def test_its_layers_are_those_of_the_network(
        self, backend: Backend, reference: ReferenceBackend
    ) -> None:
        shapes = {layer.name: layer.shape for layer in backend.layers()}
        for layer in reference.layers():
            if layer.is_spatial:
                assert shapes[layer.name] == layer.shape
        assert list(shapes) == sorted(shapes, key=list(shapes).index)
        assert backend.default_layer().name == reference.default_layer().name
        assert backend.input_shape == reference.input_shape

    def test_an_unknown_layer_is_refused_with_the_nearest(self, backend: Backend) -> None:
        with pytest.raises(LayerError, match=r"got 'relu3'; nearest: 'relu[12]"):
            backend.find_layer("relu3")

    # Its arrays

    def test_arrays_come_back_as_they_went(self, backend: Backend, images: Array) -> None:
        back = backend.to_numpy(backend.asarray(images))
        np.testing.assert_array_equal(back, images)
        assert (back.dtype, type(back)) == (np.float32, np.ndarray)

    def test_outputs(self, backend: Backend, reference: ReferenceBackend, images: Array) -> None:
        compiled = backend.compile(lambda b, x: b.forward(x), backend.asarray(images))
        found = backend.to_numpy(compiled(backend.asarray(images)))
        assert found.dtype == np.float32
        close(found, reference.forward(images))
        close(backend.to_numpy(backend.forward(backend.asarray(images))), found)

    def test_activations(
        self, backend: Backend, reference: ReferenceBackend, images: Array
    ) -> None:
        def program(b: Backend, x: Any) -> Any:
            outputs, kept = b.forward_with_activations(x, LAYERS)
            return outputs, [kept[name] for name in LAYERS]

        outputs, kept = backend.compile(program, backend.asarray(images))(backend.asarray(images))
        expected, values = reference.forward_with_activations(images, LAYERS)
        close(backend.to_numpy(outputs), expected)
        for name, value in zip(LAYERS, kept, strict=True):
            close(backend.to_numpy(value), values[name])

    def test_a_scan_folds_and_stacks(self, backend: Backend) -> None:
        def program(b: Backend, xs: Any) -> Any:
            def step(carry: Any, x: Any) -> Any:
                total, count = carry
                return (total + x, count + 1.0), (total * 1.0, b.xp.sum(x))

            return b.scan(step, (b.xp.zeros_like(xs[0]), b.xp.zeros_like(xs[0, 0])), xs)

        xs = np.arange(12, dtype=np.float32).reshape(4, 3)
        native = backend.asarray(xs)
        (total, count), (before, sums) = backend.compile(program, native)(native)
        close(backend.to_numpy(total), xs.sum(0))
        assert float(backend.to_numpy(count)) == 4
        close(backend.to_numpy(before), np.cumsum(xs, axis=0) - xs)
        close(backend.to_numpy(sums), xs.sum(1))

    @pytest.mark.parametrize("value", [2.0, -2.0])
    def test_a_condition_chooses_when_the_program_runs(
        self, backend: Backend, value: float
    ) -> None:
        def program(b: Backend, xs: Any) -> Any:
            return b.cond(b.xp.sum(xs) > 0, lambda x: x * 3.0, xs, b.xp.zeros_like(xs))

        native = backend.asarray(np.full(3, value, np.float32))
        found = backend.compile(program, native)(native)
        close(backend.to_numpy(found), np.full(3, max(value * 3, 0), np.float32))

    def test_long_loops_tell_of_their_steps(
        self, backend: Backend, reference: ReferenceBackend, images: Array
    ) -> None:
        told: list[tuple[int, int]] = []
        options: dict[str, Any] = {"target": TARGETS[:1], "n_masks": 40, "memory": 1e-6}
        with backend.watch.by(lambda done, count: told.append((done, count))):
            found = xaimaps.attribute(backend, images[:1], "rise", **options)
            deadline = time.monotonic() + 10
            while told.count((40, 40)) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)  # a framework may call Python after the program has returned
        assert told == 2 * [(i + 1, 40) for i in range(40)]  # one loop for scores, one for the map
        close(found.maps, xaimaps.attribute(reference, images[:1], "rise", **options).maps, 1e-4)

    # Optional capabilities

    @pytest.mark.parametrize("layer", [INPUT, *LAYERS, "pool"])
    @of_targets
    def test_gradients(
        self,
        backend: Backend,
        reference: ReferenceBackend,
        images: Array,
        layer: str,
        target: Any,
    ) -> None:
        goal = as_target(target, 3)
        if self.lacks(backend, "grad", lambda: backend.grad(images, goal, wrt=layer)):
            return
        compiled = backend.compile(
            lambda b, x: tuple(b.grad(x, goal, wrt=layer)), backend.asarray(images)
        )
        found = compiled(backend.asarray(images))
        expected = reference.grad(images, goal, wrt=layer)
        for ours, theirs in zip(found, expected, strict=True):
            close(backend.to_numpy(ours).reshape(theirs.shape), theirs)

    @pytest.mark.parametrize("layer", LAYERS)
    def test_the_network_behind_a_layer(
        self, backend: Backend, reference: ReferenceBackend, images: Array, layer: str
    ) -> None:
        if self.lacks(backend, "split", lambda: backend.cut(images, layer)):
            return

        def program(b: Backend, x: Any) -> Any:
            cut = b.cut(x, layer)
            variants = b.xp.stack([cut.value, 2 * cut.value])
            return cut.value, cut.forward(cut.value), cut.forward(variants)

        found = backend.compile(program, backend.asarray(images))(backend.asarray(images))
        for ours, theirs in zip(found, program(reference, images), strict=True):
            close(backend.to_numpy(ours), theirs)

    @pytest.mark.parametrize("layer", [INPUT, *LAYERS])
    @of_targets
    def test_gradients_at_other_activations(
        self,
        backend: Backend,
        reference: ReferenceBackend,
        images: Array,
        layer: str,
        target: Any,
    ) -> None:
        goal = as_target(target, 3)
        if self.lacks(backend, "grad", lambda: backend.cut(images).pull(images, goal)):
            return
        if layer != INPUT and self.lacks(backend, "split", lambda: backend.cut(images, layer)):
            return

        def program(b: Backend, x: Any) -> Any:
            cut = b.cut(x, layer)
            return tuple(cut.pull(0.5 * cut.value + 0.25, goal))

        found = backend.compile(program, backend.asarray(images))(backend.asarray(images))
        for ours, theirs in zip(found, program(reference, images), strict=True):
            close(backend.to_numpy(ours).reshape(theirs.shape), theirs)

    def test_derivatives_of_any_function(self, backend: Backend, images: Array) -> None:
        """The derivatives of x^3 by hand: 3 x^2, and 6 x in the direction 0.5 x."""
        if self.lacks(backend, "grad", lambda: backend.differentiate(lambda x: (x, x), images)):
            return

        def program(b: Backend, x: Any) -> Any:
            def cubes(x: Any) -> Any:
                return b.xp.sum(x * x * x, axis=(1, 2, 3)), 2 * x

            def along(y: Any) -> Any:
                found = b.differentiate(cubes, y)
                return b.xp.sum(found.gradients * (0.5 * x), axis=(1, 2, 3)), found.outputs

            first, second = b.differentiate(cubes, x), b.differentiate(along, x)
            return first.scores, first.outputs, first.gradients, second.gradients

        native = backend.asarray(images)
        found = [backend.to_numpy(a) for a in backend.compile(program, native)(native)]
        cubes = (images**3).sum(axis=(1, 2, 3))
        for ours, expected in zip(
            found, (cubes, 2 * images, 3 * images**2, 3 * images**2), strict=True
        ):
            close(ours, expected, 1e-4)

    def test_the_pooling_head(self, backend: Backend, reference: ReferenceBackend) -> None:
        if self.lacks(backend, "classifier", backend.classifier):
            return
        found, expected = backend.classifier(), reference.classifier()
        assert found.layer == expected.layer
        close(backend.to_numpy(found.weights), expected.weights)

    @pytest.mark.parametrize("method", REFERENCE_METHODS)
    def test_every_method(
        self, backend: Backend, reference: ReferenceBackend, images: Array, method: str
    ) -> None:
        options = {"target": several(4, TARGETS), **FEW.get(method, {})}
        if not METHODS[method].needs <= backend.capabilities:
            with pytest.raises(BackendError, match=f"'{method}' needs a backend that can"):
                xaimaps.attribute(backend, images, method, **options)
            return
        found = xaimaps.attribute(backend, images, method, **options)
        expected = xaimaps.attribute(reference, images, method, **options)
        # Which of two nearly equal gradients is smaller decides guided_ig's path.
        close(found.maps, expected.maps, 0.02 if method == "guided_ig" else 1e-4)
        close(found.scores, expected.scores)
        assert found.details.keys() == expected.details.keys()
        for key, value in found.details.items():
            np.testing.assert_allclose(value, expected.details[key], atol=2e-3)
        assert found.layer == expected.layer
        assert found.maps.dtype == np.float32

    def test_a_box_of_a_detector(self) -> None:
        network = detector_network()
        backend, reference = self.make(network), ReferenceBackend(network)
        image = np.random.default_rng(2).normal(size=(1, 9, 9, 3)).astype(np.float32)
        options: dict[str, Any] = {"target": "box:1", "n_masks": 40, "memory": 0.01}
        found, expected = (
            xaimaps.attribute(one, image, "d_rise", **options) for one in (backend, reference)
        )
        close(found.maps, expected.maps, 1e-4)

    def test_regions(self, backend: Backend, reference: ReferenceBackend, images: Array) -> None:
        options: dict[str, Any] = {"target": several(4, TARGETS), "segments": 3}
        if self.lacks(
            backend, "grad", lambda: xaimaps.attribute(backend, images, "xrai", **options)
        ):
            options["base"] = "occlusion"
        found, expected = (
            xaimaps.attribute(one, images, "xrai", **options) for one in (backend, reference)
        )
        close(found.maps, expected.maps, 1e-4)

    def test_a_mask_of_an_area(
        self, backend: Backend, reference: ReferenceBackend, images: Array
    ) -> None:
        options: dict[str, Any] = {"target": several(4, TARGETS), "n_steps": 4}
        name = "extremal_perturbation"
        if self.lacks(backend, "grad", lambda: xaimaps.attribute(backend, images, name)):
            return
        found, expected = (
            xaimaps.attribute(one, images, name, **options) for one in (backend, reference)
        )
        close(found.maps, expected.maps, 1e-4)
        close(found.details["masked_scores"], expected.details["masked_scores"], 1e-4)

    def test_other_weights(
        self, backend: Backend, reference: ReferenceBackend, images: Array
    ) -> None:
        """Zeros in a convolution without its bias leave the outputs of the bias alone."""
        if self.lacks(backend, "weights", backend.replica):
            return
        replica, native = backend.replica(), backend.asarray(images)

        def outputs(one: Backend) -> Array:
            run = one.compiled("outputs", lambda b, x: b.forward(x), native)
            return one.to_numpy(run(native))

        before = outputs(backend)
        close(outputs(replica.backend), before)
        largest = [max(one.size for one in own.values()) for own in replica.layers.values()]
        assert largest == [27 * 8, 72 * 8, 8 * 5]
        last = list(replica.layers.values())[-1]
        replica.assign({name: 0 * array for name, array in last.items() if array.size == 40})
        dense = reference.chain.layers["fc"]
        assert isinstance(dense, Dense)
        close(outputs(replica.backend), np.broadcast_to(dense.bias, before.shape))
        close(outputs(backend), before)

    @pytest.mark.parametrize("name", METRICS)
    def test_every_metric(
        self, backend: Backend, reference: ReferenceBackend, images: Array, name: str
    ) -> None:
        if "weights" in METRICS[name].needs:  # random orders of values that are stored otherwise
            assert np.isfinite(self._measured(reference, images, name)).all()
            if not self.lacks(backend, "weights", lambda: self._measured(backend, images, name)):
                assert np.isfinite(self._measured(backend, images, name)).all()
            return
        found, expected = (self._measured(one, images, name) for one in (backend, reference))
        close(found, expected, 1e-3)

    @staticmethod
    def _measured(backend: Backend, images: Array, name: str) -> Array:
        """Measure maps by a metric; one that explains again does so by occlusion."""
        regions = np.zeros(images.shape[:-1], bool)
        regions[:, 2:6, 3:8] = True
        if "explanation" not in METRICS[name].needs:
            maps = np.random.default_rng(1).normal(size=images.shape[:-1])
            return measure(backend, images, maps, [name], target=TARGETS, regions=regions)[
                name
            ].values
        backend.info.preprocess = PRESETS["unit"]
        pixels = [np.clip(np.rint(image * 64 + 128), 0, 255).astype(np.uint8) for image in images]
        found = evaluate(backend, pixels, ["occlusion"], [name], target=TARGETS, window=3, stride=3)
        return found["occlusion", name].values

    def test_a_map_worked_out_by_hand(self) -> None:
        backend = self.make(one_conv_network())
        ramp = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
        _, kept = backend.forward_with_activations(backend.asarray(ramp), ("conv",))
        expected = np.array([-5, -30, 4, -21, 31, 6, 40, 15]).reshape(1, 2, 2, 2)
        np.testing.assert_allclose(backend.to_numpy(kept["conv"]), expected)
        if "grad" in backend.capabilities:
            found = xaimaps.attribute(backend, ramp, "grad_cam", target=0, layer="conv")
            np.testing.assert_allclose(found.maps, [[[11.25, 13.5], [20.25, 22.5]]], rtol=1e-6)

    @staticmethod
    def lacks(backend: Backend, capability: Any, use: Any) -> bool:
        """Return whether a capability is missing, and check that it is refused."""
        if capability in backend.capabilities:
            return False
        with pytest.raises(BackendError, match="needs a backend that can"):
            use()
        return True
