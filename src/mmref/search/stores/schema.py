"""The tables of a local store, and the steps that bring an older one up to date."""

import sqlite3

from mmref.errors import StoreError

APPLICATION_ID = 0x6D6D7266  # "mmrf"

# Entry v brings a database of version v to version v + 1. Append; never change an entry.
MIGRATIONS: list[tuple[str, ...]] = [
    (
        "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        """CREATE TABLE items (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            path TEXT NOT NULL UNIQUE,
            size INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            digest TEXT NOT NULL,
            metadata TEXT NOT NULL,
            source TEXT NOT NULL,
            generation INTEGER NOT NULL,
            vector BLOB NOT NULL,
            profile BLOB NOT NULL
        )""",
        "CREATE INDEX items_digest ON items (digest)",
        "CREATE INDEX items_generation ON items (generation)",
        "CREATE TABLE removed (id INTEGER PRIMARY KEY, generation INTEGER NOT NULL)",
        "CREATE INDEX removed_generation ON removed (generation)",
    ),
    # Vectors leave the items, so that those of another run can stand beside them (editions), and
    # the number of items is kept, for counting a million takes time.
    (
        """CREATE TABLE vectors_1 (
            id INTEGER PRIMARY KEY,
            digest TEXT NOT NULL,
            vector BLOB NOT NULL,
            profile BLOB NOT NULL
        )""",
        "INSERT INTO vectors_1 SELECT id, digest, vector, profile FROM items",
        "ALTER TABLE items DROP COLUMN vector",
        "ALTER TABLE items DROP COLUMN profile",
        "INSERT INTO facts SELECT 'edition', '1' FROM facts WHERE name = 'store'",
        "INSERT INTO facts SELECT 'storage', '\"fp32\"' FROM facts WHERE name = 'store'",
        "CREATE TABLE totals (images INTEGER NOT NULL)",
        "INSERT INTO totals SELECT count(*) FROM items",
        """CREATE TRIGGER items_more AFTER INSERT ON items
            BEGIN UPDATE totals SET images = images + 1; END""",
        """CREATE TRIGGER items_less AFTER DELETE ON items
            BEGIN UPDATE totals SET images = images - 1; END""",
    ),
    # An edition may be grouped (own_table). Older programs do not know and are to keep away.
    (),
]


def edition_table(edition: int) -> str:
    """The statement that makes the table of an edition's vectors.

    Example:
        >>> edition_table(2).splitlines()[0]
        'CREATE TABLE IF NOT EXISTS vectors_2 ('
    """
    table = MIGRATIONS[1][0].replace("vectors_1", f"vectors_{edition}")
    return table.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS")


def own_table(edition: int) -> tuple[str, str]:
    """The statements that make the table of what was encoded, of a grouped edition.

    The table of the edition's vectors then holds what images are found by, which they share.

    Example:
        >>> own_table(2)[0].splitlines()[0]
        'CREATE TABLE IF NOT EXISTS own_2 ('
    """
    table = edition_table(edition).replace(f"vectors_{edition}", f"own_{edition}")
    table = table.replace("profile BLOB NOT NULL", "profile BLOB NOT NULL, grp TEXT")
    return table, f"CREATE INDEX IF NOT EXISTS own_{edition}_grp ON own_{edition} (grp)"


def version(connection: sqlite3.Connection) -> int:
    """The version of the tables; 0 means that there are none."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check(connection: sqlite3.Connection, name: str) -> None:
    """Refuse what a reader cannot read as it is.

    Raises:
        StoreError: the database is of another program, or not of this version.
    """
    found = version(connection)
    kind = int(connection.execute("PRAGMA application_id").fetchone()[0])
    if found and kind != APPLICATION_ID:
        raise StoreError(f"{name} holds a database of another program: give another folder")
    if found > len(MIGRATIONS):
        raise StoreError(f"{name} was made by a newer mmref: upgrade it (pip install -U mmref)")


def migrate(connection: sqlite3.Connection, name: str) -> None:
    """Bring the tables to this version, step by step, in one transaction.

    Raises:
        StoreError: the database is of another program, or newer than this version.
    """
    check(connection, name)
    if version(connection) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in MIGRATIONS[version(connection) :]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
