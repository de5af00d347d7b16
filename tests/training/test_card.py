import yaml

from mmref.config import Settings
from mmref.training.card import differing, model_card
from mmref.training.run_folder import run_report
from mmref.training.trainer import Trainer

from .sets import load_set, small


def card_of(dataset, folder, **values):
    outcome = Trainer(dataset, small(**values)).run()
    report = run_report(outcome)
    return outcome, report, model_card(outcome, report, folder)


def test_a_card_is_filled_in_from_the_outcome(tmp_path):
    outcome, report, card = card_of(
        load_set(tmp_path / "flags", held_out=True), tmp_path / "my run", training__seed=3
    )
    _, front, text = card.split("---\n", 2)
    head = yaml.safe_load(front)
    assert head["library_name"] == "mmref"
    assert {"text-to-image-retrieval", "features"} <= set(head["tags"])
    result = head["model-index"][0]["results"][0]
    assert head["model-index"][0]["name"] == "my run"
    assert result["dataset"]["split"] == "val"
    way = "refined" if outcome.model.refiner else "unrefined"
    assert result["metrics"][1]["value"] == round(outcome.validation[way]["mAP"], 2)
    assert "# my run" in text
    assert "8 objects, 32 images, 24 captions" in text
    assert "It learnt 8 references" in text
    assert "precomputed image vectors" in text
    assert f"{sum(outcome.parameters.values()):,} trained parameters" in text
    plain = report["validation"]["unrefined"]
    low, high = report["validation"]["ci95"]["unrefined"]["mAP"]
    assert f"{plain['mAP']:.1f} ({low:.1f}-{high:.1f})" in text
    assert f"A random order has R@1 {report['validation']['chance']:.2f}." in text
    assert "`training.seed: 3` (default 0)" in text
    assert "`encoder.block: 8` (default 256)" in text
    assert report["train"]["fingerprint"][:16] in text
    assert "12 captions, 16 images, 4 objects" in text
    assert "It knows the 10 words" in text
    assert "4 validation objects are few" in text
    assert f"torch {report['versions']['torch']}" in text
    assert 'from_pretrained("my run")' in text
    assert "mmref index my run SOURCE" in text
    for unfilled in ("None", "nan", "TODO", "{", "[]"):
        assert unfilled not in text
    if outcome.best_epoch:
        assert "Masked words of held-out captions" in text


def test_a_card_says_what_there_is_not(tmp_path):
    dataset = load_set(tmp_path / "data")
    base = {f"references__{part}_weight": 0 for part in ("fusion", "guidance", "reconstruction")}
    outcome, report, card = card_of(dataset, tmp_path / "run", **base, encoder__deep=0)
    assert report["masked_words"] is None
    assert outcome.model.references is None
    assert "learnt" not in card.split("## Figures")[0].split("precomputed")[0]
    assert "- no refinement" in card
    assert "the deep part" not in card
    assert "Masked words" not in card


def test_a_card_lists_what_was_skipped_and_a_closed_set(tmp_path):
    dataset = load_set(tmp_path / "data", pixels=True)
    for number in range(3):
        (tmp_path / "data" / f"0{number}_0.png").write_bytes(b"bad")
    both = dataset.with_split(["train", "train", "train", "val"] * 12)
    outcome, _, card = card_of(both, tmp_path / "run", encoder__kind="compact", training__epochs=1)
    assert len(outcome.skipped) == 3
    assert "3 images could not be read and were left out:" in card
    assert "00_0.png`: " in card
    assert "Closed set" in card
    assert "16 x 16 pixels (height x width)" in card
    assert "mmref index run PICTURES" in card


def test_settings_that_differ_are_named_with_both_values():
    changed = Settings().with_values({"training.epochs": 3, "refinement.weights": [1, 2]})
    assert differing(changed, Settings()) == {
        "training.epochs": (3, Settings().training.epochs),
        "refinement.weights": ([1.0, 2.0], [0.5, 1.0, 2.0]),
    }
    assert differing(Settings(), Settings()) == {}
