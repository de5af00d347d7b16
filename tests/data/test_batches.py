from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmref.config import TrainingSettings
from mmref.data import batches
from mmref.data.batches import Batch, ImageInputs, TrainingPairs, drop_words, load_inputs
from mmref.data.dataset import RetrievalDataset, build_table
from mmref.data.text import UNKNOWN, CaptionTokeniser, phrases
from mmref.errors import DataError

CAPTIONS = [
    ["a red hat, a bag", "black shoes"],
    ["a red coat with a bag"],
    ["blue jeans", "a bag on the left", "green hat"],
    ["a red hat, a bag"],  # the same words for another object
    [],
    ["yellow socks"],
]
OBJECTS = ["b", "b", "a", "c", "c", "a"]


def made(captions=CAPTIONS, objects=OBJECTS, root: Path = Path("/none")) -> RetrievalDataset:
    names = [f"{k}.png" for k in range(len(objects))]
    table = build_table(
        images=names, captions=captions, objects=objects, splits=["train"] * len(objects)
    )
    return RetrievalDataset(table, root, "six", "manifest")


def vectors(rows) -> ImageInputs:
    """Each image's vector is its row in the data set, so that batches can be traced."""
    rows = np.array(rows)
    return ImageInputs(torch.from_numpy(rows.astype(np.float32))[:, None], rows)


def pixels(count: int = 6) -> ImageInputs:
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None] * 40
    ramp = torch.arange(16, dtype=torch.uint8) * 3
    return ImageInputs((images + ramp).expand(count, 3, 16, 16).clone(), np.arange(count))


class Words:
    """A tokeniser that remembers all it was asked."""

    def __init__(self) -> None:
        self.tokeniser = CaptionTokeniser.learn([c for row in CAPTIONS for c in row])
        self.asked: list[str] = []

    def __call__(self, captions: list[str]) -> list[list[int]]:
        self.asked += captions
        return self.tokeniser.ids(captions)


def pairs_of(inputs: ImageInputs | None = None, dataset=None, **options) -> TrainingPairs:
    plain = {"remix": 0.0, "word_dropout": 0.0, "augment": False, "batch_size": 3, "seed": 5}
    return TrainingPairs(
        dataset or made(),
        inputs or vectors(range(6)),
        Words(),
        TrainingSettings.model_validate(plain | options),
    )


def seen(pairs: TrainingPairs, epoch: int) -> list[tuple[tuple[int, ...], int, int]]:
    return [
        (tuple(ids), int(image), int(obj))
        for batch in pairs.epoch(epoch)
        for ids, image, obj in zip(batch.plain, batch.images[:, 0], batch.objects, strict=True)
    ]


def same(first: Batch, second: Batch) -> bool:
    return (
        first.captions == second.captions
        and first.plain == second.plain
        and torch.equal(first.images, second.images)
        and torch.equal(first.objects, second.objects)
    )


class TestPairs:
    def test_every_caption_of_every_image(self) -> None:
        pairs = pairs_of()
        assert len(pairs) == 8
        assert pairs.objects == ("a", "b", "c")
        told = {(pairs.captions[c], int(k), pairs.objects[o]) for c, k, o in pairs.pairs}
        assert told == {
            (caption, row, OBJECTS[row]) for row, own in enumerate(CAPTIONS) for caption in own
        }

    def test_images_that_could_not_be_read_are_left_out(self) -> None:
        pairs = pairs_of(vectors([0, 3, 5]))
        assert len(pairs) == 4
        assert pairs.objects == ("a", "b", "c")
        shown = {(image, pairs.objects[obj]) for _, image, obj in seen(pairs, 0)}
        assert shown == {(0, "b"), (3, "c"), (5, "a")}
        assert "blue jeans" not in pairs.captions
        assert pairs.image_objects.tolist() == [1, 2, 0]

    def test_captions_of_each_object_once(self) -> None:
        pairs = pairs_of()
        captions, objects = pairs.caption_objects()
        told = [
            (pairs.captions[c], pairs.objects[o]) for c, o in zip(captions, objects, strict=True)
        ]
        assert len(told) == len(set(told)) == 8
        assert ("a red hat, a bag", "b") in told
        assert ("a red hat, a bag", "c") in told

    def test_rows_for_the_closed_form_start(self) -> None:
        twice = [["a hat", "a hat"], ["a bag"]]
        pairs = pairs_of(vectors([0, 1]), made(twice, ["x", "y"]))
        ids, rows = pairs.caption_rows()
        assert len(pairs) == 3
        told = {(tuple(i), int(r)) for i, r in zip(ids, rows, strict=True)}
        hat, bag = pairs.tokenise(["a hat", "a bag"])
        assert told == {(tuple(hat), 0), (tuple(bag), 1)}
        assert len(ids) == 2

    @pytest.mark.parametrize(
        ("captions", "objects", "message"),
        [
            ([["a"], ["b"]], ["x", "x"], "at least two to tell apart"),
            ([["a"], []], ["x", "y"], "fewer than two caption-image pairs"),
        ],
    )
    def test_too_little_to_train_on(self, captions, objects, message) -> None:
        with pytest.raises(DataError, match=message):
            pairs_of(vectors([0, 1]), made(captions, objects))


class TestEpochs:
    @pytest.mark.parametrize("batch_size", [2, 3, 4, 8, 100])
    def test_every_pair_once(self, batch_size: int) -> None:
        pairs = pairs_of(batch_size=batch_size)
        expected = Counter((tuple(pairs.ids[c]), int(k), int(o)) for c, k, o in pairs.pairs)
        for epoch in range(3):
            assert Counter(seen(pairs, epoch)) == expected

    def test_every_pair_once_when_one_is_left_over(self) -> None:
        pairs = pairs_of(batch_size=7)
        assert len(seen(pairs, 0)) == len(pairs)

    @pytest.mark.parametrize("batch_size", [2, 3, 7, 8, 100])
    def test_steps_are_the_batches(self, batch_size: int) -> None:
        pairs = pairs_of(batch_size=batch_size)
        sizes = [len(batch.captions) for batch in pairs.epoch(0)]
        assert len(sizes) == pairs.steps
        assert all(2 <= size <= batch_size + 1 for size in sizes)

    def test_orders_differ_between_epochs_and_seeds(self) -> None:
        orders = {tuple(seen(pairs_of(seed=s), e)) for s in range(3) for e in range(3)}
        assert len(orders) == 9

    def test_objects_and_images_belong_to_the_captions(self) -> None:
        pairs = pairs_of()
        for ids, image, obj in seen(pairs, 0):
            assert pairs.objects[obj] == OBJECTS[image]
            assert ids in {tuple(own) for own in pairs.tokenise(CAPTIONS[image])}

    def test_a_function_of_seed_epoch_and_step_alone(self) -> None:
        """Nothing that was drawn before, here or elsewhere, changes a batch."""
        options = {"remix": 0.5, "word_dropout": 0.3, "augment": True, "flip": True}
        first = pairs_of(pixels(), **options)
        straight = [list(first.epoch(epoch)) for epoch in range(3)]
        torch.manual_seed(77)
        np.random.seed(77)
        again = pairs_of(pixels(), **options)
        resumed = list(again.epoch(2))
        assert all(same(a, b) for a, b in zip(straight[2], resumed, strict=True))
        half = again.epoch(1)
        assert same(next(half), straight[1][0])
        assert all(same(a, b) for a, b in zip(straight[0], again.epoch(0), strict=True))
        assert same(next(half), straight[1][1])
        assert not same(straight[0][0], straight[1][0])

    def test_chance_of_the_first_batch_is_not_that_of_the_order(self, monkeypatch) -> None:
        streams = []
        fresh = np.random.default_rng

        def spy(key):
            streams.append(tuple(fresh(key).random(3)))
            return fresh(key)

        monkeypatch.setattr(batches.np.random, "default_rng", spy)
        list(pairs_of().epoch(1))
        assert len(set(streams)) == len(streams) > 2


class TestCaptions:
    def test_plain_captions_stay_plain(self) -> None:
        pairs = pairs_of(remix=1.0, word_dropout=0.5)
        known = {tuple(ids) for ids in pairs.ids}
        before = [list(ids) for ids in pairs.ids]
        changed = 0
        for batch in pairs.epoch(0):
            assert {tuple(ids) for ids in batch.plain} <= known
            changed += sum(a != b for a, b in zip(batch.plain, batch.captions, strict=True))
        assert changed > 0
        assert pairs.ids == before

    def test_without_remix_and_dropout_captions_are_plain(self) -> None:
        for batch in pairs_of().epoch(0):
            assert batch.captions == batch.plain

    def test_remix_takes_phrases_of_the_same_object(self) -> None:
        pairs = pairs_of(remix=1.0)
        own = {
            name: {p for c, o in zip(CAPTIONS, OBJECTS, strict=True) if o == name
                   for caption in c for p in phrases(caption)}
            for name in pairs.objects
        }  # fmt: skip
        words = pairs.tokenise
        mixed = set()
        for epoch in range(20):
            words.asked.clear()
            texts = []
            for batch in pairs.epoch(epoch):
                texts += list(zip(words.asked[len(texts) :], batch.objects, strict=True))
            for text, obj in texts:
                assert set(phrases(text)) <= own[pairs.objects[int(obj)]]
                mixed.add(text)
        assert len(mixed) > 20
        assert any("black shoes" in text and "a red coat" in text for text in mixed)

    def test_share_of_remixed_captions(self) -> None:
        pairs = pairs_of(remix=0.25, batch_size=8)
        pairs.tokenise.asked.clear()
        for epoch in range(100):
            list(pairs.epoch(epoch))
        assert len(pairs.tokenise.asked) / 800 == pytest.approx(0.25, abs=0.05)


class TestImages:
    def test_augmented_only_where_they_are_pixels(self) -> None:
        inputs = pixels()
        before = inputs.tensor.clone()
        batch = next(pairs_of(inputs, augment=True).epoch(0))
        assert batch.images.dtype == torch.float32
        assert torch.equal(inputs.tensor, before)
        plain = next(pairs_of(inputs, augment=False).epoch(0))
        assert plain.images.dtype == torch.uint8
        assert not torch.equal(batch.images, plain.images.float())
        assert torch.equal(batch.objects, plain.objects)
        traced = next(pairs_of(augment=True).epoch(0))
        assert set(traced.images[:, 0].tolist()) <= set(range(6))

    def allowed(self, monkeypatch, **options) -> list[tuple[str, bool | None]]:
        """What is asked of the augmentation for each caption that is shown."""
        found: list[bool | None] = []

        def spy(images, chance, *, mirrored=None, among=None):
            found.extend([None] * len(images) if mirrored is None else mirrored.tolist())
            return images

        monkeypatch.setattr(batches, "augment", spy)
        pairs = pairs_of(pixels(), augment=True, **options)
        words = pairs.tokenise.tokeniser
        captions = [
            " ".join(words.word(i) for i in ids)
            for epoch in range(20)
            for batch in pairs.epoch(epoch)
            for ids in batch.captions
        ]
        return list(zip(captions, found, strict=True))

    def test_no_flips_unless_asked(self, monkeypatch) -> None:
        assert {may for _, may in self.allowed(monkeypatch)} == {None}

    def test_never_flipped_when_the_caption_says_left_or_right(self, monkeypatch) -> None:
        told = self.allowed(monkeypatch, flip=True)
        assert {may for caption, may in told if "left" in caption} == {False}
        assert {may for caption, may in told if "left" not in caption} == {True}

    def test_nor_when_a_phrase_mixed_in_says_so(self, monkeypatch) -> None:
        told = self.allowed(monkeypatch, flip=True, remix=1.0)
        assert {may for caption, may in told if "left" in caption} == {False}


class TestDropWords:
    def test_share_and_length(self) -> None:
        rng = np.random.default_rng(0)
        ids = list(range(5, 45))
        dropped = [drop_words(ids, 0.3, rng) for _ in range(200)]
        assert all(len(row) == 40 for row in dropped)
        share = np.mean([row.count(UNKNOWN) for row in dropped]) / 40
        assert share == pytest.approx(0.3, abs=0.02)
        for row in dropped:
            assert all(new in (old, UNKNOWN) for new, old in zip(row, ids, strict=True))
        assert ids == list(range(5, 45))

    def test_one_known_word_stays(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(100):
            assert drop_words([5, 6, 7], 0.999, rng).count(UNKNOWN) == 2
        assert drop_words([], 0.5, rng) == []

    def test_one_known_word_stays_beside_unknown_ones(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(100):
            assert 5 in drop_words([UNKNOWN, 5, UNKNOWN], 0.9, rng)


class TestLoadInputs:
    def test_features_need_no_pixels(self) -> None:
        table = build_table(
            images=["x.png", "y.png"], captions=[["a"], ["b"]], objects=["x", "y"],
            splits=["train"] * 2, feature_rows=[3, 1],
        )  # fmt: skip
        matrix = np.arange(8, dtype=np.float32).reshape(4, 2)
        dataset = RetrievalDataset(table, Path("/none"), "two", "manifest", matrix)
        inputs = load_inputs(dataset, None)
        assert inputs.tensor.tolist() == [[6.0, 7.0], [2.0, 3.0]]
        assert inputs.rows.tolist() == [0, 1]
        assert inputs.skipped == ()

    def test_features_that_are_not_there(self) -> None:
        with pytest.raises(DataError, match=r"six has no features\.npy: use the compact encoder"):
            load_inputs(made(), None)

    def test_pixels_of_the_size_asked_for(self, tmp_path: Path) -> None:
        for k in range(6):
            Image.new("RGB", (20, 30), (40 * k, 0, 0)).save(tmp_path / f"{k}.png")
        (tmp_path / "4.png").write_bytes(b"no picture")
        inputs = load_inputs(made(root=tmp_path), (16, 8), most_unreadable=0.5)
        assert inputs.tensor.shape == (5, 3, 16, 8)
        assert inputs.tensor.dtype == torch.uint8
        assert inputs.rows.tolist() == [0, 1, 2, 3, 5]
        assert inputs.tensor[:, 0, 0, 0].tolist() == [0, 40, 80, 120, 200]
        assert [Path(bad.path).name for bad in inputs.skipped] == ["4.png"]

    def test_too_many_unreadable_images(self, tmp_path: Path) -> None:
        for k in range(6):
            (tmp_path / f"{k}.png").write_bytes(b"no picture")
        with pytest.raises(DataError):
            load_inputs(made(root=tmp_path), (16, 8), most_unreadable=0.5)
