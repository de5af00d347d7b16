"""Contact sheets: one row a question, its best hits beside it with pictures and scores."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont, ImageOps

from mmref.data.images import load_image
from mmref.errors import ImageError
from mmref.files import atomic_write
from mmref.search.hits import Hit

PAPER, INK, FAINT, TILE = "#ffffff", "#1c1f23", "#6a7078", "#e6e8eb"
RIGHT, WRONG, LINE = "#1a8f4c", "#cc3333", "#d5d8dc"
MARGIN, GAP, FRAME, PAD = 28, 16, 5, 6
TITLE_SIZE, TEXT_SIZE = 21, 15
LEADING = 1.35
LEAST_WIDTH = 560
LINES, LINE_LETTERS = 5, 21  # of a caption below its picture
LONGEST = 400  # letters of a line or a word that are looked at


class Tile(NamedTuple):
    """One hit: its picture (a path, a PIL image, or None), lines below it, right or wrong."""

    image: Any
    lines: Sequence[str]
    mark: bool | None = None


@dataclass(frozen=True)
class Row:
    """One question and its hits.

    Attributes:
        title: the question.
        tiles: the hits; plain tuples (image, lines, mark) are taken too.
        image: the question's own picture, or None.
        subtitle: a line below the question in smaller letters; without tiles it stands in the
            place of "no match".
    """

    title: str
    tiles: Sequence[Any] = field(default_factory=list)
    image: Any = None
    subtitle: str = ""


def contact_sheet(
    rows: Sequence[Any],
    path: str | Path,
    *,
    tile: tuple[int, int] = (168, 168),
    heading: str = "",
) -> None:
    """Draw a contact sheet and write it, whole or not at all.

    Args:
        rows: :class:`Row` values, or tuples (title, tiles).
        path: where to write; a PNG whatever its name.
        tile: height and width of a picture, pixels.
        heading: a line over all rows.

    Raises:
        PathError: the file cannot be written.
        ValueError: there are no rows.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "sheet.png"
        >>> red = Image.new("RGB", (30, 20), "red")
        >>> contact_sheet([("a red flag", [(red, ["1  0.912", "a.png"], True)])], target)
        >>> load_image(target).size
        (616, 316)
    """
    plain = [row if isinstance(row, Row) else Row(*row) for row in rows]
    if not plain:
        raise ValueError("a contact sheet needs at least one row")
    sheet = _Sheet(plain, tile, heading).draw()
    with atomic_write(path) as partial:
        sheet.save(partial, format="PNG")


def tile_for(pictures: Sequence[str | Path]) -> tuple[int, int]:
    """Height and width of tiles in which pictures of this shape fill their place.

    Args:
        pictures: paths; files that cannot be opened do not count.

    Example:
        >>> tile_for(["nowhere.png"])
        (168, 168)
    """
    shapes = []
    for picture in pictures:
        try:
            with Image.open(picture) as opened:
                shapes.append(opened.height / opened.width)
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
    shape = sorted(shapes)[len(shapes) // 2] if shapes else 1.0
    return (216, 118) if shape > 1.4 else (126, 190) if shape < 1 / 1.4 else (168, 168)


def tile_of(hit: Hit, mark: bool | None = None) -> Tile:
    """A hit as a tile: rank and score, base + reference, file name.

    Example:
        >>> tile_of(Hit(1, 7, "/pics/a.png", 1.2, 0.5, 0.7, {})).lines
        ['#1   1.200', '0.50 + ref 0.70', 'a.png']
    """
    parts = f"{hit.base_score:.2f}"
    if hit.reference_score is not None:
        parts += f" + ref {hit.reference_score:.2f}"
    lines = [f"#{hit.rank}   {hit.score:.3f}", parts, Path(hit.path).name]
    return Tile(hit.path, lines, mark)


def caption_tile(hit: Hit) -> Tile:
    """A caption as a tile: its picture, rank and score, the sentence.

    Example:
        >>> found = {"caption": "a red flag with a yellow star", "image": "/pics/a.png"}
        >>> caption_tile(Hit(1, 7, "/pics/a.png#2", 1.2, 0.5, 0.7, found)).lines
        ['#1   1.200', '0.50 + ref 0.70', 'a red flag with a', 'yellow star']
    """
    sentence = str(hit.metadata["caption"])
    lines = textwrap.wrap(sentence, LINE_LETTERS, max_lines=LINES, placeholder=" ...")
    return Tile(hit.metadata["image"], [*tile_of(hit).lines[:2], *lines])


class _Sheet:
    def __init__(self, rows: Sequence[Row], tile: tuple[int, int], heading: str) -> None:
        self.rows, self.heading = rows, heading
        self.height, self.width = tile
        self.title_font = ImageFont.load_default(size=TITLE_SIZE)
        self.font = ImageFont.load_default(size=TEXT_SIZE)
        self.title_step = int(TITLE_SIZE * LEADING)
        self.step = int(TEXT_SIZE * LEADING)
        self.cell = self.width + 2 * FRAME
        most = max(len(row.tiles) for row in rows)
        self.inner = max(LEAST_WIDTH, most * self.cell + max(most - 1, 0) * GAP)

    def draw(self) -> Image.Image:
        """Lay out, then paint."""
        parts = [self._head(row) for row in self.rows]
        heights = [
            head + self._tiles_height(row) for (head, _), row in zip(parts, self.rows, strict=True)
        ]
        top = MARGIN + (self.title_step + GAP if self.heading else 0)
        gaps = 2 * GAP * (len(heights) - 1)
        total = (self.inner + 2 * MARGIN, top + sum(heights) + gaps + MARGIN)
        self.image = Image.new("RGB", total, PAPER)
        self.pen = ImageDraw.Draw(self.image)
        if self.heading:
            line = self._cut(self.heading, self.title_font, self.inner)
            self.pen.text((MARGIN, MARGIN), line, FAINT, self.title_font)
        for number, (row, (head, lines)) in enumerate(zip(self.rows, parts, strict=True)):
            if number:
                self.pen.line((MARGIN, top - GAP, MARGIN + self.inner, top - GAP), LINE)
            self._paint_head(row, lines, top)
            self._paint_tiles(row, top + head)
            top += heights[number] + 2 * GAP
        return self.image

    # ------------------------------------------------------------------ the question

    def _query_size(self, row: Row) -> tuple[int, int]:
        return (0, 0) if row.image is None else (self.height * 2 // 3, self.width * 2 // 3)

    def _head(self, row: Row) -> tuple[int, list[str]]:
        height, width = self._query_size(row)
        room = self.inner - (width + GAP if width else 0)
        lines = self._wrap(row.title, self.title_font, room, 4)
        text = len(lines) * self.title_step + (self.step if row.subtitle else 0)
        return max(text, height) + GAP // 2, lines

    def _paint_head(self, row: Row, lines: list[str], top: int) -> None:
        height, width = self._query_size(row)
        left = MARGIN
        if width:
            self._paint_picture(row.image, left, top, height, width)
            left += width + GAP
        for line in lines:
            self.pen.text((left, top), line, INK, self.title_font)
            top += self.title_step
        if row.subtitle:
            room = self.inner - (left - MARGIN)
            self.pen.text((left, top), self._cut(row.subtitle, self.font, room), FAINT, self.font)

    # ------------------------------------------------------------------ the hits

    def _tiles_height(self, row: Row) -> int:
        if not row.tiles:
            return self.step
        most = max(len(Tile(*tile).lines) for tile in row.tiles)
        return self.height + 2 * FRAME + PAD + most * self.step

    def _paint_tiles(self, row: Row, top: int) -> None:
        if not row.tiles and not row.subtitle:
            self.pen.text((MARGIN, top), "no match", FAINT, self.font)
        for place, given in enumerate(row.tiles):
            tile = Tile(*given)
            left = MARGIN + place * (self.cell + GAP)
            if tile.mark is not None:
                box = (left, top, left + self.cell - 1, top + self.height + 2 * FRAME - 1)
                self.pen.rectangle(box, outline=RIGHT if tile.mark else WRONG, width=FRAME - 1)
            self._paint_picture(tile.image, left + FRAME, top + FRAME, self.height, self.width)
            below = top + self.height + 2 * FRAME + PAD
            for number, line in enumerate(tile.lines):
                shown = self._cut(str(line), self.font, self.cell, keep_end=number > 0)
                self.pen.text((left, below), shown, FAINT if number else INK, self.font)
                below += self.step

    def _paint_picture(self, given: Any, left: int, top: int, height: int, width: int) -> None:
        self.pen.rectangle((left, top, left + width - 1, top + height - 1), fill=TILE)
        picture = _picture(given, (height, width))
        if picture is not None:
            fitted = ImageOps.contain(picture, (width, height), Image.Resampling.LANCZOS)
            spot = (left + (width - fitted.width) // 2, top + (height - fitted.height) // 2)
            self.image.paste(fitted, spot)
            self.pen.rectangle((left, top, left + width - 1, top + height - 1), outline=LINE)
            return
        name = Path(given).name if isinstance(given, str | Path) and str(given) else ""
        lines = self._wrap("no picture", self.font, width - 2 * PAD, 1)
        if name and height >= 4 * self.step:
            lines = [*lines, *self._wrap(name, self.font, width - 2 * PAD, 3)]
        y = top + (height - len(lines) * self.step) // 2
        for line in lines:
            x = left + (width - int(self.font.getlength(line))) // 2
            self.pen.text((x, y), line, FAINT, self.font)
            y += self.step

    # ------------------------------------------------------------------ letters

    def _cut(self, text: str, font: Any, room: int, keep_end: bool = False) -> str:
        clean = " ".join(text.splitlines())
        clean = clean[-LONGEST:] if keep_end else clean[:LONGEST]
        if font.getlength(clean) <= room:
            return clean
        while clean and font.getlength(clean + "...") > room:
            clean = clean[1:] if keep_end else clean[:-1]
        return "..." + clean if keep_end else clean + "..."

    def _wrap(self, text: str, font: Any, room: int, most: int) -> list[str]:
        lines: list[str] = []
        for word in text.split():
            if len(lines) > most:
                break
            rest = word[:LONGEST]
            if lines and font.getlength(f"{lines[-1]} {rest}") <= room:
                lines[-1] += f" {rest}"
                continue
            while font.getlength(rest) > room and len(rest) > 1:
                size = len(rest)
                while size > 1 and font.getlength(rest[:size]) > room:
                    size -= 1
                lines.append(rest[:size])
                rest = rest[size:]
            lines.append(rest)
        if len(lines) > most:
            lines = [*lines[: most - 1], self._cut(" ".join(lines[most - 1 :]), font, room)]
        return lines


def _picture(given: Any, near: tuple[int, int]) -> Image.Image | None:
    if given is None:
        return None
    try:
        return load_image(given, near=near)
    except ImageError:
        return None
