"""Text: no path of somebody's machine, no work left behind in words, no sleeping in tests.

A person who clones the project must be able to follow every path that it mentions.
"""
import re

import check_lib

# (what, pattern, files or None for all). Built from pieces, so that this file does not find itself.
# A fixture plugin that hangs on purpose has to sleep: that is its whole work.
RULES = [
    ("a machine's path", re.compile(r"(?<![\w.}/$-])/(?:" + "|".join(["work", "home", "Users"]) + r")/[A-Za-z]"), None),
    ("a machine's path", re.compile(r"/tmp/" + "b-[a-z]"), None),
    ("work left to do", re.compile(r"\b(?:" + "|".join(["TO" "DO", "FIX" "ME", "XX" "X"]) + r")\b"), None),
    ("wait for the event instead of sleeping",
     re.compile(r"\b(?:time\.sl" r"eep|(?<!\.)\b(?:u|nano)?sl" r"eep)\s*\("), re.compile(r"tests/(?!fixtures/)|plugins/[^/]+/tests?/")),
]
SUFFIXES = (".c", ".h", ".cc", ".py", ".sh", ".md", ".yaml", ".yml", ".txt", ".cmake", ".json", "dev", "run")


def find(root):
    findings = []
    for name in check_lib.our_files(root, *SUFFIXES):
        for number, line in check_lib.lines_of(root, name):
            for what, pattern, only in RULES:
                if only and not only.match(name):
                    continue
                if pattern.search(line):
                    findings.append(f"{name}:{number}: {what}: {line.strip()[:90]}")
    return findings


if __name__ == "__main__":
    check_lib.main(find, __doc__)
