"""`compare`: several methods on one picture, in one figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xaimaps._attribute import Layers, run_jobs
from xaimaps._load import load
from xaimaps._plan import plan_all
from xaimaps._prepare import prepare
from xaimaps._results import render
from xaimaps._results.save import draw, figure_of
from xaimaps.backend import Backend

if TYPE_CHECKING:
    from PIL import Image


def compare(
    model: Any,
    picture: Any,
    methods: Sequence[str] = ("all",),
    *,
    target: Any = None,
    layer: Layers = None,
    input_size: tuple[int, int] | None = None,
    colormap: str | None = None,
    alpha: float = render.ALPHA,
    progress: bool = False,
    **options: Any,
) -> Image.Image:
    """Draw several methods' maps of one picture in one figure.

    Args:
        model: a backend from `load`, or an argument of `load`.
        picture: one picture, as `explain` takes it.
        methods: names of methods; "all" for all that the model supports.
        target: see `attribute`.
        layer: the layer of the methods that have one.
        input_size: height and width, for a model that takes images of any size.
        colormap: a matplotlib name; None for inferno, or RdBu_r for signed maps.
        alpha: the weight of the maps, 0 to 1.
        progress: see `attribute`.
        options: options of the methods; each method gets those that it has.

    Returns:
        The model's input and the overlay of each method, with titles, as one RGB picture.

    Raises:
        XaimapsError: see `explain`.

    Example:
        >>> import xaimaps
        >>> methods = ["grad_cam", "eigen_cam"]
        >>> figure = xaimaps.compare("default", xaimaps.zoo.PICTURES["chelsea"], methods)
        >>> figure.mode
        'RGB'
    """
    backend = model if isinstance(model, Backend) else load(model)
    jobs = plan_all(backend, list(methods), layer, options, target)
    batch = prepare(backend, picture, input_size)
    found = run_jobs(backend, jobs, batch, target, progress=progress)
    drawings = [one for each in found for one in draw(each, colormap=colormap, alpha=alpha)]
    return figure_of(batch.views[0], drawings)
