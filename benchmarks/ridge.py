"""The simple baseline: ridge regression from TF-IDF of 1-2-grams to image vectors.

The strength is chosen on objects held out of the training objects, then the regression is fitted
again on all of them.
"""

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from mmref.data.dataset import RetrievalDataset
from mmref.evaluation.vectors import evaluate_vectors
from mmref.metrics.protocols import Figures

STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def score(
    train: RetrievalDataset,
    train_images: np.ndarray,
    test: RetrievalDataset,
    test_images: np.ndarray,
    strengths: tuple[float, ...],
) -> list[Figures]:
    """Fit on one set of objects and rank another's images, once for each strength."""
    pairs = [
        (c, row) for row, captions in enumerate(train.captions) for c in dict.fromkeys(captions)
    ]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    known = vectorizer.fit_transform([caption for caption, _ in pairs])
    mean, deviation = train_images.mean(axis=0), train_images.std(axis=0) + 1e-6
    targets = _unit((train_images - mean) / deviation)[[row for _, row in pairs]]
    gallery = _unit((test_images - mean) / deviation).astype(np.float32)
    queries = test.queries()
    asked = vectorizer.transform([query.caption for query in queries])
    values, vectors = np.linalg.eigh((known @ known.T).toarray())
    left = (asked @ known.T).toarray() @ vectors
    right = vectors.T @ targets
    results = []
    for strength in strengths:
        texts = _unit(left @ (right / (values + strength)[:, None])).astype(np.float32)
        objects = [query.object for query in queries]
        results.append(evaluate_vectors(texts, gallery, objects, test.objects))
    return results


def ridge(
    rest: RetrievalDataset, rest_images: np.ndarray, test: RetrievalDataset, test_images: np.ndarray
) -> tuple[Figures, float]:
    """Choose the strength on the val rows of ``rest``, refit on all of it, score ``test``."""
    split = np.array(rest.splits)
    inner, val = np.flatnonzero(split == "train"), np.flatnonzero(split == "val")
    tried = score(
        rest.select(inner), rest_images[inner], rest.select(val), rest_images[val], STRENGTHS
    )
    best = STRENGTHS[int(np.argmax([figures.metrics["mAP"] for figures in tried]))]
    return score(rest, rest_images, test, test_images, (best,))[0], best


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9)
