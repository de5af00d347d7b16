"""Captions -> the text side of both parts: weighted n-grams, and a small transformer.

The closed-form part reads n-grams (TF-IDF of words, word pairs and runs of characters), which learn
from a few hundred captions; the deep part reads words and their neighbours, and a transformer, off
by default, adds wider order where there is data to learn it from. Our choice.
"""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmref.data.ngrams import NGramVocabulary
from mmref.data.text import MASK, PADDING, CaptionTokeniser, pad
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


class GatedWords(nn.Module):
    """Words, and what a word makes of those shortly behind it: "red" of "hat" in "a red hat".

    ``sum_i w_i h_i + sum_i sum_k (A h_i) * (B_k h_{i+k})`` over the words' weighted embeddings h. A
    bag of words cannot tell a red hat and blue shoes from a blue hat and red shoes; pairs of
    words as features of their own can, but are too rare each to be learnt. Here a pair is made
    from its words, so synonyms share what is learnt. Our choice.

    Args:
        idf: inverse document frequency of each word, 0 for those that say nothing, Tensor[v].
        out: numbers of the result.
        window: how many words behind are looked at.

    Example:
        >>> words = GatedWords(torch.ones(9), out=4)
        >>> a, b = words(torch.tensor([[4, 5, 6], [6, 5, 4]]))
        >>> bool(torch.allclose(a, b))
        False
    """

    idf: Tensor

    def __init__(self, idf: Tensor, out: int, window: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(idf), out)
        nn.init.normal_(self.embedding.weight, std=out**-0.5)
        self.gate = nn.Linear(out, out, bias=False)
        nn.init.orthogonal_(self.gate.weight, gain=0.3 * out**0.5)
        self.behind = nn.ModuleList(nn.Linear(out, out, bias=False) for _ in range(window))
        for layer in self.behind:
            assert isinstance(layer, nn.Linear)
            nn.init.orthogonal_(layer.weight)
        self.register_buffer("idf", idf / idf.mean().clamp(min=1e-6))

    def forward(self, words: Tensor) -> Tensor:
        """Token ids, padded, Tensor[n, l] -> Tensor[n, out]."""
        # Each word once: a batch holds thousands of tokens but few different words.
        distinct, where = torch.unique(words, return_inverse=True)
        weight = self.idf[distinct] * (distinct > MASK)
        hidden = self.embedding(distinct) * weight[:, None]
        total: Tensor = F.embedding(where, hidden).sum(dim=1)
        gates = F.embedding(where, self.gate(hidden))
        for step, layer in enumerate(self.behind, 1):
            if step < words.shape[1]:
                behind = F.embedding(where[:, step:], layer(hidden))
                total = total + (gates[:, :-step] * behind).sum(dim=1)
        return total


class DeepText(nn.Module):
    """The deep part's text side: gated words plus a transformer's output.

    Args:
        tokeniser: gives the vocabulary's size.
        idf: inverse document frequency of each word, Tensor[v].
        out: numbers of the result.
        depth: transformer layers; 0 for none.
        width: their width.
        length: longest caption in words.
        dropout: inside the transformer.
    """

    def __init__(
        self,
        tokeniser: CaptionTokeniser,
        idf: Tensor,
        out: int,
        *,
        depth: int,
        width: int,
        length: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.words = GatedWords(idf, out)
        self.transformer = (
            WordTransformer(len(tokeniser), out, depth, width, length, dropout) if depth else None
        )

    def forward(self, batch: TextBatch) -> Tensor:
        """Tensor[n, out], not normalised."""
        projected: Tensor = self.words(batch.words)
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
