"""Small random CLIP, SigLIP and SigLIP 2 checkpoints, as transformers saves them."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from mmref.config import EncoderSettings

WIDTH, IMAGE, PATCH = 32, 32, 8
CAPTIONS = (
    "A red hat, a blue shoe.",
    "a man with a green coat and a bright bag on his left",
    "yellow",
    "",
    "White shoes; black trousers! A red-brown bag?",
)
TOWER = {
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def clip_checkpoint(folder: Path, *, legacy_end: bool = False, seed: int = 0, **vision) -> Path:
    """A CLIP of width 32 with 16 numbers in its vectors; ``legacy_end``: its end token is "2"."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    words = [f"{a}{b}" for a in "abcdefghijklmnopqrstuvwxyz" for b in ("", "</w>")]
    marks = [f"{a}{b}" for a in "0123456789.,!?;-'<|>ĠÃ©" for b in ("", "</w>")]
    merges = [("r", "e"), ("re", "d</w>"), ("h", "a"), ("ha", "t</w>"), ("a", "n</w>")]
    pieces = words + marks + [a + b for a, b in merges]
    vocab = {piece: k for k, piece in enumerate(dict.fromkeys(pieces))}
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocab[special] = len(vocab)
    start, end = vocab["<|startoftext|>"], vocab["<|endoftext|>"]
    torch.manual_seed(seed)
    text = {
        **TOWER,
        "vocab_size": len(vocab),
        "bos_token_id": start,
        "eos_token_id": 2 if legacy_end else end,
        "pad_token_id": 1,
    }
    picture = {**TOWER, "image_size": IMAGE, "patch_size": PATCH, **vision}
    made = CLIPConfig(text_config=text, vision_config=picture, projection_dim=16)
    CLIPModel(made).save_pretrained(folder)
    CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77).save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE}, crop_size={"height": IMAGE, "width": IMAGE}
    ).save_pretrained(folder)
    return folder


def siglip_checkpoint(folder: Path, *, second: bool = False, seed: int = 0, **vision) -> Path:
    """A SigLIP of width 32 and length 16; ``second``: as fixed-resolution SigLIP 2 has it."""
    from transformers import SiglipConfig, SiglipModel
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=90, special_tokens=["<pad>", "</s>", "<unk>"], show_progress=False
    )
    tokenizer.train_from_iterator(["a red hat and the blue shoes, a bag.", *CAPTIONS], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    torch.manual_seed(seed)
    text = {
        **TOWER,
        "vocab_size": 100,
        "max_position_embeddings": 16,
        "pad_token_id": 0 if second else 1,
        "eos_token_id": 1,
    }
    picture = {**TOWER, "image_size": IMAGE, "patch_size": PATCH, **vision}
    SiglipModel(SiglipConfig(text_config=text, vision_config=picture)).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    facts = {
        "tokenizer_class": "GemmaTokenizer" if second else "SiglipTokenizer",
        "pad_token": "<pad>" if second else "</s>",
        "padding_side": "right",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(facts))
    SiglipImageProcessorPil(size={"height": IMAGE, "width": IMAGE}).save_pretrained(folder)
    return folder


def checkpoint(folder: Path, family: str, **options) -> Path:
    return {
        "clip": clip_checkpoint,
        "siglip": siglip_checkpoint,
        "siglip2": lambda folder, **o: siglip_checkpoint(folder, second=True, **o),
    }[family](folder, **options)


def clip_settings(folder: Path, **changes) -> EncoderSettings:
    values = {"image_height": IMAGE, "image_width": IMAGE, **changes}
    return EncoderSettings(kind="clip", checkpoint=str(folder), **values)
