"""The parser of filters: letters to tokens to a tree; the grammar is told in ``filters``."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

from mmref.errors import UsageError
from mmref.search.filter_tree import (
    KEYWORDS,
    And,
    Compare,
    Contains,
    Date,
    In,
    Missing,
    Node,
    Not,
    Or,
    Value,
)

MOST_LETTERS, MOST_VALUES, MOST_DEPTH = 10_000, 500, 40
_INT64 = 1 << 63
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<string>'(?:[^']|'')*')
  | (?P<quoted>"[^"]*")
  | (?P<date>\d{4}-\d\d(?:-\d\d(?:T\d\d:\d\d(?::\d\d)?)?)?(?![\w.:-]))
  | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
  | (?P<word>[^\W\d]\w*)
  | (?P<sign><=|>=|!=|<>|==|[=<>~(),])
  | (?P<end>\Z)
    )""",
    re.VERBOSE | re.ASCII,
)
_WORD = re.compile(r"[^\W\d]\w*")
_ALIASES = {"==": "=", "<>": "!="}


def parse(text: str) -> Node:
    """Read a filter.

    Raises:
        UsageError: it cannot be read; the message shows where.

    Example:
        >>> parse("not a = 1")
        Not(part=Compare(column='a', sign='=', value=1))
    """
    return _Parser(text).whole()


def usable(name: str) -> bool:
    """Whether this can be the name of a column: no quote, backslash or control letter in it."""
    return bool(name) and len(name) <= 200 and name.isprintable() and not set(name) & {'"', "\\"}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int


class _Parser:
    """Recursive descent; one method a rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.source = text
        if len(text) > MOST_LETTERS:
            raise UsageError(f"the filter is longer than {MOST_LETTERS:,} letters: shorten it")
        self.depth = self.values = self.place = 0
        self.tokens = list(self._tokens(text))

    def _tokens(self, text: str) -> Iterator[_Token]:
        spot = 0
        while True:
            blank = len(text) - len(text[spot:].lstrip())
            word = _WORD.match(text, blank)
            found = None if word else _TOKEN.match(text, blank)
            if word:
                yield _Token("word", word.group(), blank)
                spot = word.end()
                continue
            if found is None:
                letter = text[blank]
                if letter in "'\"":
                    raise self.wrong(
                        "a quote is not closed (within text it is doubled: 'it''s')", blank
                    )
                if letter.isdigit() or letter in "+-.":
                    raise self.wrong("the filter has no such number or date", blank)
                raise self.wrong("the filter cannot hold this letter", blank)
            kind = str(found.lastgroup)
            yield _Token(kind, found.group(kind), blank)
            if kind == "end":
                return
            spot = found.end()

    def wrong(self, what: str, start: int) -> UsageError:
        first = max(0, start - 50)
        shown = "".join(c if c.isprintable() else " " for c in self.source[first : first + 76])
        return UsageError(f"{what}\n  {shown}\n  {' ' * (start - first)}^")

    # ------------------------------------------------------------------ tokens

    @property
    def now(self) -> _Token:
        return self.tokens[self.place]

    def is_word(self, *words: str) -> bool:
        return self.now.kind == "word" and self.now.text.lower() in words

    def take(self) -> _Token:
        token = self.now
        self.place += token.kind != "end"
        return token

    def took_word(self, *words: str) -> bool:
        found = self.is_word(*words)
        self.place += found
        return found

    def took_sign(self, sign: str) -> bool:
        found = self.now.kind == "sign" and self.now.text == sign
        self.place += found
        return found

    # ------------------------------------------------------------------ rules

    def whole(self) -> Node:
        if self.now.kind == "end":
            raise UsageError("the filter is empty: write for example camera = 'c3'")
        node = self.either()
        if self.now.kind != "end":
            raise self.wrong("'and', 'or' or the end is expected here", self.now.start)
        return node

    def either(self) -> Node:
        parts = [self.both()]
        while self.took_word("or"):
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def both(self) -> Node:
        parts = [self.single()]
        while self.took_word("and"):
            parts.append(self.single())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def single(self) -> Node:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise self.wrong("the filter is nested too deeply here", self.now.start)
        node: Node
        if self.took_word("not"):
            node = Not(self.single())
        elif self.took_sign("("):
            node = self.either()
            self.expect(")")
        else:
            node = self.test()
        self.depth -= 1
        return node

    def expect(self, sign: str) -> None:
        if not self.took_sign(sign):
            raise self.wrong(f"'{sign}' is expected here", self.now.start)

    def test(self) -> Node:
        name = self.column()
        if self.took_word("is"):
            negated = self.took_word("not")
            if not self.took_word("missing", "null"):
                raise self.wrong("'missing' is expected here", self.now.start)
            return Not(Missing(name)) if negated else Missing(name)
        negated = self.took_word("not")
        if self.took_word("in"):
            return In(name, self.several(), negated)
        if negated:
            raise self.wrong("'in' is expected here", self.now.start)
        sign = self.take()
        operator = _ALIASES.get(sign.text, sign.text)
        if sign.kind != "sign" or operator in "(),":
            raise self.wrong(
                "one of = != < <= > >= ~ in, or 'is missing', is expected here", sign.start
            )
        start = self.now.start
        value = self.value()
        if operator != "~":
            return Compare(name, operator, value)
        if not isinstance(value, str):
            raise self.wrong("after ~ stands text in quotes", start)
        return Contains(name, value)

    def column(self) -> str:
        token = self.take()
        if token.kind == "word" and token.text.lower() not in KEYWORDS:
            name = token.text
        elif token.kind == "quoted":
            name = token.text[1:-1]
        else:
            raise self.wrong("the name of a column is expected here", token.start)
        if not usable(name):
            raise self.wrong("this cannot be the name of a column", token.start)
        return name

    def several(self) -> tuple[Value, ...]:
        self.expect("(")
        values = [self.value()]
        while self.took_sign(","):
            values.append(self.value())
        self.expect(")")
        return tuple(values)

    def value(self) -> Value:
        token = self.take()
        self.values += 1
        if self.values > MOST_VALUES:
            raise self.wrong(f"the filter has more than {MOST_VALUES} values", token.start)
        if token.kind == "string":
            return self.string(token)
        if token.kind == "number":
            return self.number(token)
        if token.kind == "date":
            return self.date(token)
        if token.kind == "word" and token.text.lower() in ("true", "false"):
            return token.text.lower() == "true"
        hint = ""
        if token.kind in ("word", "quoted"):
            hint = "; text stands in quotes: '" + token.text.strip('"') + "'"
        raise self.wrong(f"a value is expected here{hint}", token.start)

    def string(self, token: _Token) -> str:
        text = token.text[1:-1].replace("''", "'")
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            raise self.wrong("this text holds a letter that no text can hold", token.start)
        return text

    def number(self, token: _Token) -> int | float:
        if re.fullmatch(r"[+-]?\d{1,19}", token.text) and -_INT64 <= int(token.text) < _INT64:
            return int(token.text)
        value = float(token.text)
        if value in (float("inf"), float("-inf")):
            raise self.wrong("this number is too large", token.start)
        return value

    def date(self, token: _Token) -> Date:
        text = token.text
        try:
            if len(text) == len("2026-01"):
                date.fromisoformat(f"{text}-01")
            else:
                datetime.fromisoformat(text)
        except ValueError:
            raise self.wrong("there is no such date", token.start) from None
        return Date(text)
