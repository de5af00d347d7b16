import pytest
import torch

from mmref.config import Settings
from mmref.encoders.parts import PartsEncoder

from .made import CAPTIONS, inputs, made


@pytest.mark.parametrize("kind", ["compact", "features"])
class TestStarting:
    def test_each_parameter_is_in_one_group_at_its_rate(self, kind: str) -> None:
        values = {"training.learning_rate": 2e-4, "training.deep_learning_rate": 3e-2}
        settings = Settings().with_values(values | {"references.text_rate": 0.5})
        encoder = made(kind)
        names = {id(p): name for name, p in encoder.named_parameters()}
        groups = encoder.parameter_groups(settings)
        assert sorted(id(p) for group in groups for p in group["params"]) == sorted(names)
        rates = {names[id(p)]: group["lr"] for group in groups for p in group["params"]}
        for name, rate in rates.items():
            if name.startswith("closed_form."):
                assert rate == 2e-4
            elif name.startswith("deep_text."):
                assert rate == 1.5e-2
            else:
                assert rate == 3e-2
        assert {2e-4, 1.5e-2, 3e-2} == set(rates.values())
        together = settings.with_values({"references.caption_epochs": 0})
        assert [group["lr"] for group in encoder.parameter_groups(together)] == [2e-4, 3e-2, 3e-2]

    def test_start_sets_the_closed_form_part_alone(self, kind: str) -> None:
        encoder = made(kind)
        before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
        encoder.start(encoder.tokenise(CAPTIONS), torch.arange(6), inputs(kind, seed=9), seed=0)
        changed = {n for n, p in encoder.named_parameters() if not torch.equal(p, before[n])}
        assert "closed_form.text_image.bag.weight" in changed
        assert all(name.startswith("closed_form.") for name in changed)

    def test_without_that_part_there_is_nothing_to_start(self, kind: str) -> None:
        encoder = made(kind, block=0)
        before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
        encoder.start(encoder.tokenise(CAPTIONS), torch.arange(6), inputs(kind), seed=0)
        assert all(torch.equal(p, before[n]) for n, p in encoder.named_parameters())

    def test_all_parameters_learn_from_a_batch(self, kind: str) -> None:
        encoder = made(kind, text_depth=1).train()
        batch = encoder.text_batch(encoder.tokenise(CAPTIONS))
        scores = encoder.encode_text(batch) @ encoder.encode_image(inputs(kind)).T
        (scores * torch.randn(6, 6)).sum().backward()
        for name, parameter in encoder.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name


def test_a_subclass_describes_its_inputs() -> None:
    encoder = made("features")
    with pytest.raises(TypeError, match="FeaturesEncoder must define describe"):
        PartsEncoder.describe(encoder, inputs("features"))
    with pytest.raises(TypeError, match="must define deep_image"):
        PartsEncoder.deep_image(encoder, inputs("features"))
