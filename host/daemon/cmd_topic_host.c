/*
 * The host that `connectd topic` talks to: the one that --url or DATA/run.json names. When none
 * runs, the command takes DATA's lock, opens the log and serves the same REST to itself on a free
 * loopback port, so there is one path and one behaviour.
 */
#include "daemon/cmd_topic_int.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "daemon/runfile.h"
#include "plog/plog.h"
#include "rest/rest.h"
#include "topic/topic.h"

enum { STARTING_MS = 30000 }; /* how long a host may be starting */

volatile sig_atomic_t cmd_topic_interrupted;

static void on_signal(int sig)
{
    (void)sig;
    cmd_topic_interrupted = 1;
}

static void set_url(struct topic_host *h, const char *url)
{
    (void)snprintf(h->url, sizeof(h->url), "%s", url);
    size_t n = strlen(h->url);
    while (n > 0 && h->url[n - 1] == '/') {
        h->url[--n] = '\0';
    }
}

/* The log is ours: it is closed cleanly, so a signal only ends what runs. */
static int open_log(struct topic_host *h, const char *data, struct err *err)
{
    struct sigaction end = {.sa_handler = on_signal};
    (void)sigaction(SIGINT, &end, NULL);
    (void)sigaction(SIGTERM, &end, NULL);
    struct plog_options log = {.dir = data};
    TRY(plog_open(&log, &h->log, err));
    struct topic_plog_options topic = {.log = h->log};
    TRY(topic_open_plog(&topic, &h->engine, err));
    struct rest_options rest = {
        .address = "127.0.0.1", .version = "", .commit = "", .cluster_id = ""};
    TRY(rest_start(&rest, &h->rest, err));
    rest_set_ready(h->rest, NULL, h->engine);
    char url[128];
    (void)snprintf(url, sizeof(url), "http://%s", rest_authority(h->rest));
    set_url(h, url);
    return 0;
}

/* 1 if the host that run.json names answers. */
static int answers(struct topic_host *h, const struct runfile *run)
{
    struct net_response r;
    set_url(h, run->rest);
    int ok = net_get(h->client, h->url, &r, NULL) == 0 && r.status == 200;
    net_response_free(&r);
    return ok;
}

int cmd_topic_find_host(struct topic_host *h, const struct topic_args *a, struct err *err)
{
    struct net_client_options o = {.total_ms = 120000, .body_bytes = (size_t)96 << 20};
    TRY(net_client_open(&o, &h->client, err));
    if (a->url != NULL) {
        set_url(h, a->url);
        return 0;
    }
    struct runfile run;
    int rc = runfile_read(a->data, &run, err);
    if (rc == 0 && answers(h, &run)) {
        return 0;
    }
    if (rc != 0 && rc != ERR_NOT_FOUND) {
        return rc;
    }
    if (strcmp(a->verb, "create") == 0) {
        TRY(file_mkdirs(a->data, err));
    }
    rc = lock_take(a->data, &h->lock, err);
    if (rc == ERR_BUSY) {
        struct err busy = *err;
        return err_set(err, rc, "%s, whose REST does not answer (yet); try again, or give --url",
                       busy.msg);
    }
    if (rc == ERR_NOT_FOUND) {
        return err_set(err, rc,
                       "there is no data directory %s; name it with --data, or the host with --url",
                       a->data);
    }
    return rc != 0 ? rc : open_log(h, a->data, err);
}

void cmd_topic_leave_host(struct topic_host *h)
{
    net_client_close(h->client);
    rest_stop(h->rest);
    topic_close(h->engine);
    plog_close(h->log);
    lock_release(&h->lock);
}

/* What the host says in an error body. */
static int refused(const struct net_response *r, struct err *err)
{
    json_t *body = codec_json_parse((const char *)r->body.data, r->body.len, NULL);
    const char *message = json_string_value(json_object_get(body, "message"));
    int rc = message != NULL ? err_set(err, ERR_FATAL, "%s", message)
                             : err_set(err, ERR_FATAL, "the host answered %d", r->status);
    json_decref(body);
    return rc;
}

int cmd_topic_ask(struct topic_host *h, const char *method, const char *path,
                  const struct buf *body, int want, struct net_response *ret, struct err *err)
{
    int64_t deadline = clock_mono_ms() + STARTING_MS;
    struct buf url;
    buf_init(&url, 128 << 10);
    buf_printf(&url, "%s%s", h->url, path);
    int rc;
    for (;;) {
        char state[16];
        rc = net_client_request(
            h->client, method, buf_cstr(&url), body != NULL ? "application/json" : NULL,
            body != NULL ? body->data : NULL, body != NULL ? body->len : 0, ret, err);
        if (rc != 0 || ret->status != 503 || clock_mono_ms() >= deadline ||
            !net_response_header(ret, "Connectd-State", state, sizeof(state))) {
            break;
        }
        net_response_free(ret);
        const struct timespec pause = {.tv_nsec = 100 * 1000 * 1000};
        (void)nanosleep(&pause, NULL);
    }
    buf_free(&url);
    if (rc == 0 && ret->status != want) {
        rc = refused(ret, err);
    }
    if (rc != 0) {
        net_response_free(ret);
    }
    return rc;
}

int cmd_topic_ask_json(struct topic_host *h, const char *method, const char *path,
                       const struct buf *body, int want, json_t **ret, struct err *err)
{
    struct net_response r;
    TRY(cmd_topic_ask(h, method, path, body, want, &r, err));
    *ret = codec_json_parse((const char *)r.body.data, r.body.len, err);
    net_response_free(&r);
    return *ret != NULL ? 0 : err_prefix(err, "the host's answer");
}

int cmd_topic_put(const void *p, size_t n, struct err *err)
{
    int rc = file_write_full(STDOUT_FILENO, p, n, "stdout", err);
    return rc != 0 && err->sys_errno == EPIPE ? err_set(err, ERR_IO, "%s", "") : rc;
}

int cmd_topic_put_json(const json_t *v, struct err *err)
{
    struct buf line;
    buf_init(&line, 0);
    codec_json_write(v, &line);
    buf_append_u8(&line, '\n');
    int rc = line.error != 0 ? err_set(err, line.error, "the answer is too large")
                             : cmd_topic_put(line.data, line.len, err);
    buf_free(&line);
    return rc;
}

int cmd_topic_describe(struct topic_host *h, const char *topic, json_t **ret, struct err *err)
{
    char path[300];
    (void)snprintf(path, sizeof(path), "/topics/%s", topic); /* such names need no escapes */
    return cmd_topic_ask_json(h, "GET", path, NULL, 200, ret, err);
}

int64_t cmd_topic_number(const json_t *object, const char *key)
{
    return (int64_t)json_integer_value(json_object_get(object, key));
}
