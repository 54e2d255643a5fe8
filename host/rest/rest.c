/*
 * Start, stop and routes. On the net thread a request is only matched with its route; what may block is a
 * job for the workers.
 */
#include "rest/rest_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- routes ---- */

#define M(method) (1u << (method))
#define READ      (M(NET_GET) | M(NET_HEAD))

struct route {
    const char *path; /* segments; * is any */
    unsigned allowed;
    unsigned handled; /* beside those allowed: answered by the step, which then says why not */
    void (*step)(struct job *j);
};

/* Paths whose writes come later are here with nothing allowed, so that they say 405 and not 404. */
static const struct route routes[] = {
    {"", READ, 0, NULL},
    {"health", READ, 0, rest_get_health},
    {"connectors", READ, 0, rest_get_connectors},
    {"connectors", 0, M(NET_POST), rest_change_connector},
    {"connectors/*", READ, 0, rest_get_connector},
    {"connectors/*", 0, M(NET_DELETE), rest_change_connector},
    {"connectors/*/config", READ, 0, rest_get_connector},
    {"connectors/*/config", 0, M(NET_PUT) | M(NET_PATCH), rest_change_connector},
    {"connectors/*/status", READ, 0, rest_get_connector},
    {"connectors/*/tasks", READ, 0, rest_get_connector},
    {"connectors/*/tasks/*/status", READ, 0, rest_get_connector},
    {"connectors/*/tasks/*/restart", 0, 0, NULL},
    {"connectors/*/restart", 0, 0, NULL},
    {"connectors/*/pause", 0, 0, NULL},
    {"connectors/*/resume", 0, 0, NULL},
    {"connectors/*/stop", 0, 0, NULL},
    {"connectors/*/offsets", 0, 0, NULL},
    {"connector-plugins", READ, 0, rest_get_plugins},
    {"connector-plugins/*/config/validate", 0, 0, NULL},
    {"topics", READ | M(NET_POST), 0, rest_topics},
    {"topics/*", READ | M(NET_DELETE), 0, rest_topic},
    {"topics/*/records", READ | M(NET_POST), 0, rest_records},
};

static int matches(const char *path, const char *const *seg, int n)
{
    for (int i = 0; i < n; i++) {
        size_t len = strcspn(path, "/");
        if (len == 0 || (strncmp(path, "*", len) != 0 &&
                         (strlen(seg[i]) != len || strncmp(path, seg[i], len) != 0))) {
            return 0;
        }
        path += len + (path[len] == '/');
    }
    return *path == '\0';
}

/* The route for path and method, or NULL; *ret_allowed then says what the path takes (0 with *ret_known 0: no
 * such path). */
static const struct route *find_route(const char *const *seg, int n, enum net_method method,
                                      unsigned *ret_allowed, int *ret_known)
{
    const struct route *found = NULL;
    *ret_allowed = 0;
    *ret_known = 0;
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        if (matches(routes[i].path, seg, n)) {
            *ret_known = 1;
            *ret_allowed |= routes[i].allowed;
            if (((routes[i].allowed | routes[i].handled) & M(method)) != 0) {
                found = &routes[i];
            }
        }
    }
    return found;
}

static void allow_header(struct net_request *req, unsigned allowed)
{
    static const struct {
        enum net_method method;
        const char *name;
    } names[] = {
        {NET_GET, "GET, "}, {NET_HEAD, "HEAD, "},   {NET_POST, "POST, "},
        {NET_PUT, "PUT, "}, {NET_PATCH, "PATCH, "}, {NET_DELETE, "DELETE, "},
    };
    struct buf text;
    buf_init(&text, 0);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if ((allowed & M(names[i].method)) != 0) {
            buf_append_str(&text, names[i].name);
        }
    }
    buf_append_str(&text, "OPTIONS");
    net_reply_header(req, "Allow", buf_cstr(&text));
    buf_free(&text);
}

/* ---- what is answered at once ---- */

static void not_handled(struct net_request *req, enum net_method method, unsigned allowed,
                        int known)
{
    if (!known) {
        net_reply_error(req, 404, "HTTP 404 Not Found");
        return;
    }
    allow_header(req, allowed);
    if (method == NET_OPTIONS) {
        net_reply(req, 204, NULL, NULL);
    } else if (allowed == 0) {
        net_reply_error(req, 405, "this version cannot do that yet");
    } else {
        net_reply_error(req, 405, "HTTP 405 Method Not Allowed");
    }
}

static void get_root(struct rest *r, struct net_request *req)
{
    rest_reply_json(req, 200,
                    json_pack("{s:s, s:s, s:s}", "version", r->version, "commit", r->commit,
                              "kafka_cluster_id", r->cluster_id));
}

static void not_ready(struct rest *r, struct net_request *req, int health)
{
    char message[128];
    mutex_lock(&r->lock);
    (void)snprintf(message, sizeof(message), "connectd is starting: %s", r->stage);
    mutex_unlock(&r->lock);
    net_reply_header(req, "Retry-After", "1");
    net_reply_header(req, "Connectd-State", "starting");
    if (health) {
        rest_reply_json(
            req, 503,
            json_pack("{s:s, s:s, s:[]}", "status", "starting", "message", message, "problems"));
    } else {
        net_reply_error(req, 503, "%s", message);
    }
}

static int same(struct slice s, const char *text)
{
    return slice_eq(s, slice_str(text));
}

/* A page of another site may make a browser send requests here: those that change something must come
 * from a page of this host, or from no page at all, and name their body JSON. 0, or the refusal's status. */
static int check_write(struct net_request *req, const char **ret_why)
{
    struct slice origin;
    struct slice host;
    struct slice type;
    if (net_request_header(req, "origin", &origin) == 1 &&
        (net_request_header(req, "host", &host) != 1 || origin.len != host.len + 7 ||
         memcmp(origin.ptr, "http://", 7) != 0 ||
         !slice_eq(slice_of(origin.ptr + 7, host.len), host))) {
        *ret_why = "requests from pages of other origins change nothing here";
        return 403;
    }
    if (net_request_body(req).len > 0 && net_request_method(req) == NET_POST) {
        if (net_request_header(req, "content-type", &type) != 1) {
            *ret_why = "Content-Type must be application/json";
            return 415;
        }
        const uint8_t *end = memchr(type.ptr, ';', type.len);
        type.len = end != NULL ? (size_t)(end - type.ptr) : type.len;
        while (type.len > 0 && type.ptr[type.len - 1] == ' ') {
            type.len--;
        }
        if (!same(type, REST_JSON)) {
            *ret_why = "Content-Type must be application/json";
            return 415;
        }
    }
    return 0;
}

/* On the net thread. */
static void handle(void *arg, struct net_request *req)
{
    struct rest *r = arg;
    const char *seg[REST_SEGMENTS];
    unsigned allowed = 0;
    int known = 0;
    const char *why = NULL;
    enum net_method method = net_request_method(req);
    int n = net_request_segments(req, seg, REST_SEGMENTS);
    const struct route *route = n < 0 ? NULL : find_route(seg, n, method, &allowed, &known);
    if (route == NULL) {
        not_handled(req, method, allowed, known);
        return;
    }
    if (n == 0) {
        get_root(r, req);
        return;
    }
    mutex_lock(&r->lock);
    int ready = r->ready;
    mutex_unlock(&r->lock);
    if (!ready) {
        not_ready(r, req, strcmp(seg[0], "health") == 0);
        return;
    }
    int status = (M(method) & READ) != 0 ? 0 : check_write(req, &why);
    if (status != 0) {
        net_reply_error(req, status, "%s", why);
        return;
    }
    rest_job_start(r, req, method == NET_HEAD ? NET_GET : method, seg, n, route->step);
}

/* ---- start and stop ---- */

static void rest_free(struct rest *r)
{
    cond_destroy(&r->work);
    mutex_destroy(&r->lock);
    free(r);
}

int rest_start(const struct rest_options *o, struct rest **ret, struct err *err)
{
    struct rest *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    mutex_init(&r->lock);
    cond_init(&r->work);
    (void)snprintf(r->version, sizeof(r->version), "%s", o->version);
    (void)snprintf(r->commit, sizeof(r->commit), "%s", o->commit);
    (void)snprintf(r->cluster_id, sizeof(r->cluster_id), "%s", o->cluster_id);
    (void)snprintf(r->stage, sizeof(r->stage), "opening the data directory");
    int rc = 0;
    while (rc == 0 && r->n_workers < REST_WORKERS) {
        rc = thread_start(&r->workers[r->n_workers], "rest", rest_worker, r, err);
        r->n_workers += rc == 0;
    }
    struct net_server_options net = {
        .address = o->address,
        .port = o->port,
        .handle = handle,
        .arg = r,
        .limits = {.uri_bytes = 65536, .head_bytes = 98304, .body_bytes = (size_t)4 << 20},
    };
    if (rc == 0) {
        rc = net_server_start(&net, &r->server, err);
    }
    if (rc != 0) {
        rest_stop(r);
        return rc;
    }
    *ret = r;
    return 0;
}

uint16_t rest_port(const struct rest *r)
{
    return net_server_port(r->server);
}

const char *rest_authority(const struct rest *r)
{
    return net_server_authority(r->server);
}

void rest_set_stage(struct rest *r, const char *stage)
{
    mutex_lock(&r->lock);
    (void)snprintf(r->stage, sizeof(r->stage), "%s", stage);
    mutex_unlock(&r->lock);
}

void rest_set_ready(struct rest *r, struct pipeline *pipeline, struct topic_engine *engine)
{
    mutex_lock(&r->lock);
    r->pipeline = pipeline;
    r->engine = engine;
    r->ready = 1;
    mutex_unlock(&r->lock);
}

void rest_stop(struct rest *r)
{
    if (r == NULL) {
        return;
    }
    net_server_stop(r->server); /* jobs that wait are woken as if their client had hung up */
    mutex_lock(&r->lock);
    r->stopping = 1;
    cond_broadcast(&r->work);
    mutex_unlock(&r->lock);
    for (int i = 0; i < r->n_workers; i++) {
        thread_join(r->workers[i]);
    }
    rest_free(r);
}
