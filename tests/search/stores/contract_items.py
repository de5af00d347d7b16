"""Items, a run and the plain way to rank them, for the tests of every store."""

import numpy as np
from hypothesis import strategies as st

from mmref.search.filters import columns_of
from mmref.search.records import Changes, Place, Record, RunIdentity
from mmref.search.stores.base import open_store

DIMENSION = 16
RUN = RunIdentity("run", "ab12", "compact", DIMENSION, (8, 8), {"form": "posterior"}, "/runs/r")
NEXT = RunIdentity("next", "cd34", "compact", 8, (8, 8), {"form": "whitened"}, "/runs/n")
CAMERAS = ("c1", "c2", "c3", None)


def unit(count, seed=0, dimension=DIMENSION):
    made = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def place(number):
    camera = CAMERAS[number % len(CAMERAS)]
    metadata = {"n": number, "day": f"2026-01-{1 + number % 28:02d}"}
    metadata |= {} if camera is None else {"camera": camera}
    return Place(f"/p/{number % 5}/{number:05d}.png", 10 + number, 10**18 + number, metadata, "/p")


def record(number, vector):
    profile = {"indices": np.int32([number % 30, 31]), "values": np.float16([1, 0.5])}
    return Record(place(number), f"{number:032x}", vector, profile)


def records(vectors, start=0):
    return [record(start + row, vector) for row, vector in enumerate(vectors)]


def fill(uri, count=60, seed=0):
    """A store of ``count`` items; the ids by path."""
    with open_store(uri, RUN) as store:
        store.apply(Changes(records(unit(count, seed))))
        store.finish()
        return {item.place.path: item.id for item in store.items()}


def ranked(view, query, count, where=None):
    """The same as candidates, item by item."""
    items = [i for i in view.items() if where is None or where.matches(columns_of(i.place))]
    if not items:
        return [], []
    scores = view.vectors([item.id for item in items]) @ query
    order = np.lexsort(([item.id for item in items], -scores))[:count]
    return [items[row].id for row in order], scores[order]


def check(view, count=7, where=None, seed=9):
    for query in unit(4, seed, view.vectors([next(view.items()).id]).shape[1]):
        found = view.candidates(query, count, where)
        ids, scores = ranked(view, query, count, where)
        assert found.ids.tolist() == ids
        np.testing.assert_allclose(found.scores, scores, atol=1e-5)


_numbers = st.one_of(st.integers(-3, 65), st.sampled_from([0.5, 10.0, 1e12]))
_values = st.one_of(
    _numbers.map(str), st.sampled_from(["'c1'", "'c9'", "2026-01-07", "true", "'2026-01-07'"])
)
_leaves = st.one_of(
    st.builds(
        lambda name, sign, value: f"{name} {sign} {value}",
        st.sampled_from(["n", "camera", "day", "size", "folder", "absent", "date", "path", "name"]),
        st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
        _values,
    ),
    st.builds(
        lambda name, no, values: f"{name} {no}in ({', '.join(values)})",
        st.sampled_from(["n", "camera", "day"]),
        st.sampled_from(["", "not "]),
        st.lists(_values, min_size=1, max_size=4),
    ),
    st.sampled_from(["camera is missing", "n is not missing", "absent is missing"]),
)
FILTERS = st.recursive(
    _leaves,
    lambda part: st.one_of(
        part.map(lambda one: f"not ({one})"),
        st.tuples(part, st.sampled_from(["and", "or"]), part).map(
            lambda three: f"({three[0]}) {three[1]} ({three[2]})"
        ),
    ),
    max_leaves=5,
)
