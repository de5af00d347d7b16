import numpy as np
import pytest

from mmref.search.filters import Filter
from mmref.search.records import RunIdentity
from mmref.search.stores import base_files, codes, vector_index
from mmref.search.stores.base_files import read_base, write_base
from mmref.search.stores.codes import Codes, lists_for
from mmref.search.stores.rows import Block, Head
from mmref.search.stores.vector_index import Snapshot

from .test_vector_index import clustered

DIMENSION, COUNT = 32, 6000


class Plain:
    def __init__(self, vectors):
        self.vectors = vectors

    def __len__(self):
        return len(self.vectors)

    def take(self, rows):
        return self.vectors[rows]


@pytest.fixture(autouse=True)
def lists_from_the_start(monkeypatch):
    monkeypatch.setattr(base_files, "EXACT_ROWS", 1000)
    for module in (codes, base_files):
        monkeypatch.setattr(module, "LISTED_ROWS", 2000)
    monkeypatch.setattr(codes, "_TRIED", 60)


def base_of(folder, vectors, storage="fp32", earlier=None, generation=3):
    folder.mkdir()
    run = RunIdentity("run", "ab", "compact", vectors.shape[1], None, None, "")
    head = Head("store", generation, run, storage, 1, [], True)
    ids = np.arange(1, len(vectors) + 1)
    items = [{"camera": f"c{n % 50}", "half": int(n % 2)} for n in range(len(vectors))]
    block = Block(ids, head.coding.packed(vectors), {}, items)
    write_base(folder, head, len(vectors), [block], earlier)
    return read_base(folder, head)


def recall(snapshot, queries, where=None, keep=None):
    masks = None if where is None else snapshot.masks(Filter.parse(where), None)
    stored, found = snapshot.base.take(slice(None)), 0
    for query in queries:
        scores = stored @ query
        if keep is not None:
            scores = np.where(keep, scores, -2)
        got = snapshot.candidates(query, 50, masks)
        assert keep is None or keep[got.ids - 1].all()
        np.testing.assert_allclose(got.scores, scores[got.ids - 1], atol=1e-5)
        found += len(set(got.ids[:10]) & set(1 + np.argsort(-scores)[:10]))
    return found / (10 * len(queries))


@pytest.mark.parametrize("storage", ["fp32", "fp16", "int8"])
def test_lists_reach_the_recall_that_was_measured(tmp_path, storage):
    base = base_of(tmp_path / "b", clustered(COUNT, DIMENSION), storage)
    assert base.codes.lists == lists_for(COUNT) == 128
    assert base.codes.effort.probes < base.codes.lists
    assert min(base.codes.effort.recall.values()) >= codes.TARGET
    snapshot = Snapshot.of(base)
    assert recall(snapshot, clustered(60, DIMENSION, seed=1)) >= 0.98
    numbers = np.arange(COUNT)
    for where, keep in (
        ("camera = 'c7'", numbers % 50 == 7),
        ("half = 1", numbers % 2 == 1),
        ("camera in ('c1', 'c2', 'c3', 'c4', 'c5', 'c6')", np.isin(numbers % 50, range(1, 7))),
    ):
        assert recall(snapshot, clustered(40, DIMENSION, seed=2), where, keep) >= 0.98


def test_data_without_clusters_are_searched_in_more_lists(tmp_path):
    made = np.random.default_rng(0).standard_normal((COUNT, DIMENSION)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    loose = base_of(tmp_path / "loose", made).codes.effort
    tight = base_of(tmp_path / "tight", clustered(COUNT, DIMENSION)).codes.effort
    assert loose.probes > 2 * tight.probes
    assert min(loose.recall.values()) >= codes.TARGET


@pytest.mark.parametrize("cost", [0, 10**6])
def test_filters_by_comparing_and_by_lists_agree(tmp_path, monkeypatch, cost):
    monkeypatch.setattr(vector_index, "CODE_COST", cost)
    base = base_of(tmp_path / "b", clustered(COUNT, DIMENSION))
    keep = np.arange(COUNT) % 2 == 1
    assert recall(Snapshot.of(base), clustered(40, DIMENSION, 3), "half = 1", keep) >= 0.98


def test_a_filter_far_from_the_query_still_fills_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_index, "CODE_COST", 0)
    made = clustered(COUNT, DIMENSION)
    order = np.argsort(-(made @ made[0]))
    made = made[order]
    base = base_of(tmp_path / "b", made)
    snapshot = Snapshot.of(base)
    chosen = np.arange(COUNT) >= COUNT // 2  # the far half alone
    got = snapshot.candidates(made[0], 30, (chosen, np.zeros(0, bool)))
    assert len(got.ids) == 30
    assert got.ids.min() > COUNT // 2


def test_codes_are_extended_rather_than_trained_again(tmp_path, monkeypatch):
    made = clustered(COUNT, DIMENSION)
    first = base_of(tmp_path / "a", made[:5000])
    trained = []
    build = Codes.build
    monkeypatch.setattr(Codes, "build", lambda vectors: trained.append(1) or build(vectors))
    second = base_of(tmp_path / "b", made, earlier=first, generation=4)
    assert trained == []
    assert second.codes.index.ntotal == COUNT
    assert second.codes.trained == 5000
    assert recall(Snapshot.of(second), clustered(60, DIMENSION, seed=1)) >= 0.98
    other = made.copy()
    other[17] = made[18]
    assert base_of(tmp_path / "c", other, earlier=first).codes.trained == COUNT
    assert base_of(tmp_path / "d", made[:4000], earlier=first).codes.trained == 4000
    assert len(trained) == 2
    grown = np.concatenate([made[:5000], clustered(3000, DIMENSION, seed=3)])
    assert base_of(tmp_path / "e", grown, earlier=first).codes.trained == 8000


@pytest.mark.parametrize("kind", ["near", "far"])
def test_trial_queries_are_near_and_far(kind):
    made = clustered(2000, DIMENSION)
    queries = codes.trial_queries(Plain(made), 50, codes._SHARES[kind])
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)
    best = (queries @ made.T).max(axis=1)
    assert (best < 1 - 1e-4).all()
    assert 0.85 < np.median(best) < 0.95 if kind == "near" else 0.35 < np.median(best) < 0.75


def test_equal_vectors_do_not_spoil_the_measure(tmp_path):
    made = np.repeat(clustered(300, DIMENSION), 20, axis=0)
    assert min(base_of(tmp_path / "b", made).codes.effort.recall.values()) >= codes.TARGET
