"""A run on a split, looked into: what references say, doubtful captions, retrieval failures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmref.data.dataset import RetrievalDataset, split_name
from mmref.errors import DataError, SplitError
from mmref.evaluation.detection import detection
from mmref.evaluation.doubtful import (
    LEAST_CAPTIONS,
    MOST_COMPARED,
    Doubt,
    DoubtfulCaptions,
    Truth,
    find_doubtful,
    known_errors,
)
from mmref.evaluation.encoding import Progress, encode_images, encode_texts
from mmref.evaluation.failures import Failure, Failures, retrieval_failures
from mmref.evaluation.sayings import (
    PredictedWord,
    Saying,
    nearest,
    predicted_words,
    reference_numbers,
)
from mmref.model import MMRef

_NEAREST = 5
_WORDS = 12
_OBJECTS = 3
_FAILURES, _SHOWN = 8, 7


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        dataset: name of the data set.
        split: the split looked into.
        model: the run's id.
        sayings: what the chosen references say.
        doubts: the most doubtful captions, worst first.
        compared: captions that were judged.
        left_out: captions of objects with too few of them.
        figures: of the whole ranking against known errors, or None where none are known.
        failures: retrieval failures.
        suspects: for each of the worst failures the doubt about its caption, where that is among
            the most doubtful tenth; else None.
        paths: image file of each row that failures name; None without files.
        notes: sentences that must be said.
    """

    dataset: str
    split: str
    model: str
    sayings: tuple[Saying, ...]
    doubts: tuple[Doubt, ...]
    compared: int
    left_out: int
    figures: dict[str, float] | None
    failures: Failures
    suspects: tuple[Doubt | None, ...]
    paths: tuple[Path, ...] | None
    images: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, images by their names."""
        worst = []
        for failure, doubt in zip(self.failures.worst, self.suspects, strict=True):
            plain = failure.to_dict()
            plain["doubt"] = None if doubt is None else doubt.to_dict()
            plain["truth"] = [self.images[row] for row in failure.truth]
            plain["retrieved"] = [
                {**hit, "image": self.images[hit["image"]]} for hit in plain["retrieved"]
            ]
            worst.append(plain)
        return {
            "dataset": self.dataset,
            "split": self.split,
            "model": self.model,
            "references": [saying.to_dict() for saying in self.sayings],
            "doubtful": {
                "compared": self.compared,
                "left_out": self.left_out,
                "figures": self.figures,
                "captions": [doubt.to_dict() for doubt in self.doubts],
            },
            "failures": {
                "queries": self.failures.queries,
                "failed": self.failures.failed,
                "worst": worst,
            },
            "notes": list(self.notes),
        }


def inspect_run(
    model: MMRef,
    dataset: RetrievalDataset,
    split: str = "train",
    *,
    objects: Sequence[str] = (),
    top: int = 20,
    seed: int = 0,
    progress: Progress | None = None,
) -> Inspection:
    """Look into a run.

    Args:
        model: the run.
        dataset: all its splits; the captions of all of them teach how things are said.
        split: whose captions and images are looked at.
        objects: training objects whose references are shown; three spread ones by default.
        top: doubtful captions to list; 0 for none (they are compared all the same).
        seed: of the fit that finds them.
        progress: called with what is done, the number done and the total.

    Raises:
        SplitError: no such split, or it holds no captions.
        DataError: an object has no reference, or the images cannot be used by this run.
        ModelError: objects were named and the run has no references.

    Example:
        >>> found = inspect_run(model, data, "train", top=5)     # doctest: +SKIP
        >>> found.doubts[0].phrase, found.doubts[0].instead      # doctest: +SKIP
        ('grey hair', ('red hair', 'long auburn hair'))
    """
    part = dataset.split(split)
    queries = part.queries()
    if not queries:
        raise SplitError(f"split {split!r} of {dataset.name} holds no captions: nothing to look at")
    if objects:
        reference_numbers(model, objects)  # a wrong name is said at once
    truth = known_errors(dataset)
    captions, asked = [query.caption for query in queries], [query.object for query in queries]
    images, rows, skipped = encode_images(model, part, progress)
    texts = encode_texts(model, captions, progress)
    held, names = [part.objects[row] for row in rows], [part.images[row] for row in rows]
    failures = retrieval_failures(
        model, texts, images, captions, asked, held, count=_FAILURES, shown=_SHOWN
    )
    notes = list(dataset.notes)
    if skipped:
        first = f"{skipped[0]['path']}: {skipped[0]['reason']}"
        notes.append(f"{len(skipped)} images cannot be read and are left out (first: {first}).")

    everything = dataset.queries()
    found = find_doubtful(
        [query.caption for query in everything],
        [query.object for query in everything],
        among=set(asked),
        seed=seed,
        progress=(lambda done, total: progress("word batches", done, total)) if progress else None,
    )
    if found.left_out:
        notes.append(_too_few(found, len(set(asked))))
    if found.grouped:
        notes.append(
            f"{found.grouped} objects have more than {MOST_COMPARED} captions: these are dealt at "
            "random into groups, and each caption is compared with the others of its group."
        )
    sayings: tuple[Saying, ...] = ()
    if model.references is None:
        notes.append("This run was trained without references: none can be shown.")
    else:
        chosen = list(objects) or _spread(sorted(model.references.objects))
        words, remark = _predicted(model, chosen, captions, seed)
        notes += [remark] if remark else []
        numbers = reference_numbers(model, chosen)
        sayings = tuple(
            Saying(
                name,
                nearest(model.references.vectors[k], texts, captions, asked, name, _NEAREST),
                nearest(model.references.vectors[k], images, names, held, name, _NEAREST),
                words[place] if words is not None else None,
            )
            for place, (name, k) in enumerate(zip(chosen, numbers, strict=True))
        )
    return Inspection(
        dataset=dataset.name,
        split=split_name(split),
        model=model.id,
        sayings=sayings,
        doubts=tuple(found.top(top, truth)),
        compared=int(found.judged.sum()),
        left_out=found.left_out,
        figures=known_figures(found, truth) if truth is not None else None,
        failures=failures,
        suspects=tuple(_suspect(found, one, truth) for one in failures.worst),
        paths=None if part.features_only else tuple(part.image_paths[row] for row in rows),
        images=tuple(names),
        notes=tuple(notes),
    )


def known_figures(found: DoubtfulCaptions, truth: Truth) -> dict[str, float] | None:
    """Precision and recall of the ranking against known errors; None when nothing was judged."""
    rows = np.flatnonzero(found.judged)
    if not len(rows):
        return None
    wrong = [bool(truth.get((found.captions[row], found.objects[row]))) for row in rows.tolist()]
    return detection(found.scores[rows], wrong)


def _suspect(found: DoubtfulCaptions, failure: Failure, truth: Truth | None) -> Doubt | None:
    doubt = found.of(failure.caption, failure.object, truth)
    return doubt if doubt is not None and 10 * doubt.rank <= int(found.judged.sum()) else None


def _predicted(
    model: MMRef, names: list[str], captions: list[str], seed: int
) -> tuple[list[tuple[PredictedWord, ...]] | None, str]:
    """The words of each reference, and what to say where there are none."""
    try:
        words = predicted_words(model, names, captions, count=_WORDS, seed=seed)
    except DataError as error:
        return None, f"References predict no words: {error}."
    if words is None:
        return None, "This run was trained without reconstruction: references predict no words."
    return words, ""


def _too_few(found: DoubtfulCaptions, objects: int) -> str:
    judged = {found.objects[row] for row in np.flatnonzero(found.judged).tolist()}
    if not judged:
        return (
            f"No object has {LEAST_CAPTIONS} distinct captions: there is too little to compare, "
            "and no caption can be doubted."
        )
    return (
        f"{found.left_out} captions of {objects - len(judged)} objects are not judged: with fewer "
        f"than {LEAST_CAPTIONS} distinct captions of an object there is too little to compare."
    )


def _spread(names: list[str]) -> list[str]:
    places = np.linspace(0, len(names) - 1, min(_OBJECTS, len(names))).round().astype(int)
    return [names[place] for place in dict.fromkeys(places.tolist())]
