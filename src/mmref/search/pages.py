"""Pages: a ranked list cut into hits, folded or grouped, strictly behind a place in it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from mmref.search.cursor import Cursor
from mmref.search.folding import Bunch, Known, column_values, folded, grouped, unknown
from mmref.search.hits import Hit, Other
from mmref.search.options import Options
from mmref.search.ranking import DECIMALS, Ranked, Ranking
from mmref.search.records import Item
from mmref.search.stores.base import View


def listed(
    view: View,
    ranking: Ranking,
    first: Ranked,
    least: float,
    options: Options,
    place: Cursor | None,
) -> tuple[Ranked, list[Bunch]]:
    """The ranked list and its hits, as deep as the page asks for, and one hit more where there is.

    Args:
        view: one generation of a store.
        ranking: the query's.
        first: its first tier, made already.
        least: the score at which the list ends.
        options: how many hits, folded or grouped how.
        place: the end of the page before, or None.
    """
    ranked = first.only(first.scores >= least)
    while True:
        bunches = bunched(view, ranked, options)
        start = 0 if place is None else behind(ranked, bunches, place)
        tiers = 0 if place is None else place.tier
        if len(bunches) > start + options.k or ranking.ended:
            return ranked, bunches
        tier = ranking.tier()
        kept = tier.only(tier.scores >= least)
        if len(tier) and not len(kept) and len(ranking.bounds) > tiers:
            return ranked, bunches  # a whole tier is below the cut
        ranked = ranked.then(kept)


def bunched(view: View, ranked: Ranked, options: Options) -> list[Bunch]:
    """A ranked list folded or grouped; else a bunch for each row."""
    ids = [int(number) for number in ranked.ids]
    if options.group_by is not None:
        return grouped(view.get(ids), options.group_by, partial(_has, view, options.group_by))
    if options.fold is not None and ids:
        digests = [item.digest for item in view.get(ids)]
        return folded(digests, view.own(ids)[0], options.fold)
    return [Bunch(row) for row in range(len(ids))]


def behind(ranked: Ranked, bunches: Sequence[Bunch], place: Cursor) -> int:
    """The first bunch strictly behind a place."""
    here = (place.tier, -place.score, place.id)
    for number, bunch in enumerate(bunches):
        row = bunch.row
        key = (int(ranked.tiers[row]), -float(ranked.scores[row]), int(ranked.ids[row]))
        if key > here:
            return number
    return len(bunches)


def hits_of(
    view: View, ranked: Ranked, bunches: Sequence[Bunch], shown: int, options: Options
) -> list[Hit]:
    """Bunches as hits, ranked from ``shown + 1`` on, in the order in which they are shown."""
    rows = [row for bunch in bunches for row in (bunch.row, *bunch.others)]
    items = {item.id: item for item in view.get([int(ranked.ids[row]) for row in rows])}
    asked = options.fold is not None or options.group_by is not None
    hits: list[Hit] = []
    for bunch in bunches:
        row = bunch.row
        item = items[int(ranked.ids[row])]
        others = tuple(
            Other(
                int(ranked.ids[other]),
                items[int(ranked.ids[other])].place.path,
                float(ranked.scores[other]),
            )
            for other in bunch.others
        )
        reference = ranked.reference
        hits.append(
            Hit(
                shown + len(hits) + 1,
                item.id,
                item.place.path,
                float(ranked.scores[row]),
                round(float(ranked.base[row]), DECIMALS),
                None if reference is None else round(float(reference[row]), DECIMALS),
                item.place.metadata,
                bunch.group,
                others if asked else None,
            )
        )
    if options.sort is None:
        return hits
    column = options.sort.removeprefix("-")
    return in_order(
        hits, [items[hit.id] for hit in hits], options.sort, lambda: shown > 0 or _has(view, column)
    )


def _has(view: View, column: str) -> bool:
    """Whether some item has a column; false where finding that out takes time."""
    return column in (view.column_names() or ())


def in_order(
    hits: Sequence[Hit], items: Sequence[Item], sort: str, known: Known = unknown
) -> list[Hit]:
    """Hits by a column, with what they have in it: numbers, then texts and dates, nothing last.

    Equal ones stay by rank.

    Args:
        hits: by rank.
        items: theirs.
        sort: a column; falling with ``-`` before it.
        known: as for :func:`mmref.search.folding.column_values`.

    Raises:
        UsageError: no item has such a column.
    """
    values = column_values(items, sort.removeprefix("-"), known)
    rows = [row for row, value in enumerate(values) if value is not None]

    def key(row: int) -> tuple[bool, float, str]:
        value = values[row]
        number = isinstance(value, int | float)
        return not number, value if number else 0.0, "" if number else str(value)

    rows.sort(key=key, reverse=sort.startswith("-"))
    return [replace(hits[row], sort_value=values[row]) for row in rows] + [
        hit for hit, value in zip(hits, values, strict=True) if value is None
    ]
