import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from mmref.data.dataset import RetrievalDataset, build_table
from mmref.data.inspection import Inspection, inspect_dataset

Row = tuple[str, list[str], str, str]


def picture(path: Path, colour: int) -> None:
    Image.new("RGB", (4, 4), (colour, 0, 0)).save(path)


def dataset(root: Path, rows: list[Row], matrix: np.ndarray | None = None) -> RetrievalDataset:
    images, captions, objects, splits = (list(column) for column in zip(*rows, strict=True))
    feature_rows = None if matrix is None else list(range(len(rows)))
    table = build_table(images, captions, objects, splits, feature_rows=feature_rows)
    return RetrievalDataset(table, root, "set", "manifest", matrix, ("said before",))


def kinds(found: Inspection) -> dict[str, int]:
    return {problem.kind: problem.count for problem in found.problems}


CLEAN: list[Row] = [
    ("a.png", ["A red coat", "red"], "a", "train"),
    ("b.png", ["A blue coat"], "b", "train"),
    ("c.png", ["Grey, isn't it"], "c", "val"),
    ("d.png", ["green", "green"], "d", "val"),
]


def clean(root: Path) -> list[Row]:
    for index, (name, *_) in enumerate(CLEAN):
        picture(root / name, index)
    return list(CLEAN)


def test_counts(tmp_path: Path) -> None:
    found = inspect_dataset(dataset(tmp_path, clean(tmp_path)))
    train, val = found.splits["train"], found.splits["val"]
    assert (train.objects, train.images, train.captions, train.queries) == (2, 2, 3, 3)
    assert (train.words, train.words_per_caption) == (4, 2.3)
    assert (val.captions, val.queries, val.words) == (3, 2, 4)
    assert found.problems == () and found.usable and found.readable == 4
    assert not found.closed_set and not found.features_only and found.feature_dimension is None
    assert found.notes == ("said before",)


def test_missing_and_broken_files(tmp_path: Path) -> None:
    rows = clean(tmp_path)
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").write_bytes(b"")
    content = (tmp_path / "c.png").read_bytes()
    (tmp_path / "c.png").write_bytes(content[:-30])
    found = inspect_dataset(dataset(tmp_path, rows))
    assert kinds(found) == {"missing-image": 1, "broken-image": 2}
    assert found.problems[0].items == ("a.png",)
    assert found.problems[1].items[0] == "b.png: empty file"
    assert found.problems[1].items[1].startswith("c.png: broken or truncated")
    assert found.readable == 1 and found.usable


def test_nothing_readable_is_unusable_without_features(tmp_path: Path) -> None:
    rows = clean(tmp_path)
    for name, *_ in rows:
        (tmp_path / name).write_bytes(b"x")
    assert not inspect_dataset(dataset(tmp_path, rows)).usable
    assert inspect_dataset(dataset(tmp_path, rows, np.eye(4, dtype=np.float32))).usable


def test_object_leak_and_closed_set(tmp_path: Path) -> None:
    rows = clean(tmp_path)
    picture(tmp_path / "e.png", 9)
    leak = [*rows, ("e.png", ["x"], "b", "val")]
    found = inspect_dataset(dataset(tmp_path, leak))
    assert kinds(found) == {"object-leak": 1}
    assert found.problems[0].items == ("b (train, val)",)
    closed = [*leak[:2], leak[4], ("c.png", ["y"], "a", "val")]
    found = inspect_dataset(dataset(tmp_path, closed))
    assert found.closed_set and kinds(found) == {}
    assert found.notes[-1].startswith("closed set")


def test_the_same_image_in_two_splits_and_rows(tmp_path: Path) -> None:
    rows = clean(tmp_path)
    found = inspect_dataset(dataset(tmp_path, [*rows, ("a.png", ["x"], "c", "val")]))
    assert kinds(found) == {"image-leak": 1, "repeated-image": 1}
    assert found.problems[0].items == ("a.png (train, val)",)
    assert found.splits["val"].images == 3


def test_the_same_content_under_other_names(tmp_path: Path) -> None:
    rows = clean(tmp_path)
    for name in ("a2.png", "c2.png"):
        (tmp_path / name).write_bytes((tmp_path / f"{name[0]}.png").read_bytes())
    within = [*rows, ("a2.png", ["x"], "a", "train")]
    found = inspect_dataset(dataset(tmp_path, within))
    assert kinds(found) == {"duplicate-image": 1}
    assert found.problems[0].items == ("a.png = a2.png",)
    across = [*rows, ("a2.png", ["x"], "c", "val")]
    found = inspect_dataset(dataset(tmp_path, across))
    assert kinds(found) == {"content-leak": 1, "duplicate-objects": 1}
    assert found.problems[0].items == ("a.png (train) = a2.png (val)",)


def test_features_only(tmp_path: Path) -> None:
    matrix = np.eye(4, dtype=np.float32)
    matrix[2] = matrix[0]
    found = inspect_dataset(dataset(tmp_path, CLEAN, matrix))
    assert found.features_only and found.feature_dimension == 4 and found.readable == 4
    assert kinds(found) == {"content-leak": 1, "duplicate-objects": 1}


def test_thin_splits_and_objects_without_captions(tmp_path: Path) -> None:
    rows = clean(tmp_path)[:3]
    rows[1] = ("b.png", [], "b", "train")
    found = inspect_dataset(dataset(tmp_path, rows))
    assert kinds(found) == {"one-object": 1, "object-without-captions": 1}
    assert [problem.items for problem in found.problems] == [("val",), ("b",)]


def test_shared_captions_are_notes(tmp_path: Path) -> None:
    rows = clean(tmp_path)
    rows[3] = ("d.png", ["red", "A red coat"], "d", "val")
    rows[1] = ("b.png", ["red"], "b", "train")
    found = inspect_dataset(dataset(tmp_path, rows))
    assert found.problems == ()
    assert found.notes == (
        "said before",
        "captions in more than one split: 2",
        "captions of more than one object: 2",
    )


def test_long_lists_are_cut_and_counted(tmp_path: Path) -> None:
    rows: list[Row] = [(f"{i:02}.png", ["x"], f"o{i}", "train") for i in range(25)]
    found = inspect_dataset(dataset(tmp_path, rows))
    assert kinds(found) == {"missing-image": 25}
    assert found.problems[0].items == tuple(f"{i:02}.png" for i in range(20))
    assert "25" in found.problems[0].message


def test_progress_and_json(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = inspect_dataset(
        dataset(tmp_path, clean(tmp_path)), progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(4, 4)]
    document = json.loads(json.dumps(found.to_json()))
    assert document["splits"]["train"]["objects"] == 2
    assert document["problems"] == [] and document["closed_set"] is False


def test_counts_are_compared_with_the_published_ones(tmp_path: Path) -> None:
    plain = inspect_dataset(dataset(tmp_path, clean(tmp_path)))
    assert plain.published is None and plain.protocol == "manifest"
    assert plain.to_json()["published"] is None
    people = replace(dataset(tmp_path, clean(tmp_path)), format="rstpreid", protocol="person")
    found = inspect_dataset(people)
    assert found.splits["val"].queries == 3  # the repeated caption is asked twice
    assert found.published is not None and not found.published.matches
    document = json.loads(json.dumps(found.to_json()))["published"]
    assert document["name"] == "RSTPReid" and document["matches"] is False
    assert document["differences"][0] == {
        "part": "train",
        "what": "objects",
        "found": 2,
        "published": 3701,
    }
