"""Metrics that judge maps: faithfulness, localisation, robustness, complexity, randomisation.

Each metric is a function of a `Case`, one image with its map, and returns `Measured`. Each idea has
one file here. The package imports all of its public modules and exports the metrics that they
register.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

from xaimaps.metrics import _registry
from xaimaps.metrics._case import Case, Measured
from xaimaps.metrics._evaluate import evaluate, measure
from xaimaps.metrics._evaluation import Evaluation, Scores
from xaimaps.metrics._registry import METRICS, Metric, metric

if TYPE_CHECKING:  # lists the metrics for type checkers and editors; a test compares
    from xaimaps.metrics.adcc import adcc as adcc
    from xaimaps.metrics.average_drop import average_drop as average_drop
    from xaimaps.metrics.average_drop import average_gain as average_gain
    from xaimaps.metrics.average_drop import average_increase as average_increase
    from xaimaps.metrics.complexity import complexity as complexity
    from xaimaps.metrics.complexity import sparseness as sparseness
    from xaimaps.metrics.correlation import faithfulness_correlation as faithfulness_correlation
    from xaimaps.metrics.correlation import infidelity as infidelity
    from xaimaps.metrics.correlation import mu_fidelity as mu_fidelity
    from xaimaps.metrics.deletion import deletion as deletion
    from xaimaps.metrics.deletion import insertion as insertion
    from xaimaps.metrics.localisation import energy_pointing_game as energy_pointing_game
    from xaimaps.metrics.localisation import iou as iou
    from xaimaps.metrics.localisation import pointing_game as pointing_game
    from xaimaps.metrics.localisation import rank_accuracy as rank_accuracy
    from xaimaps.metrics.localisation import region_auc as region_auc
    from xaimaps.metrics.mprt import efficient_mprt as efficient_mprt
    from xaimaps.metrics.mprt import mprt as mprt
    from xaimaps.metrics.mprt import smooth_mprt as smooth_mprt
    from xaimaps.metrics.random_logit import random_logit as random_logit
    from xaimaps.metrics.road import road as road
    from xaimaps.metrics.stability import max_sensitivity as max_sensitivity
    from xaimaps.metrics.stability import relative_stability as relative_stability

__all__ = [
    "METRICS",
    "Case",
    "Evaluation",
    "Measured",
    "Metric",
    "Scores",
    "evaluate",
    "measure",
    "metric",
]

for _module in pkgutil.iter_modules(__path__):
    if not _module.name.startswith("_"):
        import_module(f"{__name__}.{_module.name}")

for _row in _registry.METRICS.values():
    # A module is an attribute of its package; the function of the same name replaces it.
    globals()[_row.name] = _row.fn
    __all__.append(_row.name)
