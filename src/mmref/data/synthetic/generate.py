"""From settings to a folder with a manifest and pictures.

Random streams are named by (seed, purpose, split, object, view), so an image or a caption does not
depend on how many others there are, on the other captions' error rates, or on the process that
makes it: training ambiguity can be swept while the test captions stay the same.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from mmref.data.synthetic.attributes import Ambiguity, Domain, Draws, draw_objects, draw_statements
from mmref.data.synthetic.drawing import Rendering, ViewOptions
from mmref.data.synthetic.workers import Workers, tied_to_parent, write_lines
from mmref.errors import ConfigError
from mmref.files import atomic_folder

SPLITS = ("train", "val", "test")
MANIFEST, SETTINGS = "manifest.jsonl", "settings.json"
_OBJECTS, _LOOK, _VIEW, _CAPTION, _HELD_OUT = range(5)
_POOL_FROM = 400
_RETRIES = 20
Progress = Callable[[int, int], None]
"""Called with (images drawn, images in all)."""


def domains() -> dict[str, Domain]:
    """The domains by name; a new one is one file and one line here."""
    from mmref.data.synthetic import birds, figures, flowers

    return {"figures": figures.DOMAIN, "birds": birds.DOMAIN, "flowers": flowers.DOMAIN}


@dataclass(frozen=True)
class SyntheticSettings:
    """What to generate.

    Attributes:
        domain: what is drawn.
        objects: number of training objects.
        val_objects: number of validation objects; a quarter of ``objects`` when None.
        test_objects: number of test objects; three eighths of ``objects`` when None.
        images: views of each object.
        captions: captions of each image.
        held_out_captions: further captions of each training image that ``captions`` never holds.
        omit: probability that a caption leaves an attribute out.
        contradict: probability that a stated attribute is wrong.
        vague: probability of a vague word for a value that has one.
        paraphrase: probability that a word is not the canonical one.
        test_omit: ``omit`` of validation and test captions; the same as in training when None.
        test_contradict: ``contradict`` of validation and test captions; likewise.
        test_vague: ``vague`` of validation and test captions; likewise.
        test_paraphrase: ``paraphrase`` of validation and test captions; likewise.
        lookalikes: objects come in groups of this size that share most attributes.
        differences: a look-alike differs from the first of its group in 2 to this many attributes
            (and in those that come or go with them).
        occlude: probability that something hides a part of a view.
        nuisance: strength of light, colour cast, blur, noise, clutter and movement.
        image_size: height and width in pixels, 64 x 32 or more; (0, 0), or None, stands for the
            domain's own, which it becomes.
        seed: another seed gives other objects, views and captions.

    Raises:
        ConfigError: a value is out of range.

    Example:
        >>> settings = SyntheticSettings(objects=40)
        >>> settings.counts, settings.image_size
        ({'train': 40, 'val': 10, 'test': 15}, (128, 64))
    """

    domain: str = "figures"
    objects: int = 400
    val_objects: int | None = None
    test_objects: int | None = None
    images: int = 4
    captions: int = 2
    held_out_captions: int = 1
    omit: float = 0.4
    contradict: float = 0.1
    vague: float = 0.15
    paraphrase: float = 0.4
    test_omit: float | None = None
    test_contradict: float | None = None
    test_vague: float | None = None
    test_paraphrase: float | None = None
    lookalikes: int = 4
    differences: int = 4
    occlude: float = 0.35
    nuisance: float = 1.0
    image_size: tuple[int, int] = (0, 0)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.domain not in domains():
            raise ConfigError(f"no domain {self.domain!r}: choose one of {', '.join(domains())}")
        lowest = {"objects": 1, "images": 1, "captions": 1, "held_out_captions": 0, "lookalikes": 1,
                  "differences": 2, "seed": 0, "val_objects": 0, "test_objects": 0}  # fmt: skip
        for name, low in lowest.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ConfigError(f"{name} is {value}: choose {low} or more")
        for name, high in (("paraphrase", 1.0), ("test_paraphrase", 1.0), ("occlude", 1.0),
                           ("nuisance", 1.5)):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= high:
                raise ConfigError(f"{name} is {value}: choose a value between 0 and {high:g}")
        own = domains()[self.domain].image_size
        size = tuple(self.image_size or own)
        object.__setattr__(self, "image_size", own if size == (0, 0) else size)
        high_px, wide_px = self.image_size
        if not (64 <= high_px <= 1024 and 32 <= wide_px <= 1024):
            raise ConfigError(
                f"image_size is {self.image_size}: choose height 64 to 1024 and width 32 to 1024"
            )
        for split in SPLITS:
            self.ambiguity(split)

    @property
    def counts(self) -> dict[str, int]:
        """Objects of each split."""
        val = self.objects // 4 if self.val_objects is None else self.val_objects
        test = self.objects * 3 // 8 if self.test_objects is None else self.test_objects
        return {"train": self.objects, "val": val, "test": test}

    def ambiguity(self, split: str) -> Ambiguity:
        """The error rates of a split's captions."""
        rates = Ambiguity(self.omit, self.contradict, self.vague)
        if split == "train":
            return rates
        own = {"omit": self.test_omit, "contradict": self.test_contradict, "vague": self.test_vague}
        return replace(rates, **{name: value for name, value in own.items() if value is not None})

    def paraphrasing(self, split: str) -> float:
        """The share of words that are not the canonical ones in a split's captions."""
        own = None if split == "train" else self.test_paraphrase
        return self.paraphrase if own is None else own


@dataclass(frozen=True, eq=False)
class SyntheticObject:
    """An object of the benchmark.

    Attributes:
        name: unique, such as ``train-00012``.
        split: train, val or test.
        number: its place in the split.
        attributes: the truth; None where an attribute does not exist.
    """

    name: str
    split: str
    number: int
    attributes: dict[str, str | None]


def plan_objects(settings: SyntheticSettings) -> list[SyntheticObject]:
    """All objects, distinct across the splits, in the order of the splits.

    Raises:
        ConfigError: the domain has no room for so many distinct objects.

    Example:
        >>> objects = plan_objects(SyntheticSettings(objects=8))
        >>> [o.name for o in objects][-2:], objects[0].attributes["top"] is not None
        (['test-00001', 'test-00002'], True)
    """
    domain = domains()[settings.domain]
    taken: set[tuple[str | None, ...]] = set()
    planned: list[SyntheticObject] = []
    for index, split in enumerate(SPLITS):
        drawn = draw_objects(
            domain.attributes,
            settings.counts[split],
            Draws(settings.seed, _OBJECTS, index),
            lookalikes=settings.lookalikes,
            differences=settings.differences,
            taken=taken,
        )
        planned += [
            SyntheticObject(f"{split}-{number:05d}", split, number, attributes)
            for number, attributes in enumerate(drawn)
        ]
    return planned


def draw_view(settings: SyntheticSettings, item: SyntheticObject, view: int) -> Rendering:
    """Draw one view of an object, the same at each call."""
    domain, split = domains()[settings.domain], SPLITS.index(item.split)
    look = Draws(settings.seed, _LOOK, split, item.number).below(1_000_000)
    options = ViewOptions(settings.occlude, settings.nuisance)
    draws = Draws(settings.seed, _VIEW, split, item.number, view)
    rendering = domain.render(item.attributes, look, settings.image_size, options, draws)
    assert isinstance(rendering, Rendering)
    return rendering


def write_captions(
    settings: SyntheticSettings, item: SyntheticObject, view: int
) -> dict[str, list[Any]]:
    """The captions of one image and what they left out, said and got wrong.

    Returns:
        ``captions``; and for each of them ``omitted`` (names of attributes that the object has
        and the caption does not mention), ``contradicted`` (names that it gets wrong) and
        ``stated`` (``attribute=value`` or, vague, ``attribute~word``); ``held_out_captions`` and
        their ``held_out_stated`` and ``held_out_contradicted``.

    Example:
        >>> settings = SyntheticSettings(objects=1, contradict=0.0, seed=3)
        >>> told = write_captions(settings, plan_objects(settings)[0], view=0)
        >>> len(told["captions"]), told["contradicted"], len(told["held_out_captions"])
        (2, [[], []], 1)
    """
    told = [_caption(settings, item, view, _CAPTION, n) for n in range(settings.captions)]
    held: list[tuple[str, list[str], list[str], list[str]]] = []
    if item.split == "train" and settings.held_out_captions:
        seen = _training_captions(settings, item)
        for n in range(settings.held_out_captions):
            for attempt in range(_RETRIES):
                one = _caption(settings, item, view, _HELD_OUT, n * _RETRIES + attempt)
                if one[0] not in seen:
                    held.append(one)
                    break
    return {
        "captions": [c[0] for c in told],
        "stated": [c[1] for c in told],
        "omitted": [c[2] for c in told],
        "contradicted": [c[3] for c in told],
        "held_out_captions": [c[0] for c in held],
        "held_out_stated": [c[1] for c in held],
        "held_out_contradicted": [c[3] for c in held],
    }


@lru_cache(maxsize=4)
def _training_captions(settings: SyntheticSettings, item: SyntheticObject) -> frozenset[str]:
    """All captions of an object, so that a held-out one is new to it."""
    views, numbers = range(settings.images), range(settings.captions)
    return frozenset(
        _caption(settings, item, view, _CAPTION, n)[0] for view in views for n in numbers
    )


def _caption(
    settings: SyntheticSettings, item: SyntheticObject, view: int, purpose: int, number: int
) -> tuple[str, list[str], list[str], list[str]]:
    domain, split = domains()[settings.domain], SPLITS.index(item.split)
    draws = Draws(settings.seed, purpose, split, item.number, view, number)
    rates = settings.ambiguity(item.split)
    said = draw_statements(domain.attributes, item.attributes, rates, draws)
    text = domain.grammar(said, settings.paraphrasing(item.split), draws)
    names = {statement.attribute for statement in said}
    omitted = [n for n, v in item.attributes.items() if v is not None and n not in names]
    return text, [s.record for s in said], omitted, [s.attribute for s in said if s.wrong]


def generate(
    settings: SyntheticSettings,
    out: str | Path,
    *,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the benchmark as a manifest: ``manifest.jsonl``, ``settings.json`` and ``images/``.

    Metadata columns beside image, captions, identity and split: ``view_number``, ``attributes``
    (the truth), ``visible`` (names of the attributes that show in this view), ``view`` (how it was
    drawn) and those of ``write_captions``.

    Args:
        settings: what to generate.
        out: the folder; an existing one is replaced as a whole when all is done.
        processes: how many to use; by default one for small sets and otherwise one for each core.
            With two or more nothing half-written stays even when this process is killed.
        progress: called with the number of images that are drawn, and of all.

    Returns:
        The folder, a source for ``RetrievalDataset.load``.

    Raises:
        ConfigError: the domain has no room for so many distinct objects.
        PathError: the folder cannot be written.
        DataError: a worker process failed.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "figures"
        >>> _ = generate(SyntheticSettings(objects=2, images=1), folder)
        >>> sorted(path.name for path in folder.iterdir())
        ['images', 'manifest.jsonl', 'settings.json']
    """
    planned = plan_objects(settings)
    if processes is None:
        processes = cores() if len(planned) * settings.images >= _POOL_FROM else 1
    with Workers() as workers, atomic_folder(out) as folder:
        (folder / "images").mkdir()
        if processes > 1:
            lines = _drawn_apart(settings, planned, folder, workers, processes, progress)
        else:
            lines = _drawn_here(settings, planned, folder, progress)
        with (folder / MANIFEST).open("w", encoding="utf-8", newline="\n") as manifest:
            manifest.writelines(lines)
        record = json.dumps({**asdict(settings), "format": 1}, indent=2) + "\n"
        (folder / SETTINGS).write_text(record, encoding="utf-8", newline="\n")
    return Path(out)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _drawn_here(
    settings: SyntheticSettings,
    planned: list[SyntheticObject],
    folder: Path,
    progress: Progress | None,
) -> Iterator[str]:
    """Draw all pictures; yield the manifest's lines in the order of the objects."""
    for number, item in enumerate(planned):
        yield from _object_lines(settings, item, folder)
        if progress is not None:
            progress((number + 1) * settings.images, len(planned) * settings.images)


def _drawn_apart(
    settings: SyntheticSettings,
    planned: list[SyntheticObject],
    folder: Path,
    workers: Workers,
    processes: int,
    progress: Progress | None,
) -> Iterator[str]:
    """Draw all pictures in other processes; yield the manifest's lines in the same order."""
    jobs = [
        {"settings": asdict(settings), "folder": str(folder.resolve()), "share": n, "of": processes}
        for n in range(processes)
    ]
    parts = [folder / f"manifest-{share}.jsonl" for share in range(processes)]
    lines = [len(planned[share::processes]) * settings.images for share in range(processes)]
    workers.run(jobs, parts, lines, progress)
    files = [iter(part.read_text(encoding="utf-8").splitlines(keepends=True)) for part in parts]
    for number in range(len(planned)):
        yield from islice(files[number % processes], settings.images)
    for part in parts:
        part.unlink()


def work_share() -> None:
    """Draw one worker's share of the objects; the job is the first argument, in JSON."""
    job = json.loads(sys.argv[1])
    given = job["settings"]
    settings = SyntheticSettings(**{**given, "image_size": tuple(given["image_size"])})
    folder = Path(job["folder"])
    with tied_to_parent(folder):
        mine = plan_objects(settings)[job["share"] :: job["of"]]
        lines = (line for item in mine for line in _object_lines(settings, item, folder))
        write_lines(folder / f"manifest-{job['share']}.jsonl", lines)


def _object_lines(
    settings: SyntheticSettings, item: SyntheticObject, folder: Path
) -> Iterator[str]:
    """Draw and write the views of one object; its lines of the manifest."""
    for view in range(settings.images):
        rendering = draw_view(settings, item, view)
        image = f"images/{item.name}-{view}.png"
        Image.fromarray(rendering.pixels).save(folder / image, compress_level=1)
        told = write_captions(settings, item, view)
        row = {
            "image": image,
            "captions": told.pop("captions"),
            "identity": item.name,
            "split": item.split,
            "view_number": view,
            "attributes": item.attributes,
            "visible": list(rendering.visible),
            **told,
            "view": rendering.view,
        }
        yield json.dumps(row, ensure_ascii=False) + "\n"
