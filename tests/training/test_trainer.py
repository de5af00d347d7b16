import json
import shutil
import time

import numpy as np
import pytest
import torch

from mmref.data.dataset import RetrievalDataset
from mmref.errors import (
    ConfigError,
    DataError,
    ModelError,
    PathError,
    SplitError,
    TrainingError,
)
from mmref.evaluation.evaluator import evaluate
from mmref.model import MMRef
from mmref.training.checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint
from mmref.training.run_folder import is_finished
from mmref.training.scoring import SHARES
from mmref.training.trainer import Trainer, train

from .sets import load_set, read_manifest, report, small, write_manifest, write_set


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return load_set(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    return load_set(tmp_path_factory.mktemp("pixels"), pixels=True)


class KilledError(BaseException):
    pass


def stopping(after, stage="train"):
    """A progress that stops the training after some steps, as a kill would."""
    seen = [0]

    def progress(what, done, total, note):
        seen[0] += what == stage
        if seen[0] > after:
            raise KilledError

    return progress


@pytest.mark.parametrize("kind", ["features", "pixels"])
def test_training_lowers_every_loss(kind, request):
    settings = small(
        "compact" if kind == "pixels" else kind,
        training__epochs=8,
        training__deep_learning_rate=0.01,
        training__learning_rate=0.003,
        training__remix=0,
        training__word_dropout=0,
        training__augment=False,
        references__reconstruction_weight=0.2,
    )
    outcome = Trainer(request.getfixturevalue(kind), settings).run()
    losses = [row["losses"] for row in outcome.history]
    assert losses[0] == {}
    assert len(losses) == 9
    assert sum(r["base"] for r in losses[-2:]) < 0.9 * sum(r["base"] for r in losses[1:3])
    assert losses[-1]["fusion"] < losses[1]["fusion"]
    assert losses[-1]["reconstruction"] < losses[1]["reconstruction"]
    assert outcome.validation["unrefined"]["mAP"] > 30  # chance is about 25


def test_references_are_of_training_objects_alone(features):
    outcome = Trainer(features, small()).run()
    assert outcome.val is not None
    assert outcome.train.split_names == ["train"]
    references = outcome.model.references
    assert references is not None
    assert list(references.objects) == outcome.train.object_names
    assert not set(references.objects) & set(outcome.val.object_names)
    assert references.vectors.shape == (8, outcome.model.dimension)
    assert torch.allclose(references.vectors.norm(dim=1), torch.ones(8), atol=1e-5)
    assert [part.shape for part in references.parts] == [(8, 16), (8, 8)]
    assert outcome.notes == []


@pytest.mark.parametrize("kind", ["features", "pixels"])
def test_the_figures_are_those_of_the_evaluation(kind, request):
    dataset = request.getfixturevalue(kind)
    outcome = Trainer(dataset, small("compact" if kind == "pixels" else kind)).run()
    found = evaluate(outcome.model, dataset, "val", bootstrap=0)
    plain = found.unrefined or found.t2i
    assert outcome.validation["unrefined"] == pytest.approx(plain, abs=1e-6)
    assert outcome.figures["unrefined"].metrics == outcome.validation["unrefined"]
    if outcome.model.refiner is not None:
        assert outcome.validation["refined"] == pytest.approx(found.t2i, abs=1e-6)
    best = outcome.history[outcome.best_epoch]["mAP"]
    assert best == max(row["mAP"] for row in outcome.history)
    assert best == pytest.approx(outcome.validation["unrefined"]["mAP"], abs=1e-6)
    assert {row["deep_share"] for row in outcome.history} <= set(SHARES)


def scripted(monkeypatch, values):
    """Validation says these mAPs, one an epoch; the averaged weights of each are kept."""
    kept = []

    def score(self):
        kept.append({k: v.clone() for k, v in self.state.average.tensors.items()})
        value = values[len(kept) - 1]
        return {"mAP": value, "deep_share": 0.5}

    monkeypatch.setattr(Trainer, "_score", score)
    return kept


def test_the_best_epoch_is_what_comes_out(features, monkeypatch):
    kept = scripted(monkeypatch, [10.0, 20.0, 60.0, 30.0, 60.0])
    outcome = Trainer(features, small(training__epochs=4)).run()
    assert (outcome.best_epoch, outcome.epochs) == (2, 4)
    weights = dict(outcome.model.encoder.state_dict())
    assert all(torch.equal(weights[name], kept[2][f"encoder.{name}"]) for name in weights)
    assert any(not torch.equal(weights[name], kept[3][f"encoder.{name}"]) for name in weights)


def test_patience_ends_a_training_that_no_longer_gains(features, monkeypatch):
    scripted(monkeypatch, [10.0, 50.0, 20.0, 40.0, 45.0, 99.0])
    settings = small(training__epochs=9, training__patience=3)
    outcome = Trainer(features, settings).run()
    assert (outcome.best_epoch, outcome.epochs) == (1, 4)


def test_a_seed_decides_everything(features):
    def digest(seed):
        return Trainer(features, small(training__seed=seed)).run().model.digest

    assert digest(1) == digest(1)
    assert digest(1) != digest(2)


def test_held_out_objects_are_said(tmp_path):
    dataset = load_set(tmp_path)
    outcome = Trainer(dataset.with_split(["train"] * len(dataset)), small()).run()
    assert outcome.val is not None
    assert not set(outcome.train.object_names) & set(outcome.val.object_names)
    assert any("2 of 12 training objects are held out" in note for note in outcome.notes)


def test_trainings_of_other_precision_follow_each_other(features):
    losses = {}
    for precision in ("fp32", "bf16", "auto", "bf16"):
        trainer = Trainer(features, small(training__precision=precision, training__epochs=1))
        losses.setdefault(precision, []).append(trainer.run().history[1]["losses"]["total"])
    assert losses["bf16"][0] == losses["bf16"][1] != losses["fp32"][0]
    assert losses["bf16"][0] == pytest.approx(losses["fp32"][0], rel=0.02)
    if not torch.cuda.is_available():
        assert losses["auto"] == losses["fp32"]


def test_two_trainers_may_stand_side_by_side(features):
    settings = small(training__epochs=2)
    alone = Trainer(features, settings).run().model.digest
    first = Trainer(features, settings)
    Trainer(features, small(training__precision="bf16", training__epochs=1)).run()
    assert first.run().model.digest == alone


def test_waiting_for_batches_is_reported(features, tmp_path):
    train(features, tmp_path / "run", small())
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0 <= found["data_wait_share"] < 1
    assert found["processes"] == 1
    trainer = Trainer(features, small(training__epochs=1))
    slow = trainer.pairs.batch

    def batch(*which):
        time.sleep(0.05)
        return slow(*which)

    trainer.pairs.batch, notes = batch, []
    trainer.steps._progress = lambda *told: notes.append(told[-1])
    assert trainer.run().data_wait_share > 0.3
    assert any("waits" in note for note in notes)
    assert Trainer(features, small(training__epochs=0)).run().data_wait_share is None


def test_no_epochs_leave_the_closed_form_start(features, tmp_path):
    model = train(features, tmp_path / "run", small(training__epochs=0))
    assert report(tmp_path / "run")["best_epoch"] == 0
    assert report(tmp_path / "run")["validation"]["unrefined"]["mAP"] > 30
    assert MMRef.from_pretrained(tmp_path / "run").digest == model.digest


def test_the_base_objective_has_no_references(features, tmp_path):
    settings = small().base_objective()
    model = train(features, tmp_path / "run", settings)
    assert model.references is None
    assert model.refiner is None
    assert "refined" not in report(tmp_path / "run")["validation"]["ci95"]
    assert MMRef.from_pretrained(tmp_path / "run").references is None


def test_the_id_control_refines_by_its_own_weights(features):
    outcome = Trainer(features, small().identity_control()).run()
    assert set(outcome.history[1]["losses"]) == {"base", "identity", "total"}
    assert outcome.model.references is not None
    assert outcome.model.references.decoder == {}
    assert outcome.model.references.parts == ()


@pytest.mark.parametrize(
    ("values", "losses"),
    [
        ({"loss.kind": "tal", "loss.margin": 0.1}, set()),
        ({"loss.kind": "cmpm", "loss.cmpc_weight": 1}, {"cmpc"}),
        (
            {"loss.kind": "sdm", "loss.identity_weight": 1, "loss.masked_words_weight": 1},
            {"identity", "masked_words"},
        ),
    ],
)
def test_methods_of_others_train_by_the_same_loop(features, values, losses):
    values = values | {"training.epochs": 6, "training.deep_learning_rate": 0.01}
    outcome = Trainer(features, small().base_objective().with_values(values)).run()
    rows = [row["losses"] for row in outcome.history]
    assert set(rows[1]) == {"base", "total", *losses}
    assert rows[-1]["total"] < rows[1]["total"]
    assert (outcome.model.references is not None) == bool(losses)
    assert (outcome.parameters.get("masked_words", 0) > 0) == ("masked_words" in losses)


UNLEARNED = {"references__fusion_weight": 0, "references__reconstruction_weight": 0}


def prototypes(kind, **values):
    return small(references__kind=kind, **UNLEARNED, **values)


@pytest.mark.parametrize("validate", [True, False])
def test_mean_prototypes_are_the_means_of_the_model_that_comes_out(features, validate):
    trainer = Trainer(features, prototypes("mean"), validate=validate)
    outcome = trainer.run()
    model, references = outcome.model, outcome.model.references
    assert references is not None
    assert references.decoder  # it reads prototypes too
    assert outcome.parameters["references"] == 0
    encoder, pairs = model.encoder, trainer.pairs
    with torch.no_grad():
        numbers, objects = pairs.caption_objects()
        texts = encoder.text_parts(encoder.text_batch([pairs.ids[n] for n in numbers]))
        images = encoder.image_parts(pairs.inputs.tensor)
        owners = [objects, torch.from_numpy(pairs.image_objects)]
        parts = []
        for sides in zip(texts, images, strict=True):
            both = [
                torch.stack([side[own == k].mean(dim=0) for k in range(8)])
                for side, own in zip(sides, owners, strict=True)
            ]
            parts.append(torch.nn.functional.normalize(both[0] + both[1], dim=1))
        expected = encoder.join(parts)
    assert torch.allclose(references.vectors, expected, atol=1e-5)


def test_mean_prototypes_are_renewed_each_epoch_and_by_no_step(features):
    trainer = Trainer(features, prototypes("mean", training__average=0.0))
    trainer._start()
    bank = trainer.state.module.objective.bank(1)
    seen = [bank().clone()]
    for number in range(3):
        trainer._epoch(number)
        seen.append(bank().clone())
    assert torch.equal(seen[0], seen[1])  # the first epoch has those of the start
    assert not torch.allclose(seen[1], seen[2], atol=1e-4)
    assert not torch.allclose(seen[2], seen[3], atol=1e-4)


def test_moving_averages_follow_every_step(features):
    trainer = Trainer(features, prototypes("ema", references__momentum=0.5))
    bank = trainer.state.module.objective.bank(1)
    batch = next(iter(trainer.pairs.epoch(0)))
    before = bank().clone()
    trainer.prepared.train()
    trainer.steps.step(trainer.steps.inputs(batch), 0, 0, 1.0)
    moved = (bank() - before).abs().amax(dim=1) > 1e-4
    assert set(moved.nonzero().flatten().tolist()) == set(batch.objects.tolist())
    name = "objective.banks.1.weight"
    assert not torch.equal(trainer.state.average.tensors[name], before)
    assert f"module.{name}" in trainer.state.tensors()
    assert f"best.{name}" not in trainer.state.tensors()  # nothing was validated yet


@pytest.mark.parametrize("kind", ["mean", "ema"])
def test_prototypes_survive_interruptions_bit_for_bit(kind, features, tmp_path):
    settings = prototypes(kind)
    model = train(features, tmp_path / "whole" / "run", settings)
    run = tmp_path / "torn" / "run"
    for steps in (3, 8, 8):
        with pytest.raises(KilledError):
            train(features, run, settings, resume=True, progress=stopping(steps))
    assert train(features, run, resume=True).digest == model.digest
    assert report(run) == report(tmp_path / "whole" / "run")
    assert MMRef.from_pretrained(run).references is not None


@pytest.mark.parametrize("part", ["block", "deep"])
def test_one_part_alone_is_enough(features, part):
    outcome = Trainer(features, small(**{f"encoder__{part}": 0})).run()
    assert outcome.model.dimension == (8 if part == "block" else 16)
    assert outcome.validation["unrefined"]["mAP"] > 20


def test_without_validation_the_last_epoch_comes_out(features):
    outcome = Trainer(features, small(), validate=False).run()
    assert (outcome.best_epoch, outcome.epochs) == (3, 3)
    assert outcome.val is None
    assert outcome.validation == {}
    assert outcome.model.refinement is None
    assert len(outcome.train.object_names) == 8
    part = Trainer(features, small(), validate=False).run(stop_after=2)
    assert part.epochs == 2


def test_unreadable_images_are_left_out_and_listed(tmp_path):
    write_set(tmp_path, pixels=True)
    (tmp_path / "00_0.png").write_bytes(b"bad")
    outcome = Trainer(RetrievalDataset.load(tmp_path), small("compact", training__epochs=1)).run()
    assert [(bad.path, bool(bad.reason)) for bad in outcome.skipped] == [
        (str(tmp_path / "00_0.png"), True)
    ]
    for number in range(6):
        (tmp_path / f"{number:02d}_1.png").unlink()
    with pytest.raises(DataError, match="of 32 images"):
        Trainer(RetrievalDataset.load(tmp_path), small("compact"))


def test_what_cannot_be_trained_on_is_said(features, pixels, tmp_path):
    with pytest.raises(SplitError, match="no train split"):
        Trainer(features.split("val"), small())
    with pytest.raises(DataError, match=r"no features\.npy: use the compact encoder"):
        Trainer(pixels, small("features"))
    dataset = load_set(tmp_path / "one", objects=2)
    with pytest.raises(DataError, match="1 training object"):
        Trainer(dataset, small())


def test_a_loss_that_is_no_number_ends_with_advice(features, tmp_path):
    for name, found in [("learning_rate", "in epoch 1"), ("deep_learning_rate", "on captions")]:
        with pytest.raises(TrainingError, match=rf"loss became .* {found}.*: lower training\."):
            train(features, tmp_path / name, small(**{f"training__{name}": 1e30}))
        assert not is_finished(tmp_path / name)


@pytest.mark.parametrize(
    ("kind", "steps"), [("features", 3), ("features", 6), ("features", 17), ("pixels", 8)]
)
def test_a_resumed_training_is_the_uninterrupted_one(kind, steps, request, tmp_path):
    dataset = request.getfixturevalue(kind)
    settings = small(
        "compact" if kind == "pixels" else kind, encoder__text_depth=1, encoder__text_width=32
    )
    whole = whole_run(request, dataset, settings, kind)
    run = tmp_path / whole.name
    with pytest.raises(KilledError):
        train(dataset, run, settings, progress=stopping(steps))
    assert not is_finished(run)
    with pytest.raises(PathError, match="add --resume"):
        train(dataset, run, settings)
    train(dataset, run, resume=True)
    assert report(run) == report(whole)
    for name in ("model.safetensors", "references.safetensors", "model.json", "config.yaml"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    assert not (run / CHECKPOINT_FILE).exists()


def whole_run(request, dataset, settings, kind):
    """The uninterrupted run, trained once."""
    kept = request.config.stash.setdefault(WHOLE, {})
    if kind not in kept:
        folder = request.getfixturevalue("tmp_path_factory").mktemp(f"whole-{kind}") / "run"
        train(dataset, folder, settings)
        kept[kind] = folder
    return kept[kind]


WHOLE = pytest.StashKey()


def test_many_interruptions_change_nothing_either(features, tmp_path):
    settings = small(training__patience=2)
    model = train(features, tmp_path / "whole" / "run", settings)
    run, count = tmp_path / "torn" / "run", 0
    while not is_finished(run):
        try:
            train(features, run, settings, resume=True, progress=stopping(8))
        except KilledError:
            count += 1
    assert count >= 2
    assert report(run) == report(tmp_path / "whole" / "run")
    assert MMRef.from_pretrained(run).digest == model.digest


def interrupted(dataset, folder, settings):
    with pytest.raises(KilledError):
        train(dataset, folder, settings, progress=stopping(8))
    assert (folder / CHECKPOINT_FILE).is_file()
    return folder


def test_other_settings_or_data_are_not_resumed(features, tmp_path):
    run = interrupted(features, tmp_path / "run", small())
    before = (run / "config.yaml").read_bytes()
    with pytest.raises(ConfigError, match=r"begun with another training\.seed"):
        train(features, run, small(training__seed=1), resume=True)
    assert (run / "config.yaml").read_bytes() == before
    other = load_set(tmp_path / "other", seed=5)
    fewer = features.select([n for n in range(len(features)) if n != features.splits.index("val")])
    for data in (other, fewer):
        with pytest.raises(ConfigError, match="other settings or data"):
            train(data, run, small(), resume=True)
    tensors, facts = load_checkpoint(run)
    del facts["identity"]["val"]  # as older versions have it
    save_checkpoint(run, tensors, facts)
    train(features, run, resume=True)
    assert is_finished(run)


def test_a_truncated_checkpoint_is_said_and_starting_again_works(features, tmp_path):
    model = train(features, tmp_path / "whole", small())
    run = interrupted(features, tmp_path / "run", small())
    whole = (run / CHECKPOINT_FILE).read_bytes()
    (run / CHECKPOINT_FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"is damaged .*delete it and go on with --resume"):
        train(features, run, resume=True)
    (run / CHECKPOINT_FILE).unlink()
    assert train(features, run, resume=True).digest == model.digest


def test_a_checkpoint_of_another_run_is_refused(features, tmp_path):
    run = interrupted(features, tmp_path / "run", small())
    other = interrupted(features, tmp_path / "other", small(encoder__deep=16))
    shutil.copy(other / CHECKPOINT_FILE, run / CHECKPOINT_FILE)
    with pytest.raises(ConfigError, match="other settings or data"):
        train(features, run, resume=True)


def test_a_run_whose_settings_are_lost_knows_them_from_its_checkpoint(features, tmp_path):
    model = train(features, tmp_path / "whole", small(training__seed=4))
    run = interrupted(features, tmp_path / "run", small(training__seed=4))
    (run / "config.yaml").unlink()
    assert train(features, run, resume=True).digest == model.digest


def test_a_finished_run_is_not_trained_again(features, tmp_path):
    run = tmp_path / "run"
    model = train(features, run, small())
    before = {p.name: p.stat().st_mtime_ns for p in run.iterdir()}
    assert train(features, run, resume=True).digest == model.digest
    assert {p.name: p.stat().st_mtime_ns for p in run.iterdir()} == before
    with pytest.raises(ConfigError, match=r"another training\.epochs"):
        train(features, run, small(training__epochs=9), resume=True)


def test_epochs_are_written_as_events(features, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    interrupted(features, tmp_path / "run", small())
    train(features, tmp_path / "run", resume=True)
    events = EventAccumulator(str(tmp_path / "run" / "events"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {"loss/total", "loss/base", "val/mAP"} <= set(tags)
    assert [event.step for event in events.Scalars("loss/total")] == [1, 2, 3]
    rows = report(tmp_path / "run")["history"]
    assert [event.value for event in events.Scalars("val/mAP")] == pytest.approx(
        [row["mAP"] for row in rows[1:]]
    )


def test_captions_of_many_objects_do_not_depend_on_row_order(tmp_path):
    write_set(tmp_path)
    rows = read_manifest(tmp_path)
    one = Trainer(RetrievalDataset.load(tmp_path), small()).run()
    np.random.default_rng(0).shuffle(rows)
    write_manifest(tmp_path, rows)
    two = Trainer(RetrievalDataset.load(tmp_path), small()).run()
    assert one.model.references is not None
    assert two.model.references is not None
    assert one.model.references.objects == two.model.references.objects
    assert one.history[0]["mAP"] == pytest.approx(two.history[0]["mAP"], abs=0.5)
