"""The state of a training, in one safetensors file that is whole or not there.

Everything that is not a tensor stands as JSON in the file's header, so tensors and counters can
never be of two different moments. No pickle is read or written.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mmref.errors import ModelError, PathError, TrainingError
from mmref.files import atomic_write

CHECKPOINT_FILE = "checkpoint.safetensors"


def save_checkpoint(folder: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write the checkpoint of a run.

    Args:
        folder: the run's folder.
        tensors: by name.
        facts: counters, history and settings (JSON).

    Raises:
        TrainingError: it cannot be written (a full disk); the previous checkpoint stays.
    """
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        with atomic_write(folder / CHECKPOINT_FILE) as partial:
            save_file(ready, partial, metadata={"facts": json.dumps(facts)})
    except (PathError, SafetensorError) as error:
        reason = " ".join(str(error).split()).removeprefix(f"cannot write {folder}/")[:160]
        raise TrainingError(
            f"cannot write the checkpoint of {folder} ({reason}); what was saved before is whole: "
            "make room and go on with --resume"
        ) from error


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read what :func:`save_checkpoint` wrote; None when there is none.

    Raises:
        ModelError: the file is damaged, or holds something else.
    """
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            if not {"state", "identity"} <= set(facts):
                raise ValueError("it holds no training state")
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} is damaged ({' '.join(str(error).split())[:120]}): "
            "delete it and go on with --resume from the start, or train into another folder"
        ) from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's state as tensors by name (``0.exp_avg`` and so on)."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": value if isinstance(value, Tensor) else torch.tensor(float(value))
        for number, parts in state.items()
        for name, value in parts.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put the state of :func:`optimizer_tensors` back.

    Raises:
        ValueError: it is that of other parameters, or of the same in another order.
    """
    shapes = [p.shape for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        if int(number) >= len(shapes) or (value.ndim and value.shape != shapes[int(number)]):
            raise ValueError(f"{key} has the shape {tuple(value.shape)} of another parameter")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names with a prefix.

    Example:
        >>> list(prefixed("best.", {"a": torch.zeros(1)}))
        ['best.a']
    """
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names have a prefix, by the rest of their names."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
