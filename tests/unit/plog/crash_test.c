/*
 * Crashes of a process of its own: killed at any moment under load, killed from within done, and a simulated power
 * cut that takes every byte back that was not synced. Each has its control: a log that acks too early must be
 * caught losing data by the very same check.
 */
#include "util.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests.h"

enum { N_PARTS = 3, IN_FLIGHT = 24 };

/* ---- the writer: a child that commits units 0, 1, 2... and tells each ack through a pipe ---- */

struct writer {
    int pipe;           /* 4 bytes an ack: the unit's number */
    int die_in_done_of; /* kills itself in this unit's done; -1: never */
    struct plog *log;
    struct plog_partition *parts[N_PARTS];
    struct mutex mu;
    struct cond cond;
    int in_flight;
};

struct job {
    struct plog_unit unit;
    struct plog_append appends[N_PARTS];
    struct buf bytes[N_PARTS];
    struct writer *w;
    uint32_t number;
};

static void job_free(struct job *j)
{
    for (int i = 0; i < N_PARTS; i++) {
        buf_free(&j->bytes[i]);
    }
    free(j);
}

static void tell(struct plog_unit *u, const struct err *err)
{
    struct job *j = u->arg;
    struct writer *w = j->w;
    if (err->code == 0 && write(w->pipe, &j->number, 4) != 4) {
        _exit(1);
    }
    if ((int)j->number == w->die_in_done_of) {
        (void)raise(SIGKILL);
    }
    mutex_lock(&w->mu);
    w->in_flight--;
    cond_signal(&w->cond);
    mutex_unlock(&w->mu);
    job_free(j);
}

static void submit(struct writer *w, uint32_t number, size_t size)
{
    struct job *j = calloc(1, sizeof(*j));
    char tag[24];
    (void)snprintf(tag, sizeof(tag), "u%u", number);
    /* One, two or all partitions; the last one gets every unit. */
    size_t n = number % N_PARTS + 1;
    for (size_t i = 0; i < n; i++) {
        buf_init(&j->bytes[i], 0);
        test_batch(&j->bytes[i], tag, 2, size, 1000);
        j->appends[i] = (struct plog_append){.partition = w->parts[N_PARTS - n + i],
                                             .batches = j->bytes[i].data,
                                             .len = j->bytes[i].len,
                                             .n_records = 2};
    }
    j->w = w;
    j->number = number;
    j->unit = (struct plog_unit){.appends = j->appends, .n_appends = n, .done = tell, .arg = j};
    mutex_lock(&w->mu);
    while (w->in_flight >= IN_FLIGHT) {
        cond_wait(&w->cond, &w->mu);
    }
    w->in_flight++;
    mutex_unlock(&w->mu);
    if (plog_submit(w->log, &j->unit, &test_err) != 0) {
        _exit(2);
    }
}

/* Never returns: the child is killed, or exits when `until` units are acked. */
static void write_units(struct plog_options o, int ack_pipe, uint32_t from, uint32_t until,
                        int die_in_done_of)
{
    struct writer w = {.pipe = ack_pipe, .die_in_done_of = die_in_done_of};
    mutex_init(&w.mu);
    cond_init(&w.cond);
    if (plog_open(&o, &w.log, &test_err) != 0) {
        _exit(3);
    }
    for (int i = 0; i < N_PARTS; i++) {
        if (plog_partition_get(w.log, "t", i, &w.parts[i], &test_err) != 0) {
            _exit(4);
        }
    }
    for (uint32_t n = from; n < until; n++) {
        /* Now and then a big one, so that both paths are taken. */
        submit(&w, n, n % 50 == 49 ? 600000 : 40 + n % 200);
    }
    mutex_lock(&w.mu);
    while (w.in_flight > 0) {
        cond_wait(&w.cond, &w.mu);
    }
    mutex_unlock(&w.mu);
    _exit(0);
}

/* ---- the check ---- */

struct seen {
    uint8_t *units[N_PARTS]; /* how often each unit's first record was seen in a partition */
    uint32_t cap;
};

/* Reads everything; fails on damage, on disorder, on half a unit. */
static void read_seen(const char *dir, struct seen *s, uint32_t cap)
{
    struct plog *p = test_open(dir);
    s->cap = cap;
    for (int i = 0; i < N_PARTS; i++) {
        s->units[i] = calloc(cap, 1);
        struct plog_partition *t = test_part(p, "t", i);
        struct buf text = BUF_INIT((size_t)64 << 20);
        test_dump(t, 0, &text);
        plog_partition_unref(t);
        assert_null(strstr(buf_cstr(&text), "BAD"));
        long long expect = 0;
        long long last = -1;
        char *save = NULL;
        for (char *line = text.len > 0 ? strtok_r((char *)text.data, "\n", &save) : NULL;
             line != NULL; line = strtok_r(NULL, "\n", &save)) {
            long long offset = -1;
            unsigned unit = 0;
            int index = -1;
            assert_int_equal(sscanf(line, "%lld u%u:%d", &offset, &unit, &index), 3);
            assert_int_equal(offset, expect);
            assert_int_equal(index, expect % 2); /* both records of a batch */
            assert_true(unit < cap);
            if (index == 0) {
                assert_true((long long)unit > last);
                last = unit;
                s->units[i][unit]++;
            } else {
                assert_int_equal(unit, last);
            }
            expect++;
        }
        assert_int_equal(expect % 2, 0);
        buf_free(&text);
    }
    plog_close(p);
    for (uint32_t u = 0; u < cap; u++) { /* units are whole */
        uint32_t n = u % N_PARTS + 1;
        for (uint32_t i = 0; i < N_PARTS; i++) {
            uint8_t want = i >= N_PARTS - n ? s->units[N_PARTS - 1][u] : 0;
            assert_int_equal(s->units[i][u], want);
        }
    }
}

static void seen_free(struct seen *s)
{
    for (int i = 0; i < N_PARTS; i++) {
        free(s->units[i]);
    }
}

/* How many acked units are not there. */
static int count_lost(const char *dir, const uint8_t *acked, uint32_t cap)
{
    struct seen s;
    read_seen(dir, &s, cap);
    int lost = 0;
    for (uint32_t u = 0; u < cap; u++) {
        lost += acked[u] && !s.units[N_PARTS - 1][u];
    }
    seen_free(&s);
    return lost;
}

static void make_topic(const char *dir)
{
    struct plog *p = test_open(dir);
    test_topic(p, "t", N_PARTS, (const char *const[]){"segment.bytes", "2000000", NULL, NULL});
    plog_close(p);
}

/* ---- killed under load ---- */

enum { CAP = 200000 };

/* Reads acks until `n` more came; returns the highest number seen, or -1 at the pipe's end. */
static int64_t read_acks(int fd, uint8_t *acked, int n)
{
    int64_t highest = -1;
    while (n > 0) {
        uint32_t number = 0;
        if (read(fd, &number, 4) != 4) {
            return -1;
        }
        assert_true(number < CAP);
        acked[number] = 1;
        highest = number;
        n--;
    }
    return highest;
}

static void test_killed_under_load(void **state)
{
    (void)state;
    char *dir = test_dir();
    make_topic(dir);
    uint8_t *acked = calloc(CAP, 1);
    uint32_t next = 0;
    unsigned seed = 12345;
    for (int cycle = 0; cycle < 8; cycle++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            (void)close(fds[0]);
            /* Small journals, so that checkpoints run all the time. */
            struct plog_options o = {.dir = dir, .journal_bytes = 40000};
            write_units(o, fds[1], next, CAP, -1);
        }
        (void)close(fds[1]);
        assert_true(read_acks(fds[0], acked, 100 + (int)(rand_r(&seed) % 300)) >= 0);
        assert_int_equal(kill(child, SIGKILL), 0);
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        while (read_acks(fds[0], acked, 1) >= 0) { /* what it had said before it died */
        }
        (void)close(fds[0]);
        assert_int_equal(count_lost(dir, acked, CAP), 0);
        /* Go on behind whatever may have been written. */
        struct seen s;
        read_seen(dir, &s, CAP);
        while (next < CAP && (acked[next] || s.units[N_PARTS - 1][next] || next < 100)) {
            next++;
        }
        for (uint32_t u = next; u < CAP; u++) {
            next = s.units[N_PARTS - 1][u] ? u + 1 : next;
        }
        seen_free(&s);
    }
    free(acked);
    test_dir_drop(dir);
}

/* ---- killed in done ---- */

/* A child that kills itself when it has told of unit 7; returns how many acked units were lost. */
static int kill_in_done(int control)
{
    char *dir = test_dir();
    make_topic(dir);
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)close(fds[0]);
        struct plog_options o = {.dir = dir, .control_ack_before_write = control};
        write_units(o, fds[1], 0, 20, 7);
    }
    (void)close(fds[1]);
    uint8_t *acked = calloc(CAP, 1);
    while (read_acks(fds[0], acked, 1) >= 0) {
    }
    (void)close(fds[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_true(acked[7]);
    int lost = count_lost(dir, acked, 20);
    free(acked);
    test_dir_drop(dir);
    return lost;
}

static void test_killed_in_done(void **state)
{
    (void)state;
    assert_int_equal(kill_in_done(0), 0);
}

static void test_control_ack_before_write_loses(void **state)
{
    (void)state;
    assert_true(kill_in_done(1) > 0);
}

/* ---- power cut ---- */

enum { MAX_FILES = 64, POWER_CUT = 9 };

/* What every file's size was when it was last synced. */
struct power {
    int journal_syncs_left;
    struct mutex mu;
    char *paths[MAX_FILES];
    int64_t synced[MAX_FILES];
    int n;
};

static int note_file(struct power *w, const char *path)
{
    for (int i = 0; i < w->n; i++) {
        if (strcmp(w->paths[i], path) == 0) {
            return i;
        }
    }
    if (w->n == MAX_FILES) {
        _exit(5);
    }
    w->paths[w->n] = strdup(path);
    w->synced[w->n] = test_size(path); /* what was there at the start is durable */
    return w->n++;
}

/* At the chosen sync of the journal, in its place: everything since the last syncs is gone. */
static int power_hook(void *arg, const char *op, const char *path)
{
    struct power *w = arg;
    mutex_lock(&w->mu);
    int file = str_ends_with(path, ".log") || str_ends_with(path, ".journal");
    int i = file && strcmp(op, "create") != 0 ? note_file(w, path) : -1;
    if (i >= 0 && strcmp(op, "sync") == 0) {
        struct stat st;
        int ours = str_ends_with(path, ".journal") && stat(path, &st) == 0 && st.st_size > 32;
        if (ours && --w->journal_syncs_left == 0) {
            for (int k = 0; k < w->n; k++) {
                (void)!truncate(w->paths[k], w->synced[k]);
            }
            _exit(POWER_CUT);
        }
        w->synced[i] = test_size(path);
    }
    mutex_unlock(&w->mu);
    return 0;
}

static int cut_power(struct plog_options o, int at_sync)
{
    char *dir = test_dir();
    make_topic(dir);
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)close(fds[0]);
        struct power w = {.journal_syncs_left = at_sync};
        mutex_init(&w.mu);
        o.dir = dir;
        o.fault = power_hook;
        o.fault_arg = &w;
        write_units(o, fds[1], 0, 5000, -1);
    }
    (void)close(fds[1]);
    uint8_t *acked = calloc(CAP, 1);
    while (read_acks(fds[0], acked, 1) >= 0) {
    }
    (void)close(fds[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == POWER_CUT);
    int lost = count_lost(dir, acked, 5000);
    free(acked);
    test_dir_drop(dir);
    return lost;
}

static void test_power_cut(void **state)
{
    (void)state;
    for (int at = 1; at < 8; at++) {
        assert_int_equal(cut_power((struct plog_options){0}, at), 0);
        assert_int_equal(cut_power((struct plog_options){.force_path = 1}, at), 0);
        assert_int_equal(cut_power((struct plog_options){.force_path = 2}, at), 0);
    }
}

static void test_control_ack_before_sync_loses(void **state)
{
    (void)state;
    assert_true(cut_power((struct plog_options){.control_ack_before_sync = 1}, 3) > 0);
}

int run_crash_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_under_load),
        cmocka_unit_test(test_killed_in_done),
        cmocka_unit_test(test_control_ack_before_write_loses),
        cmocka_unit_test(test_power_cut),
        cmocka_unit_test(test_control_ack_before_sync_loses),
    };
    return cmocka_run_group_tests_name("plog crashes", tests, NULL, NULL);
}
