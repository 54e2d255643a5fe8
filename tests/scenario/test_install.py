"""`cmake --install`: what the contract names lies where it says, and runs from there."""
import re
import subprocess

import connectd
import pytest
from connectd import rows, wait_until
from pipelines import file_source, sqlite_sink


def cached(name):
    """What the build was configured with: the folders of GNUInstallDirs, as built."""
    text = (connectd.BUILD / "CMakeCache.txt").read_text()
    return re.search(rf"^{name}:\w+=(.*)$", text, re.M)[1]


@pytest.fixture
def prefix(tmp_path):
    where = tmp_path / "prefix"
    done = subprocess.run(["cmake", "--install", connectd.BUILD, "--prefix", where],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return where


def test_everything_lies_where_the_contract_says(prefix):
    lib = cached("CMAKE_INSTALL_LIBDIR")
    promised = ["bin/connectd", "libexec/connectd/connectd-runner", "include/connectd/abi.h", "include/connectd/sdk.h",
                f"{lib}/libconnectd_sdk.a", f"{lib}/cmake/connectd/connectd-config.cmake",
                f"{lib}/pkgconfig/connectd.pc"]
    promised += [f"{lib}/connectd/plugins/{p}.so" for p in ("FileStreamSource", "FileStreamSink", "SqliteSink")]
    promised += [f"share/connectd/template/{t}/{f}" for t in ("source", "sink") for f in ("CMakeLists.txt", "Makefile")]
    assert [p for p in promised if not (prefix / p).is_file()] == []
    plugins = sorted(p.name for p in (prefix / lib / "connectd/plugins").iterdir())
    assert plugins == ["FileStreamSink.so", "FileStreamSource.so", "SqliteSink.so"], "no fixture, no template"


def test_an_installed_host_runs_with_its_own_runner_and_plugins(host, prefix, monkeypatch):
    a = host("topics:\n  lines:\n    partitions: 2\n",
             pipelines={"in": file_source("in", "in.txt", "lines"), "db": sqlite_sink("db", "lines", "out.db")})
    a.path("in.txt").write_text('{"id":1}\n{"id":2}\n')
    monkeypatch.setattr(connectd, "binary", lambda: prefix / "bin/connectd")
    a.start()
    wait_until(lambda: rows(a.path("out.db"), "SELECT id FROM lines ORDER BY id") == [(1,), (2,)], "two rows")
    assert a.stop() == 0
