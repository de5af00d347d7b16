import threading

import numpy as np
import pytest
import torch

from mmref.errors import ImageError, PathError, StoreMismatchError, UsageError
from mmref.references.refinement import Refiner
from mmref.search.engine import Searcher, reference_scores
from mmref.search.ingest.index import index_images
from mmref.search.query import Query

from .fakes import COLOURS, ColourModel, means, picture, pictures


@pytest.fixture(scope="module")
def pics(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pics")
    for name in COLOURS:
        picture(folder / f"{name}.png", 0, name)
    pictures(folder, 30)
    return folder


@pytest.fixture(scope="module", params=["posterior", "linear", "centred"])
def model(request):
    return ColourModel(refine=request.param)


@pytest.fixture(scope="module")
def searcher(pics, model, tmp_path_factory):
    store = tmp_path_factory.mktemp("stores") / "s"
    index_images(model, [pics], store)
    with Searcher.open(store, model) as opened:
        yield opened


def names(hits):
    return [hit.path.rsplit("/", 1)[1].removesuffix(".png") for hit in hits]


@pytest.mark.parametrize("form", ["posterior", "linear", "centred"])
def test_reference_scores_are_those_of_the_refiner(form):
    generator = torch.Generator().manual_seed(0)
    normal = torch.nn.functional.normalize
    refiner = Refiner(
        torch.randn(30, 12, generator=generator), form, weight=1.0, kept=6, **means(form)
    )
    query = refiner.profiles(normal(torch.randn(1, 12, generator=generator)), "text")
    items = refiner.profiles(normal(torch.randn(50, 12, generator=generator)), "image")
    wanted = refiner.reference_similarity(query, items)[0].numpy()
    np.testing.assert_allclose(
        reference_scores(query.to_arrays(), items.to_arrays()), wanted, atol=1e-5
    )


def test_scores_are_those_of_the_model(searcher, model, pics):
    hits = searcher.search("red and yellow", k=8)
    text = model.encode_text(["red and yellow"])
    paths = sorted(pics.iterdir())
    from PIL import Image

    images = model.encode_image([Image.open(path) for path in paths])
    wanted = model.refiner.similarity(text, images)[0].numpy()
    order = np.argsort(-wanted)[:8]
    assert [hit.path for hit in hits] == [str(paths[row]) for row in order]
    np.testing.assert_allclose([hit.score for hit in hits], wanted[order], atol=1e-5)
    cosines = (text @ images.T)[0].numpy()[order]
    np.testing.assert_allclose([hit.base_score for hit in hits], cosines, atol=1e-5)
    for hit in hits:
        total = hit.base_score + model.refiner.weight * hit.reference_score
        assert hit.score == pytest.approx(total, abs=3e-6)
    assert [hit.rank for hit in hits] == list(range(1, 9))


def test_without_refinement_the_score_is_the_cosine(searcher):
    hits = searcher.search("blue", k=3, refine=False)
    assert names(hits)[0] == "blue"
    assert all(hit.score == hit.base_score and hit.reference_score is None for hit in hits)


def test_more_hits_only_extend_the_list(searcher):
    few, many = searcher.search("green", k=3), searcher.search("green", k=500)
    assert many[:3] == few
    assert len(many) == len(searcher) == 36


def test_min_score_ends_the_list(searcher):
    hits = searcher.search("white", k=36)
    kept = searcher.search("white", k=36, min_score=hits[4].score)
    assert kept == hits[:5]
    assert searcher.search("white", min_score=9.0) == []


def test_a_picture_is_left_out_of_its_own_results(searcher, pics, tmp_path):
    by_path = searcher.search(image=pics / "red.png", k=36)
    assert "red" not in names(by_path)
    assert len(by_path) == 35
    copy = tmp_path / "copy.png"
    copy.write_bytes((pics / "red.png").read_bytes())
    assert searcher.search(image=copy, k=36) == by_path
    number = searcher.store.find(str(pics / "red.png")).id
    by_id = searcher.search(image=str(number), k=36)
    assert names(by_id) == names(by_path)
    from PIL import Image

    assert names(searcher.search(image=Image.open(pics / "red.png"), k=1)) == ["red"]


def test_an_image_and_a_sentence_are_mixed(searcher, pics, model):
    hits = searcher.search("blue", image=pics / "red.png", k=36)
    one = model.encode_text(["blue"])[0].numpy()
    from PIL import Image

    other = model.encode_image([Image.open(pics / "red.png")])[0].numpy()
    total = (one + other) / np.linalg.norm(one + other)
    blue = next(hit for hit in hits if hit.path.endswith("/blue.png"))
    vector = searcher.store.vectors([blue.id])[0]
    assert blue.base_score == pytest.approx(float(vector @ total), abs=1e-5)


def test_a_negative_weight_pushes_away(searcher):
    plain = searcher.search(Query.of("white"), k=36)
    without = searcher.search(Query.of("white", without="yellow"), k=36)
    assert names(without).index("yellow") > names(plain).index("yellow")


def test_equal_scores_stand_by_id(pics, model, tmp_path):
    for number in range(5):
        picture(tmp_path / "same" / f"{number}.png", 0, "red")
    index_images(model, [tmp_path / "same"], tmp_path / "s")
    with Searcher.open(tmp_path / "s", model) as searcher:
        hits = searcher.search("red", k=3)
    assert [hit.id for hit in hits] == [1, 2, 3]
    assert len({hit.score for hit in hits}) == 1


@pytest.mark.parametrize("asked", [{"k": 0}, {"k": -3}, {"query": " "}, {"query": None}])
def test_what_is_asked_wrongly_is_a_usage_error(searcher, asked):
    with pytest.raises(UsageError):
        searcher.search(**{"query": "red", **asked})


def test_unknown_words_and_missing_pictures(searcher, tmp_path):
    with pytest.raises(UsageError, match="knows no word of 'xyzzy'"):
        searcher.search("xyzzy")
    with pytest.raises(PathError, match="neither an image file nor an indexed item"):
        searcher.search(image=tmp_path / "absent.png")
    (tmp_path / "bad.png").write_bytes(b"bad")
    with pytest.raises(ImageError, match=r"bad\.png"):
        searcher.search(image=tmp_path / "bad.png")


def test_a_picture_that_has_changed_on_disk_is_left_out_of_its_own_results(model, tmp_path):
    path = pictures(tmp_path / "own", 5)[2]
    index_images(model, [tmp_path / "own"], tmp_path / "s")
    picture(path, 77)
    with Searcher.open(tmp_path / "s", model) as searcher:
        hits = searcher.search(image=path)
        assert len(hits) == 4
        assert str(path) not in [hit.path for hit in hits]


def test_a_vector_must_fit(searcher):
    with pytest.raises(UsageError, match="12 numbers"):
        searcher.search_vector(np.ones(3))


def test_refinement_that_is_not_there(pics, tmp_path):
    model = ColourModel(refine=None)
    index_images(model, [pics], tmp_path / "s")
    with Searcher.open(tmp_path / "s", model) as searcher:
        assert searcher.search("red", k=1)[0].reference_score is None
        with pytest.raises(UsageError, match="no refinement"):
            searcher.search("red", refine=True)
    with pytest.raises(StoreMismatchError, match=r"search with --run .* --reencode"):
        Searcher.open(tmp_path / "s", ColourModel(digest="decade"))
    with pytest.raises(PathError, match="--run RUN"):
        Searcher.open(tmp_path / "s")


def test_features_are_searched_by_item(tmp_path):
    from mmref.data.dataset import RetrievalDataset, build_table

    features = np.random.default_rng(0).standard_normal((9, 12)).astype(np.float32)
    ids = [f"p{n}" for n in range(9)]
    table = build_table(ids, [["x"]] * 9, ids, ["test"] * 9, feature_rows=range(9))
    data = RetrievalDataset(table, tmp_path, "nine", "manifest", features)
    model = ColourModel(kind="features")
    index_images(model, [data], tmp_path / "s")
    with Searcher.open(tmp_path / "s", model) as searcher:
        hits = searcher.search(image="p3", k=9)
        assert len(hits) == 8
        assert "p3" not in {hit.path for hit in hits}
        with pytest.raises(PathError, match="no indexed item, and this run encodes features"):
            searcher.search(image="p99")


def test_a_writer_is_noticed_and_threads_may_share(pics, model, tmp_path):
    index_images(model, [pics], tmp_path / "s")
    with Searcher.open(tmp_path / "s", model) as searcher:
        wanted = searcher.search("red", k=1)
        failures = []

        def ask():
            scores = [searcher.search("red", k=1)[0].score for _ in range(40)]
            failures.extend(score for score in scores if score < wanted[0].score)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        extra = tmp_path / "extra"
        pictures(extra, 20, start=100)
        index_images(model, [extra], tmp_path / "s", batch_size=2)
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(searcher.search("red", k=500)) == 56


def test_the_json_document(searcher):
    document = searcher.search("red", k=2).as_dict()
    assert list(document) == ["query", "results", "next"]
    assert document["query"] == "red"
    assert list(document["results"][0]) == [
        *("rank", "id", "path", "score", "base_score", "reference_score", "metadata")
    ]
    assert list(searcher.search("red", k=500).as_dict()) == ["query", "results"]


def test_columns_that_came_later_are_known(pics, model, tmp_path):
    from mmref.data.dataset import RetrievalDataset, build_table

    index_images(model, [pics], tmp_path / "s")
    with Searcher.open(tmp_path / "s", model) as searcher:
        note = searcher.search("red", filter="camera = 'c1' or size > 0").note
        assert note.startswith("no item has a column 'camera': there are ")
        paths = [str(path) for path in sorted(pics.glob("*.png"))[:2]]
        table = build_table(
            paths, [["x"]] * 2, ["a", "b"], ["test"] * 2, metadata={"camera": ["c1", "c2"]}
        )
        index_images(model, [RetrievalDataset(table, pics, "two", "manifest")], tmp_path / "s")
        found = searcher.search("red", filter="camera = 'c1'")
        assert ([hit.path for hit in found], found.note) == (paths[:1], None)
