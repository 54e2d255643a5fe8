/* Routes, methods and shapes. The pipeline is a fake, linked instead of the real one: one connector, "c 1". */
#include "rest_test.h"

#include <stdio.h>
#include <string.h>

#include "pipeline/pipeline.h"

static int health_status = 200;

json_t *pipeline_connector_names(struct pipeline *p)
{
    (void)p;
    return json_pack("[s]", "c 1");
}

json_t *pipeline_connectors_expanded(struct pipeline *p, int with_status, int with_info)
{
    (void)p;
    return json_pack("{s:{s:i, s:i}}", "c 1", "status", with_status, "info", with_info);
}

static int one(const char *name, const char *what, json_t **ret, struct err *err)
{
    if (strcmp(name, "broken") == 0) {
        return err_set(err, ERR_CORRUPT, "it is broken");
    }
    if (strcmp(name, "c 1") != 0) {
        return err_set(err, ERR_NOT_FOUND, "no %s", name);
    }
    *ret = json_pack("{s:s}", "what", what);
    return 0;
}

int pipeline_connector_info(struct pipeline *p, const char *name, json_t **ret, struct err *err)
{
    (void)p;
    return one(name, "info", ret, err);
}

int pipeline_connector_file(struct pipeline *p, const char *name, char *ret, size_t n)
{
    (void)p;
    if (strcmp(name, "c 1") != 0) {
        return ERR_NOT_FOUND;
    }
    (void)snprintf(ret, n, "some/where.yaml");
    return 0;
}

int pipeline_connector_config(struct pipeline *p, const char *name, json_t **ret, struct err *err)
{
    (void)p;
    return one(name, "config", ret, err);
}

int pipeline_connector_status(struct pipeline *p, const char *name, json_t **ret, struct err *err)
{
    (void)p;
    return one(name, "status", ret, err);
}

int pipeline_connector_tasks(struct pipeline *p, const char *name, json_t **ret, struct err *err)
{
    (void)p;
    return one(name, "tasks", ret, err);
}

int pipeline_task_status(struct pipeline *p, const char *name, int task, json_t **ret,
                         struct err *err)
{
    (void)p;
    return task == 0 ? one(name, "task", ret, err) : err_set(err, ERR_NOT_FOUND, "no task");
}

json_t *pipeline_plugins(struct pipeline *p, int connectors_only)
{
    (void)p;
    return json_pack("[i]", connectors_only);
}

json_t *pipeline_health(struct pipeline *p, int *ret_http)
{
    (void)p;
    *ret_http = health_status;
    return json_pack("{s:s}", "status", health_status == 200 ? "healthy" : "unhealthy");
}

static void reads(void **state)
{
    struct world *w = *state;
    world_expect(w, "GET", "/", NULL, 200,
                 "{\"version\":\"1.2.3\",\"commit\":\"abc\",\"kafka_cluster_id\":\"cluster\"}");
    world_expect(w, "GET", "/health", NULL, 200, "{\"status\":\"healthy\"}");
    health_status = 500;
    world_expect(w, "GET", "/health", NULL, 500, "{\"status\":\"unhealthy\"}");
    health_status = 200;
    world_expect(w, "GET", "/connectors", NULL, 200, "[\"c 1\"]");
    world_expect(w, "GET", "/connectors/", NULL, 200, "[\"c 1\"]");
    world_expect(w, "GET", "/connectors?expand=status&expand=info", NULL, 200,
                 "{\"c 1\":{\"status\":1,\"info\":1}}");
    world_expect(w, "GET", "/connectors?expand=info&expand=what", NULL, 200,
                 "{\"c 1\":{\"status\":0,\"info\":1}}");
    world_expect(w, "GET", "/connectors?expand=what", NULL, 200, "[\"c 1\"]");
    world_expect(w, "GET", "/connectors/c%201", NULL, 200, "{\"what\":\"info\"}");
    world_expect(w, "GET", "/connectors/c%201/config", NULL, 200, "{\"what\":\"config\"}");
    world_expect(w, "GET", "/connectors/c%201/status", NULL, 200, "{\"what\":\"status\"}");
    world_expect(w, "GET", "/connectors/c%201/tasks", NULL, 200, "{\"what\":\"tasks\"}");
    world_expect(w, "GET", "/connectors/c%201/tasks/0/status", NULL, 200, "{\"what\":\"task\"}");
    world_expect(w, "GET", "/connector-plugins", NULL, 200, "[1]");
    world_expect(w, "GET", "/connector-plugins?connectorsOnly=false", NULL, 200, "[0]");
}

static void what_is_not_there(void **state)
{
    struct world *w = *state;
    world_refuses(w, "GET", "/connectors/x", NULL, 404, "Connector x not found");
    world_refuses(w, "GET", "/connectors/x/config", NULL, 404, "Connector x not found");
    world_refuses(w, "GET", "/connectors/x/status", NULL, 404, "No status found for connector x");
    world_refuses(w, "GET", "/connectors/c%201/tasks/7/status", NULL, 404, "task c 1-7");
    world_refuses(w, "GET", "/connectors/c%201/tasks/-1/status", NULL, 404, "task c 1--1");
    world_refuses(w, "GET", "/connectors/c%201/tasks/zero/status", NULL, 404, "task");
    world_refuses(w, "GET", "/connectors/broken", NULL, 500, "it is broken");
    world_refuses(w, "GET", "/nothing", NULL, 404, "404");
    world_refuses(w, "GET", "/connectors/c%201/nothing", NULL, 404, "404");
    world_refuses(w, "GET", "/connectors//config", NULL, 404, "not found");
    world_refuses(w, "GET", "/a/b/c/d/e/f/g/h", NULL, 404, "404");
}

static void writes_of_connectors(void **state)
{
    struct world *w = *state;
    world_refuses(w, "PUT", "/connectors/c%201/config", "{}", 403, "some/where.yaml");
    world_refuses(w, "PATCH", "/connectors/c%201/config", "{}", 403, "some/where.yaml");
    world_refuses(w, "DELETE", "/connectors/c%201", NULL, 403, "some/where.yaml");
    world_refuses(w, "POST", "/connectors", "{\"name\":\"c 1\",\"config\":{}}", 403,
                  "c 1 is defined in some/where.yaml");
    world_refuses(w, "PUT", "/connectors/x/config", "{}", 405, "connectors.dir");
    world_refuses(w, "PATCH", "/connectors/x/config", "{}", 404, "x");
    world_refuses(w, "DELETE", "/connectors/x", NULL, 404, "x");
    world_refuses(w, "POST", "/connectors", "{\"name\":\"x\"}", 405, "connectors.dir");
    world_refuses(w, "POST", "/connectors", "no json", 405, "connectors.dir");
    world_refuses(w, "PUT", "/connectors/c%201/pause", NULL, 405, "yet");
    world_refuses(w, "POST", "/connectors/c%201/restart", NULL, 405, "yet");
    world_refuses(w, "DELETE", "/health", NULL, 405, "405");
}

static void methods_and_headers(void **state)
{
    struct world *w = *state;
    struct buf all;
    buf_init(&all, 0);
    assert_int_equal(world_raw(w, "DELETE", "/connectors", "", "", &all), 405);
    assert_non_null(strcasestr(buf_cstr(&all), "\r\nallow: GET, HEAD, OPTIONS\r\n"));
    assert_non_null(strstr(buf_cstr(&all), "application/json"));
    buf_clear(&all);
    assert_int_equal(world_raw(w, "OPTIONS", "/topics", "", "", &all), 204);
    assert_non_null(strcasestr(buf_cstr(&all), "\r\nallow: GET, HEAD, POST, OPTIONS\r\n"));
    buf_clear(&all);
    assert_int_equal(world_raw(w, "HEAD", "/connectors", "", "", &all), 200);
    assert_non_null(strstr(buf_cstr(&all), "Content-Length: 7\r\n"));
    assert_null(strstr(buf_cstr(&all), "c 1"));
    buf_clear(&all);
    assert_int_equal(world_raw(w, "BREW", "/", "", "", &all), 501);
    assert_non_null(strstr(buf_cstr(&all), "\"error_code\":501"));
    buf_free(&all);
}

/* A browser on another site's page can send simple requests here: those that change something are refused. */
static void other_origins_change_nothing(void **state)
{
    struct world *w = *state;
    static const char topic[] = "{\"name\":\"made\",\"partitions\":1}";
    static const struct {
        const char *headers;
        int status;
    } cases[] = {
        {"Content-Type: application/json\r\nOrigin: http://evil.example\r\n", 403},
        {"Content-Type: application/json\r\nOrigin: null\r\n", 403},
        {"Content-Type: application/json\r\nOrigin: http://localhost.evil\r\n", 403},
        {"Content-Type: text/plain\r\n", 415},
        {"Content-Type: application/jsonx\r\n", 415},
        {"", 415},
        {"Content-Type: application/json; charset=utf-8\r\nOrigin: http://localhost\r\n", 201},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf all;
        buf_init(&all, 0);
        assert_int_equal(world_raw(w, "POST", "/topics", cases[i].headers, topic, &all),
                         cases[i].status);
        buf_free(&all);
    }
    world_expect(w, "DELETE", "/topics/made", NULL, 204, "");
}

static void starting(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 1);
    rest_set_stage(w.rest, "recovering the log");
    world_expect(&w, "GET", "/", NULL, 200,
                 "{\"version\":\"1.2.3\",\"commit\":\"abc\",\"kafka_cluster_id\":\"cluster\"}");
    world_expect(&w, "GET", "/health", NULL, 503,
                 "{\"status\":\"starting\",\"message\":\"connectd is starting: recovering the "
                 "log\",\"problems\":[]}");
    world_refuses(&w, "GET", "/connectors", NULL, 503, "starting");
    world_refuses(&w, "POST", "/topics/x/records", "[]", 503, "starting");
    world_refuses(&w, "GET", "/nothing", NULL, 404, "404");
    world_ready(&w);
    world_expect(&w, "GET", "/health", NULL, 200, "{\"status\":\"healthy\"}");
    world_expect(&w, "GET", "/connectors", NULL, 200, "[\"c 1\"]");
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

int run_route_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),
        cmocka_unit_test(what_is_not_there),
        cmocka_unit_test(writes_of_connectors),
        cmocka_unit_test(methods_and_headers),
        cmocka_unit_test(other_origins_change_nothing),
        cmocka_unit_test(starting),
    };
    return cmocka_run_group_tests_name("rest: routes", tests, set_up, tear_down);
}
