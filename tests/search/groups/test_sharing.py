import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmref.references.refinement import FORMS, Refiner
from mmref.search.groups.sharing import shared_profiles, shared_vectors


def units(count, seed, dimension=12):
    made = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def refiner(form):
    mean = torch.full((12,), 0.1)
    return Refiner(
        torch.from_numpy(units(20, 1)),
        form,
        weight=1.0,
        temperature=0.2,
        kept=5,
        text_mean=mean,
        image_mean=-mean,
        scatter=torch.diag(torch.arange(1.0, 13.0)),
    )


def test_vectors_are_mixed_with_the_mean():
    own = units(4, 2)
    for share in (0.0, 0.3, 1.0):
        made = shared_vectors(own, share)
        mixed = (1 - share) * own + share * own.mean(axis=0)
        wanted = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
        np.testing.assert_allclose(made, wanted, atol=1e-6)
        assert made.dtype == np.float32
    np.testing.assert_array_equal(shared_vectors(own[:1], 0.7), own[:1])


def test_a_mean_of_images_that_agree_counts_more():
    """With three alike and one apart, the one goes a longer way than its share of a unit mean."""
    alike = np.repeat(units(1, 3), 4, axis=0)
    np.testing.assert_allclose(shared_vectors(alike, 0.5), alike, atol=1e-6)
    opposite = np.stack([alike[0], -alike[0]])
    np.testing.assert_allclose(shared_vectors(opposite, 0.5), opposite, atol=1e-6)
    np.testing.assert_array_equal(shared_vectors(opposite, 1.0), opposite)  # nothing is left


@pytest.mark.parametrize("form", FORMS)
def test_profiles_of_equal_images_stay_and_others_are_mixed(form):
    made = refiner(form)
    own = torch.from_numpy(units(3, 4))
    profiles = made.profiles(own, "image").to_arrays()
    kept = shared_profiles({k: v[:1].repeat(3, 0) for k, v in profiles.items()}, 0.6, form)
    for name, values in profiles.items():
        np.testing.assert_allclose(kept[name], values[:1].repeat(3, 0), atol=1e-3)
    mixed = shared_profiles(profiles, 1.0, form)
    for name, values in mixed.items():
        assert (values.dtype, values.shape) == (profiles[name].dtype, profiles[name].shape)
        np.testing.assert_allclose(values, values[:1].repeat(3, 0), atol=1e-6)
    if form == "hubs":
        np.testing.assert_allclose(mixed["dense"][0], profiles["dense"].mean(axis=0), atol=1e-6)
    elif form == "posterior":
        spread = torch.zeros(3, 20)
        rows = torch.from_numpy(profiles["indices"]).long()
        spread.scatter_(1, rows, torch.from_numpy(profiles["values"]).float() ** 2)
        best = spread.mean(dim=0).topk(5)
        np.testing.assert_array_equal(mixed["indices"][0], best.indices.numpy())
        np.testing.assert_allclose(mixed["values"][0], best.values.sqrt().numpy(), atol=1e-3)
    else:
        mean = torch.from_numpy(profiles["dense"]).mean(dim=0)
        np.testing.assert_allclose(mixed["dense"][0], F.normalize(mean, dim=0), atol=1e-6)


def test_no_profiles_and_one_image():
    assert shared_profiles({}, 0.5, "") == {}
    one = refiner("posterior").profiles(torch.from_numpy(units(1, 4)), "image").to_arrays()
    assert shared_profiles(one, 0.5, "posterior") is one
