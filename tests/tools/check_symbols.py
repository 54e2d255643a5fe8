"""Symbols: what host/x exports starts with x_; a plugin exports ctd_module_v1 and nothing else.

Reads the release build's archives and plugins with nm, so C++ files count too.
"""
import re
import subprocess

import check_lib

# A room may have more than one prefix: base is a box of small tools, record has its batch codec.
PREFIXES = {
    "base": "err_ buf_ cursor_ arena_ map_ slice_ str_ clock_ log_ mutex_ cond_ thread_ file_",
    "codec": "codec_ json_ yaml_ varint_ crc32c_",
    "daemon": "daemon_ main",
}
# Not U (wanted), V and W (weak: templates of a C++ library that got instantiated here).
DEFINED = re.compile(r"^(?:[0-9a-f]+)? *([A-TX-Z]) (\S+)$")
ENTRY = "ctd_module_v1"


def nm(path, *options):
    out = subprocess.run(["nm", *options, path], capture_output=True, text=True, check=True).stdout
    found = (DEFINED.match(line) for line in out.splitlines())
    return sorted({m[2] for m in found if m})


def find(root):
    findings = []
    build = root / "build"
    archives = sorted(build.glob("host/*/lib*.a"))
    if not archives:
        return [f"{build}: no archive of host/: ./dev build first"]
    for archive in archives:
        room = archive.parent.name
        prefixes = tuple(PREFIXES.get(room, room + "_").split())
        for symbol in nm(archive, "--defined-only", "--extern-only"):
            if not symbol.startswith(prefixes):
                findings.append(f"{archive.relative_to(root)}: {symbol} does not start with {' or '.join(prefixes)}")
    for plugin in sorted(build.glob("plugins/*.so")):
        exports = nm(plugin, "--dynamic", "--defined-only", "--extern-only")
        if exports != [ENTRY]:
            extra = [s for s in exports if s != ENTRY]
            findings.append(f"{plugin.relative_to(root)}: exports {', '.join(extra[:5]) or 'nothing'}, not {ENTRY} alone")
    return findings


if __name__ == "__main__":
    check_lib.main(find, __doc__)
