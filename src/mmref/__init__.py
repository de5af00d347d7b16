"""mmref: find the exact image that a sentence describes.

Multi-modal reference learning for fine-grained text-to-image retrieval (Ma et al., IEEE TMM
2025, arXiv 2504.07718). The names below are the stable Python interface; each is loaded when it
is first used, so that ``import mmref`` stays fast and does not load torch.

Example:
    >>> import mmref
    >>> sorted(mmref.__all__)
    ['MMRef', 'RetrievalDataset', 'Searcher', '__version__', 'errors', 'evaluate', 'train']
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmref import errors
from mmref._version import __version__

if TYPE_CHECKING:
    from mmref.data.dataset import RetrievalDataset
    from mmref.evaluation.evaluator import evaluate
    from mmref.model import MMRef
    from mmref.search.engine import Searcher
    from mmref.training.trainer import train

__all__ = [
    "MMRef",
    "RetrievalDataset",
    "Searcher",
    "__version__",
    "errors",
    "evaluate",
    "train",
]

_HOMES = {
    "MMRef": "mmref.model",
    "RetrievalDataset": "mmref.data.dataset",
    "Searcher": "mmref.search.engine",
    "evaluate": "mmref.evaluation.evaluator",
    "train": "mmref.training.trainer",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'mmref' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
