"""Targets of segmentations: predicted classes, and the axis of the classes."""

import numpy as np
import pytest
from PIL import Image

import xaimaps
from xaimaps import targets
from xaimaps.errors import TargetError
from xaimaps.parity import compare
from xaimaps.targets._scene import Scene
from xaimaps.testing import Conv, Network, ReferenceBackend, pooled_network

LABELS = ("sky", "cat", "dog", "road")
RNG = np.random.default_rng(3)


class Planar:
    """(N, h, w, C) to (N, C, h, w)."""

    def __call__(self, x):
        return np.moveaxis(x, -1, 1)

    def pull(self, x, g):
        return np.moveaxis(g, 1, -1)


class Single:
    """(N, h, w, 1) to (N, h, w)."""

    def __call__(self, x):
        return x[..., 0]

    def pull(self, x, g):
        return g[..., None]


def segmenter(size=(7, 9), classes=4, planar=True, labels=LABELS, single=False):
    kernel = RNG.normal(size=(1, 1, 3, classes)).astype(np.float32)
    layers = {"planes": Conv(kernel, np.zeros(classes, np.float32))}
    layers |= {"planar": Planar()} if planar else {}
    layers |= {"single": Single()} if single else {}
    model = ReferenceBackend(Network(layers, (*size, 3)))
    model.info.labels = labels
    return model


IMAGES = RNG.normal(size=(3, 7, 9, 3)).astype(np.float32)


@pytest.mark.parametrize("planar", [False, True])
def test_a_predicted_class_is_the_mean_over_its_positions(planar):
    model = segmenter(planar=planar)
    found = xaimaps.attribute(model, IMAGES, "input_x_gradient", target="class:cat")
    planes = model.values(IMAGES)["planes"]
    where = planes.argmax(axis=-1) == 1
    expected = [plane[mask, 1].mean() for plane, mask in zip(planes, where, strict=True)]
    np.testing.assert_allclose(found.target_scores, expected, rtol=1e-5)
    # A 1 x 1 convolution: the map is zero exactly at the other positions.
    np.testing.assert_array_equal(abs(found.maps).max(axis=0) > 0, where.any(axis=0))
    assert str(found.target) == "class:cat"
    assert found.target_name() == "class:cat"
    by_index = xaimaps.attribute(model, IMAGES, "input_x_gradient", target=targets.predicted(1))
    np.testing.assert_array_equal(found.maps, by_index.maps)


@pytest.mark.parametrize("single", [False, True])
def test_a_single_channel_is_a_mask(single):
    model = segmenter(classes=1, labels=None, planar=not single, single=single)
    planes = model.values(IMAGES)["planes"][..., 0]
    for ending, threshold in ((None, 0.5), ("sigmoid", 0)):
        model.info.ending = ending
        found = xaimaps.attribute(model, IMAGES, "saliency", target="class:0")
        expected = [plane[plane > threshold].mean() for plane in planes]
        np.testing.assert_allclose(found.target_scores, expected, rtol=1e-5)


def test_a_region_of_one_value_for_each_position():
    model = segmenter(classes=1, labels=None, planar=False, single=True)
    plane = model.values(IMAGES)["planes"][..., 0]
    mask = RNG.integers(0, 2, (7, 9))
    found = xaimaps.attribute(model, IMAGES, "saliency", target=targets.region(mask, 0))
    expected = (plane * mask).sum((1, 2)) / mask.sum()
    np.testing.assert_allclose(found.target_scores, expected, rtol=1e-5)
    with pytest.raises(TargetError, match="channel 1 needs outputs of four axes"):
        xaimaps.attribute(model, IMAGES, "saliency", target=targets.region(mask, 1))


def test_boxes_of_about_the_images_aspect_ratio_are_no_positions():
    model = segmenter(size=(5, 4), classes=1, labels=None, planar=False, single=True)
    scene = Scene(model, RNG.normal(size=(1, 5, 4, 3)).astype(np.float32))
    assert scene.is_segmentation
    scene.images = scene.images[:, :4]
    assert not scene.is_segmentation  # the size is 4 x 4, the outputs are 5 x 4


def test_a_class_that_is_nowhere_is_refused():
    images = np.stack([IMAGES[0], np.broadcast_to(IMAGES[0, :1, :1], IMAGES[0].shape)])
    model = segmenter()
    seen = int(model.values(images)["planes"][1, 0, 0].argmax())
    other = LABELS[(seen + 1) % 4]
    with pytest.raises(TargetError, match=f"'class:{other}', which no position of image"):
        xaimaps.attribute(model, images[1:], "saliency", target=f"class:{other}")


@pytest.mark.parametrize(
    ("size", "classes", "labels", "planar"),
    [
        ((7, 9), 4, None, True),
        ((7, 9), 4, None, False),
        ((9, 9), 4, None, True),
        ((9, 9), 4, None, False),
        ((4, 4), 21, None, True),
        ((4, 4), 21, None, False),
        ((4, 4), 4, None, None),
        ((9, 4), 4, LABELS, True),
        ((4, 9), 4, LABELS, None),
        ((5, 8), 4, LABELS, False),
    ],
)
def test_the_axis_of_the_classes(size, classes, labels, planar):
    for is_planar in (True, False) if planar is None else (planar,):
        model = segmenter(size, classes, is_planar, labels)
        images = RNG.normal(size=(1, *size, 3)).astype(np.float32)
        plane = model.values(images)["planes"][..., 2]
        mask = np.zeros(size)
        mask[1:3, 2:4] = 1
        for target in (targets.region(mask, 2), targets.box(2, 1, 4, 3, 2)):
            if planar is None and size[0] == size[1]:
                with pytest.raises(TargetError, match="axis 1 or -1"):
                    xaimaps.attribute(model, images, "saliency", target=target)
            else:
                found = xaimaps.attribute(model, images, "saliency", target=target)
                assert found.target_scores[0] == pytest.approx(plane[0, 1:3, 2:4].mean(), rel=1e-5)


def test_outputs_that_are_no_segmentation_are_refused(pooled, images):
    for target in ("class:tench", targets.region(np.ones((2, 2)), 0)):
        with pytest.raises(TargetError, match="four axes"):
            xaimaps.attribute(pooled, images, "saliency", target=target)


def test_a_manifest_and_parity_take_the_same_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = RNG.integers(0, 256, (7, 9, 3), np.uint8)
    Image.fromarray(pixels).save("picture.png")
    model = segmenter()
    model.info.preprocess = xaimaps.PRESETS["unit"]
    target = (
        "class:" + LABELS[int(model.values(pixels[None] / 255.0)["planes"].argmax(-1)[0, 0, 0])]
    )
    found = xaimaps.explain(model, "picture.png", "saliency", target=target, input_size=(7, 9))
    again = xaimaps.explain(model, "picture.png", "saliency", target=str(found.target))
    np.testing.assert_array_equal(found.maps, again.maps)
    report = compare({"one": model, "two": model}, "picture.png", "saliency", target=target)
    assert {row.status for row in report.rows if row.kind != "layer"} == {"agrees"}


# Masks of another size


class Halves:
    """The means of 2 x 2 positions."""

    def __call__(self, x):
        n, h, w, c = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))

    def pull(self, x, g):
        return g.repeat(2, axis=1).repeat(2, axis=2) / 4


@pytest.fixture
def coarse():
    """Inputs 8 x 12, outputs 4 x 6."""
    kernel = RNG.normal(size=(1, 1, 3, 4)).astype(np.float32)
    layers = {"planes": Conv(kernel, np.zeros(4, np.float32)), "halves": Halves()}
    model = ReferenceBackend(Network(layers, (8, 12, 3)))
    model.info.labels, model.info.preprocess = LABELS, xaimaps.PRESETS["unit"]
    return model


def blocks(mask, size):
    return mask.reshape(4, size, 6, size).mean((1, 3))


def of_mask(model, pictures, mask):
    found = xaimaps.explain(model, pictures, "saliency", target=targets.region(mask, "cat"))
    return found.target_scores


def test_a_mask_of_the_inputs_size_is_averaged(coarse):
    images = RNG.normal(size=(2, 8, 12, 3)).astype(np.float32)
    mask = RNG.random((8, 12)) > 0.6
    found, expected = (
        xaimaps.attribute(coarse, images, "saliency", target=targets.region(one, "cat"))
        for one in (mask, blocks(mask, 2))
    )
    np.testing.assert_allclose(found.target_scores, expected.target_scores, rtol=1e-5)
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-5)


def test_a_mask_of_the_pictures_size_is_cropped_as_the_picture(coarse, tmp_path):
    pixels = RNG.integers(0, 256, (16, 32, 3), np.uint8)
    mask = RNG.random((16, 32)) > 0.6
    expected = of_mask(coarse, pixels, blocks(mask[:, 4:28], 4))  # 2 to 3, as 8 to 12
    np.testing.assert_allclose(of_mask(coarse, pixels, mask), expected, rtol=1e-5)
    path = tmp_path / "mask.png"
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    found = xaimaps.explain(coarse, pixels, "saliency", target=f"region:{path}@cat")
    np.testing.assert_allclose(found.target_scores, expected, rtol=1e-5)
    assert str(found.target) == f"region:{path}@cat"  # as asked for, for manifests


def test_masks_that_do_not_fit(coarse):
    pixels = RNG.integers(0, 256, (16, 32, 3), np.uint8)
    sizes = r"outputs \(4, 6\), .* input \(8, 12\), .* \(16, 32\), got \(5, 5\)"
    with pytest.raises(TargetError, match=sizes):
        of_mask(coarse, pixels, np.ones((5, 5)))
    left = np.zeros((16, 32))
    left[:, :4] = 1
    with pytest.raises(TargetError, match="must have a part that the model sees"):
        of_mask(coarse, pixels, left)
    with pytest.raises(TargetError, match="mask"):
        of_mask(coarse, pixels, np.ones((3, 8, 12)))


def test_a_mask_for_outputs_without_positions():
    model = ReferenceBackend(pooled_network())
    images = RNG.normal(size=(1, 9, 9, 3)).astype(np.float32)
    with pytest.raises(TargetError, match="outputs"):
        xaimaps.attribute(
            model, images, "saliency", target=targets.region(np.ones((9, 9)), 0, axis=1)
        )
