"""What the checks share: the list of files that are ours, and how findings are printed.

A check is a function find(root) -> list of "FILE:LINE: text"; main(find) makes a script of it:
one finding a line on stdout, exit 1 if there is any. `--root DIR` lets a self-test plant one.
"""
import argparse
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def our_files(root, *suffixes):
    """Files of the tree, tracked or about to be, as paths relative to root; all of them without suffixes."""
    if (root / ".git").exists():
        out = subprocess.run(
            ["git", "-C", root, "ls-files", "-z", "-co", "--exclude-standard"],
            check=True, capture_output=True).stdout
        names = {os.fsdecode(n) for n in out.split(b"\0") if n}
    else:
        names = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    return sorted(n for n in names
                  if (not suffixes or n.endswith(suffixes)) and (root / n).is_file())


def lines_of(root, name):
    """(number, text) of a text file's lines; nothing for a binary one."""
    data = (root / name).read_bytes()
    if b"\0" in data[:8192]:
        return []
    return list(enumerate(data.decode("utf-8", "replace").splitlines(), 1))


def main(find, doc):
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--root", type=pathlib.Path, default=ROOT)
    findings = find(parser.parse_args().root.resolve())
    for finding in findings:
        print(finding)
    sys.exit(1 if findings else 0)
