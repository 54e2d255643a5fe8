"""Direction: a room includes only what the table names, and what those use; nothing reaches back.

The table is design's, section 2. The same rule is in the CMake targets; this one also sees headers
that happen to be reachable by an include path.
"""
import re

import check_lib

# room: the rooms it may use directly. "sdk" is what a plugin may see: <connectd/...>.
USES = {
    "base": "",
    "sdk": "",
    "codec": "base",
    "net": "base codec",
    "record": "base codec sdk",
    "plog": "base codec record",
    "kafka": "base record",
    "topic": "plog kafka record",
    "registry": "topic record codec net",
    "link": "base record",
    "runner": "link record sdk",
    "pipeline": "topic link registry codec",
    "rest": "pipeline registry net",
    "daemon": "base codec net record plog kafka topic registry link runner pipeline rest",
}
PLUGINS_USE = "sdk base codec net"  # linked in, hidden
# A header of theirs and the only rooms that may include it.
FOREIGN = {
    "librdkafka/rdkafka.h": {"kafka"},
    "librdkafka/rdkafka_mock.h": {"kafka"},
    "dlfcn.h": {"runner"},
    "h2o.h": {"net"},
    "curl/curl.h": {"net"},
    "simdjson.h": {"record"},
    "yaml.h": {"codec"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def reachable(direct):
    """The rooms in `direct` and, through them, all that they use."""
    seen, todo = set(), direct.split()
    while todo:
        room = todo.pop()
        if room not in seen:
            seen.add(room)
            todo += USES[room].split()
    return seen


def room_of(name):
    """Which room a file belongs to; None for files outside the table (tests, templates)."""
    parts = name.split("/")
    if parts[0] == "host" and len(parts) > 2:
        return parts[1]
    if parts[0] == "sdk":
        return "sdk"
    if parts[0] == "plugins" and "tests" not in parts and "test" not in parts:
        return "plugin:" + parts[1]
    return None


def judge(room, header, quoted):
    """Why `room` must not include `header`, or None."""
    plugin = room.startswith("plugin:")
    allowed = reachable(PLUGINS_USE if plugin else USES[room]) | {room}
    if header.startswith("connectd/"):
        return None if "sdk" in allowed else f"{room} may not use the sdk"
    if header.startswith("../") or "/../" in header:
        return "an include path that climbs"
    if header in FOREIGN and room not in FOREIGN[header] and not plugin:
        return f"<{header}> belongs to {', '.join(sorted(FOREIGN[header]))} alone"
    head = header.split("/")[0]
    if not quoted or "/" not in header or head not in USES:
        return None
    return None if head in allowed else f"{room} may not use {head}"


def find(root):
    findings = []
    for name in check_lib.our_files(root, ".c", ".h", ".cc"):
        room = room_of(name)
        if room is None:
            continue
        if not room.startswith("plugin:") and room not in USES:
            findings.append(f"{name}:1: room '{room}' is not in the table of check_deps.py")
            continue
        for number, line in check_lib.lines_of(root, name):
            match = INCLUDE.match(line)
            why = match and judge(room, match[2], match[1] == '"')
            if why:
                findings.append(f"{name}:{number}: {why}: {line.strip()}")
    return findings


if __name__ == "__main__":
    check_lib.main(find, __doc__)
