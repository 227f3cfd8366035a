"""The mark of the quick subset: `uv run pytest -m quick`."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# On a busy machine, generating an example may be slow although the strategy is not.
settings.register_profile("busy", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# Programs of tests do not belong into the user's folder of programs; CI has a folder of JAX's.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")

# The subset lists whole modules, so that a new test in one of them needs no mark of its own. They
# cover the core, every method on the numpy reference, and one real network.
QUICK = (
    "tests/test_arrays.py",
    "tests/test_cam_methods.py",
    "tests/test_console.py",
    "tests/test_errors.py",
    "tests/test_explaining.py",
    "tests/test_files.py",
    "tests/test_gradient_methods.py",
    "tests/test_images.py",
    "tests/test_layer_groups.py",
    "tests/test_layer_integrated_gradients.py",
    "tests/test_method_registry.py",
    "tests/test_methods.py",
    "tests/test_perturbation.py",
    "tests/test_picture_kinds.py",
    "tests/test_plugins.py",
    "tests/test_preprocess.py",
    "tests/test_recipro_cam.py",
    "tests/test_render.py",
    "tests/test_result.py",
    "tests/test_saving.py",
    "tests/test_shapley_cam.py",
    "tests/test_show.py",
    "tests/test_shared_batch.py",
    "tests/test_target_text.py",
    "tests/test_targets.py",
    "tests/test_targets_more.py",
    "tests/test_view.py",
    "tests/test_zoo_model.py",
)
MODULES = {Path(__file__).parent / name for name in QUICK}
if missing := sorted(str(path) for path in MODULES if not path.exists()):
    raise FileNotFoundError(f"QUICK names test modules that are not there: {', '.join(missing)}")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not collect other modules, because their import takes longer than the subset."""
    others = collection_path.match("test_*.py") and collection_path not in MODULES
    return True if config.option.markexpr == "quick" and others else None


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by mark
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of these modules as quick."""
    for item in items:
        if item.path in MODULES:
            item.add_marker(pytest.mark.quick)
