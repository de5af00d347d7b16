import numpy as np
import pytest

from mmref.errors import StoreMismatchError
from mmref.search.captions.beside import open_captions
from mmref.search.captions.index import index_captions
from mmref.search.captions.listing import list_captions
from mmref.search.captions.reencode import reencode_captions
from mmref.search.engine import Searcher
from mmref.search.ingest.index import index_images
from mmref.search.ingest.reencode import reencode

from ..fakes import ColourModel
from .sources import index_both, write_source

ROWS = {"red": ["a red card", "white and red"], "blue": ["a blue card"]}


class Later(ColourModel):
    """A run whose vectors are others, and that does not know white."""

    def __init__(self):
        super().__init__(refine="hubs", name="later", digest="decade")

    def encode_image(self, items, batch_size=256):
        return super().encode_image(items, batch_size).flip(1)

    def encode_text(self, texts, batch_size=256):
        known = [text.replace("white and red", "") for text in texts]
        return super().encode_text(known, batch_size).flip(1)


@pytest.fixture
def source(tmp_path):
    return write_source(tmp_path / "data", ROWS)


def test_captions_follow_their_pictures(model, source, tmp_path):
    store, later = tmp_path / "s", Later()
    assert reencode_captions(later, write_pictures(model, source, tmp_path / "bare")) is None
    index_both(model, [source], store)
    reencode(later, store)
    refused = "the captions of .*/s were made by the run colours.*--store .*/s --reencode"
    with pytest.raises(StoreMismatchError, match=refused):
        index_captions(later, list_captions([source]), store)
    report = reencode_captions(later, store, storage="fp16")
    assert (report.updated, report.encoded, report.removed) == (2, 2, 1)
    assert [skip.reason for skip in report.skipped] == ["the run knows no word of this caption"]
    with open_captions(store) as captions:
        assert (captions.identity.id, captions.storage, len(captions)) == ("later", "fp16", 2)
        assert captions.verify() == []
        ids = [item.id for item in captions.items()]
        wanted = later.encode_text(["a red card", "a blue card"])
        np.testing.assert_allclose(captions.vectors(ids), wanted, atol=1e-3)
    again = reencode_captions(later, store)
    assert (again.updated, again.unchanged) == (0, 2)


def test_captions_whose_picture_is_forgotten_are_too(model, source, tmp_path):
    store, later = tmp_path / "s", Later()
    index_both(model, [source], store)
    (source / "blue.png").unlink()
    reencode(later, store, prune=True)
    report = reencode_captions(later, store)
    assert (report.updated, report.removed) == (1, 2)
    with open_captions(store) as captions:
        assert [item.place.metadata["caption"] for item in captions.items()] == ["a red card"]


def write_pictures(model, source, store):
    index_images(model, [source], store)
    return store


def test_it_goes_on_where_it_was_stopped(model, source, tmp_path):
    store, later = tmp_path / "s", Later()
    index_both(model, [source], store)
    reencode(later, store)

    def stop(seen, total, report):
        assert (seen, total) == (1, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reencode_captions(later, store, batch_size=1, progress=stop)
    with open_captions(store) as captions:
        assert captions.identity.id == "colours"
        assert captions.info()["reencoding"] == "later"
    report = reencode_captions(later, store)
    assert (report.unchanged, report.updated, report.removed) == (1, 1, 1)


def test_a_search_between_the_two_is_of_the_old_run_or_refused(model, source, tmp_path):
    store = tmp_path / "s"
    index_both(model, [source], store)
    red = tmp_path / "red.png"
    red.write_bytes((source / "red.png").read_bytes())
    with Searcher.open(store, model, captions=True) as searcher:
        before = searcher.search(image=red)
    reencode(Later(), store)
    with Searcher.open(store, model, captions=True) as searcher:
        assert searcher.search(image=red) == before
        (source / "red.png").unlink()
        with pytest.raises(StoreMismatchError, match=r"of another run than its captions.*reencode"):
            searcher.search(image=source / "red.png")
    with pytest.raises(StoreMismatchError, match="was made by the run colours"):
        Searcher.open(store, Later(), captions=True)
