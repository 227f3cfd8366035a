"""Who imports whom: no cycle, and nothing from the core up into a plugin."""

import graphlib
import importlib.util

import grimp
import pytest

PLUGINS = (
    "xaimaps_jax",
    "xaimaps_keras",
    "xaimaps_network",
    "xaimaps_onnx",
    "xaimaps_tensorflow",
    "onnxjax",
)


@pytest.fixture(scope="module")
def imports():
    """The modules that each module imports, also inside functions, except for type checkers."""
    packages = ["xaimaps", *(name for name in PLUGINS if importlib.util.find_spec(name))]
    graph = grimp.build_graph(*packages, exclude_type_checking_imports=True, cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def crossings(imports, package, others):
    return [
        f"{module} imports {imported}"
        for module, found in sorted(imports.items())
        for imported in sorted(found)
        if module.split(".")[0] == package and imported.split(".")[0] in others
    ]


def test_there_is_no_cycle(imports):
    graphlib.TopologicalSorter(imports).prepare()


def test_the_core_imports_no_plugin(imports):
    assert crossings(imports, "xaimaps", PLUGINS) == []


def test_the_engine_imports_nothing_of_ours(imports):
    assert crossings(imports, "onnxjax", ("xaimaps", *PLUGINS[:-1])) == []
