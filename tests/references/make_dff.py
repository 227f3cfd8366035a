"""How much scikit-learn's factors explain, made as pytorch-grad-cam's DFF makes them. Run by hand.

pip install scikit-learn
python tests/references/make_dff.py tests/references/dff.npz
"""

import sys

import numpy as np
from sklearn.decomposition import NMF


def main(output):
    draw = np.random.default_rng(0)
    heat, vectors = draw.random((30, 5)) ** 4, draw.random((5, 12)) ** 4
    rows = (heat @ vectors + draw.random((30, 12)) / 10).astype(np.float32)
    own = rows - rows.min(axis=0)
    model = NMF(n_components=4, init="random", random_state=0)
    error = np.sum((own.T - model.fit_transform(own.T) @ model.components_) ** 2)
    np.savez_compressed(output, rows=rows, explained=1 - error / np.sum(own**2))


if __name__ == "__main__":
    main(sys.argv[1])
