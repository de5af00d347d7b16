"""The probability of a caption given what one image shows: the ceiling for perfect eyes.

An image tells the values of its visible attributes; hidden ones are summed over, each by the
weights with which the domain draws it (how look-alikes were made is not used):

    P(caption | image) = sum_h P(h | shown) prod_a P(said_a | h) / (1 - prod_a P(nothing of a | h))

over all completions h. 1 / (1 - x) = 1 + x + x^2 + ..., and each term of that series is a product
over groups of attributes that depend on each other (a head and what needs it, two that must
differ), so the sum runs over the states of each group alone. Where these would be too many, it
runs over the values of one attribute, the hub, and for each of them over the states of the
branches that the hub holds together. All of it is our choice.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import count, islice
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mmref.data.synthetic.attributes import Ambiguity, Attribute, Domain
from mmref.data.synthetic.oracle import LEFT_OUT, CaptionModel, Codes, Values
from mmref.errors import DataError

_ROWS = 512  # captions at a time
_NEGLIGIBLE = 1e-13  # share of the series that is left out
_MANY = 100_000  # states of a group, roughly counted, that ask for a hub
_LONGEST = 1000  # terms of the series
_UNKNOWN = -1

State = dict[str, str | None]
Sights = Sequence[Mapping[str, str]]
Places = NDArray[np.intp]


def groups(attributes: Sequence[Attribute]) -> list[list[Attribute]]:
    """The attributes in groups that do not depend on each other, each in the given order.

    Example:
        >>> from mmref.data.synthetic.generate import domains
        >>> found = groups(domains()["figures"].attributes)
        >>> [a.name for a in found[2]]
        ['hair', 'hair_colour']
    """
    group_of = {a.name: k for k, a in enumerate(attributes)}
    for attribute in attributes:
        for other in (attribute.needs and attribute.needs[0], attribute.unlike):
            if other in group_of:
                old, new = group_of[attribute.name], group_of[other]
                group_of = {name: new if k == old else k for name, k in group_of.items()}
    members: dict[int, list[Attribute]] = {}
    for attribute in attributes:
        members.setdefault(group_of[attribute.name], []).append(attribute)
    return list(members.values())


def states_of(group: Sequence[Attribute], given: State | None = None) -> list[tuple[State, float]]:
    """All that a group of attributes can be, with the probability that it is drawn.

    Args:
        group: heads before the attributes that need them.
        given: attributes outside the group on which it depends; they stand in each state too.

    Example:
        >>> from mmref.data.synthetic.generate import domains
        >>> scarf = [a for a in domains()["figures"].attributes if a.name.startswith("scarf")]
        >>> len(states_of(scarf)), round(sum(p for _, p in states_of(scarf)), 9)
        (14, 1.0)
    """
    found: list[tuple[State, float]] = [(dict(given or {}), 1.0)]
    for attribute in group:
        found = [longer for state, p in found for longer in _extended(attribute, state, p)]
    return found


def _extended(
    attribute: Attribute, state: State, probability: float
) -> Iterator[tuple[State, float]]:
    if not attribute.exists(state):
        yield {**state, attribute.name: None}, probability
        return
    other = state[attribute.unlike] if attribute.unlike else None
    options = [(value, weight) for value, weight in attribute.values if value != other]
    total = sum(weight for _, weight in options)
    for value, weight in options:
        yield {**state, attribute.name: value}, probability * weight / total


def hub_of(group: Sequence[Attribute]) -> Attribute | None:
    """The attribute that is best fixed first in a group of very many states, if it is one.

    Example:
        >>> colours = tuple((f"colour {n}", 1.0) for n in range(30))
        >>> parts = [Attribute(f"part {n}", colours, unlike="petal") for n in range(4)]
        >>> hub = hub_of([Attribute("petal", colours), *parts])
        >>> hub.name if hub else None
        'petal'
    """

    def most(parts: Sequence[Sequence[Attribute]]) -> int:
        return max(
            (prod(len(a.values) + (a.needs is not None) for a in part) for part in parts), default=1
        )

    roots = [a for a in group if a.needs is None and a.unlike is None]
    if most([group]) <= _MANY or not roots:
        return None
    return min(roots, key=lambda hub: most(groups([a for a in group if a is not hub])))


class _Branch:
    """Attributes that depend on each other, once the hub is known: their states and sights."""

    def __init__(self, model: CaptionModel, attributes: list[Attribute], given: State) -> None:
        order = {a.name: k for k, a in enumerate(model.domain.attributes)}
        self.columns = [order[a.name] for a in attributes]
        self._attributes = attributes
        found = states_of(attributes, given)
        self._prior = np.asarray([p for _, p in found])
        self._states = np.asarray([_codes(attributes, state) for state, _ in found])
        self._tables = [
            model.tables[a.name].rows(
                [(state[a.name], state[a.unlike] if a.unlike else None) for state, _ in found]
            )
            for a in attributes
        ]
        self.nothing = np.prod([table[:, LEFT_OUT] for table in self._tables], axis=0)

    def look(self, sights: Sights) -> tuple[Any, Values, Places]:
        """P(state, shown) of the distinct sights, their P(shown), and which one each is."""
        known = np.asarray([_codes(self._attributes, sight) for sight in sights])
        known = known.reshape(len(sights), len(self._attributes))
        distinct, place = np.unique(known, axis=0, return_inverse=True)
        fits = []
        for sight in distinct:
            sees = sight != _UNKNOWN
            fits.append(np.flatnonzero((self._states[:, sees] == sight[sees]).all(axis=1)))
        heads = np.concatenate([[0], np.cumsum([len(fit) for fit in fits])])
        states = np.concatenate([np.zeros(0, dtype=np.int64), *fits])
        joint = sparse.csr_array(
            (self._prior[states], states, heads), shape=(len(distinct), len(self._states))
        )
        return joint, joint.sum(axis=1), place.reshape(-1)

    def said(self, codes: Codes) -> tuple[Values, Places]:
        """P(said | state) of the distinct sayings, and which one each caption is."""
        sayings, place = np.unique(codes[:, self.columns], axis=0, return_inverse=True)
        chance = np.ones((len(self._states), len(sayings)))
        for k, table in enumerate(self._tables):
            chance *= table[:, sayings[:, k]]
        return chance, place.reshape(-1)


def _codes(attributes: Sequence[Attribute], known: Mapping[str, str | None]) -> list[int]:
    """A number for each value; one more for what does not exist, -1 for what is not known."""
    codes = []
    for attribute in attributes:
        values: list[str | None] = [value for value, _ in attribute.values]
        value = known.get(attribute.name)
        if attribute.name not in known:
            codes.append(_UNKNOWN)
        elif value is None:
            codes.append(len(values))
        elif value in values:
            codes.append(values.index(value))
        else:
            raise DataError(f"{value!r} is no value of {attribute.name}: generate the set again")
    return codes


@dataclass
class _Case:
    """One value of the hub, or the only case of a group without one."""

    prior: float
    branches: list[_Branch]
    hub: tuple[int, Values] | None = None  # its column, and P(said of the hub | this value)
    rows: Places = field(default_factory=lambda: np.zeros(0, dtype=np.intp))  # sights that fit
    seen: list[tuple[Any, Places]] = field(default_factory=list)

    def nothing_at_most(self) -> float:
        """The highest P(nothing said of the group | state)."""
        hub = 1.0 if self.hub is None else float(self.hub[1][LEFT_OUT])
        return hub * prod(float(branch.nothing.max()) for branch in self.branches)


class _Group:
    """One group of attributes, and what the images show of it."""

    def __init__(self, model: CaptionModel, group: list[Attribute], images: Sights) -> None:
        self.attributes, hub = group, hub_of(group)
        order = {a.name: k for k, a in enumerate(model.domain.attributes)}
        self._columns = [order[a.name] for a in group]
        if hub is None:
            self.cases = {"": _Case(1.0, [_Branch(model, group, {})])}
        else:
            parts = groups([a for a in group if a is not hub])
            self.cases = {}
            for state, p in states_of([hub]):
                branches = [_Branch(model, part, state) for part in parts]
                value = str(state[hub.name])
                row = model.tables[hub.name].rows([(value, None)])[0]
                self.cases[value] = _Case(p, branches, (order[hub.name], row))
        self._look(images, hub)

    def _look(self, images: Sights, hub: Attribute | None) -> None:
        names = [a.name for a in self.attributes]
        kept = [{n: image[n] for n in names if n in image} for image in images]
        distinct = {tuple(sight.items()): sight for sight in kept}
        place = {key: n for n, key in enumerate(distinct)}
        sights = list(distinct.values())
        self.image = np.asarray([place[tuple(sight.items())] for sight in kept], dtype=np.intp)
        self._mass = np.zeros(len(sights))
        for value, case in self.cases.items():
            fits = [hub is None or sight.get(hub.name, value) == value for sight in sights]
            case.rows = np.flatnonzero(fits)
            mass = np.full(len(case.rows), case.prior)
            for branch in case.branches:
                joint, shown_mass, where = branch.look([sights[row] for row in case.rows])
                case.seen.append((joint, where))
                mass *= shown_mass[where]
            self._mass[case.rows] += mass
        if (self._mass <= 0).any():
            bad = sights[int(np.flatnonzero(self._mass <= 0)[0])]
            raise DataError(
                f"an image shows {', '.join(f'{n} {v}' for n, v in bad.items())}, as no object can "
                "be: generate the set again"
            )

    def terms(self, codes: Codes) -> Iterator[Values]:
        """Log P(said of the group, nothing said of it n times | shown), n = 0, 1, 2, ...

        Args:
            codes: of captions, ``[captions, attributes]``.

        Yields:
            float64 ``[captions, images]`` for each n.
        """
        sayings, caption = np.unique(codes[:, self._columns], axis=0, return_inverse=True)
        whole = np.zeros((len(sayings), codes.shape[1]), dtype=np.int64)
        whole[:, self._columns] = sayings
        said = {
            value: [branch.said(whole) for branch in case.branches]
            for value, case in self.cases.items()
        }
        for n in count():
            found = np.zeros((len(self._mass), len(sayings)))
            for value, case in self.cases.items():
                part = np.full((len(case.rows), len(sayings)), case.prior)
                if case.hub is not None:
                    column, row = case.hub
                    part *= row[whole[:, column]] * row[LEFT_OUT] ** n
                for branch, (joint, sight), (chance, saying) in zip(
                    case.branches, case.seen, said[value], strict=True
                ):
                    part *= (joint @ chance)[np.ix_(sight, saying)]
                    np.multiply(chance, branch.nothing[:, None], out=chance)
                found[case.rows] += part
            logs = np.log(found / self._mass[:, None]).T
            yield np.ascontiguousarray(logs[:, self.image])[caption.reshape(-1)]


class VisibleOracle:
    """log P(caption | what an image shows) for captions and the images of a gallery.

    Args:
        domain: of the set.
        ambiguity: the error rates of the captions.
        images: what each image shows: attribute -> value, of its visible attributes.

    Raises:
        DataError: an image shows what no object of the domain can have.

    Example:
        >>> colours = (("red", 3.0), ("blue", 1.0))
        >>> hats = Domain("hats", (Attribute("hat", colours),), str, str)
        >>> oracle = VisibleOracle(hats, Ambiguity(contradict=0.2), [{"hat": "red"}, {}])
        >>> np.exp(oracle.log_likelihood([["hat=red"]])).round(3).tolist()
        [[0.8, 0.65]]
    """

    def __init__(
        self, domain: Domain, ambiguity: Ambiguity, images: Sequence[Mapping[str, str]]
    ) -> None:
        unknown = {name for image in images for name in image} - {a.name for a in domain.attributes}
        if unknown:
            raise DataError(
                f"an image shows {min(unknown)!r}, no attribute of {domain.name}: "
                "generate the set again"
            )
        self.images = len(images)
        self._model = CaptionModel(domain, ambiguity)
        self._groups = [_Group(self._model, group, images) for group in groups(domain.attributes)]
        highest = prod(
            max(case.nothing_at_most() for case in group.cases.values()) for group in self._groups
        )
        # What is left out after n terms is at most highest^n of the whole.
        self._terms = next(n for n in count(1) if highest**n < _NEGLIGIBLE or n >= _LONGEST)

    def log_likelihood(self, stated: Sequence[Sequence[str]]) -> Values:
        """Log P(caption | shown), float64 ``[captions, images]``.

        Args:
            stated: records of each caption, ``attribute=value`` or ``attribute~word``.

        Raises:
            DataError: a record is none of this domain's.
        """
        codes = self._model.caption_codes(stated)
        found = np.empty((len(codes), self.images))
        for start in range(0, len(codes), _ROWS):
            found[start : start + _ROWS] = self._block(codes[start : start + _ROWS])
        return found

    def _block(self, codes: Codes) -> Values:
        series: Values | None = None
        with np.errstate(divide="ignore"):
            each = zip(*(group.terms(codes) for group in self._groups), strict=True)
            for terms in islice(each, self._terms):
                term = reduce(np.add, terms)
                series = term if series is None else np.logaddexp(series, term)
        assert series is not None
        return series
