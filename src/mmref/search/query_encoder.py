"""Questions to vectors: sentences and pictures encoded and mixed."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from mmref.data.images import load_image
from mmref.errors import PathError, StoreMismatchError, UsageError
from mmref.search.cut import known_share
from mmref.search.ingest.listing import whole_path
from mmref.search.ingest.reading import file_digest
from mmref.search.query import Query, mixed
from mmref.search.records import Model, RunIdentity, Vector
from mmref.search.stores.base import VectorStore


class QueryEncoder:
    """Makes the vector of a question.

    Args:
        model: the run's model.
        pictures: the store in which a question's pictures are looked up.
        identity: the run that made what is searched.
    """

    def __init__(self, model: Model, pictures: VectorStore, identity: RunIdentity) -> None:
        self.model = model
        self.pictures = pictures
        self.identity = identity

    def encode(self, query: Query) -> tuple[Vector, set[int]]:
        """The query's unit vector, float32 [d], and the ids of its own pictures in the store.

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
        """The words of a sentence that the run has never seen and cannot know the meaning of.

        None of an encoder that came pre-trained: it knows more words than its captions hold.
        """
        ask = getattr(self.model, "unknown_words", None)
        if ask is None or self.model.kind not in ("compact", "features"):
            return []
        return [str(word) for word in ask(text)]

    def known_share(self, query: Query) -> float:
        """The share of the words that are wanted which the run has seen; 1 without words."""
        wanted = [text for text, weight in query.texts if weight > 0]
        return known_share(wanted, [word for text in wanted for word in self.unknown_words(text)])

    def _image(self, image: Any) -> tuple[Vector, set[int]]:
        if not isinstance(image, str | int | Path):
            if self.model.kind == "features":
                raise UsageError("this run encodes features: name an indexed item by path or id")
            return self._encoded(image), set()
        name = str(image)
        path = whole_path(name) if name else name
        with self.pictures.view() as view:
            item = view.find(path) or view.find(name)
            on_disk = Path(path).is_file() and not isinstance(image, int)
            if self.model.kind != "features" and on_disk:
                own = set(view.find_digest(file_digest(path)))
                if item is not None and item.place.path == path:
                    own.add(item.id)
                return self._encoded(path), own
            if item is None:
                raise PathError(
                    f"{name!r} is no indexed item, and this run encodes features, not pixels: "
                    "give the path or the id of an indexed one"
                    if self.model.kind == "features"
                    else f"{name!r} is neither an image file nor an indexed item: check the path"
                )
            if self.pictures.identity.difference(self.identity) is not None:
                raise StoreMismatchError(
                    f"the pictures of {self.pictures.uri} are of another run than its captions, "
                    f"and {name!r} is no file: complete mmref index "
                    f"{self.pictures.identity.path or 'RUN'} --store {self.pictures.uri} "
                    "--reencode"
                )
            return view.own([item.id])[0][0], {item.id, *view.find_digest(item.digest)}

    def _encoded(self, image: Any) -> Vector:
        pixels = load_image(image, near=self.model.image_size)
        vector: Vector = self.model.encode_image([pixels])[0].float().cpu().numpy()
        return vector
