"""Random options, targets, manifests and pictures: each works, or ends in an error of ours.

`XAIMAPS_FUZZ=20000` runs as many cases, and `XAIMAPS_FUZZ_SEED` other ones; so does
`benchmarks/fuzz.py` for as long as one likes.
"""

import io
import json
import os
import random
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

import xaimaps
from xaimaps._cli.options import parse_options
from xaimaps._images.open import open_picture
from xaimaps._images.preprocess import PRESETS
from xaimaps.errors import XaimapsError
from xaimaps.methods import METHODS
from xaimaps.targets import parse_target
from xaimaps.testing import ReferenceBackend, pooled_network

COUNT = int(os.environ.get("XAIMAPS_FUZZ", "300"))
SEED = os.environ.get("XAIMAPS_FUZZ_SEED", "1")

VALUES = [
    *("", "0", "-1", "1.5", "nan", "inf", "1e999", "None", "true", "b'x'", "[]", "{}", "[[1, 0]]"),
    *("9" * 5000, "(" * 3000, "-" * 9000 + "1", "\0", "\ud800", "é" * 300, "a-b", "1j", "'cat'"),
]
TARGETS = [
    *("0", "top-2", "tabby", "0-1", "class:0", "output:1", "region:", "box:0", "text:1", "all"),
    *("probability(0)", "0 vs 1", "mean(0, 1)", '"cat"', "max(", ")", "@", ":", "-", "<x>"),
]


@pytest.fixture
def draw(request):
    return random.Random(f"{request.node.name}/{SEED}")


def mutated(draw, data):
    """Change, cut out or double a few bytes."""
    data = bytearray(data)
    for _ in range(draw.randrange(1, 5)):
        start, length = draw.randrange(len(data) or 1), draw.randrange(1, 20)
        piece = data[start : start + length]
        data[start : start + length] = draw.choice(
            [draw.randbytes(len(piece)), b"", piece * 2, draw.randbytes(1) * len(piece)]
        )
    return bytes(data)


def test_odd_options(draw):
    model, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), np.float32)
    model.info.preprocess = PRESETS["unit"]
    for _ in range(COUNT):
        method = draw.choice(list(METHODS))
        pair = f"{draw.choice([*METHODS[method].options, 'x'])}={draw.choice(VALUES)}"
        # Numbers that are only large are not tried, as the method would do what they say.
        with suppress(XaimapsError):
            xaimaps.attribute(model, images, method, target=0, **parse_options([pair]))


def test_odd_targets(draw):
    for _ in range(COUNT):
        text = draw.choice(TARGETS + VALUES) + draw.choice([" ", ", ", "-", "", ":"])
        text = mutated(draw, (text + draw.choice(TARGETS)).encode(errors="replace")).decode(
            errors="replace"
        )
        with suppress(XaimapsError):
            parse_target(text)


def test_damaged_manifests(draw, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    model = ReferenceBackend(pooled_network())
    model.info.preprocess = PRESETS["unit"]
    xaimaps.explain(model, picture, "saliency", target=0).save(tmp_path)
    (path,) = tmp_path.glob("*.json")
    whole = path.read_bytes()
    for _ in range(COUNT):
        path.write_bytes(_damaged(draw, whole))
        with suppress(XaimapsError):
            xaimaps.read(path)


def _damaged(draw, whole):
    """Damage bytes, or replace one value of the JSON object by another."""
    if draw.random() < 0.5:
        return mutated(draw, whole)
    about = json.loads(whole)
    about[draw.choice(list(about))] = draw.choice([None, 1, -1.5, "x", [], {}, [{}], {"x": []}])
    return json.dumps(about).encode()


def test_damaged_pictures(draw):
    seeds = []
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"):
        file = io.BytesIO()
        pixels = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(file, kind)
        seeds.append(file.getvalue())
    for _ in range(COUNT):
        with suppress(XaimapsError):
            open_picture(mutated(draw, draw.choice(seeds)), max_pixels=1_000_000)
