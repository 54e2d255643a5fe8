"""Topics into SQLite: columns, keys, upserts, exactly once."""
import json

import connectd
from connectd import rows, wait_until
from pipelines import file_sink, file_source, sqlite_sink, topic

QUAKES = connectd.ROOT / "demo/earthquakes.jsonl"


def count(db, table):
    found = rows(db, f'SELECT count(*) FROM "{table}"')
    return found[0][0] if found else 0


def wait_rows(db, table, n, seconds=20.0):
    wait_until(lambda: count(db, table) == n, f"{n} rows in {table}", seconds)


def test_earthquakes_into_a_table_and_a_jsonl_file(host):
    a = host(pipelines={
        "t": topic("quakes", 2), "in": file_source("in", str(QUAKES), "quakes", batch_size=60),
        "db": sqlite_sink("db", "quakes", "quakes.db", pk="id"), "out": file_sink("out", "quakes", "quakes.jsonl")})
    a.start().wait_records("quakes", 500)
    wait_rows(a.path("quakes.db"), "quakes", 500)
    wait_until(lambda: a.path("quakes.jsonl").exists()
               and a.path("quakes.jsonl").stat().st_size == QUAKES.stat().st_size, "all of the file")
    assert sorted(a.path("quakes.jsonl").read_bytes().split(b"\n")) == sorted(QUAKES.read_bytes().split(b"\n"))
    want = {q["id"]: q for q in map(json.loads, QUAKES.read_text().splitlines())}
    for qid, kind, properties, geometry in rows(a.path("quakes.db"), "SELECT id, type, properties, geometry FROM quakes"):
        assert kind == want[qid]["type"]
        assert json.loads(properties) == want[qid]["properties"]
        assert json.loads(geometry) == want[qid]["geometry"]
    assert a.stop() == 0
    a.start().wait_running("in", "db", "out")
    assert a.ends("quakes") is not None and sum(a.ends("quakes")) == 500
    assert count(a.path("quakes.db"), "quakes") == 500


def table_host(host, **more):
    return host("topics:\n  t: {partitions: 1}\n", pipelines={"db": sqlite_sink("db", "t", "x.db", restart_backoff_ms=10, **more)})


def test_columns_follow_the_first_value_that_is_not_null(host):
    a = table_host(host).start()
    a.topic("write", "t", stdin=b'{"i":1,"r":1.5,"s":"x","b":true,"o":{"a":1},"l":[1,2]}\n')
    wait_rows(a.path("x.db"), "t", 1)
    kinds = {name: kind for _, name, kind, *_ in rows(a.path("x.db"), 'PRAGMA table_info("t")')}
    assert kinds == {"i": "INTEGER", "r": "REAL", "s": "TEXT", "b": "INTEGER", "o": "TEXT", "l": "TEXT"}
    assert rows(a.path("x.db"), "SELECT i,r,s,b,o,l FROM t") == [(1, 1.5, "x", 1, '{"a":1}', "[1,2]")]


def test_upsert_keeps_the_last_by_key(host):
    a = table_host(host, pk="id").start()
    a.topic("write", "t", stdin=b"".join(b'{"id":%d,"v":%d}\n' % (i % 10, i) for i in range(1000)))
    wait_until(lambda: sorted(rows(a.path("x.db"), "SELECT id, v FROM t")) == [(i, 990 + i) for i in range(10)], "the last of each")


def test_a_field_without_a_column_is_a_data_error(host):
    a = table_host(host).start()
    a.topic("write", "t", stdin=b'{"a":1}\n')
    wait_rows(a.path("x.db"), "t", 1)
    a.topic("write", "t", stdin=b'{"a":2,"fresh":3}\n')
    status = a.wait_status("db", lambda s: s["tasks"] and s["tasks"][0]["error"], "the error is shown")
    error = status["tasks"][0]["error"]
    assert (error["cause"], error["stage"]) == ("data", "put") and "fresh" in error["message"]
    assert count(a.path("x.db"), "t") == 1


def test_auto_evolve_adds_the_column(host):
    a = table_host(host, auto_evolve="true").start()
    a.topic("write", "t", stdin=b'{"a":1}\n{"a":2,"fresh":"x"}\n')
    wait_until(lambda: count(a.path("x.db"), "t") == 2, "both rows")
    assert rows(a.path("x.db"), "SELECT a, fresh FROM t ORDER BY a") == [(1, None), (2, "x")]


def test_the_offsets_are_in_the_same_file(host):
    a = table_host(host).start()
    a.topic("write", "t", stdin=b'{"a":1}\n{"a":2}\n')
    wait_rows(a.path("x.db"), "t", 2)
    found = rows(a.path("x.db"), "SELECT connector, topic, partition, offset FROM _connectd_offsets")
    assert found == [("db", "t", 0, 2)]
    names = [r[1] for r in rows(a.path("x.db"), "PRAGMA table_info(_connectd_offsets)")]
    assert names == ["connector", "topic", "topic_id", "partition", "epoch", "offset"]


def test_the_targets_offsets_decide_where_to_start(host):
    """A table put back to an older state is brought up to date again: its own offsets say where it is."""
    a = table_host(host).start()
    a.topic("write", "t", stdin=b'{"a":1}\n')
    wait_rows(a.path("x.db"), "t", 1)
    assert a.stop() == 0
    old = a.path("x.db").read_bytes()
    a.start()
    a.topic("write", "t", stdin=b'{"a":2}\n')
    wait_rows(a.path("x.db"), "t", 2)
    assert a.stop() == 0
    for name in ("x.db-wal", "x.db-shm"):
        a.path(name).unlink(missing_ok=True)
    a.path("x.db").write_bytes(old)
    a.start()
    wait_rows(a.path("x.db"), "t", 2)


def test_a_value_that_is_no_json_stops_at_its_place(host):
    a = table_host(host).start()
    a.topic("write", "t", stdin=b'{"a":1}\nnot json\n')
    status = a.wait_status("db", lambda s: s["tasks"] and s["tasks"][0]["error"], "the error is shown")
    error = status["tasks"][0]["error"]
    assert (error["cause"], error["stage"]) == ("data", "convert")


def test_two_tasks_two_partitions_every_row_once(host):
    a = host("topics:\n  t: {partitions: 2}\n", pipelines={"db": sqlite_sink("db", "t", "x.db", tasks_max=2)}).start()
    for p in (0, 1):
        a.topic("write", "t", "--partition", p, stdin=b"".join(b'{"p":%d,"n":%d}\n' % (p, i) for i in range(2000)))
    wait_rows(a.path("x.db"), "t", 4000)
    assert sorted(rows(a.path("x.db"), "SELECT p, n FROM t")) == [(p, n) for p in (0, 1) for n in range(2000)]
