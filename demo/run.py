"""The demo: runs connectd on a folder's connectd.yaml, says what went in and out, and keeps running.

`./dev run [--dir DIR] [-- ARGS]`; ARGS go to `connectd run`. Ends when connectd does; Ctrl-C stops both.
"""
import argparse
import json
import pathlib
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
TOPIC = "earthquakes"
CONNECTORS = ["earthquakes-in", "earthquakes-table", "earthquakes-file"]
PATIENCE_S = 60


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def lines_in(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def table_rows(path):
    if not path.exists():
        return 0
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        return connection.execute(f'SELECT count(*) FROM "{TOPIC}"').fetchone()[0]
    except sqlite3.OperationalError:
        return 0  # not made yet
    finally:
        connection.close()


def counts(rest, folder):
    """What is where now: (lines in the source's file, records in the topic, rows, lines in the sink's file)."""
    try:
        ends = [p["end_offset"] for p in get(f"{rest}/topics/{TOPIC}")["partitions"]]
    except urllib.error.HTTPError:
        ends = [0]
    return (lines_in(folder / "demo/earthquakes.jsonl"), sum(ends),
            table_rows(folder / "demo/out/earthquakes.db"), lines_in(folder / "demo/out/earthquakes.jsonl"))


def wait_for_all(rest, folder, process):
    """Until as much has come out as went in; the last counts. Looks ten times a second."""
    pause = threading.Event()
    now = counts(rest, folder)
    for _ in range(PATIENCE_S * 10):
        if len(set(now)) == 1 or process.poll() is not None:
            break
        pause.wait(0.1)
        now = counts(rest, folder)
    return now


def tell(rest, folder, before, now, started):
    lines, records, rows, out = now
    print(f"in:  {lines} lines of demo/earthquakes.jsonl -> {records} records in the topic '{TOPIC}' ({records - before[1]} new)")
    print(f"out: {rows} rows in demo/out/earthquakes.db ({rows - before[2]} new), "
          f"{out} lines in demo/out/earthquakes.jsonl ({out - before[3]} new)")
    for name in CONNECTORS:
        state = get(f"{rest}/connectors/{name}/status")
        tasks = ", ".join(f"{t['id']} {t['state']}" for t in state["tasks"])
        print(f"     {name}: {state['connector']['state']} (tasks: {tasks})")
    print(f"see: {rest}/connectors?expand=status  {rest}/topics/{TOPIC}  {rest}/health")
    print(f"     sqlite3 {folder / 'demo/out/earthquakes.db'} \"SELECT id, json_extract(properties, '$.title') "
          f"FROM {TOPIC} LIMIT 3\"")
    print(f"{started}; Ctrl-C stops it", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=pathlib.Path, default=ROOT)
    parser.add_argument("args", nargs="*")
    given = parser.parse_args()
    folder = given.dir.resolve()
    (folder / "demo/out").mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen([ROOT / "build/bin/connectd", "run", *given.args], cwd=folder,
                               stdout=subprocess.PIPE, text=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _: process.send_signal(n))
    ready = process.stdout.readline().rstrip("\n")
    if not ready:
        sys.exit(process.wait())
    print(ready, flush=True)
    rest = re.search(r"rest=(\S+)", ready)[1]
    begun = counts(rest, folder)
    before = begun if (folder / "demo/out/.seen").exists() else (begun[0], 0, 0, 0)
    (folder / "demo/out/.seen").touch()
    now = wait_for_all(rest, folder, process)
    if process.poll() is None:
        tell(rest, folder, before, now, f"running, pid {process.pid}")
    sys.exit(process.wait())


if __name__ == "__main__":
    main()
