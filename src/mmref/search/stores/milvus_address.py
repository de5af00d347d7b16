"""Addresses of Milvus stores, and how they are shown: never with a password.

==================================================  ===========================================
``milvus://host:19530/collection``                  a server
``milvus://user:password@host/database/collection``  with a user, in a database
``milvus+https://user:password@host/collection``    over TLS; port 443 unless told
``milvus-lite://pictures.db``                       Milvus Lite: a folder on this machine
``milvus-lite:///data/pictures.db/collection``      the same with an absolute path
==================================================  ===========================================

A user and password, or a token, may stand in the environment in place of the address, where other
users of the machine cannot see it: ``MILVUS_TOKEN=user:password``.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mmref.errors import UsageError

SERVER_PORTS = {"milvus": 19530, "milvus+https": 443}
LITE = "milvus-lite"
LITE_COLLECTION = "mmref"
TOKEN = "MILVUS_TOKEN"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_FORM = "milvus://host:19530/collection"
_LITE_FORM = "milvus-lite://pictures.db"


@dataclass(frozen=True)
class MilvusAddress:
    """Where a store is.

    Attributes:
        shown: the address as messages name it.
        server: what pymilvus connects to: ``http://host:port``, or the path of a Lite folder.
        collection: the store's collection; other programs find it under this name.
        database: the database it is in; empty for the server's default.
        token: ``user:password`` or a token; empty for none.

    Example:
        >>> one = MilvusAddress.parse("milvus://ann:secret@db.example:19531/flags")
        >>> one.server, one.collection, one.token, one.shown
        ('http://db.example:19531', 'flags', 'ann:secret', 'milvus://ann:***@db.example:19531/flags')
        >>> MilvusAddress.parse("milvus-lite://pics.db").server
        'pics.db'
        >>> MilvusAddress.parse("milvus://host/red-flags")
        Traceback (most recent call last):
        ...
        mmref.errors.UsageError: 'red-flags' cannot be a Milvus collection: letters, digits and _
    """

    shown: str
    server: str
    collection: str
    database: str = ""
    token: str = field(default="", repr=False)

    @property
    def lite(self) -> bool:
        """Whether it is a folder on this machine."""
        return "://" not in self.server

    @classmethod
    def parse(cls, uri: str) -> "MilvusAddress":
        """Read an address.

        Raises:
            UsageError: it is not of one of the forms.
        """
        scheme, _, rest = uri.partition("://")
        return cls._lite(uri, rest) if scheme == LITE else cls._server(uri, scheme)

    @classmethod
    def _lite(cls, uri: str, rest: str) -> "MilvusAddress":
        found = re.fullmatch(r"(.*?\.db)(?:/([^/]*))?/?", rest, re.DOTALL)
        if found is None:
            raise UsageError(f"{uri!r} names no .db folder: {_LITE_FORM}")
        folder, collection = found.groups()
        if Path(folder).is_file():
            raise UsageError(f"{folder} is a file, of an older Milvus Lite or another program")
        return cls(uri, str(Path(folder).expanduser()), _checked(collection or LITE_COLLECTION))

    @classmethod
    def _server(cls, uri: str, scheme: str) -> "MilvusAddress":
        shown = redacted(uri)
        try:
            parts = urlsplit(uri)
            port = parts.port or SERVER_PORTS[scheme]
        except ValueError:
            raise UsageError(f"{shown!r} has no usable port: {_FORM}") from None
        names = [unquote(name) for name in parts.path.split("/") if name]
        if not parts.hostname or not 1 <= len(names) <= 2 or parts.query or parts.fragment:
            raise UsageError(f"{shown!r} names no collection of a server: {_FORM}")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        token = os.environ.get(TOKEN, "")
        if parts.username is not None:
            token = unquote(parts.username)
            if parts.password is not None:
                token += f":{unquote(parts.password)}"
        kind = "https" if scheme == "milvus+https" else "http"
        database = names[0] if len(names) == 2 else ""
        return cls(shown, f"{kind}://{host}:{port}", _checked(names[-1]), database, token)


def redacted(uri: str) -> str:
    """An address without its password or token.

    Example:
        >>> redacted("milvus://ann:secret@host/flags"), redacted("milvus://token@host/flags")
        ('milvus://ann:***@host/flags', 'milvus://***@host/flags')
        >>> redacted("milvus://host/flags"), redacted("some/folder@home")
        ('milvus://host/flags', 'some/folder@home')
    """
    scheme, mark, rest = uri.partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    secret, at, _ = host.rpartition("@")
    if not mark or not at:
        return uri
    user, colon, _ = secret.partition(":")
    shown = f"{user}:***" if colon else "***"
    return f"{scheme}://{shown}{rest[len(secret) :]}"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a Milvus collection: letters, digits and _")
    return name
