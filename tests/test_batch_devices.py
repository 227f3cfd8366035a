"""Batches on several devices: eight virtual ones of XLA, in a process of their own."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("jax")

SCRIPT = """
import json, os
import numpy as np
import jax.numpy as jnp
from PIL import Image
import xaimaps
from xaimaps import batch
from xaimaps.errors import BackendError

draw = np.random.default_rng(0)
kernel, dense = (jnp.asarray(draw.normal(size=s), "f4") for s in ((3, 3, 3, 8), (8, 5)))

def network(params, images):
    from jax import lax, nn
    kernel, dense = params
    dimensions = ("NHWC", "HWIO", "NHWC")
    found = lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=dimensions)
    found = nn.relu(found)
    return found.mean((1, 2)) @ dense

model = xaimaps.load(network, params=(kernel, dense), input_shape=(12, 12, 3), preprocess="unit")
os.mkdir("in")
for seed in range(11):
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(pixels).save(f"in/{seed:02}.png")

methods = ["saliency", "grad_cam", "rise"]
found = {}
for devices in (1, 3, None):
    settings = batch.Settings(batch_size=2, chunk_size=8, devices=devices)
    batch.run(model, "in", f"out{devices}", methods, target=1, settings=settings, n_masks=20)
    found[devices] = batch.read(f"out{devices}").to_table().to_pylist()

def largest(one, other):
    assert [r["method"] for r in one] == [r["method"] for r in other] and len(one) == 33
    return max(float(np.abs(np.subtract(a["map"], b["map"])).max() / np.abs(b["map"]).max())
               for a, b in zip(one, other))

several = model.on_devices(None)
options = {"target": 1, "batch_size": 8, "n_masks": 20}
results = [xaimaps.explain(each, "in", "rise", **options) for each in (model, several)]
pairs = zip(*(result.maps for result in results))
explained = max(float(np.abs(b - a).max() / np.abs(a).max()) for a, b in pairs)
(shown,) = several.arguments(np.zeros((8, 12, 12, 3), "f4"))
shown = shown.sharding.device_set
try:
    model.on_devices(9)
except BackendError as error:
    refused = str(error)
records = {open(f"out{d}/run.json").read() for d in (1, 3, None)}
three, eight = (largest(found[count], found[1]) for count in (3, None))
print(json.dumps([three, eight, explained, len(shown), several.devices, refused, len(records)]))
"""


def test_maps_are_the_same_on_any_number_of_devices(tmp_path):
    flags = "--xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *differences, devices, used, refused, records = json.loads(done.stdout.splitlines()[-1])
    assert max(differences) < 1e-6
    assert devices == used == 8
    assert records == 1, "the number of devices does not bind a folder"
    assert refused == "`devices` must be at most 8, as JAX has, got 9; leave it out for all"
