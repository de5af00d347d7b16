from rich.console import Console

from mmref.evaluation.tables import add_figures, add_intervals, figures_table, figures_title
from mmref.metrics.protocols import METRICS


def printed(table):
    console = Console(width=80)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_rows_of_figures_and_intervals():
    title = figures_title("birds, test", queries=1234, gallery=50, objects=7)
    table = figures_table(title)
    add_figures(table, "text to image", {name: 10.0 + k for k, name in enumerate(METRICS)})
    add_intervals(table, {name: [1.0 + k, 20.0 + k] for k, name in enumerate(METRICS)})
    lines = printed(table).splitlines()
    assert lines[0].strip() == "birds, test: 1,234 captions, 50 images, 7 objects"
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert cells == [
        ["text to image", "10.0", "11.0", "12.0", "13.0", "14.0"],
        ["95 % from", "1.0", "2.0", "3.0", "4.0", "5.0"],
        ["95 % to", "20.0", "21.0", "22.0", "23.0", "24.0"],
    ]


def test_no_interval_is_no_row():
    table = figures_table("x")
    add_intervals(table, None)
    assert table.row_count == 0
