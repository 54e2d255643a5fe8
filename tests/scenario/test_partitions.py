"""Partitions and tasks that change: everything still arrives once."""
import connectd
from connectd import rows, wait_until
from pipelines import file_sink, sqlite_sink, topic


def write(a, partition, numbers):
    a.topic("write", "t", "--partition", partition,
            stdin=b"".join(b'{"p":%d,"n":%d}\n' % (partition, n) for n in numbers))


def wait_table(a, expected):
    """Until the table holds exactly these rows; more than that fails at once."""
    def ask():
        found = sorted(rows(a.path("x.db"), "SELECT p, n FROM t"))
        assert len(found) <= len(expected), f"{len(found)} rows, {len(expected)} expected"
        return found == expected
    wait_until(ask, f"{len(expected)} rows", 20)


def test_a_topic_grows_and_so_do_its_readers(host):
    a = host(pipelines={"t": topic("t", 1), "db": sqlite_sink("db", "t", "x.db", tasks_max=1)}).start()
    write(a, 0, range(100))
    wait_table(a, [(0, n) for n in range(100)])
    assert a.stop() == 0
    a.pipeline("t", topic("t", 3))
    a.pipeline("db", sqlite_sink("db", "t", "x.db", tasks_max=3))
    a.start().wait_running("db")
    assert len(a.status("db")["tasks"]) == 3 and a.ends("t") == [100, 0, 0]
    for p in range(3):
        write(a, p, range(100, 200))
    wait_table(a, sorted([(0, n) for n in range(100)] + [(p, n) for p in range(3) for n in range(100, 200)]))
    assert a.stop() == 0
    a.pipeline("db", sqlite_sink("db", "t", "x.db", tasks_max=2))
    a.start()
    for p in range(3):
        write(a, p, range(200, 300))
    wait_table(a, sorted([(0, n) for n in range(100)] + [(p, n) for p in range(3) for n in range(100, 300)]))


def test_fewer_partitions_than_there_are_is_an_error_that_says_so(host):
    a = host(pipelines={"t": topic("t", 3)}).start()
    write(a, 2, range(3))
    assert a.stop() == 0
    a.pipeline("t", topic("t", 2))
    a.start()
    assert a.ends("t") == [0, 0, 3]
    problems = " ".join(p["reason"] for p in a.get("/health")["problems"])
    assert "partitions" in problems + a.log() and "t.yaml" in problems + a.log()


def test_a_killed_runner_with_two_tasks_gives_every_row_once(host):
    a = host(pipelines={"t": topic("t", 2), "db": sqlite_sink(
        "db", "t", "x.db", tasks_max=2, restart_backoff_ms=20, restart_backoff_max_ms=40)}).start()
    for i in range(10):
        write(a, 0, range(i * 50, i * 50 + 50))
        write(a, 1, range(i * 50, i * 50 + 50))
        connectd.kill_if_alive(wait_until(lambda: a.runner_of("db"), "its runner"))
    wait_table(a, [(p, n) for p in (0, 1) for n in range(500)])
    assert a.status("db")["connector"]["restarts"] >= 1


def test_internal_state_survives_growth_and_restart(host):
    """Group offsets of old partitions stay when new ones come: nothing is read again into a file."""
    a = host(pipelines={"t": topic("t", 1), "out": file_sink("out", "t", "out.txt")}).start()
    write(a, 0, range(5))
    wait_until(lambda: a.path("out.txt").exists() and a.path("out.txt").read_text().count("\n") == 5, "5 lines")
    assert a.stop() == 0
    a.pipeline("t", topic("t", 2))
    a.start()
    write(a, 1, range(5))
    wait_until(lambda: a.path("out.txt").read_text().count("\n") >= 10, "10 lines")
    assert a.stop() == 0
    assert a.path("out.txt").read_text().count("\n") == 10
