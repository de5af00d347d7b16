import numpy as np
import pytest
import torch

from mmref.errors import DataError
from mmref.evaluation.classes import class_means, describe_classes, evaluate_classes
from mmref.references.refinement import FORMS, Refiner

from .test_vectors import make_refiner, unit


@pytest.fixture
def scene():
    """Five classes: captions and images around a centre each, classes of different sizes."""
    centres = unit(5, 16, seed=9)
    asked = [f"c{i % 5}" for i in range(30)]
    held = [f"c{i % 5}" for i in range(100)] + ["c0"] * 60
    texts = torch.stack([centres[int(c[1])] for c in asked]) + 1.0 * unit(30, 16, seed=1)
    images = torch.stack([centres[int(c[1])] for c in held]) + 1.6 * unit(160, 16, seed=2)
    normalise = torch.nn.functional.normalize
    return normalise(texts, dim=1), normalise(images, dim=1), asked, held


def test_a_class_asks_by_the_mean_of_its_captions(scene):
    texts, _, asked, _ = scene
    names, means = class_means(texts, asked)
    assert names == ["c0", "c1", "c2", "c3", "c4"]
    for name, mean in zip(names, means, strict=True):
        own = texts[[i for i, c in enumerate(asked) if c == name]].sum(0)
        assert mean == pytest.approx((own / own.norm()).numpy(), abs=1e-6)


@pytest.mark.parametrize("form", [None, *FORMS])
def test_figures_equal_those_of_the_whole_matrix(scene, form):
    texts, images, asked, held = scene
    refiner = make_refiner(form) if form else None
    found = evaluate_classes(texts, images, asked, held, refiner)
    _, means = class_means(texts, asked)
    scores = refiner.similarity(means, images) if refiner else means @ images.T
    top = scores.argsort(dim=1, descending=True)[:, :50]
    right = np.array([[held[i] == f"c{c}" for i in row] for c, row in enumerate(top.tolist())])
    assert found.precision == pytest.approx(100 * right.mean(1))
    back = scores.T if refiner is None else refiner.similarity(means, images).T
    guess = back.argmax(1).tolist()
    accuracy = 100 * np.mean([f"c{g}" == h for g, h in zip(guess, held, strict=True)])
    assert found.metrics()["i2t R@1"] == pytest.approx(accuracy, abs=0.7)
    assert found.metrics()["AP@50"] == pytest.approx(found.precision.mean())
    assert 20 < found.metrics()["AP@50"] < found.ceiling
    assert found.ceiling == pytest.approx((100 + 4 * 40) / 5)
    assert found.smallest == 20


def test_the_profile_is_that_of_the_mean_and_not_the_mean_of_profiles():
    references = torch.eye(4)
    refiner = Refiner(references, "posterior", weight=5.0, temperature=0.05, kept=4)
    texts = torch.nn.functional.normalize(torch.tensor([[1.0, 0.9, 0, 0], [0.9, 1.0, 0, 0]]), dim=1)
    images = torch.tensor([[1.0, 0, 0, 0], [0.7071, 0.7071, 0, 0]])
    found = evaluate_classes(texts, images, ["a", "a"], ["b", "a"], refiner)
    # The mean stands midway and so does the second image: a mean of profiles would not.
    assert found.precision.tolist() == [2.0]
    mean = refiner.profiles(torch.nn.functional.normalize(texts.mean(0, keepdim=True)), "text")
    assert mean.values[0, 0] == pytest.approx(mean.values[0, 1].item(), abs=1e-3)


def test_classes_without_captions_or_images(scene):
    texts, images, asked, held = scene
    silent = evaluate_classes(texts, images, asked, ["x" if c == "c4" else c for c in held])
    assert silent.names.tolist() == ["c0", "c1", "c2", "c3"]
    assert len(silent.recall.objects) == 140  # the images of x are ranked, but do not ask
    with pytest.raises(DataError, match="no query has a relevant image"):
        evaluate_classes(texts, images, asked, ["x"] * 160)


def test_the_report_of_classes(scene):
    found = evaluate_classes(*scene)
    told = describe_classes(found, None, 200, seed=1)
    assert told["unrefined"] is None
    assert (told["classes"], told["smallest_class"]) == (5, 20)
    for name in ("AP@50", "i2t R@1"):
        low, high = told["ci95"][name]
        assert low <= told[name] <= high
        assert low < high
    assert describe_classes(found, found, 0, seed=1)["ci95"] is None
    assert describe_classes(found, found, 0, seed=1)["unrefined"] == found.metrics()
    one = evaluate_classes(scene[0][:1], scene[1][:1], ["c0"], ["c0"])
    assert describe_classes(one, None, 200, seed=1)["ci95"] is None
