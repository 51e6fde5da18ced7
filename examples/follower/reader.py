#!/usr/bin/env python3
"""A web application that only reads: it shows the visits that another machine has counted."""

import os
import signal
import sqlite3
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COPY = os.environ.get("COPY", "/srv/visits/visits.db")
PORT = int(os.environ.get("PORT", "8081"))


class Visits(BaseHTTPRequestHandler):
    def do_GET(self):
        # A connection for each request: a copy that was replaced as a whole is seen by whoever opens it again.
        database = sqlite3.connect(f"file:{COPY}?mode=ro", uri=True, timeout=5)
        try:
            # What belongs together is read in one transaction: it sees one state of the database.
            database.execute("BEGIN")
            (count,) = database.execute("SELECT count(*) FROM visit").fetchone()
            (newest,) = database.execute("SELECT max(at) FROM visit").fetchone()
        finally:
            database.close()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{count} visits, the newest at {newest}\n".encode())


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
ThreadingHTTPServer(("", PORT), Visits).serve_forever()
