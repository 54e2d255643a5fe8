"""What REST tells: Connect's shapes, and what we added to them."""
import re

import pytest
from connectd import wait_until
from pipelines import file_sink, file_source, sqlite_sink, topic

TASK_KEYS = {"id", "state", "worker_id", "condition", "restarts", "error"}


@pytest.fixture
def a(host):
    one = host(pipelines={"t": topic("lines", 2), "in": file_source("in", "in.txt", "lines"),
                          "out": file_sink("out", "lines", "out.txt", tasks_max=3)})
    one.path("in.txt").write_bytes(b"one\ntwo\n")
    one.start().wait_records("lines", 2)
    one.wait_running("in", "out")
    return one


def test_root_names_the_version(a):
    assert set(a.get("/")) >= {"version", "commit", "kafka_cluster_id"}


def test_connectors_plain_and_expanded(a):
    assert a.get("/connectors") == ["in", "out"]
    both = a.get("/connectors?expand=status&expand=info")
    assert set(both) == {"in", "out"} and set(both["in"]) == {"status", "info"}
    assert set(a.get("/connectors?expand=info")["in"]) == {"info"}
    assert both["in"]["status"] == a.status("in")


def test_info_and_config(a):
    info = a.get("/connectors/in")
    assert info["name"] == "in" and info["type"] == "source"
    assert info["tasks"] == [{"connector": "in", "task": 0}]
    assert info["config"]["connector.class"] == "FileStreamSource" and info["config"]["name"] == "in"
    assert a.get("/connectors/in/config") == info["config"]
    tasks = a.get("/connectors/in/tasks")
    assert tasks[0]["id"] == {"connector": "in", "task": 0} and "config" in tasks[0]


def test_status_has_connects_shape_and_ours(a):
    host_port = a.url.split("//")[1]
    status = a.status("in")
    assert (status["name"], status["type"]) == ("in", "source")
    assert status["connector"]["state"] == "RUNNING" and status["connector"]["worker_id"] == host_port
    assert {"condition", "restarts", "error"} <= set(status["connector"])
    (task,) = status["tasks"]
    assert TASK_KEYS <= set(task) and "trace" not in task and "lag" not in task
    assert (task["id"], task["state"], task["worker_id"]) == (0, "RUNNING", host_port)
    assert (task["condition"], task["restarts"], task["error"]) == (None, 0, None)
    assert a.get("/connectors/in/tasks/0/status") == task


def test_sink_tasks_show_lag_and_the_idle_ones_run(a):
    wait_until(lambda: sum(t["lag"] for t in a.status("out")["tasks"]) == 0, "no lag")
    tasks = a.status("out")["tasks"]
    assert [t["id"] for t in tasks] == [0, 1, 2] and all(t["state"] == "RUNNING" for t in tasks)


def test_topics(a):
    assert a.get("/topics") == ["lines"]
    described = a.get("/topics/lines")
    assert described["name"] == "lines" and len(described["partitions"]) == 2
    assert {"partition", "start_offset", "end_offset", "bytes", "state", "error"} <= set(described["partitions"][0])


def test_connector_plugins(a):
    classes = {p["class"]: p for p in a.get("/connector-plugins")}
    assert {"FileStreamSource", "FileStreamSink", "SqliteSink"} <= set(classes)
    assert classes["FileStreamSource"]["type"] == "source" and classes["SqliteSink"]["type"] == "sink"
    assert all(re.match(r"\d+\.\d+", p["version"]) for p in classes.values())
    everything = {p["class"]: p["type"] for p in a.get("/connector-plugins?connectorsOnly=false")}
    assert everything.get("StringConverter") == "converter"


@pytest.mark.parametrize("path", ["/connectors/nobody", "/connectors/nobody/status", "/connectors/in/tasks/7/status",
                                  "/topics/nowhere", "/nothing/here"])
def test_what_is_not_there_is_404_with_connects_error_body(a, path):
    status, body = a.request("GET", path)
    assert status == 404 and body["error_code"] == 404 and body["message"]


def test_a_method_that_does_not_fit_is_405(a):
    status, body = a.request("DELETE", "/health")
    assert status == 405 and body["error_code"] == 405


def test_records_over_rest_are_answered_when_durable(host):
    a = host("topics:\n  t: {partitions: 2}\n").start()
    got = a.post_records("t", [{"key": "k", "value": "a"}, {"partition": 1, "value": "b"}, {"key": "k", "value": "c"}])
    assert [set(r) >= {"topic", "partition", "offset"} for r in got] == [True] * 3
    assert got[0]["partition"] == got[2]["partition"] and got[1]["partition"] == 1
    a.kill()
    a.start()
    where = {(r["partition"], r["offset"]): r["value"] for r in a.read("t")}
    assert [where[(r["partition"], r["offset"])] for r in got] == ["a", "b", "c"]


@pytest.mark.parametrize("body", [{"a": 1}, ["x"], [{"partition": 9, "value": "x"}], [{"partition": "x"}]])
def test_bad_records_are_400_and_nothing_is_written(host, body):
    a = host("topics:\n  t: {partitions: 2}\n").start()
    status, answer = a.request("POST", "/topics/t/records", body)
    assert status == 400 and answer["error_code"] == 400
    assert a.ends("t") == [0, 0]


def test_connectors_from_files_refuse_changes_over_rest(a):
    posted = {"name": "in", "config": {"connector.class": "FileStreamSource"}}
    for method, path, sent in [("DELETE", "/connectors/in", {}), ("PUT", "/connectors/in/config", {}),
                               ("PATCH", "/connectors/in/config", {}), ("POST", "/connectors", posted)]:
        status, body = a.request(method, path, sent)
        assert status == 403 and "connectors.d/in.yaml" in body["message"], (method, status, body)
    assert a.get("/connectors") == ["in", "out"]


def test_a_foreign_host_header_is_refused(a):
    import http.client
    connection = http.client.HTTPConnection(a.url.split("//")[1], timeout=10)
    connection.request("GET", "/connectors", headers={"Host": "evil.example"})
    assert connection.getresponse().status in (400, 403, 421)
    connection.close()


def test_health_is_degraded_while_a_pipeline_fails(host):
    a = host("topics:\n  t: {partitions: 1}\n", pipelines={"db": sqlite_sink("db", "t", "no/such/folder/x.db")}).start()
    wait_until(lambda: a.get("/health")["status"] == "degraded", "degraded")
    problems = a.get("/health")["problems"]
    assert problems and problems[0]["connector"] == "db" and set(problems[0]) >= {"connector", "task", "condition", "reason"}
