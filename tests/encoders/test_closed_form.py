import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from torch.nn import functional as F

from mmref.encoders.closed_form import (
    LARGEST_SOLVE,
    ClosedFormPart,
    principal_directions,
    ridge_dual,
    ridge_primal,
    sparse_grams,
    sparse_principal_directions,
)

from .made import CAPTIONS, encode, inputs, made
from .made import settings as small


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestRidge:
    @pytest.mark.parametrize("strength", [0.1, 1.0, 10.0])
    def test_dual_equals_a_naive_solve(self, strength: float) -> None:
        x, y = numbers(7, 3), numbers(7, 2, seed=1)
        gram = (x @ x.T).double().numpy()
        naive = np.linalg.inv(gram + strength * np.eye(7)) @ y.double().numpy()
        value = ridge_dual(x @ x.T, y, strength)
        np.testing.assert_allclose(value.numpy(), naive, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("shape", [(12, 4), (4, 12)])
    def test_primal_is_the_least_of_its_objective(self, shape: tuple[int, int]) -> None:
        """Its gradient, X'(XW - Y) + strength W, is zero; and it equals the dual solution."""
        x, y = numbers(*shape), numbers(shape[0], 2, seed=1)
        weights = ridge_primal(x, y, 0.5)
        assert (x.T @ (x @ weights - y) + 0.5 * weights).abs().max() < 1e-4
        assert torch.allclose(weights, x.T @ ridge_dual(x @ x.T, y, 0.5), atol=1e-5)
        assert weights.abs().max() > 0.01


class TestPrincipalDirections:
    @settings(deadline=None, max_examples=30, derandomize=True)
    @given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 12), st.integers(0, 99))
    def test_orthonormal_and_of_the_right_number(self, rows, columns, count, seed) -> None:
        found = principal_directions(numbers(rows, columns, seed=seed), count)
        assert found.shape == (count, columns)
        kept = min(count, columns)
        assert torch.allclose(found[:kept] @ found[:kept].T, torch.eye(kept), atol=1e-5)
        assert found[kept:].abs().sum() == 0

    def test_they_are_the_right_singular_vectors(self) -> None:
        x = numbers(30, 6) * torch.tensor([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
        _, _, right = np.linalg.svd(x.double().numpy())
        found = principal_directions(x, 4).numpy()
        np.testing.assert_allclose(np.abs((found * right[:4]).sum(axis=1)), 1, atol=1e-5)

    def test_signs_are_fixed(self) -> None:
        x = numbers(30, 6)
        found = principal_directions(x, 6)
        largest = found.gather(1, found.abs().argmax(dim=1, keepdim=True))
        assert (largest > 0).all()
        assert torch.allclose(principal_directions(-x, 6), found, atol=1e-5)
        order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(principal_directions(x[order], 6), found, atol=1e-4)


class TestSparsePrincipalDirections:
    def made(self, rows: int, columns: int, seed: int = 0) -> np.ndarray:
        chance = np.random.default_rng(seed)
        dense = chance.random((rows, columns)) * (chance.random((rows, columns)) < 0.4)
        return dense.astype(np.float32)

    @pytest.mark.parametrize(("rows", "columns", "count"), [(12, 30, 5), (12, 30, 16), (30, 6, 4)])
    def test_equal_those_of_the_centred_rows(self, rows, columns, count) -> None:
        x = self.made(rows, columns)
        found = sparse_principal_directions(csr_array(x), count).T
        assert found.shape == (count, columns)
        kept = min(count, rows - 1, columns)
        assert torch.allclose(found[:kept] @ found[:kept].T, torch.eye(kept), atol=1e-4)
        assert found[kept:].abs().sum() == 0
        centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
        _, _, right = np.linalg.svd(centred)
        cosines = np.abs((found[:kept].numpy() * right[:kept]).sum(axis=1))
        np.testing.assert_allclose(cosines, 1, atol=1e-4)
        assert (found[:kept].gather(1, found[:kept].abs().argmax(dim=1, keepdim=True)) > 0).all()

    def test_no_more_directions_than_the_rows_span(self) -> None:
        for seed in range(20):
            found = sparse_principal_directions(csr_array(self.made(40, 6, seed)), 16).T
            assert torch.allclose(found[:6] @ found[:6].T, torch.eye(6), atol=1e-4)
            assert found[6:].abs().sum() == 0

    @pytest.mark.parametrize("x", [np.ones((3, 4)), np.zeros((3, 4)), np.ones((1, 4))])
    def test_equal_rows_have_no_direction(self, x: np.ndarray) -> None:
        found = sparse_principal_directions(csr_array(x.astype(np.float32)), 5)
        assert found.shape == (4, 5)
        assert found.abs().sum() == 0


class TestSparseGrams:
    def test_hold_each_captions_weights(self) -> None:
        encoder = made("features")
        captions = encoder.tokenise(CAPTIONS)
        grams = sparse_grams(encoder.text_batch(captions), len(encoder.ngrams)).toarray()
        expected = np.zeros((len(captions), len(encoder.ngrams)), dtype=np.float32)
        for row, ids in enumerate(captions):
            for feature, weight in zip(*encoder.ngrams.features(ids), strict=True):
                expected[row, feature] = weight
        np.testing.assert_array_equal(grams, expected)
        assert expected[-1].sum() == 0
        assert (expected[:-1] > 0).any(axis=1).all()


class TestClosedFormPart:
    def placed(self, images: torch.Tensor, **changes: object) -> ClosedFormPart:
        """A part whose landmarks are these images."""
        part = ClosedFormPart(small("features", kernel_width=0.7, **changes), 5, 4)
        grams = csr_array(np.eye(4, dtype=np.float32)[np.arange(len(images)) % 4])
        part.solve(grams, torch.arange(len(images)), images)
        return part

    def test_landmarks_give_the_gaussian_itself(self) -> None:
        """Between a landmark and anything, also what has not unit length, as after dropout."""
        images, others = F.normalize(numbers(12, 5), dim=1), 0.5 * numbers(7, 5, seed=1)
        part = self.placed(images, kernel_features=16)
        expected = (-0.7 * torch.cdist(others, images).square()).exp()
        assert torch.allclose(part.kernel(others) @ part.kernel(images).T, expected, atol=1e-3)
        assert expected.std() > 0.1
        assert part.kernel(others).shape == (7, 16)
        assert part.kernel(others)[:, 12:].abs().max() == 0  # places without a landmark

    def test_equal_images_are_one_landmark(self) -> None:
        images = F.normalize(numbers(6, 5), dim=1).repeat(2, 1)
        part = self.placed(images, kernel_features=16)
        features = part.kernel(images)
        expected = (-0.7 * torch.cdist(images, images).square()).exp()
        assert torch.allclose(features @ features.T, expected, atol=1e-3)
        assert features.abs().max() < 2

    def test_too_many_images_some_are_landmarks(self) -> None:
        images = F.normalize(numbers(40, 5), dim=1)
        part, again = (
            self.placed(images, kernel_features=16),
            self.placed(images, kernel_features=16),
        )
        assert torch.equal(part.landmarks, again.landmarks)
        turned = self.placed(images.flip(0), kernel_features=16)
        assert torch.equal(part.landmarks, turned.landmarks)
        same = (part.landmarks[:, None] == images).all(dim=2)
        assert same.sum(dim=1).tolist() == [1] * 16
        assert same.any(dim=0).sum() == 16
        expected = (-0.7 * torch.cdist(part.landmarks, images).square()).exp()
        found = part.kernel(part.landmarks) @ part.kernel(images).T
        assert torch.allclose(found, expected, atol=1e-3)

    def test_features_keep_their_digits_under_autocast(self) -> None:
        images = F.normalize(numbers(12, 5), dim=1)
        part = self.placed(images, kernel_features=16)
        with torch.autocast("cpu", torch.bfloat16):
            found = part.kernel(images)
        assert torch.equal(found, part.kernel(images))

    def test_landmarks_are_placed_anew(self) -> None:
        """A second start with fewer images leaves none of the first."""
        part = self.placed(F.normalize(numbers(12, 5), dim=1), kernel_features=16)
        fewer = F.normalize(numbers(4, 5, seed=3), dim=1)
        part.solve(csr_array(np.eye(4, dtype=np.float32)), torch.arange(4), fewer)
        assert torch.equal(part.landmarks[:4], fewer)
        assert part.landmarks[4:].abs().sum() == part.root[4:].abs().sum() == 0
        assert part.root[:, 4:].abs().sum() == 0

    def test_kernel_approximates_the_gaussian(self) -> None:
        changes = {"kernel": "random", "kernel_features": 16384, "kernel_width": 0.7}
        part = ClosedFormPart(small("features", **changes), 5, 3)
        x = F.normalize(numbers(6, 5), dim=1)
        features = part.kernel(x)
        expected = (-0.7 * torch.cdist(x, x).square()).exp()
        assert torch.allclose(features @ features.T, expected, atol=0.05)

    def test_kernel_is_the_same_everywhere(self) -> None:
        """Its random numbers depend on nothing that ran before."""
        torch.manual_seed(1)
        first = ClosedFormPart(small("features", kernel="random"), 5, 3)
        torch.manual_seed(2)
        second = ClosedFormPart(small("features", kernel="random"), 5, 3)
        assert torch.equal(first.directions, second.directions)
        assert torch.equal(first.phases, second.phases)

    def test_solve_gives_ridge_predictions_in_both_blocks(self) -> None:
        """Against plain numpy: the image block from TF-IDF, the text block from the kernel."""
        encoder = made("features", deep=0, block=12, input_dropout=0.0)
        part = encoder.closed_form.requires_grad_(False)
        rows = np.array([0, 1, 1, 3, 4, 4])  # image 2 has no caption, image 1 has two
        images = encoder.describe(inputs("features", 6))
        batch = encoder.text_batch(encoder.tokenise(CAPTIONS))
        grams = sparse_grams(batch, len(encoder.ngrams))
        part.solve(grams, torch.from_numpy(rows), images)

        used = images[[0, 1, 3, 4]].double().numpy()
        place = np.array([0, 1, 1, 2, 3, 3])
        g = grams.toarray().astype(np.float64)
        # Image block: ridge regression of the descriptor, in any orthonormal basis.
        predicted = g.T @ np.linalg.inv(g @ g.T + np.eye(6)) @ used[place]
        rotation = part.image_image.weight.double().numpy()
        np.testing.assert_allclose(
            part.text_image(batch).numpy(), g @ predicted @ rotation.T, atol=1e-4
        )
        np.testing.assert_allclose(used @ rotation.T @ rotation, used, atol=1e-5)

        # Text block: kernel ridge regression of the image's mean n-grams, centred.
        means = np.stack([g[place == k].mean(axis=0) for k in range(4)])
        centred = means - means.mean(axis=0)
        features = part.kernel(images[[0, 1, 3, 4]]).double().numpy()
        features = features - features.mean(axis=0)
        gram = features @ features.T
        fitted = gram @ np.linalg.inv(gram + np.eye(4)) @ centred
        projection = part.text_text.bag.weight.double().numpy()
        value = part.image_text(part.kernel(images[[0, 1, 3, 4]])).numpy()
        np.testing.assert_allclose(value, fitted @ projection, atol=1e-4)
        np.testing.assert_allclose(centred @ projection @ projection.T, centred, atol=1e-4)
        np.testing.assert_allclose(
            part.centre.numpy(), (means @ projection).mean(axis=0), atol=1e-5
        )

    def test_solve_is_deterministic_and_blind_to_the_order_of_pairs(self) -> None:
        encoder = made("compact", deep=0)
        images, captions = inputs("compact"), encoder.tokenise(CAPTIONS)
        before = encode(encoder, *CAPTIONS), encoder.encode_image(images)
        order = torch.tensor([3, 1, 5, 0, 4, 2])
        encoder.start([captions[i] for i in order], order, images, seed=7)
        after = encode(encoder, *CAPTIONS), encoder.encode_image(images)
        for mine, its in zip(before, after, strict=True):
            assert torch.allclose(mine, its, atol=1e-4)

    def test_it_knows_the_training_pairs_at_once(self) -> None:
        encoder = made("features", deep=0, block=32)
        texts, images = encode(encoder, *CAPTIONS[:-1]), encoder.encode_image(inputs("features"))
        assert (texts @ images.T).argmax(dim=1).tolist() == [0, 1, 2, 3, 4]

    def test_the_text_block_starts_with_twice_the_weight(self) -> None:
        encoder = made("features", deep=0)
        for vectors in (encode(encoder, "a red hat"), encoder.encode_image(inputs("features", 2))):
            image, text = vectors.split(6, dim=1)
            ratio = text.square().sum(dim=1) / image.square().sum(dim=1)
            assert torch.allclose(ratio, torch.full_like(ratio, 2.0), atol=1e-4)

    def test_balance_weighs_the_two_blocks(self) -> None:
        encoder = made("features", deep=0)
        part, images = encoder.closed_form, encoder.describe(inputs("features"))
        with torch.no_grad():
            part.balance.fill_(math.log(3))  # a share of 3/4 for the text block
            vectors = part.encode_image(images)
        image, text = vectors.split(6, dim=1)
        assert torch.allclose(image.square().sum(dim=1), torch.full((6,), 0.25), atol=1e-5)
        assert torch.allclose(text.square().sum(dim=1), torch.full((6,), 0.75), atol=1e-5)

    def test_dropout_only_in_training(self) -> None:
        part = made("features", deep=0).closed_form
        x = F.normalize(numbers(3, 10), dim=1)
        assert torch.equal(part.encode_image(x), part.encode_image(x))
        part.train()
        assert not torch.equal(part.encode_image(x), part.encode_image(x))

    def test_too_many_pairs_are_drawn_by_the_seed(self, monkeypatch) -> None:
        assert LARGEST_SOLVE >= 1000
        monkeypatch.setattr("mmref.encoders.parts.LARGEST_SOLVE", 3)
        captions = None
        found = []
        for seed in (0, 0, 1):
            encoder = made("features", deep=0)  # solved with seed 0 inside
            captions = encoder.tokenise(CAPTIONS)
            encoder.start(captions, torch.arange(6), inputs("features"), seed=seed)
            found.append(encoder.closed_form.text_image.bag.weight.detach().clone())
        assert torch.equal(found[0], found[1])
        assert not torch.allclose(found[0], found[2])
