#!/usr/bin/env python3
"""Counts visits in a SQLite database. It knows nothing of walstream."""

import os
import signal
import sqlite3
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

DATABASE = os.environ.get("DATABASE", "/data/visits.db")
PORT = int(os.environ.get("PORT", "8080"))

database = sqlite3.connect(DATABASE, timeout=5)
database.execute("PRAGMA journal_mode = WAL")
database.execute("CREATE TABLE IF NOT EXISTS visit(id INTEGER PRIMARY KEY, path TEXT, at TEXT DEFAULT CURRENT_TIMESTAMP)")


class Visits(BaseHTTPRequestHandler):
    def do_GET(self):
        with database:
            database.execute("INSERT INTO visit(path) VALUES (?)", (self.path,))
        (count,) = database.execute("SELECT count(*) FROM visit").fetchone()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{count} visits\n".encode())


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
HTTPServer(("", PORT), Visits).serve_forever()
