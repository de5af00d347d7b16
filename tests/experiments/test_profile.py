"""What is measured and what is predicted from it; times themselves are for benchmarks/."""

import time
from dataclasses import replace

import pytest
import torch

from mmref.config import Settings
from mmref.data.batches import load_inputs
from mmref.data.dataset import RetrievalDataset
from mmref.encoders.clip.encoder import ClipEncoder
from mmref.errors import ConfigError
from mmref.experiments import profile as profile_module
from mmref.experiments.profile import profile
from mmref.experiments.profile_cost import Step, flops_of, kept_bytes, seconds_of
from mmref.experiments.profile_encoder import SHAPES, clip_shape, encoder_to_measure
from mmref.experiments.profile_losses import loss_seconds, made_objective
from mmref.experiments.profile_prediction import Costs, Towers, prediction, step_parts
from mmref.experiments.profile_work import (
    USUAL,
    Work,
    made_captions,
    made_pictures,
    published_work,
    work_of,
)
from mmref.training.trainer import Trainer

from . import sets

SMALL = {
    **sets.SMALL,
    "encoder.kind": "compact",
    "encoder.width": 8,
    "encoder.grid": 8,
    "encoder.image_height": 16,
    "encoder.image_width": 16,
}
TINY_CLIP = {
    "model_type": "clip",
    "projection_dim": 16,
    "text_config": {
        "vocab_size": 300, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 77,
        "bos_token_id": 298, "eos_token_id": 299, "pad_token_id": 299,
    },
    "vision_config": {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
    },
}  # fmt: skip
ONES = Costs(
    batch=10,
    measured=10,
    image=Towers(1.0, 3.0),
    text={10.0: Towers(0.1, 0.3), 20.0: Towers(0.2, 0.6)},
    draw=0.01,
    ahead=0,
    update=5.0,
    references=0.1,
    losses={4: 2.0},
    whole=0.0,
    share=1.0,
    told=1.0,
    decoder=0.001,
    ranking=0.0001,
    decode={(8, 4): 0.5},
)
WORK = Work("one", 4, 30, 61, 50, (6, 12), (20, 40), 15.0, (8, 4))


def small(**values):
    return Settings().with_values({**SMALL, **{k.replace("__", "."): v for k, v in values.items()}})


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(profile_module, "GALLERY", 300)
    monkeypatch.setattr(profile_module, "_DISTINCT", 50)
    monkeypatch.setattr(profile_module, "_SAMPLE", 60)
    monkeypatch.setattr(profile_module, "_PICTURES", 2)
    monkeypatch.setattr("mmref.experiments.profile_cost.REPEATS", 1)
    monkeypatch.setattr("mmref.experiments.profile_cost._PATIENCE", 0.0)
    monkeypatch.setitem(SHAPES, "tiny", TINY_CLIP)


def step_of(settings, objects=6, batch=4, count=12):
    captions = made_captions(8, count)
    size = (count, 3, settings.encoder.image_height, settings.encoder.image_width)
    images = torch.randint(0, 256, size, dtype=torch.uint8)
    made = encoder_to_measure(settings, captions, images)
    return Step(settings, made, captions, objects, batch, torch.device("cpu"))


class TestWork:
    def test_published_sizes(self):
        work = published_work("cuhk-pedes")
        assert (work.objects, work.images, work.pairs) == (11_003, 34_054, 68_126)
        assert (work.val, work.test) == ((3_078, 6_158), (3_074, 6_156))
        assert work.steps(64) == 1065
        birds = published_work("cub")
        assert birds.pairs + birds.val[1] == 88_550  # ten captions a picture
        assert birds.test == (2_933, 29_330)

    def test_a_share_is_held_out_without_val(self):
        assert published_work("icfg-pedes").objects == 3_102 - 155
        assert published_work("cub").objects == 150 - 15
        assert published_work("rstpreid").objects == 3_701

    def test_a_set_on_disk_is_counted_as_a_training_counts(self, tmp_path):
        dataset = RetrievalDataset.load(sets.write_set(tmp_path))
        settings = Settings().with_values({**sets.SMALL, "training.batch_size": 7})
        work, trainer = work_of(dataset, settings), Trainer(dataset, settings)
        assert work.objects == len(trainer.pairs.objects)
        assert work.pairs == len(trainer.pairs)
        assert work.captions == len(trainer.pairs.captions)
        assert work.steps(7) == trainer.pairs.steps
        assert work.val == (
            len(load_inputs(trainer.validation.dataset, None).rows),
            len(trainer.validation.captions),
        )
        assert work.picture is None

    def test_made_captions_are_as_long_as_asked(self):
        for words in (5, 37):
            made = made_captions(words, 600, seed=3)
            mean = sum(len(caption.split()) for caption in made) / 600
            assert abs(mean / words - 1) < 0.06
        assert made_captions(5, 20) == made_captions(5, 20)
        assert made_captions(5, 20) != made_captions(5, 20, seed=1)

    def test_made_pictures_are_no_blank_ones(self):
        small_one, large = made_pictures((64, 32), 1)[0], made_pictures((256, 128), 1)[0]
        assert len(small_one) > 1000
        assert len(large) > 6 * len(small_one)


class TestPrediction:
    def test_by_hand(self):
        parts = step_parts(WORK, ONES)
        assert parts == pytest.approx(
            {
                "image tower": 30.0,
                "text tower": 4.5,  # half way between 3 and 6
                "losses": 2.0,
                "update": 5.4,
                "drawing the batch": 0.1,
            }
        )
        settings = small(training__epochs=2, references__caption_epochs=3).with_values(
            {"references.decoder_epochs": 2}
        )
        found = prediction(WORK, settings, ONES)
        assert found["steps"] == 6  # the pair that is left over joins the last batch
        assert found["step"] == pytest.approx(42.0)
        validation = 6 * 1.0 + 12 * 0.15 + 5 * 6 * 12 * 0.0001  # five shares are tried
        assert found["epoch"] == pytest.approx(6 * 42 + validation)
        assert found["decoding"] == pytest.approx(18.0)
        assert found["before"] == pytest.approx(18 + 3 * 50 * 0.45)
        assert found["behind"] == pytest.approx(2 * 50 * 0.001)
        assert found["training"] == pytest.approx(
            found["before"] + 2 * found["epoch"] + found["behind"]
        )
        assert found["evaluation"] == pytest.approx(10 + 20 + 6 + 20 * 40 * 0.0001)

    def test_one_part_is_ranked_once(self):
        both = prediction(WORK, small(), ONES)["epoch_validation"]
        one = prediction(WORK, small(encoder__block=0), ONES)["epoch_validation"]
        assert both - one == pytest.approx(4 * 6 * 12 * 0.0001)

    def test_beside_a_gpu_batches_are_drawn_ahead(self):
        quick_enough = replace(ONES, ahead=2)
        assert step_parts(WORK, quick_enough)["waiting for the batch"] == 0
        late = step_parts(WORK, replace(ONES, ahead=2, draw=20.0))
        assert sum(late.values()) == pytest.approx(100.0)

    def test_what_a_whole_step_takes_longer_counts(self):
        twice = sum(step_parts(WORK, replace(ONES, share=2.0)).values())
        assert twice == pytest.approx(2 * sum(step_parts(WORK, ONES).values()))


class TestMeasuring:
    def test_seconds(self):
        calls = []
        found = seconds_of(lambda: (calls.append(1), time.sleep(0.02)), 3)
        assert 0.02 <= found < 0.5
        assert len(calls) == 2  # one warms up, and there is no patience here for another

    def test_operations_of_attention_are_counted(self):
        x = torch.randn(1, 2, 5, 8)
        attention = torch.nn.functional.scaled_dot_product_attention
        assert flops_of(lambda: attention(x, x, x)) == 2 * 2 * 2 * 5 * 5 * 8

    def test_bytes_kept_are_counted_once_and_without_weights(self):
        layer = torch.nn.Linear(6, 4, bias=False)
        x = torch.randn(10, 6)
        assert kept_bytes(lambda: layer(x).sum(), layer.parameters()) == x.nbytes

        def twice():
            return layer(x) + layer(x)

        assert kept_bytes(twice, layer.parameters()) == x.nbytes

    def test_a_step_is_one_of_training(self):
        step = step_of(small())
        before = {k: v.clone() for k, v in step.module.state_dict().items()}
        step.whole()
        after = step.module.state_dict()
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert any(name.startswith("objective.banks") for name in moved)
        assert any(name.startswith("encoder.net") for name in moved)
        assert step.average.updates == 1
        step.clear()
        step.encode("images", step.draw()["images"])
        assert step.module.training
        assert all(p.grad is None for p in step.module.parameters())

    def test_losses_in_use_alone(self):
        settings = small(references__reconstruction_weight=0.5, loss__identity_weight=1)
        step = step_of(settings)
        found = loss_seconds(settings, step, 5, 6)
        assert set(found) == {"base", "fusion", "guidance", "reconstruction", "identity"}
        assert all(value >= 0 for value in found.values())
        objective, inputs = made_objective(settings, step, 5, 6)
        assert len(objective.bank(0).weight) == 5
        assert inputs["objects"].max() < 5


class TestClip:
    def test_known_shapes(self):
        config, note = clip_shape("openai/clip-vit-large-patch14")
        assert config["vision_config"]["num_hidden_layers"] == 24
        assert config["projection_dim"] == 768
        assert "weights at random" in note
        assert clip_shape("google/siglip-base-patch16-256")[0]["model_type"] == "siglip"
        with pytest.raises(ConfigError, match="is not known here: give its folder"):
            clip_shape("somebody/else")

    def test_shapes_of_recipes_are_known(self):
        for name in ("rstpreid", "cub-siglip"):
            assert clip_shape(Settings.from_yaml(name).encoder.checkpoint)

    def test_a_random_encoder_encodes(self):
        settings = small(encoder__kind="clip", encoder__checkpoint="me/tiny")
        made = encoder_to_measure(settings, made_captions(8, 12), torch.zeros(2, 3, 16, 16))
        assert isinstance(made.encoder, ClipEncoder)
        assert made.note == "the shape of tiny, with weights at random"
        captions = made_captions(8, 6)
        vectors = made.encoder.encode_text(made.encoder.text_batch(made.encoder.tokenise(captions)))
        assert vectors.shape == (6, 16)
        assert torch.isfinite(vectors).all()
        assert torch.isfinite(made.encoder.encode_image(torch.rand(2, 3, 16, 16))).all()

    def test_what_is_frozen_does_not_learn(self):
        settings = small(
            encoder__kind="clip",
            encoder__checkpoint="tiny",
            encoder__frozen_image_layers=-1,
            training__batch_size=4,
        )
        found = profile(settings, batch=2, of="rstpreid")
        parameters = found["parameters"]
        assert parameters["image side that learns"] == 0
        assert parameters["trained"] < parameters["total"]
        assert parameters["references"] == 3_701 * 16
        assert (found["of"], found["measured_batch"], found["batch"]) == ("RSTPReid", 2, 4)


def test_a_whole_profile(tmp_path):
    dataset = RetrievalDataset.load(sets.write_set(tmp_path))
    told = []
    state = torch.get_rng_state()
    settings = Settings().with_values(sets.SMALL)
    found = profile(settings, dataset, progress=lambda *facts: told.append(facts))
    assert torch.equal(torch.get_rng_state(), state)
    assert [row["name"] for row in found["sets"]] == [
        dataset.name, "CUHK-PEDES", "ICFG-PEDES", "RSTPReid", "CUB-200-2011", "Flowers-102",
    ]  # fmt: skip
    assert len(found["sets"]) == 1 + len(USUAL)
    for row in found["sets"]:
        assert 0 < row["step"] < row["epoch"] < row["training"]
        assert row["evaluation"] > 0
    parameters = found["parameters"]
    assert parameters["total"] == parameters["encoder"] + parameters["references"]
    assert found["memory"]["optimiser"] == 8 * parameters["trained"]
    assert found["memory"]["peak, estimated"] > 5 * found["memory"]["weights"] / 2
    assert {row["form"] for row in found["refinement"]} == {"none", *settings.refinement.forms}
    assert told[0][1:] == (0, 8)
    assert told[-1] == ("done", 8, 8)
