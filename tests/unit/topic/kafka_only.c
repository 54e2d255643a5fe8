/* What only a cluster does to its clients. The log's engine has no broker that could refuse or fence it. */
#include <string.h>

#include <librdkafka/rdkafka.h>
/* needs the one above */
#include <librdkafka/rdkafka_mock.h>

#include "base/clock.h"
#include "suite.h"

enum { API_OFFSET_COMMIT = 8, API_INIT_PRODUCER_ID = 22 };

static const char *const topics[] = {"t"};

static int has_one(void *arg)
{
    const struct sink *s = arg;
    return s->n_owned == 1;
}

/* A commit that meets a rebalance is repeated; one that the cluster fences is not. */
static void commits_meet_rebalances(struct fixture *f)
{
    struct owners o;
    struct sink a;
    struct sink *const first[] = {&a};
    int64_t offset = -1;
    owners_init(&o);
    f->kind->make_topic(f, "t", 1);
    sink_join(f, &a, &o, "g", topics, 1);
    pump_until(&o, first, 1, has_one, &a);
    rd_kafka_mock_push_request_errors(
        f->mock_cluster, API_OFFSET_COMMIT, 3, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
        RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS);
    OK(commit_offset(f, "g", a.generation, "t", 0, 5, &err));
    OK(topic_group_offset(f->engine, "g", "t", 0, &offset, &err));
    assert_int_equal(offset, 5);
    rd_kafka_mock_push_request_errors(f->mock_cluster, API_OFFSET_COMMIT, 1,
                                      RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID);
    assert_int_equal(commit_offset(f, "g", a.generation, "t", 0, 6, NULL), ERR_FENCED);
    OK(topic_group_offset(f->engine, "g", "t", 0, &offset, &err));
    assert_int_equal(offset, 5);
    sink_leave(&a);
    signal_destroy(&o.signal);
}

/* A producer with a fatal error refuses everything for ever: another takes its place. */
static void a_broken_producer_is_replaced(struct fixture *f)
{
    struct rec r = {NULL, "v", 1, NULL, 0};
    struct buf b = BUF_INIT(4096);
    f->kind->make_topic(f, "t", 1);
    f->kind->close(f);
    size_t left = 1;
    (void)rd_kafka_mock_broker_push_request_error_rtts(
        f->mock_cluster, 1, API_INIT_PRODUCER_ID, 1, RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
        0);
    f->kind->open(f);
    struct topic_append a = append_of(&b, "t", 0, &r, 1);
    struct topic_unit u = {.appends = &a, .n_appends = 1, .generation = -1};
    int rc = topic_commit(f->engine, &u, NULL);
    int64_t deadline = clock_mono_ms() + 30000;
    while (rc < 0 && clock_mono_ms() < deadline) {
        rc = topic_commit(f->engine, &u, NULL);
    }
    assert_int_equal(rc, 0);
    assert_int_equal(end_offset(f, "t", 0), 1);
    assert_int_equal(topic_writable(f->engine, NULL, 0), 1);
    (void)rd_kafka_mock_broker_error_stack_cnt(f->mock_cluster, 1, API_INIT_PRODUCER_ID, &left);
    assert_int_equal(left, 0); /* a producer did meet it */
    buf_free(&b);
}

const struct suite_case kafka_cases[] = {
    {"commits_meet_rebalances", commits_meet_rebalances, ON_KAFKA, 1},
    {"a_broken_producer_is_replaced", a_broken_producer_is_replaced, ON_KAFKA, 0},
};
const size_t n_kafka_cases = sizeof(kafka_cases) / sizeof(kafka_cases[0]);
