"""Small runs that know colours, and pictures to index with them."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
from PIL import Image

from mmref.model import MMRef

_spec = spec_from_file_location("colour_fakes", Path(__file__).parents[1] / "search" / "fakes.py")
_fakes = module_from_spec(_spec)
_spec.loader.exec_module(_fakes)
COLOURS, ColourModel = _fakes.COLOURS, _fakes.ColourModel
_load = MMRef.from_pretrained


def save_run(folder, *, kind="compact", form="posterior", digest="c0ffee"):
    """A folder that stands for a run; see :func:`load`."""
    folder.mkdir(parents=True)
    model = {"kind": kind, "refine": form, "name": f"{folder.name}-{digest}", "digest": digest}
    (folder / "colours.json").write_text(json.dumps(model))
    return folder


def load(path):
    """In the place of ``MMRef.from_pretrained``: a colour model where there is one."""
    file = Path(path) / "colours.json"
    if not file.is_file():
        return _load(path)
    model = ColourModel(**json.loads(file.read_text()))
    model.path = str(path)
    model.unknown_words = lambda text: [
        word for word in text.split() if word not in (*COLOURS, "a", "card", "sheet")
    ]
    return model


def save_pictures(folder, names=tuple(COLOURS)):
    """One picture of each colour."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (20, 20), COLOURS[name]).save(folder / f"{name}.png")
    return folder


def save_features(folder):
    """The colours as a SOURCE that has features alone."""
    folder.mkdir(parents=True, exist_ok=True)
    features = np.tile(np.array(list(COLOURS.values()), dtype=np.float32) / 255 - 0.5, (1, 4))
    np.save(folder / "features.npy", features)
    rows = [
        {"image": f"{name}-id", "captions": [f"a {name} card"], "identity": name}
        | {"split": "val" if row else "train", "feature_row": row}
        for row, name in enumerate(COLOURS)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "manifest.jsonl").write_text(text, encoding="utf-8")
    return folder
