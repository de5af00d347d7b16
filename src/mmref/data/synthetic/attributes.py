"""What an object is, and what a caption says of it: the two random choices of the benchmark.

An object is a value for each attribute of its domain (None where the attribute does not exist, as
the colour of a hat that nobody wears). A caption is a list of statements about it, drawn attribute
by attribute from ``saying_probabilities``: because this table is explicit, the probability of a
caption given an object can be computed exactly. All of it is our choice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np

from mmref.errors import ConfigError

T = TypeVar("T")
Attributes = Mapping[str, str | None]
_BUFFER = 64
_ATTEMPTS = 2000


class Draws:
    """Random draws, all made from uniform numbers of one PCG64 stream.

    The stream is named by a tuple of integers, so that an image or a caption is the same whatever
    else is generated and in which process.

    Example:
        >>> a, b = Draws(0, 1, 2), Draws(0, 1, 2)
        >>> a.below(1000) == b.below(1000), a.pick("abc") == b.pick("abc")
        (True, True)
    """

    def __init__(self, *stream: int) -> None:
        self.generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(stream)))
        self._buffer: list[float] = []

    def random(self) -> float:
        """A number in [0, 1)."""
        if not self._buffer:
            self._buffer = self.generator.random(_BUFFER).tolist()
        return self._buffer.pop()

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self.random()

    def below(self, count: int) -> int:
        """An integer in [0, count)."""
        return int(self.random() * count)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.random() < probability

    def pick(self, items: Sequence[T]) -> T:
        """One of the items, each equally likely."""
        return items[self.below(len(items))]

    def weighted(self, items: Sequence[tuple[T, float]]) -> T:
        """One of the items of ``(item, weight)`` pairs."""
        mark = self.random() * sum(weight for _, weight in items)
        for item, weight in items:
            mark -= weight
            if mark < 0:
                return item
        return items[-1][0]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in a random order."""
        rest = list(items)
        return [rest.pop(self.below(len(rest))) for _ in items]


@dataclass(frozen=True, eq=False)
class Attribute:
    """One thing that may differ between objects.

    Attributes:
        name: key of the attribute.
        values: ``(value, weight)`` pairs; objects draw values by weight.
        needs: ``(head, values)``: it exists only where attribute ``head`` has one of ``values``.
        absent: values that say that something is not there; captions mention them less often.
        vague: vague word -> the values that it may stand for; a value has one vague word at most.
        truthful: captions never get it wrong (left and right).
        unlike: another attribute, earlier in the domain, from which the value must differ.
    """

    name: str
    values: tuple[tuple[str, float], ...]
    needs: tuple[str, frozenset[str]] | None = None
    absent: frozenset[str] = frozenset()
    vague: Mapping[str, frozenset[str]] = field(default_factory=dict)
    truthful: bool = False
    unlike: str | None = None

    def exists(self, attributes: Attributes) -> bool:
        """Whether an object with these attributes has it."""
        return self.needs is None or attributes[self.needs[0]] in self.needs[1]

    def vague_word(self, value: str) -> str | None:
        """The vague word for a value, or None."""
        return next((word for word, values in self.vague.items() if value in values), None)

    def draw(self, attributes: Attributes, draws: Draws, other_than: str | None = None) -> str:
        """A value by weight, not ``other_than`` nor that of the attribute it must differ from."""
        excluded = {other_than, attributes.get(self.unlike) if self.unlike else None}
        options = [pair for pair in self.values if pair[0] not in excluded]
        return draws.weighted(options or [pair for pair in self.values if pair[0] == other_than])


@dataclass(frozen=True)
class Ambiguity:
    """How captions fall short of the truth.

    Attributes:
        omit: probability that an attribute is left out, in [0, 0.98].
        contradict: probability that a stated attribute is wrong, in [0, 1].
        vague: probability that a vague word stands for a value that has one, in [0, 1].
        absence: an attribute whose value says "nothing there" is stated this much less often.

    Raises:
        ConfigError: a probability is out of range.

    Example:
        >>> Ambiguity(omit=0.5).contradict
        0.0
    """

    omit: float = 0.0
    contradict: float = 0.0
    vague: float = 0.0
    absence: float = 0.25

    def __post_init__(self) -> None:
        for name, high in (("omit", 0.98), ("contradict", 1.0), ("vague", 1.0), ("absence", 1.0)):
            value = getattr(self, name)
            if not 0.0 <= value <= high:
                raise ConfigError(f"{name} is {value}: choose a value between 0 and {high:g}")


class Statement(NamedTuple):
    """What a caption says about one attribute.

    Attributes:
        attribute: its name.
        said: a value of the attribute, or a vague word.
        vague: whether ``said`` is a vague word.
        wrong: whether it contradicts the object.
    """

    attribute: str
    said: str
    vague: bool
    wrong: bool

    @property
    def record(self) -> str:
        """``attribute=value``, or ``attribute~word`` for a vague word."""
        return f"{self.attribute}{'~' if self.vague else '='}{self.said}"


def saying_probabilities(
    attribute: Attribute, attributes: Attributes, ambiguity: Ambiguity
) -> list[tuple[Statement | None, float]]:
    """What a caption says about one attribute of an object, with its probability.

    A wrong value is drawn evenly from the other values (not from that of the attribute it must
    differ from); a wrong value is never hidden behind a vague word that is true as well.

    Args:
        attribute: an attribute that the object has.
        attributes: the object.
        ambiguity: the error rates.

    Returns:
        ``(statement, probability)`` pairs that sum to 1; None stands for "left out".

    Example:
        >>> vague = {"dark": frozenset({"navy"})}
        >>> colour = Attribute("hat", (("red", 1), ("navy", 1)), vague=vague)
        >>> rates = Ambiguity(omit=0.5, contradict=0.2, vague=0.5)
        >>> for said, p in saying_probabilities(colour, {"hat": "navy"}, rates):
        ...     print(said.record if said else "-", round(p, 3))
        - 0.5
        hat=navy 0.2
        hat~dark 0.2
        hat=red 0.1
    """
    truth = attributes[attribute.name]
    if truth is None:
        raise ValueError(f"the object has no {attribute.name}")
    other = attributes.get(attribute.unlike) if attribute.unlike else None
    return list(_saying_table(attribute, truth, other, ambiguity))


@lru_cache(maxsize=16384)
def _saying_table(
    attribute: Attribute, truth: str, other: str | None, ambiguity: Ambiguity
) -> tuple[tuple[Statement | None, float], ...]:
    stated = (1.0 - ambiguity.omit) * (ambiguity.absence if truth in attribute.absent else 1.0)
    wrong = [v for v, _ in attribute.values if v not in (truth, other)]
    contradict = 0.0 if attribute.truthful or not wrong else ambiguity.contradict
    chances: dict[Statement | None, float] = {None: 1.0 - stated}
    options = [(truth, 1.0 - contradict), *((value, contradict / len(wrong)) for value in wrong)]
    for value, probability in options:
        word = attribute.vague_word(value)
        if word is not None and value != truth and truth in attribute.vague[word]:
            word = None
        vague = 0.0 if word is None else ambiguity.vague
        exact = Statement(attribute.name, value, False, value != truth)
        chances[exact] = chances.get(exact, 0.0) + stated * probability * (1.0 - vague)
        if word is not None:
            loose = Statement(attribute.name, word, True, value != truth)
            chances[loose] = chances.get(loose, 0.0) + stated * probability * vague
    return tuple((said, p) for said, p in chances.items() if p > 0 or said is None)


@dataclass(frozen=True)
class Domain:
    """A kind of object that the benchmark can draw: one file each.

    Attributes:
        name: as in ``--domain``.
        attributes: heads before the attributes that need them.
        grammar: turns statements into a caption, ``(statements, paraphrase, draws) -> str``.
        render: draws one view, ``(attributes, look, (h, w), ViewOptions, draws) -> Rendering``.
        image_size: height and width in pixels, where the settings name none.
    """

    name: str
    attributes: tuple[Attribute, ...]
    grammar: Callable[[Sequence[Statement], float, Draws], str]
    render: Callable[..., "object"]
    image_size: tuple[int, int] = (128, 64)

    def attribute(self, name: str) -> Attribute:
        """The attribute of this name."""
        return next(a for a in self.attributes if a.name == name)


def draw_statements(
    attributes_of_domain: Sequence[Attribute],
    attributes: Attributes,
    ambiguity: Ambiguity,
    draws: Draws,
) -> list[Statement]:
    """What one caption says of an object: one statement at least.

    Attributes are independent, with one exception: where the head is stated with a value for which
    an attribute does not exist ("no hat"), nothing is said about that attribute. A draw that says
    nothing at all is thrown away and made again.

    Raises:
        ConfigError: nothing was said in many attempts.
    """
    for _ in range(_ATTEMPTS):
        statements: dict[str, Statement] = {}
        for attribute in attributes_of_domain:
            if attributes[attribute.name] is None or not _open(
                attribute, statements, attributes_of_domain
            ):
                continue
            said = draws.weighted(saying_probabilities(attribute, attributes, ambiguity))
            if said is not None:
                statements[attribute.name] = said
        if statements:
            return list(statements.values())
    raise ConfigError(f"omit is {ambiguity.omit}: nothing is left to say, choose a lower value")


def _open(attribute: Attribute, said: Mapping[str, Statement], domain: Sequence[Attribute]) -> bool:
    """Whether what was said about the head leaves room for this attribute."""
    if attribute.needs is None or attribute.needs[0] not in said:
        return True
    name, values = attribute.needs
    head = said[name]
    if not head.vague:
        return head.said in values
    vague = next(a for a in domain if a.name == name).vague
    return bool(vague[head.said] & values)


def draw_object(domain: Sequence[Attribute], draws: Draws) -> dict[str, str | None]:
    """An object: each attribute by its weights."""
    return _complete(domain, {}, draws)


def _complete(
    domain: Sequence[Attribute], chosen: Attributes, draws: Draws
) -> dict[str, str | None]:
    done: dict[str, str | None] = {}
    for attribute in domain:
        value = chosen.get(attribute.name)
        if not attribute.exists(done):
            value = None
        elif value is None or (attribute.unlike and value == done[attribute.unlike]):
            value = attribute.draw(done, draws)
        done[attribute.name] = value
    return done


def distance(a: Attributes, b: Attributes) -> int:
    """In how many attributes two objects differ."""
    return sum(a[name] != b[name] for name in a)


def draw_objects(
    domain: Sequence[Attribute],
    count: int,
    draws: Draws,
    *,
    lookalikes: int,
    differences: int,
    taken: set[tuple[str | None, ...]],
) -> list[dict[str, str | None]]:
    """Distinct objects in groups of look-alikes.

    Args:
        domain: the attributes.
        count: how many objects.
        draws: random draws.
        lookalikes: size of a group; its members are changed copies of its first one.
        differences: members of a group differ pairwise in at least two attributes; a copy is made
            by changing 2 to ``differences`` of them.
        taken: objects that must not occur again; the new ones are added to it.

    Raises:
        ConfigError: the domain has no room for so many distinct objects.
    """
    objects: list[dict[str, str | None]] = []
    group: list[dict[str, str | None]] = []
    attempts = 0
    while len(objects) < count:
        attempts += 1
        if attempts > _ATTEMPTS:
            raise ConfigError(
                f"no room for {count} distinct objects: ask for fewer, or lookalikes=1"
            )
        if len(group) == lookalikes:
            group = []
        if group:
            candidate = _changed(domain, group[0], 2 + draws.below(differences - 1), draws)
        else:
            candidate = draw_object(domain, draws)
        key = tuple(candidate.values())
        if key in taken or any(distance(candidate, member) < 2 for member in group):
            continue
        attempts = 0
        taken.add(key)
        group.append(candidate)
        objects.append(candidate)
    return objects


def _changed(
    domain: Sequence[Attribute], base: Attributes, changes: int, draws: Draws
) -> dict[str, str | None]:
    """A copy that differs in ``changes`` attributes, and in those that come or go with them."""
    present = [a for a in domain if base[a.name] is not None]
    chosen = dict(base)
    for attribute in draws.shuffled(present)[:changes]:
        chosen[attribute.name] = attribute.draw(base, draws, other_than=base[attribute.name])
    return _complete(domain, chosen, draws)
