"""Banned functions, in what we ship: each has a safer one beside it, named here."""
import re

import check_lib

BANNED = {
    "strcpy": "memcpy with a checked length, or buf_append_str",
    "stpcpy": "memcpy with a checked length",
    "strcat": "buf_append_str",
    "strncpy": "memcpy with a checked length",
    "strncat": "buf_append",
    "sprintf": "snprintf or buf_printf",
    "vsprintf": "vsnprintf",
    "atoi": "str_to_i64",
    "atol": "str_to_i64",
    "atoll": "str_to_i64",
    "atof": "str_to_f64",
    "strtok": "strchr, or strtok_r where it must be",
    "gets": "file_read",
    "alloca": "the arena",
    "rand": "getrandom",
    "srand": "getrandom",
    "random": "getrandom",
    "system": "posix_spawn",
    "popen": "posix_spawn",
    "mktemp": "mkstemp",
    "tmpnam": "mkstemp",
    "usleep": "a condition or a timer",
}
CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
# Comments and string literals hold words, not calls.
NOISE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)


def blank(match):
    return re.sub(r"[^\n]", " ", match[0])


def find(root):
    findings = []
    for name in check_lib.our_files(root, ".c", ".h", ".cc"):
        if name.startswith("tests/"):
            continue
        text = NOISE.sub(blank, (root / name).read_text("utf-8", "replace"))
        for number, line in enumerate(text.split("\n"), 1):
            for match in CALL.finditer(line):
                findings.append(f"{name}:{number}: {match[1]}(): use {BANNED[match[1]]}")
    return findings


if __name__ == "__main__":
    check_lib.main(find, __doc__)
