import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mmref.errors import ImageError, ModelError, PathError
from mmref.files import write_json
from mmref.model import DESCRIPTION_FILE, MODEL_FILE, REFERENCES_FILE, SETTINGS_FILE, MMRef
from mmref.references.kept import RefinementChoice, make_refiner
from mmref.training.trainer import Trainer

from .training.sets import copied, load_set, small

CAPTIONS = ["a red hat, a blue shoe", "white", "", "nothing of this is known"]
FILES = (DESCRIPTION_FILE, MODEL_FILE, REFERENCES_FILE, SETTINGS_FILE)
CHOICE = RefinementChoice("posterior", 0.5, 0.1, 4)


def trained(folder, kind, **values):
    dataset = load_set(folder / "data", pixels=kind == "compact")
    found = Trainer(dataset, small(kind, training__epochs=2, **values)).run().model
    model = MMRef(found.encoder, found.settings, found.references, CHOICE)
    model.save_pretrained(folder / "run")
    return model


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    return trained(folder, "features"), folder / "run"


@pytest.fixture(scope="module")
def compact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compact")
    return trained(folder, "compact"), folder / "run"


def inputs(model):
    rng = np.random.default_rng(0)
    if model.image_size is None:
        return rng.standard_normal((5, 8)).astype(np.float32)
    return rng.integers(0, 256, (5, 3, *model.image_size)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["features", "compact"])
def test_what_is_loaded_is_what_was_saved_bit_for_bit(kind, request):
    model, run = request.getfixturevalue(kind)
    loaded = MMRef.from_pretrained(run)
    wanted, found = (dict(m.encoder.state_dict()) for m in (model, loaded))
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    for name in ("vectors", "text_mean", "image_mean"):
        assert torch.equal(getattr(model.references, name), getattr(loaded.references, name))
    assert model.references.objects == loaded.references.objects
    assert all(map(torch.equal, model.references.parts, loaded.references.parts))
    assert len(loaded.references.parts) == 2
    assert model.references.decoder.keys() == loaded.references.decoder.keys()
    assert loaded.refinement == CHOICE
    assert loaded.settings == model.settings
    assert (loaded.digest, loaded.kind) == (model.digest, kind)
    assert loaded.id == f"run-{model.digest[:12]}"
    assert torch.equal(model.encode_image(inputs(model)), loaded.encode_image(inputs(model)))
    # Not bit for bit: the description rounds the n-grams' weights to six decimals.
    texts = model.encode_text(CAPTIONS), loaded.encode_text(CAPTIONS)
    assert torch.allclose(*texts, atol=1e-6)


def test_saving_twice_writes_the_same_bytes(features, tmp_path):
    model, run = features
    model.save_pretrained(tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (run / name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "again").iterdir()) == sorted(FILES)


def test_vectors_are_normalised_and_independent_of_batches(compact):
    model, _ = compact
    texts, images = model.encode_text(CAPTIONS), model.encode_image(inputs(model))
    assert texts.shape == (4, model.dimension)
    assert images.shape == (5, model.dimension)
    assert torch.allclose(images.norm(dim=1), torch.ones(5), atol=1e-6)
    assert torch.allclose(texts[:2].norm(dim=1), torch.ones(2), atol=1e-6)
    assert torch.allclose(model.encode_text(CAPTIONS, batch_size=1), texts, atol=1e-6)
    assert torch.allclose(model.encode_image(inputs(model), batch_size=2), images, atol=1e-6)
    assert model.encode_text([]).shape == (0, model.dimension)
    assert model.encode_image([]).shape == (0, model.dimension)


def test_progress_counts_to_the_end(features):
    model, _ = features
    seen = []
    model.encode_image(inputs(model), batch_size=2, progress=lambda *at: seen.append(at))
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_pictures_are_taken_in_any_form(compact, tmp_path):
    model, _ = compact
    pixels = inputs(model)
    pictures = [Image.fromarray(p.transpose(1, 2, 0)) for p in pixels]
    paths = []
    for number, picture in enumerate(pictures):
        paths.append(tmp_path / f"{number}.png")
        picture.save(paths[-1])
    wanted = model.encode_image(pixels)
    for given in (pictures, paths, [str(path) for path in paths], torch.from_numpy(pixels)):
        assert torch.allclose(model.encode_image(given), wanted, atol=1e-6)


def test_similarity_is_the_cosine_plus_the_reference_part(features):
    model, _ = features
    texts, images = model.encode_text(CAPTIONS[:2]), model.encode_image(inputs(model))
    plain = model.similarity(texts, images, refine=False)
    assert torch.equal(plain, texts @ images.T)
    refiner = make_refiner(model.references, CHOICE)
    assert refiner is not None
    profiles = refiner.profiles(texts, "text", exact=True), refiner.profiles(images, "image")
    expected = plain + 0.5 * refiner.reference_similarity(*profiles)
    assert torch.allclose(model.similarity(texts, images), expected, atol=1e-6)


def test_there_is_no_refiner_without_references_or_weight(features):
    model, _ = features
    assert make_refiner(None, CHOICE) is None
    assert make_refiner(model.references, None) is None
    assert make_refiner(model.references, RefinementChoice("linear", 0.0, 0.1, 4)) is None


def test_a_model_without_references_is_saved_and_loaded(features, tmp_path):
    model, _ = features
    MMRef(model.encoder, model.settings).save_pretrained(tmp_path / "base")
    loaded = MMRef.from_pretrained(tmp_path / "base")
    assert loaded.references is None
    assert loaded.refiner is None
    assert loaded.digest != model.digest
    assert torch.equal(loaded.encode_image(inputs(model)), model.encode_image(inputs(model)))


def test_unknown_words_are_named(features):
    model, _ = features
    assert model.unknown_words("A red zebra, a Hat") == ["zebra"]
    assert torch.equal(model.encode_text(["zebra"])[:, :16], torch.zeros(1, 16))


def test_inputs_that_do_not_fit_are_refused(features, compact, tmp_path):
    vectors, pixels = features[0], compact[0]
    with pytest.raises(TypeError, match="not one string"):
        vectors.encode_text("a red hat")
    with pytest.raises(ModelError, match="vectors of 8 numbers, not an array of shape"):
        vectors.encode_image(np.zeros((2, 9), dtype=np.float32))
    with pytest.raises(ModelError, match="takes precomputed vectors, not pictures"):
        vectors.encode_image([Image.new("RGB", (4, 4))])
    with pytest.raises(ModelError, match=r"uint8 pixels \[n, 3, 16, 16\]"):
        pixels.encode_image(np.zeros((2, 3, 8, 8), dtype=np.uint8))
    with pytest.raises(ModelError, match="uint8 pixels"):
        pixels.encode_image(np.zeros((2, 3, 16, 16), dtype=np.float32))
    (tmp_path / "bad.png").write_bytes(b"bad")
    with pytest.raises(ImageError, match=r"bad\.png: "):
        pixels.encode_image([tmp_path / "bad.png"])


def test_a_folder_that_is_none_is_a_path_error(tmp_path):
    with pytest.raises(PathError, match="no run folder at"):
        MMRef.from_pretrained(tmp_path / "absent")


@pytest.mark.parametrize("name", FILES)
def test_a_run_that_lacks_a_file_says_which(features, tmp_path, name):
    run = copied(features[1], tmp_path / "run")
    (run / name).unlink()
    with pytest.raises(ModelError, match=f"lacks {name}"):
        MMRef.from_pretrained(run)


@pytest.mark.parametrize(
    ("name", "keep"),
    [(name, keep) for name in FILES for keep in (0, 0.5) if (name, keep) != (SETTINGS_FILE, 0)],
)
def test_a_truncated_file_is_said_to_be_damaged(features, tmp_path, name, keep):
    run = copied(features[1], tmp_path / "run")
    whole = (run / name).read_bytes()
    (run / name).write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(ModelError, match="is damaged") as caught:
        MMRef.from_pretrained(run)
    assert "\n" not in str(caught.value)


def edited(run, change):
    description = json.loads((run / DESCRIPTION_FILE).read_text())
    change(description)
    write_json(run / DESCRIPTION_FILE, description)
    return run


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format=2), "has format 2; this version reads 1"),
        (lambda d: d.pop("digest"), "damaged"),
        (lambda d: d.update(digest="0"), "not of one run"),
        (lambda d: d["objects"].pop(), "references for"),
        (lambda d: d["architecture"].update(kind="clap"), "unknown encoder 'clap'"),
        (lambda d: d["architecture"]["settings"].update(block=16), "damaged"),
        (lambda d: d["architecture"]["settings"].update(new=1), "another version of mmref"),
        (lambda d: d["architecture"]["settings"].update(text_depth=1), "another version of mmref"),
        (lambda d: d.update(refinement={"form": "square"}), "damaged"),
        (lambda d: d.update(architecture=None), "damaged"),
    ],
)
def test_a_changed_description_is_refused(features, tmp_path, change, message):
    run = edited(copied(features[1], tmp_path / "run"), change)
    with pytest.raises(ModelError) as caught:
        MMRef.from_pretrained(run)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_setting_that_is_gone_is_of_another_version(features, tmp_path):
    run = copied(features[1], tmp_path / "run")
    settings = (run / SETTINGS_FILE).read_text()
    (run / SETTINGS_FILE).write_text(settings.replace("  warmup:", "  warm_steps:"))
    with pytest.raises(ModelError, match=r"another version of mmref \(unknown setting 'train"):
        MMRef.from_pretrained(run)


@pytest.mark.parametrize("name", [MODEL_FILE, REFERENCES_FILE])
def test_files_of_two_runs_are_not_taken_for_one(features, tmp_path, name):
    run = copied(features[1], tmp_path / "run")
    other = {key: value + 1 for key, value in load_file(run / name).items()}
    save_file(other, run / name)
    with pytest.raises(ModelError, match="not of one run"):
        MMRef.from_pretrained(run)


def test_the_digest_depends_on_what_ranks(features):
    model, _ = features
    other = RefinementChoice("posterior", 0.5, 0.1, 5)
    changed = MMRef(model.encoder, model.settings, model.references, other)
    assert changed.digest != model.digest
    assert len(model.digest) == 64
