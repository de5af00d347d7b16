"""Where a checkpoint lies: a local folder, the hub's cache on this machine, or the hub itself."""

import re
from pathlib import Path

from mmref.errors import ModelError, PathError

CONFIG_FILE = "config.json"
_HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
_SMALL = (
    CONFIG_FILE,
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
)
_SAFE = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
_UNSAFE = ("pytorch_model.bin",)


def find_checkpoint(name: str | Path) -> Path:
    """The folder of a checkpoint: a local one, or that of a hub id, downloaded where needed.

    Args:
        name: a folder, or a hub id (``openai/clip-vit-base-patch16``).

    Raises:
        PathError: neither a folder nor a possible hub id.
        ModelError: the hub's files are not on this machine and cannot be had.

    Example:
        >>> find_checkpoint("/no/such/folder")
        Traceback (most recent call last):
        ...
        mmref.errors.PathError: no checkpoint at /no/such/folder: give a folder with config.json...
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not is_hub_id(name):
        raise PathError(
            f"no checkpoint at {name}: give a folder with config.json and weights, or a hub id "
            "(openai/clip-vit-base-patch16)"
        )
    return _from_hub(str(name))


def is_hub_id(name: str | Path) -> bool:
    """Whether a name can be a hub id: ``owner/name``, and no folder here is called ``owner``.

    Example:
        >>> [is_hub_id(x) for x in ("openai/clip-vit-base-patch16", "/data/clip", "./clip")]
        [True, False, False]
    """
    text = str(name)
    if not _HUB_ID.fullmatch(text) or Path(text).exists():
        return False
    return "/" not in text or not Path(text).parent.is_dir()


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a checkpoint of transformers, of whatever kind."""
    return (folder / CONFIG_FILE).is_file()


def readable_name(folder: Path) -> str:
    """A checkpoint's name: the folder's, or the hub id where the folder is one of its cache.

    Example:
        >>> readable_name(Path("/x/models--openai--clip-vit-base-patch16/snapshots/0f1e"))
        'clip-vit-base-patch16'
    """
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        return folder.parent.parent.name.rsplit("--", 1)[-1]
    return folder.name


def _from_hub(name: str) -> Path:
    """The cached snapshot where it is whole; else it is downloaded, safetensors if there are."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    def get(patterns: tuple[str, ...], *, local: bool) -> Path:
        return Path(snapshot_download(name, allow_patterns=list(patterns), local_files_only=local))

    try:
        cached = get(_SMALL, local=True)
        if _has_weights(cached):
            return cached
    except (LocalEntryNotFoundError, OSError, ValueError):
        pass  # not on this machine
    try:
        for weights in (_SAFE, _UNSAFE):
            folder = get((*_SMALL, *weights), local=False)
            if _has_weights(folder):
                return folder
        reason: Exception | None = None
    except HfHubHTTPError as error:
        raise PathError(
            f"{name} is neither a folder here nor a model that the hub lets you have "
            f"({' '.join(str(error).split())[:100]}): check the name"
        ) from error
    except (LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = error
    raise ModelError(
        f"{name} is no folder here, its weights are not in the hub's cache, and the hub cannot be "
        f"reached or has none: on a connected machine run `hf download {name} --local-dir FOLDER`, "
        "copy FOLDER here and name it"
    ) from reason


def _has_weights(folder: Path) -> bool:
    return any(any(folder.glob(pattern)) for pattern in (*_SAFE, *_UNSAFE))
