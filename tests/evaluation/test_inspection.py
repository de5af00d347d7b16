import json

import pytest
import torch
from tests.evaluation.fakes import OBJECTS, FakeModel, folder_of_greys
from tests.evaluation.told import told

from mmref.data.dataset import RetrievalDataset, build_table
from mmref.errors import DataError, ModelError, SplitError
from mmref.evaluation import inspection
from mmref.evaluation.doubtful import DoubtfulCaptions, find_doubtful
from mmref.evaluation.failures import Failure
from mmref.evaluation.inspection import _suspect, inspect_run
from mmref.references.kept import References


class Inspected(FakeModel):
    """The fake with references: axis k for training object k."""

    def __init__(self, *, references=True):
        super().__init__()
        axes = torch.eye(OBJECTS)
        names = tuple(f"train-{k}" for k in range(OBJECTS))
        self.references = References(axes, names, axes[0], axes[0], {}) if references else None

    def similarity(self, texts, images, refine=True):
        return texts @ images.T


@pytest.fixture(scope="module")
def greys(tmp_path_factory):
    return folder_of_greys(tmp_path_factory.mktemp("greys"))


@pytest.fixture
def quick(monkeypatch):
    """The fit of doubtful captions, cut short."""
    whole = inspection.find_doubtful
    monkeypatch.setattr(
        inspection, "find_doubtful", lambda *a, **k: whole(*a, **{**k, "visits": 500})
    )


@pytest.mark.usefixtures("quick")
def test_all_parts_of_a_split(greys):
    found = inspect_run(Inspected(), greys, "train", objects=["train-3"], top=4)
    (saying,) = found.sayings
    assert saying.object == "train-3"
    assert saying.captions[0].own and saying.images[0].own
    assert saying.words is None
    assert any("without reconstruction" in note for note in found.notes)
    assert (found.compared, found.left_out) == (32, 0)
    assert len(found.doubts) <= 4
    assert found.figures is None
    assert found.failures.queries == 32
    assert found.failures.failed >= len(found.failures.worst) > 0
    assert len(found.paths) == len(found.images) == 24
    plain = json.loads(json.dumps(found.to_dict()))
    worst = plain["failures"]["worst"][0]
    assert worst["retrieved"][0]["image"] in found.images
    assert all(image.startswith(worst["object"]) for image in worst["truth"])


@pytest.mark.usefixtures("quick")
def test_references_are_chosen_when_none_are_named(greys):
    found = inspect_run(Inspected(), greys, "val")
    assert [saying.object for saying in found.sayings] == ["train-0", "train-4", "train-7"]
    assert not any(neighbour.own for saying in found.sayings for neighbour in saying.captions)
    assert {doubt.object.split("-")[0] for doubt in found.doubts} <= {"val"}


@pytest.mark.usefixtures("quick")
def test_a_run_without_references_shows_the_rest(greys):
    found = inspect_run(Inspected(references=False), greys, "test")
    assert found.sayings == ()
    assert any("without references" in note for note in found.notes)
    assert found.compared == 32
    with pytest.raises(ModelError, match="without references"):
        inspect_run(Inspected(references=False), greys, "test", objects=["train-1"])


@pytest.mark.usefixtures("quick")
def test_references_that_can_predict_nothing_are_a_remark(greys, monkeypatch):
    def refuse(*_, **__):
        raise DataError("not one of these captions holds a word of the training captions")

    monkeypatch.setattr(inspection, "predicted_words", refuse)
    found = inspect_run(Inspected(), greys, "val", top=0)
    assert [saying.words for saying in found.sayings] == [None] * 3
    assert any("predict no words: not one of" in note for note in found.notes)
    assert found.doubts == ()
    assert found.compared == 32


@pytest.mark.usefixtures("quick")
def test_objects_compared_in_groups_are_said(greys):
    texts, _, _ = told(objects=1, captions=120)
    captions = [[f"n1 {text} {number}" for number, text in enumerate(texts)]]
    table = build_table([str(greys.image_paths[0])], captions, ["o"], ["train"])
    found = inspect_run(
        Inspected(references=False), RetrievalDataset(table, greys.root, "many", "manifest")
    )
    assert found.compared == 120
    assert any("1 objects have more than 48 captions" in note for note in found.notes)


def test_a_failure_says_whether_its_caption_is_among_the_most_doubtful_tenth(greys, monkeypatch):
    texts, names, _ = told()
    doubtful = find_doubtful(texts, names, visits=2000)
    doubts = doubtful.top(len(texts))
    assert doubtful.of(doubts[3].caption, doubts[3].object) == doubts[3]
    assert doubtful.of("nobody said that", doubts[3].object) is None
    tenth = int(doubtful.judged.sum()) // 10
    for doubt in (doubts[0], doubts[tenth - 1], doubts[tenth]):
        failure = Failure(doubt.caption, doubt.object, 9, 10, (1,), 0.5, ())
        suspect = _suspect(doubtful, failure, None)
        assert suspect == (doubt if doubt.rank <= tenth else None)
    monkeypatch.setattr(inspection, "find_doubtful", lambda *_, **__: doubtful)
    monkeypatch.setattr(DoubtfulCaptions, "of", lambda *_: doubts[0])
    found = inspect_run(Inspected(), greys, "train")
    assert len(found.suspects) == len(found.failures.worst) > 0
    worst = found.to_dict()["failures"]["worst"][0]
    assert worst["doubt"]["phrase"] == doubts[0].phrase


def test_what_is_wrong_is_said_before_any_work(greys):
    with pytest.raises(DataError, match="'nobody' is no training object"):
        inspect_run(Inspected(), greys, "train", objects=["nobody"])
    with pytest.raises(SplitError, match="no split"):
        inspect_run(Inspected(), greys, "dev")


@pytest.mark.usefixtures("quick")
def test_known_errors_are_measured_and_never_read_for_the_ranking(tmp_path, greys):
    texts, names, bad = told(objects=8)
    rows = {name: [i for i, n in enumerate(names) if n == name] for name in dict.fromkeys(names)}
    path = str(greys.image_paths[0])

    def dataset(truth):
        captions = [[f"n{k} {texts[i]}" for i in own] for k, own in enumerate(rows.values())]
        table = build_table(
            [path] * 8, captions, list(rows), ["train"] * 8, metadata={"contradicted": truth}
        )
        return RetrievalDataset(table, tmp_path, "told", "manifest")

    right = [[["x"] if bad[i] else [] for i in own] for own in rows.values()]
    other = [[[] if bad[i] else ["x"] for i in own] for own in rows.values()]
    model = Inspected(references=False)
    one, two = (inspect_run(model, dataset(truth)) for truth in (right, other))
    ranked = [[doubt.caption for doubt in found.doubts] for found in (one, two)]
    assert ranked[0] == ranked[1] != []
    assert one.figures["share"] == pytest.approx(1 - two.figures["share"])


def test_too_few_captions_are_said(greys):
    table = build_table([str(greys.image_paths[0])], [["n1 a", "n1 b"]], ["o"], ["train"])
    dataset = RetrievalDataset(table, greys.root, "few", "manifest")
    found = inspect_run(Inspected(references=False), dataset)
    assert (found.compared, found.left_out, found.doubts) == (0, 2, ())
    assert any("too little to compare" in note for note in found.notes)
