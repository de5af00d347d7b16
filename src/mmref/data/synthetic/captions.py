"""The grammar: from phrases to captions that are not memorised.

A domain turns statements into phrases ("a red striped jacket"), each with a role; this module
arranges phrases into one of several frames, in a random order, in one or two sentences. Phrases
never hold a comma, a semicolon, a full stop, "and" or "with": those join them, so a consumer can
take a caption apart at them again. All of it is our choice.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmref.data.synthetic.attributes import Draws

PHRASE_BREAK = re.compile(r"\s*(?:[,;.]|\band\b|\bwith\b)\s*")
_VOWEL = tuple("aeiou")

# Words of colours, the canonical one first; no word stands for two colours.
COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "black": ("black", "jet black", "coal-black"),
    "white": ("white", "snow-white", "off-white"),
    "grey": ("grey", "gray", "silver", "ash-grey"),
    "red": ("red", "scarlet", "crimson", "cherry red"),
    "blue": ("blue", "azure", "sky blue", "royal blue"),
    "navy": ("navy", "navy blue", "dark blue", "midnight blue"),
    "green": ("green", "emerald", "grass-green"),
    "yellow": ("yellow", "lemon", "golden", "mustard"),
    "orange": ("orange", "tangerine", "amber"),
    "purple": ("purple", "violet", "plum"),
    "pink": ("pink", "rose", "salmon"),
    "brown": ("brown", "chestnut", "chocolate", "coffee-brown"),
    "beige": ("beige", "cream", "sand-coloured", "tan"),
    "dark": ("dark", "dark-coloured", "deep-toned"),
    "light": ("light", "pale", "light-coloured"),
    "bright": ("bright", "vivid", "brightly coloured"),
}
# The vague words among them, and what they may stand for.
VAGUE_COLOURS: dict[str, frozenset[str]] = {
    "dark": frozenset({"black", "navy", "brown", "purple"}),
    "light": frozenset({"white", "beige", "pink", "grey"}),
    "bright": frozenset({"yellow", "orange", "red"}),
}
SIDE_WORDS: dict[str, tuple[str, ...]] = {
    side: (
        f"on the {side}",
        f"on the {side} side",
        f"at the {side}",
        f"on the {side} of the picture",
    )
    for side in ("left", "right")
}


class Voice:
    """Chooses words and forms.

    Args:
        paraphrase: probability that a word is not the canonical one.
        draws: random draws.
    """

    def __init__(self, paraphrase: float, draws: Draws) -> None:
        self.paraphrase = paraphrase
        self.draws = draws

    def word(self, options: Sequence[str]) -> str:
        """The first option, or with probability ``paraphrase`` one of the others."""
        if len(options) > 1 and self.draws.chance(self.paraphrase):
            return self.draws.pick(options[1:])
        return options[0]

    def form(self, *options: str) -> str:
        """One of the forms, each equally likely, its blanks tidied."""
        return " ".join(self.draws.pick(options).split())


def compound(first: str, second: str) -> str:
    """``red-striped``, or nothing where one of them is missing or a compound already.

    Example:
        >>> compound("red", "striped"), compound("navy blue", "striped")
        ('red-striped', '')
    """
    simple = not re.search(r"[ -]", first + second)
    return f"{first}-{second}" if simple and first and second else ""


@dataclass(frozen=True)
class Phrase:
    """A noun phrase and what it is to the subject.

    Attributes:
        role: key of the domain's verbs (``have``, ``wear`` ...).
        text: without article.
        article: ``a`` (countable), ``pair`` (plural) or an empty string (mass, or "no hat").
    """

    role: str
    text: str
    article: str = "a"

    def said(self, voice: Voice) -> str:
        """With its article."""
        if self.article == "a":
            return f"{'an' if self.text.startswith(_VOWEL) else 'a'} {self.text}"
        if self.article == "pair" and voice.draws.chance(0.25 * voice.paraphrase):
            return f"a pair of {self.text}"
        return self.text


@dataclass(frozen=True)
class Verb:
    """How a role is joined to its subject.

    Attributes:
        linked: forms after a noun ("wearing", "in"); the first is canonical.
        finite: forms after a subject ("wears"); the first is canonical.
        fronted: form at the beginning of a sentence, or None if there is none.
    """

    linked: tuple[str, ...]
    finite: tuple[str, ...]
    fronted: str | None = None


def compose(
    adjectives: Sequence[str],
    nouns: Sequence[str],
    phrases: Sequence[Phrase],
    verbs: Mapping[str, Verb],
    voice: Voice,
) -> str:
    """Arrange phrases into a caption.

    Args:
        adjectives: said of the subject.
        nouns: words for the subject, the canonical one first.
        phrases: what is said of it, in any order.
        verbs: how each role is joined.
        voice: chooses.

    Returns:
        One or two sentences.

    Example:
        >>> verbs = {"wear": Verb(("wearing",), ("wears",))}
        >>> hat = Phrase("wear", "orange hat")
        >>> voices = [Voice(0.0, Draws(n)) for n in range(99)]
        >>> texts = {compose(["tall"], ["person"], [hat], verbs, voice) for voice in voices}
        >>> "A tall person wearing an orange hat." in texts, len(texts) > 5
        (True, True)
    """
    draws = voice.draws
    phrases = draws.shuffled(phrases)
    frame = draws.weighted(
        (
            ("flow", 4.0),
            ("two", 3.0),
            ("list", 2.0),
            ("fronted", 1.5),
            ("scene", 1.5),
            ("items", 1.0),
        )
    )
    noun = voice.word(nouns)
    subject = " ".join([*draws.shuffled(adjectives), noun])
    if frame in ("list", "items"):
        return _bare(subject if adjectives else "", phrases, frame, voice)
    groups: dict[str, list[Phrase]] = {}
    for phrase in phrases:
        groups.setdefault(phrase.role, []).append(phrase)
    roles = list(groups)
    named = f"{'an' if subject.startswith(_VOWEL) else 'a'} {subject}"

    def linked(role: str) -> str:
        return f"{voice.word(verbs[role].linked)} {_joined(groups[role], voice)}"

    def finite(role: str) -> str:
        return f"{voice.word(verbs[role].finite)} {_joined(groups[role], voice)}"

    if frame == "two" and roles:
        cut = draws.below(len(roles))
        first = _attached(named, [linked(role) for role in roles[:cut]], voice)
        if cut == 0 and not adjectives:
            first = ""
        again = voice.form(f"the {noun}", "this one", f"the {noun} also") if first else named
        clauses = [finite(role) for role in roles[cut:]]
        second = f"{again} {_series(clauses, voice)}"
        return f"{_sentence(first)} {_sentence(second)}" if first else _sentence(second)
    fronted = verbs[roles[0]].fronted if roles else None
    if frame == "fronted" and fronted is not None:
        rest = [linked(role) for role in roles[1:-1]]
        body = _attached(named, rest, voice)
        last = f" {finite(roles[-1])}" if len(roles) > 1 else voice.form(" is seen", " is shown")
        return _sentence(f"{fronted} {_joined(groups[roles[0]], voice)}, {body}{last}")
    body = _attached(named, [linked(role) for role in roles], voice)
    if frame == "scene":
        opening = voice.form("this is", "the picture shows", "there is", "here we see", "we see")
        body = f"{opening} {body}"
    return _sentence(body)


def _bare(subject: str, phrases: Sequence[Phrase], frame: str, voice: Voice) -> str:
    """Note form: phrases without articles or verbs."""
    items = [*([subject] if subject else []), *(phrase.text for phrase in phrases)]
    if subject and voice.draws.chance(0.3):
        items = voice.draws.shuffled(items)
    if frame == "items":
        return " ".join(_sentence(item) for item in items)
    text = voice.draws.pick((", ", ", ", "; ")).join(items)
    return voice.draws.pick((text, _sentence(text)))


def _joined(phrases: Sequence[Phrase], voice: Voice) -> str:
    return _series([phrase.said(voice) for phrase in phrases], voice)


def _series(items: Sequence[str], voice: Voice) -> str:
    """``a, b and c``."""
    if len(items) == 1:
        return items[0]
    last = voice.draws.pick((" and ", " and ", ", "))
    return ", ".join(items[:-1]) + last + items[-1]


def _attached(subject: str, groups: Sequence[str], voice: Voice) -> str:
    """Groups after a subject, with or without commas."""
    return voice.draws.pick((" ", ", ")).join([subject, *groups])


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
