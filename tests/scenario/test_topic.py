"""`connectd topic`: every form, through a running host and without one."""
import base64
import json
import subprocess
import threading

import connectd
import pytest


@pytest.fixture(params=["running", "alone"])
def a(host, request):
    """A data directory with a host on it, or with none: topic takes the lock itself then."""
    one = host("topics:\n  t:\n    partitions: 2\n").start()
    if request.param == "alone":
        assert one.stop() == 0
    return one


def lines(out):
    return [json.loads(l) for l in out.splitlines()]


def test_create_list_describe_delete(a):
    a.topic("create", "made", "--partitions", 3, "--config", "retention.ms=1000")
    assert a.topic("list").decode().splitlines() == ["made", "t"]
    everything = a.topic("list", "--all").decode().splitlines()
    assert everything == sorted(everything) and {"made", "t"} <= set(everything)
    described = json.loads(a.topic("describe", "made", "--format", "json"))
    assert described["name"] == "made" and described["config"]["retention.ms"] == "1000"
    assert [p["partition"] for p in described["partitions"]] == [0, 1, 2]
    for p in described["partitions"]:
        assert set(p) >= {"partition", "start_offset", "end_offset", "bytes", "state", "error"}
        assert (p["start_offset"], p["end_offset"]) == (0, 0)
    a.topic("create", "made", "--partitions", 3, code=1)
    a.topic("delete", "made")
    assert a.topic("list").decode().splitlines() == ["t"]
    a.topic("delete", "made", code=1)
    a.topic("describe", "made", "--format", "json", code=1)


@pytest.mark.parametrize("name", ["a/b", "..", "", "a b", "x" * 250], ids=["slash", "dots", "empty", "blank", "long"])
def test_bad_names_are_refused(a, name):
    done = a.cli("topic", "create", name, "--partitions", 1, "--data", a.data)
    assert done.returncode in (1, 2) and done.stderr


def test_write_prints_where_each_record_went(a):
    out = lines(a.topic("write", "t", "--partition", 1, stdin=b"one\ntwo\n"))
    assert out == [{"topic": "t", "partition": 1, "offset": 0}, {"topic": "t", "partition": 1, "offset": 1}]
    out = lines(a.topic("write", "t", "--partition", 1, stdin=b"three\n"))
    assert out == [{"topic": "t", "partition": 1, "offset": 2}]


def test_keys_choose_the_partition_as_kafka_does(a):
    """murmur2 of the key, two partitions: known answers of Kafka's own partitioner."""
    a.topic("write", "t", "--key-separator", "=", stdin=b"21=a\nfoobar=b\n21=c=d\n")
    records = a.read("t")
    # murmur2("21") = -973932308, murmur2("foobar") = -790332482; & 0x7fffffff, % 2
    where = {r["value"]: r["partition"] for r in records}
    assert where == {"a": (-973932308 & 0x7FFFFFFF) % 2, "b": (-790332482 & 0x7FFFFFFF) % 2, "c=d": where["a"]}
    assert {r["key"] for r in records} == {"21", "foobar"}


def test_read_gives_bytes_as_they_are(a):
    values = [b'{"json": 1}', "größe ☃".encode(), b"\xff\xfe", b"", b'quote " and \\']
    a.topic("write", "t", "--partition", 0, stdin=b"".join(v + b"\n" for v in values))
    got = a.read("t", "--partition", "0")
    assert [r["offset"] for r in got] == [0, 1, 2, 3, 4]
    for record, value in zip(got, values):
        assert set(record) == {"topic", "partition", "offset", "timestamp", "key", "value", "headers"}
        assert record["key"] is None and record["headers"] == []
        wanted = {"base64": base64.b64encode(value).decode()} if value == b"\xff\xfe" else value.decode()
        assert record["value"] == wanted
    raw = a.topic("read", "t", "--partition", 0, "--from-beginning", "--until-end", "--format", "value")
    assert raw == b"".join(v + b"\n" for v in values)


def test_read_from_an_offset_and_so_many(a):
    a.topic("write", "t", "--partition", 0, stdin=b"".join(b"%d\n" % i for i in range(10)))
    got = lines(a.topic("read", "t", "--partition", 0, "--offset", 4, "--max-messages", 3))
    assert [r["value"] for r in got] == ["4", "5", "6"]


def test_until_end_of_an_empty_topic_ends_at_once(a):
    assert a.topic("read", "t", "--until-end", "--from-beginning") == b""


def test_read_starts_at_the_end_and_gives_up_after_the_timeout(a):
    a.topic("write", "t", stdin=b"old\n")
    assert a.topic("read", "t", "--timeout-ms", 200) == b""


def test_unknown_topics_and_partitions_are_exit_1(a):
    for args in (["read", "nowhere", "--until-end"], ["write", "nowhere"], ["read", "t", "--partition", 9, "--until-end"],
                 ["write", "t", "--partition", 9]):
        done = a.cli("topic", *args, "--data", a.data, stdin=b"x\n")
        assert done.returncode == 1 and done.stderr


def test_internal_topics_are_refused(a):
    internal = [n for n in a.topic("list", "--all").decode().splitlines() if n != "t"]
    for name in internal or ["__consumer_offsets"]:
        assert a.cli("topic", "write", name, "--data", a.data, stdin=b"x\n").returncode == 1
        assert a.cli("topic", "delete", name, "--data", a.data).returncode == 1


def test_a_long_line_goes_through_whole(a):
    value = b"x" * 900_000
    a.topic("write", "t", "--partition", 0, stdin=value + b"\n")
    assert a.topic("read", "t", "--partition", 0, "--from-beginning", "--until-end", "--format", "value") == value + b"\n"


def test_read_follows_a_running_host(host):
    a = host("topics:\n  t: {partitions: 1}\n").start()
    a.topic("write", "t", stdin=b"before\n")
    reader = subprocess.Popen([connectd.binary(), "topic", "read", "t", "--max-messages", "2", "--from-beginning",
                               "--data", a.data, "--format", "value"], stdout=subprocess.PIPE)
    try:
        assert reader.stdout.readline() == b"before\n"
        a.topic("write", "t", stdin=b"after\n")
        late = []
        thread = threading.Thread(target=lambda: late.append(reader.stdout.read()), daemon=True)
        thread.start()
        thread.join(10 * connectd.PATIENCE)
        assert late == [b"after\n"]
        assert reader.wait(10) == 0
    finally:
        connectd.kill_if_alive(reader.pid)
        reader.wait()
        reader.stdout.close()


def test_by_url_too(host):
    a = host("topics:\n  t: {partitions: 1}\n").start()
    done = a.cli("topic", "list", "--url", a.url)
    assert (done.returncode, done.stdout) == (0, b"t\n")
    assert a.cli("topic", "list", "--url", "http://127.0.0.1:1").returncode == 1


def test_many_lines_keep_their_order(a):
    values = [b"%d" % i for i in range(20_000)]
    out = a.topic("write", "t", "--partition", 1, stdin=b"\n".join(values) + b"\n")
    assert [r["offset"] for r in lines(out)] == list(range(20_000))
    raw = a.topic("read", "t", "--partition", 1, "--from-beginning", "--until-end", "--format", "value")
    assert raw.split(b"\n")[:-1] == values
