import pytest
import torch

from mmref.encoders.parts import PartsEncoder

from .made import CAPTIONS, inputs, made


@pytest.mark.parametrize("kind", ["compact", "features"])
class TestStarting:
    def test_parameters_with_a_closed_form_start(self, kind: str) -> None:
        encoder = made(kind)
        started = {id(p) for p in encoder.started_parameters()}
        names = {name for name, p in encoder.named_parameters() if id(p) in started}
        assert names == {n for n, _ in encoder.named_parameters() if n.startswith("closed_form.")}
        assert len(names) > 0
        assert made(kind, block=0).started_parameters() == []

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
