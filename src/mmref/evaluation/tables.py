"""The shape that tables of retrieval figures share: a row of METRICS for each way to search."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmref.evaluation.classes import CLASS_METRICS
from mmref.evaluation.published import COLUMNS as PUBLISHED_METRICS
from mmref.metrics.protocols import METRICS

if TYPE_CHECKING:
    from rich.table import Table

_FACTS = {"backbone": 10, "pre-trained on persons": 11, "cross- encoder": 10, "epoch picked": 10}


def figures_title(what: str, *, queries: int, gallery: int, objects: int) -> str:
    """What a table is of.

    Example:
        >>> figures_title("flags, val", queries=1200, gallery=60, objects=20)
        'flags, val: 1,200 captions, 60 images, 20 objects'
    """
    return f"{what}: {queries:,} captions, {gallery:,} images, {objects:,} objects"


def figures_table(title: str) -> "Table":
    """An empty table of at most 80 columns; fill it by `add_figures`."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for name in METRICS:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def add_figures(table: "Table", label: str, figures: Mapping[str, float]) -> None:
    """Add a row, in percent with one decimal."""
    table.add_row(label, *(f"{figures[name]:.1f}" for name in METRICS))


def add_intervals(table: "Table", spans: Mapping[str, list[float]] | None) -> None:
    """Add two rows, both ends of the 95 % interval; none without one."""
    for end, label in enumerate(("  95 % from", "  95 % to") if spans else ()):
        add_figures(table, label, {name: pair[end] for name, pair in (spans or {}).items()})


def class_table(classes: Mapping[str, Any]) -> "Table":
    """The figures of whole classes: a row for each figure, with interval and, if known, ceiling.

    Args:
        classes: as `mmref.evaluation.classes.describe_classes` gives it.
    """
    from rich.table import Table

    table = Table(title=f"{classes['classes']:,} classes as wholes", title_justify="left")
    table.add_column("", no_wrap=True)
    for name in ("figure", "95 % from", "95 % to", "unrefined", "ceiling"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in CLASS_METRICS:
        span = (classes["ci95"] or {}).get(name)
        ends = (f"{span[0]:.1f}", f"{span[1]:.1f}") if span else ("-", "-")
        plain = f"{classes['unrefined'][name]:.1f}" if classes["unrefined"] else "-"
        ceiling = classes.get(f"{name} ceiling")
        most = "-" if ceiling is None else f"{ceiling:.1f}"
        table.add_row(name, f"{classes[name]:.1f}", *ends, plain, most)
    return table


def published_table(published: Mapping[str, Any], own: Mapping[str, Any]) -> "Table":
    """What papers report of a set, and one more row, at most 80 columns wide.

    Args:
        published: as `mmref.evaluation.published.beside` gives it.
        own: the last row, with the keys of the others.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=f"{published['set']}, test, text to image: as published, and this run",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=0,
    )
    table.add_column("method", width=16)
    for name in PUBLISHED_METRICS:
        table.add_column(name, justify="right", no_wrap=True)
    for name, width in _FACTS.items():
        table.add_column(name, width=width)
    for row in (*published["rows"], own):
        if row is own:
            table.add_section()
        figures = row["figures"]
        table.add_row(
            row["method"],
            *(f"{figures[n]:.2f}" if n in figures else "-" for n in PUBLISHED_METRICS),
            row["backbone"],
            row["person_pretraining"],
            row["cross_encoder"],
            row["epoch"],
        )
    return table


def compared_table(title: str, parts: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> "Table":
    """Figures of two runs and their difference, a section for each way to search.

    Args:
        title: above it.
        parts: label -> figure -> first, second, difference, low, high, p_value.
    """
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for name in ("A", "B", "B - A", "95 % from", "95 % to", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, part in parts.items():
        table.add_section()
        for name, found in part.items():
            tested = found["p_value"] is not None
            table.add_row(
                f"{label}, {name}",
                f"{found['first']:.1f}",
                f"{found['second']:.1f}",
                f"{found['difference']:+.1f}",
                *(f"{found[k]:+.1f}" if tested else "-" for k in ("low", "high")),
                f"{found['p_value']:.2g}" if tested else "-",
            )
    return table
