"""A real NATS server of this machine, with an object store `bkt` on disk."""

import json
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from bucket import free_port, wait_for_port

STREAM = {
    "name": "OBJ_bkt", "subjects": ["$O.bkt.C.>", "$O.bkt.M.>"], "retention": "limits", "discard": "new",
    "storage": "file", "num_replicas": 1, "allow_rollup_hdrs": True, "allow_direct": True,
}  # fmt: skip


class Nats:
    name = "NATS JetStream"

    def __init__(self, programs):
        self.port, self.folder = free_port(), Path(tempfile.mkdtemp(dir=programs.folder))
        where = ["-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", self.folder]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.child = subprocess.Popen([programs.nats, *where], **quiet)
        wait_for_port(self.port)
        with socket.create_connection(("127.0.0.1", self.port)) as line, line.makefile("rb") as answers:
            config = json.dumps(STREAM)
            create = f"PUB $JS.API.STREAM.CREATE.OBJ_bkt made {len(config)}\r\n{config}\r\n"
            line.sendall(f'CONNECT {{"verbose":false}}\r\nSUB made 1\r\n{create}'.encode())
            while not next(answers).startswith(b"MSG"):
                pass

    def replica(self):
        return f"{{url: 'nats://127.0.0.1:{self.port}/bkt'}}"

    def close(self):
        self.child.kill()
        self.child.wait()
        shutil.rmtree(self.folder)
