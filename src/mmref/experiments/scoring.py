"""A trained model on the reported split -> a run's figures, values of each query, and costs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mmref.data.dataset import RetrievalDataset
from mmref.evaluation.evaluator import evaluate
from mmref.metrics.protocols import METRICS, Figures
from mmref.model import MMRef

PLAIN, REFINED = "unrefined", "refined"
Arrays = dict[str, np.ndarray]


def score(model: MMRef, dataset: RetrievalDataset, split: str) -> tuple[dict[str, Any], Arrays]:
    """Figures of the model by the cosine alone and, where it has references, refined.

    A model whose validation chose no refinement has equal figures in both.

    Returns:
        What goes into the run's JSON, and its arrays: ``objects`` and, for each way to rank and
        metric, ``way/metric`` in percent of each query.
    """
    report = evaluate(model, dataset, split, bootstrap=0)
    main = report.figures["t2i"]
    ways: dict[str, Figures] = {PLAIN: report.figures.get("unrefined", main)}
    if model.references is not None:
        ways[REFINED] = main
    arrays: Arrays = {"objects": np.asarray(main.objects, dtype=np.str_)}
    for way, figures in ways.items():
        for metric in METRICS:
            arrays[f"{way}/{metric}"] = np.asarray(figures.per_query[metric], dtype=np.float64)
    facts = {
        "figures": {way: figures.metrics for way, figures in ways.items()},
        "queries": main.queries,
        "gallery": main.gallery,
        "objects": report.objects,
        "chance": main.chance,
        "skipped_images": len(report.skipped),
        "index": index_bytes(model),
    }
    return facts, arrays


def index_bytes(model: MMRef) -> dict[str, int]:
    """Bytes that a store keeps of one image: its float32 vector, and its profile if refined."""
    profile = 0
    if model.refiner is not None:
        one = torch.nn.functional.normalize(torch.ones(1, model.dimension), dim=1)
        profile = model.refiner.profiles(one, "image").bytes_per_feature
    return {"vector": 4 * model.dimension, "profile": profile}


def prefixed(name: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The arrays under ``name/``."""
    return {f"{name}/{key}": values for key, values in arrays.items()}
