"""The search engine: a question -> a vector -> the nearest items -> refined scores -> hits.

The dense nearest items are scored again through their stored profiles: S = cos + weight * S_ref.
The score of an item depends on nothing but the query and that item.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from mmref.data.images import load_image
from mmref.errors import PathError, StoreMismatchError, UsageError
from mmref.references.refinement import Profiles, Refiner
from mmref.search.ingest import file_digest
from mmref.search.listing import whole_path
from mmref.search.query import Query, mixed
from mmref.search.records import Arrays, Item, Model, RunIdentity, Vector
from mmref.search.stores.base import VectorStore, open_store

CANDIDATES = 200
DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer.

    Attributes:
        rank: 1 for the best.
        id: the item's number in the store.
        path: its file, or its name when it has features only.
        score: what the ranking goes by.
        base_score: cosine of query and item.
        reference_score: similarity through the references, or None without refinement.
        metadata: what the SOURCE said of it.
    """

    rank: int
    id: int
    path: str
    score: float
    base_score: float
    reference_score: float | None
    metadata: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def reference_scores(query: Arrays, items: Arrays) -> Vector:
    """S_ref of one query and n items from stored profiles, float32 [n].

    The same as ``Refiner.reference_similarity``, without spreading sparse profiles out.

    Args:
        query: the profile of one query, arrays [1, ...].
        items: profiles of n items, arrays [n, ...].

    Example:
        >>> query = {"indices": np.int32([[4, 1]]), "values": np.float16([[0.75, 0.5]])}
        >>> item = {"indices": np.int32([[1, 4]]), "values": np.float16([[1.0, 0.5]])}
        >>> reference_scores(query, item).tolist()
        [0.875]
    """
    if "dense" in items:
        dense: Vector = np.einsum("ij,j->i", items["dense"], query["dense"][0])
        return dense
    length = 1 + max(int(query["indices"].max()), int(items["indices"].max(initial=0)))
    spread = np.zeros(length, dtype=np.float32)
    spread[query["indices"][0]] = query["values"][0]
    values = items["values"].astype(np.float32)
    sparse: Vector = np.einsum("ij,ij->i", spread[items["indices"]], values)
    return sparse


class Searcher:
    """Answers questions from one store.

    Threads may share a searcher.

    Example::

        with Searcher.open("flags.store") as searcher:
            for hit in searcher.search("a red flag with a yellow star", k=5):
                print(hit.rank, round(hit.score, 3), hit.path)

    Args:
        store: an open store.
        model: the model that made it.
        refine: whether refinement is on unless asked otherwise; by default it is where the run's
            validation chose it.

    Raises:
        StoreMismatchError: another run made the store.
        UsageError: refinement is asked of a run that has none.
    """

    def __init__(self, store: VectorStore, model: Model, refine: bool | None = None) -> None:
        self.store = store
        self.model = model
        made, here = store.identity, RunIdentity.of(model, "")
        difference = made.difference(here)
        if difference is not None:
            raise StoreMismatchError(
                f"{store.uri} was made by the run {made.id} ({made.path or 'path unknown'}), not "
                f"by {here.id}: {difference}; search with --run {made.path or 'RUN'}, or make a "
                "new store: mmref index RUN IMAGES... --store NEW"
            )
        self._refiner = model.refiner
        self.refine = self._can_refine if refine is None else refine
        self._require_refiner(self.refine)

    @classmethod
    def open(
        cls,
        store: str | Path,
        run: str | Path | Model | None = None,
        refine: bool | None = None,
    ) -> Self:
        """Open a store and load the run that made it.

        Args:
            store: the store's address.
            run: the run's folder when it has moved, or a loaded model.
            refine: as for the class.

        Raises:
            PathError: there is no store, or the run's folder is not where it was.
            StoreMismatchError: another run made the store.
            StoreError: the store is damaged.
        """
        opened = open_store(str(store))
        try:
            model = _model(opened, run) if run is None or isinstance(run, str | Path) else run
            return cls(opened, model, refine)
        except BaseException:
            opened.close()
            raise

    @property
    def _can_refine(self) -> bool:
        return self._refiner is not None and self._refiner.weight > 0

    def _require_refiner(self, refine: bool) -> None:
        if refine and not self._can_refine:
            raise UsageError(
                f"the run {self.model.id} has no refinement (its validation chose none): "
                "search without it (--no-refine)"
            )

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of items that can be found."""
        return len(self.store)

    # ------------------------------------------------------------------ asking

    def search(
        self,
        query: str | Query | None = None,
        *,
        image: Any = None,
        k: int = 10,
        min_score: float | None = None,
        refine: bool | None = None,
    ) -> list[Hit]:
        """The best items for a sentence, a picture, both, or a mixed query.

        A picture that is in the store itself is left out of its own results.

        Args:
            query: a sentence or a :class:`Query`.
            image: a path, a PIL image, or the path or id of an indexed item; not with a Query.
            k: how many hits at most, at least 1.
            min_score: leave out hits below this score.
            refine: refine or not; by default as the searcher was opened.

        Returns:
            Hits by falling score, equal scores by id.

        Raises:
            UsageError: nothing is asked, k < 1, or there is no such refinement.
            PathError: there is no such picture, neither on disk nor in the store.
            ImageError: the picture cannot be decoded.
        """
        if isinstance(query, Query):
            if image is not None:
                raise UsageError("give the image inside the Query")
            asked = query
        else:
            asked = Query.of(query, image)
        vector, own = self.encode(asked)
        return self.search_vector(
            vector, modality=asked.modality, k=k, min_score=min_score, refine=refine, leave_out=own
        )

    def encode(self, query: Query) -> tuple[Vector, set[int]]:
        """The query's unit vector, float32 [d], and the ids of its own pictures.

        Raises:
            UsageError: the run knows no word of a sentence, or the parts cancel one another.
            PathError: there is no such picture.
            ImageError: the picture cannot be decoded.
        """
        vectors: list[Vector] = []
        own: set[int] = set()
        if query.texts:
            encoded = self.model.encode_text([text for text, _ in query.texts])
            for (text, _), vector in zip(query.texts, encoded.float().cpu().numpy(), strict=True):
                words = set(re.findall(r"\w+", text.lower()))
                if not vector.any() or (words and words <= set(self.unknown_words(text))):
                    raise UsageError(
                        f"the run knows no word of {text!r}: use words of its training captions"
                    )
                vectors.append(vector)
        for image, _ in query.images:
            picture, ids = self._image(image)
            vectors.append(picture)
            own |= ids
        weights = [weight for _, weight in (*query.texts, *query.images)]
        return mixed(np.stack(vectors), weights), own

    def unknown_words(self, text: str) -> list[str]:
        """The words of a sentence that the run has never seen; it cannot tell what they mean."""
        ask = getattr(self.model, "unknown_words", None)
        return [] if ask is None else [str(word) for word in ask(text)]

    def _image(self, image: Any) -> tuple[Vector, set[int]]:
        if not isinstance(image, str | int | Path):
            if self.model.kind == "features":
                raise UsageError("this run encodes features: name an indexed item by path or id")
            return self._encoded(image), set()
        name = str(image)
        path = whole_path(name) if name else name
        item = self.store.find(path) or self.store.find(name)
        on_disk = Path(path).is_file() and not isinstance(image, int)
        if self.model.kind != "features" and on_disk:
            own = set(self.store.find_digest(file_digest(path)))
            if item is not None and item.place.path == path:
                own.add(item.id)
            return self._encoded(path), own
        if item is None:
            raise PathError(
                f"{name!r} is no indexed item: give the path or the id of one"
                if self.model.kind == "features"
                else f"{name!r} is neither an image file nor an indexed item: check the path"
            )
        return self._stored(item)

    def _encoded(self, image: Any) -> Vector:
        pixels = load_image(image, near=self.model.image_size)
        vector: Vector = self.model.encode_image([pixels])[0].float().cpu().numpy()
        return vector

    def _stored(self, item: Item) -> tuple[Vector, set[int]]:
        return self.store.vectors([item.id])[0], {item.id, *self.store.find_digest(item.digest)}

    # ------------------------------------------------------------------ ranking

    def search_vector(
        self,
        vector: Any,
        *,
        modality: str = "text",
        k: int = 10,
        min_score: float | None = None,
        refine: bool | None = None,
        leave_out: Collection[int] = (),
    ) -> list[Hit]:
        """The best items for a vector.

        Args:
            vector: a unit vector of the model, [d].
            modality: ``text`` or ``image``: which encoder it is from.
            k: how many hits at most, at least 1.
            min_score: leave out hits below this score.
            refine: refine or not; by default as the searcher was opened.
            leave_out: ids that are not to be among the hits.

        Raises:
            UsageError: k < 1, a vector of another length, or there is no such refinement.
        """
        if k < 1:
            raise UsageError(f"k must be at least 1, not {k}")
        refined = self.refine if refine is None else refine
        self._require_refiner(refined)
        unit = np.asarray(vector, dtype=np.float32)
        if unit.shape != (self.model.dimension,):
            raise UsageError(f"a query vector has {self.model.dimension} numbers, not {unit.shape}")
        found = self.store.candidates(unit, max(CANDIDATES, 2 * k) + len(leave_out))
        base = found.scores.astype(np.float64)
        reference: Any = None
        scores = base
        if refined and len(found.ids) and self._refiner is not None:
            profile = _profile(self._refiner, unit, modality)
            reference = reference_scores(profile, found.profiles).astype(np.float64)
            scores = base + self._refiner.weight * reference
        scores = scores.round(DECIMALS)
        keep = np.ones(len(scores), bool) if min_score is None else scores >= min_score
        if leave_out:
            keep &= ~np.isin(found.ids, list(leave_out))
        rows = np.flatnonzero(keep)
        rows = rows[np.lexsort((found.ids[rows], -scores[rows]))][:k]
        items = {item.id: item for item in self.store.get([int(i) for i in found.ids[rows]])}
        hits: list[Hit] = []
        for row in rows:
            item = items.get(int(found.ids[row]))
            if item is not None:  # else a writer has just removed it
                hits.append(
                    Hit(
                        len(hits) + 1,
                        item.id,
                        item.place.path,
                        float(scores[row]),
                        round(float(base[row]), DECIMALS),
                        None if reference is None else round(float(reference[row]), DECIMALS),
                        item.place.metadata,
                    )
                )
        return hits


@torch.inference_mode()
def _profile(refiner: Refiner, vector: Vector, modality: str) -> Arrays:
    profiles: Profiles = refiner.profiles(torch.from_numpy(vector[None]), modality, exact=True)
    return profiles.to_arrays()


def _model(store: VectorStore, run: str | Path | None) -> Model:
    from mmref.model import MMRef

    made = store.identity
    path = Path(made.path if run is None else run)
    if run is None and not (made.path and path.is_dir()):
        raise PathError(
            f"the run {made.id} that made {store.uri} is not at {made.path or 'a known path'} any "
            "more: say where it is with --run RUN"
        )
    model: Model = MMRef.from_pretrained(path)
    return model


def results_json(query: Query, hits: Sequence[Hit]) -> dict[str, Any]:
    """The document of ``mmref search --json``."""
    return {"query": query.label, "results": [hit.as_dict() for hit in hits]}
