"""Death at a chosen system call: the n-th write, sync, rename ... of the host doesn't take place, and kills it.

strace injects SIGKILL before the call takes effect, so that every window between a write, its sync and the
ack is hit by number and not by luck. The control of these tests is the campaigns' own: see test_kill.py.
"""
import http.client
import json
import random
import signal

import campaign
import connectd
import pytest
import verify
from connectd import Host
from load import Load

# call, how many of them at most a run is killed at
CALLS = {"pwritev": 60, "write": 40, "fdatasync": 60, "fsync": 20, "rename": 10, "unlink": 10,
         "mkdir": 4}
ALWAYS = ("pwritev", "fdatasync", "mkdir")  # a run that makes none of these tests nothing
EVERYDAY_POINTS = 3
UNITS = 60
CONFIG = "topics:\n  acks: {partitions: 3, segment.bytes: 4096}\n"


def post_until_it_dies(host, load):
    """Unit after unit on one connection; what was answered is acked. True if the host lived through all."""
    name, port = host.url.split("//")[1].rsplit(":", 1)
    connection = http.client.HTTPConnection(name, int(port), timeout=20)
    try:
        for _ in range(UNITS):
            unit = load.add_unit([(load.new_value(w), w.index) for w in load.writers])  # one for each partition
            connection.request("POST", "/topics/acks/records", json.dumps(
                [{"key": f"w{p}", "value": v, "partition": p} for v, p in unit]), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            load.answered(unit, answer.status, answer.read())
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def die_at(folder, call, n):
    """One run that is killed at the n-th call, one that recovers. False if there were fewer calls than n."""
    host, load = Host(folder, CONFIG), Load("acks", writers=3, reserve=0, pad=100)
    host.wrap = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}",
                 "-e", f"inject={call}:signal=SIGKILL:when={n}"]
    try:
        host.spawn()
        try:
            host.wait_ready()
            lived = post_until_it_dies(host, load)
        except AssertionError:
            host.process.wait(10)
            lived = False  # it died while starting
        if lived:
            for pid in connectd.children_of(host.pid):
                connectd.kill_if_alive(pid, signal.SIGTERM)
        code = host.wait_exit()
        assert code in (0, -signal.SIGKILL), f"exit {code}: {host.log()[-2000:]}"
        host.wrap = []
        host.start()
        topic = verify.Topic(host, "acks", 3)
        topic.read()
        verify.check_acked(topic, load)
        verify.check_units(topic, load)
        assert host.stop() == 0
    finally:
        host.end()
    return code != 0


@pytest.mark.parametrize("call", CALLS)
def test_crash_point_loses_nothing(tmp_path, call):
    """Everyday: a few places, others each time; in ci all of them, until there are no more calls."""
    seed = campaign.seed()
    points = list(range(1, CALLS[call] + 1))
    if connectd.LEVEL == "everyday":
        points = sorted(random.Random(seed).sample(points, EVERYDAY_POINTS))
    hit = 0
    for n in points:
        if not die_at(tmp_path / str(n), call, n):
            break
        hit += 1
    print(f"crash points {call}: build={campaign.build_id()} seed={seed} points={points[:hit]}")
    assert hit or call not in ALWAYS, f"{call} was not called so often as {points[0]} times"
