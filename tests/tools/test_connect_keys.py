"""docs/connect-keys.md lists exactly the keys that host/pipeline/options.c takes without effect or refuses."""
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECTIONS = {"Worker keys": "host", "Connector keys": "connector", "Topic configs": "topic"}
STATES = {"Accepted, without effect": "IGNORED", "Not built yet": "LATER", "Kept, without effect yet": "KEPT"}


def in_code(text):
    """{(table, state, key)} of the option tables, but for what is built."""
    found = set()
    for table, rows in re.findall(r"struct option (\w+)_options\[\] = \{(.*?)\n\};", text, re.S):
        for key, state in re.findall(r'\{"([^"]+)",\s*OPTION_\w+,\s*OPTION_(\w+),', rows):
            if state != "BUILT":
                found.add((table, state, key + "*" if key.endswith(".") else key))
    return found


def in_page(text):
    """The same of the page: the backticked words in the first column of its tables, by heading."""
    found, table, state = set(), None, None
    for line in text.splitlines():
        if line.startswith("## "):
            table = SECTIONS[line[3:].split(" (")[0]]
        elif line.startswith("### "):
            state = STATES[line[4:]]
        elif table and line.startswith("| `"):
            found |= {(table, state, key) for key in re.findall(r"`([^`]+)`", line.split("|")[1])}
    return found


def test_the_page_and_the_tables_agree():
    code = in_code((ROOT / "host/pipeline/options.c").read_text())
    page = in_page((ROOT / "docs/connect-keys.md").read_text())
    assert {table for table, _, _ in code} == set(SECTIONS.values()) and len(code) > 50
    assert sorted(code - page) == [], "not on the page"
    assert sorted(page - code) == [], "on the page only"


def test_both_readers_see_a_planted_row():
    """The control: each reader finds what the other lacks."""
    code = 'static const struct option host_options[] = {\n    {"x.", OPTION_STRING, OPTION_LATER, NULL},\n};\n'
    page = "## Worker keys (a)\n\n### Accepted, without effect\n\n| keys | why |\n| --- | --- |\n| `y`, `z.*` | w `v` |\n"
    assert in_code(code) == {("host", "LATER", "x.*")}
    assert in_page(page) == {("host", "IGNORED", "y"), ("host", "IGNORED", "z.*")}
