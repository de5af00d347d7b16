"""Data sets that an experiment draws for itself: pictures once a seed, captions as often as needed.

Pictures do not depend on how ambiguous the captions are, so a seed's pictures are drawn once, and
sets with other error rates are the same rows with other captions, exactly as ``generate`` would
have written them.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from mmref.config import Settings
from mmref.data.dataset import RetrievalDataset
from mmref.data.synthetic import SyntheticSettings, generate, plan_objects, write_captions
from mmref.errors import ConfigError, DataError


def synthetic_settings(domain: str, text: str = "") -> SyntheticSettings:
    """The generator's settings from ``objects=400,omit=0.5,image_size=64x32``.

    Raises:
        ConfigError: an unknown domain or name, or a value out of range.

    Example:
        >>> found = synthetic_settings("figures", "objects=40,omit=0.5,image_size=64x32")
        >>> found.objects, found.omit, found.image_size
        (40, 0.5, (64, 32))
    """
    known = {field.name: field for field in fields(SyntheticSettings)}
    values: dict[str, Any] = {"domain": domain}
    for part in filter(None, (word.strip() for word in text.split(","))):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or name not in known or name in ("domain", "seed"):
            names = ", ".join(sorted(set(known) - {"domain", "seed"}))
            raise ConfigError(f"--synth takes name=value,...: {part!r} is none (names: {names})")
        values[name] = _value(name, value, str(known[name].type))
    return SyntheticSettings(**values)


def _value(name: str, text: str, kind: str) -> Any:
    if name == "image_size":
        sides = text.lower().split("x")
        if len(sides) == 2 and all(side.isdecimal() for side in sides):
            return tuple(map(int, sides))
        raise ConfigError(f"--synth image_size is HEIGHTxWIDTH (64x32), not {text!r}")
    value = yaml.safe_load(text) if text else None
    whole = "int" in kind
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise ConfigError(f"--synth {name} is {'a whole ' if whole else 'a '}number, not {text!r}")
    return value if whole else float(value)


def draw(settings: SyntheticSettings, folder: Path) -> Path:
    """The seed's pictures with captions, drawn unless they are there.

    Returns:
        The set's folder, one for each choice of pictures.
    """
    target = _place(settings, folder)
    if not is_drawn(settings, folder):
        generate(settings, target)
    return target


def is_drawn(settings: SyntheticSettings, folder: Path) -> bool:
    """Whether :func:`draw` finds the set there already."""
    return (_place(settings, folder) / "settings.json").is_file()


def _place(settings: SyntheticSettings, folder: Path) -> Path:
    from mmref.experiments.grid import plain

    values = plain(settings)
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]
    return folder / f"{settings.domain}-seed-{settings.seed}-{digest}"


def fingerprint(folder: Path) -> str:
    """SHA-256 of a drawn set's manifest: captions, attributes and how each view was drawn."""
    manifest = folder / "manifest.jsonl"
    try:
        return hashlib.sha256(manifest.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {manifest} ({error.strerror}): remove its folder") from error


def recaptioned(dataset: RetrievalDataset, settings: SyntheticSettings) -> RetrievalDataset:
    """A drawn set with the captions that other error rates would have given it.

    Args:
        dataset: as ``generate`` wrote it.
        settings: those it was drawn with, but for the rates of omission, contradiction, vagueness
            and paraphrase.

    Raises:
        DataError: the set was not drawn with such settings.

    Example:
        >>> import tempfile
        >>> from dataclasses import replace
        >>> settings = SyntheticSettings(objects=2, images=1, contradict=0)
        >>> data = RetrievalDataset.load(draw(settings, Path(tempfile.mkdtemp())))
        >>> other = recaptioned(data, replace(settings, omit=0.9))
        >>> len(" ".join(other.captions[0])) < len(" ".join(data.captions[0]))
        True
    """
    planned = {item.name: item for item in plan_objects(settings)}
    views = dataset.table["view_number"].to_pylist()
    if set(planned) != set(dataset.objects):
        raise DataError(f"{dataset.name} was drawn with other settings: draw it again")
    told = [
        write_captions(settings, planned[name], view)
        for name, view in zip(dataset.objects, views, strict=True)
    ]
    table = dataset.table
    for name in told[0]:
        column = table.column_names.index(name)
        # One list of texts for each row, or one of names for each of its captions.
        texts = pa.list_(pa.string())
        kind = texts if name.endswith("captions") else pa.list_(texts)
        table = table.set_column(column, name, pa.array([row[name] for row in told], kind))
    return RetrievalDataset(
        table, dataset.root, dataset.name, dataset.format, None, tuple(dataset.notes)
    )


def fitting_drawn(
    drawn: SyntheticSettings, settings: Settings, given: Collection[str] = ()
) -> Settings:
    """The compact encoder with the pictures' shape, where these were not given.

    Example:
        >>> found = fitting_drawn(SyntheticSettings(image_size=(128, 64)), Settings())
        >>> found.encoder.kind, found.encoder.image_height, found.encoder.image_width
        ('compact', 96, 48)
    """
    from mmref.training.fitting import size_for_shape

    values: dict[str, Any] = {}
    if "encoder.kind" not in given:
        values["encoder.kind"] = "compact"
    if not {"encoder.image_height", "encoder.image_width"} & set(given):
        high, wide = drawn.image_size
        tall = size_for_shape(high / wide)
        fit = (high, wide) if high * wide < tall[0] * tall[1] else tall
        values |= dict(zip(("encoder.image_height", "encoder.image_width"), fit, strict=True))
    return settings.with_values(values)
