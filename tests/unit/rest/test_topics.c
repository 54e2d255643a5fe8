/* Topics and their records, over a real log. */
#include "rest_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void make(struct world *w, const char *name, int partitions)
{
    char body[300];
    (void)snprintf(body, sizeof(body), "{\"name\":\"%s\",\"partitions\":%d}", name, partitions);
    assert_int_equal(world_ask(w, "POST", "/topics", body, NULL), 201);
}

static void create_list_describe_delete(void **state)
{
    struct world *w = *state;
    world_expect(w, "POST", "/topics",
                 "{\"name\":\"t1\",\"partitions\":2,\"config\":{\"retention.ms\":86400000}}", 201,
                 "{\"name\":\"t1\",\"partitions\":["
                 "{\"partition\":0,\"start_offset\":0,\"end_offset\":0,\"bytes\":0,"
                 "\"state\":\"online\",\"error\":null},"
                 "{\"partition\":1,\"start_offset\":0,\"end_offset\":0,\"bytes\":0,"
                 "\"state\":\"online\",\"error\":null}],"
                 "\"config\":{\"retention.ms\":\"86400000\"}}");
    world_expect(w, "GET", "/topics", NULL, 200, "[\"t1\"]");
    json_t *all = NULL;
    assert_int_equal(world_ask(w, "GET", "/topics?all=true", NULL, &all), 200);
    assert_true(json_array_size(all) > 1);
    json_decref(all);
    world_refuses(w, "GET", "/topics?all=maybe", NULL, 400, "maybe");
    world_refuses(w, "POST", "/topics", "{\"name\":\"t1\",\"partitions\":2}", 409, "t1");
    world_refuses(w, "POST", "/topics", "{\"name\":\"t 2\",\"partitions\":2}", 400, "name");
    world_refuses(w, "POST", "/topics", "{\"partitions\":2}", 400, "name");
    world_refuses(w, "POST", "/topics", "{\"name\":\"t2\"}", 400, "partitions");
    world_refuses(w, "POST", "/topics", "{\"name\":\"t2\",\"partitions\":0}", 400, "partitions");
    world_refuses(w, "POST", "/topics", "{\"name\":\"t2\",\"partitions\":\"2\"}", 400, "partition");
    world_refuses(w, "POST", "/topics",
                  "{\"name\":\"t2\",\"partitions\":1,\"config\":{\"retention.sm\":\"1\"}}", 400,
                  "retention");
    world_refuses(w, "POST", "/topics", "{\"name\":\"t2\",\"partitions\":1,\"config\":[]}", 400,
                  "config");
    world_refuses(w, "POST", "/topics", "{\"name\":\"connect-offsets\",\"partitions\":1}", 403,
                  "connect-offsets");
    world_refuses(w, "POST", "/topics", "{", 400, "JSON");
    world_refuses(w, "DELETE", "/topics/connect-offsets", NULL, 403, "connect-offsets");
    world_refuses(w, "DELETE", "/topics/nope", NULL, 404, "nope");
    world_refuses(w, "GET", "/topics/nope", NULL, 404, "nope");
    world_expect(w, "DELETE", "/topics/t1", NULL, 204, "");
    world_expect(w, "GET", "/topics", NULL, 200, "[]");
}

static void written_records_are_read_back(void **state)
{
    struct world *w = *state;
    make(w, "rt", 1);
    world_expect(w, "POST", "/topics/rt/records",
                 "[{\"value\":\"a\",\"timestamp\":5},"
                 "{\"key\":\"k\",\"value\":null,\"timestamp\":6},"
                 "{\"key\":{\"base64\":\"/wA=\"},\"value\":\"\\u0000\\\"\\\\\\n\\u00e4\","
                 "\"headers\":[[\"h\",\"x\"],[\"n\",null]],\"timestamp\":7}]",
                 200,
                 "[{\"topic\":\"rt\",\"partition\":0,\"offset\":0},"
                 "{\"topic\":\"rt\",\"partition\":0,\"offset\":1},"
                 "{\"topic\":\"rt\",\"partition\":0,\"offset\":2}]");
    struct buf all;
    buf_init(&all, 0);
    assert_int_equal(
        world_raw(w, "GET", "/topics/rt/records?offset=earliest&format=lines", "", "", &all), 200);
    assert_string_equal(
        strstr(buf_cstr(&all), "\r\n\r\n") + 4,
        "{\"topic\":\"rt\",\"partition\":0,\"offset\":0,\"timestamp\":5,\"key\":null,"
        "\"value\":\"a\",\"headers\":[]}\n"
        "{\"topic\":\"rt\",\"partition\":0,\"offset\":1,\"timestamp\":6,\"key\":\"k\","
        "\"value\":null,\"headers\":[]}\n"
        "{\"topic\":\"rt\",\"partition\":0,\"offset\":2,\"timestamp\":7,"
        "\"key\":{\"base64\":\"/wA=\"},\"value\":\"\\u0000\\\"\\\\\\n\xc3\xa4\","
        "\"headers\":[[\"h\",\"x\"],[\"n\",null]]}\n");
    assert_non_null(strcasestr(buf_cstr(&all), "Connectd-Positions: 0:3:3\r\n"));
    assert_non_null(strcasestr(buf_cstr(&all), "Connectd-Records: 3\r\n"));
    buf_clear(&all);
    assert_int_equal(world_raw(w, "GET",
                               "/topics/rt/records?partition=0&offset=0&max_records=2&format=value",
                               "", "", &all),
                     200);
    assert_string_equal(strstr(buf_cstr(&all), "\r\n\r\n") + 4, "a\n\n");
    buf_free(&all);
    world_expect(w, "GET", "/topics/rt/records?offset=1&max_records=1", NULL, 200,
                 "{\"records\":[{\"topic\":\"rt\",\"partition\":0,\"offset\":1,\"timestamp\":6,"
                 "\"key\":\"k\",\"value\":null,\"headers\":[]}],\"partition\":0,\"next_offset\":2,"
                 "\"start_offset\":0,\"end_offset\":3,\"skipped\":null}");
    world_expect(w, "GET", "/topics/rt/records", NULL, 200,
                 "{\"records\":[],\"partition\":0,\"next_offset\":3,\"start_offset\":0,"
                 "\"end_offset\":3,\"skipped\":null}");
    world_expect(w, "GET", "/topics/rt/records?positions=0:0:1", NULL, 200,
                 "{\"records\":[{\"topic\":\"rt\",\"partition\":0,\"offset\":0,\"timestamp\":5,"
                 "\"key\":null,\"value\":\"a\",\"headers\":[]}],\"positions\":[{\"partition\":0,"
                 "\"next_offset\":1,\"start_offset\":0,\"end_offset\":3}],\"skipped\":null}");
}

static void bad_reads(void **state)
{
    struct world *w = *state;
    make(w, "br", 1);
    world_refuses(w, "GET", "/topics/nope/records", NULL, 404, "nope");
    world_refuses(w, "GET", "/topics/br/records?partition=1", NULL, 404, "1");
    world_refuses(w, "GET", "/topics/br/records?partition=x", NULL, 400, "'x'");
    world_refuses(w, "GET", "/topics/br/records?offset=-3", NULL, 400, "-3");
    world_refuses(w, "GET", "/topics/br/records?offset=7", NULL, 416, "out of range");
    world_refuses(w, "GET", "/topics/br/records?max_records=0", NULL, 400, "max_records");
    world_refuses(w, "GET", "/topics/br/records?wait_ms=x", NULL, 400, "wait_ms");
    world_refuses(w, "GET", "/topics/br/records?format=xml", NULL, 400, "format");
    world_refuses(w, "GET", "/topics/br/records?positions=", NULL, 400, "positions");
    world_refuses(w, "GET", "/topics/br/records?positions=0", NULL, 400, "position");
    world_refuses(w, "GET", "/topics/br/records?positions=0:a", NULL, 400, "'a'");
    world_refuses(w, "GET", "/topics/br/records?positions=0:1:-1", NULL, 400, "-1");
}

static void bad_writes(void **state)
{
    struct world *w = *state;
    make(w, "bw", 2);
    static const struct {
        const char *body;
        int status;
        const char *part;
    } cases[] = {
        {"[]", 400, "empty"},
        {"{}", 400, "list"},
        {"[1]", 400, "record 0"},
        {"[{\"value\":\"a\"},{\"value\":1}]", 400, "record 1: value"},
        {"[{\"value\":{\"base64\":\"!\"}}]", 400, "record 0: value"},
        {"[{\"value\":{\"base64\":\"\",\"x\":1}}]", 400, "record 0: value"},
        {"[{\"key\":[]}]", 400, "record 0: key"},
        {"[{\"partition\":2}]", 400, "partition must be 0 to 1"},
        {"[{\"partition\":-1}]", 400, "partition"},
        {"[{\"partition\":\"0\"}]", 400, "partition"},
        {"[{\"timestamp\":-1}]", 400, "timestamp"},
        {"[{\"headers\":{}}]", 400, "headers"},
        {"[{\"headers\":[[\"a\"]]}]", 400, "header 0"},
        {"nonsense", 400, "JSON"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        world_refuses(w, "POST", "/topics/bw/records", cases[i].body, cases[i].status,
                      cases[i].part);
    }
    world_refuses(w, "POST", "/topics/nope/records", "[{}]", 404, "nope");
    world_refuses(w, "POST", "/topics/connect-configs/records", "[{}]", 403, "connect-configs");
    /* nothing of them was written, the good record before a bad one neither */
    json_t *t = NULL;
    assert_int_equal(world_ask(w, "GET", "/topics/bw", NULL, &t), 200);
    for (size_t i = 0; i < 2; i++) {
        json_t *p = json_array_get(json_object_get(t, "partitions"), i);
        assert_int_equal(json_integer_value(json_object_get(p, "end_offset")), 0);
    }
    json_decref(t);
}

/* A record larger than a batch may be is refused by name; many of half that size become several batches. */
static void large_writes(void **state)
{
    struct world *w = *state;
    world_expect(w, "POST", "/topics",
                 "{\"name\":\"lw\",\"partitions\":1,\"config\":{\"max.message.bytes\":1000}}", 201,
                 "{\"name\":\"lw\",\"partitions\":[{\"partition\":0,\"start_offset\":0,"
                 "\"end_offset\":0,\"bytes\":0,\"state\":\"online\",\"error\":null}],"
                 "\"config\":{\"max.message.bytes\":\"1000\"}}");
    char value[1100];
    char body[4000];
    memset(value, 'x', sizeof(value));
    value[1000] = '\0';
    (void)snprintf(body, sizeof(body), "[{\"value\":\"a\"},{\"value\":\"%s\"}]", value);
    world_refuses(w, "POST", "/topics/lw/records", body, 400, "record 1");
    value[600] = '\0';
    (void)snprintf(body, sizeof(body), "[{\"value\":\"%s\"},{\"value\":\"%s\"},{\"value\":\"%s\"}]",
                   value, value, value);
    world_expect(w, "POST", "/topics/lw/records", body, 200,
                 "[{\"topic\":\"lw\",\"partition\":0,\"offset\":0},"
                 "{\"topic\":\"lw\",\"partition\":0,\"offset\":1},"
                 "{\"topic\":\"lw\",\"partition\":0,\"offset\":2}]");
    json_t *got = NULL;
    assert_int_equal(world_ask(w, "GET", "/topics/lw/records?offset=1", NULL, &got), 200);
    assert_int_equal(json_array_size(json_object_get(got, "records")), 2);
    json_decref(got);
}

/* Keys go where Kafka's producers put them; keyless requests stay together. */
static void partitions_by_key(void **state)
{
    struct world *w = *state;
    make(w, "pk", 3);
    json_t *got = NULL;
    assert_int_equal(world_ask(w, "POST", "/topics/pk/records",
                               "[{\"key\":\"a\"},{\"key\":\"b\"},{\"key\":\"c\"},{\"key\":\"a\"},"
                               "{\"value\":\"1\"},{\"value\":\"2\"},{\"partition\":2}]",
                               &got),
                     200);
    int p[7];
    for (size_t i = 0; i < 7; i++) {
        p[i] = (int)json_integer_value(json_object_get(json_array_get(got, i), "partition"));
    }
    json_decref(got);
    static const char *const keys[] = {"a", "b", "c", "a"};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(p[i], record_partition_for_key(slice_str(keys[i]), 3));
    }
    assert_int_equal(p[4], p[5]);
    assert_int_equal(p[6], 2);
    /* all come back over several positions, each partition in its order */
    assert_int_equal(world_ask(w, "GET",
                               "/topics/pk/records?positions=0:earliest,1:earliest,2:earliest",
                               NULL, &got),
                     200);
    assert_int_equal(json_array_size(json_object_get(got, "records")), 7);
    assert_int_equal(json_array_size(json_object_get(got, "positions")), 3);
    json_decref(got);
}

/* A long poll answers when a record comes, and holds up nobody meanwhile, however many wait. */
static void long_polls(void **state)
{
    enum { N = 20 };
    struct world *w = *state;
    make(w, "lp", 2);
    int fds[N];
    for (int i = 0; i < N; i++) {
        fds[i] = world_send(
            w, "GET", "/topics/lp/records?positions=0:0,1:0&wait_ms=60000&format=value", "", "");
    }
    int hung_up = world_send(w, "GET", "/topics/lp/records?wait_ms=60000", "", "");
    close(hung_up);
    world_expect(w, "GET", "/topics/lp/records?wait_ms=1", NULL, 200,
                 "{\"records\":[],\"partition\":0,\"next_offset\":0,\"start_offset\":0,"
                 "\"end_offset\":0,\"skipped\":null}");
    int64_t start = clock_mono_ms();
    assert_int_equal(
        world_ask(w, "POST", "/topics/lp/records", "[{\"partition\":1,\"value\":\"news\"}]", NULL),
        200);
    for (int i = 0; i < N; i++) {
        struct buf all;
        buf_init(&all, 0);
        assert_int_equal(world_receive(fds[i], &all), 200);
        assert_string_equal(strstr(buf_cstr(&all), "\r\n\r\n") + 4, "news\n");
        buf_free(&all);
    }
    assert_true(clock_mono_ms() - start < 30000); /* woken, not timed out */
}

/* A poll on a topic that is deleted ends; so do polls when the server stops. */
static void polls_end(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 0);
    make(&w, "gone", 1);
    make(&w, "stays", 1);
    int gone = world_send(&w, "GET", "/topics/gone/records?wait_ms=60000", "", "");
    int stays = world_send(&w, "GET", "/topics/stays/records?wait_ms=60000", "", "");
    world_expect(&w, "DELETE", "/topics/gone", NULL, 204, "");
    struct buf all;
    buf_init(&all, 0);
    assert_int_equal(world_receive(gone, &all), 404);
    buf_clear(&all);
    world_close(&w);
    (void)world_receive(stays, &all); /* 503, or nothing if it had not been read yet */
    buf_free(&all);
}

/* Without a pipeline (the command line's own) topics work and connectors are 404. */
static void topics_only(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 0);
    rest_set_ready(w.rest, NULL, w.engine);
    make(&w, "t", 1);
    world_expect(&w, "GET", "/topics", NULL, 200, "[\"t\"]");
    world_refuses(&w, "GET", "/connectors", NULL, 404, "no connectors");
    world_refuses(&w, "DELETE", "/connectors/x", NULL, 404, "no connectors");
    assert_int_equal(world_ask(&w, "GET", "/health", NULL, NULL), 200);
    world_close(&w);
}

static int set_up(void **state)
{
    static struct world w;
    world_open(&w, 0);
    *state = &w;
    return 0;
}

static int tear_down(void **state)
{
    world_close(*state);
    return 0;
}

int run_topic_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(create_list_describe_delete),
        cmocka_unit_test(written_records_are_read_back),
        cmocka_unit_test(bad_reads),
        cmocka_unit_test(bad_writes),
        cmocka_unit_test(large_writes),
        cmocka_unit_test(partitions_by_key),
        cmocka_unit_test(long_polls),
        cmocka_unit_test(polls_end),
        cmocka_unit_test(topics_only),
    };
    return cmocka_run_group_tests_name("rest: topics", tests, set_up, tear_down);
}
