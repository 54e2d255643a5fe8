#!/usr/bin/python3 -IS
"""A runner that breaks the rules of host/link/link.h in the way that its connector's `mode` names.

Stands in a bin folder as `connectd-runner`, beside the real one as `real-runner`. It is itself only for
connectors of the classes HostileSource and HostileSink, which a file named hostile.so is said to hold;
for every other file and class it becomes the real runner, before a byte of the link is taken.

Class Honest keeps all rules: each mode is Honest with one thing done otherwise, so that what the host
holds against a mode is that one thing. What happens is told in the file `journal`, one JSON array a line.
"""
import fcntl
import json
import mmap
import os
import select
import socket
import struct
import sys
import time

REAL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "real-runner")
CONTROL_MAX, DATA_MAX = 4 << 20, 64 << 20
NO_TASK = NULL = 0xffffffff
INT64_MAX, INT64_MIN = 2**63 - 1, -2**63
HEAD = struct.Struct("<IHHI")

FAN_OUT, START, OPEN, CLOSE, PAUSE, RESUME, STOP, EXIT, TOPIC, OFFSET, COMMITTED = range(2, 13)
(READY, TASKS, STARTED, OPENED, CLOSED, STOPPED, FAILED, RESOLVE, GET_OFFSET, CREDIT, LOG, NOTE) = range(64, 76)
COMMIT, RECORDS = 128, 129
STAGE_OPEN, STAGE_POLL, STAGE_PUT, STAGE_FLUSH = 8, 9, 10, 11
ERR_IO, ERR_RETRIABLE = -3, -4


# ---- bytes ----

def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<I", len(data)) + data


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values[0] if len(values) == 1 else values

    def text(self):
        n = self.take("I")
        n = 0 if n == NULL else n
        self.at += n
        return self.data[self.at - n:self.at]


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def batch(value):
    """A RecordBatch v2 of one record without a key; `value` is shorter than 50 bytes."""
    body = b"\0\0\0\x01" + bytes([len(value) * 2]) + value + b"\0"
    records = bytes([len(body) * 2]) + body
    now = int(time.time() * 1000)
    tail = struct.pack(">hiqqqhii", 0, 0, now, now, -1, -1, -1, 1) + records
    return struct.pack(">qiibI", 0, 9 + len(tail), 0, 2, crc32c(tail)) + tail


def put_parts(generation, parts):
    out = struct.pack("<qI", generation, len(parts))
    for p in parts:
        out += text(p["topic"]) + p["id"] + struct.pack("<iqq", p["partition"], p["epoch"], p["offset"])
    return out


def get_parts(payload):
    r, parts = Reader(payload), []
    generation, n = r.take("qI")
    for _ in range(n):
        p = {"topic": r.text().decode(), "id": r.take("16s")}
        p["partition"], p["epoch"], p["offset"] = r.take("iqq")
        parts.append(p)
    return generation, parts


def put_commit(seq, generation=-1, appends=(), source_offsets=(), group_offsets=()):
    out = struct.pack("<QqI", seq, generation, len(appends))
    for topic, batches in appends:
        out += text(topic["topic"]) + topic["id"] + struct.pack("<qiI", topic["epoch"], 0, 1) + text(batches)
    out += struct.pack("<I", len(source_offsets))
    for partition, offset in source_offsets:
        out += text(json.dumps(partition)) + text(json.dumps(offset))
    out += struct.pack("<I", len(group_offsets))
    for topic, partition, offset in group_offsets:
        out += text(topic) + struct.pack("<iq", partition, offset)
    return out


# ---- a runner that keeps the rules ----

class Honest:
    """A source writes one record and waits; a sink takes what comes and commits it."""

    def __init__(self, hello):
        self.control, self.data = socket.socket(fileno=3), socket.socket(fileno=4)
        self.page = mmap.mmap(5, os.fstat(5).st_size)
        self.sink = hello["class"] == "HostileSink"
        self.config = hello["config"]
        self.seq = {}
        self.generation = {}
        fcntl.lockf(6, fcntl.LOCK_EX)

    def say(self, *what):
        with open(self.config["journal"], "a", encoding="utf-8") as f:
            f.write(json.dumps(what) + "\n")

    def stage(self, task, stage, since=None):
        """What the shared page tells of a task: its plugin is in `stage`."""
        now = time.monotonic_ns() // 1_000_000 if since is None else since
        struct.pack_into("<iiq", self.page, 128 + 64 * task, stage, 0, now)

    def send(self, kind, task=NO_TASK, payload=b""):
        lane = self.data if kind == COMMIT else self.control
        lane.sendall(HEAD.pack(len(payload), kind, 0, task) + payload)

    def commit(self, task, **what):
        self.seq[task] = self.seq.get(task, 0) + 1
        self.send(COMMIT, task, put_commit(self.seq[task], **what))

    def fail(self, task, status, stage, message, retry_after_ms=-1):
        self.send(FAILED, task, struct.pack("<iiiIqq", status, stage, 0, 0, -1, retry_after_ms) + text(message))

    def run(self):
        self.send(READY, NO_TASK, text("1") + struct.pack("<II", 2 if self.sink else 1, 0) + text("none"))
        while True:
            for ready in select.select([s for s in (self.control, self.data) if s.fileno() >= 0], [], [])[0]:
                self.take(*receive(ready))

    def take(self, kind, task, payload):
        r = Reader(payload)
        if kind == FAN_OUT:
            self.on_fan_out(r.take("I"))
        elif kind == START:
            self.seq[task] = 0
            self.on_start(task)
        elif kind == TOPIC:
            request, status = r.take("Qi")
            r.text()
            topic = {"topic": r.text().decode(), "id": r.take("16s")}
            topic["partitions"], topic["epoch"] = r.take("iq")
            self.on_topic(request, status, topic)
        elif kind == OPEN:
            self.generation[task], parts = get_parts(payload)
            self.say("open", task, [[p["topic"], p["partition"], p["offset"]] for p in parts])
            self.on_open(task, parts)
        elif kind == CLOSE:
            self.send(CLOSED, task, payload)
        elif kind == RECORDS:
            generation, _ = r.take("qI")
            topic = r.text().decode()
            partition, _, next_offset, _ = r.take("iqqq")
            n = len(r.text())
            self.say("records", task, partition, next_offset)
            self.on_records(task, generation, (topic, partition, next_offset), n)
        elif kind == COMMITTED:
            seq, status = r.take("Qi")
            self.say("committed", task, seq, status)
            self.on_committed(task, seq)
        elif kind == STOP:
            self.stage(task, 0)
            self.send(STOPPED, task)
        elif kind == EXIT:
            sys.exit(0)

    def on_fan_out(self, most):
        self.send(TASKS, NO_TASK, struct.pack("<I", most) + struct.pack("<I", 0) * most)

    def on_start(self, task):
        self.send(STARTED, task)
        if not self.sink:
            self.stage(task, STAGE_POLL)
            self.send(RESOLVE, task, struct.pack("<Q", task) + text(self.config["topic"]))

    def on_topic(self, task, status, topic):
        del status
        self.commit(task, appends=[(topic, batch(b"hello"))], source_offsets=[({"of": task}, {"at": 1})])

    def on_committed(self, task, seq):
        if self.sink:
            self.stage(task, 0)  # flush has ended

    def on_open(self, task, parts):
        self.send(OPENED, task, put_parts(self.generation[task], parts))

    def on_records(self, task, generation, read, n):
        self.send(CREDIT, task, struct.pack("<Q", n))
        self.stage(task, STAGE_FLUSH)
        self.commit(task, generation=generation, group_offsets=[read])


# ---- runners that don't: frames that nobody asked for ----

class TasksUnasked(Honest):
    """While commits are on their way to the disk: each answer is followed by the next commit."""

    def on_topic(self, task, status, topic):
        for _ in range(200):
            self.one_more(task)

    def one_more(self, task):
        self.commit(task, source_offsets=[({"of": self.seq[task]}, {"at": 1})])

    def on_committed(self, task, seq):
        self.one_more(task)
        if seq == 500:
            self.unasked(task)

    def unasked(self, task):
        self.send(TASKS, NO_TASK, struct.pack("<I", 0))


class StartedTwice(Honest):
    def on_start(self, task):
        self.send(STARTED, task)
        self.send(STARTED, task)


class StartedTwiceOpen(Honest):
    """A sink, when its partitions are open already."""

    def on_open(self, task, parts):
        super().on_open(task, parts)
        self.send(STARTED, task)


class StoppedUnasked(Honest):
    def on_start(self, task):
        super().on_start(task)
        self.send(STOPPED, task)


class StoppedInFlight(TasksUnasked):
    def unasked(self, task):
        self.send(STOPPED, task)


class StartedInFlight(TasksUnasked):
    def unasked(self, task):
        self.send(STARTED, task)


class TasksTooMany(Honest):
    def on_fan_out(self, most):
        super().on_fan_out(most + 1)


class TasksThatCannotBe(Honest):
    """A count with nothing behind it."""

    def on_fan_out(self, most):
        self.send(TASKS, NO_TASK, struct.pack("<I", 0x7fffffff))


class OpenedUnasked(Honest):
    def on_open(self, task, parts):
        super().on_open(task, parts)
        super().on_open(task, parts)


class OpenedBeyondTheEnd(Honest):
    def on_open(self, task, parts):
        super().on_open(task, [dict(p, offset=INT64_MAX) for p in parts])


class NoSuchTask(Honest):
    def on_start(self, task):
        super().on_start(task)
        self.send(STARTED, task + 1)


class UnknownFrame(Honest):
    def on_start(self, task):
        super().on_start(task)
        self.send(99, task)


# ---- numbers and bytes that lie ----

class WishFar(Honest):
    def on_start(self, task):
        self.send(STARTED, task)
        self.fail(task, ERR_RETRIABLE, STAGE_POLL, "later", INT64_MAX)


class NotUtf8(Honest):
    def on_start(self, task):
        self.send(STARTED, task)
        self.fail(task, ERR_RETRIABLE, STAGE_POLL, b"bad \xff bytes \xe2\x82")


class CreditTooMuch(Honest):
    """One byte more than was sent."""

    def on_records(self, task, generation, read, n):
        self.send(CREDIT, task, struct.pack("<Q", n + 1))


class CreditHuge(Honest):
    def on_open(self, task, parts):
        super().on_open(task, parts)
        self.send(CREDIT, task, struct.pack("<Q", 2**64 - 1))


class SeqWrong(Honest):
    def on_topic(self, task, status, topic):
        self.seq[task] = 1
        super().on_topic(task, status, topic)


class SeqAgain(Honest):
    def on_topic(self, task, status, topic):
        super().on_topic(task, status, topic)
        self.seq[task] = 0
        self.commit(task, appends=[(topic, batch(b"again"))])


class NeverResolved(Honest):
    """The topic is there; but the host was not asked for it."""

    def on_topic(self, task, status, topic):
        self.commit(task, appends=[(dict(topic, topic=self.config["other"]), batch(b"hello"))])


class CrcWrong(Honest):
    def on_topic(self, task, status, topic):
        bad = bytearray(batch(b"hello"))
        bad[-2] ^= 1
        self.commit(task, appends=[(topic, bytes(bad))])


class OffsetsNotGiven(Honest):
    def on_records(self, task, generation, read, n):
        topic, partition, next_offset = read
        super().on_records(task, generation, (topic, partition, next_offset + 1), n)


class OffsetsOfOthers(Honest):
    def on_records(self, task, generation, read, n):
        super().on_records(task, generation, ("lines", 0, 0), n)


class OffsetsOfASource(Honest):
    def on_topic(self, task, status, topic):
        self.commit(task, group_offsets=[("lines", 0, 0)])


class LengthControl(Honest):
    def on_start(self, task):
        super().on_start(task)
        self.control.sendall(HEAD.pack(CONTROL_MAX + 1, LOG, 0, task))


class LengthData(Honest):
    def on_start(self, task):
        super().on_start(task)
        self.data.sendall(HEAD.pack(DATA_MAX + 1, COMMIT, 0, task))


class PageLies(Honest):
    """The shared page says what cannot be; then the runner leaves."""

    def on_start(self, task):
        self.page[:] = b"\xff" * len(self.page)
        self.stage(task, 4711, INT64_MIN)
        self.send(STARTED, task)
        self.say("page")

    def take(self, kind, task, payload):
        if kind == STOP:
            os._exit(3)
        super().take(kind, task, payload)


# ---- sockets ----

class CloseData(Honest):
    def on_start(self, task):
        self.stage(task, STAGE_POLL)
        self.send(STARTED, task)
        self.data.close()


class CloseControl(Honest):
    def on_start(self, task):
        self.stage(task, STAGE_POLL)
        self.send(STARTED, task)
        self.control.close()


class Flood(Honest):
    """Says the same for ever and hears nothing any more."""

    def on_start(self, task):
        self.send(STARTED, task)
        line = struct.pack("<i", 1) + text("flooding")
        frames = (HEAD.pack(len(line), LOG, 0, task) + line) * 50000
        while True:
            self.control.sendall(frames)


# ---- sinks in groups ----

class OpenFails(Honest):
    """Task 1 joins while task 0 opens all partitions; then task 0 fails, for an hour."""

    def on_start(self, task):
        if task == 0:
            self.send(STARTED, task)

    def on_open(self, task, parts):
        if task == 0:
            self.send(STARTED, 1)
            self.ask(1)
        else:
            super().on_open(task, parts)

    def ask(self, request):
        """Something that is answered: then the host has handled what was sent before."""
        self.send(RESOLVE, 0, struct.pack("<Q", request) + text("lines"))

    def on_topic(self, request, status, topic):
        if request < 10:  # turns of the host's loop, in which it hears of the new member
            self.ask(request + 1)
        else:
            self.fail(0, ERR_IO, STAGE_OPEN, "cannot open", 3600_000)


class DiesWithRecords(Honest):
    def on_records(self, task, generation, read, n):
        os.kill(os.getpid(), 9)


# ---- being a runner ----

def receive(lane):
    def exactly(n):
        data = b""
        while len(data) < n:
            more = lane.recv(n - len(data))
            if not more:
                sys.exit(0)
            data += more
        return data
    n, kind, _, task = HEAD.unpack(exactly(HEAD.size))
    return kind, task, exactly(n)


def read_hello(payload):
    r = Reader(payload)
    r.take("II")
    names = [r.text().decode() for _ in range(4)]
    r.take("QQQII")
    config = {r.text().decode(): r.text().decode() for _ in range(r.take("I"))}
    return {"class": names[2], "config": config}


def describe():
    def option(name):
        return {"name": name, "type": "STRING", "default": None, "required": False}
    options = [option(n) for n in ("mode", "journal", "topic", "other")]
    print(json.dumps({"abi_minor": 0, "min_host_minor": 0, "classes": [
        {"name": name, "kind": kind, "version": "1", "flags": 0, "aliases": [], "config": options}
        for name, kind in (("HostileSource", "source"), ("HostileSink", "sink"))]}))


def run():
    """HELLO is the first thing sent and small: one look shows it whole, and leaves it to the real runner."""
    control = socket.socket(fileno=3)
    first = control.recv(1 << 20, socket.MSG_PEEK)
    hello = read_hello(first[HEAD.size:])
    if not hello["class"].startswith("Hostile"):
        os.execv(REAL, ["connectd-runner", "--run"])
    receive(control)
    control.detach()
    globals()[hello["config"]["mode"]](hello).run()


if sys.argv[1:2] == ["--run"]:
    try:
        run()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the host has hung up
elif os.path.basename(sys.argv[-1]) == "hostile.so":
    describe()
else:
    os.execv(REAL, ["connectd-runner", *sys.argv[1:]])
