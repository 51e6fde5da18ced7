"""The clouds on this machine, each with an empty bucket.

The emulators of Google's and Microsoft's keep it in memory. They do one thing at a time, and what they need for it is part of what is measured: these figures compare the
programs and say nothing of a cloud.
"""

import os
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path

from bucket import Bucket, free_port, wait_for_port

# Every Azurite has this account with this key; the signature is for everything in it, made with that key, until 2099.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
SIGNATURE = (
    "sv=2022-11-02&ss=b&srt=sco&sp=racwdl&st=2020-01-01T00:00:00Z&se=2099-01-01T00:00:00Z"
    "&sig=LbV11oFa%2Fe%2Fnx60wVm2sq9ZYA29uBWRLoKB7cF7BMzg%3D"
)


class S3:
    """`s3s-fs`, which checks signatures and keeps objects in a folder."""

    name = "S3"

    def __init__(self, programs):
        self.folder = Path(tempfile.mkdtemp(dir=programs.folder))
        self.bucket = Bucket(programs.s3s_fs, self.folder, 0, 1000)

    def replica(self):
        return f"{{url: '{self.bucket.url(slow=False)}'}}"

    def close(self):
        self.bucket.close()
        shutil.rmtree(self.folder)


class Gcs:
    """`gcp-storage-emulator` behind the front of tests/support, which both programs can talk to."""

    name = "Google Cloud Storage"

    def __init__(self, programs):
        self.child = subprocess.Popen([str(programs.gcs)], stdout=subprocess.PIPE, text=True)
        os.environ["STORAGE_EMULATOR_HOST"] = "http://" + self.child.stdout.readline().split()[0]

    def replica(self):
        return "{type: gs, bucket: bkt, path: db}"

    def close(self):
        self.child.kill()
        self.child.wait()


class Azure:
    """Azurite, which is Microsoft's own."""

    name = "Azure"

    def __init__(self, programs):
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        where = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        options = ["--disableTelemetry", "--skipApiVersionCheck", "--silent"]
        self.child = subprocess.Popen([str(programs.azurite), *where, *options], **quiet)
        wait_for_port(port)
        container = f"{self.endpoint}/bkt?restype=container&{SIGNATURE}"
        urllib.request.urlopen(urllib.request.Request(container, method="PUT")).close()
        os.environ["LITESTREAM_AZURE_ACCOUNT_KEY"] = KEY

    def replica(self):
        return f"{{type: abs, account-name: {ACCOUNT}, bucket: bkt, path: db, endpoint: '{self.endpoint}'}}"

    def close(self):
        self.child.kill()
        self.child.wait()
