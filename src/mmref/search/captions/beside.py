"""Where captions are kept: in a store of their own beside the pictures', made by the same run.

Of a local store that is the folder ``captions`` within it, of the Milvus collection ``NAME`` the
collection ``NAME_captions``. An item of it is one caption of one picture:

============  ====================================================================================
path          the picture's path (or id), ``#``, and the caption's number from 1: ``/pics/a.jpg#2``
digest        of the sentence
metadata      that of the picture, and ``caption`` (the sentence) and ``image`` (the picture's path)
time          that of the picture, so that filters by ``date`` hold for both
============  ====================================================================================
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from mmref.errors import PathError, UsageError
from mmref.search.records import Changes, Item, RunIdentity
from mmref.search.stores.base import VectorStore, View, open_store
from mmref.search.stores.milvus_address import LITE, LITE_COLLECTION, redacted

NAME = "captions"
_BLOCK_ROWS = 2048


def captions_uri(store: str | Path) -> str:
    """The address of the captions that belong to a store of pictures.

    Args:
        store: the address of the pictures' store.

    Example:
        >>> captions_uri("flags.store"), captions_uri("milvus://host:19530/flags")
        ('flags.store/captions', 'milvus://host:19530/flags_captions')
        >>> captions_uri("milvus-lite://pics.db")
        'milvus-lite://pics.db/mmref_captions'
    """
    uri = str(store)
    scheme, mark, _ = uri.partition("://")
    if not mark:
        return str(Path(uri) / NAME)
    whole = uri.rstrip("/")
    if scheme == LITE and whole.endswith(".db"):
        whole += f"/{LITE_COLLECTION}"
    return f"{whole}_{NAME}"


def open_captions(store: str | Path, writer: RunIdentity | None = None) -> VectorStore | None:
    """The captions of a store, or None where it has none yet; never made.

    Args:
        store: the address of the pictures' store.
        writer: the run that is going to write; by default they are opened for reading.

    Raises:
        StoreMismatchError: another run made them than ``writer``.
        StoreError: they are damaged, or have another writer.
    """
    try:
        reader = open_store(captions_uri(store))
    except PathError:
        return None
    if writer is None:
        return reader
    reader.close()
    return open_store(captions_uri(store), writer)


def require_captions(store: str | Path, pictures: VectorStore) -> VectorStore:
    """The captions of a store, to read.

    Raises:
        PathError: the store has none; the message names the command that adds them.
    """
    opened = open_captions(store)
    if opened is None:
        run = pictures.identity.path or "RUN"
        raise PathError(
            f"{pictures.uri} holds no captions: add them with mmref index {run} SOURCE --store "
            f"{pictures.uri} --captions"
        )
    return opened


def refuse_captions(store: str | Path) -> None:
    """Refuse the address of captions where that of pictures is meant.

    Raises:
        UsageError: it is one.
    """
    uri = str(store).rstrip("/")
    if "://" not in uri:
        uri = str(Path(uri).expanduser().absolute())
    for mark in (f"/{NAME}", f"_{NAME}"):
        base = uri.removesuffix(mark)
        if base == uri or captions_uri(base) != uri:
            continue
        try:
            with open_store(base):
                pass
        except (PathError, UsageError):
            continue
        raise UsageError(
            f"{redacted(uri)} is where the captions of {redacted(base)} are kept: name "
            f"--store {redacted(base)} (with --captions it takes captions too)"
        )


def caption_path(image: str, number: int) -> str:
    """The name of a picture's caption, numbers from 1.

    Example:
        >>> caption_path("/pics/a.jpg", 2)
        '/pics/a.jpg#2'
    """
    return f"{image}#{number}"


def orphans(captions: View, pictures: View) -> Iterator[Item]:
    """The captions whose picture the store does not hold any more."""
    items = captions.items()
    while block := list(islice(items, _BLOCK_ROWS)):
        held = pictures.at(list({_image(item) for item in block}))
        yield from (item for item in block if _image(item) not in held)


def forget_orphans(captions: VectorStore, pictures: View) -> int:
    """Forget the captions whose picture the store does not hold any more; how many."""
    with captions.view() as view:
        gone = [item.id for item in orphans(view, pictures)]
    if gone:
        captions.apply(Changes(removed=gone))
    return len(gone)


def _image(item: Item) -> str:
    return str(item.place.metadata["image"])
