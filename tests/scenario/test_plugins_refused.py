"""Plugins that must not be loaded: each is refused by name and reason, and nobody else suffers."""
import os
import subprocess

import connectd
import pytest
from pipelines import file_source, topic

SOURCE = """
#include <connectd/abi.h>
#include <poll.h>
static ctd_status create(const ctd_host *h, const ctd_config *c, void **s, ctd_error *e)
{ (void)h; (void)c; (void)e; *s = (void *)1; return CTD_OK; }
static void destroy(void *s) { (void)s; }
static ctd_status start(void *s, ctd_error *e) { (void)s; (void)e; return CTD_OK; }
static ctd_status poll_(void *s, uint32_t m, uint32_t t, ctd_batch *b, ctd_error *e)
{ (void)s; (void)m; (void)e; (void)poll(0, 0, (int)t); b->n = 0; return CTD_OK; }
static void cancel(void *s) { (void)s; }
static const ctd_source ops = { .base = { .struct_size = sizeof(ctd_source), .create = create, .destroy = destroy },
    .start = start, .poll = poll_, .cancel = cancel, .stop = start };
static const ctd_class classes[] = {{ .struct_size = sizeof(ctd_class), .kind = CTD_KIND_SOURCE, .name = "Odd",
    .version = "1.0", .doc = "odd", .config_stride = sizeof(ctd_config_key), .ops = &ops.base }};
static const ctd_module module = { .magic = MAGIC, .struct_size = sizeof(ctd_module), .abi_minor = MINOR,
    .min_host_minor = MIN_HOST, .n_classes = 1, .class_stride = sizeof(ctd_class), .classes = classes };
CTD_EXPORT const ctd_module *ENTRY(void) { return &module; }
"""


def compile_plugin(path, entry="ctd_module_v1", magic="CTD_ABI_MAGIC_DRAFT", minor="CTD_ABI_MINOR", min_host="0",
                   extra=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-shared", "-fPIC", "-fvisibility=hidden", f"-I{connectd.ROOT / 'sdk/include'}",
                    f"-DENTRY={entry}", f"-DMAGIC={magic}", f"-DMINOR={minor}", f"-DMIN_HOST={min_host}",
                    "-x", "c", "-", "-o", path], input=SOURCE + extra, text=True, check=True)


@pytest.fixture
def a(host):
    """A host with a plugin folder of its own beside the real one, and a pipeline that must go on."""
    one = host(f"plugin.path: {connectd.BUILD / 'plugins'},./more\n", pipelines={
        "t": topic("lines", 1), "in": file_source("in", "in.txt", "lines"),
        "odd": connectd.flat_config("odd", connector_class="Odd")})
    one.path("more").mkdir()
    one.path("in.txt").write_text("one\n")
    return one


def refused(a, file, *said):
    """Starts; the odd connector is FAILED, somebody says which file and why, and the good one works."""
    a.start().wait_records("lines", 1)
    status = a.wait_status("odd", lambda s: s["connector"]["state"] == "FAILED", "odd is FAILED")
    heard = status["connector"]["trace"] + a.log()
    assert file in heard, heard
    about = [l for l in heard.splitlines() if file in l]
    assert any(all(word in l for word in said) for l in about), (said, about)
    assert "Odd" not in [p["class"] for p in a.get("/connector-plugins")]
    assert a.get("/health")["status"] == "degraded"


def test_the_odd_plugin_is_fine_when_nothing_is_wrong_with_it(a):
    """The control of this file: what follows is refused for its one fault alone."""
    compile_plugin(a.path("more/odd.so"))
    a.start().wait_running("in", "odd")


def test_one_folder_deep_is_looked_at_and_two_are_not(a):
    compile_plugin(a.path("more/deep/odd.so"))
    a.start().wait_running("odd")
    assert a.stop() == 0
    a.path("more/deep/deeper").mkdir()
    os.rename(a.path("more/deep/odd.so"), a.path("more/deep/deeper/odd.so"))
    a.start().wait_status("odd", lambda s: s["connector"]["state"] == "FAILED", "odd is FAILED")


def test_no_entry_point(a):
    compile_plugin(a.path("more/odd.so"), entry="something_else")
    refused(a, "odd.so", "ctd_module_v1")


def test_another_magic(a):
    compile_plugin(a.path("more/odd.so"), magic="0x31445499u")
    refused(a, "odd.so")


def test_another_minor_names_both(a):
    compile_plugin(a.path("more/odd.so"), minor="4711u", min_host="4711u")
    refused(a, "odd.so", "4711")


def test_not_an_elf(a):
    a.path("more/odd.so").write_text("#!/bin/sh\necho hello\n")
    refused(a, "odd.so")


def test_a_torn_elf(a):
    compile_plugin(a.path("more/odd.so"))
    data = a.path("more/odd.so").read_bytes()
    a.path("more/odd.so").write_bytes(data[:len(data) // 3])
    refused(a, "odd.so")


@pytest.mark.parametrize("mode", [0o777, 0o666])
def test_a_world_writable_file(a, mode):
    compile_plugin(a.path("more/odd.so"))
    os.chmod(a.path("more/odd.so"), mode)
    refused(a, "odd.so", "writable")


def test_a_world_writable_folder(a):
    compile_plugin(a.path("more/odd.so"))
    os.chmod(a.path("more"), 0o777)
    refused(a, "more", "writable")


def test_a_link_that_leads_out_of_plugin_path(a):
    compile_plugin(a.path("elsewhere/odd.so"))
    os.symlink(a.path("elsewhere/odd.so"), a.path("more/odd.so"))
    refused(a, "odd.so")


def test_a_plugin_that_dies_while_it_is_loaded(a):
    compile_plugin(a.path("more/odd.so"),
                   extra="__attribute__((constructor)) static void boom(void) { __builtin_trap(); }\n")
    refused(a, "odd.so")


def test_a_file_replaced_under_a_running_task_changes_nothing(a):
    """Plugins run from a copy under DATA/plugins."""
    folder = a.path("more")
    compile_plugin(folder / "odd.so")
    a.start().wait_running("in", "odd")
    runner = a.runner_of("odd")
    (folder / "odd.so").write_bytes(b"\0" * 100_000)
    a.path("in.txt").open("a").write("two\n")
    a.wait_records("lines", 2)
    assert connectd.is_alive(runner) and a.status("odd")["tasks"][0]["restarts"] == 0
    maps = connectd.read_proc(runner, "maps").decode()
    assert str(folder / "odd.so") not in maps and "/plugins/" in maps
