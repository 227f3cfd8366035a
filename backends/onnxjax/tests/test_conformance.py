"""ONNX's own backend tests, as far as vision models go: every case by name, no silent skips."""

import warnings
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnxjax import run

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")

XFAIL: dict[str, str] = {}
"""Cases that are in scope and fail, with the reason; one that passes must leave the table."""

TYPES = {
    getattr(TensorProto, name)
    for name in (
        *("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "BOOL", "INT8", "INT16", "INT32", "INT64"),
        *("UINT8", "UINT16", "UINT32", "UINT64"),
    )
}
"""The types that a tensor of a vision model has: no strings, nothing below eight bits."""

OUT_OF_SCOPE = {
    *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"),
    *("RandomUniformLike", "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"),  # training
    *("ReverseSequence", "FlexAttention", "LinearAttention"),  # language
    *("CausalConvWithState", "RotaryEmbedding", "TensorScatter", "TfIdfVectorizer"),
    *("DFT", "STFT", "MelWeightMatrix", "BlackmanWindow", "HammingWindow", "HannWindow"),  # audio
    *("ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement"),  # no tensors
    *("SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert"),
    *("SequenceLength", "SequenceMap", "SplitToSequence", "ImageDecoder", "RegexFullMatch"),
    *("StringConcat", "StringNormalizer", "StringSplit"),
    *("NonMaxSuppression", "BitCast"),
}
"""Operators that no image classifier has; the bodies of these are left out as well."""


def cases():
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # some cases are about overflow
        for kind in KINDS:
            operator = ""
            for case in load_model_tests(kind=kind):
                model = case.model or onnx.load(Path(case.model_dir) / "model.onnx")
                if "_expanded" not in case.name:  # an expanded case follows the one that it expands
                    operator = model.graph.node[0].op_type
                if in_scope(case.name, operator, model.graph):
                    reason = XFAIL.get(case.name)
                    marks = [pytest.mark.xfail(reason=reason)] if reason else []
                    yield pytest.param(case, model, id=case.name, marks=marks)


def in_scope(name, operator, graph):
    values = [*graph.input, *graph.output]
    operators = {operator, *(node.op_type for node in graph.node)}
    return (
        all(node.domain in ("", "ai.onnx") for node in graph.node)
        and all(value.type.tensor_type.elem_type in TYPES for value in values)
        and "training" not in name
        and not operators & OUT_OF_SCOPE
    )


def data_sets(case):
    if case.data_sets is not None:
        return case.data_sets
    folders = sorted(Path(case.model_dir).glob("test_data_set_*"))
    return [(read(folder, "input"), read(folder, "output")) for folder in folders]


def read(folder, what):
    count = len(list(folder.glob(f"{what}_*.pb")))
    return [onnx.load_tensor(folder / f"{what}_{i}.pb") for i in range(count)]


def array(value):
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


CASES = list(cases())


def test_the_scope_has_not_shrunk():
    assert len(CASES) >= 1478
    assert XFAIL.keys() <= {case.id for case in CASES}


@pytest.mark.parametrize(("case", "model"), CASES)
def test_case(case, model):
    for inputs, expected in data_sets(case):
        with jax.enable_x64(True):
            results = run(model, [array(value) for value in inputs])
        assert len(results) == len(expected)
        for result, want in zip(results, map(array, expected), strict=True):
            assert result.dtype == want.dtype
            assert result.shape == want.shape
            rtol = case.rtol
            if want.dtype in (np.float16, ml_dtypes.bfloat16):
                rtol = max(rtol, 2**-6) if want.dtype == ml_dtypes.bfloat16 else rtol
                result, want = result.astype(np.float64), want.astype(np.float64)
            np.testing.assert_allclose(result, want, rtol=rtol, atol=case.atol)
