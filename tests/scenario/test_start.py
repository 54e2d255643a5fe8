"""Starting, being alone on a data directory, refusing, and leaving."""
import json
import os
import re
import signal
import socket

import connectd
import pytest
from connectd import wait_until


def test_ready_line_run_json_and_version(host):
    a = host().start()
    assert os.path.isabs(a.ready_line.split("data=")[1].split()[0])
    run = json.loads((a.data / "run.json").read_text())
    assert set(run) >= {"pid", "rest", "version"}
    assert (run["pid"], run["rest"]) == (a.pid, a.url)
    root = a.get("/")
    assert root["version"] == run["version"]
    shown = json.loads(a.cli("version", "--format", "json").stdout)
    assert shown["version"] == run["version"]
    assert a.cli("version").stdout.decode().strip()
    assert a.stop() == 0
    assert not (a.data / "run.json").exists()


def test_stdout_carries_the_ready_line_only(host):
    a = host().start()
    process = a.process
    process.send_signal(signal.SIGTERM)
    rest = process.stdout.read()
    assert a.wait_exit() == 0
    assert rest == b""


def test_memory_limit_is_off_in_sanitizer_builds_and_said(host):
    a = host().start()
    assert a.ready_line.endswith(" memory_limit=off") == connectd.SANITIZED


def test_health_answers(host):
    a = host().start()
    status, body = a.request("GET", "/health")
    assert (status, body["status"], body["problems"]) == (200, "healthy", [])
    assert "message" in body


def test_a_second_host_names_the_first_and_leaves_it_alone(host):
    a = host().start()
    done = a.run_to_end()
    assert done.returncode == 1 and str(a.pid) in done.stderr and done.stdout == ""
    assert a.get("/health")["status"] == "healthy"
    assert json.loads((a.data / "run.json").read_text())["pid"] == a.pid


def test_the_lock_of_a_killed_host_holds_nobody_up(host):
    a = host().start()
    a.kill()
    assert (a.data / "run.json").exists()
    a.start()
    assert json.loads((a.data / "run.json").read_text())["pid"] == a.pid


def test_a_taken_port_is_refused_by_name(host):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = host(f"listeners: http://127.0.0.1:{port}\n").run_to_end()
    assert done.returncode == 1 and str(port) in done.stderr and done.stdout == ""


@pytest.mark.parametrize("config, said", [
    ("lissteners: http://127.0.0.1:0\n", "listeners"),
    ("log.flush: sometimes\n", "log.flush"),
    ("listeners: ftp://127.0.0.1:0\n", "listeners"),
    ("listeners: http://127.0.0.1:99999\n", "listeners"),
    ("data.dir: {a: b\n", "connectd.yaml"),
    ("- a\n- b\n", "connectd.yaml"),
    ("bootstrap.servers: localhost:9092\n", "bootstrap.servers"),
    ("task.hold.bytes: many\n", "task.hold.bytes"),
])
def test_a_bad_host_config_stops_the_start(host, config, said):
    a = host()
    (a.dir / "connectd.yaml").write_text(config if "lis" in config else config + "listeners: http://127.0.0.1:0\n")
    done = a.run_to_end()
    assert done.returncode == 1 and said in done.stderr and done.stdout == ""
    assert not a.data.exists() or not (a.data / "run.json").exists()


def test_a_named_config_that_is_not_there(host):
    done = host().run_to_end("-c", "nowhere.yaml")
    assert done.returncode == 1 and "nowhere.yaml" in done.stderr


def test_no_config_file_at_all_is_fine(host):
    a = host()
    (a.dir / "connectd.yaml").unlink()
    a.start("--set", "listeners=http://127.0.0.1:0")
    assert a.data.exists()


def test_precedence_file_environment_set(host):
    a = host("data.dir: ./from-file\n", env={"CONNECTD_DATA_DIR": "./from-env"})
    a.start()
    assert a.ready_line.endswith("from-env") or "from-env " in a.ready_line
    assert a.stop() == 0
    a.start("--set", "data.dir=./from-set")
    assert "/from-set" in a.ready_line
    assert a.stop() == 0


@pytest.mark.parametrize("args", [["nonsense"], ["run", "--nonsense"], [], ["topic"], ["topic", "read"],
                                  ["topic", "create", "x", "--partitions"]])
def test_wrong_usage_is_exit_2(host, args):
    done = host().cli(*args)
    assert done.returncode == 2 and done.stderr


@pytest.mark.parametrize("args, said", [
    (["--format", "xml"], b"--format is text or json, not xml"),
    (["--format=xml"], b"--format is text or json, not xml"),
    (["--format"], b"--format needs a value"),
    (["--fromat", "json"], b"no option --fromat")])
def test_version_says_what_is_wrong(host, args, said):
    done = host().cli("version", *args)
    assert done.returncode == 2 and said in done.stderr and not done.stdout


def test_version_takes_both_formats_in_both_forms(host):
    a = host()
    for form in (["--format", "{}"], ["--format={}"]):
        text, shown = (a.cli("version", *[w.format(f) for w in form]) for f in ("text", "json"))
        assert text.returncode == 0 and text.stdout.startswith(b"connectd ")
        assert set(json.loads(shown.stdout)) == {"version", "commit", "abi"}


@pytest.mark.parametrize("verb", ["run", "check", "topic", "version"])
def test_each_verb_has_help(host, verb):
    done = host().cli(verb, "--help")
    assert done.returncode == 0 and b"connectd " + verb.encode() in done.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_drain_and_end_with_0(host, number):
    a = host().start()
    a.process.send_signal(number)
    assert a.wait_exit() == 0


def test_sighup_and_sigpipe_do_not_end_it(host):
    a = host().start()
    a.process.send_signal(signal.SIGPIPE)
    assert a.get("/health")["status"] == "healthy"


def test_no_runner_outlives_a_killed_host(host):
    a = host(pipelines={"in": connectd.flat_config(
        "in", connector_class="FileStreamSource", file="in.txt", topic="t",
        value_converter="StringConverter")})
    a.path("in.txt").write_text("one\n")
    a.start().wait_records("t", 1)
    runners = a.runners()
    assert runners
    a.kill()
    wait_until(lambda: not any(connectd.is_alive(p) for p in runners), "runners end with their host")


def test_the_journal_is_empty_after_a_clean_stop(host):
    """Segments hold everything: the log reads the same with the journal taken away."""
    a = host("topics:\n  t:\n    partitions: 2\n").start()
    a.topic("write", "t", stdin=b"".join(b"line %d\n" % i for i in range(100)))
    before = a.read("t")
    assert len(before) == 100
    assert a.stop() == 0
    for entry in (a.data / "journal").iterdir():
        entry.unlink()
    assert a.read("t") == before


def test_logs_are_lines_of_their_own_with_a_time(host):
    a = host().start()
    assert a.stop() == 0
    lines = a.log().splitlines()
    assert lines and all(re.match(r"ts=\S+ level=\w+ ", l) for l in lines), lines[:3]
