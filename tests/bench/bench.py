"""Figures beside a yardstick of the same run: `./dev bench [disk|thin-path|start|idle|sqlite]...`.

Each line says what was measured, the figure, the yardstick's and the ratio. Nothing here passes or fails but
for correctness: a figure whose output is wrong is not printed.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/scenario"))
import connectd  # noqa: E402  (the path is set above)
from connectd import Host, flat_config, rows, wait_until  # noqa: E402
from pipelines import file_sink, file_source, topic  # noqa: E402

LINES = 2_000_000
ROWS = 1_000_000
PER_TRANSACTION = 3000  # SqliteSink's default batch.size
TICK = os.sysconf("SC_CLK_TCK")


def say(what, figure, unit, yardstick=None, note=""):
    beside = f"   yardstick {yardstick:.2f} {unit}, ratio {figure / yardstick:.2f}" if yardstick else ""
    print(f"{what:<44} {figure:>9.2f} {unit}{beside}{'   ' + note if note else ''}", flush=True)


def family(pid):
    return [pid, *connectd.children_of(pid)]


def cpu_seconds(pids):
    """User and system time of live processes, and of children that they waited for."""
    total = 0
    for pid in pids:
        fields = connectd.read_proc(pid, "stat").rpartition(b")")[2].split()
        total += sum(map(int, fields[11:15])) if fields else 0
    return total / TICK


def pss_bytes(pids):
    total = 0
    for pid in pids:
        for line in connectd.read_proc(pid, "smaps_rollup").splitlines():
            if line.startswith(b"Pss:"):
                total += int(line.split()[1]) * 1024
    return total


class Sampler:
    """The peak sum of Pss over a host and its runners, looked at every 20 ms."""

    def __init__(self, pid):
        self.pid, self.peak = pid, 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.done.wait(0.02):
            self.peak = max(self.peak, pss_bytes(family(self.pid)))

    def end(self):
        self.done.set()
        self.thread.join()
        return self.peak


def line_sum(path):
    """An order-free sum of line hashes, and how many lines."""
    total = n = 0
    with open(path, "rb") as f:
        for line in f:
            total += zlib.crc32(line)
            n += 1
    return total, n


def timed(*command):
    begun = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def best(n, *command):
    return min(timed(*command) for _ in range(n))


def synced(host, connector, topic_name, n):
    """Whether all n records are in the topic and the sink says it has them for good: no lag."""
    if sum(host.ends(topic_name) or [0]) != n:
        return False
    tasks = host.status(connector)["tasks"]
    return bool(tasks) and sum(t.get("lag") or 0 for t in tasks) == 0


def bench_thin_path(folder):
    source, slice_ = folder / "flights.jsonl", (ROOT / "tests/data/flights.jsonl").read_bytes()
    with open(source, "wb") as f:
        for _ in range(LINES // slice_.count(b"\n")):
            f.write(slice_)
    os.sync()
    yardstick = best(3, connectd.BUILD / "bench/yardstick", source, folder / "y.log", folder / "y.out")
    os.unlink(folder / "y.log")
    os.unlink(folder / "y.out")
    host = Host(folder / "thin", pipelines={
        "t": topic("flights", 2), "in": file_source("in", str(source), "flights"),
        "out": file_sink("out", "flights", "out.jsonl")})
    out, size = host.path("out.jsonl"), source.stat().st_size
    begun = time.monotonic()
    host.spawn()
    sampler = Sampler(host.pid)
    host.wait_ready()
    wait_until(lambda: out.exists() and out.stat().st_size >= size, "all lines in the sink's file", 120, 0.005)
    written = time.monotonic() - begun
    wait_until(lambda: synced(host, "out", "flights", LINES), "all of it synced", 120, 0.005)
    took = time.monotonic() - begun
    cpu, peak = cpu_seconds(family(host.pid)), sampler.end()
    host.stop()
    host.end()
    assert line_sum(source) == line_sum(out), "the lines that came out are not those that went in"
    say(f"thin path, {LINES:,} lines", took, "s", yardstick, f"(written after {written:.2f} s; aim 1.5 s)")
    say("  CPU of host and runners", cpu, "s", note="(aim 4 s)")
    say("  peak sum of Pss", peak / 1e6, "MB", note="(aim 100 MB)")


def bench_start(folder):
    pipelines = {"t": topic("lines", 2)}
    for i in range(5):
        pipelines[f"in{i}"] = file_source(f"in{i}", f"in{i}.txt", "lines")
        pipelines[f"out{i}"] = file_sink(f"out{i}", "lines", f"out{i}.txt")
    took = []
    for i in range(7):
        host = Host(folder / f"start-{i}", pipelines=pipelines)
        for _ in range(2):  # the second start has its plugins described already
            begun = time.monotonic()
            host.start()
            took.append(time.monotonic() - begun)
            host.stop()
        host.end()
    true = best(20, "/bin/true")
    say("start to ready, ten pipelines, first", statistics.median(took[::2]), "s", true, "(aim 0.2 s; yardstick: /bin/true)")
    say("start to ready, ten pipelines, again", statistics.median(took[1::2]), "s", true)


def bench_idle(folder):
    host = Host(folder / "idle", pipelines={"t": topic("lines", 1), "in": file_source("in", "in.txt", "lines")})
    host.start().wait_running("in")
    pids = wait_until(lambda: len(family(host.pid)) == 2 and family(host.pid), "one runner")
    before = cpu_seconds(pids)
    threading.Event().wait(3)  # idle is what is measured here
    cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    say("idle host with one runner, sum of Pss", pss_bytes(pids) / 1e6, "MB", pss_bytes([cat.pid]) / 1e6,
        "(aim 15 MB; yardstick: cat)")
    say("  its CPU", (cpu_seconds(pids) - before) / 3 * 100, "%")
    cat.stdin.close()
    cat.wait()
    host.stop()
    host.end()


def sink_pragmas(db):
    """What SqliteSink ran this file with: NORMAL in WAL mode, where it syncs at flush, else FULL."""
    mode = rows(db, "PRAGMA journal_mode")[0][0]
    return mode, "NORMAL" if mode == "wal" else "FULL"


def bench_sqlite(folder):
    source = folder / "rows.jsonl"
    with open(source, "w", encoding="utf-8") as f:
        for i in range(ROWS):
            f.write(f'{{"id":{i},"name":"name-{i}","value":{i / 8},"flag":{"true" if i % 2 else "false"}}}\n')
    host = Host(folder / "sqlite", pipelines={"t": topic("rows", 1), "in": file_source("in", str(source), "rows")})
    host.start().wait_records("rows", ROWS, 120)
    host.stop()
    host.pipeline("db", flat_config(
        "db", connector_class="SqliteSink", topics="rows", connection_url="rows.db", auto_create="true",
        insert_mode="upsert", pk_mode="record_value", pk_fields="id"))
    db = host.path("rows.db")
    begun = time.monotonic()
    host.start()
    wait_until(lambda: synced(host, "db", "rows", ROWS), "all rows", 300, 0.02)
    took = time.monotonic() - begun
    host.stop()
    host.end()
    assert rows(db, "SELECT count(*), sum(id), sum(value), sum(flag) FROM rows") == [
        (ROWS, ROWS * (ROWS - 1) // 2, ROWS * (ROWS - 1) / 16, ROWS // 2)]
    bare = timed(connectd.BUILD / "bench/yardstick_sqlite", folder / "bare.db", str(ROWS), str(PER_TRANSACTION),
                 *sink_pragmas(db))
    say(f"SQLite upsert, {ROWS:,} rows", ROWS / took / 1000, "krow/s", ROWS / bare / 1000, "(aim ratio 0.70; from exec)")


def bench_disk(folder):
    """What the disk itself can do: how often a second 4 KiB are written and synced, by fio and nobody else."""
    out = subprocess.run(["fio", "--name=sync", f"--directory={folder}", "--rw=write", "--bs=4k", "--size=64m", "--fdatasync=1",
                          "--time_based", "--runtime=2", "--output-format=json"], check=True, capture_output=True).stdout
    say("the disk: 4 KiB writes, each synced (fio)", json.loads(out)["jobs"][0]["write"]["iops"] / 1000, "k/s")


BENCHES = {"disk": bench_disk, "thin-path": bench_thin_path, "start": bench_start, "idle": bench_idle, "sqlite": bench_sqlite}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help="of: " + ", ".join(BENCHES))
    names = parser.parse_args().names or list(BENCHES)
    if not set(names) <= set(BENCHES):
        parser.error(f"no such bench; there are {', '.join(BENCHES)}")
    base = ROOT / "build"
    for name in names:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=base))
        try:
            BENCHES[name](folder)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
