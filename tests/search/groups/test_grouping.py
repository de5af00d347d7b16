import pytest

from mmref.errors import UsageError
from mmref.search.groups.grouping import SHARE, THRESHOLD, Grouping
from mmref.search.records import Place


def at(**metadata):
    return Place("/pics/mugs/a.png", 10, 1, metadata, "/pics")


@pytest.mark.parametrize(
    ("by", "place", "key"),
    [
        ("object", at(object="mug"), '"mug"'),
        ("object", at(object=7), "7"),
        ("object", at(object="7"), '"7"'),  # text is not the number
        ("object", at(object=["a", 1]), '["a", 1]'),
        ("object", at(), None),
        ("object", at(object=None), None),
        ("object", at(object=""), None),
        ("folder", at(), '"/pics/mugs"'),
    ],
)
def test_the_group_of_an_image(by, place, key):
    assert Grouping(by).key(place) == key


def test_a_cluster_is_kept():
    clusters = Grouping("clusters")
    assert (clusters.share, clusters.threshold) == (SHARE, THRESHOLD)
    assert clusters.key(at(clusters="x"), "5") == "5"
    assert clusters.key(at()) is None


def test_as_dict_is_a_round_trip():
    for grouping in (Grouping("object", 0.3), Grouping("clusters", 1, 0.9)):
        assert Grouping.from_dict(grouping.as_dict()) == grouping
    assert Grouping.from_dict(None) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("",), "what to group by"),
        (("object", 1.1), "the share is from 0 to 1"),
        (("object", float("nan")), "the share is from 0 to 1"),
        (("object", 0.5, 0.9), "a threshold is for clusters"),
        (("clusters", 0.5, 0.0), "above 0 and at most 1"),
        (("clusters", 0.5, float("nan")), "above 0 and at most 1"),
    ],
)
def test_what_makes_no_sense_is_refused(given, message):
    with pytest.raises(UsageError, match=message):
        Grouping(*given)
