"""Values of segments by shap, lime and xplique, of a small network. Run by hand, not by tests.

    pip install shap==0.51 lime==0.2.0.1 xplique==2.0.2 tensorflow-cpu
    python tests/references/make_coalitions.py OUTPUT

The network is `pooled_network`, the score is the logit of class 2, absent segments are 0.
"""

import itertools
import sys

import numpy as np
import shap
import tensorflow as tf
from lime.lime_base import LimeBase
from sklearn.metrics import pairwise_distances
from xplique.attributions.global_sensitivity_analysis.hsic_estimators import BinaryEstimator
from xplique.attributions.global_sensitivity_analysis.replicated_designs import (
    ScipySobolSequenceRS,
)
from xplique.attributions.global_sensitivity_analysis.sobol_estimators import JansenEstimator

from xaimaps.testing import pooled_network

NETWORK = pooled_network()
IMAGE = np.random.default_rng(1).normal(size=(1, 9, 9, 3)).astype(np.float32)
CELLS = np.arange(9).reshape(3, 3).repeat(3, axis=0).repeat(3, axis=1)


def score(images):
    return NETWORK.values(np.float32(images))["fc"][:, 2].astype(np.float64)


def play(coalitions):
    return score(IMAGE * np.asarray(coalitions)[:, CELLS, None])


def kernel_shap():
    explainer = shap.KernelExplainer(play, np.zeros((1, 9)))
    return explainer.shap_values(np.ones((1, 9)), nsamples=512, l1_reg=0, silent=True)[0]


def partition():
    """All leaves of the tree, which are single values; summed over the channels.

    Of 8 x 8 pixels: where a side is odd, shap's first half is the larger one, and ours the second.
    """
    masker = shap.maskers.Image(np.zeros((8, 8, 3), np.float32), (8, 8, 3))
    explainer = shap.PartitionExplainer(score, masker)
    return (
        explainer(IMAGE[:, :8, :8], max_evals=10**6, batch_size=512, silent=True)
        .values[0]
        .sum(axis=-1)
    )


def lime(rows):
    def kernel(distance):
        return np.sqrt(np.exp(-(distance**2) / 0.25**2))

    distances = pairwise_distances(rows, rows[:1], metric="cosine").ravel()
    labels = play(rows)[:, None]
    _, pairs, r2, _ = LimeBase(kernel).explain_instance_with_data(
        rows, labels, distances, 0, num_features=9, feature_selection="none"
    )
    return np.array([dict(pairs)[i] for i in range(9)]), r2


def sobol(n):
    """The designs without B, which the estimator does not read, and the indices."""
    masks = np.asarray(ScipySobolSequenceRS()(9, n)).reshape(-1, 9)
    scores = play(masks)
    indices = JansenEstimator()(
        tf.constant(masks.reshape(-1, 3, 3, 1)), tf.constant(scores, tf.float32), n
    )
    return np.concatenate([masks[:n], masks[2 * n :]]), np.asarray(indices).reshape(9)


def hsic(rows):
    """The scores are moved to positive numbers, as xplique's width is their median."""
    scores = play(rows)
    scores = scores - scores.min() + 0.1
    estimator = BinaryEstimator(output_kernel="rbf")
    masks = tf.constant(rows.reshape(-1, 3, 3, 1), tf.float32)
    indices = estimator(masks, tf.constant(scores, tf.float32), len(rows))
    return scores, np.asarray(indices).reshape(9)


def main(output):
    rows = np.random.default_rng(2).integers(0, 2, (128, 9))
    rows[0] = 1
    values = {"image": IMAGE, "rows": rows, "kernel_shap": kernel_shap(), "owen": partition()}
    values["every"] = np.array(list(itertools.product([0, 1], repeat=9)))
    values["every_score"] = play(values["every"])
    values["lime"], values["lime_r2"] = lime(rows)
    values["designs"], values["sobol"] = sobol(32)
    values["hsic_scores"], values["hsic"] = hsic(rows)
    np.savez_compressed(output, **values)


if __name__ == "__main__":
    main(sys.argv[1])
