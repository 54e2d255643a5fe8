"""Power cuts: ext4 on a loop device, everything stopped, the image copied, the copy mounted and recovered.

What was written but not synced is in the page cache of the mounted file system only, so the copy lacks it,
as a disk would after the power went. The acks at the moment of the stop are the truth. The copy is checked
and thrown away; the stopped host goes on afterwards.
"""
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile

import campaign
import connectd
import pytest
import verify
from campaign import Bench, Report, moment
from connectd import wait_until

CONTROL_CYCLES = 20
CYCLES_PER_IMAGE = 25
IMAGE_BYTES = 512 << 20

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/loop-control"), reason="needs root and loop devices")


def run_tool(*args):
    subprocess.run(args, check=True, capture_output=True)


class Disk:
    """An ext4 image and the folder it is mounted on."""

    def __init__(self, folder, image=None):
        self.image = image or folder / "disk.img"
        self.mount = folder / "mount"
        self.mount.mkdir(parents=True)
        if image is None:
            with open(self.image, "wb") as f:
                f.truncate(IMAGE_BYTES)
            run_tool("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.image)
        # A long commit interval: nothing reaches the image but what somebody synced.
        run_tool("mount", "-o", "loop,commit=600", self.image, self.mount)

    def copy(self, folder):
        """The disk as it would be found after a power cut now."""
        folder.mkdir(parents=True)
        image = folder / "disk.img"
        run_tool("cp", "--sparse=always", self.image, image)
        return Disk(folder, image)

    def end(self):
        """A process that just died may hold its folder a moment longer than its files."""
        wait_until(lambda: subprocess.run(["umount", self.mount], capture_output=True, check=False).returncode == 0,
                   f"{self.mount} is let go of", 5)
        self.image.unlink()


@pytest.fixture
def folder():
    """Images are written and copied a lot: in memory, if the machine lends it."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = pathlib.Path(tempfile.mkdtemp(prefix="connectd-power-", dir=base))
    yield path
    with open("/proc/mounts", encoding="utf-8") as mounts:
        for line in mounts:
            if line.split()[1].startswith(f"{path}/"):
                subprocess.run(["umount", "-l", line.split()[1]], check=False)
    shutil.rmtree(path)


def is_stopped(pid):
    """Whether every thread of a process stands still: a sync that is under way ends first."""
    try:
        stats = [p.read_bytes() for p in pathlib.Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:
        return True
    return all(s.rpartition(b")")[2].split()[0] in (b"T", b"Z", b"X") for s in stats)


def stop_all(host):
    pids = [host.pid, *host.runners()]
    for pid in pids:
        connectd.kill_if_alive(pid, signal.SIGSTOP)
    for pid in pids:
        wait_until(lambda p=pid: is_stopped(p), "all threads stand still", every=0.001)
    return pids


def check_copy(bench, copy):
    """Recovers on the copy and compares with the acks; then lets the sinks catch up and compares again. Returns
    what check_units() does."""
    host = connectd.Host(copy.mount / "a", bench.config, bench.pipelines)
    try:
        host.start()
        acks, lines = verify.Topic(host, "acks", campaign.PARTITIONS), verify.Topic(host, "lines", 2)
        acks.read()
        verify.check_acked(acks, bench.load)
        spread = verify.check_units(acks, bench.load)
        wait_until(lambda: sum(host.ends("lines")) == len(bench.source.lines), "the source has read all", 20)
        lines.read()
        verify.check_lines(lines, bench.source.lines)
        db = host.path("acks.db")
        wait_until(lambda: len(verify.table_rows(db, "acks")) >= acks.total(), "every record has its row", 20)
        assert verify.check_table(db, "acks", acks) == acks.total()
        return spread
    finally:
        if host.process is not None:
            host.kill()
        host.end()


def cut(bench, disk, folder, report, rng):
    bench.load_until(rng)
    bench.source.append(rng.randint(100, 800))
    bench.load.burst()
    moment(rng, 1)
    pids = stop_all(bench.host)
    try:
        bench.load.freeze()
        report.host_killed(bench.load.drain())
        copy = disk.copy(folder)
        try:
            report.judged(*check_copy(bench, copy))
        finally:
            copy.end()
    finally:
        for pid in pids:
            connectd.kill_if_alive(pid, signal.SIGCONT)
    bench.load.drain(10.0)
    bench.load.close()


def run(folder, report, n, control=None):
    rng = random.Random(report.seed)
    disk = bench = None
    try:
        for i in range(n):
            if i % CYCLES_PER_IMAGE == 0:
                if bench is not None:
                    bench.host.end()
                    disk.end()
                disk = Disk(folder / f"disk-{i}")
                # The source's file is outside: it is the other party's disk.
                bench = Bench(disk.mount / "a", control, source_file=folder / f"in-{i}.txt")
                report.follow(bench.load)
                bench.host.start().wait_running("in", "db", "out")
            cut(bench, disk, folder / f"copy-{i}", report, rng)
    finally:
        if bench is not None:
            bench.load.close()
            bench.host.end()


def test_powercut_control_acks_before_sync_and_is_caught(folder):
    with pytest.raises(verify.Loss), Report("power-control", campaign.seed(), control="this is it") as report:
        run(folder, report, CONTROL_CYCLES, control="ack-before-sync")


def test_powercut_loses_nothing(folder):
    with Report("power", campaign.seed(), control="power-control above") as report:
        run(folder, report, campaign.cycles())
    report.check_shares()
