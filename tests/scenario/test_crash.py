"""Plugins that crash, hang or lie: their runner alone pays, status says what and where, nothing is lost."""
import json
import os
import shutil
import time

import connectd
import pytest
from connectd import flat_config, wait_until
from pipelines import file_source, topic

CAUSES = {"segv": "SIGSEGV", "abort": "SIGABRT", "exit": "exit 7"}
CONFIG = f"plugin.path: {connectd.BUILD / 'plugins'},./bad\n"
QUICK = {"restart_backoff_ms": 30, "restart_backoff_max_ms": 60}


@pytest.fixture
def a(host):
    """A host that knows the fixtures, with a good pipeline beside the bad one."""
    one = host(CONFIG, pipelines={
        "t": topic("lines", 1) + "  numbers:\n    partitions: 1\n", "good": file_source("good", "in.txt", "lines")})
    one.path("bad").mkdir()
    for name in ("fixture_source", "fixture_sink", "fixture_probe"):
        shutil.copy(connectd.fixtures() / f"{name}.so", one.path("bad"))
    one.path("in.txt").write_text("one\n")
    one.plugins_crash = True
    return one


def source(stage="", kind="", **more):
    return flat_config("bad", **{"connector_class": "FixtureSource", "topic": "numbers", "count": 300, "batch": 10,
                                 "fault_stage": stage, "fault_kind": kind, "value_converter": "StringConverter",
                                 **QUICK, **more})


def sink(stage="", kind="", **more):
    return flat_config("bad", **{"connector_class": "FixtureSink", "topics": "numbers", "file": "out.txt",
                                 "fault_stage": stage, "fault_kind": kind, "value_converter": "StringConverter",
                                 **QUICK, **more})


def error_of(a, judge=lambda e: True, seconds=15.0):
    """The first error of the bad connector's task, or of the connector itself, that judge() likes."""
    def ask(status):
        found = [t["error"] for t in status["tasks"] if t.get("error")] + [status["connector"].get("error")]
        found = [e for e in found if e and judge(e)]
        return found[0] if found else None
    return ask(a.wait_status("bad", ask, "an error is shown", seconds))


def assert_others_live(a):
    """The good pipeline moves and REST answers."""
    with open(a.path("in.txt"), "a", encoding="utf-8") as f:
        f.write("more\n")
    a.wait_records("lines", a.path("in.txt").read_text().count("\n"))
    assert a.status("good")["tasks"][0]["restarts"] == 0


def expect(kind, error):
    """A sanitizer turns a signal into an exit of its own."""
    assert error["cause"] == CAUSES[kind] or (connectd.SANITIZED and error["cause"].startswith(("exit", "SIG")))


@pytest.mark.parametrize("kind", CAUSES)
@pytest.mark.parametrize("stage", ["create", "start", "poll"])
def test_a_source_dies_and_status_says_of_what_and_where(a, stage, kind):
    a.pipeline("bad", source(stage, kind))
    a.start()
    error = error_of(a)
    expect(kind, error)
    assert error["stage"] == stage
    assert set(error) >= {"cause", "stage", "message", "record_index", "count", "first_ms", "last_ms", "next_restart_ms"}
    wait_until(lambda: error_of(a)["count"] >= 2, "it is started again, and dies again")
    assert_others_live(a)


@pytest.mark.parametrize("stage", ["create", "start", "open", "put", "flush"])
def test_a_sink_dies_and_status_says_where(a, stage):
    a.pipeline("bad", sink(stage, "segv"))
    a.start()
    a.topic("write", "numbers", stdin=b"1\n2\n")
    error = error_of(a)
    expect("segv", error)
    assert error["stage"] == stage
    assert_others_live(a)


def test_a_dying_source_loses_and_repeats_nothing(a):
    a.pipeline("bad", source("poll", "segv", fault_after=100))
    a.start().wait_records("numbers", 100)
    # A runner's death is the connector's: all of its tasks go with it.
    status = a.wait_status("bad", lambda s: s["connector"]["condition"] == "CRASH_LOOP", "CRASH_LOOP")
    assert status["connector"]["restarts"] >= 4
    assert [r["value"] for r in a.read("numbers")] == [str(i) for i in range(100)]
    health = a.get("/health")
    assert health["status"] == "degraded"
    assert ("bad", "CRASH_LOOP") in [(p["connector"], p["condition"]) for p in health["problems"]]
    assert a.stop() == 0
    a.pipeline("bad", source())
    a.start().wait_records("numbers", 300)
    assert [r["value"] for r in a.read("numbers")] == [str(i) for i in range(300)]


def test_a_runner_killed_from_outside_is_replaced(a):
    a.pipeline("bad", source(count=100000, batch=10, pause_ms=1))
    a.start().wait_running("bad")
    for n in range(1, 4):
        connectd.kill_if_alive(wait_until(lambda: a.runner_of("bad"), "its runner"))
        a.wait_status("bad", lambda s, n=n: s["tasks"] and s["tasks"][0]["restarts"] >= n
                      and s["tasks"][0]["state"] == "RUNNING", "it runs again")
    error = error_of(a)
    assert error["cause"] == "SIGKILL"
    values = [int(r["value"]) for r in a.read("numbers")]
    assert values == list(range(len(values)))
    assert "trace" not in a.status("bad")["tasks"][0]


def test_the_wait_before_a_restart_doubles(a):
    a.pipeline("bad", source("start", "exit", restart_backoff_ms=200, restart_backoff_max_ms=100000))
    a.start()
    waits = []
    for n in (1, 2, 3):
        error = error_of(a, lambda e, n=n: e["count"] == n and e["next_restart_ms"])
        waits.append(error["next_restart_ms"] - error["last_ms"])
        state = a.status("bad")["tasks"][0]["state"]
        assert state in ("FAILED", "RESTARTING", "UNASSIGNED"), state
    for wait, base in zip(waits, (200, 400, 800)):
        assert 0.75 * base <= wait <= 1.25 * base, waits


def test_restart_policy_never_leaves_it_failed(a):
    a.pipeline("bad", source("poll", "exit", restart_policy="never"))
    a.start()
    status = a.wait_status("bad", lambda s: s["tasks"] and s["tasks"][0]["state"] == "FAILED", "FAILED")
    task = status["tasks"][0]
    assert task["restarts"] == 0 and task["trace"] and task["error"]["next_restart_ms"] is None
    assert_others_live(a)
    assert a.status("bad")["tasks"][0]["state"] == "FAILED"


@pytest.mark.parametrize("stage, make", [("start", source), ("poll", source), ("create", source), ("put", sink), ("flush", sink)])
def test_a_hang_ends_at_its_deadline(a, stage, make):
    a.pipeline("bad", make(stage, "hang", callback_timeout_ms=400))
    a.start()
    a.topic("write", "numbers", stdin=b"1\n")
    error = error_of(a)
    assert (error["cause"], error["stage"]) == ("deadline", stage)
    assert_others_live(a)


def test_a_slow_call_that_reports_progress_is_left_alone(a):
    a.pipeline("bad", sink("put", "hang-progress", callback_timeout_ms=300))
    a.start().wait_running("bad")
    a.topic("write", "numbers", stdin=b"1\n")
    runner = a.runner_of("bad")
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 1.0, "three deadlines have passed")
    assert a.runner_of("bad") == runner and a.status("bad")["tasks"][0]["restarts"] == 0


def test_stop_does_not_wait_for_a_plugin_that_will_not(a):
    a.configure(CONFIG + "task.shutdown.graceful.timeout.ms: 500\n")
    a.pipeline("bad", source("stop", "hang"))
    a.start().wait_records("numbers", 300)
    begun = time.monotonic()
    assert a.stop() == 0
    assert time.monotonic() - begun < 1.0 * connectd.PATIENCE, "0.5 s to drain, and a moment to clean up"


def test_a_retriable_put_is_tried_again_and_delivers_once(a):
    a.pipeline("bad", sink("put", "fail-retriable", fault_times=3))
    a.start()
    a.topic("write", "numbers", stdin=b"".join(b"%d\n" % i for i in range(50)))
    out = a.path("out.txt")
    wait_until(lambda: out.exists() and out.read_text().count("\n") == 50, "all lines")
    assert [l.split()[-1] for l in out.read_text().splitlines()] == [str(i) for i in range(50)]
    error = error_of(a)
    assert (error["cause"], error["stage"]) == ("retriable", "put")
    assert a.status("bad")["tasks"][0]["restarts"] == 0


@pytest.mark.parametrize("kind, cause", [("fail-data", "data"), ("fail-io", "io"), ("fail-fatal", "fatal"),
                                         ("fail-fenced", "fenced"), ("fail-config", "config")])
def test_a_status_decides_the_cause(a, kind, cause):
    a.pipeline("bad", sink("put", kind))
    a.start()
    a.topic("write", "numbers", stdin=b"1\n2\n3\n")
    error = error_of(a)
    assert (error["cause"], error["stage"]) == (cause, "put") and f"told to {kind}" in error["message"]
    assert error["record_index"] == (1 if kind == "fail-data" else -1) or error["record_index"] is None
    assert_others_live(a)


@pytest.mark.parametrize("kind", ["abi-null-records", "abi-release", "abi-many", "abi-status", "abi-message"])
def test_a_breach_of_the_abi_is_named_so(a, kind):
    a.pipeline("bad", source("poll", kind))
    a.start()
    error = error_of(a)
    assert error["stage"] == "poll"
    assert error["cause"] == "abi" or kind in ("abi-message", "abi-status"), error
    assert_others_live(a)


@pytest.mark.parametrize("stage, kind", [("open", "abi-foreign"), ("flush", "abi-raise")])
def test_a_sink_that_lies_about_offsets_is_caught(a, stage, kind):
    a.pipeline("bad", sink(stage, kind))
    a.start()
    a.topic("write", "numbers", stdin=b"1\n")
    error = error_of(a)
    assert (error["cause"], error["stage"]) == ("abi", stage)


def test_a_dead_sink_task_gives_its_records_to_its_successor(a):
    """FixtureSink appends lines: at least once, so all are there; the good ones stay in order."""
    a.pipeline("bad", sink("put", "segv", fault_after=200, tasks_max=2))
    a.start()
    for i in range(30):
        a.topic("write", "numbers", stdin=b"".join(b"%d\n" % (i * 10 + k) for k in range(10)))
    wait_until(lambda: a.status("bad")["tasks"] and sum(t["restarts"] for t in a.status("bad")["tasks"]) >= 1, "a restart")
    out = a.path("out.txt")
    wait_until(lambda: {l.split()[-1] for l in out.read_text().splitlines()} >= {str(i) for i in range(300)}, "all lines")


def test_a_probe_gets_nothing_that_it_reaches_for(a):
    """What it got, one record a try. What must work shows that the probe itself does."""
    a.pipeline("t", topic("lines", 1) + "  answers:\n    partitions: 1\n")
    a.pipeline("bad", flat_config("bad", connector_class="FixtureProbe", topic="answers", data=str(a.data),
                                  beside=str(a.path("beside.txt")), victim=os.getpid(), address=4096,
                                  value_converter="JsonConverter", value_converter_schemas_enable="false"))
    a.start()
    wait_until(lambda: sum(a.ends("answers")) > 5, "answers")
    got = {r["try"]: r["got"] for r in (json.loads(x["value"]) for x in a.read("answers"))}
    # A sanitizer needs the host to be readable, for its leak check.
    wanted = {"kill-self", "beside", "exec"} | ({"dumpable"} if connectd.SANITIZED else set())
    assert {name for name, answer in got.items() if answer == "ok"} == wanted, got
