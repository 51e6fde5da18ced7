"""The databases that both programs are given."""

import random
import sqlite3
from pathlib import Path

ROW_BYTES = 1000


def connect(path):
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def fold(path):
    """Moves the WAL into the database file, as closing the application does."""
    connection = connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def body(chance):
    """As compressible as most data: a good half of it is noise."""
    return chance.randbytes(ROW_BYTES * 6 // 10) + b"the quick brown fox " * (ROW_BYTES * 4 // 200)


def create(path, mebibytes, seed=1):
    """A database of about that size, the same bytes for the same seed, without a WAL."""
    chance = random.Random(seed)
    connection = connect(path)
    connection.execute("CREATE TABLE item(id INTEGER PRIMARY KEY, sold INTEGER, body BLOB)")
    rows = mebibytes * 2**20 // (ROW_BYTES + 80)
    step = 20_000
    for first in range(0, rows, step):
        connection.execute("BEGIN")
        count = min(step, rows - first)
        connection.executemany("INSERT INTO item(sold, body) VALUES (0, ?)", ((body(chance),) for _ in range(count)))
        connection.execute("COMMIT")
    connection.close()
    fold(path)
    for sidecar in ("-wal", "-shm"):
        Path(f"{path}{sidecar}").unlink(missing_ok=True)


def burst(connection, mebibytes, seed=2):
    """Commits of 100 rows as fast as they go, until so much has been written."""
    chance = random.Random(seed)
    for _ in range(int(mebibytes * 2**20) // (ROW_BYTES * 100)):
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO item(sold, body) VALUES (0, ?)", ((body(chance),) for _ in range(100)))
        connection.execute("COMMIT")


def change_ten_rows(path, run):
    """Ten rows far apart change, and a checkpoint takes the WAL away, as after a night without the daemon."""
    connection = connect(path)
    last = connection.execute("SELECT max(id) FROM item").fetchone()[0]
    for n in range(10):
        connection.execute("UPDATE item SET sold = sold + 1 WHERE id = ?", (1 + run + n * (last // 10),))
    connection.close()
    fold(path)
