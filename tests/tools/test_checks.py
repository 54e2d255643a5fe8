"""Every check is shown a planted violation and must name it; a clean tree must pass."""
import pathlib
import subprocess
import textwrap

import check_banned
import check_deps
import check_format
import check_headers
import check_symbols
import check_text
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def plant(tmp_path):
    """plant("host/x/y.c", text) writes a file of a small tree; plant.root is the tree."""
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path
    write.root = tmp_path
    return write


def test_deps_finds_what_reaches_back(plant):
    plant("host/plog/plog.c", '#include "plog/plog.h"\n#include "topic/topic.h"\n')
    assert check_deps.find(plant.root) == [
        'host/plog/plog.c:2: plog may not use topic: #include "topic/topic.h"']


def test_deps_finds_a_plugin_in_the_host_and_the_host_in_a_plugin(plant):
    plant("plugins/x/x.c", '#include <connectd/abi.h>\n#include "base/buf.h"\n#include "plog/plog.h"\n')
    plant("host/topic/topic.c", '#include "../../plugins/x/x.h"\n')
    assert [f.split(":")[0] for f in check_deps.find(plant.root)] == ["host/topic/topic.c", "plugins/x/x.c"]


def test_deps_finds_a_foreign_header_in_the_wrong_room(plant):
    plant("host/topic/kafka.c", "#include <librdkafka/rdkafka.h>\n")
    assert "belongs to kafka alone" in check_deps.find(plant.root)[0]


def test_deps_finds_a_room_that_nobody_named(plant):
    plant("host/attic/attic.c", "")
    assert "not in the table" in check_deps.find(plant.root)[0]


def test_deps_takes_what_the_table_allows(plant):
    plant("host/topic/topic.c", '#include "plog/plog.h"\n#include "base/err.h"\n#include <string.h>\n')
    plant("plugins/x/x.c", '#include <connectd/abi.h>\n#include "base/buf.h"\n')
    assert check_deps.find(plant.root) == []


@pytest.mark.parametrize("name", sorted(check_banned.BANNED))
def test_banned_finds_each(plant, name):
    plant("host/base/x.c", f"int f(void)\n{{\n    return {name} (0);\n}}\n")
    assert check_banned.find(plant.root)[0].startswith(f"host/base/x.c:3: {name}()")


def test_banned_passes_words_and_longer_names(plant):
    plant("host/base/x.c", '/* strcpy(a) */\nconst char *s = "system(1)";\nint my_rand(void);\nvoid g(void)\n{\n    p->signal(1);\n}\n')
    assert check_banned.find(plant.root) == []


@pytest.mark.parametrize("line", [
    "see /" + "home/me/notes", "built in /" + "work/main", "TO" + "DO: later", "FIX" + "ME", "a XX" + "X b"])
def test_text_finds_each(plant, line):
    plant("docs/x.md", f"fine\n{line}\n")
    assert check_text.find(plant.root)[0].startswith("docs/x.md:2: ")


def test_text_finds_sleeping_tests(plant):
    plant("tests/scenario/test_x.py", "time.sl" + "eep(1)\n")
    plant("host/base/x.c", "nanosl" + "eep(&t, NULL);\n")
    assert [f.split(":")[0] for f in check_text.find(plant.root)] == ["tests/scenario/test_x.py"]


def test_text_passes_paths_of_the_system(plant):
    plant("docs/x.md", "/proc/self/fd, /usr/bin, $HOME/work, homework/, workshop\n")
    assert check_text.find(plant.root) == []


def test_format_finds_a_crooked_file(plant):
    (plant.root / ".clang-format").write_text((ROOT / ".clang-format").read_text())
    plant("host/base/x.c", "int a;\nint   b;\n")
    plant("host/base/y.c", "int a;\n")
    assert check_format.find(plant.root) == ["host/base/x.c:2: not as clang-format lays it out: ./dev format"]


def test_headers_finds_one_that_needs_another(plant):
    plant("host/base/good.h", "#ifndef G\n#define G\n#include <stddef.h>\nsize_t f(void);\n#endif\n")
    plant("host/base/needs.h", "#ifndef N\n#define N\nsize_t g(void);\n#endif\n")
    found = check_headers.find(plant.root)
    assert len(found) == 1 and found[0].startswith("host/base/needs.h:1:")


def test_headers_finds_one_without_a_guard(plant):
    plant("host/base/twice.h", "struct s { int a; };\n")
    assert check_headers.find(plant.root)[0].startswith("host/base/twice.h:1:")


def test_headers_finds_an_sdk_header_that_cxx_refuses(plant):
    plant("sdk/include/connectd/x.h", "#ifndef X\n#define X\nint new(int class);\n#endif\n")
    assert {"g++"} == {f.split(" with ")[1].split()[0] for f in check_headers.find(plant.root)}


def compile_into(root, source, target, *options):
    (root / target).parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", *options, "-x", "c", "-", "-o", root / target],
                   input=textwrap.dedent(source), text=True, check=True)


def archive(root, room, source):
    compile_into(root, source, f"{room}.o", "-c")
    target = root / f"build/host/{room}/lib{room}.a"
    target.parent.mkdir(parents=True)
    subprocess.run(["ar", "rc", target, root / f"{room}.o"], check=True)


def test_symbols_finds_a_wrong_prefix(plant):
    archive(plant.root, "plog", "int plog_a; int helper(void) { return 0; } static int b; int *c(void) { return &b; }")
    found = check_symbols.find(plant.root)
    assert [f.split()[1] for f in found] == ["c", "helper"]


def test_symbols_takes_every_prefix_of_base(plant):
    archive(plant.root, "base", "int buf_a; void mutex_b(void) {}")
    assert check_symbols.find(plant.root) == []


def test_symbols_finds_a_plugin_that_exports_more(plant):
    archive(plant.root, "base", "int buf_a;")
    compile_into(plant.root, "void ctd_module_v1(void) {} void extra(void) {}", "build/plugins/loud.so", "-shared", "-fPIC")
    compile_into(plant.root, "void ctd_module_v1(void) {}", "build/plugins/good.so", "-shared", "-fPIC")
    compile_into(plant.root, "static int a; int *p = &a;", "build/plugins/none.so", "-shared", "-fPIC", "-fvisibility=hidden")
    found = check_symbols.find(plant.root)
    assert len(found) == 2 and "loud.so: exports extra" in found[0] and "none.so: exports nothing" in found[1]


def test_symbols_needs_a_build(plant):
    assert "dev build" in check_symbols.find(plant.root)[0]
