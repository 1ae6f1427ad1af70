"""Writes the splits that the peers' scripts make with numpy's generators as files, for both sides.

    python bench/export.py [--out bench/out] [--data ../shared/data] [--scripts ../shared/bench/peers] [--only NAME,...]

Run it in the peers' environment (see README.md). The loaders and the generators are the peers' own
(`common.py`), so that a split cannot differ; what is not in `common.py` (the 10 per cent cut of logistic.py, the
pairs of dml.py) is drawn here in the same order from the same seed. What is written, per name:

movielens   u1.base.tsv, u1.test.tsv: `user item rating`, ids dense from 0
epinions    epinions.all.tsv (for the peer), epinions.train.tsv, epinions.test.tsv: the random 90/10 of seed 1
kos         docword.kos-train.txt, docword.kos-test.txt and their vocabularies: split_docs, seed 1
20news      20news.train.svm.gz, 20news.test.svm.gz (tf-idf), docword.20news.train.txt.gz: copies
mnist       mnist.train.svm (54,000 rows), mnist.test.svm (6,000 rows): pixels / 255, digits enough for f32
digits      digits.SEED.{pairs.svm,npz} for seeds 1 to 10: rows 2r and 2r + 1 of pairs.svm are pair r, similar
            if their classes are equal; npz holds the standardised training and test rows and the pairs
lshtc       lshtc.train.svm, lshtc.test.svm: rdf.train and rdf.validation of LSHTC1-small, words in 3 pages or more
lasso       lasso.svm: the made-up 1,000 x 10,000 of lasso.py, seed 1; riboflavin.svm
optima      optima.json: the optima of softmax regression on 20news (C = 10), mnist (C = .01), lshtc (C = 1) and of
            logistic regression on a9a (C = 1), by L-BFGS to a tight tolerance; takes minutes
"""
import argparse
import gzip
import json
import os
import shutil
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
SHARED = os.path.join(os.path.dirname(HERE), "..", "shared")


def arguments():
    p = argparse.ArgumentParser(description="write the peers' splits as files")
    p.add_argument("--out", default=os.path.join(HERE, "out"))
    p.add_argument("--data", default=os.path.join(SHARED, "data"))
    p.add_argument("--scripts", default=os.path.join(SHARED, "bench", "peers"))
    p.add_argument("--only", default="", help="names, separated by commas")
    return p.parse_args()


def write_ratings(path, users, items, ratings):
    with open(path, "w") as f:
        f.writelines(f"{u}\t{i}\t{r:g}\n" for u, i, r in zip(users.tolist(), items.tolist(), ratings.tolist()))


def movielens(a, c):
    u, i, r, tu, ti, tr = c.ratings(os.path.join(a.data, "movielens-100k"), 1)
    write_ratings(os.path.join(a.out, "u1.base.tsv"), u, i, r)
    write_ratings(os.path.join(a.out, "u1.test.tsv"), tu, ti, tr)


def epinions(a, c):
    everything = os.path.join(a.out, "epinions.all.tsv")
    with open(everything, "wb") as out:
        for fold in range(1, 6):
            with gzip.open(os.path.join(a.data, "epinions", f"ratings.fold{fold}.tsv.gz")) as f:
                out.write(f.read())
    u, i, r, tu, ti, tr = c.ratings(everything, 1)
    write_ratings(os.path.join(a.out, "epinions.train.tsv"), u, i, r)
    write_ratings(os.path.join(a.out, "epinions.test.tsv"), tu, ti, tr)


def write_docword(path, X):
    X = X.tocsr()
    X.sort_indices()
    with open(path, "w") as f:
        f.write(f"{X.shape[0]}\n{X.shape[1]}\n{X.nnz}\n")
        for d in range(X.shape[0]):
            s, e = X.indptr[d], X.indptr[d + 1]
            pairs = zip(X.indices[s:e].tolist(), X.data[s:e].tolist())
            f.writelines(f"{d + 1} {w + 1} {n}\n" for w, n in pairs)


def kos(a, c):
    train, test = c.split_docs(c.bow(os.path.join(a.data, "kos", "docword.kos.txt.gz"), 1), 1)
    for name, X in (("kos-train", train), ("kos-test", test)):
        write_docword(os.path.join(a.out, f"docword.{name}.txt"), X)
        shutil.copyfile(os.path.join(a.data, "kos", "vocab.kos.txt"), os.path.join(a.out, f"vocab.{name}.txt"))


def twenty_news(a, c):
    folder = os.path.join(a.data, "20news")
    for source, target in (("20news.tfidf.train.svm.gz", "20news.train.svm.gz"),
                           ("20news.tfidf.test.svm.gz", "20news.test.svm.gz"),
                           ("docword.20news.train.txt.gz", "docword.20news.train.txt.gz")):
        shutil.copyfile(os.path.join(folder, source), os.path.join(a.out, target))


def mnist_split(a, c):
    """(train rows, classes, test rows, classes) as logistic.py cuts them without --test."""
    import numpy as np
    X, y = c.labelled(os.path.join(a.data, "mnist"), 1)
    q = np.random.default_rng(1).permutation(len(y))
    cut = len(y) // 10
    return X[q[cut:]], y[q[cut:]], X[q[:cut]], y[q[:cut]]


def mnist(a, c):
    import numpy as np
    X, y, T, z = mnist_split(a, c)
    digits = [str(np.float32(p / 255.0)) for p in range(256)]      # the shortest that reads back the same
    for name, A, b in (("train", X, y), ("test", T, z)):
        A = np.rint(A * 255).astype(np.uint8)
        with open(os.path.join(a.out, f"mnist.{name}.svm"), "w") as f:
            for row, label in zip(A, b):
                at = np.flatnonzero(row)
                f.write(f"{label} " + " ".join(f"{j + 1}:{digits[v]}" for j, v in zip(at.tolist(), row[at].tolist())))
                f.write("\n")


def digits(a, c):
    """As dml.py draws them: 20 per cent for testing, standardised by the rest, 1000 pairs, half similar."""
    import numpy as np
    from sklearn.preprocessing import StandardScaler
    half = 500
    for seed in range(1, 11):
        X, y = c.labelled("sk:digits", seed)
        g = np.random.default_rng(seed)
        q = g.permutation(len(y))
        cut = len(y) // 5
        te, tr = q[:cut], q[cut:]
        X = X[:, X[tr].std(0) > 0]
        S = StandardScaler().fit(X[tr])
        A, B, ya, yb = S.transform(X[tr]), S.transform(X[te]), y[tr], y[te]
        i = g.integers(0, len(ya), 80 * half)
        j = g.integers(0, len(ya), 80 * half)
        same = ya[i] == ya[j]
        pick = np.r_[np.flatnonzero(same & (i != j))[:half], np.flatnonzero(~same)[:half]]
        pairs = np.stack([i[pick], j[pick]], 1)
        np.savez(os.path.join(a.out, f"digits.{seed}.npz"), train=A, classes=ya, test=B, test_classes=yb, pairs=pairs)
        with open(os.path.join(a.out, f"digits.{seed}.pairs.svm"), "w") as f:
            for row in pairs.ravel():
                f.write(f"{ya[row]} " + " ".join(f"{k + 1}:{v:.9g}" for k, v in enumerate(A[row]) if v) + "\n")


def lshtc_split(a):
    """(train, labels, test, labels) as logistic.py makes them with --test and --min-df 3."""
    import numpy as np
    from sklearn.datasets import load_svmlight_files
    files = [os.path.join(a.data, "lshtc1-small", f"rdf.{part}.svm.gz") for part in ("train", "validation")]
    X, y, T, z = load_svmlight_files(files)
    columns = np.flatnonzero(np.bincount(X.tocsr().indices, minlength=X.shape[1]) >= 3)
    return X.tocsr()[:, columns], y, T.tocsr()[:, columns], z


def lshtc(a, c):
    X, y, T, z = lshtc_split(a)
    for name, A, b in (("train", X, y), ("test", T, z)):
        write_svm(os.path.join(a.out, f"lshtc.{name}.svm"), A, b)


def write_svm(path, X, y):
    X.sort_indices()
    with open(path, "w") as f:
        for row, label in enumerate(y.tolist()):
            s, e = X.indptr[row], X.indptr[row + 1]
            pairs = zip(X.indices[s:e].tolist(), X.data[s:e].tolist())
            f.write(f"{label:.17g} " + " ".join(f"{j + 1}:{v:.9g}" for j, v in pairs) + "\n")


def lasso(a, c):
    import numpy as np
    import scipy.sparse as sp
    n, d, s = 1000, 10000, 100
    g = np.random.default_rng(1)                          # in the order in which lasso.py draws
    X = g.normal(size=(n, d))
    for j in range(1, d):
        X[:, j] = 0.5 * X[:, j - 1] + np.sqrt(0.75) * X[:, j]
    w = np.zeros(d)
    w[g.choice(d, s, replace=False)] = g.normal(0, 1, s)
    y = X @ w
    y = y + g.normal(0, y.std() / 3, n)
    write_svm(os.path.join(a.out, "lasso.svm"), sp.csr_matrix(X), y)
    with gzip.open(os.path.join(a.data, "riboflavin", "riboflavin.svm.gz")) as f:
        with open(os.path.join(a.out, "riboflavin.svm"), "wb") as out:
            out.write(f.read())


def optima(a, c):
    """Objectives as logistic.py defines them, no intercept, in double precision."""
    import numpy as np
    from sklearn.datasets import load_svmlight_file
    from sklearn.linear_model import LogisticRegression

    def solve(X, y, C):
        m = LogisticRegression(C=C, solver="lbfgs", fit_intercept=False, max_iter=3000, tol=1e-7).fit(X, y)
        Z = np.asarray(X @ m.coef_.T)
        if Z.shape[1] == 1:                               # two classes: one margin
            Z = np.hstack([0 * Z, Z])
        top = Z.max(1)
        loss = (top + np.log(np.exp(Z - top[:, None]).sum(1)) - Z[np.arange(len(y)), y]).sum()
        return {"optimum": float(C * loss + 0.5 * (m.coef_ ** 2).sum()), "iterations": int(m.n_iter_[0])}

    X, y = load_svmlight_file(os.path.join(a.data, "20news", "20news.tfidf.train.svm.gz"))
    found = {"20news": solve(X, np.unique(y, return_inverse=True)[1], 10.0)}
    X, y, _, _ = mnist_split(a, c)
    found["mnist"] = solve(X, y, 0.01)
    X, y, _, _ = lshtc_split(a)
    found["lshtc"] = solve(X, np.unique(y, return_inverse=True)[1], 1.0)
    X, y = load_svmlight_file(os.path.join(a.data, "a9a", "a9a.train.svm.gz"))
    found["a9a"] = solve(X, np.unique(y, return_inverse=True)[1], 1.0)
    with open(os.path.join(a.out, "optima.json"), "w") as f:
        json.dump(found, f, indent=1)


EXPORTS = {"movielens": movielens, "epinions": epinions, "kos": kos, "20news": twenty_news, "mnist": mnist,
           "digits": digits, "lshtc": lshtc, "lasso": lasso, "optima": optima}


def main():
    a = arguments()
    if not os.path.isdir(a.scripts) or not os.path.isdir(a.data):
        sys.exit(f"{a.scripts} and {a.data}: both folders are needed; give --scripts and --data")
    sys.path.insert(0, a.scripts)
    import common as c                                    # before numpy: it sets thread limits
    names = [name for name in a.only.split(",") if name] or list(EXPORTS)
    unknown = [name for name in names if name not in EXPORTS]
    if unknown:
        sys.exit(f"{', '.join(unknown)}: not known; there is {', '.join(EXPORTS)}")
    os.makedirs(a.out, exist_ok=True)
    for name in names:
        EXPORTS[name](a, c)
        print(f"{name}: written to {os.path.relpath(a.out)}", flush=True)


if __name__ == "__main__":
    main()
