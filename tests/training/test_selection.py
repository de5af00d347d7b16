import pytest
import torch
from torch.nn.functional import normalize

from mmref.config import RefinementSettings
from mmref.evaluation.vectors import evaluate_vectors
from mmref.references.kept import References, make_refiner
from mmref.training.selection import (
    candidates,
    choose_refinement,
    default_choice,
    validation_map,
)

OBJECTS = [f"o{k}" for k in range(20)]
OTHERS = tuple(map(str, range(40)))


def made(noise, seed=0):
    """Objects differ in the first four numbers, where the references lie; the rest is noise."""
    rng = torch.Generator().manual_seed(seed)

    def draw(rows, columns):
        return torch.randn(rows, columns, generator=rng)

    centres = draw(len(OBJECTS), 4)
    texts, images = (
        normalize(torch.cat([centres + 0.1 * draw(20, 4), noise * draw(20, 12)], dim=1), dim=1)
        for _ in range(2)
    )
    vectors = normalize(torch.cat([draw(40, 4), torch.zeros(40, 12)], dim=1), dim=1)
    zero = torch.zeros(16)
    scatter = torch.diag(torch.cat([torch.full((4,), 0.01), torch.full((12,), noise**2)]))
    return texts, images, References(vectors, OTHERS, zero, zero, {}, (), scatter)


def test_the_grid_varies_the_temperature_of_posterior_alone():
    grid = RefinementSettings(forms=("posterior", "linear"), weights=(1, 2), temperatures=(0.1, 1))
    found = candidates(grid)
    assert len(found) == len(set(found)) == 2 * 2 + 2
    assert {c.temperature for c in found if c.form == "linear"} == {0.1}
    assert {(c.weight, c.temperature) for c in found if c.form == "posterior"} == {
        (1.0, 0.1),
        (2.0, 0.1),
        (1.0, 1.0),
        (2.0, 1.0),
    }


def test_the_usual_choice_is_the_middle_of_the_grid():
    choice = default_choice(RefinementSettings(weights=(1, 5, 9), temperatures=(0.1, 0.2, 0.3)))
    assert choice is not None
    assert (choice.form, choice.weight, choice.temperature) == ("hubs", 5.0, 0.2)
    assert default_choice(RefinementSettings(forms=())) is None
    assert candidates(RefinementSettings(weights=())) == []


def test_a_map_is_that_of_the_evaluation():
    texts, images, references = made(0.3)
    choice = candidates(RefinementSettings())[4]
    refiner = make_refiner(references, choice)
    wanted = evaluate_vectors(texts, images, OBJECTS, OBJECTS, refiner).metrics["mAP"]
    assert validation_map(texts, images, OBJECTS, OBJECTS, references, choice) == wanted
    plain = evaluate_vectors(texts, images, OBJECTS, OBJECTS).metrics["mAP"]
    assert validation_map(texts, images, OBJECTS, OBJECTS, references, None) == plain
    assert wanted > plain


def test_a_refinement_that_helps_is_found():
    texts, images, references = made(0.5)
    choice, rows = choose_refinement(
        texts, images, OBJECTS, OBJECTS, references, RefinementSettings()
    )
    assert choice is not None
    assert rows[0]["form"] is None
    assert len(rows) == 1 + len(candidates(RefinementSettings()))
    chosen = next(r for r in rows if (r["form"], r["weight"]) == (choice.form, choice.weight))
    assert chosen["mAP"] > rows[0]["mAP"] + 5
    found = validation_map(texts, images, OBJECTS, OBJECTS, references, choice)
    assert found == pytest.approx(max(row["mAP"] for row in rows), abs=3)


def test_where_nothing_is_gained_there_is_no_refinement():
    texts, images, references = made(0.0)
    perfect = texts, texts
    choice, rows = choose_refinement(*perfect, OBJECTS, OBJECTS, references, RefinementSettings())
    assert choice is None
    assert rows[0]["mAP"] == 100.0
    choice, rows = choose_refinement(
        texts, images, OBJECTS, OBJECTS, references, RefinementSettings(forms=())
    )
    assert choice is None
    assert len(rows) == 1
