import pytest

from mmref.data.published_counts import PUBLISHED, Counts, compare
from mmref.data.readers import READERS


def copy_of(name: str) -> dict[str, Counts]:
    """A copy with exactly the published counts; a joined part is held as two."""
    held = {}
    for part, counts in PUBLISHED[name].parts.items():
        first, *rest = part.split("+")
        held[first] = Counts(counts.objects, counts.images, counts.captions or 0)
        for split in rest:
            held[split] = Counts(3, 30, 300)
            held[first] = Counts(
                counts.objects - 3, counts.images - 30, (counts.captions or 0) - 300
            )
    return held


def test_every_field_set_has_counts_and_the_manifest_none() -> None:
    assert set(PUBLISHED) == set(READERS) - {"manifest"}
    assert compare("manifest", {"train": Counts(1, 1, 1)}) is None


def test_totals_are_those_of_the_papers() -> None:
    def total(name: str) -> tuple[int, int, int]:
        parts = PUBLISHED[name].parts.values()
        return (
            sum(part.objects for part in parts),
            sum(part.images for part in parts),
            sum(part.captions or 0 for part in parts),
        )

    assert total("cuhk-pedes") == (13_003, 40_206, 80_440)
    assert total("icfg-pedes") == (4_102, 54_522, 54_522)
    assert total("rstpreid") == (4_101, 20_505, 41_010)
    assert total("cub")[:2] == (200, 11_788)
    assert total("flowers")[:2] == (102, 8_189)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_published_copy_matches(name: str) -> None:
    found = compare(name, copy_of(name))
    assert found is not None and found.matches and found.differences == ()
    assert found.sentence() == f"matches the published {PUBLISHED[name].title} in all counts"


def test_what_differs_by_how_many() -> None:
    held = copy_of("cuhk-pedes")
    held["train"] = Counts(11_003, 34_050, 68_127)
    found = compare("cuhk-pedes", held)
    assert found is not None and not found.matches
    assert found.sentence() == "differs from the published CUHK-PEDES in 2 counts"
    assert [str(difference) for difference in found.differences] == [
        "train images 34,050, published 34,054 (4 fewer)",
        "train captions 68,127, published 68,126 (1 more)",
    ]


def test_a_split_too_few_and_one_too_many() -> None:
    held = copy_of("rstpreid")
    held["extra"] = held.pop("test")
    found = compare("rstpreid", held)
    assert found is not None
    assert [str(one) for one in found.differences[::3]] == [
        "test objects 0, published 200 (200 fewer)",
        "extra objects 200, published 0 (200 more)",
    ]
