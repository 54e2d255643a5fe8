"""Load from outside, and the truth about what was acknowledged.

Writers keep one HTTP/1.1 connection each and POST one small batch of records at a time, so that as many
commit units are in flight as there are writers. All sockets are served by one thread, so that "in flight"
at the moment of a crash is a number and not a guess: what was sent and whose answer has not been read.

One request is one commit unit; Load.units lists what each of them holds. Every third writer names the partitions
of its records, two or more in each request.

A record's value names its writer and a number that only grows: {"w": writer, "n": number, ...}. Nothing is
ever sent twice: a request without an answer is indefinite, may be there or not, and its numbers are not used
again. So any duplicate that is found later is the host's.
"""
import json
import selectors
import socket
import threading
import time


SPREAD_EVERY = 3  # one writer in so many sends to several partitions at once


class Writer:
    """One connection, one key, at most one request on the way."""

    def __init__(self, load, index):
        self.load, self.index = load, index
        self.key = f"w{index}"
        self.spread = load.partitions > 1 and index % SPREAD_EVERY == 0
        self.socket = None
        self.out = b""
        self.answer = b""
        self.unit = None  # [(value, partition or None for the host's choice)], the last one put together
        self.sent = None  # the part of it that the request on the way holds: all
        self.rest = []    # the parts not sent yet: none, but when units are torn on purpose

    def connect(self):
        self.close()
        try:
            self.socket = socket.create_connection(self.load.address, timeout=5)
        except OSError:
            return False
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.out = self.answer = b""
        return True

    def close(self):
        if self.socket is not None:
            self.socket.close()
        self.socket = None

    def next_request(self):
        """Puts the next request together; its records count as sent from here on."""
        if not self.rest:
            self.unit = self.load.new_unit(self)
            self.rest = [[r] for r in self.unit] if self.load.torn and self.spread else [self.unit]
        self.sent = self.rest.pop(0)
        body = json.dumps([{"key": self.key, "value": v, "partition": p} for v, p in self.sent]).encode()
        self.out = (b"POST /topics/%s/records HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n" % (self.load.topic.encode(), self.load.authority, len(body))) + body

    def push(self):
        """Writes what fits."""
        while self.out:
            n = self.socket.send(self.out)
            self.out = self.out[n:]

    def pull(self):
        """Reads what is there; takes the answer when it is whole. False when the peer is gone."""
        try:
            while True:
                piece = self.socket.recv(65536)
                if not piece:
                    return False
                self.answer += piece
                self.take()
        except BlockingIOError:
            return True
        except OSError:
            return False

    def take(self):
        head, found, rest = self.answer.partition(b"\r\n\r\n")
        if not found:
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields[b"content-length"])
        if len(rest) < length:
            return
        self.answer = rest[length:]
        status = int(head.split(b" ", 2)[1])
        records, self.sent = self.sent, None
        self.load.answered(records, status, rest[:length])


def is_spread(records):
    """Whether records name more than one partition."""
    return len({p for _, p in records if p is not None}) > 1


class Load:
    """Writers against one topic of one host, from start() to freeze()."""

    def __init__(self, topic, writers=24, reserve=24, batch=2, pad=0, partitions=1, torn=False):
        """`reserve` writers more send nothing until burst(). With partitions > 1 some requests are spread over
        two to all of them. torn: a control that sends their records one by one."""
        self.topic, self.batch, self.pad, self.partitions, self.torn = topic, batch, pad, partitions, torn
        self.writers = [Writer(self, i) for i in range(writers + reserve)]
        self.reserve = self.writers[writers:]
        self.numbers = [0] * len(self.writers)
        self.sent = set()       # every value ever put on the wire
        self.units = []         # [(value, partition or None)] of every request: there whole or not at all
        self.left = []          # those units over several partitions that the last drain() left without an answer
        self.spread_acked = 0   # requests over several partitions that were answered well
        self.rejected = set()   # values whose request was answered 4xx: must never be seen
        self.acked = {}         # value -> (partition, offset)
        self.refused = 0        # 5xx and 429: indefinite
        self.errors = []        # answers that no host should give
        self.address = self.authority = None
        self.thread = None
        self.running = False
        self.lock = threading.Lock()

    def new_value(self, writer):
        n = self.numbers[writer.index]
        self.numbers[writer.index] += 1
        value = {"w": writer.index, "n": n}
        if self.pad:
            value["pad"] = "x" * self.pad
        text = json.dumps(value, separators=(",", ":"))
        self.sent.add(text)
        return text

    def add_unit(self, records):
        self.units.append(records)
        return records

    def new_unit(self, writer):
        """The records of a writer's next request."""
        if not writer.spread:
            return self.add_unit([(self.new_value(writer), None) for _ in range(self.batch)])
        turn = len(self.units)
        first, n = turn // (self.partitions - 1), 2 + turn % (self.partitions - 1)
        return self.add_unit([(self.new_value(writer), (first + i) % self.partitions) for i in range(n)])

    def answered(self, records, status, body):
        if status in (200, 201, 202):
            decoded = json.loads(body)
            places = decoded["records"] if isinstance(decoded, dict) else decoded
            if len(places) != len(records):
                self.errors.append(f"{len(records)} records, {len(places)} answers")
                return
            for (value, partition), place in zip(records, places):
                self.acked[value] = (place["partition"], place["offset"])
                if partition not in (None, place["partition"]):
                    self.errors.append(f"{value} went to {place}, not to partition {partition}")
            self.spread_acked += is_spread(records)
        elif status == 429 or status >= 500:
            self.refused += 1
        else:
            self.rejected.update(v for v, _ in records)
            self.errors.append(f"status {status}: {body[:200]!r}")

    def in_flight(self):
        return sum(w.sent is not None for w in self.writers)

    def start(self, url):
        self.authority = url.split("//")[1].encode()
        name, port = url.split("//")[1].rsplit(":", 1)
        self.address = (name, int(port))
        for w in self.writers:
            w.sent, w.rest = None, []
            if not w.connect():
                raise AssertionError(f"cannot connect to {url}")
        self.running = True
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        """Until freeze(), or until every connection is gone."""
        select = selectors.DefaultSelector()
        for w in self.writers[:len(self.writers) - len(self.reserve)]:
            select.register(w.socket, selectors.EVENT_READ, w)
            with self.lock:
                self.send_next(w)
        while self.running and select.get_map():
            for key, _ in select.select(0.05):
                with self.lock:
                    if not self.running:
                        break
                    if not key.data.pull():
                        select.unregister(key.fileobj)
                    elif key.data.sent is None:
                        self.send_next(key.data)
        select.close()

    @staticmethod
    def send_next(writer):
        writer.next_request()
        try:
            writer.push()
        except OSError:
            pass  # the answer will never come; pull() finds out

    def burst(self):
        """The reserve sends, all within a fraction of a millisecond: a crash now finds these on their way."""
        with self.lock:  # or the answers to the first would be served before the last are sent
            for w in self.reserve:
                w.next_request()
            for w in self.reserve:
                try:
                    w.push()
                except OSError:
                    pass

    def freeze(self):
        """Nothing new is sent from here on; what was sent stays in flight. Returns how much that is."""
        with self.lock:
            self.running = False
            return self.in_flight()

    def drain(self, seconds=0.0):
        """Takes the answers that had already been given; returns how many requests stay without one."""
        self.thread.join()
        deadline = time.monotonic() + seconds
        while True:
            for w in self.writers:
                if w.sent is not None and w.socket is not None and not w.pull():
                    w.close()
            waiting = [w for w in self.writers if w.sent is not None and w.socket is not None]
            left = deadline - time.monotonic()
            if not waiting or left <= 0:
                break
            with selectors.DefaultSelector() as select:
                for w in waiting:
                    select.register(w.socket, selectors.EVENT_READ)
                select.select(left)
        self.left = [w.unit for w in self.writers if w.sent is not None and is_spread(w.unit)]
        return self.in_flight()

    def close(self):
        self.running = False
        if self.thread is not None:
            self.thread.join()
        for w in self.writers:
            w.close()
