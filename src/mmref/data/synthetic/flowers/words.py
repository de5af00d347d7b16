"""What is said of a flower, in words: statements become phrases."""

from collections.abc import Sequence

from mmref.data.synthetic.attributes import Draws, Statement
from mmref.data.synthetic.captions import (
    COLOUR_WORDS,
    Phrase,
    Verb,
    Voice,
    compose,
    compound,
)

# Words of colours: those of clothes, without the ones that no flower is called.
COLOURS: dict[str, tuple[str, ...]] = {
    **{name: COLOUR_WORDS[name] for name in ("black", "white", "red", "green", "yellow", "orange",
                                             "pink", "brown", "dark", "light", "bright")},
    "blue": ("blue", "azure", "sky blue", "cornflower blue"),
    "purple": ("purple", "violet", "plum"),
    "lilac": ("lilac", "lavender", "mauve"),
    "maroon": ("maroon", "burgundy", "wine-red", "oxblood"),
}  # fmt: skip
# The vague words among them, and what they may stand for.
VAGUE: dict[str, frozenset[str]] = {
    "dark": frozenset({"maroon", "purple", "black", "brown"}),
    "light": frozenset({"white", "pink", "lilac"}),
    "bright": frozenset({"yellow", "orange", "red"}),
}
LEAF_COLOURS: dict[str, tuple[str, ...]] = {
    "green": ("green", "mid-green", "grass-green"),
    "dark green": ("dark green", "deep green", "bottle-green"),
    "lime": ("lime", "yellow-green", "lime-green"),
    "silver": ("silver", "grey", "gray", "silvery"),
    "bronze": ("bronze", "reddish-brown", "coppery"),
    "dark": ("dark", "dark-coloured", "deep-toned"),
    "light": ("light", "pale", "light-coloured"),
}
# Words of the other values by attribute, the canonical one first; no word stands for two values of
# an attribute.
WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "petals": {
        "three": ("three", "3", "a trio of"),
        "four": ("four", "4", "two pairs of"),
        "five": ("five", "5", "a ring of five"),
        "six": ("six", "6", "half a dozen"),
        "eight": ("eight", "8", "a wheel of eight"),
        "many": ("many", "numerous", "lots of", "a dense ring of"),
        "few": ("a few", "few", "not many"),
        "several": ("several", "a handful of"),
    },
    "petal_shape": {
        "round": ("round", "rounded", "blunt", "circular"),
        "pointed": ("pointed", "sharp-tipped", "tapering", "spear-shaped"),
        "heart-shaped": ("heart-shaped", "notched", "cleft", "heart-like"),
        "narrow": ("narrow", "strap-like", "ribbon-like", "strip-shaped"),
        "ruffled": ("ruffled", "frilly", "wavy", "crinkled"),
        "broad": ("broad", "wide"),
        "slender": ("slender", "thin"),
    },
    "marking": {
        "plain": ("plain", "unmarked", "evenly coloured"),
        "veined": ("veined", "striped", "lined"),
        "spotted": ("spotted", "speckled", "dotted", "freckled"),
        "blotched": ("blotched", "base-blotched", "patch-marked"),
        "tipped": ("tipped", "end-coloured"),
        "patterned": ("patterned", "figured"),
        "two-coloured": ("two-coloured", "bicoloured", "two-tone"),
    },
    "layers": {
        "single": ("simple", "single-layered", "single-ringed"),
        "double": ("double", "double-layered", "two-layered", "double-ringed"),
    },
    "posture": {
        "open": ("open", "flat", "wide-open", "outspread"),
        "cupped": ("cupped", "cup-shaped", "bowl-shaped", "goblet-like"),
        "nodding": ("nodding", "drooping", "hanging", "downturned"),
        "swept back": ("swept-back", "reflexed", "bent-back", "backswept"),
        "half-closed": ("half-closed", "not fully open"),
    },
    "centre": {
        "disc": ("disc", "disk", "flat disc", "flat button"),
        "dome": ("dome", "cone", "rounded dome", "domed knob"),
        "tuft": ("tuft of stamens", "brush of stamens", "spray of filaments"),
        "trumpet": ("trumpet", "tube", "trumpet-like tube", "funnel"),
        "raised": ("raised centre", "protruding centre"),
        "": ("centre", "core", "middle", "eye"),
    },
    "stem": {
        "thin": ("thin", "slender", "wiry", "slim"),
        "thick": ("thick", "stout", "sturdy", "fat"),
        "hairy": ("hairy", "bristly", "fuzzy", "downy"),
        "rough": ("rough", "rough-looking"),
    },
    "leaves": {
        "narrow": ("narrow", "grass-like", "blade-like", "linear"),
        "oval": ("oval", "egg-shaped", "elliptical", "ovate"),
        "toothed": ("toothed", "serrated", "jagged", "saw-edged"),
        "lobed": ("lobed", "deeply cut", "fingered", "hand-like"),
        "smooth": ("smooth-edged", "even-edged"),
        "uneven": ("uneven", "rough-edged"),
    },
}
_ABSENT: dict[str, tuple[str, ...]] = {
    "edge": ("no coloured edge", "petals without a rim", "unrimmed petals"),
    "sepals": ("no visible sepals", "no sepals", "hidden sepals"),
    "leaves": ("no leaves", "a leafless stalk", "a stalk without leaves"),
    "bud": ("no bud", "no unopened bud", "no further bud"),
}
BLOOMS: dict[str, tuple[Phrase, ...]] = {
    "one": (Phrase("have", "solitary bloom"), Phrase("have", "lone bloom"),
            Phrase("have", "only one flower head", "")),
    "two": (Phrase("have", "two blooms", ""), Phrase("have", "pair of blooms"),
            Phrase("have", "second smaller bloom"), Phrase("have", "two flower heads", "")),
    "cluster": (Phrase("have", "cluster of blooms"), Phrase("have", "bunch of flower heads"),
                Phrase("have", "four blooms", ""), Phrase("have", "group of blooms")),
    "more": (Phrase("have", "more than one bloom", ""), Phrase("have", "further blooms", "")),
}  # fmt: skip
_BUDS = (
    Phrase("beside", "bud"),
    Phrase("beside", "closed bud"),
    Phrase("beside", "unopened bud"),
    Phrase("have", "bud beside it"),
)
_NOUNS = ("flower", "bloom", "blossom", "wildflower", "garden flower")
_PLANTS = ("plant", "flowering plant", "flower", "garden plant")
_VERBS = {
    "have": Verb(("with", "having", "showing"), ("has", "shows", "displays"), "with"),
    "stand": Verb(("on", "standing on", "atop"), ("stands on", "grows on", "sits on"), "on"),
    "rise": Verb(("above", "rising above", "over"), ("rises above", "stands over"), "above"),
    "beside": Verb(("beside", "next to"), ("grows beside", "stands next to"), "beside"),
}


class Teller:
    """Turns the statements of one caption into phrases."""

    def __init__(self, statements: Sequence[Statement], voice: Voice) -> None:
        self.said = {statement.attribute: statement for statement in statements}
        self.voice = voice

    def has(self, *names: str) -> bool:
        """Whether one of these was stated."""
        return any(name in self.said for name in names)

    def value(self, name: str) -> str:
        """What was stated of an attribute, or nothing."""
        return self.said[name].said if name in self.said else ""

    def word(self, name: str) -> str:
        """The word for a value, or nothing."""
        return self.voice.word(WORDS[name][self.value(name)]) if name in self.said else ""

    def colour(self, name: str) -> str:
        """The word for a colour, or nothing."""
        table = LEAF_COLOURS if name == "leaf_colour" else COLOURS
        return self.voice.word(table[self.value(name)]) if name in self.said else ""

    def exact(self, name: str) -> str:
        """The word for a colour that may stand alone ("edged in red"), or nothing."""
        return self.colour(name) if name in self.said and not self.said[name].vague else ""

    def coloured(self, name: str, *words: str) -> str:
        """``thin red stem``, ``red thin stem`` or ``thin stem in red``."""
        *before, noun = (word for word in words if word)
        if (name in self.said and self.said[name].vague) or not self.voice.draws.chance(0.15):
            order = [*before, self.colour(name)]
            if before and self.voice.draws.chance(0.3):
                order.reverse()
            return " ".join(word for word in [*order, noun] if word)
        colour = self.colour(name)
        return " ".join([*before, noun, *(["in", colour] if colour else [])])

    def absent(self, name: str) -> Phrase:
        """That something is not there."""
        return Phrase("have", self.voice.word(_ABSENT[name]), "")

    def _one(self, phrases: Sequence[Phrase]) -> Phrase:
        """One of them, as often the first as a word is canonical."""
        text = self.voice.word([phrase.text for phrase in phrases])
        return next(phrase for phrase in phrases if phrase.text == text)

    def adjectives(self) -> list[str]:
        """What is said of the flower as a whole."""
        return [self.word(name) for name in ("layers", "posture") if self.has(name)]

    def phrases(self) -> list[Phrase]:
        """All other statements."""
        found: list[Phrase] = []
        if self.has("petals", "petal_shape", "petal_colour"):
            found.append(self._petals())
        for name in ("edge", "marking"):
            if self.value(name) in ("none", "plain"):
                plain = f"{self.word('marking')} petals" if name == "marking" else ""
                found.append(Phrase("have", plain, "") if plain else self.absent(name))
            elif self.has(name, f"{name}_colour"):
                found.append(self._edge() if name == "edge" else self._marking())
        if self.has("centre", "centre_colour"):
            noun = self.voice.word(WORDS["centre"][self.value("centre")])
            if self.value("centre") not in ("", "raised"):
                noun = self.voice.form(noun, f"{noun} in the middle", f"{noun} at its core")
            colour = self.colour("centre_colour")
            found.append(Phrase("have", f"{colour} {noun}".strip()))
        if self.has("anther_colour"):
            noun = self.voice.form("anthers", "stamen tips", "pollen tips")
            found.append(Phrase("have", self.coloured("anther_colour", noun), ""))
        if self.value("sepals") == "none":
            found.append(self.absent("sepals"))
        elif self.has("sepals", "sepal_colour"):
            noun = self.voice.word(("sepals", "outer sepals", "calyx tips"))
            found.append(Phrase("have", self.coloured("sepal_colour", noun), ""))
        if self.has("stem", "stem_colour"):
            noun = self.voice.word(("stem", "stalk"))
            role = self.voice.form("stand", "stand", "have")
            found.append(Phrase(role, self.coloured("stem_colour", self.word("stem"), noun)))
        if self.value("leaves") == "none":
            found.append(self.absent("leaves"))
        elif self.has("leaves", "leaf_colour"):
            noun = self.voice.word(("leaves", "foliage"))
            role = self.voice.form("rise", "have", "have")
            found.append(Phrase(role, self.coloured("leaf_colour", self.word("leaves"), noun), ""))
        if self.has("blooms"):
            found.append(self._one(BLOOMS[self.value("blooms")]))
        if self.value("bud") == "none":
            found.append(self.absent("bud"))
        elif self.has("bud"):
            found.append(self._one(_BUDS))
        return found

    def _petals(self) -> Phrase:
        number = self.word("petals")
        return Phrase(
            "have",
            f"{number} {self.coloured('petal_colour', self.word('petal_shape'), 'petals')}".strip(),
            "",
        )

    def _edge(self) -> Phrase:
        voice, colour = self.voice, self.exact("edge_colour")
        rim = voice.word(("edge", "rim", "margin", "border"))
        if colour:
            forms = [f"petals {voice.form('edged', 'rimmed', 'bordered')} in {colour}"]
            if pair := compound(colour, voice.form("edged", "rimmed")):
                forms.append(f"{pair} petals")
            picked = voice.form(*forms, f"a {colour} {rim}")
            if picked.startswith("a "):
                return Phrase("have", f"{colour} {rim} around the petals")
            return Phrase("have", picked, "")
        tone = self.colour("edge_colour") or voice.form("coloured", "contrasting")
        return Phrase("have", f"{tone} {rim} around {voice.form('the petals', 'each petal')}")

    def _marking(self) -> Phrase:
        voice, kind = self.voice, self.value("marking")
        colour = self.colour("marking_colour")
        word = self.word("marking") or voice.form("marked", "painted")
        things = {
            "veined": ("veins on the petals", "lines along the petals", "stripes on the petals"),
            "spotted": ("spots on the petals", "dots on the petals", "speckles on the petals"),
            "blotched": ("blotches at the petal bases", "patches around the centre",
                         "blotches deep inside"),
            "tipped": ("petal tips", "ends to the petals", "tips of the petals"),
            "patterned": ("pattern on the petals", "petal pattern"),
            "two-coloured": ("second tone on the petals", "second petal tone"),
            "": ("marks on the petals", "petal markings"),
        }  # fmt: skip
        loose = self.has("marking_colour") and self.said["marking_colour"].vague
        if not colour:
            return Phrase("have", f"{word} petals", "")
        thing = f"{colour} {voice.word(things[kind])}"
        article = "a" if kind in ("patterned", "two-coloured") else ""
        if loose:
            return Phrase("have", thing, article)
        forms = [f"petals {word} in {colour}"]
        if pair := compound(colour, word):
            forms.append(f"{pair} petals")
        picked = voice.form(*forms, thing)
        return Phrase("have", picked, article if picked == thing else "")


def tell(statements: Sequence[Statement], paraphrase: float, draws: Draws) -> str:
    """A caption that says these statements and nothing else.

    Args:
        statements: what it says, one statement for an attribute at most.
        paraphrase: probability that a word is not the canonical one.
        draws: random draws.

    Example:
        >>> said = [("petals", "five"), ("petal_colour", "red")]
        >>> petals = [Statement(name, value, vague=False, wrong=False) for name, value in said]
        >>> "five red petals" in tell(petals, 0.0, Draws(4)).lower()
        True
    """
    voice = Voice(paraphrase, draws)
    teller = Teller(statements, voice)
    nouns = _PLANTS if teller.has("blooms") else _NOUNS
    return compose(teller.adjectives(), nouns, teller.phrases(), _VERBS, voice)
