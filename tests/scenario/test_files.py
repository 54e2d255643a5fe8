"""Files in, files out: bytes, lines, rotation, truncation, restarts."""
import collections
import os

import connectd
import pytest
from connectd import wait_until
from pipelines import file_sink, file_source, topic

FLIGHTS = connectd.ROOT / "tests/data/flights.jsonl"


def read(path):
    return path.read_bytes() if path.exists() else b""


def wait_file(path, size, seconds=20.0):
    wait_until(lambda: path.exists() and path.stat().st_size >= size, f"{size} bytes in {path.name}", seconds)


def both(partitions=1, **source):
    return {"t": topic("lines", partitions), "in": file_source("in", "in.txt", "lines", **source),
            "out": file_sink("out", "lines", "out.txt")}


def test_file_to_topic_to_file_byte_for_byte(host):
    a = host(pipelines=both())
    data = FLIGHTS.read_bytes() + "größe ☃ \\ \"quoted\" \t tab\n\n   \n".encode() + b"x" * 500_000 + b"\n"
    a.path("in.txt").write_bytes(data)
    a.start()
    wait_file(a.path("out.txt"), len(data))
    assert a.path("out.txt").read_bytes() == data
    assert a.stop() == 0
    assert a.path("out.txt").read_bytes() == data


def test_two_partitions_hold_every_line_once(host):
    a = host(pipelines=both(2, batch_size=50))
    a.path("in.txt").write_bytes(FLIGHTS.read_bytes())
    a.start().wait_records("lines", 2000)
    wait_file(a.path("out.txt"), FLIGHTS.stat().st_size)
    assert sorted(read(a.path("out.txt")).split(b"\n")) == sorted(FLIGHTS.read_bytes().split(b"\n"))
    assert all(end > 0 for end in a.ends("lines")), "keyless batches move on to the next partition"
    for p in (0, 1):
        lines = [r["value"] for r in a.read("lines", "--partition", str(p))]
        order = {line: i for i, line in enumerate(FLIGHTS.read_text().splitlines())}
        assert [order[l] for l in lines] == sorted(order[l] for l in lines)


def test_a_restart_goes_on_where_it_was(host):
    a = host(pipelines=both())
    a.path("in.txt").write_bytes(b"one\ntwo\n")
    a.start().wait_records("lines", 2)
    assert a.stop() == 0
    with open(a.path("in.txt"), "ab") as f:
        f.write(b"three\n")
    a.start().wait_records("lines", 3)
    wait_file(a.path("out.txt"), 14)
    assert a.stop() == 0
    assert read(a.path("out.txt")) == b"one\ntwo\nthree\n"


def test_lines_end_at_lf_and_lose_one_cr(host):
    a = host(pipelines=both())
    a.path("in.txt").write_bytes(b"dos\r\ntwo cr\r\r\ninner\rcr\nno end")
    a.start().wait_records("lines", 3)
    assert [r["value"] for r in a.read("lines")] == ["dos", "two cr\r", "inner\rcr"]
    with open(a.path("in.txt"), "ab") as f:
        f.write(b" yet\n")
    a.wait_records("lines", 4)
    assert a.read("lines")[3]["value"] == "no end yet"
    assert all(r["key"] is None for r in a.read("lines"))


def test_renamed_while_running_the_old_file_is_read_to_its_end(host):
    a = host(pipelines=both())
    a.path("in.txt").write_bytes(b"old 1\n")
    a.start().wait_records("lines", 1)
    old = open(a.path("in.txt"), "ab")
    os.rename(a.path("in.txt"), a.path("in.txt.1"))
    old.write(b"old 2\n")
    old.close()
    a.path("in.txt").write_bytes(b"new 1\nnew 2\n")
    a.wait_records("lines", 4)
    assert [r["value"] for r in a.read("lines")] == ["old 1", "old 2", "new 1", "new 2"]


def test_rotated_while_down_the_old_inode_is_found(host):
    a = host(pipelines=both())
    a.path("in.txt").write_bytes(b"old 1\n")
    a.start().wait_records("lines", 1)
    assert a.stop() == 0
    with open(a.path("in.txt"), "ab") as f:
        f.write(b"old 2\n")
    os.rename(a.path("in.txt"), a.path("in.txt.1"))
    a.path("in.txt").write_bytes(b"new 1\n")
    a.start().wait_records("lines", 3)
    assert [r["value"] for r in a.read("lines")] == ["old 1", "old 2", "new 1"]


def test_replaced_while_down_and_the_old_one_gone_warns_and_begins_anew(host):
    a = host(pipelines=both())
    a.path("in.txt").write_bytes(b"old 1\n")
    a.start().wait_records("lines", 1)
    assert a.stop() == 0
    keep = open(a.path("in.txt"), "rb")  # the inode number must not be given again
    a.path("in.txt").unlink()
    a.path("in.txt").write_bytes(b"new 1\n")
    a.start().wait_records("lines", 2)
    keep.close()
    assert [r["value"] for r in a.read("lines")] == ["old 1", "new 1"]
    assert "level=warn" in a.log()


def test_truncated_it_begins_anew(host):
    a = host(pipelines=both())
    a.path("in.txt").write_bytes(b"a long first line\nand another\n")
    a.start().wait_records("lines", 2)
    os.truncate(a.path("in.txt"), 0)
    with open(a.path("in.txt"), "ab") as f:
        f.write(b"short\n")
    a.wait_records("lines", 3)
    assert a.read("lines")[2]["value"] == "short"


def test_a_file_that_comes_later_is_waited_for(host):
    a = host(pipelines=both())
    a.start()
    a.path("in.txt").write_bytes(b"late\n")
    a.wait_records("lines", 1)


def test_an_empty_line_is_a_record(host):
    a = host(pipelines=both())
    a.path("in.txt").write_bytes(b"\n\nx\n")
    a.start().wait_records("lines", 3)
    assert [r["value"] for r in a.read("lines")] == ["", "", "x"]


def test_a_torn_last_line_of_the_sink_is_repaired(host):
    a = host(pipelines=both())
    a.path("in.txt").write_bytes(b"one\n")
    a.start()
    wait_file(a.path("out.txt"), 4)
    assert a.stop() == 0
    with open(a.path("out.txt"), "ab") as f:
        f.write(b"torn")
    with open(a.path("in.txt"), "ab") as f:
        f.write(b"two\n")
    a.start()
    wait_until(lambda: read(a.path("out.txt")).endswith(b"two\n"), "two is written")
    assert read(a.path("out.txt")) == b"one\ntwo\n"


def test_without_a_string_converter_a_line_is_quoted(host):
    a = host(pipelines={"in": connectd.flat_config("in", connector_class="FileStreamSource", file="in.txt", topic="lines")})
    a.path("in.txt").write_bytes(b'say "hi"\n')
    a.start().wait_records("lines", 1)
    assert a.read("lines")[0]["value"] == '"say \\"hi\\""'


def test_the_sink_writes_structures_as_compact_json(host):
    a = host("topics:\n  j: {partitions: 1}\n", pipelines={
        "out": connectd.flat_config("out", connector_class="FileStreamSink", topics="j", file="out.txt")}).start()
    a.topic("write", "j", stdin=b'{ "a" : [1, 2.5, null], "b": "x" }\n"plain"\n')
    wait_until(lambda: read(a.path("out.txt")).count(b"\n") == 2, "two lines")
    assert read(a.path("out.txt")) == b'{"a":[1,2.5,null],"b":"x"}\nplain\n'


def test_a_line_over_the_limit_is_a_data_error_and_the_position_moves_on(host):
    a = host(pipelines={"t": topic("lines", 1), "in": file_source("in", "in.txt", "lines", max_line_bytes=1000, restart_backoff_ms=10)})
    a.path("in.txt").write_bytes(b"ok\n" + b"x" * 2000 + b"\nfine\n")
    a.start().wait_records("lines", 2)
    assert [r["value"] for r in a.read("lines")] == ["ok", "fine"]
    error = a.wait_status("in", lambda s: s["tasks"][0]["error"], "the error is shown")["tasks"][0]["error"]
    assert error["cause"] == "data"


@pytest.mark.parametrize("tasks", [1, 2])
def test_partitions_are_spread_over_tasks(host, tasks):
    a = host("topics:\n  t: {partitions: 2}\n", pipelines={
        "out": file_sink("out", "t", "out.txt", tasks_max=tasks)}).start()
    a.wait_running("out")
    assert len(a.status("out")["tasks"]) == tasks
    for p in (0, 1):
        a.topic("write", "t", "--partition", p, stdin=b"".join(b"%d-%d\n" % (p, i) for i in range(100)))
    wait_until(lambda: read(a.path("out.txt")).count(b"\n") >= 200, "all lines")
    lines = read(a.path("out.txt")).split()
    assert collections.Counter(lines) == collections.Counter(b"%d-%d" % (p, i) for p in (0, 1) for i in range(100))
    for p in (b"0", b"1"):
        assert [l for l in lines if l.startswith(p + b"-")] == [b"%s-%d" % (p, i) for i in range(100)]
