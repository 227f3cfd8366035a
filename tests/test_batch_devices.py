"""A batch run on several devices: four virtual ones of XLA, in a process of their own."""

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
shown = several.as_batch(np.zeros((8, 12, 12, 3), "f4")).sharding.device_set
try:
    model.on_devices(9)
except BackendError as error:
    refused = str(error)
records = {open(f"out{d}/run.json").read() for d in (1, 3, None)}
three, four = (largest(found[count], found[1]) for count in (3, None))
print(json.dumps([three, four, len(shown), several.devices, refused, len(records)]))
"""


def test_maps_are_the_same_on_any_number_of_devices(tmp_path):
    flags = "--xla_force_host_platform_device_count=4"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    three, four, devices, used, refused, records = json.loads(done.stdout.splitlines()[-1])
    assert max(three, four) < 1e-6
    assert devices == used == 4
    assert records == 1, "the number of devices does not bind a folder"
    assert refused == "`devices` must be at most 4, as JAX has, got 9; leave it out for all"
