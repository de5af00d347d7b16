from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mmref.data.readers.base import hold_out, open_features, split_by_object
from mmref.errors import DataError


class TestSplitByObject:
    def test_shares_and_no_object_in_two_splits(self) -> None:
        objects = [f"object {index // 3}" for index in range(300)]
        splits = split_by_object(objects, seed=0)
        of_object = dict(zip(objects, splits, strict=True))
        assert all(of_object[name] == split for name, split in zip(objects, splits, strict=True))
        assert Counter(of_object.values()) == {"train": 70, "val": 15, "test": 15}

    def test_neither_row_order_nor_repetition_matters(self) -> None:
        objects = [str(index) for index in range(40)]
        once = dict(zip(objects, split_by_object(objects, seed=3), strict=True))
        mixed = list(np.random.default_rng(0).permutation(objects * 2))
        assert all(
            once[name] == split
            for name, split in zip(mixed, split_by_object(mixed, seed=3), strict=True)
        )

    def test_the_seed_matters(self) -> None:
        objects = [str(index) for index in range(40)]
        assert split_by_object(objects, seed=0) == split_by_object(objects, seed=0)
        assert split_by_object(objects, seed=0) != split_by_object(objects, seed=1)

    @pytest.mark.parametrize(
        ("count", "expected"),
        [
            (1, {"train": 1}),
            (2, {"train": 1, "val": 1}),
            (3, {"train": 1, "val": 1, "test": 1}),
            (7, {"train": 5, "val": 1, "test": 1}),
        ],
    )
    def test_few_objects(self, count: int, expected: dict[str, int]) -> None:
        assert Counter(split_by_object([str(i) for i in range(count)], seed=5)) == expected


class TestHoldOut:
    OBJECTS = tuple(str(number) for number in range(50) for _ in range(3))
    SPLITS = ("train",) * 120 + ("test",) * 30  # 40 objects and 10

    def test_a_share_of_the_training_objects_becomes_val(self) -> None:
        splits, said = hold_out(self.OBJECTS, self.SPLITS, 0, 0.1)
        assert Counter(splits) == {"train": 108, "val": 12, "test": 30}
        assert splits[120:] == ["test"] * 30
        of_object = dict(zip(self.OBJECTS, splits, strict=True))
        assert [of_object[name] for name in self.OBJECTS] == splits  # whole objects
        assert said == (
            "no val split: 4 of 40 training objects (12 images) are held out as val, "
            "drawn by seed 0"
        )

    def test_neither_row_order_nor_the_test_split_matters(self) -> None:
        splits, _ = hold_out(self.OBJECTS, self.SPLITS, 3, 0.1)
        held = {n for n, s in zip(self.OBJECTS, splits, strict=True) if s == "val"}
        turned, _ = hold_out(self.OBJECTS[119::-1], self.SPLITS[119::-1], 3, 0.1)
        assert held == {n for n, s in zip(self.OBJECTS[119::-1], turned, strict=True) if s == "val"}
        assert hold_out(self.OBJECTS, self.SPLITS, 4, 0.1)[0] != splits

    def test_a_val_split_stays_and_few_objects_are_left_alone(self) -> None:
        given = ["val", *self.SPLITS[1:]]
        assert hold_out(self.OBJECTS, given, 0, 0.1) == (given, None)
        assert hold_out(list("abc"), ["train"] * 3, 0, 0.5) == (["train"] * 3, None)


class TestOpenFeatures:
    def refuse(self, path: Path, rows: list[int], message: str) -> None:
        with pytest.raises(DataError, match=message) as caught:
            open_features(path, rows)
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)

    def test_memory_mapped(self, tmp_path: Path) -> None:
        np.save(tmp_path / "f.npy", np.ones((3, 2), np.float32))
        matrix = open_features(tmp_path / "f.npy", [0, 2])
        assert isinstance(matrix, np.memmap) and matrix.shape == (3, 2)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_float_kinds(self, tmp_path: Path, dtype: type) -> None:
        np.save(tmp_path / "f.npy", np.ones((3, 2), dtype))
        assert open_features(tmp_path / "f.npy", [0]).dtype == dtype

    def test_wrong_shape_and_kind(self, tmp_path: Path) -> None:
        path = tmp_path / "f.npy"
        for array, message in [
            (np.ones(3, np.float32), r"shape \(3,\)"),
            (np.ones((3, 0), np.float32), r"shape \(3, 0\)"),
            (np.ones((3, 2), np.int64), "holds int64"),
            (np.ones((3, 2), np.complex64), "holds complex64"),
        ]:
            np.save(path, array)
            self.refuse(path, [0], message)

    def test_too_few_rows(self, tmp_path: Path) -> None:
        np.save(tmp_path / "f.npy", np.ones((3, 2), np.float32))
        self.refuse(tmp_path / "f.npy", [0, 3], "has 3 rows, but feature_row goes up to 3")

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite_matters_in_used_rows_alone(self, tmp_path: Path, value: float) -> None:
        matrix = np.ones((5, 2), np.float32)
        matrix[3, 1] = value
        np.save(tmp_path / "f.npy", matrix)
        assert len(open_features(tmp_path / "f.npy", [0, 4])) == 5
        self.refuse(tmp_path / "f.npy", [4, 3, 0], "row 3 holds NaN or infinity")

    def test_a_double_that_overflows_float32(self, tmp_path: Path) -> None:
        np.save(tmp_path / "f.npy", np.full((1, 1), 1e300))
        self.refuse(tmp_path / "f.npy", [0], "row 0 holds NaN or infinity")

    def test_no_npy_file(self, tmp_path: Path) -> None:
        path = tmp_path / "f.npy"
        self.refuse(path, [0], "is missing")
        np.save(path, np.ones((30, 20), np.float32))
        whole = path.read_bytes()
        for content in (
            b"",
            b"text, not numbers",
            whole[:40],
            whole[:-10],
            whole[:9] + b"\xff" * 99,
        ):
            path.write_bytes(content)
            self.refuse(path, [0], r"not a readable \.npy file")

    def test_pickled_objects_are_never_loaded(self, tmp_path: Path) -> None:
        path = tmp_path / "f.npy"
        np.save(path, np.array([[{"a": 1}]], dtype=object), allow_pickle=True)
        self.refuse(path, [0], r"not a readable \.npy file")

    def test_an_archive_of_arrays(self, tmp_path: Path) -> None:
        path = tmp_path / "f.npy"
        with path.open("wb") as file:
            np.savez(file, a=np.ones((2, 2)))
        self.refuse(path, [0], "an archive of arrays")
