from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmref.config import LossSettings, Settings
from mmref.data.text import mask_words
from mmref.encoders.build import new_encoder, tokeniser_for
from mmref.losses.cmpm import cmpc, cmpm
from mmref.losses.contrastive import symmetric_contrastive
from mmref.losses.identity import identity
from mmref.losses.pairwise import pairwise
from mmref.losses.sdm import sdm
from mmref.losses.tal import tal
from mmref.losses.triplet import triplet
from mmref.references.bank import fusion, guidance
from mmref.references.objective import LOSSES, Objective
from mmref.references.prototypes import PrototypeBank
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


BY_HAND = {
    "contrastive": lambda t, v: symmetric_contrastive(t, v, OBJECTS, 0.07),
    "pairwise": lambda t, v: pairwise(t, v, 0.07),
    "sdm": lambda t, v: sdm(t, v, OBJECTS, 0.07),
    "tal": lambda t, v: tal(t, v, OBJECTS, 0.3, 0.07),
    "cmpm": lambda t, v: cmpm(t, v, OBJECTS, 0.07),
    "triplet": lambda t, v: triplet(t, v, OBJECTS, 0.3),
}


class TestBaseLosses:
    def test_every_kind_of_the_settings_has_one(self) -> None:
        kinds = get_args(LossSettings.model_fields["kind"].annotation)
        assert set(LOSSES) == set(kinds) == set(BY_HAND)

    @pytest.mark.parametrize("kind", list(LOSSES))
    def test_the_base_is_the_named_loss(self, kind: str) -> None:
        objective = made(**BASE_ALONE, loss__kind=kind, loss__temperature=0.07, loss__margin=0.3)
        losses, inputs = call(objective)
        pairs = zip(inputs[:2], inputs[2:], strict=True)
        expected = sum(BY_HAND[kind](text, image).item() for text, image in pairs) / 2
        assert losses["base"].item() == pytest.approx(expected, rel=1e-6)
        assert set(losses) == {"base", "total"}
        for gradient in slopes(losses["total"], inputs):
            assert gradient.abs().sum() > 1e-3

    def test_losses_differ(self) -> None:
        values = {
            round(call(made(**BASE_ALONE, loss__kind=kind))[0]["base"].item(), 4)
            for kind in LOSSES
            if kind != "cmpm"  # with unit features it is sdm
        }
        assert len(values) == len(LOSSES) - 1


class TestOtherMethodsParts:
    def test_cmpc_shares_the_control_s_weights_as_references(self) -> None:
        objective = made(**BASE_ALONE, loss__kind="cmpm", loss__cmpc_weight=0.5)
        losses, inputs = call(objective)
        tau = objective.settings.references.temperature
        expected = sum(
            cmpc(text, image, r, OBJECTS, tau).item()
            for text, image, r in zip(inputs[:2], inputs[2:], objective.references(), strict=True)
        )
        assert losses["cmpc"].item() == pytest.approx(expected / 2, rel=1e-5)
        total = losses["base"] + 0.5 * losses["cmpc"]
        assert losses["total"].item() == pytest.approx(total.item(), rel=1e-6)
        for gradient in slopes(losses["cmpc"], [*inputs, *objective.banks.parameters()]):
            assert gradient.abs().sum() > 1e-3

    def test_masked_words_teach_images_and_no_text_or_reference(self) -> None:
        objective = made(loss__masked_words_weight=2.0)
        losses, inputs = call(objective)
        found = slopes(losses["masked_words"], inputs)
        assert found[:2] == (None, None)
        for gradient in found[2:]:
            assert gradient.abs().sum() > 1e-3
        assert set(slopes(losses["masked_words"], list(objective.banks.parameters()))) == {None}
        assert objective.masked_words.decoder is not objective.decoder
        without = made()
        rest, _ = call(without)
        total = rest["total"] + 2 * losses["masked_words"]
        assert losses["total"].item() == pytest.approx(total.item(), rel=1e-5)

    def test_they_are_absent_by_default(self) -> None:
        objective = made()
        assert objective.masked_words is None
        assert not {"cmpc", "masked_words"} & set(call(objective)[0])


PROTOTYPES = {
    "references__fusion_weight": 0,
    "references__reconstruction_weight": 0,
    "references__momentum": 0.5,
}


class TestPrototypes:
    def test_guidance_is_by_the_prototypes_before_the_batch(self) -> None:
        objective = made(**PROTOTYPES, references__kind="ema")
        before = [bank().clone() for bank in objective.banks]
        losses, inputs = call(objective)
        tau, both = objective.settings.references.temperature, torch.cat([OBJECTS, OBJECTS])
        expected = [
            guidance(r, torch.cat([text, image]), both, tau).item()
            for r, text, image in zip(before, inputs[:2], inputs[2:], strict=True)
        ]
        assert losses["guidance"].item() == pytest.approx(sum(expected) / 2, rel=1e-5)
        assert set(losses) == {"base", "guidance", "total"}
        for gradient in slopes(losses["guidance"], inputs):  # after the prototypes have moved
            assert gradient.abs().sum() > 1e-3

    def test_moving_averages_follow_each_part_of_both_sides(self) -> None:
        objective = made(**PROTOTYPES, references__kind="ema")
        alone = [PrototypeBank(M, d, 0.5) for d in PARTS]
        for bank, own in zip(alone, objective.banks, strict=True):
            bank.load_state_dict(own.state_dict())
        _, inputs = call(objective)
        for bank, own, text, image in zip(
            alone, objective.banks, inputs[:2], inputs[2:], strict=True
        ):
            before = own().clone()
            bank.follow(torch.cat([text, image]), torch.cat([OBJECTS, OBJECTS]))
            assert torch.equal(before, bank())
        assert list(objective.parameters()) == []

    @pytest.mark.parametrize("kind", ["ema", "mean", "learned"])
    def test_nothing_but_moving_averages_in_training_moves(self, kind: str) -> None:
        weights = PROTOTYPES if kind != "learned" else {}
        objective = made(**weights, references__kind=kind)
        before = [bank().detach().clone() for bank in objective.banks]
        call(objective.eval())
        assert all(torch.equal(a, b()) for a, b in zip(before, objective.banks, strict=True))
        call(objective.train())
        moved = [not torch.equal(a, b()) for a, b in zip(before, objective.banks, strict=True)]
        assert moved == [kind == "ema"] * 2

    def test_without_guidance_they_are_there_for_refinement(self) -> None:
        objective = made(**PROTOTYPES, references__kind="mean", references__guidance_weight=0)
        losses, _ = call(objective)
        assert set(losses) == {"base", "total"}
        assert [r.shape for r in objective.references()] == [(M, d) for d in PARTS]


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
            "deep_text.words.embedding.weight",
            "deep_text.transformer.out.weight",
            "net.0.weight",
        ):
            assert gradients[name].abs().sum() > 0, name
