"""A bucket on a real S3 server of this machine, behind a slow line."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

KEY, SECRET = "benchkey", "benchsecret"


class Bucket:
    """`s3s-fs` with the bucket `bench` in a folder."""

    def __init__(self, server, folder, delay_ms, megabytes_per_second):
        os.environ.update(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET, AWS_EC2_METADATA_DISABLED="true")
        # Litestream cannot work with it (docs/parity.md).
        os.environ.pop("AWS_CA_BUNDLE", None)
        (folder / "bench").mkdir(parents=True)
        self.port, self.slow_port = free_port(), free_port()
        serve = [server, "--host", "127.0.0.1", "--port", self.port, "--access-key", KEY, "--secret-key", SECRET, folder]
        line = [sys.executable, Path(__file__).parent / "slow_line.py", self.slow_port, self.port, delay_ms, megabytes_per_second]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.children = [subprocess.Popen([str(word) for word in command], **quiet) for command in (serve, line)]
        for port in (self.port, self.slow_port):
            wait_for_port(port)

    def url(self, slow):
        port = self.slow_port if slow else self.port
        return f"s3://bench/db?endpoint=http://127.0.0.1:{port}&region=us-east-1"

    def close(self):
        for child in self.children:
            child.kill()
            child.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, seconds=10):
    end = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > end:
                raise SystemExit(f"nothing listens on port {port}")
            time.sleep(0.02)
