"""One suite over all of our own backends; no expectation is about one of them."""

import pytest
from xaimaps_onnx.testing import as_onnx

import xaimaps
from xaimaps.testing import BackendConformance, ReferenceBackend


class TestReference(BackendConformance):
    def make(self, network):
        return ReferenceBackend(network)


class TestJax(BackendConformance):
    def make(self, network):
        return xaimaps.load(as_onnx(network), backend="jax")


class TestJaxChannelsLast(BackendConformance):
    def make(self, network):
        return xaimaps.load(as_onnx(network, channels_last=True), backend="jax")


class TestJaxWithOnnxRuntime(BackendConformance):
    def make(self, network):
        return xaimaps.load(as_onnx(network), backend="jax", forward="onnxruntime")


class TestOnnxRuntime(BackendConformance):
    def make(self, network):
        return xaimaps.load(as_onnx(network), backend="onnxruntime")


class TestTensorFlow(BackendConformance):
    def make(self, network):
        pytest.importorskip("tensorflow")
        from xaimaps_tensorflow.testing.copies import as_keras

        return xaimaps.load(as_keras(network), backend="tensorflow")
