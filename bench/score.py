"""What is computed from models that were saved; runs in the peers' environment. Prints one JSON line.

phi RUN OUT.npy BETA       topics x words from the counts of a saved `lda`, rows sum to 1, for topics.py --peer phi
knn RUN DIGITS.npz         error of 3 nearest neighbours under a saved `dml`, on the rows that dml.py uses
"""
import json
import os
import sys

import numpy as np
from safetensors.numpy import load_file


def phi(run, out, beta):
    """(counts + beta) / (totals + words * beta), as topics.py smooths the peers' counts."""
    saved = load_file(os.path.join(run, "model.safetensors"))
    counts = saved["word_topic"].T.astype(np.float64) + float(beta)
    np.save(out, counts / counts.sum(1, keepdims=True))
    return {"topics": counts.shape[0], "words": counts.shape[1],
            "totals_agree": bool((saved["word_topic"].sum(0) == saved["totals"][0]).all())}


def knn(run, npz):
    """L is saved transposed, and takes features divided by their deviation over the rows of the pairs; a common
    factor changes no neighbour."""
    from sklearn.neighbors import KNeighborsClassifier
    table = load_file(os.path.join(run, "model.safetensors"))["L"].astype(np.float64)
    d = np.load(npz)
    deviation = d["train"][d["pairs"].ravel()].std(0)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 1e-9)

    def image(X):
        X = (X * scale)[:, :table.shape[0]]
        return X @ table[:X.shape[1]]
    model = KNeighborsClassifier(3).fit(image(d["train"]), d["classes"])
    return {"error": 1 - model.score(image(d["test"]), d["test_classes"])}


if __name__ == "__main__":
    print(json.dumps({"phi": phi, "knn": knn}[sys.argv[1]](*sys.argv[2:])))
