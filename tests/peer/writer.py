"""An application that writes as fast as it can: transactions of ten rows far apart, in a process of its own.

    writer.py DATABASE SECONDS [READER_SECONDS]

With READER_SECONDS two further connections read all the time, each transaction that long. At the end one line of JSON:
commits, refused (SQLITE_BUSY), the slowest commit and the one slower than all but a thousandth, in milliseconds.
"""

import json
import random
import sqlite3
import sys
import threading
import time

import shop


def read_long(path, seconds, offset, end):
    connection = shop.connect(path)
    time.sleep(offset)
    while time.monotonic() < end:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        time.sleep(min(seconds, max(0, end - time.monotonic())))
        connection.execute("COMMIT")
        time.sleep(0.01)
    connection.close()


def write(path, end):
    connection = shop.connect(path)
    last = connection.execute("SELECT max(id) FROM item").fetchone()[0]
    chance = random.Random(4)
    durations, refused = [], 0
    while (start := time.perf_counter()) and time.monotonic() < end:
        try:
            connection.execute("BEGIN IMMEDIATE")
            rows = ((chance.randint(1, last),) for _ in range(10))
            connection.executemany("UPDATE item SET sold = sold + 1 WHERE id = ?", rows)
            connection.execute("COMMIT")
        except sqlite3.OperationalError:
            refused += 1
        durations.append(time.perf_counter() - start)
    connection.close()
    return durations, refused


def main():
    path, seconds = sys.argv[1], float(sys.argv[2])
    reader_seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 0
    end = time.monotonic() + seconds
    if reader_seconds:
        for n in range(2):
            arguments = (path, reader_seconds, n * reader_seconds / 2, end)
            threading.Thread(target=read_long, args=arguments, daemon=True).start()
    durations, refused = write(path, end)
    durations.sort()
    print(
        json.dumps(
            {
                "commits": len(durations) - refused,
                "refused": refused,
                "slowest_ms": durations[-1] * 1000,
                "slow_ms": durations[-1 - len(durations) // 1000] * 1000,
            }
        )
    )


if __name__ == "__main__":
    main()
