import numpy as np
import pytest

from mmref.search.records import RunIdentity
from mmref.search.stores import base_files
from mmref.search.stores.base_files import read_base, write_base
from mmref.search.stores.rows import Block, Head
from mmref.search.stores.vector_index import Snapshot, top_rows


def clustered(count, dimension, seed=0, clusters=40):
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((clusters, dimension))
    made = centres[generator.integers(0, clusters, count)]
    made = made + 0.7 * generator.standard_normal((count, dimension))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def block_of(ids, vectors, values):
    return Block(np.asarray(ids), vectors, {"dense": values}, [{"n": int(n)} for n in ids])


def base_of(folder, vectors):
    folder.mkdir()
    run = RunIdentity("run", "ab", "compact", vectors.shape[1], None, None, "")
    head = Head("store", 3, run, "fp32", 1, [("dense", "<f4", 1)], True)
    ids = 10 * np.arange(len(vectors)) + 1
    values = np.arange(len(vectors), dtype=np.float32)[:, None]
    blocks = [
        block_of(ids[s : s + 70], vectors[s : s + 70], values[s : s + 70])
        for s in range(0, len(vectors), 70)
    ]
    write_base(folder, head, len(vectors), blocks)
    return read_base(folder, head)


@pytest.mark.parametrize("dimension", [16, 33, 6])
def test_codes_find_what_exact_search_finds(tmp_path, monkeypatch, dimension):
    monkeypatch.setattr(base_files, "EXACT_ROWS", 2000)
    made = clustered(4000, dimension)
    base = base_of(tmp_path / "b", made)
    assert base.codes is not None
    snapshot = Snapshot.of(base)
    found = 0
    for query in clustered(40, dimension, seed=1):
        got = snapshot.candidates(query, 100)
        scores = made @ query
        wanted = np.argsort(-scores, kind="stable")[:10]
        found += len(set(got.ids[:10]) & set(base.ids[wanted]))
        rows = (got.ids - 1) // 10
        np.testing.assert_allclose(got.scores, scores[rows], atol=1e-6)
        np.testing.assert_array_equal(got.profiles["dense"][:, 0], rows)
        assert (np.diff(got.scores) <= 0).all()
    assert found >= 0.99 * 400


@pytest.mark.parametrize("exact", [True, False])
def test_a_snapshot_advances(tmp_path, monkeypatch, exact):
    monkeypatch.setattr(base_files, "EXACT_ROWS", 10**6 if exact else 1000)
    made = clustered(1500, 16)
    snapshot = Snapshot.of(base_of(tmp_path / "b", made))
    gone = snapshot.base.ids[:1300].tolist()
    changed = np.array([snapshot.base.ids[1400], 99_999])
    fresh = clustered(2, 16, seed=5)
    rows = block_of(changed, fresh, np.float32([[-1], [-2]]))
    later = snapshot.advanced(4, gone, rows)
    assert len(later) == 201
    assert later.stale_rows == 1301 + 2
    got = later.candidates(fresh[0], 500)
    assert len(got.ids) == 201
    assert got.ids[0] == changed[0]
    assert got.profiles["dense"][0, 0] == -1
    assert not set(gone) & set(got.ids.tolist())
    none = block_of([], fresh[:0], np.zeros((0, 1), np.float32))
    again = later.advanced(5, [99_999], none)
    assert len(again) == 200
    assert len(snapshot) == 1500


def test_equal_vectors_stand_by_id(tmp_path):
    made = np.repeat(clustered(3, 16), 100, axis=0)
    got = Snapshot.of(base_of(tmp_path / "b", made)).candidates(made[0], 30)
    assert got.ids.tolist() == [10 * n + 1 for n in range(30)]
    assert len(set(got.scores.tolist())) == 1


def test_top_rows_against_a_full_sort():
    generator = np.random.default_rng(0)
    for count in (1, 3, 10, 50, 80):
        scores = generator.integers(0, 6, 50).astype(np.float32)
        wanted = np.lexsort((np.arange(50), -scores))[:count]
        assert sorted(top_rows(scores, count)) == sorted(wanted)
