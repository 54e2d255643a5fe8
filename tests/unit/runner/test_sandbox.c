/*
 * The sandbox: fixture_probe tries to get out and reports what it got. The control runs the same tries without a
 * sandbox, where those that matter must succeed: else a try that cannot work proves nothing.
 */
#include "host.h"
#include "tests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define PROBE  FIXTURES "/fixture_probe.so"
#define NOBODY 65534

static long secret = 4711; /* what vm-read and mem reach for */

struct answers {
    struct buf text; /* all records, a line each */
};

/* "kill" -> "EPERM", in memory of the arena; "" when there is no such try. */
static const char *got(struct host *h, const struct answers *a, const char *try)
{
    char want[64];
    int n = snprintf(want, sizeof(want), "{\"try\":\"%s\",\"got\":\"", try);
    const char *at = memmem(a->text.data, a->text.len, want, (size_t)n);
    return at != NULL ? arena_strndup(h->arena, at + n, strcspn(at + n, "\"")) : "";
}

static void make_file(const char *dir, const char *name)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_int_equal(file_replace(path, "x", 1, NULL), 0);
}

static void probe_begin(struct host *h)
{
    host_init(h, PROBE, "FixtureProbe");
    char *data = arena_printf(h->arena, "%s/data", h->dir);
    assert_int_equal(file_mkdirs(data, NULL), 0);
    make_file(data, "lock");
    make_file(data, "secret");
    h->data_dir = data;
    host_set(h, "topic", "t1");
    host_set(h, "data", data);
    host_setf(h, "beside", "%s/beside", h->dir);
    host_setf(h, "victim", "%d", (int)getpid());
    host_setf(h, "address", "%lld", (long long)(intptr_t)&secret);
}

static void probe_run(struct host *h, struct answers *a)
{
    buf_init(&a->text, 0);
    host_start(h);
    struct link_commit c = host_expect_commit(h);
    for (uint32_t i = 0; i < c.n_appends; i++) {
        buf_append(&a->text, c.appends[i].batches.ptr, c.appends[i].batches.len);
    }
    host_committed(h, &c, 0, 0);
    host_send_empty(h, LINK_STOP, 0);
    (void)host_expect(h, LINK_STOPPED);
}

static void probe_end(struct host *h, struct answers *a)
{
    buf_free(&a->text);
    host_clear(h);
}

static void expect_got(struct host *h, const struct answers *a, const char *try, const char *want)
{
    const char *is = got(h, a, try);
    if (strcmp(is, want) != 0) {
        fail_msg("%s: got '%s', not '%s' (sandbox: %s)", try, is, want, h->sandbox);
    }
}

static void expect_kept_in(struct host *h, const struct answers *a)
{
    static const char *const refused[] = {
        "kill",        "kill-wide",  "kill-group", "tgkill", "sigqueue", "pidfd-kill",
        "pidfd-getfd", "ptrace",     "vm-read",    "rlimit", "handle",   "mount",
        "unshare",     "clone-user", "setsid",     "chroot", "orphan",   "bpf",
#ifndef CONNECTD_SANITIZER /* LeakSanitizer needs to */
        "dumpable",
#endif
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        expect_got(h, a, refused[i], "EPERM");
    }
    expect_got(h, a, "mem", "EACCES"); /* the host is undumpable */
    expect_got(h, a, "environ", "EACCES");
    expect_got(h, a, "root", "EACCES");
    expect_got(h, a, "own-environ", "ENOENT");
    expect_got(h, a, "kill-self", "ok");
    expect_got(h, a, "exec", "ok");
    expect_got(h, a, "beside", "ok");
#ifndef CONNECTD_SANITIZER /* a sanitizer may open files of its own */
    expect_got(h, a, "descriptors", "ENOENT");
#endif
}

static void expect_data_hidden(struct host *h, const struct answers *a)
{
    expect_got(h, a, "data-list", "ENOENT");
    expect_got(h, a, "data-lock", "ENOENT");
    expect_got(h, a, "data-write", "EROFS");
    expect_got(h, a, "data-umount", "EPERM");
}

static void test_probe(void **state)
{
    (void)state;
    struct host h;
    struct answers a;
    assert_int_equal(prctl(PR_SET_DUMPABLE, 0), 0); /* as the host is */
    probe_begin(&h);
    probe_run(&h, &a);
    expect_kept_in(&h, &a);
    if (strstr(h.sandbox, "data-visible") == NULL) {
        assert_string_equal(strncmp(h.sandbox, "mount,", 6) == 0 ? "mount" : h.sandbox, "mount");
        expect_data_hidden(&h, &a);
    } else {
        print_message("no mount namespace here: DATA stays visible (%s)\n", h.sandbox);
    }
    assert_non_null(strstr(h.sandbox, "seccomp,rlimits"));
    /* The files are still there for us. */
    assert_int_equal(access(arena_printf(h.arena, "%s/secret", h.data_dir), F_OK), 0);
    assert_int_equal(prctl(PR_SET_DUMPABLE, 1), 0);
    probe_end(&h, &a);
}

/* The control: the same tries with no sandbox. What the machine itself refuses is left out. */
static void test_probe_control(void **state)
{
    (void)state;
    static const char *const allowed[] = {
        "kill",       "kill-wide", "kill-group", "tgkill",   "pidfd-kill", "vm-read",
        "mem",        "environ",   "root",       "rlimit",   "data-list",  "data-lock",
        "data-write", "kill-self", "beside",     "dumpable", "orphan",     "setsid",
    };
    struct host h;
    struct answers a;
    probe_begin(&h);
    h.flags = LINK_HELLO_NO_SANDBOX;
    probe_run(&h, &a);
    assert_string_equal(h.sandbox, "none");
    int worked = 0;
    for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++) {
        if (geteuid() == 0) {
            expect_got(&h, &a, allowed[i], "ok");
        }
        worked += strcmp(got(&h, &a, allowed[i]), "ok") == 0;
    }
    assert_true(worked >= 12);
    probe_end(&h, &a);
}

static void copy_file(const char *from, const char *to, mode_t mode)
{
    struct buf bytes = BUF_INIT((size_t)256 << 20);
    assert_int_equal(file_read(from, (size_t)256 << 20, &bytes, NULL), 0);
    assert_int_equal(file_replace(to, bytes.data, bytes.len, NULL), 0);
    assert_int_equal(chmod(to, mode), 0);
    buf_free(&bytes);
}

/* The same as another user, who has no rights to begin with. */
static void test_probe_as_nobody(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        return; /* test_probe() was that */
    }
    struct host h;
    struct answers a;
    assert_int_equal(prctl(PR_SET_DUMPABLE, 0), 0);
    probe_begin(&h);
    h.uid = NOBODY;
    h.runner = arena_printf(h.arena, "%s/runner", h.dir);
    h.plugin = arena_printf(h.arena, "%s/plugin.so", h.dir);
    copy_file(RUNNER_PATH, h.runner, 0755);
    copy_file(PROBE, h.plugin, 0755);
    assert_int_equal(chmod(h.dir, 0777), 0);
    assert_int_equal(chmod(h.data_dir, 0777), 0);
    char *lock = arena_printf(h.arena, "%s/lock", h.data_dir);
    assert_int_equal(chmod(lock, 0666), 0);
    probe_run(&h, &a);
    expect_kept_in(&h, &a);
    print_message("as another user: %s\n", h.sandbox);
#ifdef CONNECTD_SANITIZER
    /* TSan runs a thread of its own, and a user namespace cannot be entered by one of several. */
    if (strstr(h.sandbox, "data-visible") != NULL) {
        expect_got(&h, &a, "data-list", "ok");
    } else {
        expect_data_hidden(&h, &a);
    }
#else
    if (strstr(h.sandbox, "data-visible") == NULL) {
        expect_data_hidden(&h, &a);
    } else { /* user namespaces are off on this machine: it says so, and it is so */
        expect_got(&h, &a, "data-list", "ok");
    }
#endif
    assert_int_equal(prctl(PR_SET_DUMPABLE, 1), 0);
    probe_end(&h, &a);
}

#ifndef CONNECTD_SANITIZER
/* A plugin that takes more than its limit gets no memory; the host hears of it as such. */
static void test_memory_limit(void **state)
{
    (void)state;
    struct host h;
    host_init(&h, FIXTURES "/fixture_source.so", "FixtureSource");
    host_set(&h, "topic", "t1");
    host_set(&h, "count", "100");
    host_set(&h, "pad", "1000000"); /* a poll of 100 MB */
    h.max_batch_bytes = 32 << 20;
    h.memory_limit = 48 << 20;
    host_start(&h);
    struct link_failed f = host_expect_failed(&h);
    assert_int_equal(f.status, CTD_E_NOMEM);
    host_clear(&h);
    /* Control: with no limit the same poll fails for another reason: no commit is that large. */
    host_init(&h, FIXTURES "/fixture_source.so", "FixtureSource");
    host_set(&h, "topic", "t1");
    host_set(&h, "count", "100");
    host_set(&h, "pad", "1000000");
    h.max_batch_bytes = 32 << 20;
    h.partitions = 1;
    host_start(&h);
    f = host_expect_failed(&h);
    assert_int_equal(f.status, CTD_E_DATA);
    assert_non_null(strstr((const char *)f.message.ptr, "poll fewer at a time"));
    host_clear(&h);
}
#endif

int test_sandbox(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probe),
        cmocka_unit_test(test_probe_control),
        cmocka_unit_test(test_probe_as_nobody),
#ifndef CONNECTD_SANITIZER
        cmocka_unit_test(test_memory_limit),
#endif
    };
    return cmocka_run_group_tests_name("runner: sandbox", tests, NULL, NULL);
}
