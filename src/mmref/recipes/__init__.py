"""Recipes: settings that come with the package, one file for a data set, a backbone and a method.

``rstpreid.yaml`` is MMRef with CLIP on RSTPReid, ``rstpreid-siglip.yaml`` with SigLIP,
``rstpreid-compact.yaml`` with the small encoder, and ``rstpreid-irra.yaml`` and
``rstpreid-rde.yaml`` are the baselines of other papers. A file of settings may begin with
``extends``: one name, or a list of which a later one wins over an earlier one. A name is that of a
shipped file (``rstpreid``, ``bases/clip``) or of a file beside the one that names it.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from mmref.errors import ConfigError, PathError

FOLDER = Path(__file__).parent
EXTENDS = "extends"
_SUFFIXES = ("", ".yaml", ".yml")
_NO_RECIPE = ", and no recipe is called so: name a YAML file, or a recipe such as rstpreid"
Tree = dict[str, dict[str, Any]]
"""Section -> setting -> value."""


def recipe_names() -> list[str]:
    """The shipped recipes, in alphabetical order.

    Example:
        >>> [name for name in recipe_names() if name.startswith("cub")]
        ['cub', 'cub-compact', 'cub-irra', 'cub-rde', 'cub-siglip']
    """
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def find_settings(name: str | Path) -> Path:
    """The file that a name means: a file's path, or a shipped recipe.

    A path that exists is that file. Else ``NAME``, ``NAME.yaml`` and ``recipes/NAME.yaml`` are the
    shipped recipe, wherever one stands.

    Raises:
        PathError: neither.

    Example:
        >>> find_settings("recipes/rstpreid.yaml").name, find_settings("rstpreid").name
        ('rstpreid.yaml', 'rstpreid.yaml')
        >>> find_settings("rstpeid")
        Traceback (most recent call last):
        ...
        mmref.errors.PathError: no settings file at rstpeid: did you mean the recipe rstpreid?
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.parent in (Path(), Path("recipes")) and path.suffix in _SUFFIXES:
        shipped = FOLDER / f"{path.stem}.yaml"
        if shipped.is_file():
            return shipped
    close = get_close_matches(path.stem, recipe_names(), n=1)
    hint = f": did you mean the recipe {close[0]}?" if close else _NO_RECIPE
    raise PathError(f"no settings file at {path}{hint}")


def read_settings(name: str | Path, sections: Iterable[str] = ()) -> Tree:
    """The settings of a file or recipe, those that it extends included.

    Args:
        name: as :func:`find_settings` takes it.
        sections: names of the sections, for messages.

    Raises:
        PathError: a file is missing.
        ConfigError: one is not YAML, does not map sections to settings, or extends itself.

    Example:
        >>> read_settings("rstpreid")["encoder"]["image_height"]
        384
    """
    return _read(find_settings(name), ", ".join(sections) or "encoder, loss, ...", ())


def _read(file: Path, sections: str, above: tuple[Path, ...]) -> Tree:
    if file.resolve() in above:
        raise ConfigError(f"{file} extends itself: take one {EXTENDS} out")
    above = (*above, file.resolve())
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    names = tree.pop(EXTENDS, []) if isinstance(tree, dict) else []
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{file}: {EXTENDS} takes a name or a list of names")
    if not isinstance(tree, dict) or not all(isinstance(v, dict) for v in tree.values()):
        raise ConfigError(f"{file} must map sections ({sections}) to settings")
    merged: Tree = {}
    for name in names:
        _merge(merged, _read(_extended(file, name), sections, above))
    _merge(merged, tree)
    return merged


def _extended(file: Path, name: str) -> Path:
    for folder in (file.parent, FOLDER):
        for suffix in _SUFFIXES:
            found = folder / f"{name}{suffix}"
            if found.is_file():
                return found
    raise PathError(f"{file} extends {name}, which is neither beside it nor a shipped recipe")


def _merge(into: Tree, more: Mapping[str, Mapping[str, Any]]) -> None:
    for section, values in more.items():
        into.setdefault(section, {}).update(values)
