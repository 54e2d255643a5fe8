"""The judges themselves: each rule is shown a breach that it must name."""
import http.server
import json
import sqlite3
import threading

import pytest
import verify
from connectd import wait_until
from load import Load


class FakeHost:
    """Answers `topic read` from lists."""

    def __init__(self, *partitions):
        self.partitions = [list(p) for p in partitions]

    def topic(self, _verb, _name, _flag, partition, *_rest):
        return "".join(v + "\n" for v in self.partitions[partition]).encode()


def value(w, n):
    return json.dumps({"w": w, "n": n}, separators=(",", ":"))


def judged(sent, acked, *partitions):
    """check_acked of a topic with these values; `acked` as {value: (partition, offset)}."""
    topic, load = verify.Topic(FakeHost(*partitions), "t", len(partitions)), Load("t", writers=0, reserve=0, batch=1)
    load.sent, load.acked = set(sent), acked
    topic.read()
    verify.check_acked(topic, load)
    return topic, load


A, B, C = value(0, 0), value(0, 1), value(1, 0)


def test_all_well():
    judged([A, B, C], {A: (0, 0), B: (0, 1)}, [A, B], [C])


def test_an_acked_record_that_is_gone():
    with pytest.raises(verify.Loss):
        judged([A, B], {A: (0, 0), B: (0, 1)}, [A])


def test_an_acked_record_at_another_place():
    with pytest.raises(verify.Loss):
        judged([A, C], {A: (0, 0)}, [C, A])


def test_a_record_that_nobody_sent():
    with pytest.raises(AssertionError, match="nobody sent"):
        judged([A], {}, [A, B])


def test_a_record_twice():
    with pytest.raises(verify.Duplicate):
        judged([A], {}, [A, A])


def test_the_order_of_a_key():
    with pytest.raises(AssertionError, match="after"):
        judged([A, B], {}, [B, A])


def test_what_was_read_before_must_stay():
    host = FakeHost([A, B])
    topic = verify.Topic(host, "t", 1)
    topic.read()
    host.partitions[0] = [A, C]
    with pytest.raises(verify.Loss, match="offset 1"):
        topic.read()


def test_half_a_unit():
    topic, load = judged([A, B], {}, [A])
    load.batch = 2
    with pytest.raises(AssertionError, match="whole units"):
        verify.check_units(topic, load)


@pytest.mark.parametrize("values, error", [
    (["b", "a"], AssertionError), (["a", "a"], verify.Duplicate), (["x"], AssertionError)])
def test_lines_twice_foreign_or_out_of_order(values, error):
    topic = verify.Topic(FakeHost(values), "t", 1)
    topic.read()
    with pytest.raises(error):
        verify.check_lines(topic, ["a", "b"])


@pytest.mark.parametrize("found, error", [([(0, 0), (0, 0)], verify.Duplicate), ([(5, 5)], AssertionError)])
def test_rows_twice_or_foreign(tmp_path, found, error):
    with sqlite3.connect(tmp_path / "x.db") as db:
        db.execute("CREATE TABLE t (w, n)")
        db.executemany("INSERT INTO t VALUES (?, ?)", found)
    db.close()
    topic, _ = judged([A], {}, [A])
    with pytest.raises(error):
        verify.check_table(tmp_path / "x.db", "t", topic)


class Answers(http.server.BaseHTTPRequestHandler):
    """Takes records as the host does; stops answering when told to."""
    protocol_version = "HTTP/1.1"
    mute = threading.Event()
    unanswered = threading.Semaphore(0)
    offset = 0

    def do_POST(self):
        records = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.mute.is_set():
            self.close_connection = True
            self.unanswered.release()
            return
        places = []
        for _ in records:
            places.append({"topic": "t", "partition": 0, "offset": Answers.offset})
            Answers.offset += 1
        body = json.dumps(places).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_the_load_counts_what_is_acked_and_what_is_not():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    load = Load("t", writers=4, reserve=0, batch=3)
    load.start(f"http://127.0.0.1:{server.server_address[1]}")
    wait_until(lambda: len(load.acked) >= 100, "100 acks")
    Answers.mute.set()
    for _ in load.writers:
        assert Answers.unanswered.acquire(timeout=10)
    assert load.freeze() == 4
    assert load.drain(0.5) == 4
    assert not load.errors and len(load.acked) % 3 == 0
    assert len(load.sent) == len(load.acked) + 4 * 3
    load.close()
    server.shutdown()
    server.server_close()
