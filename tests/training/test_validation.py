import numpy as np
import pytest
import torch

from mmref.data.batches import ImageInputs, load_inputs
from mmref.encoders.build import new_encoder, tokeniser_for
from mmref.errors import SplitError, TrainingError
from mmref.training.validation import (
    Validation,
    balanced,
    encode_captions,
    encode_images,
    split_for_training,
    train_split,
)

from .sets import load_set, small

CPU = torch.device("cpu")


def encoder_of(dataset, **values):
    settings = small(**values).encoder
    inputs = load_inputs(dataset, None)
    captions = [c for texts in dataset.captions for c in texts]
    tokeniser = tokeniser_for(captions)
    encoder = new_encoder(settings, tokeniser, tokeniser.ids(captions), inputs.tensor)
    return encoder.eval(), inputs


def test_a_val_split_is_taken_as_it_is(tmp_path):
    training, val, note = split_for_training(load_set(tmp_path), small().training)
    assert (training.split_names, val.split_names) == (["train"], ["val"])
    assert (len(training.object_names), len(val.object_names)) == (8, 4)
    assert note is None


def test_choices_are_made_on_val_and_never_on_test(tmp_path):
    dataset = load_set(tmp_path)
    kept = set(dataset.split("val").object_names[:2])
    moved = [
        "test" if split == "val" and name not in kept else split
        for name, split in zip(dataset.objects, dataset.splits, strict=True)
    ]
    _, val, _ = split_for_training(dataset.with_split(moved), small().training)
    assert set(val.object_names) == kept
    asked = [split for split in moved if split != "val"]
    dataset = dataset.select([row for row, split in enumerate(moved) if split != "val"])
    training, val, note = split_for_training(dataset.with_split(asked), small().training)
    assert note is not None
    chosen = {*training.object_names, *val.object_names}
    assert chosen == set(dataset.with_split(asked).split("train").object_names)


def only_train(folder, objects=12):
    dataset = load_set(folder, objects=objects)
    return dataset.with_split(["train"] * len(dataset))


def test_without_one_whole_objects_are_held_out_and_said(tmp_path):
    dataset = only_train(tmp_path)
    training, val, note = split_for_training(dataset, small(training__seed=3).training)
    assert note is not None
    assert "2 of 12 training objects are held out" in note
    assert "seed 3" in note
    assert not set(training.object_names) & set(val.object_names)
    assert set(training.object_names) | set(val.object_names) == set(dataset.object_names)
    assert len(training) + len(val) == len(dataset)
    again = split_for_training(dataset, small(training__seed=3).training)
    assert again[1].object_names == val.object_names
    others = [
        split_for_training(dataset, small(training__seed=seed).training)[1].object_names
        for seed in range(8)
    ]
    assert any(names != val.object_names for names in others)
    third = small(training__validation_share=0.34).training
    assert len(split_for_training(dataset, third)[1].object_names) == 4


def test_too_few_objects_to_hold_out(tmp_path):
    with pytest.raises(TrainingError, match="only 3 training object"):
        split_for_training(only_train(tmp_path, objects=3), small().training)


def test_no_train_split_is_said_with_those_present(tmp_path):
    dataset = load_set(tmp_path)
    with pytest.raises(SplitError, match=r"has no train split \(it has val\)"):
        train_split(dataset.split("val"))


def test_each_caption_of_an_object_is_asked_once(tmp_path):
    dataset = load_set(tmp_path).split("val")
    encoder, inputs = encoder_of(dataset)
    found = Validation.prepare(dataset, inputs, encoder)
    assert len(found.captions) == len(dataset.queries()) == 12
    assert found.query_objects == [query.object for query in dataset.queries()]
    assert found.gallery_objects == dataset.objects


def test_a_query_without_a_readable_image_is_not_asked(tmp_path):
    dataset = load_set(tmp_path).split("val")
    encoder, inputs = encoder_of(dataset)
    kept = np.array([k for k, name in enumerate(dataset.objects) if name != dataset.objects[0]])
    part = ImageInputs(inputs.tensor[kept], kept)
    found = Validation.prepare(dataset, part, encoder)
    assert dataset.objects[0] not in found.query_objects
    assert len(found.query_objects) == 9
    assert len(found.gallery_objects) == 12
    none = ImageInputs(inputs.tensor[:0], kept[:0])
    with pytest.raises(SplitError, match="no caption with a readable image"):
        Validation.prepare(dataset, none, encoder)


def test_parts_are_encoded_in_order_whatever_the_batches(tmp_path, monkeypatch):
    dataset = load_set(tmp_path)
    encoder, inputs = encoder_of(dataset)
    ids = encoder.tokenise([texts[0] for texts in dataset.captions])
    texts, images = encode_captions(encoder, ids, CPU), encode_images(encoder, inputs.tensor, CPU)
    assert [part.shape for part in texts] == [(48, 16), (48, 8)]
    assert [part.shape for part in images] == [(48, 16), (48, 8)]
    monkeypatch.setattr("mmref.training.validation.BATCH", 5)
    for whole, batched in zip(
        texts + images,
        encode_captions(encoder, ids, CPU) + encode_images(encoder, inputs.tensor, CPU),
        strict=True,
    ):
        assert torch.allclose(whole, batched, atol=1e-6)
        assert torch.allclose(whole.norm(dim=1), torch.ones(48), atol=1e-5)


def test_objects_weigh_the_same_however_many_features_they_have():
    features = torch.ones(5, 2)
    objects = torch.tensor([0, 0, 0, 0, 1])
    assert balanced(features, objects)[:, 0].tolist() == [0.25, 0.25, 0.25, 0.25, 1.0]
