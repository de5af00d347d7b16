from dataclasses import replace

import pytest

from mmref.data.dataset import RetrievalDataset
from mmref.data.synthetic import generate
from mmref.errors import ConfigError, DataError
from mmref.experiments.drawn import draw, fingerprint, recaptioned, synthetic_settings

from .sets import DRAWN


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw(DRAWN, tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"omit": 0.75, "test_omit": 0.4, "test_contradict": 0.1},
        {"contradict": 0.6, "test_omit": 0.9},
        {"contradict": 0.0, "omit": 0.0},
        {"paraphrase": 0.9, "test_vague": 0.5},
    ],
)
def test_other_captions_are_those_that_would_have_been_written(drawn, tmp_path, changes):
    settings = replace(DRAWN, **changes)
    written = RetrievalDataset.load(generate(settings, tmp_path / "again"))
    made = recaptioned(RetrievalDataset.load(drawn), settings)
    assert made.captions == written.captions
    for name in written.metadata_names:
        assert made.table[name].to_pylist() == written.table[name].to_pylist(), name
    assert [p.read_bytes() for p in made.image_paths] == [
        p.read_bytes() for p in written.image_paths
    ]


def test_it_does_change_captions(drawn):
    data = RetrievalDataset.load(drawn)
    other = recaptioned(data, replace(DRAWN, omit=0.9, test_omit=DRAWN.omit))
    assert other.split("train").captions != data.split("train").captions
    assert other.split("test").captions == data.split("test").captions


def test_another_set_is_refused(drawn):
    with pytest.raises(DataError, match="other settings"):
        recaptioned(RetrievalDataset.load(drawn), replace(DRAWN, objects=9))


def test_a_set_is_drawn_once(drawn):
    before = (drawn / "manifest.jsonl").stat().st_mtime_ns
    assert draw(DRAWN, drawn.parent) == drawn
    assert (drawn / "manifest.jsonl").stat().st_mtime_ns == before
    other = draw(replace(DRAWN, seed=1), drawn.parent)
    assert other != drawn
    assert fingerprint(other) != fingerprint(drawn)


def test_a_set_without_its_manifest_is_said(tmp_path):
    with pytest.raises(DataError, match="remove its folder"):
        fingerprint(tmp_path)


def test_how_to_draw_is_read():
    found = synthetic_settings("figures", " objects=12, omit=0,image_size=64x32 ")
    assert (found.objects, found.omit, found.image_size) == (12, 0.0, (64, 32))
    assert synthetic_settings("figures") == synthetic_settings("figures", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("object=12", "object=12.*names: captions"),
        ("objects", "takes name=value"),
        ("objects=many", "objects is a whole number"),
        ("objects=1.5", "objects is a whole number"),
        ("omit=yes", "omit is a number"),
        ("omit=", "omit is a number"),
        ("omit=2", "omit"),
        ("seed=3", "seed=3"),
        ("image_size=64", "HEIGHTxWIDTH"),
    ],
)
def test_a_wrong_way_to_draw_is_said(text, message):
    with pytest.raises(ConfigError, match=message):
        synthetic_settings("figures", text)


def test_an_unknown_domain_is_said():
    with pytest.raises(ConfigError, match="no domain 'cars'"):
        synthetic_settings("cars")
