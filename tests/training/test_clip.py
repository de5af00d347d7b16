"""Small checkpoints train in every way, are saved, loaded and give the figures judged."""

import json

import pytest
import torch
from safetensors import safe_open
from tests.encoders.clip.made import checkpoint

from mmref import MMRef, evaluate
from mmref.config import Settings
from mmref.encoders.clip.encoder import ClipEncoder
from mmref.errors import ConfigError, ModelError, PathError
from mmref.evaluation.reconstruction import masked_word_accuracy
from mmref.evaluation.sayings import predicted_words
from mmref.training.checkpoint import CHECKPOINT_FILE
from mmref.training.trainer import Trainer, train

from .sets import load_set, report

WAYS = {
    "all": {},
    "blocks": {"encoder.frozen_image_layers": 1, "encoder.frozen_text_layers": 2},
    "image tower": {"encoder.frozen_image_layers": -1, "encoder.gradient_checkpointing": True},
    "text tower": {"encoder.frozen_text_layers": -1, "training.layer_decay": 0.7},
    "references alone": {"encoder.frozen_image_layers": -1, "encoder.frozen_text_layers": -1},
    "adapters": {"encoder.lora_rank": 2, "encoder.lora_dropout": 0.1},
    "adapters above": {"encoder.lora_rank": 2, "encoder.frozen_text_layers": 1},
    "split": {"encoder.long_captions": "split", "training.remix": 0.5},
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    return {family: checkpoint(root / family, family) for family in ("clip", "siglip")}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    return load_set(folder, pixels=True, size=(32, 16), objects=9, images=3, captions=2)


def settings(folder, **changes):
    values = {
        "encoder.kind": "clip",
        "encoder.checkpoint": str(folder),
        "encoder.image_height": 32,
        "encoder.image_width": 16,
        "loss.temperature": 0.05,
        "references.learning_rate": 1e-2,
        "references.decoder_epochs": 1,
        "references.decoder_width": 16,
        "references.tokens": 2,
        "refinement.kept": 4,
        "training.epochs": 2,
        "training.batch_size": 6,
        "training.learning_rate": 1e-3,
        "training.deep_learning_rate": 1e-2,
        "training.average": 0.5,
        "training.augmentation": "crop",
        "training.flip": True,
        **changes,
    }
    return Settings().with_values(values)


def frozen(run, start):
    """Weights of a run that are those of the checkpoint to the last bit."""
    return {k for k, v in run.encoder.state_dict().items() if torch.equal(v, start[k])}


@pytest.mark.parametrize("family", ["clip", "siglip"])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_trained_is_saved_loaded_and_evaluated(folders, pictures, tmp_path, family, way):
    chosen = settings(folders[family], **WAYS[way])
    run = tmp_path / "run"
    train(pictures, run, chosen)

    model = MMRef.from_pretrained(run)
    found, judged = evaluate(model, pictures, "val", bootstrap=0), report(run)
    validation = judged["validation"]
    refined = validation["refined"] or validation["unrefined"]
    assert found.t2i == pytest.approx(refined, abs=1e-9)
    assert (found.unrefined or found.t2i) == pytest.approx(validation["unrefined"], abs=1e-9)
    assert model.settings == chosen
    assert judged["model"]["vocabulary"] is None
    assert len(judged["parameters"]) == 3

    native = ClipEncoder.from_checkpoint(chosen.encoder)
    kept = frozen(model, native.state_dict())
    towers = [name for name in kept if name.startswith("net.")]
    everything = [name for name in native.state_dict() if name.startswith("net.")]
    if way == "references alone" or judged["best_epoch"] == 0:
        assert len(towers) == len(everything)
    else:
        assert len(towers) < len(everything)
        for tower, layers in (("vision_model", "image"), ("text_model", "text")):
            lowest = f"net.{tower}.encoder.layers.0.mlp.fc1.weight"
            limit = getattr(chosen.encoder, f"frozen_{layers}_layers")
            assert (lowest in kept) == (limit != 0)
    names = set(model.encoder.state_dict())
    assert names == set(native.state_dict())  # no adapter is left


def test_the_run_needs_the_checkpoint_no_more(folders, pictures, tmp_path):
    import shutil

    own = shutil.copytree(folders["clip"], tmp_path / "own")
    trained = train(pictures, tmp_path / "run", settings(own))
    shutil.rmtree(own)
    shutil.move(tmp_path / "run", tmp_path / "moved")
    model = MMRef.from_pretrained(tmp_path / "moved")
    assert model.digest == trained.digest
    captions = ["a red hat, a blue shoe", "", "an unseen word"]
    assert torch.equal(model.encode_text(captions), trained.encode_text(captions))
    assert model.unknown_words("an unseen word") == []
    paths = pictures.image_paths[:3]
    assert torch.equal(model.encode_image(paths), trained.encode_image(paths))

    tokenizer = tmp_path / "moved" / "tokenizer.json"
    text = tokenizer.read_text()
    tokenizer.write_text(text.replace('"red</w>"', '"hat</w>"', 1))
    with pytest.raises(ModelError):
        MMRef.from_pretrained(tmp_path / "moved")
    tokenizer.unlink()
    with pytest.raises(ModelError, match=r"lacks tokenizer.json"):
        MMRef.from_pretrained(tmp_path / "moved")
    description = tmp_path / "moved" / "model.json"
    tokenizer.write_text(text)
    facts = json.loads(description.read_text())
    facts["architecture"]["files"] = ["../tokenizer.json"]
    description.write_text(json.dumps(facts))
    with pytest.raises(ModelError, match=r"lacks ../tokenizer.json"):
        MMRef.from_pretrained(tmp_path / "moved")


@pytest.mark.parametrize("way", ["blocks", "adapters"])
def test_an_interrupted_training_goes_on_to_the_same_end(folders, pictures, tmp_path, way):
    chosen = settings(folders["clip"], **WAYS[way])
    whole, part = tmp_path / "whole", tmp_path / "part"
    wanted = train(pictures, whole, chosen)
    part.mkdir()
    Trainer(pictures, chosen, folder=part).run(stop_after=1)
    with safe_open(part / CHECKPOINT_FILE, "pt") as file:
        names = set(file.keys())
    frozen = [n for n in names if "encoder.net.text_model.embeddings.token_embedding.weight" in n]
    assert frozen == ["module.encoder.net.text_model.embeddings.token_embedding.weight"]
    found = train(pictures, part, chosen, resume=True)
    assert found.digest == wanted.digest
    assert report(part) == report(whole)


def test_frozen_weights_are_not_copied(folders, pictures):
    trainer = Trainer(pictures, settings(folders["clip"], **{"encoder.frozen_text_layers": -1}))
    state = trainer.state
    trainer.run()
    own = state.module.state_dict()
    frozen = "encoder.net.text_model.encoder.layers.0.mlp.fc1.weight"
    free = "encoder.net.vision_model.encoder.layers.0.mlp.fc1.weight"
    for held in (state.average.tensors, state.best):
        assert held[frozen].data_ptr() == own[frozen].data_ptr()
        assert held[free].data_ptr() != own[free].data_ptr()


def test_long_captions_are_told(folders, pictures, tmp_path):
    import pyarrow as pa

    long = ["a red hat and a blue shoe, " * 12]
    table = pictures.table
    captions = [long if row == 0 else own for row, own in enumerate(pictures.captions)]
    column = table.column_names.index("captions")
    changed = table.set_column(column, "captions", pa.array(captions))
    dataset = type(pictures)(changed, pictures.root, "long", "manifest")
    trainer = Trainer(dataset, settings(folders["clip"]))
    assert trainer.notes[-1].startswith("1 of 13 captions are longer than the text tower's 77")
    found = evaluate(MMRef.from_pretrained(folders["clip"]), dataset, "train", bootstrap=0)
    assert any("captions are longer than the text tower's 77 tokens" in n for n in found.notes)


def test_what_cannot_be_is_said_at_once(folders, pictures, tmp_path):
    for values, kind, message in (
        ({"encoder.checkpoint": str(tmp_path / "none")}, PathError, "no checkpoint at"),
        ({"encoder.image_width": 20}, ConfigError, "multiples of"),
        ({"encoder.frozen_image_layers": 7}, ConfigError, "the tower has 2 blocks"),
    ):
        with pytest.raises(kind, match=message):
            train(pictures, tmp_path / "run", settings(folders["clip"], **values))
        assert not (tmp_path / "run").exists()


class TestZeroShot:
    @pytest.mark.parametrize("family", ["clip", "siglip"])
    def test_a_checkpoint_is_a_model_without_references(self, folders, pictures, family):
        model = MMRef.from_pretrained(folders[family])
        assert model.references is None
        assert model.image_size == (32, 32)
        assert model.id.startswith(f"{family}-")
        assert model.digest == MMRef.from_pretrained(folders[family]).digest
        found = evaluate(model, pictures, "val", bootstrap=0)
        assert found.unrefined is None
        assert found.queries > 0

    def test_it_can_be_saved_as_a_run(self, folders, tmp_path):
        model = MMRef.from_pretrained(folders["siglip"])
        model.save_pretrained(tmp_path / "run")
        again = MMRef.from_pretrained(tmp_path / "run")
        assert again.digest == model.digest
        assert torch.equal(again.encode_text(["red"]), model.encode_text(["red"]))

    def test_another_model_s_folder(self, tmp_path):
        (tmp_path / "config.json").write_text('{"model_type": "bert"}')
        with pytest.raises(ModelError, match="not both towers of CLIP or SigLIP"):
            MMRef.from_pretrained(tmp_path)


def test_references_of_a_clip_run_say_words_of_the_captions(folders, pictures, tmp_path):
    train(pictures, tmp_path / "run", settings(folders["clip"], **{"references.decoder_epochs": 9}))
    model = MMRef.from_pretrained(tmp_path / "run")
    asked = pictures.split("train").queries()
    captions, objects = [query.caption for query in asked], [query.object for query in asked]
    known = {word for caption in captions for word in model.encoder.tokeniser.words([caption])[0]}
    told = predicted_words(model, model.references.objects, captions)
    assert told and all(word.word in known for words in told for word in words)
    figures = masked_word_accuracy(model, captions, objects)
    tokens = sum(len(ids) for ids in model.encoder.tokeniser.ids(captions))
    assert 0 < figures["words"] <= tokens
