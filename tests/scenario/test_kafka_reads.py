"""Kafka 3.9.1's own dump tool reads every segment and index after a clean stop, without a complaint."""
import re
import subprocess

import pytest
from connectd import ROOT
from pipelines import file_source

JARS = ROOT / "build/kafka-3.9.1"
COMPLAINTS = re.compile(r"(?i)mismatch|non-consecutive|isvalid: false|invalid|corrupt|exception|out of order|could not|error")


@pytest.fixture(scope="session")
def jars():
    """Kafka's jars from Maven Central, fetched once into build/."""
    if not list(JARS.glob("kafka_2.13-3.9.1.jar")):
        subprocess.run(["mvn", "-q", "-B", "-f", ROOT / "tests/tools/kafka/pom.xml", "dependency:copy-dependencies",
                        f"-DoutputDirectory={JARS}", "-DincludeScope=runtime"], check=True, timeout=600)
    return f"{JARS}/*"


def dump(jars, *files):
    """What the tool prints about these files, and its complaints."""
    done = subprocess.run(["java", "-Xmx256m", "-cp", jars, "kafka.tools.DumpLogSegments", "--deep-iteration",
                           "--print-data-log", "--files", ",".join(map(str, files))],
                          capture_output=True, text=True, timeout=300, check=False)
    text = done.stdout + done.stderr
    # The payloads are ours, and SLF4J says that it has no logger.
    told = [l for l in text.splitlines() if " payload: " not in l and not l.startswith("SLF4J")]
    complaints = [l for l in told if COMPLAINTS.search(l.replace("isvalid: true", ""))]
    if done.returncode != 0:
        complaints.append(f"exit {done.returncode}")
    return text, complaints


@pytest.fixture
def stopped(host):
    """A data directory with many segments, several writers and units over two partitions, cleanly stopped."""
    a = host("topics:\n  t: {partitions: 2, segment.bytes: 65536}\n  lines: {partitions: 2, segment.bytes: 65536}\n",
             pipelines={"in": file_source("in", "in.txt", "lines", batch_size=100)})
    a.path("in.txt").write_bytes((ROOT / "tests/data/flights.jsonl").read_bytes())
    a.start()
    for i in range(20):
        records = [{"key": f"k{j}", "value": f"{i}-{j} " + "x" * 200} for j in range(100)]
        a.post_records("t", records)
    a.wait_records("lines", 2000)
    assert a.stop() == 0
    return a


def test_kafkas_dump_tool_reads_every_segment_and_index(stopped, jars):
    segments = sorted(stopped.data.glob("log/*/*.log"))
    assert len([s for s in segments if s.parent.name.startswith("lines-")]) >= 3, "it was to roll"
    files = [f for s in segments for f in (s, s.with_suffix(".index"), s.with_suffix(".timeindex"))]
    assert [f for f in files if not f.is_file()] == [], "a clean stop leaves both indexes of each segment"
    text, complaints = dump(jars, *files)
    assert not complaints, complaints[:5]
    payloads = re.findall(r"^.* payload: (.*)$", text, re.M)
    lines = (ROOT / "tests/data/flights.jsonl").read_text().splitlines()
    assert sorted(p for p in payloads if p.startswith("{\"date\"")) == sorted(lines)
    assert sum(bool(re.match(r"\d+-\d+ x", p)) for p in payloads) == 2000


def test_the_tool_is_heard_when_it_complains(stopped, jars):
    """The control: one flipped bit in a record, and the test above would fail."""
    segment = max(stopped.data.glob("log/t-*/*.log"), key=lambda p: p.stat().st_size)
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0x10
    segment.write_bytes(data)
    assert dump(jars, segment)[1]
