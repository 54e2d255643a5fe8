"""`connectd check`: every mistake, in one pass, each at its line and column, with the nearest name."""
import os
import textwrap

import pytest

GOOD = """\
topics:
  lines:
    partitions: 2
connectors:
  in:
    connector.class: FileStreamSource
    file: in.txt
    topic: lines
    value.converter: StringConverter
"""

# name, text, expected findings: (line, column or None, key, part of the text)
MISTAKES = [
    ("unknown key", """\
connectors:
  in:
    connector.class: FileStreamSource
    fiel: in.txt
    file: in.txt
    topic: t
""", [(4, 5, "fiel", "did you mean file?")]),
    ("unknown framework key", """\
connectors:
  in:
    connector.class: FileStreamSource
    file: in.txt
    topic: t
    task.max: 2
""", [(6, 5, "task.max", "did you mean tasks.max?")]),
    ("unknown nested key", """\
connectors:
  in:
    connector.class: FileStreamSource
    file: in.txt
    topic: t
    restart:
      backof.ms: 5
""", [(7, 7, "restart.backof.ms", "did you mean restart.backoff.ms?")]),
    ("unknown class", """\
connectors:
  in:
    connector.class: FileStreamSorce
    file: in.txt
    topic: t
""", [(3, None, "connector.class", "did you mean FileStreamSource?")]),
    ("missing required key", """\
connectors:
  in:
    connector.class: FileStreamSource
    file: in.txt
""", [(None, None, "topic", "")]),
    ("a number that is none", """\
connectors:
  in:
    connector.class: FileStreamSource
    file: in.txt
    topic: t
    batch.size: lots
""", [(6, None, "batch.size", "lots")]),
    ("a number out of range", """\
connectors:
  in:
    connector.class: FileStreamSource
    file: in.txt
    topic: t
    tasks.max: 0
""", [(6, None, "tasks.max", "0")]),
    ("a value outside its list", """\
connectors:
  in:
    connector.class: FileStreamSource
    file: in.txt
    topic: t
    restart.policy: sometimes
""", [(6, None, "restart.policy", "sometimes")]),
    ("unknown converter", """\
connectors:
  in:
    connector.class: FileStreamSource
    file: in.txt
    topic: t
    value.converter: StringConvertor
""", [(6, None, "value.converter", "did you mean StringConverter?")]),
    ("a feature of a later issue says so", """\
connectors:
  in:
    connector.class: FileStreamSource
    file: in.txt
    topic: t
    transforms: route
""", [(6, None, "transforms", "")]),
    ("partitions below one", """\
topics:
  t:
    partitions: 0
""", [(3, None, "partitions", "0")]),
    ("an unknown topic config", """\
topics:
  t:
    retention.milis: 5
""", [(3, 5, "retention.milis", "did you mean retention.ms?")]),
    ("a bad topic name", """\
topics:
  "a/b":
    partitions: 1
""", [(None, None, "a/b", "")]),
    ("an unknown section", """\
topic:
  t:
    partitions: 1
""", [(1, 1, "topic", "did you mean topics?")]),
    ("a scalar and a map under one name", """\
connectors:
  in:
    connector.class: FileStreamSource
    file: in.txt
    topic: t
    restart.policy: never
    restart: 5
""", [(None, None, "restart", "")]),
    ("one key twice", """\
connectors:
  in:
    connector.class: FileStreamSource
    file: in.txt
    file: other.txt
    topic: t
""", [(5, None, "file", "")]),
    ("a merge key", """\
connectors:
  in:
    <<: {file: x}
    connector.class: FileStreamSource
    file: in.txt
    topic: t
""", [(3, None, "<<", "")]),
    ("a second document", """\
topics:
  t:
    partitions: 1
---
topics:
  u:
    partitions: 1
""", [(4, None, "", "document")]),
    ("a tab for indentation", "topics:\n\tt: 1\n", [(2, None, "", "")]),
    ("an open bracket", "topics: {t: {partitions: 1}\n", [(None, None, "", "")]),
    ("an alias bomb", "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n",
     [(None, None, "", "")]),
    ("a connector that is no map", """\
connectors:
  in: FileStreamSource
""", [(2, None, "in", "")]),
]


def findings(host, text=None, *args):
    """(exit code, [(file, line, column, key, text)]) of check on one pipeline file or on args."""
    a = host()
    if text is not None:
        a.path("p.yaml").write_text(textwrap.dedent(text))
        args = ("p.yaml",)
    done = a.cli("check", *args)
    found = []
    for line in done.stdout.decode().splitlines():
        name, row, column, rest = line.split(":", 3)
        key, _, what = rest.strip().partition(": ")
        found.append((name, int(row), int(column), key, what))
    return done.returncode, found


def test_a_good_file_has_no_findings(host):
    assert findings(host, GOOD) == (0, [])


@pytest.mark.parametrize("text, expected", [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_found_at_its_place(host, text, expected):
    code, found = findings(host, text)
    assert code == 1 and found
    for line, column, key, said in expected:
        matching = [f for f in found if f[0] == "p.yaml" and (line is None or f[1] == line)
                    and (column is None or f[2] == column) and key in f[3] + f[4] and said in f[3] + f[4]]
        assert matching, f"no finding {(line, column, key, said)} in {found}"
    assert len(found) <= len(expected) + 1 or expected[0][0] is None, f"one mistake, many findings: {found}"
    assert all(f[1] >= 1 and f[2] >= 1 for f in found)


def test_all_mistakes_in_one_pass_sorted_by_file_and_line(host):
    a = host()
    a.path("b.yaml").write_text(
        "topics:\n  t:\n    partition: 2\nconnectors:\n  x:\n    connector.class: FileStreamSink\n"
        "    fil: a\n    topics: t\n    tasks.max: none\n")
    a.path("a.yaml").write_text("topics:\n  u:\n    partitions: x\n")
    done = a.cli("check", "b.yaml", "a.yaml")
    places = [tuple(l.split(":")[:2]) for l in done.stdout.decode().splitlines()]
    places = [(f, int(n)) for f, n in places]
    assert done.returncode == 1
    assert places == sorted(places)
    assert {("a.yaml", 3), ("b.yaml", 3), ("b.yaml", 7), ("b.yaml", 9)} <= set(places)


def test_the_file_is_named_as_given(host):
    a = host()
    a.path("sub").mkdir()
    a.path("sub/p.yaml").write_text("topics:\n  t:\n    partition: 1\n")
    for name in ("sub/p.yaml", "./sub/p.yaml", str(a.path("sub/p.yaml"))):
        assert a.cli("check", name).stdout.decode().startswith(name + ":3:5: ")


def test_an_unreadable_path_is_a_finding(host):
    a = host()
    done = a.cli("check", "nowhere.yaml")
    assert done.returncode == 1 and b"nowhere.yaml:" in done.stdout


def test_a_fifo_is_a_finding_and_nobody_waits_for_its_writer(host):
    a = host(pipelines={"good": GOOD})
    os.mkfifo(a.path("connectors.d/x.yaml"))
    for done in (a.cli("check", "connectors.d/x.yaml"), a.cli("check")):
        assert done.returncode == 1
        assert b"x.yaml:1:1: " in done.stdout and b"not a regular file" in done.stdout, done.stdout
    a.path("in.txt").write_text("one\n")
    a.start().wait_records("lines", 1)
    assert any("x.yaml" in p["reason"] for p in a.get("/health")["problems"])


def test_without_a_path_the_host_config_and_its_folder(host):
    a = host("log.flsh: always\n", pipelines={"p": "topics:\n  t:\n    partition: 1\n"})
    done = a.cli("check")
    text = done.stdout.decode()
    assert done.returncode == 1
    assert "connectd.yaml:" in text and "did you mean log.flush?" in text
    assert "p.yaml:3:5: " in text and "did you mean partitions?" in text


def test_two_files_that_differ_on_a_topic_blame_the_later_by_name(host):
    a = host(pipelines={"a": "topics:\n  t:\n    partitions: 1\n", "b": "topics:\n  t:\n    partitions: 2\n"})
    done = a.cli("check")
    assert done.returncode == 1
    assert [l.split(":")[0].rsplit("/")[-1] for l in done.stdout.decode().splitlines()] == ["b.yaml"]


def test_json_and_properties_files_are_taken_too(host):
    a = host()
    a.path("c.json").write_text(
        '{"name": "j",\n "config": {\n  "connector.class": "FileStreamSource",\n  "file": "x", "topik": "t", "topic": "t"}}\n')
    a.path("d.properties").write_text("name=p\nconnector.class=FileStreamSource\nfile=x\ntopic=t\nbatch.sise=5\n")
    done = a.cli("check", "c.json", "d.properties")
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 1
    assert any(l.startswith("c.json:4:") and "did you mean topic?" in l for l in lines), lines
    assert any(l.startswith("d.properties:5:") and "did you mean batch.size?" in l for l in lines), lines


def test_check_writes_nothing(host):
    a = host(pipelines={"p": GOOD})
    before = sorted(p.name for p in a.dir.iterdir())
    assert a.cli("check").returncode == 0
    assert sorted(p.name for p in a.dir.iterdir()) == before


def test_a_broken_pipeline_file_is_a_problem_and_not_the_hosts_end(host):
    a = host(pipelines={"good": GOOD, "broken": "connectors: {x: \n"})
    a.path("in.txt").write_text("one\n")
    a.start().wait_records("lines", 1)
    health = a.get("/health")
    assert health["status"] == "degraded"
    assert any("broken.yaml" in p["reason"] for p in health["problems"]), health


def test_an_invalid_connector_is_failed_with_its_finding(host):
    a = host(pipelines={"good": GOOD, "bad": GOOD.replace("  in:", "  bad:").replace("file:", "fiel:").replace("topics:\n  lines:\n    partitions: 2\n", "")})
    a.path("in.txt").write_text("one\n")
    a.start().wait_records("lines", 1)
    status = a.wait_status("bad", lambda s: s["connector"]["state"] == "FAILED", "bad is FAILED")
    assert "did you mean file?" in status["connector"]["trace"]
    assert status["tasks"] == []
    a.wait_running("in")
