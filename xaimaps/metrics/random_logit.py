"""Random logit: a map of one class should differ from those of other classes."""

from __future__ import annotations

import numpy as np

from xaimaps.errors import MethodError
from xaimaps.methods._noise import uniform
from xaimaps.methods._options import check_count
from xaimaps.metrics._case import Case, Measured
from xaimaps.metrics._registry import metric
from xaimaps.metrics._similarity import Similarity, similarity_by
from xaimaps.targets import Classes, Scene, class_scores


@metric(
    family="randomisation", better="lower", needs={"explanation", "class"},
    paper="Sixt, Granz, Landgraf 2020, arXiv:1912.09818",
)  # fmt: skip
def random_logit(
    case: Case, *, classes: int = 10, similarity: Similarity = "spearman", seed: int = 0
) -> Measured:
    """The mean similarity of the map to those of other classes of the same image.

    A map that hardly depends on the class, as that of guided backpropagation, is near 1.

    Args:
        case: the image and its map.
        classes: the number of other classes, which are random; all others if there are fewer.
        similarity: "spearman" or "ssim", as in `mprt`; the authors take SSIM, of one other class.
        seed: of the classes.

    Returns:
        The mean similarity, -1 to 1, over the classes whose map is not constant; NaN if there is
        none.

    Raises:
        MethodError: an option is out of range, or the model has one class only.

    References:
        Sixt, Granz, Landgraf 2020, https://arxiv.org/abs/1912.09818
    """
    check_count("classes", classes)
    compare = similarity_by(similarity)
    outputs = Scene(case.backend, case.image[None]).outputs
    count = class_scores(np, outputs, is_binary=case.target.is_binary).shape[-1]
    own = int(np.asarray(case.target.indices_in(np, outputs))[0])
    others = np.delete(np.arange(count), own)
    if not others.size:
        raise MethodError("`random_logit` needs a model of several classes, got one output")
    chosen = others[np.argsort(uniform(seed, count)[others])][:classes].astype(np.int32)
    images = np.repeat(case.image[None], len(chosen), axis=0)
    maps = case.explained(images, Classes(chosen, case.target.is_binary))
    values = np.array([compare(case.map, one) for one in maps])
    known = values[np.isfinite(values)]
    return Measured(float(known.mean()) if known.size else float("nan"))
