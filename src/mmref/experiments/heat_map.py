"""The matrix of a transfer as a picture: runs by data sets, each cell with its figure.

matplotlib comes with the extra ``plots``.
"""

from pathlib import Path
from textwrap import fill
from typing import Any

from mmref.experiments.transfer_tables import failure_reasons
from mmref.files import atomic_write

_WIDTH, _HEIGHT = 1.75, 0.95  # inches of a cell
_DARK = 0.45  # cells darker than this have white letters


def draw_heat_map(values: dict[str, Any], file: Path) -> None:
    """Draw a transfer, as ``results.json`` has it, into a PNG.

    Every cell holds its figure and interval; colours run from 0 to the highest figure, as the bar
    says. A frame marks in-domain cells; hatched ones could not be computed.

    Raises:
        PathError: the file cannot be written.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    runs, sets, metric = values["runs"], values["data"], values["metric"]
    reasons = failure_reasons(values)
    known = [c["t2i"][metric] for row in values["cells"] for c in row if c["reason"] is None]
    norm = Normalize(0.0, max([*known, 1.0]))
    colours = colormaps["viridis"]
    width = 3.2 + max(2.4, _WIDTH * len(sets))
    notes = [fill(f"({n}) {reason}", int(17 * width)) for n, reason in enumerate(reasons, start=1)]
    height = 1.7 + _HEIGHT * len(runs) + 0.17 * sum(note.count("\n") + 1 for note in notes)
    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    for row, cells in enumerate(values["cells"]):
        for column, cell in enumerate(cells):
            _draw_cell(axis, row, column, cell, metric, reasons, colours, norm)
    axis.set_xlim(-0.5, len(sets) - 0.5)
    axis.set_ylim(len(runs) - 0.5, -0.5)
    names = [_label(data, 18) for data in sets]
    for column in range(len(sets)):
        known_cells = [row[column] for row in values["cells"] if row[column]["reason"] is None]
        if known_cells and metric in known_cells[0]["chance"]:
            names[column] += f"\nby chance {known_cells[0]['chance'][metric]:.1f}"
    axis.set_xticks(range(len(sets)), names, fontsize=9)
    axis.set_yticks(range(len(runs)), [_label(run, 22) for run in runs], fontsize=9)
    axis.set_xlabel(f"evaluated on ({values['split']} split)", fontsize=9)
    axis.set_ylabel("run", fontsize=9)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=axis, shrink=0.9)
    bar.set_label(f"{metric} in percent, 0 to {norm.vmax:.1f}", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    axis.set_title(
        f"{metric} of every run on every data set\nbrackets: 95 % interval over objects; "
        "framed: in-domain (trained on this set)",
        fontsize=9, loc="left",
    )  # fmt: skip
    if notes:
        figure.supxlabel("\n".join(notes), fontsize=7, x=0.01, ha="left")
    with atomic_write(file) as partial:
        figure.savefig(partial, dpi=140)


def _label(part: dict[str, Any], width: int) -> str:
    return fill(part["name"], width)


def _draw_cell(
    axis: Any,
    row: int,
    column: int,
    cell: dict[str, Any],
    metric: str,
    reasons: list[str],
    colours: Any,
    norm: Any,
) -> None:
    from matplotlib.patches import Rectangle

    corner = (column - 0.5, row - 0.5)
    if cell["reason"] is not None:
        axis.add_patch(
            Rectangle(corner, 1, 1, facecolor="#eeeeee", edgecolor="#bbbbbb", hatch="//", lw=0)
        )
        text = f"not possible ({reasons.index(cell['reason']) + 1})"
        axis.text(
            column, row, text, ha="center", va="center", fontsize=8,
            bbox={"facecolor": "#eeeeee", "edgecolor": "none", "pad": 2},
        )  # fmt: skip
        return
    value = cell["t2i"][metric]
    colour = colours(norm(value))
    axis.add_patch(Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", lw=1.5))
    light = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    ink = "white" if light < _DARK else "black"
    if cell["in_domain"]:
        inner = (column - 0.455, row - 0.455)
        axis.add_patch(Rectangle(inner, 0.91, 0.91, fill=False, edgecolor=ink, lw=2))
    lines = []
    if cell["ci95"]:
        low, high = cell["ci95"][metric]
        lines.append(f"[{low:.1f}, {high:.1f}]")
    if cell["in_domain"]:
        lines.append("in-domain")
    place = row - (0.16 if lines else 0)
    axis.text(
        column, place, f"{value:.1f}", ha="center", va="center", fontsize=12,
        fontweight="bold", color=ink,
    )  # fmt: skip
    axis.text(column, row + 0.17, "\n".join(lines), ha="center", va="center", fontsize=8, color=ink)
