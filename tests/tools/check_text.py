"""Text: no path of somebody's machine, no work left behind in words, no sleeping in tests.

A person who clones the project must be able to follow every path that it mentions.
"""
import re

import check_lib

# Built from pieces, so that this file does not find itself.
RULES = [
    ("a machine's path", re.compile(r"(?<![\w.}/$-])/(?:" + "|".join(["work", "home", "Users"]) + r")/[A-Za-z]"), ()),
    ("a machine's path", re.compile(r"/tmp/" + "b-[a-z]"), ()),
    ("work left to do", re.compile(r"\b(?:" + "|".join(["TO" "DO", "FIX" "ME", "XX" "X"]) + r")\b"), ()),
    ("wait for the event instead of sleeping",
     re.compile(r"\b(?:time\.sl" r"eep|(?<!\.)\b(?:u|nano)?sl" r"eep)\s*\("), ("tests/", "plugins/")),
]
SUFFIXES = (".c", ".h", ".cc", ".py", ".sh", ".md", ".yaml", ".yml", ".txt", ".cmake", ".json", "dev", "run")


def find(root):
    findings = []
    for name in check_lib.our_files(root, *SUFFIXES):
        for number, line in check_lib.lines_of(root, name):
            for what, pattern, only in RULES:
                if only and not name.startswith(only):
                    continue
                match = pattern.search(line)
                # A fixture plugin that hangs on purpose has to sleep: that is its whole work.
                if match and not (only and name.startswith("tests/fixtures/")):
                    findings.append(f"{name}:{number}: {what}: {line.strip()[:90]}")
    return findings


if __name__ == "__main__":
    check_lib.main(find, __doc__)
