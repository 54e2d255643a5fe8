/* Asking the plugin itself about a config. */
#include "pipeline/preflight.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "link/link.h"
#include "pipeline/hello.h"
#include "pipeline/loop.h"
#include "pipeline/peer.h"
#include "pipeline/validate.h"

#define DEADLINE_MS 10000

struct preflight {
    struct loop loop;
    struct loop_timer deadline;
    struct peer *peer;
    const struct decl_connector *c;
    struct findings *findings;
};

static void finding_at(struct preflight *p, const char *key, const char *text)
{
    const struct kv *kv = pipeline_kv_find(&p->c->config, key);
    pipeline_findings_add(p->findings, p->c->file, kv != NULL ? kv->value_line : p->c->line,
                          kv != NULL ? kv->value_column : p->c->column, p->c->name, key, NULL, "%s",
                          text);
}

/* The runner joins a plugin's issues as "key: text; key: text". */
static void add_issues(struct preflight *p, char *text)
{
    while (text != NULL) {
        char *next = strstr(text, "; ");
        if (next != NULL) {
            *next = '\0';
            next += 2;
        }
        char *colon = strstr(text, ": ");
        if (colon != NULL && memchr(text, ' ', (size_t)(colon - text)) == NULL) {
            *colon = '\0';
            finding_at(p, text, colon + 2);
        } else {
            finding_at(p, "connector.class", text);
        }
        text = next;
    }
}

static void frame(void *arg, const struct link_frame *f, uint8_t **body)
{
    struct preflight *p = arg;
    (void)body;
    if (f->type == LINK_READY) {
        pipeline_loop_stop(&p->loop);
    }
    struct link_failed failed;
    if (f->type == LINK_FAILED && link_get_failed(f, &failed, NULL) == 0) {
        char *text = strndup(failed.message.ptr != NULL ? (const char *)failed.message.ptr : "",
                             failed.message.len);
        if (text != NULL) {
            add_issues(p, text);
        }
        free(text);
        pipeline_loop_stop(&p->loop);
    }
}

static void said(void *arg, const char *text, size_t n)
{
    (void)arg;
    (void)text;
    (void)n;
}

static void dead(void *arg, int status)
{
    struct preflight *p = arg;
    (void)status;
    if (!p->loop.stop) {
        finding_at(p, "connector.class", "the plugin ended its runner while it was loaded");
        pipeline_loop_stop(&p->loop);
    }
}

static void too_late(struct loop_timer *t)
{
    struct preflight *p =
        (struct preflight *)(void *)((char *)t - offsetof(struct preflight, deadline));
    finding_at(p, "connector.class", "the plugin did not check its config within 10 s");
    pipeline_loop_stop(&p->loop);
}

static int one(struct preflight *p, const struct host_config *host,
               const struct plugin_class *class_, const char *runner, const char *lock,
               struct err *err)
{
    char *none[] = {NULL};
    struct kv_list effective = {0};
    if (pipeline_validate_effective(p->c, host, &effective) != 0 ||
        pipeline_validate_paths(class_, &effective) != 0) {
        pipeline_kv_free(&effective);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    struct peer_options o = {.runner = runner,
                             .lock_path = lock,
                             .n_slots = 1,
                             .envp = none,
                             .frame = frame,
                             .dead = dead,
                             .said = said,
                             .arg = p};
    struct hello hello = {.connector = p->c->name,
                          .class_ = class_,
                          .effective = &effective,
                          .data_dir = "",
                          .max_tasks = 1,
                          .hold_bytes = host->hold_bytes,
                          .log_level = LOG_LEVEL_ERROR};
    struct buf out = BUF_INIT(LINK_CONTROL_MAX);
    int rc = pipeline_loop_init(&p->loop, err);
    rc = rc != 0 ? rc : pipeline_peer_spawn(&p->loop, &o, &p->peer, err);
    rc = rc != 0 ? rc : pipeline_hello_put(&hello, &out, err);
    if (rc == 0) {
        pipeline_peer_send_control(p->peer, &out);
        p->deadline.fire = too_late;
        pipeline_loop_timer_set(&p->loop, &p->deadline, DEADLINE_MS);
        pipeline_loop_run(&p->loop);
    }
    pipeline_peer_free(p->peer);
    pipeline_loop_destroy(&p->loop);
    buf_free(&out);
    pipeline_kv_free(&effective);
    return rc;
}

int pipeline_preflight_all(const struct declared *d, const struct host_config *host,
                           const struct plugins *plugins, const char *runner,
                           struct findings *findings, struct err *err)
{
    char lock[] = "/tmp/connectd-check-XXXXXX";
    int fd = mkstemp(lock);
    if (fd < 0) {
        return err_set_errno(err, ERR_IO, "%s", lock);
    }
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < d->n_connectors; i++) {
        struct preflight p = {.c = &d->connectors[i], .findings = findings};
        const char *name = pipeline_kv_get(&p.c->config, "connector.class");
        const struct plugin_class *class_ =
            name != NULL ? pipeline_plugins_find(plugins, name) : NULL;
        if (class_ != NULL && pipeline_findings_of(findings, p.c->name) == NULL) {
            rc = one(&p, host, class_, runner, lock, err);
        }
    }
    (void)close(fd);
    (void)unlink(lock);
    return rc;
}
