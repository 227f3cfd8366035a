"""The backend of the guide: built, installed, discovered, and held to the suite that it names."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = shutil.which("uv")
FILES = re.compile(r'^```\w+ title="(.*?)"\n(.*?)^```', re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.skipif(UV is None, reason="uv builds the plugin, and is not installed")


def run(*command, folder, **environment):
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The guide's files in a folder of their own."""
    folder = tmp_path_factory.mktemp("toy")
    for name, text in FILES.findall((ROOT / "docs" / "adding-a-backend.md").read_text()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture(scope="module")
def site(project):
    """Where its wheel is installed, apart from the test's own environment."""
    run(UV, "build", "--wheel", "--out-dir", project / "dist", project, folder=project)
    (wheel,) = (project / "dist").glob("*.whl")
    target = project / "site"
    python = f"--python={sys.executable}"
    run(UV, "pip", "install", python, "--no-deps", "--target", target, wheel, folder=project)
    return target


def test_it_is_found_and_explains(project, site):
    program = """
import numpy as np, xaimaps
from xaimaps._registry import get_backend
assert get_backend("toy").name == "toy"
chain = {"twice": lambda x: 2 * x, "pool": lambda x: x.mean(axis=(1, 2))}
model = xaimaps.load(chain, input_shape=(4, 4, 3))
images = np.ones((1, 4, 4, 3), np.float32)
print(model.name, xaimaps.attribute(model, images, "eigen_cam").maps.shape)
"""
    out = run(sys.executable, "-c", program, folder=project, PYTHONPATH=str(site))
    assert out.split(maxsplit=1) == ["toy", "(1, 4, 4)\n"]


def test_it_brings_a_scheme_and_a_method(project, site):
    program = """
import numpy as np, xaimaps
images = np.ones((1, 4, 4, 3), np.float32)
found = xaimaps.attribute("toy:bright", images, "mean_activation")
print(found.backend, found.method, found.maps.mean(), "mean_activation" in xaimaps.METHODS)
try:
    xaimaps.load("toy:dark")
except xaimaps.errors.ModelLoadError as error:
    print(error)
"""
    out = run(sys.executable, "-c", program, folder=project, PYTHONPATH=str(site))
    expected = "toy mean_activation 2.0 True\na toy must be one of bright, got 'dark'\n"
    assert out == expected


def test_it_passes_its_own_tests(project, site):
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    out = run(*command, folder=project, PYTHONPATH=str(site))
    passed = re.search(r"(\d+) passed", out)
    assert passed is not None
    assert int(passed[1]) > 40
