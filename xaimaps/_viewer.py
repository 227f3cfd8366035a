"""`view`: the page of `xaimaps view`, in a notebook."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xaimaps._images.find import find_pictures
from xaimaps._images.open import MAX_PIXELS
from xaimaps._load import load
from xaimaps._registry import import_extra
from xaimaps._view.session import Session
from xaimaps.backend import Backend

if TYPE_CHECKING:
    from xaimaps._view.widget import Viewer


def view(model: Any, pictures: Any = (), *, max_pixels: int = MAX_PIXELS) -> Viewer:
    """Show a model's maps in a notebook: click on classes, layers and methods.

    The page is that of `xaimaps view`. Its questions go through the notebook's connection to the
    kernel, so that it works wherever the notebook does; no port is opened.

    Args:
        model: a backend from `load`, or an argument of `load`; or several by name, side by side.
        pictures: the path of a picture or of a folder of pictures, or a list of them; the page
            takes others too.
        max_pixels: the largest number of pixels of a picture.

    Returns:
        A widget. `height` is that of its frame, such as "60rem".

    Raises:
        BackendError: `xaimaps[notebook]` is not installed.
        XaimapsError: a model or a picture is invalid; the message says which one.

    Example:
        >>> import xaimaps
        >>> page = xaimaps.view("default", xaimaps.zoo.PICTURES["chelsea"])
        >>> page.height
        '45rem'
    """
    widget = import_extra("xaimaps._view.widget", "notebook", "`xaimaps.view`")
    named = model if isinstance(model, Mapping) else {None: model}
    models = [one if isinstance(one, Backend) else load(one) for one in named.values()]
    names = [
        own.info.name if name is None else name for name, own in zip(named, models, strict=True)
    ]
    paths = [pictures] if isinstance(pictures, str | os.PathLike) else list(pictures)
    found = find_pictures([Path(path) for path in paths])
    session = Session(dict(zip(names, models, strict=True)), found, max_pixels)
    viewer: Viewer = widget.Viewer(session)
    return viewer
