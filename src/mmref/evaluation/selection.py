"""How a run came to be what it is: on which objects its epoch and its refinement were chosen.

It is read from the run folder's ``metrics.json``, which training writes.

Example:
    >>> recorded_selection(None) is None
    True
"""

import json
from pathlib import Path
from typing import Any

from mmref.encoders.clip.hub import CONFIG_FILE
from mmref.model import DESCRIPTION_FILE

RECORD_FILE = "metrics.json"


def recorded_selection(folder: Path | None) -> dict[str, Any] | None:
    """What training recorded about its choices (JSON); None where it recorded nothing.

    Args:
        folder: the run's folder, or None for a model that was not loaded from one.

    Returns:
        ``best_epoch`` (0 is the closed-form start), ``epochs``, ``seed``, ``refinement`` that was
        chosen, and ``train`` and ``val``: name, counts and fingerprint of the objects trained on
        and chosen by; ``val`` is None where nothing was validated; ``held_out`` says that they
        are training objects set apart. Of a checkpoint as it is, ``zero_shot`` alone: nothing
        was trained here, so nothing was chosen.
    """
    if folder is None:
        return None
    if (folder / CONFIG_FILE).is_file() and not (folder / DESCRIPTION_FILE).is_file():
        return {"zero_shot": True}
    try:
        found = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("train"), dict):
        return None
    keys = ("best_epoch", "epochs", "seed", "refinement", "train", "val")
    notes = [note for note in found.get("notes") or [] if isinstance(note, str)]
    held_out = any("held out for validation" in note for note in notes)
    return {**{key: found.get(key) for key in keys}, "held_out": held_out, "notes": notes}


def chosen_on(selection: dict[str, Any] | None) -> str:
    """Where the epoch was chosen, in a word or two.

    Example:
        >>> chosen_on({"val": {"name": "flags"}, "held_out": False}), chosen_on(None)
        ('on val', 'not stated')
    """
    if selection is None:
        return "not stated"
    if selection.get("zero_shot"):
        return "zero-shot"
    if not selection.get("val"):
        return "last epoch"
    return "held-out train" if selection.get("held_out") else "on val"


def selection_remarks(selection: dict[str, Any] | None, fingerprint: str) -> list[str]:
    """What a reader must know of the run's choices, in short lines.

    Args:
        selection: from :func:`recorded_selection`.
        fingerprint: of the rows that were evaluated.

    Example:
        >>> selection_remarks(None, "")
        ['Selection: not recorded beside the model, so how its epoch was chosen is not known.']
    """
    if selection is None:
        return [
            "Selection: not recorded beside the model, so how its epoch was chosen is not known."
        ]
    if selection.get("zero_shot"):
        return ["Selection: none, this is the checkpoint as it is, not trained here (zero-shot)."]
    val, epoch, epochs = selection["val"], selection["best_epoch"], selection["epochs"]
    if not val:
        lines = [f"Selection: none (no validation objects); seed {selection['seed']}."]
    else:
        which = f"epoch {epoch} of {epochs}" if epoch else f"the start, before {epochs} epochs,"
        apart = "training objects held out" if selection["held_out"] else "validation objects"
        lines = [
            f"Selection: {which} and the refinement were chosen by mAP on "
            f"{val['objects']:,} {apart} of {val['name']}; seed {selection['seed']}."
        ]
        if val.get("fingerprint") == fingerprint:
            lines.append(
                "These are the very objects that the run was chosen on: its figures on new ones "
                "will be lower."
            )
    if selection["train"].get("fingerprint") == fingerprint:
        lines.append("These are the rows that the run was trained on: they say what it remembers.")
    return lines
