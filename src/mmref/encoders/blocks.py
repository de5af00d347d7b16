"""The vector's two blocks, and how they start from closed-form solutions.

A vector is two blocks side by side (our choice). In the *image block* an image is a rotation of
its descriptor and a caption is what ridge regression predicts of that from its n-grams. In the
*text block* a caption is a projection of its n-grams and an image is what kernel ridge regression
(random Fourier features of the descriptor) predicts of that. Each direction errs in its own way,
so the sum of the two cosines is better than either, and training goes on from there.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmref.config import EncoderSettings
from mmref.data.text import CaptionTokeniser, NGramVocabulary
from mmref.encoders.base import TextBatch
from mmref.encoders.text import TextTower

LARGEST_SOLVE = 4000  # rows of a closed-form solution; more are drawn at random


class ImageHead(nn.Module):
    """A descriptor of unit length -> the two blocks.

    Args:
        length: f, numbers of the descriptor.
        block: numbers in each block.
        kernel_features: number of random Fourier features.
        kernel_width: gamma of the Gaussian kernel exp(-gamma |x - y|^2) that they approximate.
        dropout: share of the descriptor's numbers dropped in training.
    """

    directions: Tensor
    phases: Tensor

    def __init__(
        self,
        length: int,
        *,
        block: int,
        kernel_features: int = 1024,
        kernel_width: float = 0.5,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        chance = torch.Generator().manual_seed(0)
        directions = torch.randn(length, kernel_features, generator=chance)
        self.register_buffer("directions", directions * math.sqrt(2 * kernel_width))
        phases = torch.rand(kernel_features, generator=chance) * 2 * math.pi
        self.register_buffer("phases", phases)
        self.image_block = nn.Linear(length, block, bias=False)
        self.text_block = nn.Linear(kernel_features, block)

    def kernel(self, descriptors: Tensor) -> Tensor:
        """Random Fourier features (Rahimi and Recht 2007), Tensor[n, kernel_features]."""
        scale = math.sqrt(2 / len(self.phases))
        return torch.cos(descriptors @ self.directions + self.phases) * scale

    def forward(self, descriptors: Tensor) -> tuple[Tensor, Tensor]:
        """Unit descriptors Tensor[n, f] -> two blocks, not normalised, Tensor[n, block] each."""
        descriptors = F.dropout(descriptors, self.dropout, self.training)
        return self.image_block(descriptors), self.text_block(self.kernel(descriptors))


class TwoBlockEncoder(nn.Module):
    """What ``compact`` and ``features`` share: text tower, image head, and how they join.

    A subclass gives ``describe`` (input -> unit descriptor) and, if it has one, ``deep`` (input
    -> both blocks, added to the head's).
    """

    kind = "abstract"

    def __init__(
        self,
        settings: EncoderSettings,
        tokeniser: CaptionTokeniser,
        ngrams: NGramVocabulary,
        descriptor_length: int,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.dimension = 2 * settings.block
        self.text = TextTower(
            tokeniser,
            ngrams,
            block=settings.block,
            depth=settings.text_depth,
            width=settings.text_width,
            length=settings.caption_length,
            dropout=settings.dropout,
        )
        self.head = ImageHead(
            descriptor_length,
            block=settings.block,
            kernel_features=settings.kernel_features,
            kernel_width=settings.kernel_width,
            dropout=settings.input_dropout,
        )
        self.balance = nn.Parameter(torch.zeros(()))
        self.descriptor_length = descriptor_length

    def describe(self, images: Tensor) -> Tensor:
        """Inputs -> unit descriptors, Tensor[n, f]."""
        raise TypeError(f"{type(self).__name__} must define describe")

    def deep(self, images: Tensor) -> Tensor | None:
        """Inputs -> what is added to both blocks, Tensor[n, 2 * block], or None."""
        del images
        return None

    def tokenise(self, captions: Sequence[str]) -> list[list[int]]:
        """Token ids of each caption."""
        return self.text.tokeniser.ids(captions)

    def text_batch(self, captions: Sequence[Sequence[int]]) -> TextBatch:
        """Token ids -> tensors."""
        return self.text.batch(captions)

    def encode_text(self, batch: TextBatch) -> Tensor:
        """Captions -> Tensor[n, d], L2-normalised (zero for one without any known word)."""
        return self._join(*self.text(batch))

    def encode_image(self, images: Tensor) -> Tensor:
        """Images -> Tensor[n, d], L2-normalised."""
        image, text = self.head(self.describe(images))
        deep = self.deep(images)
        if deep is not None:
            image_deep, text_deep = deep.chunk(2, dim=1)
            image, text = image + image_deep, text + text_deep
        return self._join(image, text)

    def _join(self, image: Tensor, text: Tensor) -> Tensor:
        share = torch.sigmoid(self.balance)
        return torch.cat(
            [
                F.normalize(image, dim=1) * (1 - share).sqrt(),
                F.normalize(text, dim=1) * share.sqrt(),
            ],
            dim=1,
        )

    def deep_parameters(self) -> list[nn.Parameter]:
        """The parameters that start from scratch; the rest have a closed-form start."""
        if not self.settings.closed_form_start:
            return list(self.parameters())
        started = ("text.image_block", "text.text_block", "text.text_centre", "head.", "balance")
        return [p for name, p in self.named_parameters() if not name.startswith(started)]

    def architecture(self) -> dict[str, Any]:
        """All that is needed, beside the weights, to build it again (JSON)."""
        return {
            "kind": self.kind,
            "settings": self.settings.model_dump(mode="json"),
            "descriptor_length": self.descriptor_length,
            "tokeniser": self.text.tokeniser.to_json(),
            "ngrams": {
                "words": self.text.ngrams.words,
                "pairs": self.text.ngrams.pairs.tolist(),
                "idf": [round(float(x), 6) for x in self.text.ngrams.idf],
            },
        }

    @torch.no_grad()
    def start_closed_form(
        self, captions: list[list[int]], rows: Tensor, descriptors: Tensor, *, seed: int = 0
    ) -> None:
        """Set both blocks to their ridge solutions on the training set.

        Args:
            captions: token ids of n training captions.
            rows: the image that each describes, a row of ``descriptors``, Tensor[n].
            descriptors: unit descriptors of the training images, Tensor[k, f].
            seed: draws the captions when there are more than ``LARGEST_SOLVE``.
        """
        if len(captions) > LARGEST_SOLVE:
            chance = torch.Generator().manual_seed(seed)
            drawn = torch.randperm(len(captions), generator=chance)[:LARGEST_SOLVE].sort().values
            captions, rows = [captions[i] for i in drawn.tolist()], rows[drawn]
        images, rows = torch.unique(rows, return_inverse=True)
        descriptors = descriptors[images]
        grams = self._sparse_grams(captions)
        rotation = principal_directions(descriptors, self.settings.block)
        self.head.image_block.weight.copy_(rotation)
        target = (descriptors @ rotation.T)[rows]
        dual = ridge_dual(torch.sparse.mm(grams, grams.t()).to_dense(), target)
        self.text.image_block.weight.copy_(torch.sparse.mm(grams.t(), dual))

        counts = torch.bincount(rows, minlength=len(images)).clamp(min=1)
        average = torch.sparse_coo_tensor(
            torch.stack([rows, torch.arange(len(rows))]),
            1 / counts[rows].float(),
            (len(images), len(rows)),
        )
        means = torch.sparse.mm(average, grams)  # the mean n-grams of each image, [k, n-grams]
        projection = sparse_principal_directions(means, self.settings.block)
        self.text.text_block.weight.copy_(projection)
        texts = torch.sparse.mm(means, projection)
        centre = texts.mean(dim=0)
        self.text.text_centre.copy_(centre)
        kernel = self.head.kernel(descriptors)
        mean = kernel.mean(dim=0)
        weight = ridge_primal(kernel - mean, texts - centre)
        self.head.text_block.weight.copy_(weight.T)
        self.head.text_block.bias.copy_(-mean @ weight)

    def _sparse_grams(self, captions: list[list[int]]) -> Tensor:
        batch = self.text.batch(captions)
        ends = torch.cat([batch.offsets[1:], torch.tensor([len(batch.features)])])
        rows = torch.repeat_interleave(torch.arange(len(captions)), ends - batch.offsets)
        return torch.sparse_coo_tensor(
            torch.stack([rows, batch.features]),
            batch.weights,
            (len(captions), len(self.text.ngrams)),
        ).coalesce()


def ridge_dual(gram: Tensor, targets: Tensor, strength: float = 1.0) -> Tensor:
    """Dual ridge coefficients (K + strength I)^-1 Y, Tensor[n, k].

    Example:
        >>> ridge_dual(torch.eye(2), torch.ones(2, 1)).tolist()
        [[0.5], [0.5]]
    """
    system = gram.double() + strength * torch.eye(len(gram), dtype=torch.float64)
    factor = torch.linalg.cholesky(system)
    return torch.cholesky_solve(targets.double(), factor).float()


def ridge_primal(inputs: Tensor, targets: Tensor, strength: float = 1.0) -> Tensor:
    """Ridge weights (X'X + strength I)^-1 X'Y, Tensor[f, k]."""
    return ridge_dual(inputs.T @ inputs, inputs.T @ targets, strength)


def principal_directions(inputs: Tensor, count: int) -> Tensor:
    """The first right singular vectors as rows, zero rows where there are fewer, Tensor[count, f].

    Signs are fixed (the largest entry is positive), so that a start is the same everywhere.
    """
    gram = inputs.T.double() @ inputs.double()
    vectors = torch.linalg.eigh(gram).eigenvectors.flip(1)[:, :count].T
    return _padded(_fix_signs(vectors).float(), count)


def sparse_principal_directions(rows: Tensor, count: int) -> Tensor:
    """Principal directions of centred sparse rows as columns, Tensor[n-grams, count]."""
    gram = torch.sparse.mm(rows, rows.t()).to_dense().double()
    gram = gram - gram.mean(dim=0) - gram.mean(dim=1, keepdim=True) + gram.mean()
    values, vectors = torch.linalg.eigh(gram)
    kept = min(count, int((values > values[-1] * 1e-9).sum()))
    values, vectors = values.flip(0)[:kept], vectors.flip(1)[:, :kept]
    # Centred rows' = rows' (I - 11'/n); the eigenvectors already sum to zero.
    directions = torch.sparse.mm(rows.t(), (vectors / values.sqrt()).float())
    return _padded(_fix_signs(directions.T), count).T.contiguous()


def _fix_signs(rows: Tensor) -> Tensor:
    largest = rows.gather(1, rows.abs().argmax(dim=1, keepdim=True))
    return rows * torch.where(largest < 0, -1.0, 1.0)


def _padded(rows: Tensor, count: int) -> Tensor:
    return F.pad(rows, (0, 0, 0, count - len(rows)))
