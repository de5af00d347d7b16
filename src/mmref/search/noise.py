"""What noise scores in a store: nonsense asked of it, and a sample of its items."""

from itertools import islice
from typing import Any

import numpy as np

from mmref.references.refinement import Refiner
from mmref.search.cut import SENTENCES, Noise, Scores, nearest_mean, nonsense
from mmref.search.ranking import Scorer
from mmref.search.records import Model, Vector
from mmref.search.stores.base import View

SAMPLE = 400
_NEAREST = 50
_FEW = 2000


def measured_noise(
    view: View,
    model: Model,
    refiner: Refiner | None,
    modality: str = "text",
    pictures: View | None = None,
) -> Noise | None:
    """Ask nonsense of a store; the same store gives the same noise.

    Args:
        view: one generation of it.
        model: the run that made it.
        refiner: the refinement in use, or None.
        modality: ``image``: a sample of pictures is asked in the place of nonsense; their floor
            alone means something.
        pictures: where these are, if not in the store itself.

    Returns:
        None for an empty store.
    """
    ids = sampled(view, SAMPLE)
    if not ids:
        return None
    vectors, profiles = view.vectors(ids), view.profiles(ids)
    in_words = modality == "text"
    if in_words:
        asked = _encoded(model, nonsense(vocabulary(model)))
    elif pictures is None:
        asked = vectors[:SENTENCES]
    else:
        asked = pictures.vectors(sampled(pictures, SENTENCES))
    if not len(asked):
        return None
    floors: list[Scores] = []
    peaks: list[float] = []
    for row, vector in enumerate(asked):
        scorer = Scorer(vector, modality, refiner)
        scores, _ = scorer.scores(vectors @ vector, profiles)
        if in_words:
            found = view.candidates(vector, _NEAREST)
            peaks.append(float(scorer.scores(found.scores, found.profiles)[0].max()))
        else:
            if pictures is None and len(scores) > 1:
                scores = np.delete(scores, row)  # its own
            peaks.append(float(scores.max()))
        floors.append(scores)
    near_floor, near_peak = _references(model, asked)
    floor = float(np.median(np.concatenate(floors)))
    return Noise(floor, float(np.median(peaks)), near_floor, near_peak)


def nearness(model: Model, vector: Vector) -> float | None:
    """The mean cosine of a vector with the five nearest references; None without references."""
    references = _vectors(model)
    return None if references is None else nearest_mean(references @ vector)


def _references(model: Model, asked: Vector) -> tuple[float | None, float | None]:
    references = _vectors(model)
    if references is None:
        return None, None
    cosines = asked @ references.T
    return float(np.median(cosines)), float(np.median([nearest_mean(row) for row in cosines]))


def _vectors(model: Model) -> Any:
    references = getattr(model, "references", None)
    return None if references is None else references.vectors.float().cpu().numpy()


def vocabulary(model: Model) -> list[str]:
    """The words of a run's training captions; none where the model does not say."""
    tokeniser = getattr(getattr(model, "encoder", None), "tokeniser", None)
    return list(getattr(tokeniser, "vocabulary", ()))


def _encoded(model: Model, sentences: list[str]) -> Vector:
    vectors: Vector = model.encode_text(sentences).float().cpu().numpy()
    return vectors


def sampled(view: View, count: int) -> list[int]:
    """Ids of items spread over a store, at most ``count``, the same for the same store."""
    if len(view) <= _FEW:
        ids = [item.id for item in view.items()]
        return ids[:: -(-len(ids) // count)] if ids else []
    top = 1
    while next(view.items(top), None) is not None:
        top *= 2
    drawn = np.random.default_rng(0).integers(1, top + 1, 4 * count)
    ids = [item.id for item in view.get([int(n) for n in np.unique(drawn)])]
    if len(ids) < count // 2:  # ids with wide gaps
        ids += [item.id for item in islice(view.items(), count)]
    return sorted(set(ids))[:: max(1, len(set(ids)) // count)][:count]
