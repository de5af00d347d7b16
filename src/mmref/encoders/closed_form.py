"""The closed-form part: two ridge regressions, one each way, on which training goes on.

Its vector is two blocks side by side (our choice). In the *image block* an image is a rotation of
its descriptor and a caption is what ridge regression predicts of that from its n-grams. In the
*text block* a caption is a projection of its n-grams and an image is what kernel ridge regression
predicts of that, exactly where there are no more training images than ``encoder.kernel_features``.
Each direction errs in its own way, so the sum of the two cosines is better than either; the text
block starts with twice the weight.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmref.config import EncoderSettings
from mmref.encoders.base import TextBatch
from mmref.encoders.text import NGramProjection

if TYPE_CHECKING:  # of the fit alone: a search does without
    from scipy.sparse import csr_array

TEXT_WEIGHT = 2.0  # the text block's, against the image block's 1; where training starts
LARGEST_SOLVE = 4000  # rows of a closed-form solution; more are drawn at random


class ClosedFormPart(nn.Module):
    """Descriptors and n-grams -> vectors of two blocks, L2-normalised.

    Args:
        settings: block size, kernel, dropout.
        descriptor_length: f, numbers of an image's unit descriptor.
        ngrams: number of n-gram features.
    """

    directions: Tensor
    phases: Tensor
    landmarks: Tensor
    root: Tensor

    def __init__(self, settings: EncoderSettings, descriptor_length: int, ngrams: int) -> None:
        super().__init__()
        self.block, self.dropout = settings.block, settings.input_dropout
        chance = torch.Generator().manual_seed(0)
        self.kernel_width, count = settings.kernel_width, settings.kernel_features
        self.exact = settings.kernel == "landmarks"
        if self.exact:
            self.register_buffer("landmarks", torch.zeros(count, descriptor_length))
            self.register_buffer("root", torch.zeros(count, count))
        else:
            directions = torch.randn(descriptor_length, count, generator=chance)
            self.register_buffer("directions", directions * math.sqrt(2 * self.kernel_width))
            self.register_buffer("phases", torch.rand(count, generator=chance) * 2 * math.pi)
        self.image_image = nn.Linear(descriptor_length, self.block, bias=False)
        self.image_text = nn.Linear(settings.kernel_features, self.block)
        self.text_image = NGramProjection(ngrams, self.block)
        self.text_text = NGramProjection(ngrams, self.block)
        self.centre = nn.Parameter(torch.zeros(self.block))
        self.balance = nn.Parameter(torch.tensor(math.log(TEXT_WEIGHT)))

    def encode_text(self, batch: TextBatch) -> Tensor:
        """Captions -> Tensor[n, 2 * block]; zero for one without any known word."""
        image, text = self.text_image(batch), self.text_text(batch)
        known = torch.zeros(len(batch.offsets), 1, device=text.device)
        lengths = torch.diff(batch.offsets, append=batch.offsets.new_tensor([len(batch.features)]))
        known[lengths > 0] = 1.0
        return self._join(image, (text - self.centre) * known)

    def encode_image(self, descriptors: Tensor) -> Tensor:
        """Unit descriptors Tensor[n, f] -> Tensor[n, 2 * block]."""
        descriptors = F.dropout(descriptors, self.dropout, self.training)
        return self._join(self.image_image(descriptors), self.image_text(self.kernel(descriptors)))

    def kernel(self, descriptors: Tensor) -> Tensor:
        """Features whose product is about exp(-gamma |x - y|^2), Tensor[n, kernel_features].

        Nystroem's of the landmarks (Williams and Seeger 2001): exact between landmarks, and 0
        before there are any; or random Fourier features (Rahimi and Recht 2007).
        """
        # The root has large entries, which would blow up what half precision rounds.
        with torch.autocast(descriptors.device.type, enabled=False):
            descriptors = descriptors.float()
            if self.exact:
                return gaussian(descriptors, self.landmarks, self.kernel_width) @ self.root
            scale = math.sqrt(2 / len(self.phases))
            return torch.cos(descriptors @ self.directions + self.phases) * scale

    def _join(self, image: Tensor, text: Tensor) -> Tensor:
        share = torch.sigmoid(self.balance)
        blocks = [
            F.normalize(image, dim=1) * (1 - share).sqrt(),
            F.normalize(text, dim=1) * share.sqrt(),
        ]
        return torch.cat(blocks, dim=1)

    @torch.no_grad()
    def solve(self, grams: "csr_array", rows: Tensor, descriptors: Tensor) -> None:
        """Set both blocks to their ridge solutions on the training set.

        Args:
            grams: weighted n-grams of n captions, sparse [n, ngrams].
            rows: the image that each describes, a row of ``descriptors``, Tensor[n].
            descriptors: unit descriptors of the training images, Tensor[k, f].
        """
        from scipy.sparse import csr_array

        images, rows = torch.unique(rows, return_inverse=True)
        descriptors = descriptors[images]
        rotation = principal_directions(descriptors, self.block)
        self.image_image.weight.copy_(rotation)
        target = (descriptors @ rotation.T)[rows]
        dual = ridge_dual(_tensor((grams @ grams.T).toarray()), target)
        self.text_image.bag.weight.copy_(_tensor(grams.T @ dual.numpy()))

        numbers = rows.numpy()
        counts = np.bincount(numbers, minlength=len(images))
        average = csr_array(
            (1 / counts[numbers].astype(np.float32), (numbers, np.arange(len(numbers)))),
            shape=(len(images), len(numbers)),
        )
        means = average @ grams  # the mean n-grams of each image, [k, ngrams]
        projection = sparse_principal_directions(means, self.block)
        self.text_text.bag.weight.copy_(projection)
        texts = _tensor(means @ projection.numpy())
        centre = texts.mean(dim=0)
        self.centre.copy_(centre)
        if self.exact:
            self._place_landmarks(descriptors)
        kernel = self.kernel(descriptors)
        mean = kernel.mean(dim=0)
        weight = ridge_primal(kernel - mean, texts - centre)
        self.image_text.weight.copy_(weight.T)
        self.image_text.bias.copy_(-mean @ weight)

    def _place_landmarks(self, descriptors: Tensor) -> None:
        """On the training images, some of them drawn where there are too many.

        What is drawn depends on the images alone, not on the order in which they come.
        """
        if len(descriptors) > len(self.landmarks):
            chance = torch.Generator().manual_seed(0)
            line = torch.randn(descriptors.shape[1], generator=chance, dtype=torch.float64)
            descriptors = descriptors[(descriptors.double() @ line).argsort()]
            order = torch.randperm(len(descriptors), generator=chance)
            descriptors = descriptors[order[: len(self.landmarks)]]
        count = len(descriptors)
        self.landmarks.zero_()[:count] = descriptors
        self.root.zero_()[:count, :count] = inverse_root(
            gaussian(descriptors, descriptors, self.kernel_width)
        )


def gaussian(first: Tensor, second: Tensor, width: float) -> Tensor:
    """exp(-width |x - y|^2) of each pair, Tensor[n, k].

    Example:
        >>> gaussian(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0]]), math.log(4)).tolist()
        [[0.25], [1.0]]
    """
    lengths = first.square().sum(dim=1, keepdim=True) + second.square().sum(dim=1)
    apart: Tensor = lengths - 2 * first @ second.T
    return (-width * apart.clamp(min=0)).exp()


def inverse_root(gram: Tensor) -> Tensor:
    """The symmetric pseudo-inverse square root of a Gram matrix, Tensor[n, n].

    Example:
        >>> inverse_root(torch.diag(torch.tensor([4.0, 0.0]))).tolist()
        [[0.5, 0.0], [0.0, 0.0]]
    """
    values, vectors = torch.linalg.eigh(gram.double())
    kept = values > 1e-5 * values[-1]  # what is below is rounding of the Gram matrix
    scaled = vectors[:, kept] * values[kept].rsqrt()
    root: Tensor = scaled @ vectors[:, kept].T
    return root.float()


def sparse_grams(batch: TextBatch, ngrams: int) -> "csr_array":
    """A batch's weighted n-grams as a sparse matrix [n, ngrams]."""
    from scipy.sparse import csr_array

    ends = np.append(batch.offsets.numpy(), len(batch.features))
    parts = (batch.weights.numpy(), batch.features.numpy(), ends)
    return csr_array(parts, shape=(len(batch.offsets), ngrams))


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


def sparse_principal_directions(rows: "csr_array", count: int) -> Tensor:
    """Principal directions of centred sparse rows as columns, Tensor[ngrams, count]."""
    exact = rows.astype(np.float64)
    gram = torch.from_numpy((exact @ exact.T).toarray())
    gram = gram - gram.mean(dim=0) - gram.mean(dim=1, keepdim=True) + gram.mean()
    values, vectors = torch.linalg.eigh(gram)
    # Beyond the rank, eigenvectors are noise that the division below would blow up.
    kept = min(count, int((values > values[-1] * 1e-6).sum()))
    values, vectors = values.flip(0)[:kept], vectors.flip(1)[:, :kept]
    # Centred rows' = rows' (I - 11'/n); the eigenvectors already sum to zero.
    directions = _tensor(exact.T @ (vectors / values.sqrt()).numpy())
    return _padded(_fix_signs(directions.T), count).T.contiguous()


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _fix_signs(rows: Tensor) -> Tensor:
    if len(rows) == 0:
        return rows
    largest = rows.gather(1, rows.abs().argmax(dim=1, keepdim=True))
    return rows * torch.where(largest < 0, -1.0, 1.0)


def _padded(rows: Tensor, count: int) -> Tensor:
    return F.pad(rows, (0, 0, 0, count - len(rows)))
