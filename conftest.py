"""Marks the quick subset: `uv run pytest -m quick`, for the edit-run loop."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent
# Whole modules, so that a new test in one of them needs no mark of its own. Together: the core,
# every method on the numpy reference, and one real network.
QUICK = (
    "backends/jax/tests/test_functions.py",
    "backends/onnxjax/tests/test_graph.py",
    "tests/test_arrays.py",
    "tests/test_cam_methods.py",
    "tests/test_console.py",
    "tests/test_examples.py",
    "tests/test_explaining.py",
    "tests/test_files.py",
    "tests/test_gradient_methods.py",
    "tests/test_images.py",
    "tests/test_joining.py",
    "tests/test_methods.py",
    "tests/test_namespaces.py",
    "tests/test_perturbation.py",
    "tests/test_plugins.py",
    "tests/test_preprocess.py",
    "tests/test_render.py",
    "tests/test_result.py",
    "tests/test_saving.py",
    "tests/test_targets.py",
    "tests/test_targets_more.py",
    "tests/test_zoo_model.py",
)


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by mark
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test of these modules the mark."""
    modules = {ROOT / name for name in QUICK}
    for item in items:
        if item.path in modules:
            item.add_marker(pytest.mark.quick)
