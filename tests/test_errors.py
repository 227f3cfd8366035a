"""Each error is also the built-in one that a caller would catch."""

import numpy as np
import pytest

import xaimaps
from xaimaps import errors
from xaimaps._images.open import open_picture

BUILTINS = {
    "InputImageError": OSError,
    "ArrayInputError": ValueError,
    "ModelLoadError": ValueError,
    "UnsupportedModelError": NotImplementedError,
    "LayerError": LookupError,
    "TargetError": ValueError,
    "MethodError": ValueError,
    "BackendError": RuntimeError,
    "ManifestError": ValueError,
    "OutputError": OSError,
}


def test_every_error_is_a_builtin_one_too():
    classes = {
        c.__name__: c
        for c in errors.XaimapsError.__subclasses__()
        if c.__module__ == errors.__name__
    }
    assert classes.keys() == BUILTINS.keys()
    for name, error in classes.items():
        assert issubclass(error, BUILTINS[name])
        assert str(error("what to do")) == "what to do"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ({"target": 99}, ValueError),
        ({"layer": "none"}, LookupError),
        ({"method": "gradcma"}, ValueError),
    ],
)
def test_a_caller_catches_what_it_knows(pooled, images, call, error):
    with pytest.raises(error):
        xaimaps.attribute(pooled, images, **call)


def test_messages_are_not_wrapped_by_handlers_of_builtins(tmp_path):
    with pytest.raises(OSError, match=r"^no such file: '.*nofile\.png'; check the path$"):
        open_picture(tmp_path / "nofile.png")
    with pytest.raises(OSError, match="a folder") as caught:
        open_picture(tmp_path)
    assert "check the path" not in str(caught.value)
    with pytest.raises(ValueError, match="NaN"):
        xaimaps.PRESETS["unit"].inverse(np.full((2, 2, 3), np.nan))
