"""What is said of a bird, in words: statements become phrases."""

from collections.abc import Sequence

from mmref.data.synthetic.attributes import Draws, Statement
from mmref.data.synthetic.captions import COLOUR_WORDS, Phrase, Verb, Voice, compose, compound

# Words of values by attribute, the canonical one first; none stands for two values of an attribute.
WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "build": {
        "plump": ("plump", "round", "chubby", "stocky"),
        "slender": ("slender", "slim", "sleek", "streamlined"),
    },
    "bill": {
        "conical": ("conical", "cone-shaped", "short thick", "seed-cracking"),
        "needle": ("needle-like", "thin straight", "needle-shaped", "dagger-like"),
        "hooked": ("hooked", "hook-tipped", "parrot-like", "eagle-like"),
        "curved": ("curved", "down-curved", "sickle-shaped", "bent"),
        "spoon": ("spoon-shaped", "flat", "duck-like", "flattened"),
        "long": ("long", "lengthy", "elongated"),
        "stout": ("stout", "strong", "sturdy"),
    },
    "crest": {
        "none": ("no crest", "a smooth head", "a crestless head"),
        "swept": ("swept-back crest", "backward crest", "crest that points backwards",
                  "single trailing plume"),
        "spiky": ("spiky crest", "ragged crest", "crest of upright spikes", "mohawk crest"),
        "crest": ("crest", "tuft on the head", "crest of feathers"),
    },
    "eye": {
        "none": ("no mark around the eye", "an unmarked eye", "a plain eye"),
        "ring": ("eye ring", "ring around the eye", "circled eye", "spectacled eye"),
        "mask": ("eye mask", "band through the eye", "stripe across the eye", "bandit mask"),
        "brow": ("eyebrow", "brow stripe", "stripe above the eye", "line over the eye"),
        "mark": ("eye marking", "marking near the eye", "marked eye"),
    },
    "pattern": {
        "plain": ("plain", "unmarked", "pattern-free"),
        "streaked": ("streaked", "streaky", "lined lengthwise"),
        "spotted": ("spotted", "speckled", "dotted"),
        "barred": ("barred", "banded", "cross-striped"),
        "marked": ("marked", "patterned"),
    },
    "bars": {
        "none": ("no wing bars", "unbarred wings", "no stripes across the wings"),
        "one": ("one", "a single", "just one"),
        "two": ("two", "double", "a couple of"),
        "some": ("some", "noticeable"),
    },
    "tail": {
        "forked": ("forked", "swallow-like", "v-shaped", "two-pronged"),
        "pointed": ("pointed", "tapering", "spear-shaped"),
        "rounded": ("rounded", "round-ended", "blunt"),
        "fan": ("fanned", "fan-shaped", "spread", "fanned-out"),
        "sharp": ("sharp", "sharp-tipped"),
        "wide": ("wide", "broad", "full"),
    },
    "legs": {
        "long": ("long", "stilt-like", "tall"),
        "short": ("short", "stubby", "stumpy"),
    },
}  # fmt: skip
# Words of the parts that have a colour, and the ending of an adjective: "red-crowned".
PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "bill": (("bill", "beak"), ("billed", "beaked")),
    "crown": (("crown", "cap", "top of the head", "forehead"), ("crowned", "capped")),
    "cheek": (("cheek", "face", "side of the head", "ear patch"), ("cheeked", "faced")),
    "throat": (("throat", "chin", "bib", "front of the neck"), ("throated",)),
    "breast": (("breast", "chest", "front"), ("breasted", "chested")),
    "belly": (("belly", "underside", "stomach", "abdomen"), ("bellied",)),
    "back": (("back", "mantle", "upperside"), ("backed", "mantled")),
    "wing": (("wings", "wing feathers", "flight feathers"), ("winged",)),
    "tail": (("tail", "tail feathers", "rear feathers"), ("tailed",)),
    "legs": (("legs", "shanks", "pair of legs"), ("legged",)),
}
_BARS = {
    "one": ("wing bar", "bar on the wing", "stripe across the wing"),
    "two": ("wing bars", "bars on the wing", "stripes across the wing"),
    "some": ("wing barring", "barring on the wings", "striping across the wing"),
}
_PLURAL = frozenset({"wings", "wing feathers", "flight feathers", "tail feathers", "rear feathers",
                     "legs", "shanks"})  # fmt: skip
_NOUNS = ("bird", "feathered creature", "specimen", "winged animal")
_VERBS = {
    "have": Verb(("with", "having", "bearing"), ("has", "bears"), "with"),
    "show": Verb(
        ("showing", "displaying", "marked by"), ("shows", "displays", "presents"), "showing"
    ),
    "trail": Verb(("trailing", "ending in"), ("trails", "ends in", "is followed by"), "trailing"),
    "stand": Verb(
        ("standing on", "on", "supported by"), ("stands on", "is supported by", "rests on"), "on"
    ),
}
_AS_ADJECTIVE = 0.2
_MOST_ADJECTIVES = 2


class _Teller:
    """Turns the statements of one caption into phrases."""

    def __init__(self, statements: Sequence[Statement], voice: Voice) -> None:
        self.said = {statement.attribute: statement for statement in statements}
        self.voice = voice
        self.adjectives: list[str] = []

    def value(self, name: str) -> str:
        return self.said[name].said if name in self.said else ""

    def word(self, name: str) -> str:
        """A word for what is said of an attribute; nothing where nothing is said."""
        value = self.value(name)
        return self.voice.word(WORDS[name][value]) if value else ""

    def colour(self, part: str) -> str:
        value = self.value(f"{part}_colour")
        return self.voice.word(COLOUR_WORDS[value]) if value else ""

    def exact(self, part: str) -> bool:
        """Whether a colour of this part is said in no vague word."""
        return f"{part}_colour" in self.said and not self.said[f"{part}_colour"].vague

    def part(self, role: str, part: str, shape: str = "", tail: str = "") -> list[Phrase]:
        """``curved red bill``, ``bill in red``; or nothing, where an adjective says it all."""
        colour, (nouns, endings) = self.colour(part), PARTS[part]
        if not (colour or shape or tail):
            return []
        draws = self.voice.draws
        if not (shape or tail) and len(self.adjectives) < _MOST_ADJECTIVES:
            adjective = compound(colour, self.voice.word(endings))
            if adjective and draws.chance(_AS_ADJECTIVE):
                self.adjectives.append(adjective)
                return []
        noun = self.voice.word(nouns)
        article = "" if noun in _PLURAL else "a"
        if colour and self.exact(part) and not tail and draws.chance(0.15):
            return [Phrase(role, f"{shape} {noun} in {colour}".strip(), article)]
        words = [shape, colour] if draws.chance(0.7) else [colour, shape]
        return [Phrase(role, " ".join(f"{' '.join(words)} {noun} {tail}".split()), article)]

    def phrases(self) -> tuple[list[str], list[Phrase]]:
        """Adjectives of the subject, and phrases."""
        if "build" in self.said:
            self.adjectives.append(self.word("build"))
        found = self.part("have", "bill", self.word("bill"))
        for name in ("crest", "eye"):
            if name in self.said:
                article = "" if self.value(name) == "none" else "a"
                found.append(Phrase("have", self.word(name), article))
        for part in ("crown", "cheek", "throat"):
            found += self.part("have", part)
        found += self._breast()
        for part in ("belly", "back", "wing"):
            found += self.part("show", part)
        found += self._bars()
        found += self.part("trail", "tail", self.word("tail"))
        found += self.part("stand", "legs", self.word("legs"))
        return self.adjectives, found

    def _breast(self) -> list[Phrase]:
        """``white breast spotted in black``, ``black-spotted white breast``."""
        second = self.colour("pattern")
        pattern = self.word("pattern") or (
            self.voice.word(WORDS["pattern"]["marked"]) if second else ""
        )
        if not second:
            return self.part("show", "breast", pattern)
        if self.voice.draws.chance(0.5) and (trim := compound(second, pattern)):
            return self.part("show", "breast", trim)
        loose = self.said["pattern_colour"].vague
        tone = f"a {second} tone" if loose else second
        return self.part("show", "breast", tail=f"{pattern} in {tone}")

    def _bars(self) -> list[Phrase]:
        if self.value("bars") == "none":
            return [Phrase("have", self.word("bars"), "")]
        colour, count = self.colour("bars"), self.word("bars")
        if not (colour or count):
            return []
        bar = self.voice.word(_BARS.get(self.value("bars"), _BARS["some"]))
        return [Phrase("show", " ".join(f"{count} {colour} {bar}".split()), "")]


def tell(statements: Sequence[Statement], paraphrase: float, draws: Draws) -> str:
    """A caption that says these statements and nothing else.

    Args:
        statements: what it says, one statement for an attribute at most.
        paraphrase: probability that a word is not the canonical one.
        draws: random draws.

    Example:
        >>> said = [("bill", "hooked"), ("bill_colour", "red")]
        >>> bill = [Statement(name, value, vague=False, wrong=False) for name, value in said]
        >>> "hooked red bill" in tell(bill, 0.0, Draws(4)).lower()
        True
    """
    voice = Voice(paraphrase, draws)
    adjectives, phrases = _Teller(statements, voice).phrases()
    return compose(adjectives, _NOUNS, phrases, _VERBS, voice)
