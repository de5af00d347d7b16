"""Every shipped recipe loads, is for a format that exists, and says where it differs."""

import re
from pathlib import Path

import pytest
import yaml

from mmref.config import Settings
from mmref.data.readers import READERS
from mmref.errors import ConfigError, PathError
from mmref.recipes import FOLDER, find_settings, read_settings, recipe_names

NAMES = recipe_names()
SETS = ("cuhk-pedes", "icfg-pedes", "rstpreid", "cub", "flowers")
KINDS = ("", "-siglip", "-compact", "-irra", "-rde")


def set_of(name):
    return next(found for found in SETS if f"{name}-".startswith(f"{found}-"))


def test_there_is_one_for_each_set_and_backbone():
    assert sorted(NAMES) == sorted(name + kind for name in SETS for kind in KINDS)
    assert set(SETS) <= set(READERS)


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_loads(name):
    settings = Settings.from_yaml(name)
    assert settings == Settings.from_yaml(f"recipes/{name}.yaml")
    assert settings == Settings.from_yaml(FOLDER / f"{name}.yaml")
    assert settings.encoder.kind == ("compact" if name.endswith("-compact") else "clip")
    persons = set_of(name) in SETS[:3]
    if settings.encoder.kind == "clip":
        size = settings.encoder.image_height, settings.encoder.image_width
        assert size == ((384, 128) if persons else (224, 224))
    text = (FOLDER / f"{name}.yaml").read_text()
    assert text.startswith("# ")
    assert "\t" not in text


@pytest.mark.parametrize("file", sorted(FOLDER.rglob("*.yaml")), ids=lambda file: file.stem)
def test_a_file_names_known_settings_once(file):
    text = file.read_text()
    tree = yaml.safe_load(text)
    assert set(tree) - {"extends"} <= set(Settings.model_fields)
    keys = [key for section, own in tree.items() if section != "extends" for key in own]
    # YAML lets a later key win silently.
    assert len(re.findall(r"^  \w+:", text, re.MULTILINE)) == len(keys)
    assert len(re.findall(r"^\w+:", text, re.MULTILINE)) == len(tree)
    assert all(len(line) <= 100 for line in text.splitlines())


def test_the_defaults_of_the_method():
    settings = Settings.from_yaml("rstpreid")
    assert settings.encoder.checkpoint == "openai/clip-vit-base-patch16"
    assert (settings.loss.temperature, settings.references.temperature) == (0.02, 0.05)
    training = settings.training
    assert (training.epochs, training.batch_size, training.augmentation) == (60, 64, "crop")
    assert training.learning_rate == 1e-5
    assert training.deep_learning_rate == pytest.approx(5e-5)
    assert settings.references.learning_rate == 1e-3
    assert round(training.warmup * training.epochs) == 5
    assert settings.references.used


@pytest.mark.parametrize("name", SETS)
def test_baselines_have_no_references(name):
    irra, rde = Settings.from_yaml(f"{name}-irra"), Settings.from_yaml(f"{name}-rde")
    for settings in (irra, rde):
        assert not settings.references.used
        assert settings.references.caption_epochs == 0
        assert settings.encoder == Settings.from_yaml(name).encoder
        for field in ("epochs", "batch_size", "patience", "learning_rate", "flip"):
            assert getattr(settings.training, field) == getattr(
                Settings.from_yaml(name).training, field
            )
    assert (irra.loss.kind, irra.loss.temperature) == ("sdm", 0.02)
    assert irra.loss.identity_weight == irra.loss.masked_words_weight == 1
    assert (rde.loss.kind, rde.loss.margin, rde.loss.temperature) == ("tal", 0.1, 0.015)
    assert rde.loss.identity_weight == rde.loss.masked_words_weight == 0


def test_a_file_of_ones_own_wins_over_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_settings("rstpreid.yaml").parent == FOLDER
    (tmp_path / "rstpreid").mkdir()  # a folder of that name is no file
    assert find_settings("rstpreid").parent == FOLDER
    (tmp_path / "rstpreid.yaml").write_text("training:\n  epochs: 2\n")
    assert Settings.from_yaml("rstpreid.yaml").training.epochs == 2
    assert Settings.from_yaml("rstpreid").training.epochs == 60


def test_later_ones_win_and_files_beside_come_first(tmp_path):
    (tmp_path / "one.yaml").write_text("training:\n  epochs: 1\n  seed: 1\n")
    (tmp_path / "two.yaml").write_text("training:\n  epochs: 2\n")
    (tmp_path / "mine.yaml").write_text("extends: [one, two.yaml]\ntraining:\n  batch_size: 4\n")
    assert read_settings(tmp_path / "mine.yaml") == {
        "training": {"epochs": 2, "seed": 1, "batch_size": 4}
    }
    (tmp_path / "rstpreid.yaml").write_text("training:\n  seed: 9\n")
    (tmp_path / "mine.yaml").write_text("extends: rstpreid\n")
    assert Settings.from_yaml(tmp_path / "mine.yaml").training.seed == 9
    (tmp_path / "mine.yaml").write_text("extends: cub\nencoder:\n  checkpoint: /models/mine\n")
    mine = Settings.from_yaml(tmp_path / "mine.yaml")
    assert (mine.encoder.checkpoint, mine.training.epochs) == ("/models/mine", 10)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("extends: a", ConfigError, "extends itself"),
        ("extends: nowhere", PathError, "extends nowhere, which is neither beside it"),
        ("extends: 3", ConfigError, "extends takes a name or a list of names"),
        ("extends: [cub, 3]", ConfigError, "extends takes a name"),
        ("extends: cub\ntraining: 3", ConfigError, "must map sections"),
        ("extends: broken", ConfigError, "broken.yaml is not YAML"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, text, error, message):
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(error) as caught:
        Settings.from_yaml(tmp_path / "a.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["rstpeid", "recipes/rstpreed.yaml", "elsewhere/rstpreid.yaml"])
def test_a_name_that_is_none(name):
    with pytest.raises(PathError, match="a recipe such as rstpreid"):
        find_settings("nothing-like-it")
    with pytest.raises(PathError, match=r"no settings file at .*did you mean the recipe rstpreid"):
        find_settings(name)


def test_recipes_are_in_the_package():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert '"recipes/*.yaml"' in text
    assert '"recipes/bases/*.yaml"' in text


def test_train_takes_a_recipe_by_name(run_mmref, tmp_path):
    left = run_mmref("train", "--config", "rstpreid", "--data", tmp_path, "--out", tmp_path / "r")
    assert "no settings file" not in left.err
    assert "is an empty folder" in left.err
    left = run_mmref("train", "--config", "rstp", "--data", tmp_path, "--out", tmp_path / "r")
    assert left.status == 2
    assert "did you mean the recipe rstpreid?" in left.err
