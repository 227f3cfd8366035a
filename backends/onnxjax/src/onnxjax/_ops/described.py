"""Traits of operators that have no rule here.

Some of them run by the function body that ONNX defines for them. `load` refuses the others, but
other programs can run them and can read their graphs by these traits.
"""

from __future__ import annotations

from onnxjax.registry import describe

MICROSOFT = "com.microsoft"

describe("Attention", "LinearAttention", kind="attention")
describe("FlexAttention", domain="ai.onnx.preview", kind="attention")
describe("CausalConvWithState", kind="conv")
describe("DynamicQuantizeLSTM", domain=MICROSOFT, kind="recurrent")
describe("RotaryEmbedding", kind="arithmetic")
describe("SwiGLU", kind="activation")
describe("SequenceMap", kind="control")
describe("BitCast", kind="view", differentiable=False)
describe(
    *("Bernoulli", "Multinomial"),
    *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
    kind="random",
    differentiable=False,
)

describe(
    *("Attention", "MultiHeadAttention", "GroupQueryAttention", "PackedAttention"),
    *("PackedMultiHeadAttention", "QAttention"),
    domain=MICROSOFT,
    kind="attention",
)
describe("NhwcConv", "NhwcFusedConv", domain=MICROSOFT, kind="conv")
describe("MatMulNBits", "MatMulBnb4", "MatMulInteger16", domain=MICROSOFT, kind="matmul")
describe("QLinearReduceMean", domain=MICROSOFT, kind="reduce")
describe("GroupNorm", "SkipGroupNorm", domain=MICROSOFT, kind="norm")
describe("RotaryEmbedding", domain=MICROSOFT, kind="arithmetic")
describe("BiasAdd", domain=MICROSOFT, kind="sum")
describe("BiasSplitGelu", domain=MICROSOFT, kind="activation")
describe("BiasSoftmax", domain=MICROSOFT, kind="softmax")
