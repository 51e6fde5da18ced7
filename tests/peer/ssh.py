"""A real SSH server of this machine."""

import getpass
import subprocess
from pathlib import Path

from bucket import free_port, wait_for_port

SERVER = "/usr/sbin/sshd"


class Ssh:
    """OpenSSH's server, with the files in a folder and keys of its own."""

    def __init__(self, folder):
        folder.mkdir()
        self.folder, self.port = folder, free_port()
        for key in ("host", "key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        (folder / "authorized_keys").write_bytes((folder / "key.pub").read_bytes())
        if getpass.getuser() == "root":
            # Where it parts with its rights.
            Path("/run/sshd").mkdir(exist_ok=True)
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
            "Subsystem sftp internal-sftp\n"
        )
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.server = subprocess.Popen([SERVER, "-D", "-e", "-f", folder / "sshd_config"], **quiet)
        wait_for_port(self.port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.kill()
        self.server.wait()

    def config(self, database):
        """A configuration file: the database, with its replica on this server."""
        host_key = " ".join((self.folder / "host.pub").read_text().split()[:2])
        config = self.folder / f"{database.parent.name}.yml"
        config.write_text(
            f"dbs:\n  - path: {database}\n    replica:\n      type: sftp\n      host: 127.0.0.1:{self.port}\n      user: {getpass.getuser()}\n"
            f"      key-path: {self.folder}/key\n      host-key: '{host_key}'\n      path: {self.folder}/files\n"
        )
        return config
