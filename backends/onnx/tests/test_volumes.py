"""ONNX files of signals and volumes, against the same network in numpy."""

import numpy as np
import pytest
from xaimaps_onnx.testing import as_onnx

import xaimaps
from xaimaps.errors import ArrayInputError, UnsupportedModelError
from xaimaps.testing import ReferenceBackend, pooled_network

pytest.importorskip("xaimaps_jax")

METHODS = {"saliency": {}, "grad_cam": {}, "cam": {}, "occlusion": {"window": 3, "stride": 3}}


@pytest.fixture(scope="module", params=[1, 3])
def rank(request):
    return request.param


@pytest.fixture(scope="module")
def arrays(rank):
    return np.random.default_rng(5).normal(size=(2, *(6,) * rank, 3)).astype(np.float32)


@pytest.fixture(scope="module", params=["first", "last"])
def loaded(request, rank):
    network = pooled_network(size=6, rank=rank)
    model = as_onnx(network, channels_last=request.param == "last")
    files = {name: xaimaps.load(model, backend=name) for name in ("jax", "onnxruntime")}
    return ReferenceBackend(network), files


def test_layers_have_their_own_axes(rank, loaded):
    for backend in loaded[1].values():
        assert backend.input_shape == (*(6,) * rank, 3)
        assert backend.default_layer().name == "relu2"
        assert backend.find_layer("relu1").shape == (None, *(4,) * rank, 6)


@pytest.mark.parametrize("method", METHODS)
def test_maps_equal_those_in_numpy(method, loaded, arrays):
    reference, files = loaded
    options = {"target": 1, **METHODS[method]}
    expected = xaimaps.attribute(reference, arrays, method, **options).maps
    for backend in files.values():
        if xaimaps.methods.METHODS[method].needs <= backend.capabilities:
            found = xaimaps.attribute(backend, arrays, method, **options).maps
            np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_layouts_of_volumes(rank):
    model = as_onnx(pooled_network(size=6, rank=rank))
    known = "NCL, NLC" if rank == 1 else "NCDHW, NDHWC"
    with pytest.raises(ArrayInputError, match=f"`layout` must be one of {known}, got 'NCHW'"):
        xaimaps.load(model, backend="onnxruntime", layout="NCHW")
    with pytest.raises(ArrayInputError, match=r"`input_size` must be .*without their channels"):
        xaimaps.load(model, backend="onnxruntime", input_size=(6, 7))


def test_other_numbers_of_axes_are_refused():
    model = as_onnx(pooled_network(size=6))
    model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 6
    model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 6
    with pytest.raises(UnsupportedModelError, match="of volumes with five or of signals with thr"):
        xaimaps.load(model, backend="onnxruntime")
