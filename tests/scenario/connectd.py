"""A connectd host of a test's own: its folder, its files, its process, its REST and CLI.

Everything is asked from outside, as a user would: YAML, files, CLI, REST, signals. Nothing here sleeps
to wait for something: wait_until() asks again in short intervals until the answer is yes or the deadline
has passed, and then says what it last saw.
"""
import http.client
import json
import os
import pathlib
import re
import signal
import sqlite3
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("CONNECTD_BUILD", ROOT / "build"))
LEVEL = os.environ.get("CONNECTD_TEST_LEVEL", "everyday")
SANITIZED = BUILD.name in ("asan", "tsan")
# A deadline is for a test that fails; sanitizers and a busy machine must not make one fail.
PATIENCE = 5 if SANITIZED else 2

_never = threading.Event()


def wait_until(ask, what, seconds=10.0, every=0.01):
    """Returns ask()'s first true answer; fails, naming `what` and the last answer, at the deadline."""
    deadline = time.monotonic() + seconds * PATIENCE
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds * PATIENCE:.0f} s: {what}; last: {answer!r}")
        _never.wait(every)


def binary():
    return BUILD / "bin" / "connectd"


def fixtures():
    """The folder of plugins that misbehave on order."""
    return BUILD / "fixtures"


def read_proc(pid, what):
    try:
        return pathlib.Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


def is_alive(pid):
    """Whether a process runs; a zombie doesn't."""
    stat = read_proc(pid, "stat")
    return bool(stat) and stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def processes():
    return [int(p) for p in os.listdir("/proc") if p.isdigit()]


def children_of(pid):
    """Live direct children."""
    found = []
    for p in processes():
        rest = read_proc(p, "stat").rpartition(b")")[2].split()
        if len(rest) > 1 and int(rest[1]) == pid and rest[0] not in (b"Z", b"X"):
            found.append(p)
    return found


def users_of(folder):
    """Processes that hold a descriptor below `folder`: the host, its runners, orphans of both."""
    prefix, found = str(folder) + "/", []
    for p in processes():
        try:
            links = [os.readlink(f"/proc/{p}/fd/{n}") for n in os.listdir(f"/proc/{p}/fd")]
        except OSError:
            continue
        if any(l.startswith(prefix) for l in links) and is_alive(p):
            found.append(p)
    return found


def kill_if_alive(pid, number=signal.SIGKILL):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class Host:
    """One data directory and the connectd that runs on it. Start and stop as often as you like."""

    def __init__(self, folder, config="", pipelines=None, env=None):
        self.dir = pathlib.Path(folder)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.data = self.dir / "data"
        self.process = None
        self.url = None
        self.ready_line = None
        self.env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), **(env or {})}
        self.log_path = self.dir / "connectd.log"
        self.wrap = []  # a command to run connectd under: strace
        self.plugins_crash = False  # on purpose: then a sanitizer's report is what the test wants
        self.configure(config, pipelines or {})

    # ---- files ----

    def configure(self, config="", pipelines=None):
        """Writes connectd.yaml (a free REST port, ./data) and connectors.d/NAME.yaml."""
        head = "" if "listeners:" in config else "listeners: http://127.0.0.1:0\n"
        (self.dir / "connectd.yaml").write_text(head + config)
        (self.dir / "connectors.d").mkdir(exist_ok=True)
        for name, text in (pipelines or {}).items():
            self.pipeline(name, text)

    def pipeline(self, name, text):
        (self.dir / "connectors.d" / f"{name}.yaml").write_text(text)

    def path(self, name):
        return self.dir / name

    # ---- process ----

    def spawn(self, *args):
        """Starts `connectd run` without waiting for anything."""
        assert self.process is None, "still running"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.wrap, binary(), "run", *args], cwd=self.dir, env=self.env,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        return self.process

    def start(self, *args, seconds=15.0):
        """Starts and waits for the ready line."""
        self.spawn(*args)
        self.wait_ready(seconds)
        return self

    def wait_ready(self, seconds=15.0):
        line = []
        reader = threading.Thread(target=lambda: line.append(self.process.stdout.readline()), daemon=True)
        reader.start()
        reader.join(seconds * PATIENCE)
        if not line or not line[0]:
            code = self.process.poll()
            raise AssertionError(f"no ready line (exit {code}); log:\n{self.log()[-4000:]}")
        self.ready_line = line[0].decode().rstrip("\n")
        match = re.fullmatch(r"connectd ready rest=(http://\S+) pid=(\d+) data=(/\S+)( memory_limit=off)?", self.ready_line)
        assert match, f"ready line: {self.ready_line!r}"
        assert self.wrap or int(match[2]) == self.process.pid
        self.url = match[1]

    def run_to_end(self, *args, seconds=10.0):
        """`connectd run` that is expected to refuse: its CompletedProcess."""
        return subprocess.run([binary(), "run", *args], cwd=self.dir, env=self.env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=seconds * PATIENCE, check=False)

    @property
    def pid(self):
        return self.process.pid

    def runners(self):
        """Pids of this host's runner processes."""
        return [p for p in children_of(self.pid) if b"connectd-runner" in read_proc(p, "cmdline")]

    def runner_of(self, connector):
        """The pid that holds DATA/run/CONNECTOR.lock, but for the host; None if there is none."""
        lock = str(self.data / "run" / f"{connector}.lock")
        for p in self.runners():
            try:
                links = [os.readlink(f"/proc/{p}/fd/{n}") for n in os.listdir(f"/proc/{p}/fd")]
            except OSError:
                continue
            if lock in links:
                return p
        return None

    def stop(self, seconds=15.0):
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait_exit(seconds)

    def wait_exit(self, seconds=15.0):
        try:
            code = self.process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"did not end; log:\n{self.log()[-4000:]}") from late
        self.process.stdout.close()
        self.process = None
        return code

    def kill(self):
        """SIGKILL, as a crash would be."""
        self.process.kill()
        self.wait_exit()

    def end(self):
        """Leaves nothing behind, whatever the test did; then says what a sanitizer saw."""
        if self.process is not None:
            kill_if_alive(self.process.pid)
            self.wait_exit()
        left = []
        try:
            wait_until(lambda: not users_of(self.dir), "no process is left behind", 5.0)
        except AssertionError:
            left = users_of(self.dir)
            for pid in left:
                kill_if_alive(pid)
        names = [read_proc(p, "cmdline").replace(b"\0", b" ").decode() for p in left]
        assert not left, f"processes left behind: {left} {names}"
        found = re.findall(r"ERROR: AddressSanitizer.*|WARNING: ThreadSanitizer.*|runtime error:.*|ERROR: LeakSanitizer.*", self.log())
        # A plugin that crashes on purpose makes ASan speak; a data race is never on purpose.
        found = [f for f in found if f.startswith("WARNING") or not self.plugins_crash]
        assert not found, f"sanitizer: {found[:3]} in {self.log_path}"

    def log(self):
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""

    # ---- REST ----

    def request(self, method, path, body=None, seconds=10.0):
        """(status, decoded JSON or text)."""
        host = self.url.split("//")[1]
        connection = http.client.HTTPConnection(host, timeout=seconds * PATIENCE)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def get(self, path):
        status, body = self.request("GET", path)
        assert status == 200, f"GET {path}: {status} {body}"
        return body

    def status(self, connector):
        return self.get(f"/connectors/{connector}/status")

    def wait_status(self, connector, judge, what, seconds=15.0):
        """Waits until judge(status) is true; returns that status. A connector that isn't there yet waits on."""
        def ask():
            code, body = self.request("GET", f"/connectors/{connector}/status")
            last[:] = [code, body]
            return body if code == 200 and judge(body) else None
        last = []
        try:
            return wait_until(ask, what, seconds)
        except AssertionError as late:
            raise AssertionError(f"{late}; status: {json.dumps(last)}; log:\n{self.log()[-3000:]}") from None

    def wait_running(self, *connectors, seconds=15.0):
        for name in connectors:
            self.wait_status(name, lambda s: s["connector"]["state"] == "RUNNING" and s["tasks"]
                             and all(t["state"] == "RUNNING" for t in s["tasks"]), f"{name} runs", seconds)

    def ends(self, topic):
        """End offsets by partition, or None if the topic isn't there."""
        status, body = self.request("GET", f"/topics/{topic}")
        return [p["end_offset"] for p in body["partitions"]] if status == 200 else None

    def wait_records(self, topic, n, seconds=20.0):
        """Waits until the topic holds n records in all; more than n fails at once."""
        def ask():
            total = sum(self.ends(topic) or [0])
            assert total <= n, f"{topic} has {total} records, {n} expected"
            return total == n
        try:
            wait_until(ask, f"{n} records in {topic}", seconds)
        except AssertionError as late:
            raise AssertionError(f"{late}; ends {self.ends(topic)}; log:\n{self.log()[-3000:]}") from None

    def post_records(self, topic, records):
        """Writes records over REST; returns their [{"topic","partition","offset"}], durable."""
        status, body = self.request("POST", f"/topics/{topic}/records", records)
        assert status in (200, 201, 202), f"POST: {status} {body}"
        return body["records"] if isinstance(body, dict) else body

    # ---- CLI ----

    def cli(self, *args, stdin=None, seconds=20.0):
        """One CLI call in the host's folder: CompletedProcess with bytes."""
        return subprocess.run([binary(), *map(str, args)], cwd=self.dir, env=self.env,
                              input=b"" if stdin is None else stdin, capture_output=True,
                              timeout=seconds * PATIENCE, check=False)

    def topic(self, *args, stdin=None, code=0):
        """`connectd topic ARGS --data DATA`; its stdout."""
        done = self.cli("topic", *args, "--data", self.data, stdin=stdin)
        assert done.returncode == code, f"topic {args}: exit {done.returncode}: {done.stderr.decode()}"
        return done.stdout

    def read(self, topic, *args):
        """The records of a topic from its beginning to its end, decoded."""
        out = self.topic("read", topic, "--from-beginning", "--until-end", *args)
        return [json.loads(line) for line in out.splitlines()]


def flat_config(name, **keys):
    """One connector as YAML text; `_` in a keyword is a dot in the key."""
    lines = ["connectors:", f"  {name}:"]
    lines += [f"    {key.replace('_', '.')}: {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def rows(path, query, *values):
    """Rows of a SQLite file that somebody else may be writing; none while it or the table isn't there."""
    if not pathlib.Path(path).exists():
        return []
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        return connection.execute(query, values).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise
    finally:
        connection.close()
