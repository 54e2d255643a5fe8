"""Layout: clang-format over all C and C++ of ours. `--fix` writes it, `--check` (the default) only looks."""
import argparse
import pathlib
import subprocess
import sys

import check_lib

TOOL = "clang-format-14"


def files(root):
    return check_lib.our_files(root, ".c", ".h", ".cc")


def find(root):
    """A line for each file that clang-format would change, with the first place in it."""
    findings = []
    for name in files(root):
        text = (root / name).read_bytes()
        done = subprocess.run([TOOL, "--style=file", f"--assume-filename={root / name}"],
                              input=text, stdout=subprocess.PIPE, check=True).stdout
        if done != text:
            pairs = zip(text.split(b"\n"), done.split(b"\n"))
            at = next((i for i, (a, b) in enumerate(pairs, 1) if a != b), 1)
            findings.append(f"{name}:{at}: not as clang-format lays it out: ./dev format")
    return findings


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=pathlib.Path, default=check_lib.ROOT)
    parser.add_argument("--fix", action="store_true")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.fix:
        names = [str(args.root / n) for n in files(args.root)]
        subprocess.run([TOOL, "-i", "--style=file", *names], check=True)
        return
    findings = find(args.root.resolve())
    print("\n".join(findings), end="\n" if findings else "")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
