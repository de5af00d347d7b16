import pytest
import yaml

from mmref.config import Settings, dotted_names, parse_assignments
from mmref.errors import ConfigError, PathError


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Settings().training.epochs = 3


def test_yaml_round_trip_is_equal(tmp_path):
    settings = Settings().with_values(
        {"training.epochs": 7, "refinement.weights": [0.25, 3], "training.learning_rate": 1e-7}
    )
    (tmp_path / "config.yaml").write_text(settings.to_yaml())
    assert Settings.from_yaml(tmp_path / "config.yaml") == settings
    assert settings.refinement.weights == (0.25, 3.0)


def test_what_a_file_leaves_out_keeps_its_default(tmp_path):
    (tmp_path / "a.yaml").write_text("training:\n  epochs: 2\n")
    settings = Settings.from_yaml(tmp_path / "a.yaml")
    assert settings.training.epochs == 2
    assert settings.encoder == Settings().encoder
    (tmp_path / "a.yaml").write_text("")
    assert Settings.from_yaml(tmp_path / "a.yaml") == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: [1]", "must map sections"),
        ("- 1", "must map sections"),
        ("training:\n  epochs: 1\n bad", "is not YAML"),
        ("training:\n  epoch: 1", "did you mean 'training.epochs'"),
        ("trainin:\n  epochs: 1", "unknown setting 'trainin.epochs'"),
        ("training:\n  epochs: many", "training.epochs"),
        ("training:\n  epochs: -1", "training.epochs"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        Settings.from_yaml(tmp_path / "a.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PathError, match=r"no settings file at .*none\.yaml"):
        Settings.from_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", "1", "did you mean 'training.epochs'"),
        ("nothing.at_all", "1", "known settings start with encoder, loss"),
        ("training", "1", "unknown setting 'training'"),
        ("training.epochs", "1.5", "training.epochs"),
        ("training.warmup", "2", "training.warmup"),
        ("training.precision", "fp8", "training.precision"),
        ("encoder.kind", "clap", "encoder.kind"),
        ("refinement.forms", "[square]", "refinement.forms"),
        ("training.learning_rate", "0", "training.learning_rate"),
        ("loss.kind", "infonce", "loss.kind"),
        ("loss.margin", "-0.1", "loss.margin"),
        ("references.momentum", "1", "references.momentum"),
        ("references.kind", "median", "references.kind"),
    ],
)
def test_unknown_names_and_values_out_of_range(name, value, message):
    with pytest.raises(ConfigError) as caught:
        Settings().with_values({name: value})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_encoder_has_a_part():
    with pytest.raises(ConfigError, match="cannot both be 0"):
        Settings().with_values({"encoder.block": 0, "encoder.deep": 0})


def test_values_are_read_as_yaml():
    settings = Settings().with_values(
        {
            "training.augment": "false",
            "training.learning_rate": "2e-4",
            "refinement.forms": "[linear]",
            "training.seed": 5,
        }
    )
    assert settings.training.augment is False
    assert settings.training.learning_rate == 2e-4
    assert settings.refinement.forms == ("linear",)
    assert settings.training.seed == 5
    assert Settings().training.seed == 0


@pytest.mark.parametrize("text", ["training.epochs", "training.epochs=", "=", ""])
def test_an_assignment_needs_a_value(text):
    with pytest.raises(ConfigError, match="--set takes key=value"):
        parse_assignments([text])


def test_assignments_may_hold_equals_signs_and_spaces():
    assert parse_assignments(["a.b = x=y ", "c.d=1"]) == {"a.b": "x=y", "c.d": "1"}
    assert parse_assignments(["a.b=1", "a.b=2"]) == {"a.b": "2"}


def test_every_setting_has_a_dotted_name():
    tree = yaml.safe_load(Settings().to_yaml())
    listed = dotted_names(tree)
    assert "training.epochs" in listed
    assert len(listed) == sum(map(len, tree.values()))


def test_references_are_used_unless_all_weights_are_zero():
    none = {f"references.{part}_weight": 0 for part in ("fusion", "guidance", "reconstruction")}
    assert Settings().references.used
    assert not Settings().with_values(none).references.used


def test_reconstruction_beside_the_encoders_needs_references_that_learn():
    values = {"references.reconstruction_weight": 0.2, "references.fusion_weight": 0}
    with pytest.raises(ConfigError, match=r"needs references.fusion_weight > 0"):
        Settings().with_values(values)


def test_prototypes_take_nothing_that_learns():
    idle = r"mean has nothing that learns: set references.fusion_weight=0 and references.reconst"
    values = {"references.kind": "mean", "references.reconstruction_weight": 1}
    with pytest.raises(ConfigError, match=idle):
        Settings().with_values(values)
    still = {"references.fusion_weight": 0, "references.reconstruction_weight": 0}
    for name in ("loss.identity_weight", "loss.cmpc_weight"):
        with pytest.raises(ConfigError, match=f"ema has nothing that learns: set {name}=0$"):
            Settings().with_values({"references.kind": "ema", **still, name: 1})
    settings = Settings().with_values({"references.kind": "ema", **still})
    assert settings.references.used
    assert not settings.references.learned


def test_the_base_objective_joins_no_captions_whatever_it_starts_from():
    loud = Settings().with_values(
        {
            "loss.kind": "tal",
            "loss.identity_weight": 1,
            "loss.cmpc_weight": 1,
            "loss.masked_words_weight": 1,
        }
    )
    quiet = loud.base_objective()
    assert quiet == Settings().base_objective().with_values({"loss.kind": "tal"})
    means = quiet.with_values({"references.kind": "mean", "references.guidance_weight": 1})
    assert means.references.used
    assert means.base_objective() == quiet
    assert not quiet.references.used
