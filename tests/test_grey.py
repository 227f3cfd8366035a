"""Classifiers of grey pictures from files, against PyTorch and TensorFlow.

The references are made by references/make_digits.py and references/make_emotions.py.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import xaimaps

REFERENCES = Path(__file__).parent / "references"
METHODS = {"jax": ("saliency", "grad_cam"), "tensorflow": ("saliency", "grad_cam")}


@pytest.fixture
def pictures(tmp_path):
    """Write the pictures of a reference as grey PNG files."""

    def write(pixels):
        paths = [tmp_path / f"{index}.png" for index in range(len(pixels))]
        for path, one in zip(paths, pixels, strict=True):
            Image.fromarray(one).save(path)
        return paths

    return write


def require_equal(model, name, write):
    """Compare scores, and maps where the backend has gradients."""
    expected = np.load(REFERENCES / f"{name}.npz")
    paths = write(expected["pictures"])
    for method in METHODS.get(model.name, ("occlusion",)):
        found = xaimaps.explain(model, paths, method)
        np.testing.assert_allclose(found.scores, expected["scores"], rtol=1e-5, atol=1e-5)
        if method in expected:
            largest = expected[method].max((1, 2), keepdims=True)
            apart = np.abs(found.maps - expected[method]) / largest
            assert apart.max() < 2e-5, (method, apart.max((1, 2)))


@pytest.mark.parametrize("backend", ["jax", "onnxruntime"])
def test_digits_of_mnist(backend, pictures):
    pytest.importorskip(f"xaimaps_{'onnx' if backend == 'onnxruntime' else backend}")
    model = xaimaps.load(REFERENCES / "digits.onnx", backend=backend, preprocess="unit")
    require_equal(model, "digits", pictures)


def test_a_public_model_of_emotions(pictures):
    pytest.importorskip("tensorflow")
    require_equal(xaimaps.load(REFERENCES / "emotions.hdf5", preprocess="tf"), "emotions", pictures)


@pytest.mark.parametrize("backend", ["jax", "onnxruntime"])
def test_the_model_of_emotions_converted(backend, pictures):
    pytest.importorskip("tf2onnx")
    from xaimaps_tensorflow import convert

    file = convert(REFERENCES / "emotions.hdf5")
    require_equal(xaimaps.load(file, backend=backend, preprocess="tf"), "emotions", pictures)
