import json

import pytest
import torch

from mmref.encoders.base import DualEncoder, TextBatch, build_encoder, registry
from mmref.errors import ConfigError

from .made import CAPTIONS, encode, inputs, made

KINDS = ("compact", "features")
# The parts in use: closed form, deep, both, and both with a transformer.
PARTS = (
    {"deep": 0},
    {"block": 0},
    {},
    {"text_depth": 1},
    {"block": 0, "text_depth": 2},
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parts", PARTS, ids=["closed", "deep", "both", "words", "deep-words"])
class TestEveryEncoder:
    def test_keeps_the_protocol(self, kind: str, parts: dict[str, int]) -> None:
        encoder = made(kind, **parts)
        assert isinstance(encoder, DualEncoder)
        assert isinstance(encoder, torch.nn.Module)
        assert encoder.kind == kind
        assert (encoder.image_size is None) != (encoder.feature_length is None)
        assert encoder.dimension == sum(encoder.part_dimensions)

    def test_vectors_have_unit_length(self, kind: str, parts: dict[str, int]) -> None:
        encoder = made(kind, **parts)
        texts = encode(encoder, *CAPTIONS[:-1], "hat", "a very long red " + "bag " * 300)
        images = encoder.encode_image(inputs(kind, 9, seed=3))
        for vectors, count in ((texts, 7), (images, 9)):
            assert vectors.shape == (count, encoder.dimension)
            assert vectors.dtype == torch.float32
            assert torch.allclose(vectors.norm(dim=1), torch.ones(count), atol=1e-5)

    def test_parts_have_unit_length_too(self, kind: str, parts: dict[str, int]) -> None:
        encoder = made(kind, **parts)
        batch = encoder.text_batch(encoder.tokenise(CAPTIONS[:3]))
        for side in (encoder.text_parts(batch), encoder.image_parts(inputs(kind, 3))):
            assert tuple(part.shape[1] for part in side) == encoder.part_dimensions
            for part in side:
                assert torch.allclose(part.norm(dim=1), torch.ones(3), atol=1e-5)

    def test_company_changes_no_vector(self, kind: str, parts: dict[str, int]) -> None:
        """Neither other captions, nor their lengths, nor other images."""
        encoder = made(kind, **parts)
        captions = ["hat", "a red hat and a bag with green shoes", "coat", "", "zebra", "a bag"]
        together = encode(encoder, *captions)
        alone = torch.cat([encode(encoder, caption) for caption in captions])
        assert (together - alone).abs().max() < 1e-6
        turned = encode(encoder, *captions[::-1]).flip(0)
        assert (together - turned).abs().max() < 1e-6
        images = inputs(kind, 7, seed=3)
        with torch.no_grad():
            together = encoder.encode_image(images)
            alone = torch.cat([encoder.encode_image(image[None]) for image in images])
        assert (together - alone).abs().max() < 1e-5

    def test_built_again_it_gives_equal_vectors(self, kind: str, parts: dict[str, int]) -> None:
        encoder = made(kind, **parts)
        architecture = json.loads(json.dumps(encoder.architecture()))
        again = build_encoder(architecture)
        assert isinstance(again, torch.nn.Module)
        again.load_state_dict(encoder.state_dict())
        again.eval()
        captions = (*CAPTIONS, "red red red shoes and a blue coat", "zebra")
        assert again.tokenise(captions) == encoder.tokenise(captions)
        assert (encode(again, *captions) - encode(encoder, *captions)).abs().max() < 1e-6
        images = inputs(kind, 5, seed=3)
        assert torch.equal(again.encode_image(images), encoder.encode_image(images))
        assert again.architecture() == encoder.architecture()

    def test_inputs_stay_as_they_are(self, kind: str, parts: dict[str, int]) -> None:
        encoder, images = made(kind, **parts), inputs(kind)
        before = images.clone()
        batch = encoder.text_batch(encoder.tokenise(CAPTIONS))
        words = batch.words.clone()
        encoder.train()
        encoder.encode_image(images)
        encoder.encode_text(batch)
        assert torch.equal(images, before)
        assert torch.equal(batch.words, words)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parts", PARTS[:3], ids=["closed", "deep", "both"])
def test_no_captions_are_no_vectors(kind: str, parts: dict[str, int]) -> None:
    encoder = made(kind, **parts)
    assert encode(encoder).shape == (0, encoder.dimension)


@pytest.mark.parametrize("kind", KINDS)
class TestUnknownWords:
    @pytest.mark.parametrize("parts", PARTS[:3], ids=["closed", "deep", "both"])
    @pytest.mark.parametrize("caption", ["", "!!!", "zebra", "zebra giraffe"])
    def test_alone_they_give_the_zero_vector(self, kind, parts, caption) -> None:
        vectors = encode(made(kind, **parts), "red hat", caption)
        assert vectors[1].abs().max() == 0
        assert vectors[0].norm() > 0.99

    @pytest.mark.parametrize("parts", PARTS[3:], ids=["words", "deep-words"])
    @pytest.mark.parametrize("caption", ["", "zebra"])
    def test_also_with_a_transformer(self, kind, parts, caption) -> None:
        assert encode(made(kind, **parts), caption).abs().max() == 0

    @pytest.mark.parametrize("parts", PARTS[:3], ids=["closed", "deep", "both"])
    def test_beside_known_ones_they_change_nothing(self, kind, parts) -> None:
        encoder = made(kind, **parts)
        assert torch.equal(encode(encoder, "red hat zebra"), encode(encoder, "red hat"))

    @pytest.mark.parametrize("parts", PARTS[:3], ids=["closed", "deep", "both"])
    def test_the_closed_form_part_knows_runs_of_their_characters(self, kind, parts) -> None:
        """ "redder" is nearer to "red" than to "bag"; the deep part knows whole words alone."""
        vectors = encode(made(kind, **parts), "redder", "red", "bag")
        if "block" in parts:
            assert vectors[0].abs().max() == 0
        else:
            assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.1

    def test_a_special_token_is_a_word_like_any_other(self, kind) -> None:
        vectors = encode(made(kind, text_depth=1), "[PAD]", "[MASK]", "red [PAD] hat")
        assert torch.isfinite(vectors).all()


@pytest.mark.parametrize("kind", KINDS)
class TestShares:
    def test_cosine_is_the_weighted_sum_of_the_parts(self, kind: str) -> None:
        encoder = made(kind)
        batch, images = encoder.text_batch(encoder.tokenise(CAPTIONS[:4])), inputs(kind, 5)
        texts, pictures = encoder.text_parts(batch), encoder.image_parts(images)
        closed, deep = (t @ v.T for t, v in zip(texts, pictures, strict=True))
        for share in (0.0, 0.25, 0.5, 1.0):
            encoder.deep_share.fill_(share)
            score = encoder.encode_text(batch) @ encoder.encode_image(images).T
            assert torch.allclose(score, (1 - share) * closed + share * deep, atol=1e-5)

    @pytest.mark.parametrize(("share", "part"), [(0.0, 0), (1.0, 1)])
    def test_at_its_ends_one_part_speaks_alone(self, kind: str, share: float, part: int) -> None:
        encoder = made(kind)
        encoder.deep_share.fill_(share)
        images = inputs(kind, 5)
        vectors, parts = encoder.encode_image(images), encoder.image_parts(images)
        assert torch.isfinite(vectors).all()
        assert torch.allclose(vectors.norm(dim=1), torch.ones(5), atol=1e-5)
        spans = torch.split(vectors, encoder.part_dimensions, dim=1)
        assert torch.equal(spans[part], parts[part])
        assert spans[1 - part].abs().max() == 0
        texts = encode(encoder, *CAPTIONS[:2])
        assert torch.allclose(texts.norm(dim=1), torch.ones(2), atol=1e-5)

    def test_share_is_stored_with_the_weights(self, kind: str) -> None:
        encoder = made(kind)
        encoder.deep_share.fill_(0.75)
        again = build_encoder(encoder.architecture())
        again.load_state_dict(encoder.state_dict())  # type: ignore[attr-defined]
        assert again.deep_share == 0.75  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_stored_before_there_were_runs_of_characters_is_built(kind: str) -> None:
    encoder = made(kind, character_weight=0, kernel="random")
    architecture = json.loads(json.dumps(encoder.architecture()))
    for name in ("character_weight", "kernel"):
        del architecture["settings"][name]
    for name in ("runs", "weight"):
        del architecture["ngrams"][name]
    again = build_encoder(architecture)
    assert isinstance(again, torch.nn.Module)
    again.load_state_dict(encoder.state_dict())
    again.eval()
    assert torch.equal(encode(again, *CAPTIONS, "redder"), encode(encoder, *CAPTIONS, "redder"))
    assert torch.equal(again.encode_image(inputs(kind)), encoder.encode_image(inputs(kind)))


class TestRegistry:
    def test_unknown_kind(self) -> None:
        with pytest.raises(ConfigError, match="unknown encoder 'clop': choose one of clip"):
            build_encoder({"kind": "clop"})

    def test_names_are_the_kinds(self) -> None:
        assert set(registry()) == {"clip", "compact", "features"}
        for kind in ("compact", "features"):  # clip: tests/encoders/clip
            assert build_encoder(made(kind).architecture()).kind == kind


def test_text_batch_moves_all_its_parts() -> None:
    encoder = made("features")
    batch = encoder.text_batch(encoder.tokenise(CAPTIONS))
    moved = batch.to("meta")
    assert isinstance(moved, TextBatch)
    assert {part.device.type for part in moved} == {"meta"}
    assert [part.shape for part in moved] == [part.shape for part in batch]
