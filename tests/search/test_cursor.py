import base64

import pytest

from mmref.errors import UsageError
from mmref.search.cursor import Cursor

PLACE = Cursor("00112233aabbccdd", 2**40, (0.5, 0.25, -2.0), 2, -0.123456, 2**62, 70)


def test_a_token_is_short_plain_and_comes_back():
    token = PLACE.token()
    assert Cursor.read(token, PLACE.query) == PLACE
    assert len(token) < 90
    assert token.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize("spot", range(0, 60, 7))
def test_a_changed_letter_is_noticed(spot):
    token = PLACE.token()
    other = "A" if token[spot] != "A" else "B"
    with pytest.raises(UsageError, match="damaged"):
        Cursor.read(token[:spot] + other + token[spot + 1 :], PLACE.query)


@pytest.mark.parametrize("token", ["", "x", "-", "é", "AAAA" * 20, "a b", "=" * 9])
def test_what_is_no_token(token):
    with pytest.raises(UsageError, match="damaged"):
        Cursor.read(token, PLACE.query)
    with pytest.raises(UsageError, match="damaged"):
        Cursor.read(base64.urlsafe_b64encode(b"\1" * 50).decode(), PLACE.query)


def test_another_question_is_refused():
    with pytest.raises(UsageError, match="another question"):
        Cursor.read(PLACE.token(), "ff112233aabbccdd")
