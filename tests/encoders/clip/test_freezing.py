import pytest
import torch

from mmref.config import Settings
from mmref.encoders.clip.encoder import ClipEncoder
from mmref.encoders.clip.freezing import block_counts, place_of

from .made import CAPTIONS, IMAGE, clip_settings


def prepared(folder, **changes):
    encoder = ClipEncoder.from_checkpoint(clip_settings(folder, **changes))
    encoder.prepare_to_learn()
    return encoder.train()


def learning(encoder):
    return {name for name, p in encoder.net.named_parameters() if p.requires_grad}


def groups(encoder, **training):
    values = {"training.learning_rate": 1e-3, "training.deep_learning_rate": 5e-3}
    settings = Settings().with_values(
        {**values, **{f"training.{name}": value for name, value in training.items()}}
    )
    return encoder.parameter_groups(settings)


def rates(encoder, **training):
    """Rate of each learning parameter by name."""
    names = {id(p): name for name, p in encoder.net.named_parameters()}
    return {
        names[id(p)]: group["lr"] for group in groups(encoder, **training) for p in group["params"]
    }


def gradients(encoder):
    images = torch.randint(0, 256, (4, 3, IMAGE, IMAGE), generator=torch.Generator().manual_seed(3))
    texts = encoder.encode_text(encoder.text_batch(encoder.tokenise(CAPTIONS[:4])))
    loss = (texts @ encoder.encode_image(images.to(torch.uint8)).T).diagonal().sum()
    encoder.zero_grad()
    loss.backward()
    return {
        name: p.grad.clone() for name, p in encoder.net.named_parameters() if p.grad is not None
    }


@pytest.mark.parametrize("family", ["clip", "siglip"])
class TestFreezing:
    def test_nothing(self, folders, family):
        encoder = prepared(folders[family])
        everything = {name for name, _ in encoder.net.named_parameters()}
        assert learning(encoder) == everything - {"logit_scale", "logit_bias"}

    def test_by_depth(self, folders, family):
        found = learning(prepared(folders[family], frozen_image_layers=1, frozen_text_layers=2))
        assert not any(".embeddings." in name for name in found)
        assert not any(name.startswith("vision_model.encoder.layers.0.") for name in found)
        assert any(name.startswith("vision_model.encoder.layers.1.") for name in found)
        assert not any(name.startswith("text_model.encoder.") for name in found)
        assert any(name.startswith("text_model.final_layer_norm") for name in found)
        assert "vision_model.post_layernorm.weight" in found
        assert "vision_model.pre_layrnorm.weight" not in found

    def test_a_whole_tower(self, folders, family):
        image = learning(prepared(folders[family], frozen_image_layers=-1))
        assert image
        assert all(name.startswith("text") for name in image)
        text = learning(prepared(folders[family], frozen_text_layers=-1))
        assert all(name.startswith("vis") for name in text)

    def test_what_is_frozen_has_no_group_and_no_gradient(self, folders, family):
        encoder = prepared(folders[family], frozen_image_layers=2, frozen_text_layers=1)
        assert set(rates(encoder)) == learning(encoder) == set(gradients(encoder))

    def test_rates_by_depth(self, folders, family):
        encoder = prepared(folders[family])
        assert set(rates(encoder).values()) == {1e-3}
        assert len(groups(encoder)) == 2  # with weight decay and without
        found = rates(encoder, layer_decay=0.5)
        top, low = "text_model.final_layer_norm.weight", "text_model.encoder.layers.0.mlp.fc1.bias"
        assert found[top] == 1e-3
        assert found["vision_model.encoder.layers.1.layer_norm1.weight"] == pytest.approx(5e-4)
        assert found[low] == pytest.approx(2.5e-4)
        assert found["text_model.embeddings.token_embedding.weight"] == pytest.approx(1.25e-4)
        head = "visual_projection.weight" if family == "clip" else "vision_model.head.probe"
        assert found[head] == 1e-3

    def test_biases_and_norms_have_no_weight_decay(self, folders, family):
        for group in groups(prepared(folders[family])):
            plain = "weight_decay" in group
            assert all((p.ndim < 2) == plain for p in group["params"])

    @pytest.mark.parametrize("frozen", [0, 1])
    def test_checkpointing_gives_the_same_gradients(self, folders, family, frozen):
        changes = {"frozen_image_layers": frozen, "frozen_text_layers": frozen}
        wanted = gradients(prepared(folders[family], **changes))
        encoder = prepared(folders[family], gradient_checkpointing=True, **changes)
        calls = []
        block = encoder.net.vision_model.encoder.layers[1]
        block.layer_norm1.register_forward_hook(lambda *_: calls.append(1))
        found = gradients(encoder)
        assert len(calls) == 2  # forward, and again in the backward pass
        assert found.keys() == wanted.keys()
        for name, gradient in wanted.items():
            assert torch.allclose(found[name], gradient, atol=1e-6), name
        encoder.finish()
        calls.clear()
        gradients(encoder)
        assert len(calls) == 1

    @pytest.mark.parametrize("changes", [{}, {"lora_rank": 2}])
    def test_checkpointing_spares_what_is_frozen(self, folders, family, changes):
        """Neither a backward pass nor a second forward one for blocks that do not learn."""
        frozen = {"frozen_image_layers": -1, "frozen_text_layers": 1}
        encoder = prepared(folders[family], gradient_checkpointing=True, **frozen, **changes)
        calls = {"vision_model": [], "text_model": []}
        for tower, seen in calls.items():
            for number, block in enumerate(encoder.net.get_submodule(tower).encoder.layers):
                block.layer_norm1.register_forward_hook(lambda *_, k=number, s=seen: s.append(k))
        gradients(encoder)
        assert calls == {"vision_model": [0, 1], "text_model": [0, 1, 1]}


def test_places():
    counts = {"vision_model": 2, "text_model": 2}
    assert place_of("logit_scale", counts).tower == ""
    assert place_of("vision_model.embeddings.class_embedding", counts).below_top == 3
    assert place_of("vision_model.head.mlp.fc1.weight", counts).below_top == 0
    assert place_of("text_projection.weight", counts).tower == "text_model"


def test_counts(folders):
    encoder = ClipEncoder.from_checkpoint(clip_settings(folders["clip"]))
    assert block_counts(encoder.net) == {"vision_model": 2, "text_model": 2}
