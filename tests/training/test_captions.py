from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from mmref.errors import TrainingError
from mmref.training.captions import caption_steps, learn_captions
from mmref.training.run_folder import is_finished
from mmref.training.trainer import Trainer, train

from .sets import load_set, report, small

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return load_set(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    return load_set(tmp_path_factory.mktemp("pixels"), pixels=True)


def learn(trainer, settings=None, progress=lambda *_: None):
    settings = settings or trainer.settings
    return learn_captions(trainer.encoder, trainer.pairs, settings, CPU, progress)


def weights(trainer):
    return {name: value.clone() for name, value in trainer.encoder.state_dict().items()}


def changed(trainer, before):
    return {
        name for name, value in weights(trainer).items() if not torch.equal(value, before[name])
    }


def caption_features(trainer):
    """Of each caption of each object, by the deep part, and whose it is."""
    numbers, objects = trainer.pairs.caption_objects()
    trainer.encoder.eval()
    with torch.no_grad():
        batch = trainer.encoder.text_batch([trainer.pairs.ids[n] for n in numbers])
        return trainer.encoder.text_parts(batch)[-1], objects


def likeness(trainer):
    """Mean cosine of two captions of one object, less that of two objects' captions."""
    features, objects = caption_features(trainer)
    same = objects[:, None] == objects[None]
    other = ~torch.eye(len(objects), dtype=torch.bool)
    cosines = features @ features.T
    return float(cosines[same & other].mean() - cosines[~same].mean())


class TestWhatChanges:
    @pytest.mark.parametrize("kind", ["features", "compact"])
    def test_the_deep_texts_alone(self, kind, request):
        """Neither the images' weights, nor statistics of their layers, nor the closed form."""
        dataset = request.getfixturevalue("pixels" if kind == "compact" else kind)
        trainer = Trainer(dataset, small(kind, encoder__text_depth=1, encoder__text_width=32))
        before = weights(trainer)
        assert learn(trainer)
        names = changed(trainer, before)
        assert {name.split(".")[0] for name in names} == {"deep_text"}
        assert any("transformer" in name for name in names)
        assert any("gate" in name for name in names)
        assert "deep_text.words.idf" not in names

    def test_references_and_optimiser_are_left_alone(self, features):
        trainer = Trainer(features, small())
        banks = [bank.clone() for bank in trainer.state.module.objective.references()]
        learn(trainer)
        for old, new in zip(banks, trainer.state.module.objective.references(), strict=True):
            assert torch.equal(old, new)
        assert trainer.state.optimizer.state_dict()["state"] == {}

    @pytest.mark.parametrize("name", ["encoder__deep", "references__caption_epochs"])
    def test_nothing_without_a_deep_part_or_epochs(self, name, features):
        trainer = Trainer(features, small(**{name: 0}))
        before = weights(trainer)
        assert learn(trainer) is False
        assert changed(trainer, before) == set()


class TestWhatIsLearnt:
    def test_captions_of_one_object_come_nearer_than_those_of_others(self, features):
        trainer = Trainer(features, small())
        before = likeness(trainer)
        learn(trainer)
        assert likeness(trainer) > before + 0.2

    def test_the_seed_decides(self, features):
        def learnt(seed, chance=0):
            trainer = Trainer(features, small(encoder__text_depth=1, encoder__text_width=32))
            torch.manual_seed(chance)  # what was drawn before does not matter
            learn(trainer, trainer.settings.with_values({"training.seed": seed}))
            return caption_features(trainer)[0]

        first = learnt(1)
        assert torch.equal(first, learnt(1, chance=9))
        assert not torch.allclose(first, learnt(2), atol=1e-3)

    def test_an_only_caption_finds_itself(self, tmp_path):
        trainer = Trainer(load_set(tmp_path, captions=1), small(references__caption_epochs=96))
        assert {len(own) for own in trainer.pairs.by_object} == {1}
        before = caption_features(trainer)[0]
        assert learn(trainer)
        features, _ = caption_features(trainer)
        assert torch.isfinite(features).all()
        apart = ~torch.eye(len(features), dtype=torch.bool)
        assert (features @ features.T)[apart].mean() < (before @ before.T)[apart].mean() - 0.05

    def test_an_object_without_captions_keeps_the_mean_of_its_images(self, tmp_path):
        """Readers refuse such a row, a table made in memory need not."""
        dataset = load_set(tmp_path)
        silent = dataset.split("train").objects[0]
        captions = [
            [] if name == silent else said
            for name, said in zip(dataset.objects, dataset.captions, strict=True)
        ]
        column = dataset.table.column_names.index("captions")
        table = dataset.table.set_column(column, "captions", pa.array(captions))
        trainer = Trainer(replace(dataset, table=table), small(encoder__block=0))
        trainer._start()
        number = trainer.pairs.objects.index(silent)
        assert trainer.pairs.by_object[number] == []
        own = torch.from_numpy(trainer.pairs.image_objects == number)
        with torch.no_grad():
            images = trainer.encoder.image_parts(trainer.pairs.inputs.tensor[own])[0]
        mean = torch.nn.functional.normalize(images.mean(dim=0), dim=0)
        reference = trainer.state.module.objective.references()[0][number]
        assert torch.allclose(reference, mean, atol=1e-5)
        assert trainer.run().epochs == 3


class TestSteps:
    def test_two_captions_a_step_for_each_object_of_a_batch(self, features):
        trainer = Trainer(features, small())  # 8 objects, 24 captions
        for epochs, batch, steps in [
            (16, 16, 24),
            (16, 2, 48),
            (3, 4, 4),
            (0.01, 16, 1),
            (0, 16, 0),
        ]:
            values = {"references.caption_epochs": epochs, "training.batch_size": batch}
            assert caption_steps(trainer.pairs, trainer.settings.with_values(values)) == steps

    def test_progress_is_told_step_by_step(self, features):
        trainer, seen = Trainer(features, small(references__caption_epochs=4)), []
        learn(trainer, progress=lambda *told: seen.append(told))
        assert [told[:3] for told in seen] == [("captions", k, 6) for k in range(1, 7)]
        assert seen[-1][3].startswith("captions loss ")

    def test_the_rate_starts_low_and_ends_low(self, features, monkeypatch):
        rates, step = [], torch.optim.AdamW.step

        def seen(self, *args, **named):
            rates.append([group["lr"] for group in self.param_groups])
            return step(self, *args, **named)

        monkeypatch.setattr(torch.optim.AdamW, "step", seen)
        trainer = Trainer(features, small(training__deep_learning_rate=0.004, training__warmup=0.2))
        learn(trainer)
        (rates,) = np.array(rates).T
        assert rates.max() == pytest.approx(0.004, rel=0.05)
        assert rates[0] < 0.3 * rates.max()
        assert rates[-1] < 0.1 * rates.max()

    def test_a_loss_that_is_no_number_ends_with_advice(self, features):
        trainer = Trainer(features, small(training__deep_learning_rate=1e30))
        with pytest.raises(TrainingError, match=r"captions alone: lower training\.deep_learning_r"):
            learn(trainer)


class TestStart:
    def test_references_of_the_deep_part_are_the_means_of_captions(self, features):
        trainer = Trainer(features, small())
        trainer._start()
        texts, objects = caption_features(trainer)
        means = torch.stack([texts[objects == k].mean(dim=0) for k in range(8)])
        closed, deep = trainer.state.module.objective.references()
        assert torch.allclose(deep, torch.nn.functional.normalize(means, dim=1), atol=1e-5)
        with torch.no_grad():
            images = trainer.encoder.image_parts(trainer.pairs.inputs.tensor)[0]
        first = images[torch.from_numpy(trainer.pairs.image_objects == 0)].mean(dim=0)
        assert float((closed[0] @ first).detach()) > 0.5  # of both modalities

    def test_the_average_starts_after_it(self, features):
        trainer = Trainer(features, small())
        trainer._start()
        average, module = trainer.state.average, trainer.state.module.state_dict()
        assert average.updates == 0
        assert all(torch.equal(value, module[name]) for name, value in average.tensors.items())
        assert trainer.state.seconds > 0

    def test_the_first_epoch_does_not_begin_the_references_anew(self, features):
        def apart(epochs):
            """How far the first epoch's end takes the references from where it left them."""
            trainer = Trainer(features, small(references__caption_epochs=epochs))
            trainer._start()
            trainer._epoch(0)
            bank = trainer.state.module.objective.bank(1)
            before = bank.weight.detach().clone()
            trainer._restart_references()
            return float((before - bank.weight.detach()).abs().max())

        assert apart(4) == 0
        assert apart(0) > 0.01


class KilledError(BaseException):
    pass


def kill(stage, step):
    def progress(what, done, total, note):
        if (what, done) == (stage, step):
            raise KilledError

    return progress


TORN = small(encoder__text_depth=1, encoder__text_width=32, training__epochs=2)


@pytest.fixture(scope="module")
def whole(features, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    train(features, run, TORN)
    return run


class TestResume:
    @pytest.mark.parametrize(
        "moments",
        [
            [("captions", 1)],
            [("captions", 36)],
            [("train", 1)],
            [("captions", 20), ("train", 5), ("train", 7), ("train", 12)],
        ],
    )
    def test_a_kill_at_any_moment_changes_nothing(self, moments, features, whole, tmp_path):
        run = tmp_path / "run"
        for stage, step in moments:
            with pytest.raises(KilledError):
                train(features, run, TORN, resume=True, progress=kill(stage, step))
            torch.rand(3)  # another process would stand elsewhere
        self.same(features, run, whole)

    def test_a_kill_between_captions_and_the_first_epoch(
        self, features, whole, tmp_path, monkeypatch
    ):
        def killed(*_):
            raise KilledError

        run = tmp_path / "run"
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_validate", killed)
            with pytest.raises(KilledError):
                train(features, run, TORN)
        self.same(features, run, whole)

    def same(self, features, run, whole):
        assert not is_finished(run)
        train(features, run, resume=True)
        assert report(run) == report(whole)
        for name in ("model.safetensors", "references.safetensors", "model.json"):
            assert (run / name).read_bytes() == (whole / name).read_bytes()

    def test_captions_are_not_learnt_again_after_the_first_epoch(self, features, tmp_path):
        run, stages = tmp_path / "run", []
        with pytest.raises(KilledError):
            train(features, run, TORN, progress=kill("train", 7))
        train(features, run, resume=True, progress=lambda stage, *_: stages.append(stage))
        assert "captions" not in stages
        assert stages.count("train") == 6
