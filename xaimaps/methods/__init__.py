"""The attribution methods, as pure functions over a backend, and the table of all of them.

Each takes `(backend, images, target, ...)` with the backend's native arrays and may be called
inside the framework's own compiled functions. Each method has one file here, named after it. The
package imports all of its public modules and exports the methods that they register.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

from xaimaps.methods import _registry
from xaimaps.methods._fusion import fuse_maps
from xaimaps.methods._maps import Maps
from xaimaps.methods._method import Method
from xaimaps.methods._registry import METHODS, get_method, method, register_method

if TYPE_CHECKING:  # lists the methods for type checkers and editors; a test compares
    from xaimaps.methods.ablation_cam import ablation_cam as ablation_cam
    from xaimaps.methods.attention_rollout import attention_rollout as attention_rollout
    from xaimaps.methods.blur_ig import blur_ig as blur_ig
    from xaimaps.methods.cam import cam as cam
    from xaimaps.methods.chefer import chefer as chefer
    from xaimaps.methods.d_rise import d_rise as d_rise
    from xaimaps.methods.deep_lift import deep_lift as deep_lift
    from xaimaps.methods.dff import dff as dff
    from xaimaps.methods.eigen_cam import eigen_cam as eigen_cam
    from xaimaps.methods.eigen_cam import eigen_grad_cam as eigen_grad_cam
    from xaimaps.methods.extremal_perturbation import (
        extremal_perturbation as extremal_perturbation,
    )
    from xaimaps.methods.fem import fem as fem
    from xaimaps.methods.finer_cam import finer_cam as finer_cam
    from xaimaps.methods.fullgrad import fullgrad as fullgrad
    from xaimaps.methods.grad_cam import grad_cam as grad_cam
    from xaimaps.methods.grad_cam_plusplus import grad_cam_plusplus as grad_cam_plusplus
    from xaimaps.methods.grad_sam import grad_sam as grad_sam
    from xaimaps.methods.gradient import input_x_gradient as input_x_gradient
    from xaimaps.methods.gradient import saliency as saliency
    from xaimaps.methods.guided_backprop import deconvnet as deconvnet
    from xaimaps.methods.guided_backprop import guided_backprop as guided_backprop
    from xaimaps.methods.guided_backprop import guided_grad_cam as guided_grad_cam
    from xaimaps.methods.guided_ig import guided_ig as guided_ig
    from xaimaps.methods.hires_cam import hires_cam as hires_cam
    from xaimaps.methods.hsic import hsic as hsic
    from xaimaps.methods.integrated_gradients import expected_gradients as expected_gradients
    from xaimaps.methods.integrated_gradients import integrated_gradients as integrated_gradients
    from xaimaps.methods.is_cam import is_cam as is_cam
    from xaimaps.methods.kernel_shap import kernel_shap as kernel_shap
    from xaimaps.methods.kpca_cam import kpca_cam as kpca_cam
    from xaimaps.methods.layer_cam import layer_cam as layer_cam
    from xaimaps.methods.layer_conductance import internal_influence as internal_influence
    from xaimaps.methods.layer_conductance import layer_conductance as layer_conductance
    from xaimaps.methods.layer_integrated_gradients import (
        layer_integrated_gradients as layer_integrated_gradients,
    )
    from xaimaps.methods.legrad import legrad as legrad
    from xaimaps.methods.lime import lime as lime
    from xaimaps.methods.lrp import attn_lrp as attn_lrp
    from xaimaps.methods.lrp import excitation_backprop as excitation_backprop
    from xaimaps.methods.lrp import lrp as lrp
    from xaimaps.methods.occlusion import occlusion as occlusion
    from xaimaps.methods.opti_cam import opti_cam as opti_cam
    from xaimaps.methods.owen import owen as owen
    from xaimaps.methods.random_cam import random_cam as random_cam
    from xaimaps.methods.recipro_cam import recipro_cam as recipro_cam
    from xaimaps.methods.rise import rise as rise
    from xaimaps.methods.score_cam import score_cam as score_cam
    from xaimaps.methods.sess import sess as sess
    from xaimaps.methods.shapley_cam import shapley_cam as shapley_cam
    from xaimaps.methods.shapley_sampling import shapley_sampling as shapley_sampling
    from xaimaps.methods.smooth_grad_cam_plusplus import (
        smooth_grad_cam_plusplus as smooth_grad_cam_plusplus,
    )
    from xaimaps.methods.smoothgrad import smoothgrad as smoothgrad
    from xaimaps.methods.smoothgrad import smoothgrad_squared as smoothgrad_squared
    from xaimaps.methods.smoothgrad import vargrad as vargrad
    from xaimaps.methods.sobol import sobol as sobol
    from xaimaps.methods.ss_cam import ss_cam as ss_cam
    from xaimaps.methods.xgrad_cam import xgrad_cam as xgrad_cam
    from xaimaps.methods.xrai import xrai as xrai

__all__ = ["METHODS", "Maps", "Method", "fuse_maps", "get_method", "method", "register_method"]

for _module in pkgutil.iter_modules(__path__):
    if not _module.name.startswith("_"):
        import_module(f"{__name__}.{_module.name}")

for _row in _registry.ROWS.values():
    # A module is an attribute of its package; the function of the same name replaces it.
    globals()[_row.name] = _row.fn
    __all__.append(_row.name)
