"""A full disk under DATA: acks stop, reads and sinks go on, and acks come back by themselves."""
import os
import subprocess
import time

import pytest
from connectd import PATIENCE, wait_until
from pipelines import file_sink, file_source, topic

SIZE = 96 << 20

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a tmpfs")


@pytest.fixture
def a(host):
    """A host whose data directory is a small file system of its own."""
    one = host(pipelines={
        "t": topic("t", 1), "l": topic("lines", 1),
        "in": file_source("in", "in.txt", "lines", restart_backoff_ms=100, restart_backoff_max_ms=500),
        "out": file_sink("out", "t,lines", "out.txt", restart_backoff_ms=100, restart_backoff_max_ms=500)})
    one.data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", one.data], check=True)
    yield one
    one.end()
    # Processes that were killed let go of the mount a moment after they are reaped.
    wait_until(lambda: subprocess.run(["umount", one.data], capture_output=True, check=False).returncode == 0,
               "the small file system lets go")


def fill(folder):
    """Takes every byte that is left."""
    fd = os.open(folder / "ballast", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for size in (1 << 20, 4096, 1):
            try:
                while os.write(fd, b"x" * size) == size:
                    pass
            except OSError:
                pass
    finally:
        os.close(fd)


def unhealthy(a):
    status, body = a.request("GET", "/health")
    assert (status == 500) == (body["status"] == "unhealthy"), (status, body)
    return status == 500


def post(a, value):
    """(status, body) of one record; what comes is for the test to judge."""
    return a.request("POST", "/topics/t/records", [{"value": value}], seconds=20)


def test_full_disk_stops_acks_not_reads_and_heals_by_itself(a):
    a.start().wait_running("in", "out")
    acked = []
    for i in range(50):
        status, body = post(a, f"before {i}")
        assert status in (200, 201, 202)
        acked.append(f"before {i}")

    fill(a.data)
    sent_in_vain = []

    def refused():
        """A journal may have room left of its own: some more acks are fine, as long as they are true."""
        status, _ = post(a, f"full {len(acked) + len(sent_in_vain)} " + "x" * 100_000)
        text = f"full {len(acked) + len(sent_in_vain)} " + "x" * 100_000
        fill(a.data)
        if status in (200, 201, 202):
            acked.append(text)
            return None
        sent_in_vain.append(text)
        return status
    assert wait_until(refused, "acks stop", 20) in (429, 503, 500)

    # Reads go on, through the CLI and by a sink; even one that has to begin again.
    assert [r["value"] for r in a.read("t")][:50] == acked[:50]
    # The last page of a file may still take some bytes, and the log tries: until it is full for good.
    wait_until(lambda: refused() and unhealthy(a), "health says so", 20)
    os.kill(a.runner_of("out"), 9)
    a.wait_status("out", lambda s: s["tasks"] and s["tasks"][0]["state"] == "RUNNING"
                  and s["tasks"][0]["restarts"] >= 1, "the sink runs again on a full disk")
    out = a.path("out.txt")
    wait_until(lambda: set(acked) <= set(out.read_text().split("\n")), "all that was acked is in the sink's file")
    a.path("in.txt").write_text("waits for space\n")
    assert a.ends("lines") == [0]

    (a.data / "ballast").unlink()
    begun = time.monotonic()

    def taken():
        status, _ = post(a, "after")
        return status in (200, 201, 202)
    wait_until(taken, "acks come back", 10, every=0.1)
    assert time.monotonic() - begun < 10 * PATIENCE
    a.wait_records("lines", 1)
    wait_until(lambda: a.request("GET", "/health")[1]["status"] == "healthy", "healthy again")

    values = [r["value"] for r in a.read("t")]
    assert [v for v in values if v in set(acked)] == acked, "every ack was true, in order"
    assert set(values) <= {*acked, *sent_in_vain, "after"}
    a.kill()
    a.start()
    assert [r["value"] for r in a.read("t")] == values


def test_full_disk_at_start_says_so_and_ends(a):
    fill(a.data)
    done = a.run_to_end(seconds=20)
    assert done.returncode == 1 and "No space left" in done.stderr
    (a.data / "ballast").unlink()
    a.start().wait_running("in", "out")
