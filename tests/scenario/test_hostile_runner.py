"""A runner that breaks the rules of the link: it alone pays, status says what it did, nobody else suffers.

hostile_runner.py stands where the host looks for its runner and plays it for the connector `bad`; the
connector `good` beside it has the real one.
"""
import json
import os
import pathlib
import shutil
import time

import connectd
import pytest
from connectd import flat_config, wait_until
from pipelines import file_source, topic

HERE = pathlib.Path(__file__).resolve().parent
GRACEFUL = 1.0
SLOW = connectd.PATIENCE / 2  # 1 without a sanitizer
CONFIG = (f"plugin.path: {connectd.BUILD / 'plugins'},./bad\n"
          f"task.shutdown.graceful.timeout.ms: {int(GRACEFUL * 1000)}\n")
TOPICS = topic("lines", 1) + "".join(f"  {name}:\n    partitions: {n}\n" for name, n in (("numbers", 1), ("four", 4)))
QUICK = {"restart_backoff_ms": 30, "restart_backoff_max_ms": 60}


@pytest.fixture
def a(host, tmp_path, monkeypatch):
    """A host whose runner is hostile_runner.py, with a good pipeline beside the bad one."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    shutil.copy(connectd.binary(), bin_dir / "connectd")
    shutil.copy(connectd.BUILD / "bin" / "connectd-runner", bin_dir / "real-runner")
    shutil.copy(HERE / "hostile_runner.py", bin_dir / "connectd-runner")
    os.chmod(bin_dir / "connectd-runner", 0o755)
    one = host(CONFIG, pipelines={"t": TOPICS, "good": file_source("good", "in.txt", "lines")})
    monkeypatch.setattr(connectd, "binary", lambda: bin_dir / "connectd")
    one.path("bad").mkdir()
    one.path("bad/hostile.so").write_text("described by hostile_runner.py\n")
    one.path("in.txt").write_text("one\n")
    return one


def bad(a, mode, sink=False, **more):
    """Declares the hostile connector."""
    keys = {"topics": "numbers"} if sink else {"topic": "numbers", "other": "lines"}
    a.pipeline("bad", flat_config("bad", **{
        "connector_class": "HostileSink" if sink else "HostileSource", "mode": mode,
        "journal": str(a.path("journal")), **keys, **QUICK, **more}))


def journal(a, *kind):
    """What the hostile runner told, those entries that begin with `kind`."""
    path = a.path("journal")
    lines = path.read_text().splitlines() if path.exists() else []
    return [e for e in map(json.loads, lines) if tuple(e[:len(kind)]) == kind]


def wait_error(a, judge, seconds=15.0):
    """The error of the bad connector, or of a task of it, that judge() likes."""
    def ask(status):
        found = [t["error"] for t in status["tasks"]] + [status["connector"]["error"]]
        found = [e for e in found if e and judge(e)]
        return found[0] if found else None
    return ask(a.wait_status("bad", ask, "an error is shown", seconds))


def assert_others_live(a):
    """The host is the same process, REST answers and the good pipeline moves."""
    assert a.process.poll() is None
    with open(a.path("in.txt"), "a", encoding="utf-8") as f:
        f.write("more\n")
    a.wait_records("lines", a.path("in.txt").read_text().count("\n"))
    status = a.status("good")
    assert status["connector"]["restarts"] == 0 and status["tasks"][0]["restarts"] == 0


def assert_told(a, cause, stage, said):
    """It is started again after its breach, breaks the rule again, and each time status says so."""
    error = wait_error(a, lambda e: e["count"] >= 2)
    assert (error["cause"], error["stage"]) == (cause, stage), error
    assert said in error["message"], error
    assert_others_live(a)
    assert a.stop() == 0


# ---- the controls: a runner of this program that keeps the rules is let alone ----

def test_an_honest_source_is_believed(a):
    bad(a, "Honest")
    a.start().wait_records("numbers", 1)
    wait_until(lambda: journal(a, "committed") == [["committed", 0, 1, 0]], "its commit is answered")
    assert [r["value"] for r in a.read("numbers")] == ["hello"]
    a.wait_running("bad")
    status = a.status("bad")
    assert status["connector"]["error"] is None and status["tasks"][0]["restarts"] == 0
    assert_others_live(a)
    assert a.stop() == 0


def test_an_honest_sink_is_believed(a):
    bad(a, "Honest", sink=True)
    a.start().wait_running("bad")
    a.topic("write", "numbers", stdin=b"1\n2\n")
    a.wait_status("bad", lambda s: journal(a, "committed") and s["tasks"][0]["lag"] == 0, "all is committed")
    assert journal(a, "open") == [["open", 0, [["numbers", 0, 0]]]]
    status = a.status("bad")
    assert status["connector"]["error"] is None and status["tasks"][0]["restarts"] == 0
    assert_others_live(a)
    assert a.stop() == 0


# ---- breaches ----

@pytest.mark.parametrize("mode, cause, stage, said", [
    ("TasksUnasked", "abi", "fan_out", "unasked"),
    ("TasksTooMany", "abi", "fan_out", "more than tasks.max 1"),
    ("TasksThatCannotBe", "abi", "fan_out", "malformed"),
    ("StartedTwice", "abi", "start", "not asked"),
    ("StartedInFlight", "abi", "start", "not asked"),
    ("StoppedUnasked", "abi", "stop", "not asked"),
    ("StoppedInFlight", "abi", "stop", "not asked"),
    ("NoSuchTask", "abi", "poll", "task that isn't there"),
    ("UnknownFrame", "abi", "poll", "unknown frame"),
    ("SeqWrong", "abi", "poll", "commit 2 came where 1 was due"),
    ("SeqAgain", "abi", "poll", "commit 1 came where 2 was due"),
    ("NeverResolved", "abi", "poll", "topic lines, which it never asked for"),
    ("CrcWrong", "abi", "poll", "CRC"),
    ("OffsetsOfASource", "abi", "poll", "sink's offsets"),
    ("LengthControl", "abi", "poll", "cannot be read"),
    ("LengthData", "abi", "poll", "cannot be read"),
    ("CloseData", "SIGKILL", "poll", "ended by SIGKILL"),
    ("CloseControl", "SIGKILL", "poll", "ended by SIGKILL"),
])
def test_a_source_that_breaks_a_rule_is_ended(a, mode, cause, stage, said):
    bad(a, mode)
    a.start()
    assert_told(a, cause, stage, said)


@pytest.mark.parametrize("mode, cause, stage, said", [
    ("StartedTwiceOpen", "abi", "start", "not asked"),
    ("OpenedUnasked", "abi", "open", "not asked to open"),
    ("OpenedBeyondTheEnd", "fatal", "open", "the log ends at 2"),
    ("CreditTooMuch", "abi", "put", "more than it was sent"),
    ("CreditHuge", "abi", "put", "more than it was sent"),
    ("OffsetsNotGiven", "abi", "flush", "offset 3 of numbers-0, which it was not given"),
    ("OffsetsOfOthers", "abi", "flush", "offset 0 of lines-0, which it was not given"),
])
def test_a_sink_that_breaks_a_rule_is_ended(a, mode, cause, stage, said):
    a.start().topic("write", "numbers", stdin=b"1\n2\n")
    assert a.stop() == 0
    bad(a, mode, sink=True)
    a.start()
    assert_told(a, cause, stage, said)


@pytest.mark.parametrize("mode", ["SeqWrong", "CrcWrong", "NeverResolved"])
def test_what_is_refused_leaves_nothing_in_the_log(a, mode):
    bad(a, mode)
    a.start()
    wait_error(a, lambda e: e["count"] >= 3)
    assert a.ends("numbers") == [0]
    a.wait_records("lines", 1)
    assert journal(a, "committed") == []


# ---- wishes and words ----

def test_a_wish_for_a_restart_in_the_far_future_is_no_restart_storm(a):
    bad(a, "WishFar")
    a.start()
    error = wait_error(a, lambda e: e["next_restart_ms"])
    assert (error["cause"], error["stage"]) == ("retriable", "poll")
    wait = error["next_restart_ms"] - error["last_ms"]
    assert 3600_000 < wait <= 48 * 3600_000, wait
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 2.0, "two seconds have passed")
    task = a.status("bad")["tasks"][0]
    assert task["state"] == "FAILED" and task["restarts"] <= 2, task
    assert_others_live(a)
    assert a.stop() == 0


def test_a_message_that_is_not_utf_8_is_shown_all_the_same(a):
    bad(a, "NotUtf8", restart_policy="never")
    a.start()
    status = a.wait_status("bad", lambda s: s["tasks"] and s["tasks"][0]["state"] == "FAILED", "FAILED")
    task = status["tasks"][0]
    assert (task["error"]["cause"], task["error"]["stage"]) == ("retriable", "poll")
    for text in (task["trace"], task["error"]["message"]):
        assert "bad ? bytes ?" in text, task
    assert_others_live(a)


def test_a_shared_page_full_of_lies_changes_nothing(a):
    bad(a, "PageLies")
    a.start().wait_running("bad")
    wait_until(lambda: journal(a, "page"), "the page lies")
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 1.0, "the host has looked at the page")
    assert a.status("bad")["tasks"][0]["restarts"] == 0
    connectd.kill_if_alive(a.runner_of("bad"))
    error = wait_error(a, lambda e: e["count"] >= 1)
    assert error["cause"] == "SIGKILL" and not error["stage"], error
    assert_others_live(a)
    assert a.stop() == 0


def test_a_flood_of_log_lines_starves_nobody(a):
    bad(a, "Flood")
    started = time.monotonic()
    a.start()
    wait_until(lambda: "of its log lines were dropped" in a.log(), "the flood")
    for _ in range(20):
        begun = time.monotonic()
        assert a.request("GET", "/health")[0] == 200
        assert time.monotonic() - begun < 1.0 * SLOW
    assert_others_live(a)
    shown, seconds = a.log().count("flooding"), time.monotonic() - started
    assert 0 < shown <= 200 * (seconds + 2), (shown, seconds)
    begun = time.monotonic()
    assert a.stop() == 0
    assert time.monotonic() - begun < GRACEFUL + 2.0 * SLOW


# ---- sinks ----

def test_a_task_whose_open_fails_does_not_keep_what_was_given_to_another(a):
    """Task 1 joins while task 0 opens; what the group says then must not be lost when the open fails."""
    bad(a, "OpenFails", sink=True, topics="four", tasks_max=2)
    a.start()
    wait_until(lambda: journal(a, "open", 0), "task 0 is to open")
    assert [len(e[2]) for e in journal(a, "open", 0)] == [4], "at first everything is its own"
    wait_until(lambda: journal(a, "open", 1), "task 1 is to open its share")
    assert len(journal(a, "open", 1)[-1][2]) == 2
    tasks = a.status("bad")["tasks"]
    assert [t["state"] for t in tasks] == ["FAILED", "RUNNING"]
    assert (tasks[0]["error"]["cause"], tasks[0]["error"]["stage"]) == ("io", "open")
    assert_others_live(a)


def test_latest_is_the_same_place_after_a_crash(a):
    """The first record that came after it was joined is there for the next run too."""
    a.start().topic("write", "numbers", stdin=b"1\n2\n3\n")
    assert a.stop() == 0
    bad(a, "DiesWithRecords", sink=True, consumer_override_auto_offset_reset="latest")
    a.start().wait_running("bad")
    wait_until(lambda: journal(a, "open"), "its partition is to open")
    a.topic("write", "numbers", stdin=b"4\n")
    wait_until(lambda: len(journal(a, "records")) >= 2 and len(journal(a, "open")) >= 3, "it dies twice, and comes again")
    assert {tuple(e[2][0]) for e in journal(a, "open")} == {("numbers", 0, 3)}
    assert wait_error(a, lambda e: True)["cause"] == "SIGKILL"
    assert_others_live(a)
