/* What is loaded and what is refused, with the words for it; the lock; HELLO. */
#include "host.h"
#include "tests.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

/* Runs --describe; *out and *errors get what it wrote. Returns its exit status. */
static int describe(const char *path, struct buf *out, struct buf *errors)
{
    int o[2];
    int e[2];
    assert_int_equal(pipe2(o, O_CLOEXEC), 0);
    assert_int_equal(pipe2(e, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(o[1], 1);
        (void)dup2(e[1], 2);
        char *const envp[] = {NULL};
        (void)execle(RUNNER_PATH, "connectd-runner", "--describe", path, NULL, envp);
        _exit(98);
    }
    (void)close(o[1]);
    (void)close(e[1]);
    int fds[2] = {o[0], e[0]};
    struct buf *to[2] = {out, errors};
    for (int i = 0; i < 2; i++) { /* the texts are shorter than a pipe: one after the other */
        uint8_t room[4096];
        for (ssize_t n = read(fds[i], room, sizeof(room)); n > 0;
             n = read(fds[i], room, sizeof(room))) {
            buf_append(to[i], room, (size_t)n);
        }
        (void)close(fds[i]);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void assert_has(struct buf *b, const char *text)
{
    if (strstr(buf_cstr(b), text) == NULL) {
        fail_msg("'%s' lacks '%s'", buf_cstr(b), text);
    }
}

static void test_describe(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(0);
    struct buf errors = BUF_INIT(0);
    assert_int_equal(describe(FIXTURES "/fixture_source.so", &out, &errors), 0);
    assert_has(&out, "{\"abi_minor\":0,");
    assert_has(&out,
               "\"name\":\"FixtureSource\",\"aliases\":[\"org.example.FixtureSourceConnector\"],"
               "\"kind\":\"source\",\"version\":\"1.2.3\",\"doc\":\"Makes \\\"numbers\\\".\","
               "\"flags\":0,\"config\":[");
    assert_has(&out, "{\"name\":\"topic\",\"type\":\"STRING\",\"default\":null,\"required\":true");
    assert_has(&out, "{\"name\":\"password\",\"type\":\"PASSWORD\"");
    assert_has(&out, "\"name\":\"FixturePlainSource\"");
    assert_has(&out, "\"min\":1,\"max\":100000");
    assert_has(&out, "\"min\":null,\"max\":null");
    assert_int_equal(out.data[out.len - 1], '\n');
    assert_int_equal(errors.len, 0);
    struct arena *a = arena_new(0);
    ctd_value v;
    assert_int_equal(record_json_parse(out.data, out.len, a, &v, NULL), 0);
    arena_free(a);
    buf_free(&out);
    buf_free(&errors);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *file, *say;
    } cases[] = {
        {"fixture_wrong_magic.so", "its magic is 0x12345678, this connectd has 0x44445443"},
        {"fixture_other_draft.so", "made for draft 1 of the plugin ABI (host at least 1), this "
                                   "connectd has draft 0"},
        {"fixture_no_symbol.so", "no symbol ctd_module_v1: not a connectd plugin"},
        {"fixture_short_struct.so", "struct_size is 8, at least"},
        {"fixture_null_op.so", "class Bad: a sink needs put()"},
        {"absent.so", "No such file"},
        {"", "not a regular file"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf out = BUF_INIT(0);
        struct buf errors = BUF_INIT(0);
        char path[512];
        (void)snprintf(path, sizeof(path), FIXTURES "/%s", cases[i].file);
        assert_int_equal(describe(path, &out, &errors), 1);
        assert_int_equal(out.len, 0);
        assert_has(&errors, cases[i].say);
        assert_has(&errors, path);
        assert_ptr_equal(strchr(buf_cstr(&errors), '\n'), &errors.data[errors.len - 1]);
        buf_free(&out);
        buf_free(&errors);
    }
}

static void test_not_elf(void **state)
{
    (void)state;
    struct host h;
    host_init(&h, "", "X");
    char path[128];
    struct buf out = BUF_INIT(0);
    struct buf errors = BUF_INIT(0);
    (void)snprintf(path, sizeof(path), "%s/text.so", h.dir);
    assert_int_equal(file_replace(path, "hello", 5, NULL), 0);
    assert_int_equal(describe(path, &out, &errors), 1);
    assert_has(&errors, "text.so: not a shared object: the file has no ELF header");
    buf_clear(&errors);
    assert_int_equal(file_replace(path, "\177ELFbut then nothing more", 25, NULL), 0);
    assert_int_equal(describe(path, &out, &errors), 1);
    assert_has(&errors, "text.so: cannot be loaded: ");
    assert_null(strstr(buf_cstr(&errors), "/proc/self"));
    buf_free(&out);
    buf_free(&errors);
    host_clear(&h);
}

/* A module that crashes while it is loaded takes the describer with it, by a signal. */
static void test_describe_crash(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(0);
    struct buf errors = BUF_INIT(0);
    assert_true(describe(FIXTURES "/fixture_crash_load.so", &out, &errors) > 1);
    assert_int_equal(out.len, 0);
    buf_free(&out);
    buf_free(&errors);
}

static void expect_refused(struct host *h, int status, int stage, const char *message)
{
    host_spawn(h);
    struct link_failed f = host_expect_failed(h);
    assert_int_equal(f.status, status);
    assert_int_equal(f.stage, stage);
    if (strstr((const char *)f.message.ptr, message) == NULL) {
        fail_msg("'%s' lacks '%s'", (const char *)f.message.ptr, message);
    }
    assert_int_equal(host_wait_exit(h), 1);
    host_clear(h);
}

static void test_run_refusals(void **state)
{
    (void)state;
    struct host h;
    host_init(&h, FIXTURES "/fixture_other_draft.so", "Bad");
    expect_refused(&h, CTD_E_FATAL, LINK_STAGE_MODULE, "draft 1");
    host_init(&h, FIXTURES "/absent.so", "Bad");
    expect_refused(&h, ERR_IO, LINK_STAGE_DLOPEN, "absent.so: cannot be opened");
    host_init(&h, FIXTURES "/fixture_source.so", "NoSuchClass");
    expect_refused(&h, CTD_E_CONFIG, LINK_STAGE_MODULE, "no source or sink named NoSuchClass");
    host_init(&h, FIXTURES "/fixture_bad_init.so", "Bad");
    expect_refused(&h, CTD_E_IO, LINK_STAGE_INIT, "the license server is down");
    host_init(&h, FIXTURES "/fixture_sink.so", "FixtureSink");
    h.version = 99;
    expect_refused(&h, ERR_UNSUPPORTED, LINK_STAGE_NONE, "link version 99, this runner version 1");
}

static void test_config_refusals(void **state)
{
    (void)state;
    struct host h;
    host_init(&h, FIXTURES "/fixture_source.so", "FixtureSource");
    host_set(&h, "count", "many");
    host_set(&h, "batch", "0");
    expect_refused(
        &h, CTD_E_CONFIG, LINK_STAGE_VALIDATE,
        "topic: is required; count: must be a whole number; batch: must be between 1 and "
        "100000");
    host_init(&h, FIXTURES "/fixture_source.so", "org.example.FixtureSourceConnector");
    host_set(&h, "topic", "t1");
    host_set(&h, "count", "1666"); /* what only the class's validate() knows */
    expect_refused(&h, CTD_E_CONFIG, LINK_STAGE_VALIDATE, "count: is an unlucky number");
    host_init(&h, FIXTURES "/fixture_source.so", "FixtureSource");
    host_set(&h, "topic", "t1");
    host_set(&h, "value.converter", "AvroConverter");
    host_spawn(&h);
    (void)host_expect(&h, LINK_READY);
    host_start_task(&h, 0);
    struct link_failed f = host_expect_failed(&h);
    assert_int_equal(f.status, CTD_E_CONFIG);
    assert_string_equal((const char *)f.message.ptr,
                        "value.converter: no converter named AvroConverter");
    host_clear(&h);
}

/* While another holds the lock, no plugin code runs. */
static void test_lock(void **state)
{
    (void)state;
    struct host h;
    host_init(&h, FIXTURES "/fixture_crash_load.so", "X"); /* would crash if it were loaded */
    h.lock_fd = open(h.lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    assert_int_equal(fcntl(h.lock_fd, F_SETLK, &whole), 0);
    char holder[64];
    (void)snprintf(holder, sizeof(holder), "still holds its lock (process %d)", (int)getpid());
    expect_refused(&h, ERR_BUSY, LINK_STAGE_NONE, holder);
    /* Control: without the lock held it goes on to load, and the stage says how far it came. */
    host_init(&h, FIXTURES "/fixture_crash_load.so", "X");
    host_spawn(&h);
    assert_int_not_equal(host_wait_exit(&h), 1);
    assert_int_equal(atomic_load(&h.shared->control.stage), LINK_STAGE_DLOPEN);
    host_clear(&h);
    /* And a running one holds it. */
    host_init(&h, FIXTURES "/fixture_sink.so", "FixtureSink");
    host_spawn(&h);
    (void)host_expect(&h, LINK_READY);
    int fd = open(h.lock_path, O_RDWR | O_CLOEXEC);
    whole.l_type = F_WRLCK;
    assert_int_equal(fcntl(fd, F_GETLK, &whole), 0);
    assert_int_equal(whole.l_type, F_WRLCK);
    assert_int_equal(whole.l_pid, h.pid);
    (void)close(fd);
    host_clear(&h);
}

int test_load(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_describe),     cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_not_elf),      cmocka_unit_test(test_describe_crash),
        cmocka_unit_test(test_run_refusals), cmocka_unit_test(test_config_refusals),
        cmocka_unit_test(test_lock),
    };
    return cmocka_run_group_tests_name("runner: loading", tests, NULL, NULL);
}
