import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmref.config import Settings
from mmref.data.text import mask_words
from mmref.encoders.build import new_encoder, tokeniser_for
from mmref.losses.contrastive import symmetric_contrastive
from mmref.losses.identity import identity
from mmref.references.bank import fusion, guidance
from mmref.references.objective import Objective
from mmref.references.reconstruction import reconstruction

M, PARTS, VOCABULARY = 6, (5, 3), 12
OBJECTS = torch.tensor([0, 2, 2, 5])
WORDS = torch.tensor([[3, 4, 5, 0], [6, 7, 0, 0], [8, 9, 10, 11], [5, 3, 9, 0]])

WEIGHTS = {
    "encoder.dropout": 0.0,
    "loss.identity_weight": 0.0,
    "references.fusion_weight": 1.0,
    "references.guidance_weight": 1.0,
    "references.reconstruction_weight": 0.2,
    "references.words_weight": 0.0,
}


def made(**values: object) -> Objective:
    torch.manual_seed(0)
    dotted = {name.replace("__", "."): value for name, value in values.items()}
    settings = Settings().with_values({**WEIGHTS, **dotted})
    return Objective(settings, objects=M, dimensions=PARTS, vocabulary=VOCABULARY)


def features(seed: int = 1) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    chance = torch.Generator().manual_seed(seed)
    sides = []
    for _ in range(2):
        parts = [F.normalize(torch.randn(4, d, generator=chance), dim=1) for d in PARTS]
        sides.append([part.requires_grad_() for part in parts])
    return sides[0], sides[1]


def call(objective: Objective, ramp: float = 1.0, seed: int = 0):
    texts, images = features()
    losses = objective(texts, images, OBJECTS, WORDS, np.random.default_rng(seed), ramp)
    return losses, [*texts, *images]


def slopes(loss, inputs):
    return torch.autograd.grad(loss, inputs, retain_graph=True, allow_unused=True)


BASE_ALONE = {
    "references__fusion_weight": 0,
    "references__guidance_weight": 0,
    "references__reconstruction_weight": 0,
}


class TestNamedLosses:
    def test_each_is_the_mean_over_the_parts(self) -> None:
        objective = made(loss__identity_weight=0.5)
        losses, inputs = call(objective)
        texts, images = inputs[:2], inputs[2:]
        tau, both = objective.settings.references.temperature, torch.cat([OBJECTS, OBJECTS])
        expected = {"base": [], "fusion": [], "guidance": [], "identity": []}
        for text, image, r in zip(texts, images, objective.references(), strict=True):
            stacked = torch.cat([text, image])
            pairs = objective.settings.loss.temperature
            expected["base"].append(symmetric_contrastive(text, image, OBJECTS, pairs))
            expected["fusion"].append(fusion(r, stacked, both, tau))
            expected["guidance"].append(guidance(r, stacked, both, tau))
            expected["identity"].append(identity(stacked, r, both, tau))
        for name, values in expected.items():
            assert losses[name].item() == pytest.approx(sum(values).item() / 2, rel=1e-5)

    def test_total_weighs_them(self) -> None:
        objective = made(
            references__fusion_weight=2.0,
            references__guidance_weight=3.0,
            references__reconstruction_weight=0.5,
            references__words_weight=0.75,
            loss__identity_weight=0.25,
        )
        objective.words.targets.fill_(1 / VOCABULARY)
        losses, _ = call(objective, ramp=0.5)
        expected = (
            losses["base"]
            + 2 * losses["fusion"]
            + 1.5 * losses["guidance"]
            + 0.5 * losses["reconstruction"]
            + 0.75 * losses["words"]
            + 0.25 * losses["identity"]
        )
        assert losses["total"].item() == pytest.approx(expected.item(), rel=1e-5)

    def test_before_the_ramp_references_steer_nothing(self) -> None:
        objective = made(references__reconstruction_weight=0)
        losses, inputs = call(objective, ramp=0.0)
        for total, base in zip(
            slopes(losses["total"], inputs), slopes(losses["base"], inputs), strict=True
        ):
            assert torch.allclose(total, base)
        steered = slopes(call(objective, ramp=1.0)[0]["total"], list(objective.parameters()))
        assert steered[0].abs().sum() > 0

    def test_base_alone_has_neither_references_nor_a_decoder(self) -> None:
        objective = made(**BASE_ALONE)
        losses, _ = call(objective)
        assert sorted(losses) == ["base", "total"]
        assert losses["total"].item() == pytest.approx(losses["base"].item())
        assert list(objective.parameters()) == []
        assert objective.references() == []

    def test_identity_control_keeps_its_weights_as_references(self) -> None:
        objective = made(**BASE_ALONE, loss__identity_weight=1.0)
        losses, _ = call(objective)
        assert sorted(losses) == ["base", "identity", "total"]
        assert [r.shape for r in objective.references()] == [(M, 5), (M, 3)]
        gradient = slopes(losses["identity"], [objective.bank(0).weight])[0]
        assert gradient.abs().sum() > 0

    def test_masks_are_drawn_by_the_generator_on_a_copy(self) -> None:
        objective, before = made(), WORDS.clone()
        first, again, other = (call(objective, seed=seed)[0] for seed in (0, 0, 1))
        assert torch.equal(WORDS, before)
        assert first["reconstruction"] == again["reconstruction"]
        assert first["reconstruction"] != other["reconstruction"]

    def test_reconstruction_reads_the_references_of_both_parts(self) -> None:
        objective = made()
        losses, _ = call(objective, seed=5)
        rate = objective.settings.references.mask_rate
        copy, masked = mask_words(WORDS, rate, VOCABULARY, np.random.default_rng(5))
        memory = torch.cat(objective.references(), dim=1)[OBJECTS]
        expected = reconstruction(objective.decoder, WORDS, copy, masked, memory)
        assert losses["reconstruction"].item() == pytest.approx(expected.item(), rel=1e-6)


class TestGradients:
    def test_fusion_never_reaches_the_encoders(self) -> None:
        objective = made()
        losses, inputs = call(objective)
        assert slopes(losses["fusion"], inputs) == (None,) * 4
        for number in range(2):
            gradient = slopes(losses["fusion"], [objective.bank(number).weight])[0]
            assert gradient.abs().sum() > 1e-3

    def test_guidance_never_reaches_the_references(self) -> None:
        objective = made()
        losses, inputs = call(objective)
        assert slopes(losses["guidance"], list(objective.parameters())) == (None,) * len(
            list(objective.parameters())
        )
        for gradient in slopes(losses["guidance"], inputs):
            assert gradient.abs().sum() > 1e-3

    def test_reconstruction_reaches_the_batchs_references_alone(self) -> None:
        objective = made()
        losses, inputs = call(objective)
        assert slopes(losses["reconstruction"], inputs) == (None,) * 4
        for number in range(2):
            gradient = slopes(losses["reconstruction"], [objective.bank(number).weight])[0]
            touched = gradient.abs().sum(dim=1) > 0
            assert touched.tolist() == [True, False, True, False, False, True]

    def test_words_teach_the_last_part_of_both_towers_alone(self) -> None:
        objective = made(references__words_weight=1.0)
        objective.words.targets[:, 3:] = 1 / (VOCABULARY - 3)
        losses, inputs = call(objective)
        first_text, last_text, first_image, last_image = slopes(losses["words"], inputs)
        assert first_text is None
        assert first_image is None
        assert last_text.abs().sum() > 1e-3
        assert last_image.abs().sum() > 1e-3
        assert set(slopes(losses["words"], list(objective.banks.parameters()))) == {None}

    def test_reconstruction_and_base_leave_the_other_side_alone(self) -> None:
        objective = made()
        losses, _ = call(objective)
        assert set(slopes(losses["base"], list(objective.parameters()))) == {None}
        found = slopes(losses["reconstruction"], [*objective.decoder.parameters()])
        assert all(gradient is not None for gradient in found)

    def test_equal_weights_and_temperature_are_one_proxy_loss(self) -> None:
        """a = c = w without stop-gradients: base + w * ID, for the encoders and for R."""
        temperature = {"references__temperature": 0.07, "references__reconstruction_weight": 0}
        method = made(references__fusion_weight=0.8, references__guidance_weight=0.8, **temperature)
        control = made(**{**BASE_ALONE, **temperature}, loss__identity_weight=0.8)
        with torch.no_grad():
            for number in range(2):
                control.bank(number).weight.copy_(method.bank(number).weight)
        found = []
        for objective in (method, control):
            losses, inputs = call(objective)
            found.append(slopes(losses["total"], [*inputs, *objective.banks.parameters()]))
        for mine, its in zip(*found, strict=True):
            assert torch.allclose(mine, its, atol=1e-5)
            assert its.abs().sum() > 1e-3


class TestThroughARealEncoder:
    """The same on the parameters of an encoder instead of on its vectors."""

    CAPTIONS = ("a red hat", "a blue hat, a bag", "green shoes and a bag", "a red coat")

    @pytest.fixture
    def parts(self):
        torch.manual_seed(0)
        settings = Settings().with_values(
            {
                **WEIGHTS,
                "encoder.kind": "features",
                "encoder.block": 4,
                "encoder.deep": 4,
                "encoder.kernel_features": 32,
                "encoder.text_depth": 1,
                "encoder.text_width": 32,
            }
        )
        tokeniser = tokeniser_for(list(self.CAPTIONS))
        ids, images = tokeniser.ids(self.CAPTIONS), torch.randn(4, 7)
        encoder = new_encoder(settings.encoder, tokeniser, ids, images)
        encoder.start(ids, torch.arange(4), images, seed=0)
        torch.nn.init.normal_(encoder.deep_text.transformer.out.weight, std=0.1)
        objective = Objective(
            settings, objects=M, dimensions=encoder.part_dimensions, vocabulary=len(tokeniser)
        )
        batch = encoder.text_batch(ids)
        losses = objective(
            encoder.text_parts(batch),
            encoder.image_parts(images),
            OBJECTS,
            batch.words,
            np.random.default_rng(0),
        )
        return encoder, objective, losses

    def test_fusion_and_reconstruction_teach_no_encoder(self, parts) -> None:
        encoder, objective, losses = parts
        for name in ("fusion", "reconstruction"):
            assert set(slopes(losses[name], list(encoder.parameters()))) == {None}
            assert slopes(losses[name], [objective.bank(0).weight])[0].abs().sum() > 0

    def test_guidance_teaches_both_towers_and_no_reference(self, parts) -> None:
        encoder, objective, losses = parts
        assert set(slopes(losses["guidance"], list(objective.banks.parameters()))) == {None}
        gradients = dict(
            zip(
                [name for name, _ in encoder.named_parameters()],
                slopes(losses["guidance"], list(encoder.parameters())),
                strict=True,
            )
        )
        for name in (
            "closed_form.image_image.weight",
            "closed_form.text_text.bag.weight",
            "deep_text.ngrams.bag.weight",
            "deep_text.transformer.out.weight",
            "net.0.weight",
        ):
            assert gradients[name].abs().sum() > 0, name
