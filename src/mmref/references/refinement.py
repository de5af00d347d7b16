"""Refinement: at search time, similarities *through* the training references.

Test objects are unseen, so the training references act as an anchor basis. A feature's profile is
its relation to all m references; the reference similarity of a query and an image compares their
profiles, and ``S = cos + weight * S_ref``. No label is used, and no score depends on the other
queries. Source: the paper describes this in words; the five forms are our choices.

================ ============================================== ==========================
form             profile of x                                   S_ref
================ ============================================== ==========================
``posterior``    p = softmax(cos(x, R) / tau_r), top s of sqrt  sum_k sqrt(p_q,k p_g,k)
``linear``       R x                                            cosine of the profiles
``centred``      R x minus its modality's training mean         cosine of the profiles
``whitened``     (W + w I)^(-1/2) x                             cosine of the profiles
``hubs``         h = tau_r log mean_k exp(cos(x, R_k) / tau_r)  - (h_q + h_g) / 2
================ ============================================== ==========================

``linear`` and ``centred`` need no m-dimensional vector: with G = R^T R, the cosine of profiles is
that of G^(1/2) x, so one stored vector of d numbers is enough. ``whitened`` measures in units of W,
the scatter of the training images about their references (w is its mean variance): what differs
between views of one object, or was never learnt, says little about which object it is.
``hubs``: an image that is near to many training objects would answer to many queries, so it must be
nearer than others to one of them. It is half of the local density, as in CSLS (Conneau et al. 2018)
and QB-Norm (Bogolin et al. 2022), where other queries take the part that references have here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

Form = Literal["posterior", "linear", "centred", "whitened", "hubs"]
Modality = Literal["text", "image"]

FORMS: tuple[str, ...] = get_args(Form)
TEMPERED = ("posterior", "hubs")  # the forms to which tau_r matters
MODALITIES: tuple[str, ...] = get_args(Modality)


@dataclass(frozen=True)
class Profiles:
    """What is stored of n features for refinement: sparse for ``posterior``, dense otherwise.

    Attributes:
        indices: references kept, int32 Tensor[n, s], or None.
        values: square roots of their posteriors, descending, Tensor[n, s], or
            None; float16 as stored, float32 of a query.
        dense: unit vectors G^(1/2) x, float32 Tensor[n, d], or None; of ``hubs`` [1 ; -h / 2],
            of a query [-h / 2 ; 1], Tensor[n, 2].
    """

    indices: Tensor | None = None
    values: Tensor | None = None
    dense: Tensor | None = None

    def __len__(self) -> int:
        return len(self._any())

    def __getitem__(self, rows: Any) -> "Profiles":
        parts = (self.indices, self.values, self.dense)
        return Profiles(*(None if part is None else part[rows] for part in parts))

    def _any(self) -> Tensor:
        part = self.dense if self.dense is not None else self.values
        if part is None:
            raise ValueError("these profiles hold neither a sparse nor a dense part")
        return part

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The parts as numpy arrays by name, for storage."""
        parts = {"indices": self.indices, "values": self.values, "dense": self.dense}
        return {name: part.numpy() for name, part in parts.items() if part is not None}

    @staticmethod
    def from_arrays(arrays: Mapping[str, np.ndarray]) -> "Profiles":
        """The inverse of :meth:`to_arrays`."""
        return Profiles(**{name: torch.from_numpy(np.array(a)) for name, a in arrays.items()})

    @property
    def bytes_per_feature(self) -> int:
        """Stored bytes of one feature's profile."""
        return sum(a.nbytes for a in self.to_arrays().values()) // max(len(self), 1)


class Refiner:
    """The refined similarity of one trained model.

    Args:
        references: R, Tensor[m, d]; normalised here.
        form: ``posterior``, ``linear``, ``centred``, ``whitened`` or ``hubs``.
        weight: lambda >= 0.
        temperature: tau_r > 0 of ``posterior`` and ``hubs``.
        kept: s >= 1, entries of ``posterior`` kept per feature; at most m are used.
        text_mean: mean normalised text feature of the training set, Tensor[d]; ``centred`` alone.
        image_mean: the same of images, Tensor[d].
        scatter: W, Tensor[d, d]; ``whitened`` alone.

    Raises:
        ValueError: an argument is out of its range, ``centred`` lacks its means, or ``whitened``
            its scatter.

    Example:
        >>> references = torch.eye(3)
        >>> refiner = Refiner(references, "posterior", weight=1.0, temperature=0.1, kept=2)
        >>> x = torch.eye(3)[:2]
        >>> refiner.similarity(x, x).round().int().tolist()
        [[2, 0], [0, 2]]
    """

    def __init__(
        self,
        references: Tensor,
        form: str,
        *,
        weight: float,
        temperature: float = 0.1,
        kept: int = 32,
        text_mean: Tensor | None = None,
        image_mean: Tensor | None = None,
        scatter: Tensor | None = None,
    ) -> None:
        if form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, not {form!r}")
        if references.ndim != 2 or len(references) == 0:
            raise ValueError(f"references must be Tensor[m, d], not {tuple(references.shape)}")
        if weight < 0 or temperature <= 0 or kept < 1:
            raise ValueError("weight must be >= 0, temperature > 0 and kept >= 1")
        if form == "centred" and (text_mean is None or image_mean is None):
            raise ValueError("the centred form needs text_mean and image_mean")
        if form == "whitened" and scatter is None:
            raise ValueError("the whitened form needs the scatter")
        self.references = F.normalize(references.detach().float().cpu(), dim=-1)
        self.form: str = form
        self.weight = float(weight)
        self.temperature = float(temperature)
        self.kept = min(int(kept), len(self.references))
        self.means = {"text": text_mean, "image": image_mean}
        self._root: Tensor | None = None
        if form == "whitened" and scatter is not None:
            self._root = whitening(scatter)
        elif form not in TEMPERED:
            self._root = gram_root(self.references)

    def profiles(self, features: Tensor, modality: str, *, exact: bool = False) -> Profiles:
        """The features' profiles, by default in their stored form.

        Args:
            features: L2-normalised, Tensor[n, d]. A zero vector (a caption without any known
                word) has a profile of zeros: it is equally near to every image.
            modality: ``text`` or ``image``; only ``centred`` treats them apart.
            exact: for queries: nothing is rounded to half precision, where an error of 1e-7 (from
                another batch size) can become one of 1e-4. The two numbers of
                ``hubs`` change places.

        Raises:
            ValueError: an unknown modality or a wrong dimension.
        """
        if modality not in MODALITIES:
            raise ValueError(f"modality must be text or image, not {modality!r}")
        if features.ndim != 2 or features.shape[1] != self.references.shape[1]:
            raise ValueError(
                f"features must be Tensor[n, {self.references.shape[1]}], "
                f"not {tuple(features.shape)}"
            )
        features = features.detach().float().cpu()
        known = (features != 0).any(dim=1, keepdim=True)
        if self._root is not None:
            mean = self.means[modality] if self.form == "centred" else None
            centred = features if mean is None else features - mean.float().cpu()
            return Profiles(dense=F.normalize(centred @ self._root, dim=-1) * known)
        logits = features @ self.references.T / self.temperature
        if self.form == "hubs":
            density = logits.logsumexp(dim=-1, keepdim=True) - math.log(len(self.references))
            pair = [-0.5 * self.temperature * density, torch.ones_like(density)]
            return Profiles(dense=torch.cat(pair if exact else pair[::-1], dim=1) * known)
        posterior = torch.softmax(logits, dim=-1)
        top = posterior.sqrt().topk(self.kept, dim=-1)
        values = top.values * known
        return Profiles(
            indices=top.indices.to(torch.int32), values=values if exact else values.half()
        )

    def reference_similarity(self, queries: Profiles, gallery: Profiles) -> Tensor:
        """S_ref of every query and gallery feature, Tensor[q, g], at most 1."""
        if queries.dense is not None and gallery.dense is not None:
            return queries.dense @ gallery.dense.T
        return self._spread(queries) @ self._spread(gallery).T

    def similarity(self, texts: Tensor, images: Tensor) -> Tensor:
        """The refined similarity S = cos + weight * S_ref.

        Args:
            texts: L2-normalised text features, Tensor[q, d].
            images: L2-normalised image features, Tensor[g, d].

        Returns:
            Tensor[q, g].
        """
        reference = self.reference_similarity(
            self.profiles(texts, "text", exact=True), self.profiles(images, "image")
        )
        return texts.float().cpu() @ images.float().cpu().T + self.weight * reference

    def extended(self, features: Tensor, modality: str, *, exact: bool = False) -> Tensor:
        """One vector per feature whose inner product is S (all forms).

        ``[x ; sqrt(weight) * profile]``: d + d numbers, d + 2 for ``hubs``, d + m for
        ``posterior`` (spread out: meant for evaluation in blocks, not for storage). Queries are
        to be ``exact``, as in :meth:`profiles`.

        Returns:
            Tensor[n, d + d], Tensor[n, d + 2] or Tensor[n, d + m].
        """
        profiles = self.profiles(features, modality, exact=exact)
        dense = profiles.dense if profiles.dense is not None else self._spread(profiles)
        return torch.cat([features.float().cpu(), self.weight**0.5 * dense], dim=1)

    def _spread(self, profiles: Profiles) -> Tensor:
        if profiles.indices is None or profiles.values is None:
            raise ValueError("these profiles were made by another form of refinement")
        dense = torch.zeros(len(profiles), len(self.references))
        return dense.scatter_(1, profiles.indices.long(), profiles.values.float())


def reference_scores(
    query: Mapping[str, np.ndarray], items: Mapping[str, np.ndarray]
) -> npt.NDArray[np.float32]:
    """S_ref of one query and n items from stored profiles, float32 [n].

    The same as ``Refiner.reference_similarity``, without spreading sparse profiles out.

    Args:
        query: the profile of one query, arrays [1, ...].
        items: profiles of n items, arrays [n, ...].

    Example:
        >>> query = {"indices": np.int32([[4, 1]]), "values": np.float16([[0.75, 0.5]])}
        >>> item = {"indices": np.int32([[1, 4]]), "values": np.float16([[1.0, 0.5]])}
        >>> reference_scores(query, item).tolist()
        [0.875]
    """
    if "dense" in items:
        dense: npt.NDArray[np.float32] = np.einsum("ij,j->i", items["dense"], query["dense"][0])
        return dense
    length = 1 + max(int(query["indices"].max()), int(items["indices"].max(initial=0)))
    spread = np.zeros(length, dtype=np.float32)
    spread[query["indices"][0]] = query["values"][0]
    values = items["values"].astype(np.float32)
    sparse: npt.NDArray[np.float32] = np.einsum("ij,ij->i", spread[items["indices"]], values)
    return sparse


def scatter_about(references: Tensor, features: Tensor, objects: Tensor) -> Tensor:
    """W: the second moments of features about their objects' references (our choice).

    Args:
        references: normalised, Tensor[m, d].
        features: Tensor[n, d].
        objects: the features' objects, rows of ``references``, Tensor[n].

    Returns:
        Tensor[d, d]; zero without features.

    Example:
        >>> scatter_about(torch.zeros(1, 2), torch.eye(2), torch.tensor([0, 0])).tolist()
        [[0.5, 0.0], [0.0, 0.5]]
    """
    apart = features - references[objects]
    return apart.T @ apart / max(1, len(apart))


def whitening(scatter: Tensor) -> Tensor:
    """(W + w I)^(-1/2), w being the mean of W's diagonal: the symmetric inverse root.

    Args:
        scatter: W, Tensor[d, d].

    Returns:
        Tensor[d, d]; the identity's direction when W is zero.

    Example:
        >>> root = whitening(torch.diag(torch.tensor([1.0, 7.0])))
        >>> [round(x, 3) for x in root.flatten().tolist()]
        [0.447, 0.0, 0.0, 0.302]
    """
    mean = scatter.diagonal().mean().clamp(min=1e-12).double()
    values, vectors = torch.linalg.eigh(scatter.double())
    root: Tensor = vectors * (values.clamp(min=0) + mean).rsqrt() @ vectors.T
    return root.float()


def gram_root(references: Tensor) -> Tensor:
    """G^(1/2) of G = R^T R, the symmetric root.

    Args:
        references: Tensor[m, d].

    Returns:
        Tensor[d, d] with root @ root = R^T R.

    Example:
        >>> r = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
        >>> gram_root(r).tolist()
        [[3.0, 0.0], [0.0, 2.0]]
    """
    values, vectors = torch.linalg.eigh(references.double().T @ references.double())
    root: Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.T
    return root.float()
