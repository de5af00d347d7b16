"""MMRef: an encoder, its references, and the refinement that validation chose.

Example:
    A run folder is written by ``mmref train``; three lines use it::

        model = MMRef.from_pretrained("runs/flags")
        texts = model.encode_text(["three horizontal bands of red, white and blue"])
        scores = model.similarity(texts, model.encode_image(["a.png", "b.png"]))
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmref.config import Settings
from mmref.data.images import ImageSource, load_batch
from mmref.encoders.base import DualEncoder, build_encoder
from mmref.encoders.clip.hub import CONFIG_FILE, find_checkpoint, is_hub_id, readable_name
from mmref.errors import ConfigError, ImageError, ModelError, PathError, UnknownSettingError
from mmref.files import atomic_write, write_json
from mmref.references.kept import References, RefinementChoice, make_refiner

FORMAT = 1
MODEL_FILE = "model.safetensors"
REFERENCES_FILE = "references.safetensors"
DESCRIPTION_FILE = "model.json"
SETTINGS_FILE = "config.yaml"

Images = Sequence[str | os.PathLike[str] | Image.Image] | np.ndarray | Tensor
Progress = Callable[[int, int], None]


class MMRef:
    """A trained model: encode captions and images, and compare them through the references.

    Args:
        encoder: a dual encoder (a ``torch.nn.Module``).
        settings: the run's settings.
        references: None for a model trained without references.
        refinement: what validation chose; None for none.
        path: the run folder it was loaded from.
    """

    def __init__(
        self,
        encoder: DualEncoder,
        settings: Settings,
        references: References | None = None,
        refinement: RefinementChoice | None = None,
        path: Path | None = None,
    ) -> None:
        self.encoder, self.settings, self.path = encoder, settings, path
        self.references, self.refinement = references, refinement
        self.refiner = make_refiner(references, refinement)
        self._module.eval()

    @property
    def _module(self) -> nn.Module:
        return cast(nn.Module, self.encoder)

    @property
    def kind(self) -> str:
        """``compact``, ``features`` or ``clip``."""
        return self.encoder.kind

    @property
    def dimension(self) -> int:
        """d, the numbers of a vector."""
        return self.encoder.dimension

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the pixels it takes, or None when it takes vectors."""
        return self.encoder.image_size

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all weights and of the refinement: two equal digests rank alike."""
        total = hashlib.sha256()
        parts = dict(self._module.state_dict())
        if self.references is not None:
            parts["references"] = self.references.vectors
            parts["text_mean"] = self.references.text_mean
            parts["image_mean"] = self.references.image_mean
            if self.references.scatter is not None:
                parts["scatter"] = self.references.scatter
        for name in sorted(parts):
            array = parts[name].detach().cpu().contiguous().numpy()
            total.update(f"{name}{array.dtype}{array.shape}".encode())
            total.update(array.tobytes())
        for name, text in sorted(getattr(self.encoder, "files", {}).items()):
            total.update(f"{name}{hashlib.sha256(text.encode()).hexdigest()}".encode())
        choice = asdict(self.refinement) if self.refinement else None
        total.update(json.dumps(choice, sort_keys=True).encode())
        return total.hexdigest()

    @property
    def id(self) -> str:
        """The run's name and the first twelve digits of its digest."""
        name = readable_name(self.path.resolve()) if self.path else self.kind
        return f"{name}-{self.digest[:12]}"

    @torch.inference_mode()
    def encode_text(
        self, captions: Sequence[str], batch_size: int = 256, progress: Progress | None = None
    ) -> Tensor:
        """Captions -> Tensor[n, d] on the CPU, L2-normalised.

        A caption without a single word of the training vocabulary gets the zero vector: it is
        equally near to every image (see :meth:`unknown_words`).

        Raises:
            TypeError: one string instead of a list.

        Example::

            model.encode_text(["a red hat"]).shape  # torch.Size([1, 512])
        """
        if isinstance(captions, str):
            raise TypeError("encode_text takes a list of captions, not one string")
        parts = []
        for start in range(0, len(captions), batch_size):
            ids = self.encoder.tokenise(captions[start : start + batch_size])
            batch = self.encoder.text_batch(ids).to(self.device)
            parts.append(self.encoder.encode_text(batch).float().cpu())
            if progress:
                progress(min(start + batch_size, len(captions)), len(captions))
        return torch.cat(parts) if parts else torch.zeros(0, self.dimension)

    @torch.inference_mode()
    def encode_image(
        self, images: Images, batch_size: int = 256, progress: Progress | None = None
    ) -> Tensor:
        """Images -> Tensor[n, d] on the CPU, L2-normalised.

        Args:
            images: paths or PIL images; or uint8 pixels [n, 3, h, w] of the model's size; or,
                for kind ``features``, float vectors [n, f].
            batch_size: images encoded at a time.
            progress: called with (done, total) after each batch.

        Raises:
            ImageError: a file cannot be decoded (its name and reason are in the message).
            ModelError: the input does not fit the model's kind.
        """
        array = isinstance(images, np.ndarray | Tensor)
        parts = []
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size]
            pixels = self._as_tensor(part) if array else self._decode(part)
            parts.append(self.encoder.encode_image(pixels.to(self.device)).float().cpu())
            if progress:
                progress(min(start + batch_size, len(images)), len(images))
        return torch.cat(parts) if parts else torch.zeros(0, self.dimension)

    def similarity(self, texts: Tensor, images: Tensor, refine: bool = True) -> Tensor:
        """Scores of every caption and image, Tensor[n, m].

        Args:
            texts: from :meth:`encode_text`, Tensor[n, d].
            images: from :meth:`encode_image`, Tensor[m, d].
            refine: S = cos + lambda * S_ref where the run has a refinement; else cos alone.
        """
        if refine and self.refiner is not None:
            return self.refiner.similarity(texts, images)
        return texts @ images.T

    def unknown_words(self, caption: str) -> list[str]:
        """The words of a caption that no training caption holds; none where all words count."""
        tokeniser = getattr(self.encoder, "tokeniser", None)
        if tokeniser is None or getattr(self.encoder, "open_vocabulary", False):
            return []
        return [w for w in tokeniser.words([caption])[0] if w not in tokeniser.vocabulary]

    def save_pretrained(self, path: str | Path) -> None:
        """Write the run's files into a folder, each whole or not at all.

        Raises:
            PathError: the folder cannot be written.
        """
        folder = Path(path)
        weights = {k: v.detach().cpu().contiguous() for k, v in self._module.state_dict().items()}
        with atomic_write(folder / MODEL_FILE) as partial:
            save_file(weights, partial)
        architecture = self.encoder.architecture()
        for name, text in architecture.get("files", {}).items():
            with atomic_write(folder / name) as partial:
                partial.write_text(text, encoding="utf-8")
        if "files" in architecture:
            architecture["files"] = sorted(architecture["files"])
        parts = {} if self.references is None else self.references.tensors()
        with atomic_write(folder / REFERENCES_FILE) as partial:
            # Copies, for of a single part the references are that part itself.
            save_file({k: v.detach().cpu().contiguous().clone() for k, v in parts.items()}, partial)
        with atomic_write(folder / SETTINGS_FILE) as partial:
            partial.write_text(self.settings.to_yaml(), encoding="utf-8")
        description = {
            "format": FORMAT,
            "architecture": architecture,
            "objects": list(self.references.objects) if self.references else None,
            "refinement": asdict(self.refinement) if self.refinement else None,
            "digest": self.digest,
        }
        write_json(folder / DESCRIPTION_FILE, description)  # last: a folder with it is whole

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "MMRef":
        """Load a run folder, or a CLIP or SigLIP checkpoint as it is, without references.

        Args:
            path: a run's folder; a checkpoint's folder or its hub id.

        Raises:
            PathError: there is no such folder, and no such model on the hub.
            ModelError: a file is missing, damaged, or of another format or run.
        """
        folder = Path(path)
        if (folder / CONFIG_FILE).is_file() and not (folder / DESCRIPTION_FILE).is_file():
            return cls._zero_shot(folder)
        if not folder.is_dir():
            if "/" in str(path) and is_hub_id(path):
                return cls._zero_shot(find_checkpoint(path))
            raise PathError(f"no run folder at {folder}: give the folder that mmref train wrote")
        for name in (DESCRIPTION_FILE, MODEL_FILE, REFERENCES_FILE, SETTINGS_FILE):
            if not (folder / name).is_file():
                raise ModelError(
                    f"{folder} lacks {name}: it is no finished run; train again, "
                    "or go on with mmref train --resume"
                )
        try:
            settings = Settings.from_yaml(folder / SETTINGS_FILE)
            description = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
            if description["format"] != FORMAT:
                raise ModelError(
                    f"{folder} has format {description['format']}; this version reads {FORMAT}"
                )
            encoder = build_encoder(_with_files(description["architecture"], folder))
            cast(nn.Module, encoder).load_state_dict(load_file(folder / MODEL_FILE))
            objects = description["objects"]
            tensors = load_file(folder / REFERENCES_FILE)
            references = None if objects is None else References.of(tensors, objects)
            chosen = description["refinement"]
            refinement = RefinementChoice(**chosen) if chosen else None
            digest = description["digest"]
            model = cls(encoder, settings, references, refinement, folder)
        except ModelError:
            raise
        except (
            ConfigError,
            SafetensorError,
            KeyError,
            TypeError,
            ValueError,
            RuntimeError,
            AttributeError,
        ) as error:
            reason = " ".join(str(error).split())[:160]
            if _of_another_version(error):
                raise ModelError(
                    f"{folder} was made by another version of mmref ({reason}): load it with that "
                    "version, or train it again"
                ) from error
            raise ModelError(f"{folder} is damaged ({reason}): copy or train it again") from error
        if model.digest != digest:
            raise ModelError(f"the files of {folder} are not of one run: copy or train it again")
        return model

    @classmethod
    def _zero_shot(cls, folder: Path) -> "MMRef":
        """A checkpoint's own towers at its own image size."""
        from mmref.encoders.clip.encoder import ClipEncoder

        chosen = {"encoder.kind": "clip", "references.decoder_epochs": 0}
        settings = Settings().with_values(chosen)
        asked = settings.encoder.model_copy(update={"checkpoint": str(folder)})
        encoder = ClipEncoder.from_checkpoint(asked, native=True)
        settings = settings.model_copy(update={"encoder": encoder.settings})
        return cls(encoder, settings, path=folder)

    @property
    def device(self) -> torch.device:
        """Where the encoder is; vectors come to the CPU from everywhere."""
        return next(self._module.parameters()).device

    def to(self, device: str | torch.device) -> "MMRef":
        """Move the encoder to a device; ``auto`` is the GPU where there is one.

        Example:
            >>> model = MMRef.from_pretrained("runs/flags").to("auto")   # doctest: +SKIP
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._module.to(device)
        return self

    def _as_tensor(self, part: Any) -> Tensor:
        tensor = (
            torch.from_numpy(np.ascontiguousarray(part)) if isinstance(part, np.ndarray) else part
        )
        size, length = self.encoder.image_size, self.encoder.feature_length
        if size is not None:
            wanted = (3, *size)
            if tuple(tensor.shape[1:]) != wanted or tensor.dtype != torch.uint8:
                raise ModelError(
                    f"this run takes uint8 pixels [n, 3, {size[0]}, {size[1]}], "
                    f"not {tensor.dtype} {list(tensor.shape)}"
                )
        elif tensor.ndim != 2 or tensor.shape[1] != length:
            raise ModelError(
                f"this run takes vectors of {length} numbers, not an array of shape "
                f"{list(tensor.shape)}: use the features it was trained with"
            )
        return tensor

    def _decode(self, part: Any) -> Tensor:
        size = self.encoder.image_size
        if size is None:
            raise ModelError(
                "this run takes precomputed vectors, not pictures: give a data set with "
                "features.npy, or train with --encoder compact"
            )
        loaded = load_batch(cast(Sequence[ImageSource], list(part)), size)
        if loaded.skipped:
            bad = loaded.skipped[0]
            raise ImageError(f"{bad.path}: {bad.reason}")
        return torch.from_numpy(loaded.pixels)


def _of_another_version(error: Exception) -> bool:
    """Whether a run has settings or weights of names that are unknown here, or lacks some."""
    if isinstance(error, ValidationError):
        return bool({"extra_forbidden", "missing"} & {one["type"] for one in error.errors()})
    other_weights = isinstance(error, RuntimeError) and "key(s) in state_dict" in str(error)
    return other_weights or isinstance(error, UnknownSettingError)


def _with_files(architecture: dict[str, Any], folder: Path) -> dict[str, Any]:
    """An architecture with the texts that the run keeps as files of its folder."""
    if "files" not in architecture:
        return architecture
    texts = {}
    for name in architecture["files"]:
        if name != Path(name).name or not (folder / name).is_file():
            raise ModelError(
                f"{folder} lacks {name}, which belongs to its model: copy the whole run again"
            )
        texts[name] = (folder / name).read_text(encoding="utf-8")
    return {**architecture, "files": texts}
