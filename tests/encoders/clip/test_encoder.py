"""The encoder gives what transformers gives, from the same files."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from mmref.config import EncoderSettings, Settings
from mmref.data.images import image_array
from mmref.data.text import CaptionTokeniser
from mmref.encoders.base import DualEncoder, build_encoder
from mmref.encoders.clip import encoder as module
from mmref.encoders.clip.encoder import ClipEncoder, native_image_size
from mmref.encoders.clip.positions import resize_positions
from mmref.encoders.clip.tokens import TokenBatch
from mmref.encoders.clip.towers import pooled
from mmref.errors import ConfigError, ModelError

from .made import CAPTIONS, IMAGE, checkpoint, clip_checkpoint, clip_settings

FAMILIES = ("clip", "siglip", "siglip2")


def made(folder, **changes):
    return ClipEncoder.from_checkpoint(clip_settings(folder, **changes)).eval()


def reference(folder):
    """The same checkpoint as transformers loads it."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder, local_files_only=True).eval()


def pictures(count=4, size=(IMAGE, IMAGE), seed=1):
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for _ in range(count)]


def pixels(images, size=(IMAGE, IMAGE)):
    return torch.from_numpy(np.stack([image_array(image, size) for image in images]))


def processor(family, folder):
    """The checkpoint's own image processor, without torchvision."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    kind = CLIPImageProcessorPil if family == "clip" else SiglipImageProcessorPil
    return kind.from_pretrained(folder)


def scaled(encoder, images):
    """What the vision tower is given."""
    seen = []
    hook = encoder.net.vision_model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["pixel_values"]), with_kwargs=True
    )
    with torch.no_grad():
        encoder.encode_image(images)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("family", FAMILIES)
class TestParity:
    @pytest.mark.parametrize("factor", [1 / 255, 1 / 127.5])
    def test_pixels_are_those_of_the_processor(self, folders, tmp_path, family, factor):
        folder, images = shutil.copytree(folders[family], tmp_path / "c"), pictures()
        facts = json.loads((folder / "preprocessor_config.json").read_text())
        facts["rescale_factor"] = factor
        (folder / "preprocessor_config.json").write_text(json.dumps(facts))
        wanted = processor(family, folder)(images=images, return_tensors="np")["pixel_values"]
        found = scaled(made(folder), pixels(images))
        assert np.abs(found.numpy() - wanted).max() < 1e-6

    @torch.no_grad()
    def test_image_features(self, folders, family):
        folder, images = folders[family], pictures()
        values = processor(family, folder)(images=images, return_tensors="pt")["pixel_values"]
        wanted = F.normalize(pooled(reference(folder).get_image_features(pixel_values=values)))
        found = made(folder).encode_image(pixels(images))
        assert torch.allclose(found, wanted, atol=1e-5)
        assert found.std(dim=0).max() > 0.01  # else anything would be equal

    @torch.no_grad()
    def test_text_features(self, folders, family):
        folder = folders[family]
        encoder, model = made(folder), reference(folder)
        ids = torch.full((len(CAPTIONS), encoder.tokens.rules.length), encoder.tokens.rules.padding)
        for row, own in enumerate(encoder.tokenise(CAPTIONS)):
            ids[row, : len(own)] = torch.tensor(own)
        wanted = F.normalize(pooled(model.get_text_features(input_ids=ids)))
        found = encoder.encode_text(encoder.text_batch(encoder.tokenise(CAPTIONS)))
        assert torch.allclose(found, wanted, atol=1e-5)
        assert found.std(dim=0).max() > 0.01

    @torch.no_grad()
    def test_half_precision_is_about_the_same(self, folders, family):
        encoder = made(folders[family])
        batch, images = encoder.text_batch(encoder.tokenise(CAPTIONS)), pixels(pictures())
        exact = encoder.encode_text(batch), encoder.encode_image(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = encoder.encode_text(batch), encoder.encode_image(images)
        for one, two in zip(exact, rough, strict=True):
            assert two.dtype == torch.float32
            assert (one * two).sum(dim=1).min() > 0.999
            assert torch.allclose(two.norm(dim=1), torch.ones(len(two)), atol=1e-5)

    def test_the_protocol_and_what_it_says_of_itself(self, folders, family):
        encoder = made(folders[family])
        assert isinstance(encoder, DualEncoder)
        assert encoder.kind == "clip"
        assert encoder.image_size == (IMAGE, IMAGE)
        assert encoder.feature_length is None
        assert encoder.part_dimensions == (encoder.dimension,)
        assert encoder.dimension == (16 if family == "clip" else 32)
        assert float(encoder.deep_share) == 1
        assert not encoder.from_scratch
        assert encoder.text_side is None
        parts = encoder.image_parts(pixels(pictures(2)))
        assert torch.equal(encoder.join(parts), parts[0])

    @torch.no_grad()
    def test_it_is_built_again_from_json_and_weights(self, folders, family):
        words = CaptionTokeniser.learn(CAPTIONS)
        settings = clip_settings(folders[family], image_height=48, image_width=16)
        encoder = ClipEncoder.from_checkpoint(settings, words, words.ids(CAPTIONS)).eval()
        description = json.loads(json.dumps(encoder.architecture()))
        again = build_encoder(description)
        again.load_state_dict(encoder.state_dict())
        again.eval()
        images = pixels(pictures(), (48, 16))
        assert torch.equal(again.encode_image(images), encoder.encode_image(images))
        ids = encoder.tokenise(CAPTIONS)
        assert again.tokenise(CAPTIONS) == ids
        batch = encoder.text_batch(ids)
        assert torch.equal(again.encode_text(again.text_batch(ids)), encoder.encode_text(batch))
        assert again.tokeniser.vocabulary == words.vocabulary
        assert again.architecture() == encoder.architecture()


class TestTrimming:
    @pytest.mark.parametrize("legacy", [False, True])
    @torch.no_grad()
    def test_of_clip_changes_nothing(self, tmp_path, legacy):
        encoder = made(clip_checkpoint(tmp_path / "c", legacy_end=legacy))
        ids = encoder.tokenise(CAPTIONS)
        batch = encoder.text_batch(ids)
        assert batch.ids.shape[1] == max(map(len, ids)) < 77
        full = torch.full((len(ids), 77), encoder.tokens.rules.padding)
        full[:, : batch.ids.shape[1]] = batch.ids
        found = encoder.encode_text(batch), encoder.encode_text(batch._replace(ids=full))
        assert torch.allclose(*found, atol=1e-6)
        alone = encoder.encode_text(encoder.text_batch(ids[2:3]))
        assert torch.allclose(alone[0], found[0][2], atol=1e-6)

    @torch.no_grad()
    def test_of_siglip_would_change_it_and_is_not_done(self, folders):
        encoder = made(folders["siglip"])
        batch = encoder.text_batch(encoder.tokenise(["red"]))
        assert batch.ids.shape == (1, 16)
        trimmed = encoder.encode_text(batch._replace(ids=batch.ids[:, :3]))
        assert not torch.allclose(trimmed, encoder.encode_text(batch), atol=1e-3)


class TestShapes:
    @pytest.mark.parametrize("family", ["clip", "siglip"])
    @torch.no_grad()
    def test_tall_pictures(self, folders, family):
        encoder = made(folders[family], image_height=64, image_width=16)
        images = pixels(pictures(3, (64, 16)), (64, 16))
        found = encoder.encode_image(images)
        assert found.shape == (3, encoder.dimension)
        count = 8 * 2 + (family == "clip")
        found_positions = encoder.net.vision_model.embeddings.position_embedding.weight
        assert len(found_positions) == count
        square = made(folders[family]).net.vision_model.embeddings.position_embedding.weight
        wanted = resize_positions(square, (4, 4), (8, 2), count - 8 * 2)
        assert torch.equal(found_positions, wanted)
        turned = encoder.encode_image(images.flip(2))
        assert not torch.allclose(found, turned, atol=1e-4)

    def test_a_side_that_is_no_multiple_of_the_patch(self, folders):
        with pytest.raises(ConfigError, match=r"multiples of .* patch of 8 pixels: 40 and 16"):
            made(folders["clip"], image_height=44, image_width=16)

    def test_the_native_size(self, folders, tmp_path):
        assert native_image_size(folders["siglip"]) == (IMAGE, IMAGE, 8)
        other = checkpoint(tmp_path / "c", "siglip", image_size=48)
        asked = EncoderSettings(kind="clip", checkpoint=str(other))
        encoder = ClipEncoder.from_checkpoint(asked, native=True)
        assert encoder.image_size == (48, 48)
        assert encoder.settings.image_height == 48


class TestLongCaptions:
    long = "red hat. " * 20 + "blue shoe, green bag. " * 10

    def test_they_are_counted_and_told(self, folders):
        encoder = made(folders["clip"])
        captions = ["red", self.long, self.long + "b", ""]
        assert encoder.truncated(captions) == 2
        (note,) = encoder.notes_on(captions)
        assert note.startswith(
            "2 of 4 captions are longer than the text tower's 77 tokens and were"
        )
        assert "cut: encoder.long_captions=split" in note
        assert encoder.notes_on(["red"]) == []
        (other,) = made(folders["clip"], long_captions="split").notes_on(captions)
        assert "windows of whole sentences" in other

    @torch.no_grad()
    def test_split_is_the_direction_of_the_windows_mean(self, folders):
        for family in ("clip", "siglip"):
            encoder = made(folders[family], long_captions="split")
            ids = encoder.tokenise(["red", self.long, "blue shoe"])
            batch = encoder.text_batch(ids)
            assert batch.captions == 3
            owners = batch.owners.tolist()
            assert owners == sorted(owners)
            assert owners.count(1) > 1
            found = encoder.encode_text(batch)
            windows = batch._replace(owners=None, captions=len(batch.ids))
            each = encoder.encode_text(windows)
            mean = each[torch.tensor(owners) == 1].mean(dim=0)
            assert torch.allclose(found[1], F.normalize(mean, dim=0), atol=1e-5)
            short = encoder.encode_text(encoder.text_batch([ids[0], ids[2]]))
            assert torch.allclose(found[[0, 2]], short, atol=1e-6)

    @torch.no_grad()
    def test_what_comes_late_counts_only_when_split(self, folders):
        one, two = self.long, self.long + "white trousers. " * 5
        for how, same in (("cut", True), ("split", False)):
            encoder = made(folders["clip"], long_captions=how)
            a, b = encoder.encode_text(encoder.text_batch(encoder.tokenise([one, two])))
            assert torch.allclose(a, b, atol=1e-6) is same


class TestSettings:
    def test_word_dropout_is_refused(self):
        with pytest.raises(ConfigError, match=r"training.word_dropout .* set it to 0"):
            Settings().with_values({"encoder.kind": "clip", "training.word_dropout": 0.1})

    def test_nothing_that_learns_is_refused(self):
        frozen = {
            "encoder.kind": "clip",
            "encoder.frozen_image_layers": -1,
            "encoder.frozen_text_layers": -1,
        }
        Settings().with_values(frozen)  # the references learn
        with pytest.raises(ConfigError, match="nothing would learn"):
            Settings().with_values(
                {
                    **frozen,
                    "references.fusion_weight": 0,
                    "references.guidance_weight": 0,
                }
            )

    def test_more_frozen_blocks_than_there_are(self, folders):
        encoder = made(folders["clip"], frozen_text_layers=3)
        with pytest.raises(ConfigError, match=r"frozen_text_layers is 3, .* 2 blocks: -1"):
            encoder.prepare_to_learn()


def test_a_tokeniser_of_another_checkpoint_is_noticed(folders, tmp_path):
    mixed = shutil.copytree(folders["clip"], tmp_path / "mixed")
    shutil.copy(folders["siglip"] / "tokenizer.json", mixed / "tokenizer.json")
    with pytest.raises(ModelError, match="they are of two checkpoints"):
        made(mixed)


class TestGroups:
    """Captions of about one length are encoded together; which ones changes nothing."""

    captions = ("red", *CAPTIONS * 3, "a red hat " * 9, "b", "a red hat " * 30)

    @pytest.mark.parametrize("how", ["cut", "split"])
    def test_they_change_no_vector(self, folders, monkeypatch, how):
        found = made(folders["clip"], long_captions=how)
        batch = found.text_batch(found.tokenise(self.captions))
        with torch.no_grad():
            wanted = found.encode_text(batch._replace(lengths=()))
            widths = []
            found.net.text_model.register_forward_pre_hook(
                lambda _, args, kwargs: widths.append(tuple(kwargs["input_ids"].shape)),
                with_kwargs=True,
            )
            for least in (1, 60, 10**6):
                monkeypatch.setitem(module.LEAST_TOKENS, "cpu", least)
                widths.clear()
                assert torch.allclose(found.encode_text(batch), wanted, atol=1e-6)
                assert sum(rows for rows, _ in widths) == len(batch.ids)
                assert [w for _, w in widths] == sorted(w for _, w in widths)
                assert (len(widths) == 1) == (least == 10**6)
                assert min(w for _, w in widths) < 77 or least == 10**6

    def test_gradients_are_the_same(self, folders, monkeypatch):
        found = made(folders["clip"])
        batch = found.text_batch(found.tokenise(self.captions))
        weight = found.net.text_model.encoder.layers[0].mlp.fc1.weight
        gradients = []
        for least in (1, 10**6):
            monkeypatch.setitem(module.LEAST_TOKENS, "cpu", least)
            found.zero_grad()
            (found.encode_text(batch) ** 3).sum().backward()
            gradients.append(weight.grad.clone())
        assert torch.allclose(*gradients, atol=1e-6)

    def test_siglip_has_none(self, folders):
        found = made(folders["siglip"])
        batch = found.text_batch(found.tokenise(self.captions))
        assert batch.groups(1) == [list(range(len(self.captions)))]
        assert batch.to("cpu").lengths == ()

    @given(st.lists(st.integers(1, 77), max_size=40), st.integers(1, 3000))
    def test_every_row_is_in_one_group_and_groups_are_worth_it(self, lengths, least):
        batch = TokenBatch(torch.zeros(len(lengths), 77), None, len(lengths), tuple(lengths))
        groups = batch.groups(least)
        assert sorted(row for rows in groups for row in rows) == list(range(len(lengths)))
        if len(groups) > 1:
            assert all(len(rows) * max(lengths[r] for r in rows) >= least for rows in groups)
        flat = [lengths[row] for rows in groups for row in rows]
        assert flat == sorted(flat)
