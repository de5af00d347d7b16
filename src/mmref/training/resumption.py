"""The checkpoint of a training by several processes: rank 0 writes it and reads it for all."""

from pathlib import Path
from typing import Any

from torch import Tensor

from mmref.errors import ConfigError
from mmref.processes.group import Group
from mmref.training.checkpoint import load_checkpoint, save_checkpoint
from mmref.training.state import TrainingState


def save_together(
    folder: Path, state: TrainingState, identity: dict[str, Any], group: Group
) -> None:
    """Write the checkpoint; all processes go on when it is written.

    Args:
        folder: the run's folder.
        state: the same in all processes.
        identity: settings and data (JSON).
        group: the processes.

    Raises:
        TrainingError: it cannot be written; the previous checkpoint stays.
    """
    facts = {"state": state.facts(), "identity": identity}
    group.first(lambda: save_checkpoint(folder, state.tensors(), facts))


def restore_together(
    folder: Path, state: TrainingState, identity: dict[str, Any], group: Group
) -> None:
    """Take over the checkpoint, where there is one, whatever number of processes wrote it.

    Args:
        folder: the run's folder.
        state: changed in place.
        identity: what the checkpoint's must be.
        group: the processes.

    Raises:
        ConfigError: the run was begun with other settings or data.
        ModelError: the checkpoint is damaged, or of another architecture.
    """
    tensors: dict[str, Tensor] | None = None

    def read() -> dict[str, Any] | None:
        nonlocal tensors
        loaded = load_checkpoint(folder)
        if loaded is None:
            return None
        tensors, facts = loaded
        # What an older version did not note cannot be compared.
        if identity | facts["identity"] != identity:
            raise ConfigError(
                f"{folder} was begun with other settings or data: resume with the same, "
                "or train into another folder"
            )
        stored: dict[str, Any] = facts["state"]
        return stored

    stored = group.first(read)
    if stored is not None:
        state.restore(group.send(tensors), stored)
