"""What is said of a figure, in words: statements become phrases."""

from collections.abc import Sequence

from mmref.data.synthetic.attributes import Draws, Statement
from mmref.data.synthetic.captions import (
    COLOUR_WORDS,
    SIDE_WORDS,
    Phrase,
    Verb,
    Voice,
    compose,
    compound,
)

# Words of values, the canonical one first; no word stands for two values of an attribute.
_WORDS: dict[str, tuple[str, ...]] = {
    "slim": ("slim", "thin", "slender", "lean"),
    "broad": ("broad", "stocky", "heavy", "burly"),
    "tall": ("tall", "long-legged", "lanky"),
    "short": ("short", "small", "short-legged"),
    "glasses": ("glasses", "spectacles", "reading glasses"),
    "sunglasses": ("sunglasses", "dark glasses", "shades"),
    "eyewear": ("eyewear", "something over the eyes"),
    "cap": ("cap", "baseball cap", "peaked cap"),
    "beanie": ("beanie", "bobble hat", "woolly hat", "knitted hat"),
    "brimmed hat": ("brimmed hat", "wide-brimmed hat", "sun hat"),
    "hat": ("hat", "piece of headwear", "head covering"),
    "scarf": ("scarf", "neck scarf", "neckerchief"),
    "t-shirt": ("t-shirt", "tee", "short-sleeved top"),
    "shirt": ("shirt", "button-up shirt", "collared shirt"),
    "jumper": ("jumper", "sweater", "knitted jumper"),
    "hoodie": ("hoodie", "hooded top", "hooded sweatshirt"),
    "jacket": ("jacket", "open jacket", "blazer"),
    "coat": ("coat", "overcoat", "long belted coat"),
    "tank top": ("tank top", "sleeveless top", "singlet"),
    "outerwear": ("outer layer", "warm layer"),
    "summer top": ("summer top", "top for warm days"),
    "pullover": ("pullover", "pull-on top"),
    "top": ("top", "upper garment", "garment on the upper body"),
    "plain": ("plain", "single-coloured", "unpatterned"),
    "striped": ("striped", "stripy", "banded"),
    "checked": ("checked", "chequered", "plaid"),
    "dotted": ("dotted", "spotted", "polka-dotted"),
    "patterned": ("patterned", "printed"),
    "trousers": ("trousers", "pants", "slacks", "full-length trousers"),
    "shorts": ("shorts", "short trousers", "bermudas"),
    "skirt": ("skirt", "knee-length skirt", "short skirt"),
    "long skirt": ("long skirt", "ankle-length skirt", "maxi skirt"),
    "bottom": ("lower garment", "garment below the waist"),
    "shoes": ("shoes", "low shoes", "trainers", "sneakers"),
    "boots": ("boots", "high boots", "tall boots"),
    "footwear": ("footwear", "something on the feet"),
    "backpack": ("backpack", "rucksack", "pack on the back"),
    "shoulder bag": ("shoulder bag", "crossbody bag", "messenger bag"),
    "handbag": ("handbag", "purse", "bag held by its handles"),
    "bag": ("bag", "piece of luggage"),
    "umbrella": ("umbrella", "open umbrella", "parasol"),
    "book": ("book", "hardback", "novel"),
    "phone": ("phone", "mobile phone", "smartphone"),
    "ball": ("ball", "round ball", "football"),
    "cup": ("cup", "paper cup", "takeaway coffee"),
    "flowers": ("bunch of flowers", "bouquet", "posy"),
    "balloon": ("balloon", "party balloon", "balloon on a string"),
    "something": ("thing", "object", "item"),
}
_HAIR_WORDS: dict[str, tuple[str, ...]] = {
    "black": ("black", "jet black", "raven"),
    "brown": ("brown", "brunette", "chestnut"),
    "blond": ("blond", "fair", "golden", "flaxen"),
    "red": ("red", "ginger", "auburn"),
    "grey": ("grey", "gray", "silver"),
    "light": ("light", "pale"),
    "dark": ("dark", "darkish"),
}
_ABSENT: dict[str, tuple[str, ...]] = {
    "beard": ("no beard", "a clean-shaven face", "a shaved chin"),
    "glasses": ("no glasses", "nothing over the eyes", "bare eyes"),
    "hat": ("no hat", "nothing on the head", "a bare head"),
    "scarf": ("no scarf", "nothing around the neck", "a bare neck"),
    "bag": ("no bag", "no kind of bag"),
    "carried": ("empty hands", "nothing in the hands", "free hands"),
}
_NOUNS = ("person", "figure", "individual", "pedestrian", "character")
_VERBS = {
    "have": Verb(("with", "having"), ("has",), "with"),
    "wear": Verb(("wearing", "in", "dressed in", "clothed in"), ("wears", "is wearing", "has on"),
                 "wearing"),
    "carry": Verb(("carrying", "bearing"), ("carries", "is carrying"), "carrying"),
    "hold": Verb(("holding", "grasping"), ("holds", "is holding"), "holding"),
}  # fmt: skip


class _Teller:
    """Turns the statements of one caption into phrases."""

    def __init__(self, statements: Sequence[Statement], voice: Voice) -> None:
        self.said = {statement.attribute: statement for statement in statements}
        self.voice = voice

    def has(self, *names: str) -> bool:
        return any(name in self.said for name in names)

    def value(self, name: str) -> str:
        return self.said[name].said if name in self.said else ""

    def noun(self, name: str, otherwise: str) -> str:
        """The word for a head, or for its kind when it was left out."""
        return self.voice.word(_WORDS[self.value(name) or otherwise])

    def colour(self, name: str) -> str:
        value = self.value(name)
        return self.voice.word(COLOUR_WORDS[value]) if value else ""

    def coloured(self, name: str, noun: str) -> str:
        """``red hat``, ``hat in red``."""
        colour = self.colour(name)
        if colour and not self.said[name].vague and self.voice.draws.chance(0.15):
            return f"{noun} in {colour}"
        return f"{colour} {noun}".strip()

    def side(self, name: str) -> str:
        value = self.value(name)
        return f" {self.voice.word(SIDE_WORDS[value])}" if value else ""

    def absent(self, name: str) -> Phrase:
        return Phrase("have", self.voice.word(_ABSENT[name]), "")

    def phrases(self) -> tuple[list[str], list[Phrase]]:
        """Adjectives of the subject, and phrases."""
        adjectives = [
            self.voice.word(_WORDS[self.value(n)]) for n in ("build", "height") if self.has(n)
        ]
        found: list[Phrase] = [*self._hair()]
        for name, article in (("beard", "a"), ("glasses", "pair")):
            if self.value(name) == "none":
                found.append(self.absent(name))
            elif self.value(name) == "beard":
                found.append(
                    Phrase("have", self.voice.word(("beard", "full beard", "bearded chin")))
                )
            elif self.has(name):
                mass = self.value(name) == "eyewear"
                found.append(Phrase("wear", self.noun(name, ""), "" if mass else article))
        for name in ("hat", "scarf"):
            if self.value(name) == "none":
                found.append(self.absent(name))
            elif self.has(name, f"{name}_colour"):
                noun = self.coloured(f"{name}_colour", self.noun(name, name))
                found.append(Phrase("wear", noun))
        if self.has("top", "top_colour", "top_pattern", "top_second"):
            found.append(Phrase("wear", self._top()))
        if self.has("bottom", "bottom_colour"):
            article = "pair" if self.value("bottom") in ("trousers", "shorts") else "a"
            noun = self.noun("bottom", "bottom")
            found.append(Phrase("wear", self.coloured("bottom_colour", noun), article))
        if self.has("shoes", "shoes_colour"):
            article = "pair" if self.has("shoes") else ""
            noun = self.noun("shoes", "footwear") if self.has("shoes") else "footwear"
            found.append(Phrase("wear", self.coloured("shoes_colour", noun), article))
        for name, role, kind in (("bag", "carry", "bag"), ("carried", "hold", "something")):
            if self.value(name) == "none":
                found.append(self.absent(name))
            elif self.has(name, f"{name}_colour", f"{name}_side"):
                noun = self.coloured(f"{name}_colour", self.noun(name, kind))
                found.append(Phrase(role, noun + self.side(f"{name}_side")))
        return adjectives, found

    def _hair(self) -> list[Phrase]:
        if self.value("hair") == "bald":
            return [
                Phrase("have", self.voice.word(("a bald head", "no hair", "a shaved head")), "")
            ]
        if not self.has("hair", "hair_colour"):
            return []
        colour = (
            self.voice.word(_HAIR_WORDS[self.value("hair_colour")])
            if self.has("hair_colour")
            else ""
        )
        style = self.value("hair")
        if style == "ponytail":
            word = self.voice.word(("ponytail", "pony tail", "tied-back tail"))
            return [Phrase("have", f"{colour} {word}".strip())]
        words = {
            "short": ("short", "short-cut", "cropped"),
            "long": ("long", "shoulder-length", "flowing"),
            "curly": ("curly", "frizzy", "curled"),
        }
        shape = self.voice.word(words[style]) if style else ""
        return [Phrase("have", " ".join(f"{shape} {colour} hair".split()), "")]

    def _top(self) -> str:
        noun, colour = self.noun("top", "top"), self.colour("top_colour")
        second = self.colour("top_second")
        pattern = self.noun("top_pattern", "patterned") if self.has("top_pattern") or second else ""
        if second:
            loose = self.said["top_second"].vague
            forms = [f"{colour} {noun} {pattern} in {f'a {second} tone' if loose else second}"]
            if trim := compound(second, pattern):
                forms.append(f"{colour} {trim} {noun}")
            exact = colour and not (loose or self.said["top_colour"].vague)
            if exact and (pair := compound(colour, second)):
                forms.append(f"{pair} {pattern} {noun}")
            return self.voice.form(*forms)
        if pattern:
            return self.voice.form(f"{pattern} {colour} {noun}", f"{colour} {pattern} {noun}")
        return self.coloured("top_colour", noun)


def tell(statements: Sequence[Statement], paraphrase: float, draws: Draws) -> str:
    """A caption that says these statements and nothing else.

    Args:
        statements: what it says, one statement for an attribute at most.
        paraphrase: probability that a word is not the canonical one.
        draws: random draws.

    Example:
        >>> said = [("hat", "cap"), ("hat_colour", "red")]
        >>> hat = [Statement(name, value, vague=False, wrong=False) for name, value in said]
        >>> "red cap" in tell(hat, 0.0, Draws(4)).lower()
        True
    """
    voice = Voice(paraphrase, draws)
    adjectives, phrases = _Teller(statements, voice).phrases()
    return compose(adjectives, _NOUNS, phrases, _VERBS, voice)
