"""Named methods: the baselines, the controls, and the full method step by step.

A variant starts from a run's settings (encoder, budget, seed and so on stay), turned into the base
objective, and changes a few of them. Weights that belong to the full method are *kept* from those
settings rather than written down again here. Margins are those of the papers for unit features.
Their temperatures (0.015 to 0.02) suit pre-trained encoders; from scratch they learn next to
nothing, and those below did better on validation objects of one drawn set (docs/results.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmref.config import Settings
from mmref.errors import ConfigError
from mmref.experiments.grid import CAPTIONS_CONTROL, CONTROL


@dataclass(frozen=True)
class Variant:
    """What a method changes.

    Attributes:
        title: a few words for tables.
        values: dotted setting names to values, on top of the start.
        kept: dotted names that keep the given settings' values instead of the base objective's.
        whole: start from the given settings as they are, not from their base objective.
    """

    title: str
    values: dict[str, Any] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    whole: bool = False


_LEARNED = ("references.fusion_weight", "references.guidance_weight")
_FORMED = ("references.caption_epochs", "references.text_rate")
_CLASSIFIER = {"references.learning_rate": 3e-3}  # its weights start far from where they must go
_UNLEARNED = {"references.fusion_weight": 0, "references.reconstruction_weight": 0}

VARIANTS: dict[str, Variant] = {
    # One base loss each.
    "base": Variant("InfoNCE by object"),
    "pairwise": Variant("pairwise InfoNCE", {"loss.kind": "pairwise"}),
    "sdm": Variant("SDM", {"loss.kind": "sdm", "loss.temperature": 0.1}),
    "irra": Variant(
        "SDM + ID + masked words (IRRA)",
        {
            "loss.kind": "sdm",
            "loss.temperature": 0.1,
            "loss.identity_weight": 1,
            "loss.masked_words_weight": 1,
            **_CLASSIFIER,
            "references.mask_rate": 0.15,
        },
    ),
    "tal": Variant("TAL (RDE)", {"loss.kind": "tal", "loss.temperature": 0.05, "loss.margin": 0.1}),
    "cmpm": Variant(
        "CMPM + CMPC",
        {"loss.kind": "cmpm", "loss.temperature": 0.1, "loss.cmpc_weight": 1, **_CLASSIFIER},
    ),
    "triplet": Variant("triplet, hardest negatives", {"loss.kind": "triplet", "loss.margin": 0.2}),
    # Controls.
    "identity": Variant("base + ID classifier", {"loss.identity_weight": 1, **_CLASSIFIER}),
    "captions": Variant("base, captions alone first", kept=_FORMED),
    "identity-captions": Variant(
        "ID classifier, captions alone first",
        {"loss.identity_weight": 1, **_CLASSIFIER},
        kept=_FORMED,
    ),
    "mean-refined": Variant("base, refined by mean prototypes", {"references.kind": "mean"}),
    "mean-prototypes": Variant(
        "base + guidance by means",
        {"references.kind": "mean"},
        kept=("references.guidance_weight",),
    ),
    "ema-prototypes": Variant(
        "base + guidance by moving averages",
        {"references.kind": "ema"},
        kept=("references.guidance_weight",),
    ),
    # The method, step by step.
    "references": Variant("base + fusion + guidance", kept=_LEARNED),
    "full": Variant("MMRef", whole=True),  # + captions alone first
    # What was tried beside it and is off.
    "full-reconstruction": Variant(
        "MMRef + reconstruction beside the encoders",
        {"references.reconstruction_weight": 0.2},
        whole=True,
    ),
    "full-words": Variant("MMRef + words", {"references.words_weight": 0.3}, whole=True),
    "full-remix": Variant("MMRef + re-mixed captions", {"training.remix": 0.5}, whole=True),
    "full-mean": Variant(
        "MMRef with mean prototypes", {**_UNLEARNED, "references.kind": "mean"}, whole=True
    ),
    "full-ema": Variant(
        "MMRef with moving averages", {**_UNLEARNED, "references.kind": "ema"}, whole=True
    ),
}
"""Name -> variant. A new one is an entry here."""

BASELINES = (
    "base",
    "pairwise",
    "sdm",
    "irra",
    "tal",
    "cmpm",
    "triplet",
    "identity",
    "identity-captions",
    "full",
)
"""The baselines of other papers between the base and the full method, and the controls."""

COMPONENTS = (
    "base",
    "identity",
    "captions",
    "identity-captions",
    "references",
    "full",
    "full-reconstruction",
    "full-words",
    "full-remix",
)
"""The full method step by step, the controls, and what was tried beside it."""

PROTOTYPES = ("references", "mean-prototypes", "ema-prototypes", "full", "full-mean", "full-ema")
"""Learned references against computed ones, alone and within the full method."""


def variant(
    name: str, settings: Settings | None = None, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """The settings of a variant.

    Args:
        name: one of ``VARIANTS``.
        settings: where it starts; by default ``Settings()``.
        overrides: dotted names to values that have the last word.

    Raises:
        ConfigError: an unknown variant or setting, or a value out of range.

    Example:
        >>> variant("sdm", overrides={"loss.temperature": 0.05}).loss.temperature
        0.05
        >>> variant("full") == Settings()
        True
    """
    if name not in VARIANTS:
        raise ConfigError(f"unknown variant {name!r}: choose one of {', '.join(VARIANTS)}")
    chosen, start = VARIANTS[name], settings or Settings()
    tree = start.model_dump()
    kept = {dotted: _value(tree, dotted) for dotted in chosen.kept}
    foundation = start if chosen.whole else start.base_objective()
    return foundation.with_values({**kept, **chosen.values, **(overrides or {})})


def control_of(settings: Settings) -> str:
    """The name of the fair control: an ID classifier with the stages that these settings have.

    Example:
        >>> control_of(Settings()), control_of(Settings().base_objective())
        ('identity-captions', 'identity')
    """
    return CAPTIONS_CONTROL if settings.references.caption_epochs > 0 else CONTROL


def _value(tree: dict[str, Any], dotted: str) -> Any:
    section, key = dotted.split(".", 1)
    return tree[section][key]
