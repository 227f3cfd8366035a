"""A target prints and reads back as the same target, in every kind."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from xaimaps import targets
from xaimaps.errors import TargetError
from xaimaps.targets import as_spec, as_target, parse_target

LABELS = ("tench", "goldfish", "shark")

# Labels and paths that look like the grammar, beside arbitrary ones.
ODD = [
    "top-3",
    "12",
    "-1",
    "",
    " a",
    "a vs b",
    "a; b",
    "box:1",
    "(a)",
    "[1]",
    '"',
    "<f>",
    "a@b",
    "boxes:1",
    "similar:1",
    "class:1",
    "every target",
]
NAMES = st.sampled_from(ODD) | st.text(max_size=8) | st.just("tench, Tinca tinca")
CLASSES = NAMES | st.integers(-5, 10**6)
AXES = st.sampled_from([None, -1, 1])
BOXES = st.builds(
    lambda x, y, w, h, name, axis: targets.box(x, y, x + w, y + h, name, axis=axis),
    *(st.integers(0, 9),) * 2, *(st.integers(1, 9),) * 2, CLASSES, AXES,
)  # fmt: skip
LEAVES = st.one_of(
    st.builds(targets._spec.ClassSpec, CLASSES),
    st.integers(1, 9).map(targets.Top),
    st.lists(st.integers(-3, 9), max_size=3).map(lambda index: targets.output(*index)),
    st.builds(lambda m, c, a: targets.region(m or "m", c, axis=a), NAMES, CLASSES, AXES),
    BOXES,
    st.builds(lambda c, a: targets.predicted(c, axis=a), CLASSES, AXES),
    st.just(targets.EveryTarget()),
    NAMES.map(lambda path: targets.similarity(path or "x")),
    st.lists(CLASSES, max_size=3).map(lambda names: targets._spec.PerImageSpec(tuple(names))),
)
TARGETS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(targets.contrast, inner, inner)
        | st.lists(inner, min_size=1, max_size=3).map(lambda members: targets.several(*members))
    ),
    max_leaves=5,
)


@given(TARGETS)
def test_what_prints_parses_to_the_same(target):
    assert parse_target(str(target)) == target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("Egyptian cat", as_spec("Egyptian cat")),
        ("285", as_spec(285)),
        ('"285"', targets._spec.ClassSpec("285")),
        ("top3", targets.Top(3)),
        ("tench, Tinca tinca", targets._spec.ClassSpec("tench, Tinca tinca")),
        ("Egyptian cat vs tabby", targets.contrast("Egyptian cat", "tabby")),
        ("top-1 vs 3", targets.contrast(None, 3)),
        ("(a vs b) vs c", targets.contrast(targets.contrast("a", "b"), "c")),
        ("a vs b; 3", targets.several(targets.contrast("a", "b"), 3)),
        ("a;", targets.several("a")),
        ("region:mask.png@dog", targets.region("mask.png", "dog")),
        ("class:dog", targets.predicted("dog")),
        ("class:3,axis=1", targets.predicted(3, axis=1)),
        ("region:m.png@3,axis=1", targets.region("m.png", 3, axis=1)),
        ("box:0,1,8,9@dog", targets.box(0, 1, 8, 9, "dog")),
        ("output:1,-2", targets.output(1, -2)),
        ("output:", targets.output()),
        ("similarity:cat.jpg", targets.similarity("cat.jpg")),
        ("similar:cat.jpg", targets.similarity("cat.jpg")),
        ("[0, tench]", as_spec([0, "tench"])),
    ],
)
def test_the_words_of_the_grammar(text, target):
    assert parse_target(text) == target
    assert as_spec(text) == target


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a vs b vs c", r"two sides.*\(A vs B\) vs C"),
        ("regoin:mask.png@3", "'regoin'; nearest: 'region'"),
        ("region:mask.png", "class after '@'"),
        ("region:m.png@3,axis=2", "`axis` must be -1"),
        ("box:1,2,3@4", "four numbers"),
        ("box:1,2,1,4@4", "x0 < x1"),
        ("box:a,2,3,4@4", "whole numbers"),
        ("output:two", "whole numbers as in output:2"),
        ("similarity:", "must name a file"),
        ("class:", "must be named after 'class:'"),
        ("<function f>", "made in Python"),
        (r'"\q"', "escape"),
    ],
)
def test_what_is_no_target_is_told_in_one_sentence(text, message):
    with pytest.raises(TargetError, match=message) as caught:
        parse_target(text)
    assert "\n" not in str(caught.value)


def test_what_text_cannot_hold_says_so():
    by_function = targets.several(lambda outputs: outputs[:, 0], 3)
    assert "<function" in str(by_function)
    assert "Python function" in by_function.unrecorded[0]
    in_memory = targets.region(np.ones((2, 2)), 0)
    assert "save it and name the file" in in_memory.unrecorded[0]
    assert in_memory == targets.region(np.ones((2, 2)), 0)
    assert hash(in_memory) == hash(targets.region(np.ones((2, 2)), 0))
    assert in_memory != targets.region(np.eye(2), 0)
    for spec in (by_function, in_memory, as_spec(targets.Several((targets.Top(),)))):
        assert spec.unrecorded
        with pytest.raises(TargetError, match="made in Python"):
            parse_target(str(spec))
    assert not parse_target("a vs b; region:m.png@3").unrecorded


def test_each_image_has_its_own_part_of_a_target():
    target = targets.several(
        ["tench", 1], targets.region(np.stack([np.ones((2, 2)), np.eye(2)]), 0)
    )
    assert target.for_image(1) == targets.several(1, targets.region(np.eye(2), 0))
    vectors = targets.similarity([[1, 0], [0, 1]])
    assert vectors.for_image(0) == targets.similarity([1, 0])
    given = as_spec(targets.Classes(np.array([4, 2])))
    assert (str(given), given.for_image(1)) == ("[4, 2]", as_spec(2))


def test_a_mask_comes_from_a_picture_or_an_array_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mask = np.array([[0, 1, 1], [0, 0, 0]], np.uint8)
    Image.fromarray(mask * 255).save("mask.png")
    np.save("mask.npy", mask)
    outputs = np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2)
    expected = as_target(targets.region(mask, 1), 2).scores(np, outputs)
    for name in ("mask.png", "mask.npy"):
        found = as_target(f"region:{name}@goldfish", 2, LABELS).scores(np, outputs)
        np.testing.assert_allclose(found, expected)
        assert parse_target(f"region:{name}@1").files == (name,)
    with pytest.raises(TargetError, match=r"must be a NumPy array, got 'none\.npy'"):
        as_target("region:none.npy@1", 2)


def test_a_box_is_a_region(monkeypatch):
    outputs = np.arange(48, dtype=np.float32).reshape(2, 4, 3, 2)
    mask = np.zeros((4, 3))
    mask[1:3, 0:2] = 1
    expected = as_target(targets.region(mask, 1), 2).scores(np, outputs)
    np.testing.assert_allclose(as_target("box:0,1,2,3@1", 2).scores(np, outputs), expected)
    with pytest.raises(TargetError, match="inside the outputs of 3 x 4"):
        as_target("box:0,1,4,3@1", 2).scores(np, outputs)


def test_an_embedding_of_a_picture_needs_its_model():
    with pytest.raises(TargetError, match="must be computed by a model"):
        as_target("similarity:cat.jpg", 1)


@pytest.mark.parametrize("label", ["box:1", "region:a", "top-3", "285", "<f>", "A vs B", "a; b"])
def test_a_label_that_looks_like_another_target(label):
    target = parse_target(json.dumps(label))
    assert target.name == label
    assert parse_target(str(target)) == target
