"""``mmref store`` for the captions of a store: each does nothing where it has none."""

from contextlib import closing
from pathlib import Path
from typing import Any

from mmref.search.captions.beside import NAME, captions_uri, open_captions
from mmref.search.records import RunIdentity
from mmref.search.stores.base import VectorStore
from mmref.search.stores.exchange import export_store, import_store


def captions_facts(store: str | Path) -> dict[str, Any]:
    """``captions``: how many; ``captions_run``: the id of the run that made them, or None."""
    opened = open_captions(store)
    if opened is None:
        return {"captions": 0, "captions_run": None}
    with closing(opened):
        return {"captions": len(opened), "captions_run": opened.identity.id}


def verify_captions(store: str | Path, repair: bool = False) -> tuple[list[str], list[str]]:
    """What was wrong with the captions of a store, and what is left of it after a repair.

    Args:
        store: the address of the pictures' store.
        repair: mend what can be, as ``VectorStore.verify`` does.
    """
    reader = open_captions(store)
    if reader is None:
        return [], []
    with closing(reader):
        if not repair:
            found = _named(reader.verify())
            return found, found
    with closing(_writer(store, reader.identity)) as opened:
        found = opened.verify(repair=True)
        return _named(found), _named(opened.verify()) if found else []


def _named(problems: list[str]) -> list[str]:
    return [f"captions: {problem}" for problem in problems]


def _writer(store: str | Path, identity: RunIdentity) -> VectorStore:
    opened = open_captions(store, identity)
    assert opened is not None
    return opened


def compact_captions(store: str | Path) -> None:
    """Give back the room of captions that were removed."""
    reader = open_captions(store)
    if reader is not None:
        reader.close()
        with closing(_writer(store, reader.identity)) as opened:
            opened.compact()


def export_captions(store: str | Path, folder: str | Path) -> int:
    """Write the captions of a store into ``captions`` within an exported folder; how many.

    Raises:
        PathError: they are there already, or it cannot be written.
    """
    opened = open_captions(store)
    if opened is None:
        return 0
    with closing(opened):
        return export_store(opened, Path(folder) / NAME)


def import_captions(folder: str | Path, store: str | Path) -> int:
    """Take the captions of an exported folder into a store, after its pictures; how many.

    Raises:
        DataError: the export is damaged.
        StoreError: the store holds captions that are not of this export.
    """
    source = Path(folder) / NAME
    return import_store(source, captions_uri(store)) if source.is_dir() else 0
