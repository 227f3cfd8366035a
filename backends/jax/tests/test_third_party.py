"""Models of third parties, as packages and repositories ship them; each test needs its own.

uv pip install transformers==4.57.6 flaxmodels jax-resnet equimo==1.1.0 jax-image-models

XAIMAPS_JAX_REPOSITORIES names a folder with checkouts of google/flax, jax-ml/bonsai,
google-research/big_vision and google-research/vision_transformer.
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import xaimaps

pytest.importorskip("flax")

IMAGES = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
KEY = jax.random.key(0)

pytestmark = pytest.mark.filterwarnings("ignore")  # of the packages


def from_repository(root, module):
    """Import a module of a checkout, from the folder that its own imports start at."""
    folder = Path(os.environ.get("XAIMAPS_JAX_REPOSITORIES", "nowhere"), root)
    if not folder.exists():
        pytest.skip(f"there is no {folder}")
    sys.path.insert(0, str(folder))
    try:
        return pytest.importorskip(module, exc_type=ImportError)
    finally:
        sys.path.remove(str(folder))


def initialised(module):
    return module, jax.jit(module.init)(KEY, IMAGES)


def hugging_face_resnet():
    library = pytest.importorskip("transformers")
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 32], "depths": [1] * 4}
    config = library.ResNetConfig(**sizes, num_labels=5, layer_type="basic")
    model = library.FlaxResNetForImageClassification(config, input_shape=(1, 64, 64, 3))
    return model.module, model.params


def hugging_face_vit():
    library = pytest.importorskip("transformers")
    heads = {"num_hidden_layers": 3, "num_attention_heads": 2, "num_labels": 5}
    sizes = {"hidden_size": 16, "intermediate_size": 32, "image_size": 64, "patch_size": 16}
    model = library.FlaxViTForImageClassification(library.ViTConfig(**heads, **sizes))
    return model.module, model.params


def flaxmodels_resnet():
    library = pytest.importorskip("flaxmodels")
    return initialised(library.ResNet18(output="logits", pretrained=None, num_classes=5))


def jax_resnet():
    return initialised(pytest.importorskip("jax_resnet").ResNet18(n_classes=5))


def equimo_vit():
    library = pytest.importorskip("equimo.models")
    sizes = {"img_size": 64, "in_channels": 3, "dim": 16, "patch_size": 16}
    return (library.VisionTransformer(**sizes, num_heads=[2], depths=[3], num_classes=5, key=KEY),)


def flax_example():
    library = from_repository("flax/examples/imagenet", "models")
    module = library.ResNet18(num_classes=5, num_filters=8)
    return module, jax.jit(lambda key: module.init(key, IMAGES, train=False))(KEY)


def bonsai_vit():
    from flax import nnx

    library = from_repository("bonsai", "bonsai.models.vit.modeling")
    sizes = {"num_channels": 3, "hidden_dim": 16, "mlp_dim": 32, "num_layers": 3, "num_labels": 5}
    others = {"attn_dropout_prob": 0.1, "dropout_prob": 0.1, "num_heads": 2, "eps": 1e-6}
    config = library.ModelConfig(image_size=(64, 64), patch_size=(16, 16), **sizes, **others)
    return (library.ViTClassificationModel(config, rngs=nnx.Rngs(0)),)


def with_a_head(variables):
    """The variables with a random head in place of one of zeros, for which every map is zero."""
    kernel = variables["params"]["head"]["kernel"]
    variables["params"]["head"]["kernel"] = jax.random.normal(KEY, kernel.shape)
    return variables


def vision_transformer(**options):
    library = from_repository("vision_transformer", "vit_jax.models_vit")
    transformer = {"num_layers": 3, "num_heads": 2, "mlp_dim": 32}
    sizes = {"num_classes": 5, "hidden_size": 16, "patches": SimpleNamespace(size=(16, 16))}
    module = library.VisionTransformer(**{**sizes, "transformer": transformer, **options})
    return module, with_a_head(jax.jit(lambda key: module.init(key, IMAGES, train=False))(KEY))


def vision_transformer_on_a_resnet():
    """The hybrid: blocks of a ResNet under the tokens."""
    stages = SimpleNamespace(num_layers=(1,), width_factor=0.5)
    return vision_transformer(resnet=stages, patches=SimpleNamespace(size=(4, 4)))


def big_vision(**options):
    library = from_repository("big_vision", "big_vision.models.vit")
    sizes = {"width": 16, "depth": 3, "mlp_dim": 32, "num_heads": 2, "head_zeroinit": False}
    return initialised(library.Model(5, patch_size=(16, 16), **sizes, **options))


def big_vision_attention_pooling():
    return big_vision(pool_type="map")


def big_vision_class_token():
    return big_vision(pool_type="tok", posemb="sincos2d")


def big_vision_scan():
    return big_vision(scan=True, dropout=0.1)


def haiku_resnet():
    hk = pytest.importorskip("haiku")

    def network(images, is_training):
        sizes = {"bottleneck": False, "channels_per_group": (8, 8, 16, 16)}
        head = {"w_init": hk.initializers.RandomNormal()}  # zeros unless it is given
        return hk.nets.ResNet((1, 1, 1, 1), 5, **sizes, logits_config=head)(images, is_training)

    transformed = hk.transform_with_state(network)
    return transformed, jax.jit(lambda key: transformed.init(key, IMAGES, True))(KEY)


@pytest.mark.parametrize(
    ("make", "default", "positions"),
    [
        (flax_example, "ResNetBlock_7", (2, 2)),
        (bonsai_vit, "layers/2/layernorm_before", (4, 4)),
        (vision_transformer, "Transformer/encoderblock_2/LayerNorm_0", (4, 4)),
        (vision_transformer_on_a_resnet, "Transformer/encoderblock_2/LayerNorm_0", (4, 4)),
        (big_vision, "Transformer", (4, 4)),
        (big_vision_attention_pooling, "Transformer", (4, 4)),
        (big_vision_class_token, "Transformer/encoderblock_2/LayerNorm_0", (4, 4)),
        (big_vision_scan, "Transformer", (4, 4)),
        (haiku_resnet, "res_net/block_group_3", (2, 2)),
        (hugging_face_resnet, "resnet/encoder", (2, 2)),
        (hugging_face_vit, "vit/encoder/layer/2/layernorm_before", (4, 4)),
        (flaxmodels_resnet, "BasicBlock_7", (2, 2)),
        (jax_resnet, "layers_9", (2, 2)),
        (equimo_vit, "norm", (4, 4)),
    ],
)
def test_the_default_layer_explains_the_score(make, default, positions):
    model = xaimaps.load(*make(), input_shape=(64, 64, 3))
    assert model.default_layer().name == default
    found = xaimaps.attribute(model, IMAGES, "grad_cam", target=1, relu=False)
    assert found.maps.shape[1:] == positions
    assert np.abs(found.maps).max() > 0


def test_each_block_of_a_scan_is_a_layer():
    model = xaimaps.load(*big_vision_scan(), input_shape=(64, 64, 3))
    names = [f"Transformer/encoderblock[{index}]" for index in range(3)]
    assert set(names) <= {layer.name for layer in model.layers()}
    maps = [xaimaps.attribute(model, IMAGES, "grad_cam", target=1, layer=name) for name in names]
    assert all(found.maps.max() > 0 for found in maps)


def test_blocks_that_are_scanned_over_in_a_mesh():
    """The tokens behind the last attention do not reach the score, so the layer is before it."""
    library = pytest.importorskip("jimm")
    nnx = pytest.importorskip("flax.nnx")
    sizes = {"img_size": 64, "patch_size": 16, "hidden_size": 16, "mlp_dim": 32}
    with jax.set_mesh(jax.make_mesh((1, 1, 1), ("batch", "model", "fsdp"))):
        network = library.VisionTransformer(
            **sizes, num_classes=5, num_layers=3, num_heads=2, rngs=nnx.Rngs(0)
        )
        model = xaimaps.load(network, input_shape=(64, 64, 3))
        assert model.default_layer().name == "encoder/layers[2]/norm1"
        found = xaimaps.attribute(model, IMAGES, "grad_cam", target=1, relu=False)
        assert np.abs(found.maps).max() > 0
