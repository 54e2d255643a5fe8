"""All checks of the tree, one after the other: `./dev check`."""
import importlib
import pathlib
import sys

import check_lib

NAMES = ["format", "deps", "symbols", "headers", "banned", "text"]


def run(root=check_lib.ROOT):
    """(name, findings) of every check."""
    for name in NAMES:
        yield name, importlib.import_module(f"check_{name}").find(pathlib.Path(root))


if __name__ == "__main__":
    failed = 0
    for check, found in run():
        print(f"{check}: {'ok' if not found else f'{len(found)} finding(s)'}")
        for line in found:
            print(f"  {line}")
        failed += bool(found)
    sys.exit(1 if failed else 0)
