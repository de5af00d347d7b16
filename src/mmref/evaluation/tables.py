"""The shape that tables of retrieval figures share: a row of METRICS for each way to search."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mmref.metrics.protocols import METRICS

if TYPE_CHECKING:
    from rich.table import Table


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
