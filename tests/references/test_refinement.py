import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mmref.references.refinement import (
    FORMS,
    Profiles,
    Refiner,
    gram_root,
    scatter_about,
    whitening,
)

M, D = 12, 5


def unit(count: int, seed: int, size: int = D) -> torch.Tensor:
    chance = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, size, generator=chance), dim=1)


def spread(size: int = D) -> torch.Tensor:
    """A scatter that is no multiple of the identity."""
    apart = unit(30, 9, size) * torch.linspace(0.1, 2.0, size)
    return apart.T @ apart / 30


def refiner(form: str, kept: int = 4, **changes: object) -> Refiner:
    """References not of unit length, modality means away from zero."""
    means = {"text_mean": unit(1, 7)[0] * 0.3, "image_mean": unit(1, 8)[0] * 0.5}
    means["scatter"] = spread()
    arguments = {"weight": 0.7, "temperature": 0.2, "kept": kept} | means | changes
    return Refiner(3 * unit(M, 1), form, **arguments)  # type: ignore[arg-type]


def m_dimensional(form: str, texts: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """S_ref from whole m-dimensional profiles, pair by pair, in double precision."""
    r = refiner(form)
    references = F.normalize(3 * unit(M, 1), dim=1).double()
    scores = torch.zeros(len(texts), len(images), dtype=torch.float64)
    for i, text in enumerate(texts.double()):
        for j, image in enumerate(images.double()):
            if form == "posterior":
                p = ((references @ text) / r.temperature).exp()
                q = ((references @ image) / r.temperature).exp()
                scores[i, j] = ((p / p.sum()) * (q / q.sum())).sqrt().sum()
                continue
            if form == "hubs":
                near = (((references @ x) / r.temperature).exp().mean() for x in (text, image))
                scores[i, j] = -0.5 * r.temperature * sum(mean.log() for mean in near)
                continue
            if form == "whitened":
                scatter = spread().double()
                metric = torch.linalg.inv(scatter + scatter.diagonal().mean() * torch.eye(D))
                sizes = (text @ metric @ text) * (image @ metric @ image)
                scores[i, j] = (text @ metric @ image) / sizes.sqrt()
                continue
            p, q = references @ text, references @ image
            if form == "centred":
                p = p - references @ (unit(1, 7)[0] * 0.3).double()
                q = q - references @ (unit(1, 8)[0] * 0.5).double()
            scores[i, j] = (p @ q) / (p.norm() * q.norm())
    return scores


class TestWhitened:
    def test_is_the_cosine_in_units_of_the_scatter(self) -> None:
        """t'Av / sqrt(t'At v'Av) with A = (W + w I)^-1, w the mean variance."""
        t, v = unit(1, 2)[0].double(), unit(1, 3)[0].double()
        scatter = spread().double()
        metric = torch.linalg.inv(scatter + scatter.diagonal().mean() * torch.eye(D))
        expected = (t @ metric @ v) / ((t @ metric @ t) * (v @ metric @ v)).sqrt()
        r = refiner("whitened", weight=1.0)
        score = r.similarity(t[None].float(), v[None].float()).item() - (t @ v).item()
        assert score == pytest.approx(expected.item(), abs=1e-5)

    def test_scatter_is_the_naive_sum(self) -> None:
        references, features = unit(M, 1), unit(9, 2)
        objects = torch.tensor([0, 3, 3, 5, 11, 0, 2, 2, 7])
        expected = torch.zeros(D, D)
        for feature, number in zip(features, objects, strict=True):
            apart = feature - references[number]
            expected += torch.outer(apart, apart) / 9
        assert torch.allclose(scatter_about(references, features, objects), expected, atol=1e-6)

    def test_even_scatter_is_the_plain_cosine(self) -> None:
        r = refiner("whitened", weight=1.0, scatter=0.3 * torch.eye(D))
        x, y = unit(4, 2), unit(5, 3)
        assert torch.allclose(r.similarity(x, y), 2 * x @ y.T, atol=1e-5)

    def test_no_scatter_at_all_stays_finite(self) -> None:
        assert torch.isfinite(whitening(torch.zeros(D, D))).all()

    def test_what_scatters_counts_less(self) -> None:
        noisy = torch.diag(torch.tensor([9.0, 0.1, 0.1, 0.1, 0.1]))
        r = refiner("whitened", weight=1.0, scatter=noisy)
        query = F.normalize(torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0]]), dim=1)
        same_noise, same_detail = torch.eye(D)[:1], torch.eye(D)[1:2]
        assert r.similarity(query, same_detail) > r.similarity(query, same_noise) + 0.3


class TestHubs:
    def test_is_half_the_local_density(self) -> None:
        texts, images = unit(6, 2), unit(9, 3)
        r = refiner("hubs")
        asked = r.profiles(texts, "text", exact=True)
        value = r.reference_similarity(asked, r.profiles(images, "image"))
        assert torch.allclose(value.double(), m_dimensional("hubs", texts, images), atol=1e-5)
        assert value.std(dim=1).min() > 0.01
        ranked = value.argsort(dim=1)
        assert (ranked == ranked[0]).all()  # it ranks images alike for every query

    def test_an_image_near_to_many_references_comes_behind(self) -> None:
        crowd = F.normalize(torch.eye(D)[:1] + 0.2 * unit(8, 4), dim=1)
        r = Refiner(crowd, "hubs", weight=1.0, temperature=0.1)
        query = F.normalize(torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0]]), dim=1)
        near, apart = torch.eye(D)[:1], torch.eye(D)[1:2]
        assert r.similarity(query, near) < r.similarity(query, apart) - 0.2

    def test_low_temperature_is_the_nearest_reference_high_the_mean(self) -> None:
        images = unit(9, 3)
        cosines = images @ unit(M, 1).T
        for temperature, expected in ((1e-4, cosines.amax(dim=1)), (1e3, cosines.mean(dim=1))):
            profiles = refiner("hubs", temperature=temperature).profiles(images, "image")
            assert torch.allclose(-2 * profiles.dense[:, 1], expected, atol=1e-3)


class TestForms:
    @pytest.mark.parametrize("form", ["linear", "centred"])
    def test_gram_form_equals_the_m_dimensional_form(self, form: str) -> None:
        texts, images = unit(6, 2), unit(9, 3)
        r = refiner(form)
        value = r.reference_similarity(r.profiles(texts, "text"), r.profiles(images, "image"))
        assert torch.allclose(value.double(), m_dimensional(form, texts, images), atol=1e-5)

    def test_linear_is_the_learned_quadratic_metric(self) -> None:
        """t'Gv / sqrt(t'Gt v'Gv) with G = R'R."""
        t, v = unit(1, 2)[0].double(), unit(1, 3)[0].double()
        references = unit(M, 1).double()
        gram = references.T @ references
        expected = (t @ gram @ v) / ((t @ gram @ t) * (v @ gram @ v)).sqrt()
        r = refiner("linear", weight=1.0)
        score = r.similarity(t[None].float(), v[None].float()).item() - (t @ v).item()
        assert score == pytest.approx(expected.item(), abs=1e-5)

    def test_fewer_references_than_dimensions(self) -> None:
        """G is singular then; the profile of a vector still is its image under R."""
        references = unit(2, 4)
        r = Refiner(references, "linear", weight=1.0)
        texts, images = unit(3, 5), unit(4, 6)
        p, q = texts @ references.T, images @ references.T
        expected = F.normalize(p, dim=1) @ F.normalize(q, dim=1).T
        value = r.reference_similarity(r.profiles(texts, "text"), r.profiles(images, "image"))
        assert torch.allclose(value, expected, atol=1e-3)

    def test_sparse_posterior_with_all_entries_equals_the_dense_one(self) -> None:
        texts, images = unit(6, 2), unit(9, 3)
        r = refiner("posterior", kept=M)
        value = r.reference_similarity(r.profiles(texts, "text"), r.profiles(images, "image"))
        # Entries are kept in half precision: 11 bits.
        assert torch.allclose(
            value.double(), m_dimensional("posterior", texts, images), atol=2**-10
        )

    def test_sparse_posterior_keeps_the_greatest_entries_of_each(self) -> None:
        images = unit(9, 3)
        r = refiner("posterior", kept=3)
        kept, whole = (r.profiles(images, "image"), refiner("posterior", kept=M))
        full = whole.profiles(images, "image")
        assert kept.values.shape == (9, 3)
        assert torch.equal(kept.values, full.values[:, :3])
        assert torch.equal(kept.indices, full.indices[:, :3])
        assert (full.values[:, 1:] <= full.values[:, :-1]).all()
        nearest = (images @ F.normalize(3 * unit(M, 1), dim=1).T).argmax(dim=1)
        assert torch.equal(kept.indices[:, 0].long(), nearest)

    def test_sparse_posterior_drops_what_the_entries_left_out_share(self) -> None:
        texts, images = unit(6, 2), unit(9, 3)
        r = refiner("posterior", kept=3)
        p, q = r.profiles(texts, "text"), r.profiles(images, "image")
        expected = torch.zeros(6, 9)
        for i in range(6):
            for j in range(9):
                mine = dict(zip(p.indices[i].tolist(), p.values[i].tolist(), strict=True))
                its = dict(zip(q.indices[j].tolist(), q.values[j].tolist(), strict=True))
                expected[i, j] = sum(mine[k] * its[k] for k in mine.keys() & its.keys())
        assert torch.allclose(r.reference_similarity(p, q), expected, atol=1e-6)
        assert (expected == 0).any()  # the case is one in which something is left out

    def test_more_entries_than_references_are_not_kept(self) -> None:
        r = refiner("posterior", kept=1000)
        assert r.kept == M
        assert r.profiles(unit(2, 2), "text").values.shape == (2, M)

    def test_centred_treats_modalities_apart(self) -> None:
        x = unit(4, 2)
        r = refiner("centred")
        assert not torch.allclose(r.profiles(x, "text").dense, r.profiles(x, "image").dense)
        plain = refiner("linear")
        assert torch.equal(plain.profiles(x, "text").dense, plain.profiles(x, "image").dense)

    def test_centred_without_means_is_linear(self) -> None:
        x, y = unit(4, 2), unit(5, 3)
        zero = torch.zeros(D)
        centred = refiner("centred", text_mean=zero, image_mean=zero)
        assert torch.allclose(centred.similarity(x, y), refiner("linear").similarity(x, y))


@pytest.mark.parametrize("form", FORMS)
class TestSimilarity:
    def test_is_the_cosine_plus_weight_times_the_reference_similarity(self, form: str) -> None:
        x, y = unit(4, 2), unit(5, 3)
        r = refiner(form, kept=M, weight=2.5)
        expected = x.double() @ y.double().T + 2.5 * m_dimensional(form, x, y)
        assert torch.allclose(r.similarity(x, y).double(), expected, atol=5e-3)

    def test_without_weight_it_is_the_cosine(self, form: str) -> None:
        x, y = unit(4, 2), unit(5, 3)
        assert torch.equal(refiner(form, weight=0.0).similarity(x, y), x @ y.T)

    @settings(deadline=None, max_examples=15, derandomize=True)
    @given(seed=st.integers(0, 2**31), weight=st.sampled_from([0.0, 0.5, 3.0]))
    def test_extended_inner_product_equals_it(self, form: str, seed: int, weight: float) -> None:
        x, y = unit(4, seed), unit(5, seed + 1)
        r = refiner(form, weight=weight)
        product = r.extended(x, "text", exact=True) @ r.extended(y, "image").T
        assert torch.allclose(product, r.similarity(x, y), atol=1e-5)
        assert r.extended(x, "text").shape == (4, D + {"posterior": M, "hubs": 2}.get(form, D))

    def test_company_and_order_of_queries_change_no_score(self, form: str) -> None:
        texts, images = unit(40, 2), unit(30, 3)
        r = refiner(form)
        together = r.similarity(texts, images)
        order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
        assert (r.similarity(texts[order], images) - together[order]).abs().max() < 1e-6
        alone = torch.cat([r.similarity(texts[i : i + 1], images) for i in range(40)])
        assert (alone - together).abs().max() < 1e-6

    def test_company_and_order_of_images_change_no_score(self, form: str) -> None:
        texts, images = unit(4, 2), unit(30, 3)
        r = refiner(form)
        together = r.similarity(texts, images)
        order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
        assert (r.similarity(texts, images[order]) - together[:, order]).abs().max() < 1e-6
        alone = torch.cat([r.similarity(texts, images[i : i + 1]) for i in range(30)], dim=1)
        assert (alone - together).abs().max() < 1e-6

    def test_reference_similarity_is_bounded(self, form: str) -> None:
        x = unit(50, 2)
        r = refiner(form, kept=M)
        asked = r.profiles(x, "text", exact=True)
        value = r.reference_similarity(asked, r.profiles(x, "image"))
        assert value.max() <= 1 + 2**-10  # half precision
        assert value.min() >= (-1e-6 if form == "posterior" else -1 - 1e-6)

    def test_inputs_and_references_stay_as_they_are(self, form: str) -> None:
        references, x = torch.randn(M, D, requires_grad=True), unit(4, 2)
        before, kept = references.detach().clone(), x.clone()
        r = Refiner(references, form, weight=1.0, text_mean=x[0], image_mean=x[1], scatter=spread())
        r.similarity(x, x)
        assert torch.equal(references, before)
        assert torch.equal(x, kept)
        assert not r.references.requires_grad

    def test_other_precisions_are_taken(self, form: str) -> None:
        x, y = unit(4, 2), unit(5, 3)
        double = refiner(form).similarity(x.double(), y.double())
        assert double.dtype == torch.float32
        assert torch.allclose(double, refiner(form).similarity(x, y), atol=1e-6)


@pytest.mark.parametrize(
    "form",
    [
        "posterior",
        "linear",
        "centred",
        "whitened",
        "hubs",
    ],
)
def test_rounding_of_a_query_does_not_show_in_its_scores(form: str) -> None:
    """What another batch size changes in a product (some 1e-7) must stay that small."""
    references = torch.eye(8)
    turn = torch.linspace(0.3, 1.2, 4000)[:, None]
    queries = turn.cos() * references[0] + turn.sin() * references[1]
    r = Refiner(
        references, form, weight=1.0, temperature=0.1, kept=8,
        text_mean=unit(1, 5, 8)[0] / 2, image_mean=unit(1, 6, 8)[0] / 2, scatter=spread(8),
    )  # fmt: skip
    nudged = queries + 1e-7 * unit(4000, 4, 8)
    change = r.similarity(nudged, references) - r.similarity(queries, references)
    assert 0 < change.abs().max() < 1e-5


class TestArguments:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"weight": -0.1}, "weight must be >= 0"),
            ({"temperature": 0.0}, "temperature > 0"),
            ({"kept": 0}, "kept >= 1"),
            ({"form": "centered"}, "centred, whitened, hubs, not 'centered'"),
            ({"form": "centred", "text_mean": None}, "needs text_mean and image_mean"),
            ({"form": "centred", "image_mean": None}, "needs text_mean and image_mean"),
            ({"form": "whitened", "scatter": None}, "needs the scatter"),
        ],
    )
    def test_are_checked(self, changes: dict[str, object], message: str) -> None:
        form = str(changes.get("form", "linear"))
        others = {k: v for k, v in changes.items() if k != "form"}
        with pytest.raises(ValueError, match=message):
            refiner(form, **others)

    @pytest.mark.parametrize("shape", [(0, 4), (4,), (2, 2, 2)])
    def test_references_are_a_matrix(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="references must be"):
            Refiner(torch.zeros(shape), "linear", weight=1.0)

    def test_modality_is_checked(self) -> None:
        with pytest.raises(ValueError, match="modality must be text or image, not 'caption'"):
            refiner("linear").profiles(unit(2, 2), "caption")

    @pytest.mark.parametrize("shape", [(D,), (2, D + 1)])
    def test_features_are_checked(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"features must be Tensor\[n, 5\]"):
            refiner("linear").profiles(torch.zeros(shape), "text")

    def test_profiles_of_two_forms_do_not_mix(self) -> None:
        x = unit(2, 2)
        sparse, dense = (refiner(f).profiles(x, "text") for f in ("posterior", "linear"))
        with pytest.raises(ValueError, match="another form"):
            refiner("posterior").reference_similarity(sparse, dense)


class TestProfiles:
    @pytest.mark.parametrize("form", FORMS)
    def test_arrays_hold_all(self, form: str) -> None:
        r = refiner(form)
        texts, profiles = (
            r.profiles(unit(3, 2), "text", exact=True),
            r.profiles(unit(6, 3), "image"),
        )
        arrays = profiles.to_arrays()
        kinds = {"indices": np.int32, "values": np.float16, "dense": np.float32}
        names = {"indices", "values"} if form == "posterior" else {"dense"}
        assert {name: array.dtype for name, array in arrays.items()} == {
            name: np.dtype(kinds[name]) for name in names
        }
        back = Profiles.from_arrays({name: array.copy() for name, array in arrays.items()})
        for name in kinds:
            mine, its = getattr(profiles, name), getattr(back, name)
            assert (mine is None) == (its is None)
            assert mine is None or torch.equal(mine, its)
        assert torch.equal(
            r.reference_similarity(texts, back), r.reference_similarity(texts, profiles)
        )

    def test_read_only_arrays_are_taken(self) -> None:
        array = np.eye(2, dtype=np.float32)
        array.setflags(write=False)
        assert torch.equal(Profiles.from_arrays({"dense": array}).dense, torch.eye(2))

    @pytest.mark.parametrize("form", FORMS)
    def test_rows_are_chosen(self, form: str) -> None:
        r = refiner(form)
        images = unit(6, 3)
        texts = r.profiles(unit(3, 2), "text", exact=True)
        profiles = r.profiles(images, "image")
        whole = r.reference_similarity(texts, profiles)
        assert len(profiles) == 6
        mask = torch.tensor([True, False, False, True, False, False])
        for rows, count in ((slice(1, 4), 3), (torch.tensor([5, 0]), 2), ([4], 1), (mask, 2)):
            part = profiles[rows]
            assert len(part) == count
            scores = r.reference_similarity(texts, part)
            assert torch.allclose(scores, whole[:, rows], atol=1e-6)

    def test_bytes_are_what_is_stored(self) -> None:
        images = unit(6, 3)
        sparse = refiner("posterior", kept=4).profiles(images, "image")
        dense = refiner("linear").profiles(images, "image")
        assert refiner("hubs").profiles(images, "image").bytes_per_feature == 4 * 2
        assert sparse.bytes_per_feature == 4 * (4 + 2)
        assert dense.bytes_per_feature == 4 * D

    def test_no_part_at_all_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="neither a sparse nor a dense"):
            len(Profiles())


class TestGramRoot:
    @pytest.mark.parametrize("count", [2, 5, 30])
    def test_squares_to_the_gram_matrix(self, count: int) -> None:
        references = unit(count, 1)
        root = gram_root(references)
        assert torch.allclose(root @ root, references.T @ references, atol=1e-5)
        assert torch.allclose(root, root.T, atol=1e-6)
        assert torch.linalg.eigvalsh(root).min() > -1e-5


class TestUnknownQueries:
    @pytest.mark.parametrize("form", ["posterior", "centred", "hubs"])
    def test_a_query_without_any_known_word_ranks_nothing(self, form: str) -> None:
        """Its vector is zero: it must be equally near to every image, refined too."""
        scores = refiner(form).similarity(torch.zeros(1, D), unit(9, 3))
        assert (scores - scores[0, 0]).abs().max() < 1e-6

    def test_nor_in_the_linear_form(self) -> None:
        scores = refiner("linear").similarity(torch.zeros(1, D), unit(9, 3))
        assert scores.abs().max() == 0
