"""The search engine: a question -> a vector -> the nearest items -> refined scores -> hits."""

import threading
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np

from mmref.errors import PathError, StoreMismatchError, UsageError
from mmref.references.refinement import reference_scores
from mmref.search.captions.beside import require_captions
from mmref.search.cursor import Cursor
from mmref.search.cut import Confidence, Noise
from mmref.search.filters import Filter, columns_of, unknown_columns, unlike_values
from mmref.search.hits import Hit, Results
from mmref.search.noise import measured_noise, nearness
from mmref.search.options import Options
from mmref.search.pages import behind, bunched, hits_of, listed
from mmref.search.query import Query
from mmref.search.query_encoder import QueryEncoder
from mmref.search.ranking import Ranked, Ranking, Scorer
from mmref.search.records import Model, RunIdentity, Vector
from mmref.search.stores.base import VectorStore, View, open_store

__all__ = ["Hit", "Options", "Results", "Searcher", "reference_scores"]

CANDIDATES = 200
_SAMPLE = 100  # items by which a filter that finds nothing is explained


class Searcher:
    """Answers questions from one store: its pictures or, with ``pictures``, its captions.

    Threads may share a searcher; each search reads one generation of the store.

    Example::

        from mmref import Searcher

        with Searcher.open("flags.store") as searcher:
            for hit in searcher.search("a red flag with a yellow star", k=5):
                print(hit.rank, round(hit.score, 3), hit.path)
            page = searcher.search(
                ["2.0:red coat", "in the rain"],
                without="backpack",
                filter="camera = 'c3' and date >= 2026-01-01",
                auto_cut=True,
            )
            if page.no_match:
                print("nothing like it")
            elif page.next:
                more = searcher.search(..., cursor=page.next)  # the same question
        with Searcher.open("flags.store", captions=True) as searcher:
            for hit in searcher.search(image="a.jpg", k=5):
                print(round(hit.score, 3), hit.metadata["caption"], hit.metadata["image"])

    Args:
        store: an open store.
        model: the model that made it.
        refine: whether refinement is on unless asked otherwise; by default it is where the run's
            validation chose it.
        pictures: the open store of the pictures that ``store`` holds the captions of. Equal
            captions are one hit then, and a picture finds its own.

    Raises:
        StoreMismatchError: another run made the store.
        UsageError: refinement is asked of a run that has none.
    """

    def __init__(
        self,
        store: VectorStore,
        model: Model,
        refine: bool | None = None,
        pictures: VectorStore | None = None,
    ) -> None:
        self.store = store
        self.pictures = store if pictures is None else pictures
        self.captions = pictures is not None
        self.model = model
        made, here = store.identity, RunIdentity.of(model, "")
        difference = made.difference(here)
        if difference is not None:
            raise StoreMismatchError(
                f"{store.uri} was made by the run {made.id} ({made.path or 'path unknown'}), not "
                f"by {here.id}: {difference}; search with --run {made.path or 'RUN'}, encode it "
                f"anew (mmref index RUN --store {store.uri} --reencode), or make a new store: "
                "mmref index RUN IMAGES... --store NEW"
            )
        self._refiner = model.refiner
        self._encoder = QueryEncoder(model, self.pictures, made)
        self._noises: dict[tuple[int, bool, str], Noise | None] = {}
        self._guard = threading.Lock()
        self.refine = self._can_refine if refine is None else refine
        self._require_refiner(self.refine)

    @classmethod
    def open(
        cls,
        store: str | Path,
        run: str | Path | Model | None = None,
        refine: bool | None = None,
        captions: bool = False,
    ) -> Self:
        """Open a store and load the run that made it.

        Args:
            store: the store's address.
            run: the run's folder when it has moved, or a loaded model.
            refine: as for the class.
            captions: search among the store's captions (``mmref index --captions``).

        Raises:
            PathError: there is no store, it holds no captions, or the run's folder is not where
                it was.
            StoreMismatchError: another run made the store.
            StoreError: the store is damaged.
        """
        with ExitStack() as stack:
            opened = stack.enter_context(open_store(str(store)))
            pictures = None
            if captions:
                pictures = opened
                opened = stack.enter_context(require_captions(store, pictures))
            model = _model(opened, run) if run is None or isinstance(run, str | Path) else run
            searcher = cls(opened, model, refine, pictures)
            stack.pop_all()
        return searcher

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
        self.pictures.close()

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
        query: str | Sequence[str] | Query | None = None,
        *,
        image: Any = None,
        without: str | Sequence[str] = (),
        k: int = 10,
        filter: str | Filter | None = None,
        min_score: float | None = None,
        auto_cut: bool = False,
        fold: bool | float = False,
        group_by: str | None = None,
        cursor: str | None = None,
        refine: bool | None = None,
        sort: str | None = None,
    ) -> Results:
        """The best items for sentences, pictures, or both.

        A picture that is in the store itself is left out of its own results, with its copies.
        Among captions equal ones are one hit, as by ``group_by="caption"``, unless ``fold`` or
        ``group_by`` says otherwise.

        Args:
            query: a sentence, several, or a :class:`Query`; ``2.0:text`` weighs 2.
            image: a path, a PIL image, or the path or id of an indexed item, or a list of these;
                not with a Query.
            without: sentences that say what is not wanted; not with a Query.
            k: how many hits (with ``group_by``: groups) at most, at least 1.
            filter: what the items' columns must be (:mod:`mmref.search.filters`).
            min_score: leave out hits below this score.
            auto_cut: end the list where scores fall to the noise (:mod:`mmref.search.cut`).
            fold: fold near-duplicates into one hit: True, or the least cosine of duplicates.
            group_by: a column: one hit for each of its values, its best image.
            cursor: ``next`` of the page before, with the same question and options.
            refine: refine or not; by default as the searcher was opened.
            sort: a column by which the k best are shown, falling with ``-`` before it (``-date``).

        Returns:
            Hits by falling score, equal scores by id, unless they are sorted.

        Raises:
            UsageError: nothing is asked, an option is out of its range, the filter or the cursor
                cannot be read, or there is no such refinement.
            PathError: there is no such picture, neither on disk nor in the store.
            ImageError: the picture cannot be decoded.
        """
        if not isinstance(query, Query):
            query = Query.asked(query, image, without)
        elif image is not None or without:
            raise UsageError("give images and what is not wanted inside the Query")
        options = Options.of(k, filter, min_score, auto_cut, fold, group_by, cursor, refine, sort)
        return self.answer(query, options)

    def answer(self, query: Query, options: Options) -> Results:
        """:meth:`search` with its arguments as two values."""
        if self.captions and options.fold is None and options.group_by is None:
            options = replace(options, group_by="caption")
        if options.auto_cut and query.texts and not self._encoder.known_share(query):
            return Results(query=query.label, confidence=Confidence.unknown())
        vector, own = self.encode(query)
        return self._page(vector, query, options, own, query.label)

    def search_vector(
        self,
        vector: Any,
        *,
        modality: str = "text",
        k: int = 10,
        min_score: float | None = None,
        refine: bool | None = None,
        leave_out: Collection[int] = (),
    ) -> Results:
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
        unit = np.asarray(vector, dtype=np.float32)
        if unit.shape != (self.model.dimension,):
            raise UsageError(f"a query vector has {self.model.dimension} numbers, not {unit.shape}")
        options = Options(k=k, min_score=min_score, refine=refine)
        return self._page(unit, modality, options, leave_out, "a vector")

    def encode(self, query: Query) -> tuple[Vector, set[int]]:
        """The query's unit vector, float32 [d], and the ids that are left out of its results.

        Raises:
            UsageError: the run knows no word of a sentence, or the parts cancel one another.
            PathError: there is no such picture.
            ImageError: the picture cannot be decoded.
        """
        vector, own = self._encoder.encode(query)
        return vector, set() if self.captions else own

    def unknown_words(self, text: str) -> list[str]:
        """The words of a sentence that the run has never seen and cannot know the meaning of."""
        return self._encoder.unknown_words(text)

    # ------------------------------------------------------------------ ranking

    def _page(
        self,
        unit: Vector,
        asked: Query | str,
        options: Options,
        leave_out: Collection[int],
        label: str,
    ) -> Results:
        refined = self.refine if options.refine is None else options.refine
        self._require_refiner(refined)
        modality = asked if isinstance(asked, str) else asked.modality
        scorer = Scorer(unit, modality, self._refiner if refined else None)
        digest = options.digest(asked, unit, refined, self.model.digest)
        place = None if options.cursor is None else Cursor.read(options.cursor, digest)
        depth = max(CANDIDATES, 2 * options.k) + len(leave_out)
        with self.store.view() as view:
            bounds = () if place is None else place.bounds
            ranking = Ranking(view, scorer, depth, options.where, leave_out, bounds)
            least = -np.inf if options.min_score is None else options.min_score
            first = ranking.first(lambda tier: _enough(view, tier, options, least))
            note = _note(view, options.where)
            confidence = None
            if options.auto_cut and len(first):
                best = float(first.scores[0])
                noise = self._noise(view, refined, modality)
                if noise is not None and not isinstance(asked, str) and asked.texts:
                    near = nearness(self.model, unit)
                    confidence = noise.confidence(best, near, self._encoder.known_share(asked))
                    if not confidence.confident:
                        return Results(query=label, confidence=confidence, note=note)
                if noise is not None:
                    least = max(least, noise.least(best))
            ranked, bunches = listed(view, ranking, first, least, options, place)
            start = 0 if place is None else behind(ranked, bunches, place)
            page = bunches[start : start + options.k]
            shown = 0 if place is None else place.shown
            hits = hits_of(view, ranked, page, shown, options)
            if not hits and note is None and place is None and options.where is not None:
                rows = [columns_of(item.place) for item in islice(view.items(), _SAMPLE)]
                note = unlike_values(options.where, rows)
            following = None
            if len(bunches) > start + options.k:
                last = page[-1].row
                following = Cursor(
                    digest,
                    view.generation if place is None else place.generation,
                    tuple(ranking.bounds),
                    int(ranked.tiers[last]),
                    float(ranked.scores[last]),
                    int(ranked.ids[last]),
                    shown + len(page),
                ).token()
            changed = place is not None and place.generation != view.generation
        return Results(
            hits, query=label, next=following, confidence=confidence, changed=changed, note=note
        )

    def _noise(self, view: View, refined: bool, modality: str) -> Noise | None:
        key = (view.generation, refined, modality)
        with self._guard:
            if key not in self._noises:
                refiner = self._refiner if refined else None
                if self.captions and modality == "image":
                    with self.pictures.view() as pictures:
                        made = measured_noise(view, self.model, refiner, modality, pictures)
                else:
                    made = measured_noise(view, self.model, refiner, modality)
                self._noises = {k: v for k, v in self._noises.items() if k[0] == key[0]}
                self._noises[key] = made
            return self._noises[key]


def _enough(view: View, tier: Ranked, options: Options, least: float) -> bool:
    """Whether a page of folded or grouped hits can do with the first tier."""
    if options.fold is None and options.group_by is None:
        return True
    kept = tier.only(tier.scores >= least)
    return 2 * len(kept) < len(tier) or len(bunched(view, kept, options)) > options.k


def _note(view: View, where: Filter | None) -> str | None:
    names = None if where is None else view.column_names()
    return None if where is None or names is None else unknown_columns(where, names)


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
