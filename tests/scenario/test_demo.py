"""`./dev run`: the demo, counted; a second run adds nothing."""
import json
import shutil
import signal
import subprocess
import threading

import connectd
import pytest
from connectd import ROOT, rows


@pytest.fixture
def folder(tmp_path):
    for name in ("connectd.yaml", "connectors.d/earthquakes.yaml", "demo/earthquakes.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    yield tmp_path
    for pid in connectd.users_of(tmp_path):
        connectd.kill_if_alive(pid)


def run_demo(folder):
    """Runs until it says that it keeps running, then ends it: what it printed."""
    process = subprocess.Popen([ROOT / "dev", "run", "--dir", folder, "--", "--set", "listeners=http://127.0.0.1:0"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    printed, errors = [], []
    threading.Thread(target=lambda: errors.append(process.stderr.read()), daemon=True).start()

    def read():
        for line in process.stdout:
            printed.append(line.rstrip("\n"))
            if line.startswith("running, pid"):
                return
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(120)
    try:
        assert printed and printed[-1].startswith("running, pid"), (printed, errors)
        assert process.poll() is None, "it keeps running"
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)
        process.stdout.close()
    assert code == 0
    return "\n".join(printed)


def test_the_demo_streams_all_and_a_second_run_adds_nothing(folder):
    if connectd.SANITIZED:
        pytest.skip("./dev run is the release build's")
    said = run_demo(folder)
    assert "500 lines" in said and "-> 500 records in the topic 'earthquakes' (500 new)" in said
    assert "500 rows" in said and "(500 new)" in said and "http://127.0.0.1:" in said
    source = (folder / "demo/earthquakes.jsonl").read_text().splitlines()
    out = (folder / "demo/out/earthquakes.jsonl").read_text().splitlines()
    assert sorted(out) == sorted(source)
    found = rows(folder / "demo/out/earthquakes.db", "SELECT id, properties FROM earthquakes")
    assert {i: json.loads(p)["title"] for i, p in found} == {
        q["id"]: q["properties"]["title"] for q in map(json.loads, source)}
    said = run_demo(folder)
    assert "500 records in the topic 'earthquakes' (0 new)" in said
    assert "500 rows in demo/out/earthquakes.db (0 new), 500 lines in demo/out/earthquakes.jsonl (0 new)" in said
