"""The exceptions of mmref: one root, and each message says what to do next.

::

    MMRefError                 exit status 1
    ├── UsageError             exit status 2: what was asked for is wrong, and nothing was done
    │   ├── PathError          a path is missing, of the wrong kind, or cannot be written
    │   ├── ConfigError        an unknown key or a value out of range
    │   │   └── UnknownSettingError  of these, an unknown key
    │   └── SplitError         a split that the data set does not have
    ├── DataError              the data set or an input file cannot be used
    │   └── ImageError         one image cannot be decoded
    ├── ModelError             a run folder is incomplete, damaged, or of the wrong kind
    ├── TrainingError          training cannot go on
    ├── StoreError             a store is damaged or in use
    │   └── StoreMismatchError a store was made by another run
    └── MissingExtraError      an optional dependency is not installed

Example:
    >>> from mmref.errors import MMRefError, SplitError
    >>> issubclass(SplitError, MMRefError), SplitError("no split 'dev'").exit_status
    (True, 2)
"""


class MMRefError(Exception):
    """Root of all errors that mmref raises on purpose."""

    exit_status = 1


class UsageError(MMRefError):
    """What was asked for is wrong; nothing was done."""

    exit_status = 2


class PathError(UsageError):
    """A path is missing, is of the wrong kind, or cannot be written."""


class ConfigError(UsageError):
    """A setting is unknown or out of its range."""


class UnknownSettingError(ConfigError):
    """There is no such setting in this version."""


class SplitError(UsageError):
    """The data set has no such split, or the split is empty."""


class DataError(MMRefError):
    """A data set or an input file cannot be used."""


class ImageError(DataError):
    """One image cannot be decoded within the bounds."""


class ModelError(MMRefError):
    """A run folder is incomplete, damaged, or does not fit what was asked of it."""


class TrainingError(MMRefError):
    """Training cannot start or go on."""


class StoreError(MMRefError):
    """A store is damaged, in use, or cannot be written."""


class StoreMismatchError(StoreError):
    """A store was made by another run than the one that is asked for."""


class MissingExtraError(MMRefError):
    """An optional dependency is not installed.

    Example:
        >>> str(MissingExtraError("matplotlib", "plots"))
        "matplotlib is not installed: pip install 'mmref[plots]'"
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: pip install 'mmref[{extra}]'")
