"""Local reconstruction: masked words of a caption are predicted from its object's reference.

Source: the paper, ``H = FFN2(MCA(FFN1(MSA(Q)), K, V))`` with Q the masked caption and K, V made
from the reference, then a masked-language-model head. Our choices: pre-norm and residuals, depth
one, several key/value tokens (with a single one, cross-attention is a mere bias), a light
embedding of its own, tied weights, logits at masked positions alone. Two more, for a decoder that
starts from nothing: a convolution over three words to either side lets it read its neighbours from
the first step, and the logits get a linear reading of the reference, what is easily learnt.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_REACH = 3  # words to either side
_GAIN = 3.0  # brings embeddings to the scale that a convolution starts for


class ReconstructionDecoder(nn.Module):
    """Predicts masked words from the words around them and a reference.

    Args:
        vocabulary: number of token ids; id ``padding`` is the padding.
        dimension: d of the references.
        width: h of the decoder.
        tokens: T_r, key/value tokens made from one reference.
        heads: attention heads; ``width`` is a multiple of it.
        length: longest caption, in tokens.
        dropout: share dropped after attention and in the feed-forward parts.
        padding: the padding's id.

    Example:
        >>> decoder = ReconstructionDecoder(vocabulary=20, dimension=8, width=16, tokens=4)
        >>> words = torch.tensor([[5, 2, 7, 0]])
        >>> masked = torch.tensor([[False, True, False, False]])
        >>> decoder(words, masked, torch.randn(1, 8)).shape
        torch.Size([1, 20])
    """

    def __init__(
        self,
        vocabulary: int,
        dimension: int,
        *,
        width: int = 128,
        tokens: int = 4,
        heads: int = 4,
        length: int = 128,
        dropout: float = 0.1,
        padding: int = 0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        if tokens < 1:
            raise ValueError(f"tokens must be at least 1, not {tokens}")
        self.tokens, self.padding, self.length = tokens, padding, length
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=padding)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.neighbours = nn.Conv1d(width, width, 2 * _REACH + 1, padding=_REACH)
        self.readout = nn.Linear(dimension, vocabulary, bias=False)
        nn.init.zeros_(self.readout.weight)
        self.position = nn.Parameter(torch.randn(length, width) * 0.02)
        self.memory = nn.Linear(dimension, tokens * width)
        self.memory_norm = nn.LayerNorm(width)
        self.self_norm, self.cross_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.feed1, self.feed2 = _feed_forward(width, dropout), _feed_forward(width, dropout)
        self.out_norm = nn.LayerNorm(width)
        self.out_bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, words: Tensor, masked: Tensor, references: Tensor | None) -> Tensor:
        """Logits of the masked positions.

        Args:
            words: token ids with masks put in, on a copy of the caption, Tensor[n, l].
            masked: positions to predict, boolean Tensor[n, l].
            references: the reference of each caption, Tensor[n, d]; None leaves the
                cross-attention out (the control "no reference").

        Returns:
            Tensor[masked positions, vocabulary], row by row of ``masked``.

        Raises:
            ValueError: the shapes do not fit or captions exceed ``length``.
        """
        if words.shape != masked.shape:
            raise ValueError(f"words {tuple(words.shape)} and masked {tuple(masked.shape)} differ")
        if words.shape[1] > self.length:
            raise ValueError(f"captions of {words.shape[1]} tokens exceed {self.length}")
        hidden = self.embedding(words)
        real = (words != self.padding).unsqueeze(-1)
        mixed = self.neighbours((_GAIN * hidden * real).transpose(1, 2)).transpose(1, 2)
        hidden = hidden + mixed + self.position[: words.shape[1]]
        context = self.self_norm(hidden)
        # With a depth of one nothing reads the other positions again: only masked ones go on.
        counts = masked.sum(dim=1, keepdim=True)
        most = max(1, int(counts.max()))
        places = masked.int().argsort(dim=1, descending=True, stable=True)[:, :most]
        places_of = places.unsqueeze(-1).expand(-1, -1, hidden.shape[2])
        hidden, query = hidden.gather(1, places_of), context.gather(1, places_of)
        hidden = (
            hidden
            + self.self_attention(
                query,
                context,
                context,
                key_padding_mask=words == self.padding,
                need_weights=False,
            )[0]
        )
        hidden = hidden + self.feed1(hidden)
        if references is not None:
            memory = self.memory(references).view(len(references), self.tokens, -1)
            memory = self.memory_norm(memory)
            query = self.cross_norm(hidden)
            hidden = hidden + self.cross_attention(query, memory, memory, need_weights=False)[0]
        hidden = hidden + self.feed2(hidden)
        chosen = self.out_norm(hidden[torch.arange(most, device=masked.device) < counts])
        logits: Tensor = chosen @ self.embedding.weight.T + self.out_bias
        if references is not None:
            # A unit vector's numbers are small: at this scale the readout learns like the rest.
            told = self.readout(references * references.shape[1] ** 0.5)
            logits = logits + told.repeat_interleave(counts[:, 0], dim=0)
        return logits


def _feed_forward(width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, 2 * width),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(2 * width, width),
    )


def reconstruction(
    decoder: ReconstructionDecoder,
    words: Tensor,
    masked_words: Tensor,
    masked: Tensor,
    references: Tensor | None,
) -> Tensor:
    """L_rec: mean cross-entropy of the masked words (the paper's local reconstruction).

    Args:
        decoder: the decoder.
        words: the caption's own token ids, Tensor[n, l].
        masked_words: the same with masks put in (a copy), Tensor[n, l].
        masked: masked positions, boolean Tensor[n, l].
        references: the reference of each caption's object, Tensor[n, d].

    Returns:
        A scalar; zero (with a gradient of zero) when nothing is masked.
    """
    logits: Tensor = decoder(masked_words, masked, references)
    if len(logits) == 0:
        return logits.sum()
    return F.cross_entropy(logits.float(), words[masked])


@torch.no_grad()
def masked_accuracy(
    decoder: ReconstructionDecoder,
    words: Tensor,
    masked_words: Tensor,
    masked: Tensor,
    references: Tensor | None,
) -> Tensor:
    """Which masked words the decoder's best guess names, boolean Tensor[masked positions]."""
    logits: Tensor = decoder(masked_words, masked, references)
    return logits.argmax(dim=-1) == words[masked]
