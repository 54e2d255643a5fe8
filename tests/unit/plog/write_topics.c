/*
 * `test_plog --write-topics DIR`: logs for Kafka's own tools to read. Each has been rolled, continued after a
 * clean stop and after a crash, on one of the paths, and is closed cleanly in the end.
 */
#include "util.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests.h"

static void write_some(struct plog *p, const char *topic, int32_t partitions, int n, int round)
{
    for (int32_t i = 0; i < partitions; i++) {
        struct plog_partition *t = NULL;
        if (plog_partition_get(p, topic, i, &t, &test_err) != 0) {
            exit(1);
        }
        for (int k = 0; k < n; k++) {
            /* Sizes and counts that vary, times that go back now and then and repeat. */
            int64_t ts = 1700000000000 + round * 100000 + k * 10 - (k % 7 == 0 ? 5000 : 0);
            if (test_put(p, t, "k", k % 9 + 1, (size_t)(k * 37 % 900), ts - k % 3) < 0) {
                exit(1);
            }
        }
        plog_partition_unref(t);
    }
}

static void write_round(struct plog *p, int round)
{
    write_some(p, "plain", 2, 200, round);
    write_some(p, "rolls", 2, 300, round);
    write_some(p, "dense", 1, 60, round);
    write_some(p, "one", 1, round == 0, round);
}

static void write_one(const char *dir, int force_path)
{
    char *crashed = NULL;
    if (file_mkdirs(dir, &test_err) != 0 || asprintf(&crashed, "%s-crashed", dir) < 0) {
        exit(1);
    }
    struct plog_options o = {.dir = dir, .force_path = force_path, .journal_bytes = 300000};
    struct plog *p = test_open_with(o);
    test_topic(p, "plain", 2, NULL);
    test_topic(
        p, "rolls", 2,
        (const char *const[]){"segment.bytes", "50000", "index.interval.bytes", "700", NULL, NULL});
    test_topic(p, "dense", 1, (const char *const[]){"index.interval.bytes", "0", NULL, NULL});
    test_topic(p, "one", 1, NULL);
    test_topic(p, "empty", 1, NULL);
    write_round(p, 0);
    plog_close(p);
    p = test_open_with(o);
    write_round(p, 1);
    struct plog *q = test_crash_open(dir, crashed);
    write_round(q, 2);
    plog_close(q);
    plog_close(p);
    free(crashed);
}

int write_topics(const char *dir)
{
    char *redo = test_path(dir, "redo");
    char *straight = test_path(dir, "straight");
    write_one(redo, 1);
    write_one(straight, 2);
    free(redo);
    free(straight);
    return 0;
}
