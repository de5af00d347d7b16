"""What ``--config`` and ``--set`` say, for the verbs that train."""

from pathlib import Path
from typing import Any


def given_values(assignments: list[str]) -> dict[str, Any]:
    """The values of ``--set`` by dotted name.

    Raises:
        ConfigError: one is no ``key=value``, or its value no YAML.
    """
    import yaml

    from mmref.config import parse_assignments
    from mmref.errors import ConfigError

    values = parse_assignments(assignments)
    for name, value in values.items():
        try:
            yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"setting {name}: {value!r} is no value (YAML)") from None
    return values


def keys_of(config: Path | None) -> set[str]:
    """The dotted names that a settings file or recipe holds; none without one."""
    from mmref.recipes import read_settings

    if config is None:
        return set()
    return {f"{section}.{key}" for section, keys in read_settings(config).items() for key in keys}
