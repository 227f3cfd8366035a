"""The attribution methods, as pure functions over a backend, and the table of all of them.

Each takes `(backend, images, target, ...)` with the backend's native arrays and may be called
inside the framework's own compiled functions. To add one: write it in its family's file, enter
it in that file's `ROWS`, and give it a row of expected values in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from xaimaps.errors import MethodError, nearest
from xaimaps.methods.ablation import ROWS as ABLATION
from xaimaps.methods.ablation import ablation_cam
from xaimaps.methods.blur_path import ROWS as BLUR
from xaimaps.methods.blur_path import blur_ig
from xaimaps.methods.cam import ROWS as CAM
from xaimaps.methods.cam import cam, grad_cam
from xaimaps.methods.eigen import ROWS as EIGEN
from xaimaps.methods.eigen import eigen_cam, eigen_grad_cam
from xaimaps.methods.finer import ROWS as FINER
from xaimaps.methods.finer import finer_cam
from xaimaps.methods.fullgrad import ROWS as FULLGRAD
from xaimaps.methods.fullgrad import fullgrad
from xaimaps.methods.gradient import ROWS as GRADIENT
from xaimaps.methods.gradient import input_x_gradient, saliency
from xaimaps.methods.guided_path import ROWS as GUIDED
from xaimaps.methods.guided_path import guided_ig
from xaimaps.methods.maps import Maps
from xaimaps.methods.path import ROWS as PATH
from xaimaps.methods.path import expected_gradients, integrated_gradients
from xaimaps.methods.perturbation import ROWS as PERTURBATION
from xaimaps.methods.perturbation import occlusion
from xaimaps.methods.rectified import ROWS as RECTIFIED
from xaimaps.methods.rectified import deconvnet, guided_backprop, guided_grad_cam
from xaimaps.methods.rise import ROWS as RISE
from xaimaps.methods.rise import rise
from xaimaps.methods.scoring import ROWS as SCORING
from xaimaps.methods.scoring import is_cam, score_cam, ss_cam
from xaimaps.methods.smooth_cam import ROWS as SMOOTH_CAM
from xaimaps.methods.smooth_cam import smooth_grad_cam_plusplus
from xaimaps.methods.smoothing import ROWS as SMOOTHING
from xaimaps.methods.smoothing import smoothgrad, smoothgrad_squared, vargrad
from xaimaps.methods.table import Method
from xaimaps.methods.weighted import ROWS as WEIGHTED
from xaimaps.methods.weighted import grad_cam_plusplus, hires_cam, layer_cam, xgrad_cam

__all__ = [
    "METHODS",
    "Maps",
    "Method",
    "ablation_cam",
    "blur_ig",
    "cam",
    "deconvnet",
    "eigen_cam",
    "eigen_grad_cam",
    "expected_gradients",
    "finer_cam",
    "fullgrad",
    "get_method",
    "grad_cam",
    "grad_cam_plusplus",
    "guided_backprop",
    "guided_grad_cam",
    "guided_ig",
    "hires_cam",
    "input_x_gradient",
    "integrated_gradients",
    "is_cam",
    "layer_cam",
    "occlusion",
    "rise",
    "saliency",
    "score_cam",
    "smooth_grad_cam_plusplus",
    "smoothgrad",
    "smoothgrad_squared",
    "ss_cam",
    "vargrad",
    "xgrad_cam",
]


def _table(*families: tuple[Method, ...]) -> Mapping[str, Method]:
    return MappingProxyType({method.name: method for rows in families for method in rows})


METHODS = _table(
    GRADIENT,
    PATH,
    BLUR,
    GUIDED,
    SMOOTHING,
    RECTIFIED,
    FULLGRAD,
    CAM,
    WEIGHTED,
    SMOOTH_CAM,
    FINER,
    EIGEN,
    SCORING,
    ABLATION,
    PERTURBATION,
    RISE,
)


def get_method(name: str | Method | Callable[..., Maps]) -> Method:
    """Return the table's row for `name`; a `Method` as it is, and a row for a function.

    Raises:
        MethodError: there is no such method.
    """
    if isinstance(name, Method):
        return name
    if callable(name):
        rows = (row for row in METHODS.values() if row.fn is name)
        return next(rows, Method(name, "gradient", frozenset(), paper="", cost=""))
    if name not in METHODS:
        raise MethodError(
            f"`method` must be one of {', '.join(METHODS)}, got {name!r}{nearest(name, METHODS)}"
        )
    return METHODS[name]
