import csv

import pytest

from mmref.errors import PathError
from mmref.search.export import copy_hits, write_csv
from mmref.search.hits import Hit, Other, Results


def hit(path, rank=1, **metadata):
    return Hit(rank, 7, str(path), 0.9, 0.5, 0.4, metadata)


def test_a_table_of_several_questions(tmp_path):
    first = Results([hit("/a,b.png", camera="c3"), hit('/"q".png', 2, tags=["x"])], query="red")
    second = Results([hit("/line\nbreak.png", camera="ü")], query="not: blue")
    write_csv(tmp_path / "t.csv", [first, second])
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == ["/a,b.png", '/"q".png', "/line\nbreak.png"]
    assert [row["query"] for row in rows] == ["red", "red", "not: blue"]
    assert [row["meta.camera"] for row in rows] == ["c3", "", "ü"]
    assert rows[1]["meta.tags"] == '["x"]'
    assert float(rows[0]["reference_score"]) == 0.4
    write_csv(tmp_path / "none.csv", [Results(query="red")])
    assert (tmp_path / "none.csv").read_text().count("\n") == 1


def test_groups_have_columns_of_their_own(tmp_path):
    one = Hit(1, 7, "/a.png", 0.9, 0.9, None, {}, "mug", (Other(8, "/b.png", 0.8),))
    write_csv(tmp_path / "t.csv", [Results([one])])
    assert "group,others" in (tmp_path / "t.csv").read_text()
    assert ",mug,1\n" in (tmp_path / "t.csv").read_text()


def test_copies_never_overwrite(tmp_path):
    source = tmp_path / "pics" / "a.png"
    source.parent.mkdir()
    source.write_bytes(b"one")
    target = tmp_path / "out"
    pages = [Results([hit(source), hit(tmp_path / "gone.png", 2)])]
    copies, absent = copy_hits(target, pages)
    assert copies == [target / "0001-a.png"]
    assert [one.rank for one in absent] == [2]
    assert copy_hits(target, pages)[0] == copies  # the same content: left as it is
    (target / "0001-a.png").write_bytes(b"mine")
    copies, _ = copy_hits(target, pages)
    assert copies == [target / "0001-a-2.png"]
    assert (target / "0001-a.png").read_bytes() == b"mine"
    assert (target / "0001-a-2.png").read_bytes() == b"one"


def test_copies_of_several_questions_and_long_names(tmp_path):
    source = tmp_path / f"{'x' * 250}.png"
    source.write_bytes(b"one")
    copies, _ = copy_hits(tmp_path / "out", [Results([hit(source)]), Results([hit(source)])])
    assert [path.name[:9] for path in copies] == ["001-0001-", "002-0001-"]
    assert all(path.suffix == ".png" for path in copies)
    with pytest.raises(PathError, match="is a file"):
        copy_hits(source, [])
