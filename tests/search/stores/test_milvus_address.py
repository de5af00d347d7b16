import pytest

from mmref.errors import UsageError
from mmref.search.stores.base import open_store
from mmref.search.stores.milvus_address import MilvusAddress, redacted


@pytest.mark.parametrize(
    ("uri", "server", "database", "collection", "token"),
    [
        ("milvus://h/c", "http://h:19530", "", "c", ""),
        ("milvus://h:1/db/c", "http://h:1", "db", "c", ""),
        ("milvus+https://h/c", "https://h:443", "", "c", ""),
        ("milvus://u:p%40s@h/c", "http://h:19530", "", "c", "u:p@s"),
        ("milvus://key@h/c", "http://h:19530", "", "c", "key"),
        ("milvus://[::1]:5/c", "http://[::1]:5", "", "c", ""),
        ("milvus-lite://a/b.db", "a/b.db", "", "mmref", ""),
        ("milvus-lite:///a/b.db/c", "/a/b.db", "", "c", ""),
    ],
)
def test_addresses(uri, server, database, collection, token):
    found = MilvusAddress.parse(uri)
    assert (found.server, found.database, found.collection) == (server, database, collection)
    assert found.token == token


@pytest.mark.parametrize(
    "uri",
    [
        "milvus://",
        "milvus://host",
        "milvus://host/a/b/c",
        "milvus://host:port/c",
        "milvus://host:99999/c",
        "milvus://host/a-b",
        'milvus://host/c"',
        "milvus://host/c?x=1",
        "milvus-lite://pictures",
        "milvus-lite://a.db/b/c",
        "milvus-lite://a.db/1",
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_done(uri):
    with pytest.raises(UsageError) as caught:
        open_store(uri)
    assert "\n" not in str(caught.value)


def test_the_token_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("MILVUS_TOKEN", "ann:secret")
    assert MilvusAddress.parse("milvus://h/c").token == "ann:secret"
    assert MilvusAddress.parse("milvus://bob:else@h/c").token == "bob:else"


def test_secrets_are_not_shown():
    for uri in ("milvus://ann:secret@h/c", "milvus+https://secret@h/c", "milvus://a:s@secret@h/c"):
        assert "secret" not in redacted(uri)
        assert "secret" not in repr(MilvusAddress.parse(uri))
    with pytest.raises(UsageError) as caught:
        MilvusAddress.parse("milvus://ann:secret@h")
    assert "secret" not in str(caught.value)
