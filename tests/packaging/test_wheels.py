"""What the wheels hold: one package each, with its data, and nothing of the workshop."""

import shutil
import subprocess
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = shutil.which("uv")
MEMBERS = ("jax", "keras", "network", "onnx", "tensorflow")
PACKAGES = {
    "xaimaps": ROOT,
    "onnxjax": ROOT / "backends" / "onnxjax",
    **{f"xaimaps_{name}": ROOT / "backends" / name for name in MEMBERS},
}

pytestmark = pytest.mark.skipif(UV is None, reason="uv builds the wheels, and is not installed")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """Each distribution's wheel, built as a release is."""
    folder = tmp_path_factory.mktemp("wheels")
    for project in PACKAGES.values():
        command = [UV, "build", "--wheel", "--out-dir", folder, project]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    return {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}


def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def test_there_is_a_wheel_for_each(wheels):
    assert wheels.keys() == PACKAGES.keys()
    assert all(path.name.endswith("-py3-none-any.whl") for path in wheels.values())


@pytest.mark.parametrize("name", PACKAGES)
def test_a_wheel_holds_one_package(wheels, name):
    tops = {entry.partition("/")[0] for entry in contents(wheels[name])}
    version = metadata(wheels[name])["Version"]
    assert tops == {name, f"{name}-{version}.dist-info"}


@pytest.mark.parametrize("name", PACKAGES)
def test_nothing_of_the_workshop_is_in_it(wheels, name):
    entries = [Path(entry) for entry in contents(wheels[name])]
    parts = {part for entry in entries for part in entry.parts}
    assert not parts & {"tests", "backends", "benchmarks", "docs", "__pycache__", "conftest.py"}
    assert {entry.suffix for entry in entries} <= {
        "", ".py", ".typed", ".onnx", ".png", ".jpg", ".txt", ".md", ".html", ".css", ".js",
    }  # fmt: skip


@pytest.mark.parametrize("name", PACKAGES)
def test_every_module_of_the_source_is_in_it(wheels, name):
    source = PACKAGES[name] / ("" if name == "xaimaps" else "src")
    modules = {path.relative_to(source).as_posix() for path in (source / name).rglob("*.py")}
    assert modules <= set(contents(wheels[name]))
    assert f"{name}/py.typed" in contents(wheels[name])


def test_the_data_of_the_core_are_in_it(wheels):
    held = set(contents(wheels["xaimaps"]))
    for path in (ROOT / "xaimaps" / "zoo").iterdir():
        if path.is_file():
            assert f"xaimaps/zoo/{path.name}" in held
    for file in ("LICENSE", "NOTICE"):
        assert any(entry.endswith(f"licenses/{file}") for entry in held)


def test_the_network_is_a_distribution_of_its_own(wheels):
    held = contents(wheels["xaimaps_network"])
    assert "xaimaps_network/efficientnet-lite0.onnx" in held
    assert any(entry.endswith("licenses/NOTICE") for entry in held)
    assert metadata(wheels["xaimaps_network"]).get_all("Requires-Dist") is None
    assert 10e6 < wheels["xaimaps_network"].stat().st_size < 25e6
    assert all(wheels[name].stat().st_size < 2e6 for name in PACKAGES if name != "xaimaps_network")


@pytest.mark.parametrize("extra", ["jax", "onnx", "cuda13", "tensorflow", "convert"])
def test_each_extra_of_a_backend_brings_the_network(wheels, extra):
    required = metadata(wheels["xaimaps"]).get_all("Requires-Dist")
    assert f"xaimaps-network; extra == '{extra}'" in required


def test_the_core_requires_no_framework(wheels):
    required = metadata(wheels["xaimaps"]).get_all("Requires-Dist")
    plain = {line.partition(">")[0].strip() for line in required if "extra ==" not in line}
    assert plain == {"click", "matplotlib", "numpy", "pillow", "rich"}
    assert any("xaimaps-jax" in line and "extra == 'jax'" in line for line in required)


def test_the_engine_reads_graphs_without_jax(wheels):
    required = metadata(wheels["onnxjax"]).get_all("Requires-Dist")
    plain = {line.partition(">")[0].strip() for line in required if "extra ==" not in line}
    assert plain == {"ml-dtypes", "numpy", "onnx"}
    assert {"cpu", "cuda12", "tpu"} == {*metadata(wheels["onnxjax"]).get_all("Provides-Extra")}


def test_the_plugin_announces_itself(wheels):
    with zipfile.ZipFile(wheels["xaimaps_jax"]) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith("entry_points.txt")]
        text = archive.read(name).decode()
    assert "[xaimaps.backends]\njax = xaimaps_jax:JaxBackend" in text
