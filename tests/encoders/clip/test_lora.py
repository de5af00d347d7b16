import pytest
import torch

from mmref.encoders.clip.encoder import ClipEncoder

from .made import CAPTIONS, IMAGE, clip_settings
from .test_freezing import gradients, learning, prepared, rates


@torch.no_grad()
def vectors(encoder):
    images = torch.randint(0, 256, (4, 3, IMAGE, IMAGE), generator=torch.Generator().manual_seed(5))
    texts = encoder.encode_text(encoder.text_batch(encoder.tokenise(CAPTIONS)))
    return torch.cat([texts, encoder.encode_image(images.to(torch.uint8))])


@pytest.mark.parametrize("family", ["clip", "siglip"])
class TestAdapters:
    def test_they_start_as_the_checkpoint(self, folders, family):
        plain = ClipEncoder.from_checkpoint(clip_settings(folders[family])).eval()
        adapted = prepared(folders[family], lora_rank=2).eval()
        assert torch.equal(vectors(adapted), vectors(plain))

    def test_they_alone_learn_beside_every_projection_of_the_blocks(self, folders, family):
        encoder = prepared(folders[family], lora_rank=2)
        found = learning(encoder)
        assert len(found) == 2 * 2 * 6 * 2  # towers, blocks, projections, matrices
        assert all("lora_" in name and ".encoder.layers." in name for name in found)
        assert set(rates(encoder).values()) == {5e-3}
        assert set(gradients(encoder)) == found

    def test_frozen_blocks_have_none(self, folders, family):
        encoder = prepared(folders[family], lora_rank=2, frozen_image_layers=-1)
        assert all(name.startswith("text_model") for name in learning(encoder))
        encoder = prepared(folders[family], lora_rank=2, frozen_text_layers=1)
        assert not any(name.startswith("text_model.encoder.layers.0") for name in learning(encoder))

    def test_merging_keeps_the_vectors_and_the_names_of_the_checkpoint(self, folders, family):
        encoder = prepared(folders[family], lora_rank=2, lora_alpha=7.5, lora_dropout=0.3)
        optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], 0.5)
        start = vectors(encoder.eval())
        for _ in range(3):
            gradients(encoder.train())
            optimizer.step()
        learnt = vectors(encoder.eval())
        assert not torch.allclose(learnt, start, atol=1e-2)
        encoder.finish()
        assert torch.allclose(vectors(encoder), learnt, atol=1e-5)
        plain = ClipEncoder.from_checkpoint(clip_settings(folders[family]))
        assert encoder.state_dict().keys() == plain.state_dict().keys()
        again = ClipEncoder.build(encoder.architecture()).eval()
        again.load_state_dict(encoder.state_dict())
        assert torch.equal(vectors(again), vectors(encoder))
