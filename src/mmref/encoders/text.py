"""Captions -> the two blocks of the text vector: weighted n-grams, and a small transformer.

The n-grams (TF-IDF of words and word pairs) learn from a few hundred captions; the transformer,
off by default, adds word order where there is data to learn it from. Our choice.
"""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmref.data.text import PADDING, CaptionTokeniser, NGramVocabulary, pad
from mmref.encoders.base import TextBatch


class TextTower(nn.Module):
    """Two blocks of ``block`` numbers from a caption.

    Args:
        tokeniser: words to ids.
        ngrams: ids to weighted n-gram features.
        block: numbers in each block.
        depth: transformer layers; 0 for none.
        width: their width.
        length: longest caption in words.
        dropout: inside the transformer.
    """

    def __init__(
        self,
        tokeniser: CaptionTokeniser,
        ngrams: NGramVocabulary,
        *,
        block: int,
        depth: int = 0,
        width: int = 128,
        length: int = 96,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.tokeniser, self.ngrams, self.length, self.block = tokeniser, ngrams, length, block
        self.image_block = nn.EmbeddingBag(len(ngrams), block, mode="sum")
        self.text_block = nn.EmbeddingBag(len(ngrams), block, mode="sum")
        for bag in (self.image_block, self.text_block):
            nn.init.normal_(bag.weight, std=block**-0.5)
        self.text_centre = nn.Parameter(torch.zeros(block))
        self.transformer = (
            WordTransformer(len(tokeniser), 2 * block, depth, width, length, dropout)
            if depth
            else None
        )

    def batch(self, captions: Sequence[Sequence[int]]) -> TextBatch:
        """Token ids -> tensors; captions beyond ``length`` words are cut for the transformer."""
        rows = [self.ngrams.features(ids) for ids in captions]
        counts = [0, *(len(features) for features, _ in rows)][: len(rows)]
        return TextBatch(
            torch.tensor(list(chain.from_iterable(f for f, _ in rows)), dtype=torch.long),
            torch.tensor(list(chain.from_iterable(w for _, w in rows)), dtype=torch.float32),
            torch.tensor(counts, dtype=torch.long).cumsum(0),
            pad(captions, longest=self.length),
        )

    def forward(self, batch: TextBatch) -> tuple[Tensor, Tensor]:
        """The two blocks, not normalised, Tensor[n, block] each."""
        image = self.image_block(batch.features, batch.offsets, per_sample_weights=batch.weights)
        text = self.text_block(batch.features, batch.offsets, per_sample_weights=batch.weights)
        text = text - self.text_centre
        if self.transformer is not None:
            image_deep, text_deep = self.transformer(batch.words).chunk(2, dim=1)
            image, text = image + image_deep, text + text_deep
        return image, text


class WordTransformer(nn.Module):
    """A small pre-norm transformer over words, mean-pooled; its output starts at zero."""

    def __init__(
        self, vocabulary: int, out: int, depth: int, width: int, length: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PADDING)
        nn.init.normal_(self.embedding.weight, std=0.05)
        self.position = nn.Parameter(torch.randn(length, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width,
            max(1, width // 32),
            2 * width,
            dropout,
            "gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, out)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.dropout = dropout

    def forward(self, words: Tensor) -> Tensor:
        """Token ids Tensor[n, l] -> Tensor[n, out]."""
        padding = words == PADDING
        hidden = self.embedding(words) + self.position[: words.shape[1]]
        hidden = F.dropout(hidden, self.dropout, self.training)
        hidden = self.norm(self.layers(hidden, src_key_padding_mask=padding))
        present = (~padding).unsqueeze(-1)
        pooled = (hidden * present).sum(dim=1) / present.sum(dim=1)
        out: Tensor = self.out(pooled)
        return out
