/*
 * The host as a plugin sees it: ctd_host and its extensions.
 * Threads: log(), log_enabled(), progress() and extension() may come from any thread of the plugin; offsets
 * from the task thread; the cfg_ functions are config.c's.
 */
#include "runner_int.h"

#include <stdio.h>
#include <stdlib.h>

static uint32_t task_number(const struct runner_host *h)
{
    return h->task != NULL ? h->task->index : LINK_NO_TASK;
}

static int32_t host_log_enabled(const ctd_host *host, int32_t level)
{
    const struct runner_host *h = host->priv;
    return h->runner != NULL && level <= h->runner->log_level;
}

static void host_log(const ctd_host *host, int32_t level, const char *message)
{
    const struct runner_host *h = host->priv;
    if (h->runner != NULL && message != NULL) {
        int known = level >= CTD_LOG_ERROR && level <= CTD_LOG_DEBUG;
        runner_send_log(h->runner, task_number(h), known ? level : CTD_LOG_INFO, message);
    }
}

static void host_progress(const ctd_host *host)
{
    const struct runner_host *h = host->priv;
    if (h->task != NULL) {
        runner_stage_progress(&h->task->stages);
    } else if (h->runner != NULL) {
        runner_stage_progress(&h->runner->stages);
    }
}

/* ---- ctd.offsets/1 ---- */

static ctd_status offsets_fail(ctd_error *e, int status, const char *message)
{
    runner_error_preset(e);
    e->status = status >= CTD_E_FENCED && status < 0 ? status : CTD_E_IO;
    (void)snprintf(e->message, sizeof(e->message), "stored offset: %.400s", message);
    return e->status;
}

/* The host's answer into a value in the task's offset arena. */
static ctd_status take_offset(struct runner_task *t, const struct link_frame *f, ctd_value *ret,
                              ctd_error *e)
{
    struct err err = ERR_INIT;
    struct link_offset answer;
    int rc = link_get_offset(f, &answer, &err);
    if (rc == 0 && answer.status != 0) {
        rc = err_set(&err, answer.status, "the host could not read it (%s)",
                     err_name(answer.status));
    }
    arena_reset(t->offset_arena);
    ctd_value v = {.type = CTD_NULL};
    if (rc == 0 && answer.offset.ptr != NULL) {
        rc = record_json_parse(answer.offset.ptr, answer.offset.len, t->offset_arena, &v, &err);
    }
    if (rc != 0) {
        return offsets_fail(e, rc, err.msg);
    }
    *ret = v;
    return CTD_OK;
}

static ctd_status offsets_get(const ctd_host *host, const ctd_value *partition, ctd_value *ret,
                              ctd_error *e)
{
    const struct runner_host *h = host->priv;
    struct runner_task *t = h->task;
    struct err err = ERR_INIT;
    if (t == NULL || partition == NULL || partition->type != CTD_MAP) {
        return offsets_fail(e, CTD_E_FATAL, "asked for outside a task, or with no MAP");
    }
    struct buf text = BUF_INIT(1 << 20);
    struct buf question = BUF_INIT(LINK_CONTROL_MAX);
    ctd_status status = record_json_write(partition, &text, &err);
    if (status == 0) {
        uint64_t request = ++t->next_request;
        link_put_get_offset(
            &question, t->index,
            &(struct link_get_offset){.request = request, .partition = {text.data, text.len}});
        struct runner_cmd *answer = runner_task_ask(t, request, &question);
        status = answer != NULL ? take_offset(t, &answer->frame, ret, e)
                                : offsets_fail(e, CTD_E_CANCELLED, "the task is being stopped");
        free(answer);
    } else {
        status = offsets_fail(e, status, err.msg);
    }
    buf_free(&text);
    buf_free(&question);
    return status;
}

static const ctd_offsets offsets = {.struct_size = sizeof(offsets), .get = offsets_get};

static const void *host_extension(const ctd_host *host, const char *id)
{
    const struct runner_host *h = host->priv;
    return h->task != NULL && str_eq(id, CTD_EXT_OFFSETS) ? &offsets : NULL;
}

void runner_host_init(struct runner_host *h, struct runner *r, struct runner_task *t,
                      int32_t n_tasks)
{
    *h = (struct runner_host){
        .runner = r,
        .task = t,
        .api = {.struct_size = sizeof(ctd_host),
                .abi_minor = CTD_ABI_MINOR,
                .priv = h,
                .product = "connectd",
                .version = CONNECTD_VERSION,
                .connector = r != NULL ? r->connector : "",
                .task = t != NULL ? (int32_t)t->index : -1,
                .n_tasks = t != NULL ? n_tasks : -1,
                .log_enabled = host_log_enabled,
                .log = host_log,
                .progress = host_progress,
                .extension = host_extension},
    };
    runner_config_accessors(&h->api);
}
