"""What a model keeps of its references: their vectors, and the refinement that was chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mmref.references.refinement import Refiner


@dataclass(frozen=True)
class RefinementChoice:
    """What validation chose.

    Attributes:
        form: ``posterior``, ``linear``, ``centred``, ``whitened`` or ``hubs``.
        weight: lambda; with 0 the refinement is off.
        temperature: tau_r of ``posterior`` and ``hubs``.
        kept: s, entries of the sparse profile.
    """

    form: str
    weight: float
    temperature: float
    kept: int


@dataclass(frozen=True)
class References:
    """The references as they are kept with a model.

    Attributes:
        vectors: R, normalised, Tensor[m, d].
        objects: the training objects' names, m of them.
        text_mean: mean text feature of the training set, Tensor[d].
        image_mean: mean image feature, Tensor[d].
        decoder: weights of the reconstruction decoder, by name; empty without one.
        parts: R of each of the encoder's parts, normalised, before their shares: what the decoder
            reads; empty without a decoder.
        scatter: W of the training images about their references, Tensor[d, d]; None if unknown.
    """

    vectors: Tensor
    objects: tuple[str, ...]
    text_mean: Tensor
    image_mean: Tensor
    decoder: dict[str, Tensor]
    parts: tuple[Tensor, ...] = ()
    scatter: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """All but the objects' names, as a file keeps them."""
        named = {
            "references": self.vectors,
            "text_mean": self.text_mean,
            "image_mean": self.image_mean,
            **{f"decoder.{name}": weights for name, weights in self.decoder.items()},
            **{f"part.{number}": part for number, part in enumerate(self.parts)},
        }
        return named if self.scatter is None else {**named, "scatter": self.scatter}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], objects: Sequence[str]) -> "References":
        """The inverse of :meth:`tensors`.

        Raises:
            KeyError: a tensor is missing.
            ValueError: there are more or fewer references than objects.

        Example:
            >>> import torch
            >>> kept = References(torch.eye(2), ("a", "b"), torch.ones(2), torch.ones(2), {})
            >>> References.of(kept.tensors(), ["a", "b"]).objects
            ('a', 'b')
        """
        if len(tensors["references"]) != len(objects):
            raise ValueError(f"{len(tensors['references'])} references for {len(objects)} objects")
        numbers = range(sum(name.startswith("part.") for name in tensors))
        return cls(
            tensors["references"],
            tuple(objects),
            tensors["text_mean"],
            tensors["image_mean"],
            {k.removeprefix("decoder."): v for k, v in tensors.items() if k.startswith("decoder.")},
            tuple(tensors[f"part.{number}"] for number in numbers),
            tensors.get("scatter"),
        )


def make_refiner(references: References | None, choice: RefinementChoice | None) -> Refiner | None:
    """The refiner of a choice; None when there is nothing to refine with."""
    if references is None or choice is None or choice.weight == 0:
        return None
    return Refiner(
        references.vectors,
        choice.form,
        weight=choice.weight,
        temperature=choice.temperature,
        kept=choice.kept,
        text_mean=references.text_mean,
        image_mean=references.image_mean,
        scatter=references.scatter,
    )
