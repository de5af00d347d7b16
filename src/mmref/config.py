"""Typed settings: frozen, unknown keys rejected, read from YAML and stored with every run.

Every default is our choice unless its description says that it is the paper's; the ones that
were measured say where in ``docs/results.md``.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mmref.errors import ConfigError, UnknownSettingError
from mmref.recipes import read_settings

MOST_EPOCHS = 10_000
LARGEST_SEED = 2**63 - 1  # torch takes no larger one

_Temperature = Annotated[float, Field(ge=1e-4, le=1e4)]  # beyond, cosines over it overflow
_Weight = Annotated[float, Field(ge=0)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EncoderSettings(_Settings):
    """The dual encoder."""

    kind: Literal["compact", "features", "clip"] = Field(
        "compact",
        description="compact: pixels, from scratch; features: precomputed vectors; "
        "clip: a CLIP or SigLIP checkpoint",
    )
    checkpoint: str = Field(
        "openai/clip-vit-base-patch16",
        min_length=1,
        description="clip: a folder with a checkpoint, or a hub id",
    )
    frozen_image_layers: int = Field(
        0,
        ge=-1,
        description="clip: what stays of the image tower: 0 nothing; n: embeddings and the lowest "
        "n blocks; -1: all of it",
    )
    frozen_text_layers: int = Field(0, ge=-1, description="clip: the same of the text tower")
    lora_rank: int = Field(
        0, ge=0, le=1024, description="clip: rank of adapters, which then learn alone; 0: none"
    )
    lora_alpha: float = Field(16.0, gt=0, description="clip: adapters count alpha / rank times")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="clip: of the adapters' input")
    gradient_checkpointing: bool = Field(
        False, description="clip: blocks are computed again in the backward pass: less memory"
    )
    long_captions: Literal["cut", "split"] = Field(
        "cut",
        description="clip: captions beyond the text tower's length are cut, or split into "
        "sentences whose vectors are averaged",
    )
    block: int = Field(
        256,
        ge=0,
        le=4096,
        description="numbers in each of the closed-form part's two blocks; 0: none",
    )
    deep: int = Field(256, ge=0, le=4096, description="numbers of the deep part; 0: none")
    image_height: int = Field(64, ge=16, le=1024, description="input height in pixels")
    image_width: int = Field(64, ge=16, le=1024, description="input width in pixels")
    width: int = Field(32, ge=8, le=512, description="compact: channels of the first stage")
    slots: int = Field(24, ge=1, le=256, description="compact: places the net looks at")
    slot_dropout: float = Field(0.3, ge=0, lt=1, description="compact: share of slots dropped")
    grid: int = Field(96, ge=4, le=1024, description="compact: cells of the colour layout")
    kernel: Literal["landmarks", "random"] = Field(
        "landmarks",
        description="landmarks: training images, exact where they are no more than "
        "kernel_features; random: Fourier features, as in older runs",
    )
    kernel_features: int = Field(1024, ge=16, le=16384, description="landmarks, or random features")
    kernel_width: float = Field(0.5, gt=0, description="gamma of the kernel on unit descriptors")
    character_weight: float = Field(
        1.0, ge=0, description="of runs of 3-4 characters beside words and pairs; 0: none"
    )
    text_depth: int = Field(0, ge=0, le=12, description="transformer layers beside the n-grams")
    text_width: int = Field(128, ge=16, le=1024, description="width of those layers")
    caption_length: int = Field(96, ge=4, le=512, description="longest caption in words")
    dropout: float = Field(0.1, ge=0, lt=1)
    input_dropout: float = Field(0.2, ge=0, lt=1, description="share of the descriptor dropped")

    @model_validator(mode="after")
    def _has_a_part(self) -> "EncoderSettings":
        if self.block == 0 and self.deep == 0:
            raise ValueError("encoder.block and encoder.deep cannot both be 0")
        return self


class LossSettings(_Settings):
    """The base objective, and what other methods add to it."""

    kind: Literal["contrastive", "pairwise", "sdm", "tal", "cmpm", "triplet"] = Field(
        "contrastive",
        description="contrastive: InfoNCE by object; pairwise: only the pair itself is positive; "
        "sdm: IRRA's; tal: RDE's; cmpm: Zhang & Lu's; triplet: hardest negatives",
    )
    temperature: _Temperature = Field(0.1, description="tau of the pairs; triplet has none")
    margin: float = Field(0.2, ge=0, le=2, description="of tal and triplet")
    identity_weight: float = Field(0.0, ge=0, description="the ID control's weight")
    cmpc_weight: float = Field(0.0, ge=0, description="cross-modal projection classification's")
    masked_words_weight: float = Field(
        0.0, ge=0, description="IRRA's: masked words are predicted from the caption's own image"
    )


class ReferenceSettings(_Settings):
    """The references: a, b, c of the total loss and how R is trained."""

    kind: Literal["learned", "mean", "ema"] = Field(
        "learned",
        description="learned: by fusion; mean: of each object's features, anew each epoch; "
        "ema: their moving average over the batches",
    )
    init: Literal["mean", "random"] = Field(
        "mean", description="where learned ones start: their object's mean feature, or anywhere"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="ema: what is kept at a batch")
    fusion_weight: float = Field(1.0, ge=0, description="a; 0 for the base objective")
    reconstruction_weight: float = Field(
        0.0, ge=0, description="b; 0: the decoder learns from decoder_epochs alone"
    )
    decoder_epochs: float = Field(
        3.0,
        ge=0,
        le=MOST_EPOCHS,
        description="epochs of the decoder on captions, behind the last; R stays as it is",
    )
    words_weight: float = Field(0.0, ge=0, description="of the object's words a feature names")
    guidance_weight: float = Field(1.0, ge=0, description="c, after its ramp")
    caption_epochs: float = Field(
        24.0,
        ge=0,
        le=MOST_EPOCHS,
        description="epochs on captions alone, before any image, that form R; 0: none",
    )
    text_rate: float = Field(
        0.1, ge=0, le=1, description="share of the learning rate for texts after caption_epochs"
    )
    ramp_epochs: float = Field(
        0.0, ge=0, le=MOST_EPOCHS, description="epochs in which c grows from 0"
    )
    temperature: _Temperature = Field(0.1, description="tau between features and references")
    learning_rate: float = Field(3e-4, gt=0)
    tokens: int = Field(4, ge=1, le=64, description="key/value tokens made from a reference")
    decoder_learning_rate: float | None = Field(
        None,
        gt=0,
        description="of the decoder in decoder_epochs; none: training.deep_learning_rate",
    )
    decoder_width: int = Field(64, ge=16, le=1024, multiple_of=4)
    mask_rate: float = Field(0.4, gt=0, lt=1, description="of loss.masked_words_weight too")

    @property
    def learned(self) -> bool:
        """Whether references are parameters, not prototypes."""
        return self.kind == "learned"

    @property
    def used(self) -> bool:
        """Whether references take part at all; prototypes do in refinement at the least."""
        weights = self.fusion_weight, self.guidance_weight, self.reconstruction_weight
        return not self.learned or max(weights) > 0


class RefinementSettings(_Settings):
    """The grid from which validation picks the refinement."""

    forms: tuple[Literal["hubs", "whitened", "posterior", "linear", "centred"], ...] = (
        "hubs",
        "whitened",
        "posterior",
        "linear",
        "centred",
    )
    weights: tuple[_Weight, ...] = Field((0.5, 1.0, 2.0), description="lambda")
    temperatures: tuple[_Temperature, ...] = Field(
        (0.05, 0.1, 0.2), description="tau_r of hubs and posterior"
    )
    kept: int = Field(64, ge=1, description="s, entries of the sparse profile")


class TrainingSettings(_Settings):
    """The loop."""

    epochs: int = Field(8, ge=0, le=MOST_EPOCHS)
    batch_size: int = Field(128, ge=2, description="pairs of a step, of all processes together")
    learning_rate: float = Field(
        1e-4, gt=0, description="of the parts with a closed-form start, and of what is pre-trained"
    )
    deep_learning_rate: float = Field(
        1e-2, gt=0, description="of the parts from scratch; clip: of new modules"
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="clip: the rate of each block to that of the one above"
    )
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.05, ge=0, le=1, description="share of the steps")
    gradient_clip: float = Field(1.0, gt=0)
    average: float = Field(0.99, ge=0, lt=1, description="decay of the averaged weights")
    word_dropout: float = Field(0.0, ge=0, lt=1)
    remix: float = Field(0.0, ge=0, le=1, description="share of captions re-mixed by phrases")
    augment: bool = Field(True, description="of pixels, by augmentation; flips by flip")
    augmentation: Literal["affine", "crop"] = Field(
        "affine",
        description="affine: shift, zoom, light, erasing; crop: pad 10, random crop, erasing, "
        "as CLIP is fine-tuned for persons",
    )
    flip: bool = Field(False, description='mirror images, never for "left" or "right"')
    patience: int = Field(0, ge=0, description="epochs without a better validation mAP; 0: all")
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    validation_share: float = Field(0.15, gt=0, lt=1, description="of objects, without a val split")
    most_unreadable: float = Field(0.1, ge=0, le=1, description="share of images; more is an error")


class Settings(_Settings):
    """All settings of one run.

    Example:
        >>> Settings().with_values({"training.epochs": "1"}).training.epochs
        1
        >>> Settings().with_values({"loss.kinds": "sdm"})
        Traceback (most recent call last):
        ...
        mmref.errors.UnknownSettingError: unknown setting 'loss.kinds': did you mean 'loss.kind'?
    """

    encoder: EncoderSettings = EncoderSettings()
    loss: LossSettings = LossSettings()
    references: ReferenceSettings = ReferenceSettings()
    refinement: RefinementSettings = RefinementSettings()
    training: TrainingSettings = TrainingSettings()

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        self._check_clip()
        if self.references.reconstruction_weight > 0 and self.references.fusion_weight == 0:
            raise ValueError("references.reconstruction_weight needs references.fusion_weight > 0")
        if not self.references.learned:
            learning = {
                "references.fusion_weight": self.references.fusion_weight,
                "references.reconstruction_weight": self.references.reconstruction_weight,
                "loss.identity_weight": self.loss.identity_weight,
                "loss.cmpc_weight": self.loss.cmpc_weight,
            }
            idle = " and ".join(f"{name}=0" for name, weight in learning.items() if weight > 0)
            if idle:
                raise ValueError(
                    f"references.kind {self.references.kind} has nothing that learns: set {idle}"
                )
        return self

    def _check_clip(self) -> None:
        encoder = self.encoder
        if encoder.kind != "clip":
            return
        if self.training.word_dropout > 0:
            raise ValueError(
                "training.word_dropout drops words, and clip reads pieces of words: set it to 0"
            )
        learnt = self.references.learned and self.references.fusion_weight > 0
        whole = encoder.frozen_image_layers == encoder.frozen_text_layers == -1
        if whole and not (learnt or self.loss.identity_weight or self.loss.cmpc_weight):
            raise ValueError(
                "encoder.frozen_image_layers and encoder.frozen_text_layers are both -1, so "
                "nothing would learn: free a block, or set references.fusion_weight"
            )

    def base_objective(self) -> "Settings":
        """The same without anything that joins captions of one object: the baseline.

        ``loss.kind`` stays.
        """
        return self.with_values(
            {
                "loss.identity_weight": 0,
                "loss.cmpc_weight": 0,
                "loss.masked_words_weight": 0,
                "references.kind": "learned",
                "references.fusion_weight": 0,
                "references.reconstruction_weight": 0,
                "references.guidance_weight": 0,
                "references.words_weight": 0,
                "references.caption_epochs": 0,
                "references.decoder_epochs": 0,
                "training.remix": 0,
            }
        )

    def identity_control(self) -> "Settings":
        """The base objective with a plain cosine ID classifier: the mandatory control."""
        return self.base_objective().with_values(
            {"loss.identity_weight": 1, "references.learning_rate": 3e-3}
        )

    def with_values(self, values: dict[str, Any]) -> "Settings":
        """A copy with some values replaced by dotted name (``training.epochs``).

        Args:
            values: dotted names to values; strings are read as YAML scalars.

        Raises:
            ConfigError: an unknown name or a value out of range.
        """
        tree: dict[str, Any] = self.model_dump()
        known = sorted(dotted_names(tree))
        for name, value in values.items():
            if name not in known:
                raise UnknownSettingError(f"unknown setting {name!r}: {_suggest(name, known)}")
            section, key = name.split(".", 1)
            tree[section][key] = yaml.safe_load(value) if isinstance(value, str) else value
        return _validated(tree)

    @classmethod
    def from_yaml(cls, path: str | Path) -> "Settings":
        """Read a YAML file or a recipe; what it leaves out keeps its default.

        Args:
            path: a file, or the name of a shipped recipe (``rstpreid``).

        Raises:
            PathError: the file is missing.
            ConfigError: it is not YAML of known settings.
        """
        tree = read_settings(path, cls.model_fields)
        values = {f"{s}.{k}": v for s, keys in tree.items() for k, v in keys.items()}
        return cls().with_values(values)

    def to_yaml(self) -> str:
        """All settings as YAML."""
        return str(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))


def dotted_names(tree: dict[str, Any]) -> list[str]:
    """The dotted names of a two-level tree of settings."""
    return [f"{section}.{key}" for section, keys in tree.items() for key in keys]


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """``["training.epochs=1"]`` -> ``{"training.epochs": "1"}``.

    Raises:
        ConfigError: one of them has no ``=``.

    Example:
        >>> parse_assignments(["training.epochs=1"])
        {'training.epochs': '1'}
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not value.strip():
            raise ConfigError(f"--set takes key=value (training.epochs=1), not {assignment!r}")
        values[name.strip()] = value.strip()
    return values


def _suggest(name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    if not close:
        last = name.rsplit(".", 1)[-1]
        close = [k for k in known if k.endswith(f".{last}")]
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known settings start with {', '.join(sorted({k.split('.')[0] for k in known}))}"


def _validated(tree: dict[str, Any]) -> Settings:
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"setting {name}: {message}" if name else message) from error
