"""The exact probability of a caption given an object: the ceiling of the ambiguity benchmark.

The generator draws a caption attribute by attribute from ``saying_probabilities``, says nothing
about what the stated head leaves no room for, and draws again when nothing was said. So

    P(caption | object) = prod_a P(said_a | object) / (1 - prod_a P(nothing said of a | object))

over the attributes a that the object has and that the caption's statements leave open. Whether an
attribute is open depends on the caption alone, so each attribute is one small table of (what the
object is, what the caption says) and the matrix of all captions and objects is a sum of gathers.
How statements become words does not depend on the object, so the statements are all that counts.
All of it is our choice.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mmref.data.synthetic.attributes import (
    Ambiguity,
    Attribute,
    Attributes,
    Domain,
    Statement,
    _open,
    saying_probabilities,
)
from mmref.errors import DataError

Values = NDArray[np.float64]
Codes = NDArray[np.int64]
_MARK = re.compile("[=~]")
# What a caption says of an attribute: nothing, though it could; nothing, for its head leaves no
# room for it; something, though its head leaves no room for it. Then come the statements.
LEFT_OUT, _NO_ROOM, _NEVER, _SAID = range(4)
_ABSENT = 0  # the state of an attribute that an object does not have


class SayingTable:
    """What is said of one attribute, with its probability for each state of an object.

    A state is a value together with that of the attribute from which it must differ.

    Args:
        attribute: of the domain.
        ambiguity: the error rates.

    Example:
        >>> table = SayingTable(Attribute("hat", (("red", 1), ("blue", 1))), Ambiguity(omit=0.25))
        >>> red = table.state("red", None)
        >>> table.probabilities()[red, table.code("hat=red")].item()
        0.75
    """

    def __init__(self, attribute: Attribute, ambiguity: Ambiguity) -> None:
        self.attribute, self._ambiguity = attribute, ambiguity
        named = [
            *(f"={value}" for value, _ in attribute.values),
            *(f"~{w}" for w in attribute.vague),
        ]
        self._codes = {attribute.name + text: _SAID + n for n, text in enumerate(named)}
        self._states: dict[tuple[str, str | None], int] = {}
        never = np.zeros(_SAID + len(named))
        never[[LEFT_OUT, _NO_ROOM]] = 1.0
        self._rows = [never]
        self._values = {value for value, _ in attribute.values}

    def code(self, record: str) -> int:
        """The column of a statement's record.

        Raises:
            DataError: the domain has no such statement.
        """
        if record not in self._codes:
            raise DataError(
                f"the statement {record!r} is none of {self.attribute.name}: settings.json and "
                "manifest are of different sets, generate the set again"
            )
        return self._codes[record]

    def state(self, value: str | None, other: str | None) -> int:
        """The row of a state; ``other`` is the value of the attribute that it must differ from.

        Raises:
            DataError: the attribute has no such value.
        """
        if value is None:
            return _ABSENT
        key = (value, other)
        if key not in self._states:
            name, unlike = self.attribute.name, self.attribute.unlike
            if value not in self._values:
                raise DataError(
                    f"{value!r} is no value of the attribute {name}: settings.json and manifest "
                    "are of different sets, generate the set again"
                )
            truth = {name: value} | ({unlike: other} if unlike else {})
            row = np.zeros_like(self._rows[0])
            row[_NO_ROOM] = 1.0
            for said, p in saying_probabilities(self.attribute, truth, self._ambiguity):
                row[LEFT_OUT if said is None else self._codes[said.record]] += p
            self._states[key] = len(self._rows)
            self._rows.append(row)
        return self._states[key]

    def rows(self, states: Sequence[tuple[str | None, str | None]]) -> Values:
        """P(said | state) of several states, each a value and the other's, ``[n, said]``."""
        numbers = [self.state(*state) for state in states]
        return self.probabilities()[numbers]

    def probabilities(self) -> Values:
        """P(said | state), float64 ``[states, what can be said]``."""
        return np.stack(self._rows)


class CaptionModel:
    """P(caption | object) of a domain at given error rates.

    Args:
        domain: what can be said.
        ambiguity: the error rates of the captions.

    Example:
        >>> hats = Domain("hats", (Attribute("hat", (("red", 1), ("blue", 1))),), str, str)
        >>> model = CaptionModel(hats, Ambiguity(contradict=0.2))
        >>> objects = [{"hat": "red"}, {"hat": "blue"}]
        >>> np.exp(model.log_posterior([["hat=red"]], objects)).round(3).tolist()
        [[0.8, 0.2]]
    """

    def __init__(self, domain: Domain, ambiguity: Ambiguity) -> None:
        self.domain = domain
        self.tables = {a.name: SayingTable(a, ambiguity) for a in domain.attributes}

    def caption_codes(self, stated: Sequence[Sequence[str]]) -> Codes:
        """What each caption says of each attribute, int64 ``[captions, attributes]``.

        Args:
            stated: records of each caption, ``attribute=value`` or ``attribute~word``.

        Raises:
            DataError: a record is none of this domain's.
        """
        return np.asarray([self._codes_of(records) for records in stated], dtype=np.int64).reshape(
            len(stated), len(self.tables)
        )

    def _codes_of(self, records: Sequence[str]) -> list[int]:
        said: dict[str, Statement] = {}
        codes: dict[str, int] = {}
        for record in records:
            mark = _MARK.search(record)
            name = record[: mark.start()] if mark else record
            if mark is None or name not in self.tables or name in said:
                raise DataError(
                    f"the statement {record!r} is not attribute=value or attribute~word of "
                    f"{self.domain.name}, or is the second of its attribute: generate the set again"
                )
            codes[name] = self.tables[name].code(record)
            said[name] = Statement(name, record[mark.end() :], mark[0] == "~", False)
        found = []
        for attribute in self.domain.attributes:
            room = _open(attribute, said, self.domain.attributes)
            if attribute.name in codes:
                found.append(codes[attribute.name] if room else _NEVER)
            else:
                found.append(LEFT_OUT if room else _NO_ROOM)
        return found

    def object_states(self, objects: Sequence[Attributes]) -> Codes:
        """The state of each attribute of each object, int64 ``[objects, attributes]``.

        Raises:
            DataError: an attribute is missing, or has a value that the domain does not know.
        """
        names = set(self.tables)
        for found in objects:
            if missing := sorted(names.difference(found)):
                raise DataError(
                    f"an object has no attribute {missing[0]!r}: its set is of another domain than "
                    f"{self.domain.name}, or of an older release: generate it again"
                )
        states = [
            [
                self.tables[a.name].state(found[a.name], found[a.unlike] if a.unlike else None)
                for a in self.domain.attributes
            ]
            for found in objects
        ]
        return np.asarray(states, dtype=np.int64).reshape(len(objects), len(self.tables))

    def log_likelihood(
        self, stated: Sequence[Sequence[str]], objects: Sequence[Attributes]
    ) -> Values:
        """Log P(caption | object), float64 ``[captions, objects]``; -inf where it is impossible.

        Args:
            stated: records of each caption.
            objects: the true attributes, None where an attribute does not exist.

        Raises:
            DataError: statements or attributes are none of this domain's.
        """
        codes, states = self.caption_codes(stated), self.object_states(objects)
        total = np.zeros((len(codes), len(states)))
        nothing = np.zeros(len(states))
        with np.errstate(divide="ignore", invalid="ignore"):
            for k, table in enumerate(self.tables.values()):
                logs = np.log(table.probabilities())
                said, row = np.unique(codes[:, k], return_inverse=True)
                total += logs[np.ix_(states[:, k], said)].T[row]
                nothing += logs[states[:, k], LEFT_OUT]
            total -= np.log1p(-np.exp(nothing))
        return total

    def log_posterior(
        self, stated: Sequence[Sequence[str]], objects: Sequence[Attributes]
    ) -> Values:
        """Log P(object | caption) with every object as likely before, ``[captions, objects]``.

        Raises:
            DataError: as `log_likelihood`, or no object can have a caption.
        """
        scores = self.log_likelihood(stated, objects)
        best = scores.max(axis=1, keepdims=True)
        if not np.isfinite(best).all():
            row = int(np.flatnonzero(~np.isfinite(best[:, 0]))[0])
            raise DataError(
                f"no object can have said of it {', '.join(stated[row])}: the captions were made "
                "with other error rates than these"
            )
        shifted = scores - best
        posterior: Values = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return posterior


def shown(attributes: Attributes, visible: Sequence[str]) -> Mapping[str, str]:
    """What one image shows: the values of its visible attributes.

    Raises:
        DataError: an attribute is said to show that the object does not have.

    Example:
        >>> shown({"hat": "cap", "bag": "none"}, ["hat"])
        {'hat': 'cap'}
    """
    found: dict[str, str] = {}
    for name in visible:
        value = attributes.get(name)
        if value is None:
            raise DataError(
                f"{name!r} is visible, but the object does not have it: generate the set again"
            )
        found[name] = value
    return found
