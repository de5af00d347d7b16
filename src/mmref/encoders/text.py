"""Captions -> the text side of both parts: weighted n-grams, and a small transformer.

The n-grams (TF-IDF of words and word pairs) learn from a few hundred captions; the transformer,
off by default, adds word order where there is data to learn it from. Our choice.
"""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmref.data.text import MASK, PADDING, CaptionTokeniser, NGramVocabulary, pad
from mmref.encoders.base import TextBatch


def text_batch(
    captions: Sequence[Sequence[int]], ngrams: NGramVocabulary, longest: int
) -> TextBatch:
    """Token ids -> tensors; captions beyond ``longest`` words are cut for the transformer."""
    rows = [ngrams.features(ids) for ids in captions]
    counts = [0, *(len(features) for features, _ in rows)][: len(rows)]
    return TextBatch(
        torch.tensor(list(chain.from_iterable(f for f, _ in rows)), dtype=torch.long),
        torch.tensor(list(chain.from_iterable(w for _, w in rows)), dtype=torch.float32),
        torch.tensor(counts, dtype=torch.long).cumsum(0),
        pad(captions, longest=longest),
    )


class NGramProjection(nn.Module):
    """A linear map of a caption's weighted n-grams: an embedding bag.

    Args:
        ngrams: number of n-gram features.
        out: numbers of the result.
    """

    def __init__(self, ngrams: int, out: int) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(ngrams, out, mode="sum")
        nn.init.normal_(self.bag.weight, std=out**-0.5)

    def forward(self, batch: TextBatch) -> Tensor:
        """Tensor[n, out]."""
        out: Tensor = self.bag(batch.features, batch.offsets, per_sample_weights=batch.weights)
        return out


class DeepText(nn.Module):
    """The deep part's text side: an n-gram projection plus a transformer's output.

    Args:
        tokeniser: gives the vocabulary's size.
        ngrams: number of n-gram features.
        out: numbers of the result.
        depth: transformer layers; 0 for none.
        width: their width.
        length: longest caption in words.
        dropout: inside the transformer.
    """

    def __init__(
        self,
        tokeniser: CaptionTokeniser,
        ngrams: int,
        out: int,
        *,
        depth: int,
        width: int,
        length: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.ngrams = NGramProjection(ngrams, out)
        self.transformer = (
            WordTransformer(len(tokeniser), out, depth, width, length, dropout) if depth else None
        )

    def forward(self, batch: TextBatch) -> Tensor:
        """Tensor[n, out], not normalised."""
        projected: Tensor = self.ngrams(batch)
        if self.transformer is not None:
            known = (batch.words > MASK).any(dim=1, keepdim=True)
            projected = projected + self.transformer(batch.words) * known
        return projected


class WordTransformer(nn.Module):
    """A small pre-norm transformer over words, mean-pooled; its output starts at zero."""

    def __init__(
        self, vocabulary: int, out: int, depth: int, width: int, length: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PADDING)
        nn.init.normal_(self.embedding.weight, std=0.05)
        self.position = nn.Parameter(torch.randn(length, width) * 0.02)
        heads = next(n for n in range(max(1, width // 32), 0, -1) if width % n == 0)
        layer = nn.TransformerEncoderLayer(
            width,
            heads,
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
