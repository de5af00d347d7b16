"""Cross-validation over objects: every choice inside a fold's training objects.

Objects are dealt into folds. For each fold and variant, a first training on part of the other
objects chooses, on the rest of them, the epoch, the parts' shares and the refinement; a second
one on all of them, with those choices, is scored on the fold's held-out objects. Figures and
paired intervals are taken over the pooled held-out objects.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmref.config import Settings
from mmref.data.batches import load_inputs
from mmref.data.dataset import RetrievalDataset
from mmref.evaluation.vectors import evaluate_vectors
from mmref.experiments.stages import StageSteps
from mmref.metrics.protocols import Figures
from mmref.model import MMRef
from mmref.references.kept import RefinementChoice
from mmref.training.trainer import Progress, Trainer

Say = Callable[[str], None]


@dataclass
class Pooled:
    """Per-query figures of one variant over all folds.

    Attributes:
        values: metric name -> percent of each query, fold after fold.
        objects: each query's object.
        choices: what each fold chose.
    """

    values: dict[str, list[float]] = field(default_factory=dict)
    objects: list[str] = field(default_factory=list)
    choices: list[Any] = field(default_factory=list)

    def add(self, figures: Figures, objects: Sequence[str], choice: Any) -> None:
        """Append a fold."""
        for name, values in figures.per_query.items():
            self.values.setdefault(name, []).extend(float(v) for v in values)
        self.objects.extend(objects)
        self.choices.append(choice)

    def mean(self, name: str) -> float:
        """Mean over all queries, in percent."""
        return float(np.mean(self.values[name]))


def object_folds(names: Sequence[str], folds: int, seed: int) -> list[set[str]]:
    """Deal objects into folds at random.

    Example:
        >>> sorted(len(fold) for fold in object_folds(["a", "b", "c", "d", "e"], 2, 0))
        [2, 3]
    """
    order = np.random.default_rng(seed).permutation(len(names))
    ordered = sorted(names)
    return [{ordered[i] for i in order[k::folds]} for k in range(folds)]


def inner_split(
    dataset: RetrievalDataset, held_out: set[str], share: float, seed: int
) -> tuple[RetrievalDataset, RetrievalDataset]:
    """The fold's training rows as train and val by objects, and the held-out rows as test.

    Returns:
        A data set of splits train and val, and the held-out rows.
    """
    test = dataset.with_objects(held_out)
    rest = dataset.with_objects(name for name in dataset.object_names if name not in held_out)
    names = rest.object_names
    order = np.random.default_rng((seed, 1)).permutation(len(names))
    inner = {names[i] for i in order[: max(2, round(share * len(names)))]}
    return rest.with_split(["val" if o in inner else "train" for o in rest.objects]), test


def fit_and_refit(
    rest: RetrievalDataset, settings: Settings, progress: Progress | None = None
) -> tuple[MMRef, dict[str, Any]]:
    """Choose on the val split, then train on train and val together with those choices.

    Args:
        rest: with a train and a val split.
        settings: of both trainings.
        progress: told how far each is.

    Returns:
        The model, and facts: the ``epoch``, ``deep_share`` and ``refinement`` that were chosen,
        and of both trainings together ``seconds``, ``steps`` (of images), ``caption_steps`` and
        ``decoder_steps``; ``parameters`` that learn.
    """
    stages = StageSteps(progress)
    first = Trainer(rest, settings, progress=stages)
    chosen = first.run()
    share = next(
        (row["deep_share"] for row in chosen.history if row["epoch"] == chosen.best_epoch), 0.0
    )
    whole = Trainer(
        rest.with_split(["train"] * len(rest)), settings, validate=False, progress=stages
    )
    whole.set_deep_share(share)
    refit = whole.run(stop_after=chosen.best_epoch)
    model = refit.model
    refinement: RefinementChoice | None = chosen.model.refinement
    facts = {
        "epoch": chosen.best_epoch,
        "deep_share": share,
        "refinement": None if refinement is None else vars(refinement),
        "seconds": round(chosen.seconds + refit.seconds, 3),
        "steps": first.state.step + whole.state.step,
        **stages.facts(),
        "parameters": sum(p.numel() for p in whole.state.module.parameters()),
    }
    return MMRef(model.encoder, model.settings, model.references, refinement), facts


def cross_validate(
    dataset: RetrievalDataset,
    variants: dict[str, Settings],
    *,
    folds: int = 5,
    inner_share: float = 0.2,
    seed: int = 0,
    only: Sequence[int] | None = None,
    say: Say = lambda line: None,
) -> dict[str, Pooled]:
    """Train and score every variant on every fold.

    Args:
        dataset: all rows; its own splits are ignored.
        variants: name -> settings. A variant with references (or an ID classifier) gets a second
            row, ``NAME refined``.
        folds: number of folds.
        inner_share: share of a fold's training objects on which choices are made.
        seed: deals the objects; each training's own seed stands in its settings.
        only: the folds to do, all by default.
        say: told each result as it comes.

    Returns:
        Name -> pooled per-query figures.
    """
    pooled: dict[str, Pooled] = {}
    held = object_folds(dataset.object_names, folds, seed)
    for number in only if only is not None else range(folds):
        rest, test = inner_split(dataset, held[number], inner_share, seed)
        queries = test.queries()
        objects = [query.object for query in queries]
        for name, settings in variants.items():
            model, facts = fit_and_refit(rest, settings)
            inputs = load_inputs(test, model.image_size)
            gallery = [test.objects[row] for row in inputs.rows]
            texts = model.encode_text([query.caption for query in queries])
            images = model.encode_image(inputs.tensor)
            plain = evaluate_vectors(texts, images, objects, gallery)
            pooled.setdefault(name, Pooled()).add(plain, objects, facts)
            line = f"fold {number} {name}: mAP {plain.metrics['mAP']:.1f} {facts}"
            if model.references is not None:
                refined = (
                    evaluate_vectors(texts, images, objects, gallery, model.refiner)
                    if model.refiner is not None
                    else plain
                )
                pooled.setdefault(f"{name} refined", Pooled()).add(refined, objects, facts)
                line += f" refined {refined.metrics['mAP']:.1f}"
            say(line)
    return pooled
