"""The matrix of a transfer as tables and sentences, for Markdown and for the screen."""

from textwrap import fill
from typing import Any

from mmref.experiments.sheets import Sheet

AT_ONCE = 4  # data sets in one table of the screen
_NAME, _CELL = 20, 13  # characters


def matrix_sheets(values: dict[str, Any], *, screen: bool = False) -> list[Sheet]:
    """The figures, and their shares of the in-domain runs' where there are any.

    Args:
        values: as ``results.json`` has it.
        screen: cells of two lines, and tables of at most 80 columns.
    """
    sets = list(range(len(values["data"])))
    parts = [sets[k : k + AT_ONCE] for k in range(0, len(sets), AT_ONCE)] if screen else [sets]
    kinds = [("figure", values["title"])]
    if any(cell["share"] is not None for cells in values["cells"] for cell in cells):
        kinds.append(("share", "The same in percent of the in-domain run's figure"))
    reasons = failure_reasons(values)
    found = []
    for kind, title in kinds:
        for number, columns in enumerate(parts):
            names = [_wrapped(values["data"][c]["name"], _CELL, screen) for c in columns]
            rows = [
                (
                    _wrapped(run["name"], _NAME, screen),
                    *(_cell(values, reasons, row, c, kind, screen) for c in columns),
                )
                for row, run in enumerate(values["runs"])
            ]
            found.append(Sheet("" if number else title, ("run", *names), rows))
    return found


def failure_reasons(values: dict[str, Any]) -> list[str]:
    """The distinct reasons why cells could not be computed, in the order of the matrix."""
    cells = (cell for row in values["cells"] for cell in row)
    return list(dict.fromkeys(cell["reason"] for cell in cells if cell["reason"] is not None))


def remarks(values: dict[str, Any]) -> list[str]:
    """What the reader of the matrix must know, in short lines."""
    lines = []
    cells = [cell for row in values["cells"] for cell in row]
    at_home = [cell for cell in cells if cell["in_domain"] and cell["reason"] is None]
    lines += [f"({n}) {reason}" for n, reason in enumerate(failure_reasons(values), start=1)]
    if at_home:
        lines.append("*: in-domain, the run was trained on this data set.")
        if values["split"] == "val":
            lines.append(
                "In-domain figures on val are of the objects that the run was chosen on, so they "
                "are a little too high; --split test has no such favour."
            )
    elif any(cell["reason"] is None for cell in cells):
        lines.append("No run was trained on any of these sets, as far as the runs' records say.")
    for column, data in enumerate(values["data"]):
        done = [row[column] for row in values["cells"] if row[column]["reason"] is None]
        if done:
            one = done[0]
            lines.append(
                f"{data['name']}: {one['queries']:,} captions, {one['gallery']:,} images, "
                f"{one['objects']:,} objects; by chance R@1 {one['chance']['R@1']:.1f}, "
                f"mAP {one['chance']['mAP']:.1f}."
            )
        lines += [f"{data['name']}: {note}" for note in data["notes"]]
    how = "refined where a run's validation chose so" if values["refine"] else "plain cosine"
    lines.append(
        f"Ranked {how}. In brackets: 95 % interval, bootstrap over objects, "
        f"{values['resamples']:,} resamples, seed {values['seed']}."
    )
    lines.append(
        "Compare within a column: sets differ in how many images there are to choose from."
    )
    return lines


def in_words(values: dict[str, Any]) -> str:
    """The whole as Markdown."""
    tables = "\n\n".join(sheet.markdown() for sheet in matrix_sheets(values))
    said = "\n".join(f"- {line}" for line in remarks(values))
    machine = f"{values['machine']['system']}, {values['machine']['processor']}"
    made = f"mmref {values['versions']['mmref']}, torch {values['versions']['torch']}, {machine}"
    return f"{tables}\n\n{said}\n\nMeasured with {made}.\n"


def _wrapped(name: str, width: int, screen: bool) -> str:
    return fill(name, width, break_on_hyphens=True) if screen else name


def _cell(
    values: dict[str, Any], reasons: list[str], row: int, column: int, kind: str, screen: bool
) -> str:
    cell = values["cells"][row][column]
    mark = "*" if cell["in_domain"] else ""
    if cell["reason"] is not None:
        return f"- ({reasons.index(cell['reason']) + 1})"
    if kind == "share":
        return "-" if cell["share"] is None else f"{cell['share']:.0f} %{mark}"
    told = f"{cell['t2i'][values['metric']]:.1f}{mark}"
    if cell["ci95"]:
        low, high = cell["ci95"][values["metric"]]
        told += f"{chr(10) if screen else ' '}[{low:.1f}, {high:.1f}]"
    return told
