"""Headers: each one of ours compiles alone; those of the sdk also as C++, and as old C and C++."""
import concurrent.futures
import os
import pathlib
import subprocess
import tempfile

import check_lib

# Folders that stand on a header's include path, below the root.
PATHS = ["host", "sdk/include"]
C = ["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
     "-DH2O_USE_LIBUV=0"]  # as host/net/CMakeLists.txt has it
SDK = [
    ["gcc", "-std=c11", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-pedantic"],
    ["g++", "-std=c++11", "-fsyntax-only", "-Wall", "-Wextra", "-Werror"],
    ["g++", "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror"],
]


def compile_alone(root, name, command, folder):
    """The finding for one header under one compiler, or None."""
    suffix = ".cc" if command[0] == "g++" else ".c"
    source = pathlib.Path(folder) / (f"{abs(hash((name, *command)))}{suffix}")
    source.write_text(f'#include "{root / name}"\n#include "{root / name}"\nint header_alone;\n')
    flags = [f"-I{root / p}" for p in PATHS]
    done = subprocess.run([*command, *flags, source], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    errors = [l for l in done.stderr.splitlines() if "error" in l] or ["failed"]
    return f"{name}:1: does not stand alone with {command[0]} {command[1]}: {errors[0][-160:]}"


def find(root):
    jobs = []
    for name in check_lib.our_files(root, ".h"):
        if name.startswith("sdk/include/"):
            jobs += [(name, command) for command in SDK]
        elif name.startswith("host/"):
            jobs.append((name, C))
    with tempfile.TemporaryDirectory() as folder, \
            concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda job: compile_alone(root, *job, folder), jobs)
        return [f for f in found if f]


if __name__ == "__main__":
    check_lib.main(find, __doc__)
