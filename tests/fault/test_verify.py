"""The judges themselves: each rule is shown a breach that it must name."""
import http.server
import json
import sqlite3
import threading

import pytest
import verify
from campaign import MIN_UNITS, Report, Source
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


@pytest.mark.parametrize("partitions", [([A], []), ([], [C]), ([A, B], []), ([B], [C])])
def test_half_a_unit_over_two_partitions(partitions):
    """The second request is well, the first one isn't."""
    topic, load = judged([A, B, C], {}, *partitions)
    load.units = [[(A, 0), (C, 1)], [(B, 0)]]
    with pytest.raises(verify.Torn, match="1 requests are there in part"):
        verify.check_units(topic, load)


def test_half_a_unit_in_one_partition():
    topic, load = judged([A, B], {}, [A])
    load.units = [[(A, None), (B, None)]]
    with pytest.raises(verify.Torn):
        verify.check_units(topic, load)


def test_a_record_in_another_partition_than_asked_for():
    topic, load = judged([A, C], {}, [A, C], [])
    load.units = [[(A, 0), (C, 1)]]
    with pytest.raises(AssertionError, match="another partition"):
        verify.check_units(topic, load)


def test_units_that_are_there_whole_and_not_at_all():
    topic, load = judged([A, B, C], {}, [A], [C])
    load.units = [[(A, 0), (C, 1)], [(B, 0), (value(1, 1), 1)]]
    load.left = load.units
    assert verify.check_units(topic, load) == (1, 1)


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


@pytest.mark.parametrize("idle, error", [(0, None), (2, None), (3, "host kills")])
def test_host_kills_without_units_in_flight(idle, error):
    report = Report("x", 1)
    for i in range(10):
        report.host_killed(MIN_UNITS - (i < idle))
    if error is None:
        report.check_shares()
    else:
        with pytest.raises(AssertionError, match=error):
            report.check_shares()


def test_runner_kills_do_not_stand_in_for_host_kills(capsys):
    report = Report("x", 1)
    report.host_killed(0)
    for _ in range(99):
        report.runners_killed(24, 100, 2000)
    with pytest.raises(AssertionError, match="0 of 1 host kills"):
        report.check_shares()
    report.print()
    assert "rest_units_avg=24.0 source_units_avg<=100.0 lines_waiting_avg=2000" in capsys.readouterr().out


def test_runner_kills_with_nothing_to_do():
    report = Report("x", 1)
    report.host_killed(MIN_UNITS)
    report.runners_killed(24, 0, 0)
    with pytest.raises(AssertionError, match="lines waiting"):
        report.check_shares()


def test_the_source_has_no_more_in_flight_than_waits_or_fits_its_window():
    source = Source(None, "/dev/null")
    source.lines = ["x" * 80]
    assert [source.units_at_most(n) for n in (0, 1, 20, 2000)] == [0, 1, 1, 100]
    assert source.units_at_most(10**9) == -(-((8 << 20) // 80) // 20)


class Answers(http.server.BaseHTTPRequestHandler):
    """Takes records as the host does; stops answering when told to."""
    protocol_version = "HTTP/1.1"
    mute = threading.Event()
    unanswered = threading.Semaphore(0)
    offset = 0
    partitions = []  # of each request, the set that it named

    def do_POST(self):
        records = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.partitions.append({r["partition"] for r in records})
        if self.mute.is_set():
            self.close_connection = True
            self.unanswered.release()
            return
        places = []
        for record in records:
            places.append({"topic": "t", "partition": record["partition"] or 0, "offset": Answers.offset})
            Answers.offset += 1
        body = json.dumps(places).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    one = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=one.serve_forever, daemon=True).start()
    Answers.mute.clear()
    Answers.partitions.clear()
    yield one
    one.shutdown()
    one.server_close()


def test_the_load_counts_what_is_acked_and_what_is_not(server):
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


def test_the_load_spreads_a_third_of_its_writers_over_several_partitions(server):
    load = Load("t", writers=6, reserve=0, partitions=4)
    load.start(f"http://127.0.0.1:{server.server_address[1]}")
    wait_until(lambda: load.spread_acked >= 50, "50 spread requests")
    load.freeze()
    load.drain(10)
    load.close()
    assert not load.errors
    assert sum(w.spread for w in load.writers) == 2
    assert {len(p) for p in Answers.partitions if p != {None}} == {2, 3, 4}
    assert set().union(*Answers.partitions) == {None, 0, 1, 2, 3}


def test_an_answer_from_another_partition_is_an_error():
    load = Load("t", writers=0, reserve=0)
    load.answered([(A, 1)], 200, b'[{"topic":"t","partition":0,"offset":0}]')
    assert "not to partition 1" in load.errors[0]
