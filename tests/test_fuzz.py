"""Random options, targets, manifests and pictures: each works, or ends in an error of ours.

They begin with the corpus, of sound cases and of every one that was once a find, and go on with
changes to it.

`XAIMAPS_FUZZ=20000` runs as many cases, and `XAIMAPS_FUZZ_SEED` other ones; so does
`benchmarks/fuzz.py` for as long as one likes.
"""

import itertools
import json
import os
import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import xaimaps
from xaimaps._cli.parsing import parse_options
from xaimaps._images.open import open_picture
from xaimaps._images.preprocess import PRESETS
from xaimaps._labels import read_labels
from xaimaps.errors import InputImageError, ModelLoadError, XaimapsError
from xaimaps.methods import METHODS
from xaimaps.metrics._regions import _coco
from xaimaps.targets import parse_target
from xaimaps.testing import ReferenceBackend, pooled_network

COUNT = int(os.environ.get("XAIMAPS_FUZZ", "300"))
CORPUS = Path(__file__).parent / "corpus"
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


def kept(name):
    """The lines of a file of the corpus."""
    return (CORPUS / name).read_text().splitlines()


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


@pytest.mark.fault("R10", "R11")
def test_odd_options(draw):
    model, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), np.float32)
    model.info.preprocess = PRESETS["unit"]
    known = [line.split(" ", 1) for line in kept("options.txt")]
    values = VALUES + [pair.partition("=")[2] for _, pair in known]
    for method, pair in itertools.chain(known, (odd(draw, values) for _ in range(COUNT))):
        # Numbers that are only large are not tried, as the method would do what they say.
        with suppress(XaimapsError):
            xaimaps.attribute(model, images, method, target=0, **parse_options([pair]))


def odd(draw, values):
    method = draw.choice(list(METHODS))
    return method, f"{draw.choice([*METHODS[method].options, 'x'])}={draw.choice(values)}"


def test_odd_targets(draw):
    known = kept("targets.txt")
    for text in known:
        with suppress(XaimapsError):
            parse_target(text)
    for _ in range(COUNT):
        text = draw.choice(TARGETS + VALUES + known) + draw.choice([" ", ", ", "-", "", ":"])
        text = mutated(draw, (text + draw.choice(TARGETS)).encode(errors="replace")).decode(
            errors="replace"
        )
        with suppress(XaimapsError):
            parse_target(text)


@pytest.mark.fault("F15")
def test_damaged_manifests(draw, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    model = ReferenceBackend(pooled_network())
    model.info.preprocess = PRESETS["unit"]
    xaimaps.explain(model, picture, "saliency", target=0).save(tmp_path)
    (path,) = tmp_path.glob("*.json")
    whole = path.read_bytes()
    known = [file.read_bytes() for file in sorted((CORPUS / "manifests").iterdir())]
    for data in itertools.chain(known, (_damaged(draw, whole) for _ in range(COUNT))):
        path.write_bytes(data)
        with suppress(XaimapsError):
            xaimaps.read(path)


def test_deeply_nested_labels_and_regions_are_refused(tmp_path):
    path = tmp_path / "deep.json"
    path.write_text("[" * 10**5)
    with pytest.raises(ModelLoadError, match="`labels` must be"):
        read_labels(path)
    with pytest.raises(InputImageError, match="regions must be"):
        _coco(path)


def _damaged(draw, whole):
    """Damage bytes, or replace one value of the JSON object by another."""
    if draw.random() < 0.5:
        return mutated(draw, whole)
    about = json.loads(whole)
    about[draw.choice(list(about))] = draw.choice([None, 1, -1.5, "x", [], {}, [{}], {"x": []}])
    return json.dumps(about).encode()


def test_damaged_pictures(draw):
    files = sorted((CORPUS / "pictures").iterdir())
    seeds = [file.read_bytes() for file in files]
    for data in itertools.chain(seeds, (mutated(draw, draw.choice(seeds)) for _ in range(COUNT))):
        with suppress(XaimapsError):
            open_picture(data, max_pixels=1_000_000)


def test_the_sound_pictures_of_the_corpus_are_read():
    sound = sorted((CORPUS / "pictures").glob("sound.*"))
    assert [open_picture(file).size for file in sound] == [(16, 16)] * 6


def test_the_corpus_is_small():
    assert sum(file.stat().st_size for file in CORPUS.rglob("*.*")) < 200_000
