from itertools import pairwise

import pytest

from mmref.config import Settings, dotted_names
from mmref.errors import ConfigError
from mmref.experiments.variants import BASELINES, COMPONENTS, PROTOTYPES, VARIANTS, variant


def changed(one: Settings, two: Settings) -> set[str]:
    """The dotted names in which two settings differ."""
    left, right = one.model_dump(), two.model_dump()
    return {
        f"{section}.{key}"
        for section in left
        for key in left[section]
        if left[section][key] != right[section][key]
    }


START = Settings().with_values(
    {
        "encoder.deep": 32,
        "training.seed": 7,
        "training.epochs": 3,
        "references.guidance_weight": 0.7,
        "references.fusion_weight": 0.6,
    }
)


@pytest.mark.parametrize("name", list(VARIANTS))
def test_each_is_valid_and_leaves_encoder_and_budget_alone(name):
    settings = variant(name, START)
    assert settings.encoder == START.encoder
    assert settings.refinement == START.refinement
    assert changed(settings, START) <= {
        *(f"loss.{key}" for key in type(START.loss).model_fields),
        *(f"references.{key}" for key in type(START.references).model_fields),
        "training.remix",
    }
    assert set(VARIANTS[name].kept) <= set(dotted_names(START.model_dump()))


def test_presets_name_known_variants():
    assert set(BASELINES) | set(COMPONENTS) | set(PROTOTYPES) <= set(VARIANTS)


def test_base_control_and_full_are_those_of_the_settings():
    assert variant("base", START) == START.base_objective()
    assert variant("identity", START) == START.identity_control()
    assert variant("full", START) == START
    assert variant("full") == Settings()


def test_each_component_adds_one_thing():
    steps = ["base", "references", "full", "full-reconstruction"]
    assert set(steps) <= set(COMPONENTS)
    added = [changed(variant(one, START), variant(two, START)) for one, two in pairwise(steps)]
    assert added[0] == {"references.fusion_weight", "references.guidance_weight"}
    assert added[1] == {"references.caption_epochs", "references.decoder_epochs"}
    assert added[2] == {"references.reconstruction_weight"}
    assert variant("references", START).references.guidance_weight == 0.7


def test_the_strong_controls_have_captions_first_and_no_references_that_guide():
    for name in ("captions", "identity-captions"):
        found = variant(name, START).references
        assert found.caption_epochs == START.references.caption_epochs > 0
        assert found.guidance_weight == found.fusion_weight == 0
    assert variant("identity-captions", START).loss.identity_weight == 1


@pytest.mark.parametrize("name", ["pairwise", "sdm", "tal", "cmpm", "triplet"])
def test_a_base_loss_changes_no_more_than_the_loss(name):
    settings = variant(name, START)
    assert settings.loss.kind == name
    more = {n for n in changed(settings, START.base_objective()) if not n.startswith("loss.")}
    assert more == ({"references.learning_rate"} if name == "cmpm" else set())  # CMPC's weights
    assert (settings.loss.cmpc_weight > 0) == (name == "cmpm")
    assert not settings.references.used


def test_irra_is_whole():
    loss = variant("irra", START).loss
    assert loss.kind == "sdm"
    assert (loss.identity_weight, loss.masked_words_weight) == (1, 1)


@pytest.mark.parametrize("kind", ["mean", "ema"])
def test_prototypes_stand_where_learned_references_stand(kind):
    alone, whole = variant(f"{kind}-prototypes", START), variant(f"full-{kind}", START)
    assert changed(alone, variant("references", START)) == {
        "references.kind",
        "references.fusion_weight",
    }
    assert changed(whole, START) == {"references.kind", "references.fusion_weight"}
    assert variant("mean-refined", START).references.guidance_weight == 0


def test_overrides_have_the_last_word():
    settings = variant("tal", START, {"loss.temperature": 0.07, "training.epochs": 1})
    assert settings.loss.temperature == 0.07
    assert settings.loss.margin == 0.1
    assert settings.training.epochs == 1


def test_an_unknown_variant_or_setting_is_said():
    with pytest.raises(ConfigError, match=r"unknown variant 'clip': choose one of base, pairwise"):
        variant("clip")
    with pytest.raises(ConfigError, match=r"did you mean 'loss.margin'"):
        variant("tal", overrides={"loss.margi": 1})
