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
BINARY = ROOT / "build/bin/connectd"
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


def sum_of_ends(described):
    return sum(p["end_offset"] for p in described["partitions"])


def records_before(folder):
    """Records in the topic while no host runs: the CLI reads the log itself."""
    done = subprocess.run([BINARY, "topic", "describe", TOPIC, "--format", "json", "--data", folder / "data"],
                          capture_output=True, check=False)
    return sum_of_ends(json.loads(done.stdout)) if done.returncode == 0 else 0


def records_now(rest):
    try:
        return sum_of_ends(get(f"{rest}/topics/{TOPIC}"))
    except urllib.error.HTTPError:
        return 0  # not made yet


def counts(folder, records):
    """What is where: (lines in the source's file, records in the topic, rows, lines in the sink's file)."""
    return (lines_in(folder / "demo/earthquakes.jsonl"), records,
            table_rows(folder / "demo/out/earthquakes.db"), lines_in(folder / "demo/out/earthquakes.jsonl"))


def wait_for_all(rest, folder, process):
    """Until as much has come out as went in; the last counts. Looks ten times a second."""
    pause = threading.Event()
    now = counts(folder, records_now(rest))
    for _ in range(PATIENCE_S * 10):
        if len(set(now)) == 1 or process.poll() is not None:
            break
        pause.wait(0.1)
        now = counts(folder, records_now(rest))
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


def watch(process, folder, before):
    """Until connectd ends; the exit status to end with."""
    ready = process.stdout.readline().rstrip("\n")
    if not ready:
        return process.wait()
    print(ready, flush=True)
    rest = re.search(r"rest=(\S+)", ready)[1]
    now = wait_for_all(rest, folder, process)
    if process.poll() is None:
        tell(rest, folder, before, now, f"running, pid {process.pid}")
    return process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=pathlib.Path, default=ROOT)
    parser.add_argument("args", nargs="*")
    given = parser.parse_args()
    folder = given.dir.resolve()
    (folder / "demo/out").mkdir(parents=True, exist_ok=True)
    before = counts(folder, records_before(folder))
    process = subprocess.Popen([BINARY, "run", *given.args], cwd=folder, stdout=subprocess.PIPE, text=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _: process.send_signal(n))
    try:
        sys.exit(watch(process, folder, before))
    finally:
        if process.poll() is None:  # nobody reads what is printed any more
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
