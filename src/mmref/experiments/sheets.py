"""Results as plain tables, for Markdown and for the screen."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmref.experiments.refinement_table import of_choice
from mmref.experiments.refining import ALL
from mmref.experiments.stages import STAGES

if TYPE_CHECKING:
    from rich.table import Table

_MANY = 1 << 62
Rows = dict[str, dict[str, Any]]
_METRICS = ("R@1", "R@5", "R@10", "mAP")


@dataclass(frozen=True)
class Sheet:
    """A table of text.

    Attributes:
        title: above it.
        header: a name for each column; the first column is left-aligned, the others right.
        rows: the cells.

    Example:
        >>> print(Sheet("Sizes", ("what", "n"), [("a", "1")]).markdown())
        **Sizes**
        <BLANKLINE>
        | what | n |
        |---|---:|
        | a | 1 |
    """

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def markdown(self) -> str:
        """As Markdown."""
        rule = "|---" + "|---:" * (len(self.header) - 1) + "|"
        lines = [_line(self.header), rule, *map(_line, self.rows)]
        return f"**{self.title}**\n\n" + "\n".join(lines)

    def rich(self) -> "Table":
        """For the screen."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        table = Table(
            title=self.title,
            title_justify="left",
            box=SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        for number, name in enumerate(self.header):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        return table


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def sheets(results: dict[str, Any]) -> list[Sheet]:
    """The tables of an ablation, as ``results.json`` has it."""
    if results["refinement"] is not None:
        return refinement_sheets(results["refinement"])
    # What a curve shows is not said again.
    rows = {
        name: row
        for name, row in results["rows"].items()
        if not results["variants"][row["entry"]]["synth"]
    }
    found = [
        figures_sheet(rows),
        differences_sheet(rows),
        controls_sheet(rows),
        gains_sheet(rows),
        costs_sheet(rows),
    ]
    found += [sheet for curve in results["curves"] for sheet in curve_sheets(curve)]
    return [sheet for sheet in found if sheet.rows]


def markdown(values: dict[str, Any]) -> str:
    """The tables with what must be said beside them."""
    parts = [f"# {values['title']}", *(sheet.markdown() for sheet in sheets(values))]
    parts.append("\n".join(f"- {line}" for line in remarks(values)))
    return "\n\n".join(part for part in parts if part) + "\n"


def remarks(values: dict[str, Any]) -> list[str]:
    """How the tables are to be read."""
    rows = values["rows"].values()
    lines = []
    if rows:
        most = max(rows, key=lambda row: row["queries"])
        runs = "a run" if most["runs"] == 1 else f"{most['runs']} runs"
        lines.append(
            f"{most['queries']:,} queries of {most['objects']:,} objects in {runs} of each "
            "variant; intervals and p-values by bootstrap over "
            + ("runs and their objects." if values.get("synthetic") else "objects.")
        )
        if most["runs"] < 3:
            lines.append(
                "With fewer than three runs the intervals are of these models: other trainings may "
                "differ by more."
            )
    lines += [
        "Choices (epoch, part shares, refinement) were made on validation objects.",
        "Refined rows are compared with the control refined, others with its cosine.",
    ]
    oracle = values.get("oracle")
    if oracle:
        closed = [
            f"{name} {row['gap_closed']:.0f} %"
            for name, row in values["rows"].items()
            if row["entry"] in ("identity", "full") and row.get("gap_closed") is not None
        ]
        lines.append(
            f"The oracle, by the truth and the generator's error rates: R@1 {oracle['R@1']:.1f}, "
            f"mAP {oracle['mAP']:.1f}. Of the gap from base to it: {', '.join(closed) or '-'}."
        )
    lines += values.get("notes", [])
    lines += [f"{name} failed: {why}" for name, why in values.get("failures", {}).items()]
    return lines


def figures_sheet(table: Rows) -> Sheet:
    """Means over the pooled queries, and the interval of the mAP."""
    rows = []
    for name, row in table.items():
        cells = [f"{row['metrics'][metric]:.1f}" for metric in _METRICS]
        rows.append(
            (name, *cells, span(row["ci95"]["mAP"]) if row["ci95"] else "", str(row["runs"]))
        )
    return Sheet("Figures in percent", ("", *_METRICS, "mAP, 95 %", "runs"), rows)


def differences_sheet(table: Rows) -> Sheet:
    """Paired differences in mAP to the base and to the ID control."""
    keys = ("to_base", "to_identity")
    rows = [
        (name, *(difference(row[key]) for key in keys))
        for name, row in table.items()
        if any(row[key] for key in keys)
    ]
    title = "Difference in mAP, paired by query: mean [95 %] p"
    return Sheet(title, ("", "to base", "to identity"), rows)


def controls_sheet(table: Rows) -> Sheet:
    """Paired differences in mAP to each variant's own control, where that is another one."""
    rows = [
        (name, row["to_control"]["against"], difference(row["to_control"]))
        for name, row in table.items()
        if row["to_control"] and row["to_control"] != row["to_identity"]
    ]
    title = "Difference in mAP to the control that has the same stages"
    return Sheet(title, ("", "control", "to it"), rows)


def gains_sheet(table: Rows) -> Sheet:
    """What refinement adds to the same model's cosine."""
    rows = [
        (name, difference(row["to_unrefined"], 2))
        for name, row in table.items()
        if row["to_unrefined"]
    ]
    return Sheet("Refined minus unrefined mAP of the same models", ("", "gain"), rows)


def costs_sheet(table: Rows) -> Sheet:
    """What each variant costs: its steps with images, with captions alone and of the decoder."""
    rows = [
        (
            name,
            f"{row['seconds']:.0f}",
            "+".join(
                "?" if row[stage] is None else f"{row[stage]:,.0f}"
                for stage in ("steps", *STAGES.values())
            ),
            f"{row['parameters']:,.0f}",
            f"{row['vector_bytes']:,.0f} + {row['profile_bytes']:,.0f}",
        )
        for name, row in table.items()
    ]
    header = ("", "s a run", "steps", "parameters", "bytes an image")
    title = "Costs (steps: images+captions alone+decoder; bytes: vector + profile)"
    return Sheet(title, header, rows)


def curve_sheets(curve: dict[str, Any]) -> list[Sheet]:
    """A curve's points, and what is lost along it."""
    levels = [f"{level:g}" for level in curve["levels"]]
    of_oracle = curve["of"] == "test" and any(
        point and "share" in point for points in curve["lines"].values() for point in points
    )
    lost = bool(curve["losses"])
    rows = []
    for name, points in curve["lines"].items():
        cells = ["" if p is None else f"{p['mAP']:.1f}" for p in points]
        if of_oracle:
            cells = ["" if p is None else f"{p['mAP']:.1f} ({_share(p)})" for p in points]
        if lost:
            loss = curve["losses"].get(name)
            cells.append("" if loss is None else f"{loss['mAP']:.1f}")
            ratio = loss.get("of_base") if loss else None
            cells.append("" if not ratio else f"{ratio['ratio']:.2f} {_ends(ratio, 2)}")
        rows.append((name, *cells))
    note = " (share of the oracle's)" if of_oracle else ""
    more = ("lost", "of base's loss") if lost else ()
    return [
        Sheet(f"mAP{note} by {curve['name']}", (curve["name"].split()[-1], *levels, *more), rows)
    ]


def _share(point: dict[str, Any]) -> str:
    return f"{point['share']:.0f} %" if "share" in point else "-"


def refinement_sheets(found: dict[str, Any]) -> list[Sheet]:
    """Forms and weights with everything kept; then entries and depth of the chosen one."""
    plain = found["unrefined"]
    rows: list[tuple[str, ...]] = [
        ("cosine", "", "", f"{plain['R@1']:.1f}", f"{plain['mAP']:.2f}", "",
         f"{plain['bytes']:,.0f}", f"{plain['microseconds']:.0f}")
    ]  # fmt: skip
    rows += [
        (point["form"], f"{point['weight']:g}", _number(point["temperature"]), *_cells(point))
        for point in found["points"]
        if point["depth"] == ALL and point["kept"] in (ALL, None)
    ]
    head = ("R@1", "mAP", "gain [95 %]", "bytes", "µs")
    sheets = [
        Sheet(
            f"Refinements, all entries kept, all images re-scored ({found['queries']:,} queries)",
            ("form", "lambda", "tau_r", *head),
            rows,
        )
    ]
    for form, values in found["chosen"].items():
        points = of_choice(found["points"], form, values)
        points.sort(key=lambda p: (p["kept"] or _MANY, p["depth"] or _MANY))
        what = f"{form}, lambda {values['weight']:g}"
        if values["temperature"] is not None:
            what += f", tau_r {values['temperature']:g}"
        small = found["smallest"][form]
        rows = [
            (_all(p["kept"]) + (" *" if p == small else ""), _all(p["depth"]), *_cells(p))
            for p in points
        ]
        title = f"{what} (best on validation); *: cheapest within 0.1 mAP of all"
        sheets.append(Sheet(title, ("kept", "K", *head), rows))
    return sheets


def _cells(point: dict[str, Any]) -> tuple[str, ...]:
    gain = f"{point['gain']:+.2f}"
    if point["low"] is not None:
        gain += f" [{point['low']:+.2f}, {point['high']:+.2f}]"
    return (
        f"{point['R@1']:.1f}",
        f"{point['mAP']:.2f}",
        gain,
        f"{point['bytes']:,.0f}",
        f"{point['microseconds']:.0f}",
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _all(value: int | None) -> str:
    return "" if value is None else "all" if value == ALL else str(value)


def span(pair: list[float]) -> str:
    """An interval.

    Example:
        >>> span([1.04, 2.06])
        '1.0 to 2.1'
    """
    return f"{pair[0]:.1f} to {pair[1]:.1f}"


def difference(found: dict[str, Any] | None, digits: int = 1) -> str:
    """A paired difference with its interval and p-value; nothing for None.

    Example:
        >>> difference({"difference": 1.26, "low": 0.94, "high": 1.5, "p_value": 0.0002})
        '+1.3 [+0.9, +1.5] .0002'
    """
    if found is None:
        return ""
    ends = _ends(found, digits, "+")
    return f"{found['difference']:+.{digits}f} {ends} {p_value(found['p_value'])}"


def _ends(found: dict[str, Any], digits: int, sign: str = "") -> str:
    return f"[{found['low']:{sign}.{digits}f}, {found['high']:{sign}.{digits}f}]"


def p_value(value: float) -> str:
    """Two digits, or four below .01, without the leading zero.

    Example:
        >>> p_value(0.0002), p_value(0.31), p_value(1.0)
        ('.0002', '.31', '1')
    """
    if value >= 0.995:
        return "1"
    return f"{value:.{4 if value < 0.01 else 2}f}".removeprefix("0")
