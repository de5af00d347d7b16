"""Results as a picture: bars with intervals, and for ``ambiguity`` and ``refinement`` curves.

matplotlib comes with the extra ``plots``.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmref.errors import MissingExtraError
from mmref.experiments.refinement_table import of_choice
from mmref.experiments.refining import ALL
from mmref.files import atomic_write

_COLOURS = ("#3b6ea5", "#d1762c", "#4c9a5b", "#a34a70", "#7a6bb0", "#8a8a3c")
_GREY = "#666666"


def require_matplotlib() -> None:
    """Say at once when there is no matplotlib.

    Raises:
        MissingExtraError: it is not installed.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "plots")


def plot(results: dict[str, Any], file: Path) -> None:
    """Draw an ablation, as ``results.json`` has it, into a PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
        PathError: the file cannot be written.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    curves = [curve for curve in results["curves"] if curve["lines"]]
    if results["refinement"] is not None:
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        _refinement(figure.subplots(1, 2), results["refinement"])
    elif curves:
        lines = (len(curves) + 1) // 2
        figure = Figure(figsize=(10, 3.6 * lines + 0.4), layout="constrained")
        axes = figure.subplots(lines, 2, squeeze=False).ravel()
        for axis, curve in zip(axes, curves, strict=False):
            _curve(axis, curve)
        for axis in axes[len(curves) :]:
            axis.set_visible(False)
        figure.legend(
            *axes[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=6,
            fontsize=8,
            frameon=False,
        )
    else:
        figure = Figure(
            figsize=(8, 0.9 + 0.34 * max(2, len(results["rows"]))), layout="constrained"
        )
        _bars(figure.subplots(), results["rows"])
    figure.suptitle(results["title"], fontsize=10)
    with atomic_write(file) as partial:
        figure.savefig(partial, dpi=130)


def _bars(axis: Any, rows: dict[str, Any]) -> None:
    """A bar for each row with its 95 % interval; refined ones are darker than their cosine."""
    entries = list(dict.fromkeys(row["entry"] for row in rows.values()))
    names = list(rows)
    for place, (_, row) in enumerate(rows.items()):
        colour = _COLOURS[entries.index(row["entry"]) % len(_COLOURS)]
        value, ends = row["metrics"]["mAP"], row["ci95"]
        error = None
        if ends:
            error = [[max(0.0, value - ends["mAP"][0])], [max(0.0, ends["mAP"][1] - value)]]
        axis.barh(
            place,
            value,
            xerr=error,
            color=colour,
            alpha=1.0 if row["way"] == "refined" else 0.55,
            error_kw={"elinewidth": 1, "capsize": 2.5, "ecolor": "#222222"},
        )
        right = ends["mAP"][1] if ends else value
        axis.annotate(
            f"{value:.1f}", (max(value, right), place), (4, 0), textcoords="offset points",
            va="center", fontsize=8,
        )  # fmt: skip
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.1)
    axis.set_xlabel("mAP in percent, 95 % interval by bootstrap over objects", fontsize=8)
    axis.tick_params(axis="x", labelsize=8)
    if "base" in rows:
        axis.axvline(rows["base"]["metrics"]["mAP"], color=_GREY, linewidth=0.8, linestyle=":")
    _clean(axis, "x")


def _curve(axis: Any, curve: dict[str, Any]) -> None:
    """The mAP by level; a test curve as the share of the oracle's where that is known."""
    lines = curve["lines"]
    shared = all(p is None or "share" in p for points in lines.values() for p in points)
    scaled = curve["of"] == "test" and shared
    methods = list(dict.fromkeys(name.removesuffix(" refined") for name in lines))
    for name, points in lines.items():
        kept = [
            (level, point)
            for level, point in zip(curve["levels"], points, strict=True)
            if point is not None
        ]
        levels = [level for level, _ in kept]
        scale = [100 / point["oracle"] if scaled else 1.0 for _, point in kept]
        means = [point["mAP"] * k for (_, point), k in zip(kept, scale, strict=True)]
        method = name.removesuffix(" refined")
        colour = _COLOURS[methods.index(method) % len(_COLOURS)]
        style = "-" if name != method or f"{method} refined" not in lines else "--"
        axis.plot(levels, means, style, color=colour, marker="o", markersize=3.5, label=name)
        if style == "-" and all(point["low"] is not None for _, point in kept):
            low = [point["low"] * k for (_, point), k in zip(kept, scale, strict=True)]
            high = [point["high"] * k for (_, point), k in zip(kept, scale, strict=True)]
            axis.fill_between(levels, low, high, color=colour, alpha=0.12, linewidth=0)
    what = curve["name"].split()[-1]
    axis.set_xlabel(f"{curve['of']} captions: {what}", fontsize=9)
    axis.set_ylabel("mAP, % of the oracle's" if scaled else "mAP, %", fontsize=9)
    axis.set_xticks(curve["levels"])
    axis.tick_params(labelsize=8)
    _clean(axis)


def _refinement(axes: Any, found: dict[str, Any]) -> None:
    """The mAP by bytes of an image, and by how many of the dense top are re-scored."""
    plain = found["unrefined"]
    for number, (form, values) in enumerate(found["chosen"].items()):
        points, colour = of_choice(found["points"], form, values), _COLOURS[number]
        label = f"{form}, lambda {values['weight']:g}"
        if values["temperature"] is not None:
            label += f", tau_r {values['temperature']:g}"
        whole = sorted((p for p in points if p["depth"] == ALL), key=lambda p: p["bytes"])
        axes[0].plot(
            [p["bytes"] for p in whole], [p["mAP"] for p in whole], "-o",
            color=colour, markersize=4, label=label,
        )  # fmt: skip
        for size in {p["bytes"] for p in whole if p["kept"] is not None}:
            same = [p for p in whole if p["bytes"] == size]  # more entries than references are all
            least = min(p["kept"] or 1 << 62 for p in same)
            text = "all" if any(p["kept"] == ALL for p in same) else str(least)
            place = (size, max(p["mAP"] for p in same))
            axes[0].annotate(
                text, place, (0, 5), textcoords="offset points", ha="center", fontsize=7
            )
        most = [p for p in points if p["kept"] in (ALL, None)]
        deep = sorted(most, key=lambda p: p["depth"] or float("inf"))
        axes[1].plot(range(len(deep)), [p["mAP"] for p in deep], "-o", color=colour, markersize=4)
        ticks = ["all" if p["depth"] == ALL else str(p["depth"]) for p in deep]
        axes[1].set_xticks(range(len(deep)), ticks)
    axes[0].plot(plain["bytes"], plain["mAP"], "s", color=_GREY, label="cosine")
    axes[1].axhline(plain["mAP"], color=_GREY, linewidth=0.9, linestyle=":")
    axes[0].set_xlabel("stored bytes of an image (numbers: entries kept)", fontsize=9)
    axes[1].set_xlabel("K, how many of the dense top are re-scored (all entries)", fontsize=9)
    for axis in axes:
        axis.set_ylabel("mAP, %", fontsize=9)
        axis.tick_params(labelsize=8)
        _clean(axis)
    axes[0].legend(fontsize=8, frameon=False)


def _clean(axis: Any, grid: str = "both") -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis=grid, linewidth=0.4, alpha=0.4)
    axis.set_axisbelow(True)
