"""Running a program and knowing what it cost."""

import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.01


@dataclass
class Cost:
    wall: float  # seconds
    cpu: float  # seconds, user and system
    memory: float  # MiB at its peak


class Process:
    """A running program. CPU comes from wait4. Peak memory is VmHWM, sampled: the ru_maxrss of wait4 would begin
    with the memory of this script, from which the program was forked."""

    def __init__(self, arguments, log):
        self.log = Path(log)
        self.start = time.monotonic()
        with open(log, "wb") as out:
            self.child = subprocess.Popen(
                [str(a) for a in arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
        self.peak_kib = 0
        self.ended = False
        self.sampler = threading.Thread(target=self._sample, daemon=True)
        self.sampler.start()

    def _sample(self):
        while not self.ended:
            try:
                for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        self.peak_kib = max(self.peak_kib, int(line.split()[1]))
            except OSError:
                return
            time.sleep(SAMPLE_SECONDS)

    def cpu_seconds(self):
        """User and system time until now."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mebibytes(self):
        lines = Path(f"/proc/{self.child.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.child.pid}/fd"))

    def wait(self):
        _, status, usage = os.wait4(self.child.pid, 0)
        wall = time.monotonic() - self.start
        self.ended = True
        self.child.returncode = os.waitstatus_to_exitcode(status)
        if self.child.returncode != 0:
            raise SystemExit(f"{self.child.args} ended with {self.child.returncode}:\n{self.log.read_text()}")
        return Cost(wall, usage.ru_utime + usage.ru_stime, self.peak_kib / 1024)

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self):
        if not self.ended:
            self.child.kill()


class Highest:
    """The largest size that a file had while this was open."""

    def __init__(self, path):
        self.path, self.bytes, self.ended = path, 0, False
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self):
        while not self.ended:
            try:
                self.bytes = max(self.bytes, os.stat(self.path).st_size)
            except OSError:
                pass
            time.sleep(SAMPLE_SECONDS)

    def close(self):
        self.ended = True
        return self.bytes / 2**20


def mebibytes_below(folder):
    files = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    return sum(file.stat().st_size for file in files) / 2**20
