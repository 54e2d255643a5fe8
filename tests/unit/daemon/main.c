/*
 * Tests of the daemon's parts that stand alone: the lock, run.json, and `connectd topic` without a host, called as
 * a function with stdin and stdout replaced. tests/scenario/test_topic.py has it as a command, and with a host.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "codec/json.h"
#include "daemon/cmd_topic.h"
#include "daemon/lock.h"
#include "daemon/runfile.h"
#include "pipeline/pipeline.h"

/* ---- no pipeline here: linked instead of the real one, and never called ---- */

json_t *pipeline_connector_names(struct pipeline *p)
{
    (void)p;
    return NULL;
}

json_t *pipeline_connectors_expanded(struct pipeline *p, int with_status, int with_info)
{
    (void)p;
    (void)with_status;
    (void)with_info;
    return NULL;
}

static int none(struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no connectors");
}

int pipeline_connector_info(struct pipeline *p, const char *name, json_t **ret, struct err *err)
{
    (void)p;
    (void)name;
    (void)ret;
    return none(err);
}

int pipeline_connector_file(struct pipeline *p, const char *name, char *ret, size_t n)
{
    (void)p;
    (void)name;
    (void)ret;
    (void)n;
    return ERR_NOT_FOUND;
}

int pipeline_connector_config(struct pipeline *p, const char *name, json_t **ret, struct err *err)
{
    return pipeline_connector_info(p, name, ret, err);
}

int pipeline_connector_status(struct pipeline *p, const char *name, json_t **ret, struct err *err)
{
    return pipeline_connector_info(p, name, ret, err);
}

int pipeline_connector_tasks(struct pipeline *p, const char *name, json_t **ret, struct err *err)
{
    return pipeline_connector_info(p, name, ret, err);
}

int pipeline_task_status(struct pipeline *p, const char *name, int task, json_t **ret,
                         struct err *err)
{
    (void)task;
    return pipeline_connector_info(p, name, ret, err);
}

json_t *pipeline_plugins(struct pipeline *p, int connectors_only)
{
    (void)p;
    (void)connectors_only;
    return NULL;
}

json_t *pipeline_health(struct pipeline *p, int *ret_http)
{
    (void)p;
    *ret_http = 500;
    return NULL;
}

/* ---- the lock and run.json ---- */

static void one_holder_at_a_time(void **state)
{
    const char *dir = *state;
    struct lock first = LOCK_NONE;
    struct lock second = LOCK_NONE;
    struct err err = ERR_INIT;
    char pid[32];
    (void)snprintf(pid, sizeof(pid), "process %ld", (long)getpid());
    assert_int_equal(lock_take(dir, &first, &err), 0);
    assert_int_equal(lock_take(dir, &second, &err), ERR_BUSY);
    assert_non_null(strstr(err.msg, pid));
    assert_int_equal(second.fd, -1);
    lock_release(&first);
    assert_int_equal(lock_take(dir, &second, &err), 0);
    lock_release(&second);
    lock_release(&second);
    assert_int_equal(lock_take("/nonexistent/data", &first, &err), ERR_NOT_FOUND);
}

static void run_file_there_and_back(void **state)
{
    const char *dir = *state;
    struct runfile r;
    struct err err = ERR_INIT;
    assert_int_equal(runfile_read(dir, &r, &err), ERR_NOT_FOUND);
    assert_int_equal(runfile_write(dir, "http://127.0.0.1:8083", "1.2.3", &err), 0);
    assert_int_equal(runfile_read(dir, &r, &err), 0);
    assert_int_equal(r.pid, getpid());
    assert_string_equal(r.rest, "http://127.0.0.1:8083");
    assert_string_equal(r.version, "1.2.3");
    char path[200];
    (void)snprintf(path, sizeof(path), "%s/run.json", dir);
    assert_int_equal(file_replace(path, "{\"pid\":0}", 9, &err), 0);
    assert_int_equal(runfile_read(dir, &r, &err), ERR_DATA);
    runfile_remove(dir);
    assert_int_equal(runfile_read(dir, &r, &err), ERR_NOT_FOUND);
}

/* ---- topic ---- */

struct run {
    int code;
    struct buf out, err;
};

static int replace_fd(int fd, int with)
{
    int saved = fcntl(fd, F_DUPFD_CLOEXEC, 10);
    assert_int_equal(dup2(with, fd), fd);
    close(with);
    return saved;
}

static void restore_fd(int fd, int saved)
{
    assert_int_equal(dup2(saved, fd), fd);
    close(saved);
}

static int temporary(const char *dir, const char *name, const char *text, size_t n)
{
    char path[200];
    (void)snprintf(path, sizeof(path), "%s.%s", dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, n), (ssize_t)n);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    assert_int_equal(unlink(path), 0);
    return fd;
}

static void read_back(int fd, struct buf *out)
{
    buf_init(out, 0);
    off_t n = lseek(fd, 0, SEEK_END);
    if (n > 0) {
        assert_int_equal(pread(fd, buf_extend(out, (size_t)n), (size_t)n, 0), n);
    }
    close(fd);
}

/* Runs `topic WORDS --data DIR`, or without --data when `named` is 0, with `in` as stdin. WORDS are
 * split at blanks. */
static struct run topic_run(const char *dir, int named, const char *words, const char *in, size_t n)
{
    char copy[400];
    char *argv[40] = {NULL};
    int argc = 0;
    char topic[] = "topic";
    char data[] = "--data";
    char where[200];
    char *save = NULL;
    (void)snprintf(copy, sizeof(copy), "%s", words);
    (void)snprintf(where, sizeof(where), "%s", dir);
    argv[argc++] = topic;
    for (char *w = strtok_r(copy, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
        argv[argc++] = w;
    }
    if (named) {
        argv[argc++] = data;
        argv[argc++] = where;
    }
    (void)fflush(stdout);
    (void)fflush(stderr);
    int out = temporary(dir, "out", "", 0);
    int err = temporary(dir, "err", "", 0);
    int out_copy = fcntl(out, F_DUPFD_CLOEXEC, 10);
    int err_copy_fd = fcntl(err, F_DUPFD_CLOEXEC, 10);
    int saved_in = replace_fd(STDIN_FILENO, temporary(dir, "in", in, n));
    int saved_out = replace_fd(STDOUT_FILENO, out);
    int saved_err = replace_fd(STDERR_FILENO, err);
    struct run r;
    r.code = cmd_topic(argc, argv);
    (void)fflush(stdout);
    (void)fflush(stderr);
    restore_fd(STDIN_FILENO, saved_in);
    restore_fd(STDOUT_FILENO, saved_out);
    restore_fd(STDERR_FILENO, saved_err);
    read_back(out_copy, &r.out);
    read_back(err_copy_fd, &r.err);
    return r;
}

static struct run topic_bytes(const char *dir, const char *words, const char *in, size_t n)
{
    return topic_run(dir, 1, words, in, n);
}

/* The same, and its exit code and stdout must be these. */
static void expect(const char *dir, const char *words, const char *in, int code, const char *out)
{
    struct run r = topic_bytes(dir, words, in, strlen(in));
    if (r.code != code || strcmp(buf_cstr(&r.out), out) != 0) {
        fail_msg("topic %s: %d\n%s%s\nnot %d\n%s", words, r.code, buf_cstr(&r.out),
                 buf_cstr(&r.err), code, out);
    }
    if (code != 0 && r.err.len == 0) {
        fail_msg("topic %s: exit %d without a word", words, code);
    }
    buf_free(&r.out);
    buf_free(&r.err);
}

static void topics_are_made_and_listed(void **state)
{
    const char *dir = *state;
    expect(dir, "create a --partitions 2 --config retention.ms=5 --config=segment.bytes=1048576",
           "", 0, "");
    expect(dir, "create a --partitions 2", "", 1, "");
    expect(dir, "create b --partitions 0", "", 2, "");
    expect(dir, "create b", "", 2, "");
    expect(dir, "create b --partitions 1 --config nonsense", "", 2, "");
    expect(dir, "create b --partitions 1 --config no.such.key=1", "", 1, "");
    expect(dir, "create __consumer_offsets --partitions 1", "", 1, "");
    expect(dir, "list", "", 0, "a\n");
    expect(dir, "list --format json", "", 0, "[\"a\"]\n");
    expect(dir, "describe a --format json", "", 0,
           "{\"name\":\"a\",\"partitions\":["
           "{\"partition\":0,\"start_offset\":0,\"end_offset\":0,\"bytes\":0,\"state\":\"online\","
           "\"error\":null},"
           "{\"partition\":1,\"start_offset\":0,\"end_offset\":0,\"bytes\":0,\"state\":\"online\","
           "\"error\":null}],"
           "\"config\":{\"retention.ms\":\"5\",\"segment.bytes\":\"1048576\"}}\n");
    expect(dir, "describe nope", "", 1, "");
    expect(dir, "delete a", "", 0, "");
    expect(dir, "delete a", "", 1, "");
    expect(dir, "list", "", 0, "");
}

static void records_go_in_and_out(void **state)
{
    const char *dir = *state;
    expect(dir, "create r --partitions 1", "", 0, "");
    expect(dir, "write r", "a\n\nlast \"q\" \\ \x01", 0,
           "{\"topic\":\"r\",\"partition\":0,\"offset\":0}\n"
           "{\"topic\":\"r\",\"partition\":0,\"offset\":1}\n"
           "{\"topic\":\"r\",\"partition\":0,\"offset\":2}\n");
    expect(dir, "write r --key-separator :: --partition 0", "k::v::w\n", 0,
           "{\"topic\":\"r\",\"partition\":0,\"offset\":3}\n");
    expect(dir, "write r --key-separator ::", "k::v\nbad\n", 1,
           "{\"topic\":\"r\",\"partition\":0,\"offset\":4}\n"); /* what stood before the bad line */
    expect(dir, "read r --from-beginning --until-end --format value", "", 0,
           "a\n\nlast \"q\" \\ \x01\nv::w\nv\n");
    expect(dir, "read r --offset 3 --max-messages 1 --format value", "", 0, "v::w\n");
    expect(dir, "read r --until-end", "", 0, "");
    expect(dir, "read r --timeout-ms 1", "", 0, "");
    expect(dir, "read r --max-messages 0", "", 0, "");
    expect(dir, "read r --offset 9 --until-end", "", 1, "");
    expect(dir, "read r --partition 1 --until-end", "", 1, "");
    expect(dir, "write r --partition 1", "x\n", 1, "");
    expect(dir, "write nope", "x\n", 1, "");
    expect(dir, "write connect-offsets", "", 1, "");

    struct run r = topic_bytes(dir, "write r", "\xff\0\n", 3);
    assert_int_equal(r.code, 0);
    buf_free(&r.out);
    buf_free(&r.err);
    r = topic_bytes(dir, "read r --offset 5 --until-end", "", 0);
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(buf_cstr(&r.out), "\"value\":{\"base64\":\"/wA=\"},\"headers\":[]}\n"));
    buf_free(&r.out);
    buf_free(&r.err);
}

static void wrong_usage_is_2(void **state)
{
    const char *dir = *state;
    static const char *const wrong[] = {
        "",
        "rear t",
        "read",
        "read a b",
        "read a/b",
        "read t --offset",
        "read t --offset x",
        "read t --offset 1 --from-beginning",
        "read t --format xml",
        "read t --partitions 1",
        "read t --until-end=yes",
        "list t",
        "write t --key-separator=",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct run r = topic_bytes(dir, wrong[i], "", 0);
        if (r.code != 2 || r.err.len == 0 || r.out.len != 0) {
            fail_msg("topic %s: %d %s", wrong[i], r.code, buf_cstr(&r.err));
        }
        buf_free(&r.out);
        buf_free(&r.err);
    }
    struct run r = topic_bytes(dir, "read t --until-edn", "", 0);
    assert_int_equal(r.code, 2);
    assert_non_null(strstr(buf_cstr(&r.err), "did you mean --until-end?"));
    buf_free(&r.out);
    buf_free(&r.err);
}

static void helps(void **state)
{
    const char *dir = *state;
    static const char *const verbs[] = {"--help",         "read --help",   "write --help",
                                        "create --help",  "delete --help", "list --help",
                                        "describe --help"};
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        struct run r = topic_bytes(dir, verbs[i], "", 0);
        assert_int_equal(r.code, 0);
        assert_int_equal(strncmp(buf_cstr(&r.out), "Usage: connectd topic", 21), 0);
        buf_free(&r.out);
        buf_free(&r.err);
    }
}

/* A held lock without an answering REST, and no directory at all. */
static void no_way_in(void **state)
{
    const char *dir = *state;
    struct lock held = LOCK_NONE;
    struct err err = ERR_INIT;
    assert_int_equal(lock_take(dir, &held, &err), 0);
    struct run r = topic_bytes(dir, "list", "", 0);
    char pid[32];
    (void)snprintf(pid, sizeof(pid), "process %ld", (long)getpid());
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(buf_cstr(&r.err), pid));
    buf_free(&r.out);
    buf_free(&r.err);
    /* a run.json of a host that crashed is seen through */
    assert_int_equal(runfile_write(dir, "http://127.0.0.1:1", "1", &err), 0);
    expect(dir, "list", "", 1, "");
    lock_release(&held);
    expect(dir, "list", "", 0, "");
    runfile_remove(dir);
    char missing[200];
    (void)snprintf(missing, sizeof(missing), "%s/missing", dir);
    expect(missing, "list", "", 1, "");
    expect(missing, "list --url http://127.0.0.1:1", "", 1, "");
    struct stat st;
    assert_int_not_equal(stat(missing, &st), 0);
}

static void expect_list(const char *dir, int named, int code, const char *out)
{
    struct run r = topic_run(dir, named, "list", "", 0);
    assert_int_equal(r.code, code);
    assert_string_equal(buf_cstr(&r.out), out);
    buf_free(&r.out);
    buf_free(&r.err);
}

/* CONNECTD_DATA_DIR names the data directory for `connectd run`, so it does here; --data is stronger. */
static void the_environment_names_the_data(void **state)
{
    const char *dir = *state;
    expect(dir, "create here --partitions 1", "", 0, "");
    assert_int_equal(setenv("CONNECTD_DATA_DIR", dir, 1), 0);
    expect_list(dir, 0, 0, "here\n");
    assert_int_equal(setenv("CONNECTD_DATA_DIR", "/nonexistent/data", 1), 0);
    struct run r = topic_run(dir, 0, "list", "", 0);
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(buf_cstr(&r.err), "/nonexistent/data"));
    buf_free(&r.out);
    buf_free(&r.err);
    expect_list(dir, 1, 0, "here\n");
    assert_int_equal(unsetenv("CONNECTD_DATA_DIR"), 0);
}

static int set_up(void **state)
{
    char path[] = "/tmp/daemon-test-XXXXXX";
    char *dir = mkdtemp(path) == NULL ? NULL : strdup(path);
    *state = dir;
    return dir == NULL;
}

static int tear_down(void **state)
{
    int rc = file_remove_tree(*state, NULL);
    free(*state);
    return rc;
}

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    log_set_level(LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_holder_at_a_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(run_file_there_and_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(topics_are_made_and_listed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(records_go_in_and_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_usage_is_2, set_up, tear_down),
        cmocka_unit_test_setup_teardown(helps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_way_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_environment_names_the_data, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("daemon", tests, NULL, NULL);
}
