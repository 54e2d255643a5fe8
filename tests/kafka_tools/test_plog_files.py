"""Kafka 3.9.1's dump tool reads what host/plog wrote by itself: rolled, continued after a clean stop and after a
crash, through the journal and straight. Every segment and both indexes, without a complaint."""
import re
import struct
import subprocess

import pytest
from connectd import BUILD
from test_kafka_reads import COMPLAINTS, dump, jars  # noqa: F401  (jars is a fixture)


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Folders of logs, each cleanly closed."""
    writer = BUILD / "tests" / "test_plog"
    assert writer.exists(), f"no {writer}: ./dev build"
    folder = tmp_path_factory.mktemp("plog")
    subprocess.run([writer, "--write-topics", folder], check=True, timeout=120, capture_output=True)
    data = sorted(folder.iterdir())
    assert [d.name for d in data] == ["redo", "redo-crashed", "straight", "straight-crashed"]
    return data


def sane(jars, option, *files):
    """The complaints of one of the tool's index checks."""
    done = subprocess.run(["java", "-Xmx256m", "-cp", jars, "kafka.tools.DumpLogSegments", option, "--files",
                           ",".join(map(str, files))], capture_output=True, text=True, timeout=300, check=False)
    told = [l for l in (done.stdout + done.stderr).splitlines() if not l.startswith("SLF4J")]
    return [l for l in told if COMPLAINTS.search(l)] + ([f"exit {done.returncode}"] if done.returncode else [])


def entries(path, form):
    return [struct.unpack_from(form, path.read_bytes(), at) for at in range(0, path.stat().st_size, struct.calcsize(form))]


def test_every_segment_and_index(written, jars):  # noqa: F811
    for data in written:
        segments = sorted(data.glob("log/*/*.log"))
        assert len([s for s in segments if s.parent.name == "rolls-0"]) >= 4, "it was to roll"
        indexes = [s.with_suffix(".index") for s in segments]
        times = [s.with_suffix(".timeindex") for s in segments]
        assert all(f.exists() for f in indexes + times)
        text, complaints = dump(jars, *segments, *indexes, *times)
        assert not complaints, complaints[:5]
        assert len(re.findall(r"^baseOffset: ", text, re.M)) > 1500
        assert not sane(jars, "--index-sanity-check", *indexes, *times)
        assert not sane(jars, "--verify-index-only", *segments, *indexes)


def test_indexes_are_worth_reading(written):
    """What the tool doesn't ask: entries are there, rise strictly, and the last time is the segment's largest."""
    for data in written:
        dense = data / "log/dense-0/00000000000000000000"
        index = entries(dense.with_suffix(".index"), ">ii")
        assert len(index) > 50
        for segment in data.glob("log/*/*.log"):
            index = entries(segment.with_suffix(".index"), ">ii")
            times = entries(segment.with_suffix(".timeindex"), ">qi")
            assert all(a[0] < b[0] and a[1] < b[1] for a, b in zip(index, index[1:]))
            assert all(a[0] < b[0] and a[1] < b[1] for a, b in zip(times, times[1:]))
            bytes_, at, largest = segment.read_bytes(), 0, -1
            while at < len(bytes_):
                length, = struct.unpack_from(">i", bytes_, at + 8)
                largest = max(largest, struct.unpack_from(">q", bytes_, at + 35)[0])
                at += 12 + length
            assert at == len(bytes_)
            assert (times[-1][0] if times else -1) == largest
        assert not list((data / "journal").glob("*.journal")), "a clean stop empties the journal"


def test_the_check_hears_a_wrong_index(written, jars, tmp_path):  # noqa: F811
    """The control: one entry that points elsewhere."""
    segment = sorted((written[0] / "log/rolls-0").glob("*.log"))[0]
    for suffix in (".log", ".index"):
        source = segment.with_suffix(suffix)
        raw = bytearray(source.read_bytes())
        if suffix == ".index":
            raw[8 + 3] ^= 1
        (tmp_path / source.name).write_bytes(raw)
    log, index = tmp_path / segment.name, tmp_path / segment.with_suffix(".index").name
    assert sane(jars, "--verify-index-only", log, index)
