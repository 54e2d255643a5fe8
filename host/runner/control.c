/*
 * --run: start-up, then the control thread, which reads the host's frames and hands them on. It calls the plugin
 * only for the module (load, init, validate, fan_out) and for cancel().
 */
#include "runner.h"

#include "runner_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_TASKS = 100000, READ_BYTES = 65536 };

static _Noreturn void die(struct runner *r, int stage, int status, const char *message)
{
    struct runner_fail fail;
    (void)runner_fail_set(&fail, stage, status, "%s", message);
    runner_die(r, &fail);
}

/* ---- start-up ---- */

/* One whole frame, blocking. The bytes are the arena's. */
static struct link_frame read_frame(struct runner *r)
{
    uint8_t head[LINK_HEAD];
    struct link_frame f;
    size_t bytes = 0;
    struct err err = ERR_INIT;
    runner_read_full(r->control_fd, head, sizeof(head));
    if (link_frame_peek(head, sizeof(head), LINK_CONTROL_MAX, &f, &bytes, &err) < 0) {
        die(r, LINK_STAGE_NONE, ERR_DATA, err.msg);
    }
    uint8_t *p = arena_alloc(r->arena, bytes, 1);
    if (p == NULL) {
        die(r, LINK_STAGE_NONE, CTD_E_NOMEM, "out of memory");
    }
    memcpy(p, head, sizeof(head));
    runner_read_full(r->control_fd, p + sizeof(head), bytes - sizeof(head));
    if (link_frame_peek(p, bytes, LINK_CONTROL_MAX, &f, &bytes, &err) != 1) {
        die(r, LINK_STAGE_NONE, ERR_DATA, err.msg);
    }
    return f;
}

static char *text_of(struct runner *r, struct slice s)
{
    char *text = arena_strndup(r->arena, s.ptr != NULL ? (const char *)s.ptr : "", s.len);
    if (text == NULL) {
        die(r, LINK_STAGE_NONE, CTD_E_NOMEM, "out of memory");
    }
    return text;
}

static void take_hello(struct runner *r)
{
    struct err err = ERR_INIT;
    struct link_frame f = read_frame(r);
    if (f.type != LINK_HELLO || link_get_hello(&f, r->arena, &r->hello, &err) != 0) {
        die(r, LINK_STAGE_NONE, ERR_DATA, "the first frame isn't a HELLO that can be read");
    }
    if (r->hello.version != LINK_VERSION) {
        (void)err_set(
            &err, ERR_UNSUPPORTED,
            "the host speaks link version %u, this runner version %d: both must come from one "
            "build",
            r->hello.version, LINK_VERSION);
        die(r, LINK_STAGE_NONE, err.code, err.msg);
    }
    if (r->hello.max_tasks > MAX_TASKS) {
        die(r, LINK_STAGE_NONE, ERR_DATA, "HELLO asks for too many tasks");
    }
    r->connector = text_of(r, r->hello.connector);
    r->log_level = (int)r->hello.log_level;
    r->tasks = arena_zalloc(r->arena, (r->hello.max_tasks + 1) * sizeof(struct runner_task *));
    if (r->tasks == NULL) {
        die(r, LINK_STAGE_NONE, CTD_E_NOMEM, "out of memory");
    }
}

static void map_shared(struct runner *r)
{
    void *p = mmap(NULL, link_shared_bytes(r->hello.max_tasks), PROT_READ | PROT_WRITE, MAP_SHARED,
                   LINK_FD_SHARED, 0);
    if (p == MAP_FAILED) {
        die(r, LINK_STAGE_NONE, ERR_IO, "the shared page cannot be mapped");
    }
    r->shared = p;
    atomic_store(&r->shared->n_slots, r->hello.max_tasks);
    runner_stages_init(&r->stages, &r->shared->control);
}

/* One runner a connector: an earlier one that still lives must be gone before plugin code runs. The lock ends with
 * this process, or when the descriptor is closed. */
static void take_lock(struct runner *r)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(LINK_FD_LOCK, F_SETLK, &whole) == 0) {
        return;
    }
    struct err err = ERR_INIT;
    struct flock other = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if ((errno == EAGAIN || errno == EACCES) && fcntl(LINK_FD_LOCK, F_GETLK, &other) == 0) {
        (void)err_set(
            &err, ERR_BUSY,
            "another runner of connector %s still holds its lock (process %d): end it first",
            r->connector, (int)other.l_pid);
    } else {
        (void)err_set_errno(&err, ERR_IO, "the runner's lock cannot be taken");
    }
    die(r, LINK_STAGE_NONE, err.code, err.msg);
}

static void enter_stage(void *arg, int stage)
{
    struct runner *r = arg;
    runner_stage_enter(&r->stages, RUNNER_LANE_TASK, stage);
}

static void enter_sandbox(struct runner *r, struct buf *holds)
{
    struct err err = ERR_INIT;
    if ((r->hello.flags & LINK_HELLO_NO_SANDBOX) != 0) {
        buf_append_str(holds, "none");
        return;
    }
    if (runner_sandbox_enter(r->hello.memory_limit_bytes, text_of(r, r->hello.data_dir), holds,
                             &err) != 0) {
        (void)err_prefix(&err, "the sandbox cannot be set up");
        die(r, LINK_STAGE_NONE, err.code, err.msg);
    }
}

static void load_module(struct runner *r, struct buf *holds)
{
    struct runner_fail fail;
    char *path = text_of(r, r->hello.plugin_path);
    int fd = runner_module_open(path, &fail);
    if (fd < 0) {
        runner_die(r, &fail);
    }
    enter_sandbox(r, holds);
    if (runner_module_load(fd, path, enter_stage, r, &r->module, &fail) != 0) {
        runner_die(r, &fail);
    }
    (void)close(fd);
    char *name = text_of(r, r->hello.class_name);
    r->class = runner_module_find(&r->module, name);
    if (r->class == NULL ||
        (r->class->kind != CTD_KIND_SOURCE && r->class->kind != CTD_KIND_SINK)) {
        (void)runner_fail_set(&fail, LINK_STAGE_MODULE, CTD_E_CONFIG,
                              "%s: no source or sink named %s in it", path, name);
        runner_die(r, &fail);
    }
}

static void init_module(struct runner *r)
{
    const ctd_module *m = r->module.module;
    struct runner_fail fail;
    r->config = runner_config_new(r->class, r->hello.config, r->hello.n_config, NULL, 0);
    if (r->config == NULL) {
        die(r, LINK_STAGE_VALIDATE, CTD_E_NOMEM, "out of memory");
    }
    runner_host_init(&r->host, r, NULL, -1);
    if (CTD_HAS(m, init)) {
        ctd_error e;
        runner_error_preset(&e);
        enter_stage(r, LINK_STAGE_INIT);
        ctd_status status = m->init(&r->host.api, &e);
        if (status != CTD_OK) {
            (void)runner_fail_call(&fail, LINK_STAGE_INIT, status, &e);
            runner_die(r, &fail);
        }
    }
    enter_stage(r, LINK_STAGE_VALIDATE);
    if (runner_config_check(r->config, &r->host.api, &fail) != 0) {
        runner_die(r, &fail);
    }
    runner_stage_leave(&r->stages, RUNNER_LANE_TASK);
}

static void say_ready(struct runner *r, const struct buf *holds)
{
    struct buf frame = BUF_INIT(LINK_CONTROL_MAX);
    link_put_ready(&frame, &(struct link_ready){.class_version = slice_str(r->class->version),
                                                .kind = (uint32_t)r->class->kind,
                                                .class_flags = r->class->flags,
                                                .sandbox = {holds->data, holds->len}});
    runner_send_control(r, &frame);
    buf_free(&frame);
}

/* ---- fan_out ---- */

struct fan_out {
    ctd_task_configs api; /* priv points back here */
    struct arena *arena;
    struct link_task_config *tasks;
    uint32_t max;
    int failed; /* ERR_NOMEM, or ERR_INVAL: a task beyond `max` */
};

static void fan_out_set(ctd_task_configs *api, uint32_t task, const char *key, ctd_slice value)
{
    struct fan_out *f = api->priv;
    if (task >= f->max || key == NULL) {
        f->failed = ERR_INVAL;
        return;
    }
    struct link_task_config *t = &f->tasks[task];
    struct link_pair *all = arena_zalloc(f->arena, (t->n_config + 1) * sizeof(*all));
    char *k = arena_strdup(f->arena, key);
    char *v = value.ptr != NULL ? arena_strndup(f->arena, value.ptr, value.len) : NULL;
    if (all == NULL || k == NULL || (v == NULL && value.ptr != NULL)) {
        f->failed = ERR_NOMEM;
        return;
    }
    if (t->n_config > 0) {
        memcpy(all, t->config, t->n_config * sizeof(*all));
    }
    all[t->n_config] = (struct link_pair){slice_str(k), {(const uint8_t *)v, (size_t)value.len}};
    t->config = all;
    t->n_config++;
}

/* How many tasks, and what each is given. */
static int call_fan_out(struct runner *r, struct fan_out *f, uint32_t *ret_n,
                        struct runner_fail *fail)
{
    const ctd_class_ops *ops = r->class->ops;
    uint32_t max = (r->class->flags & CTD_CLASSF_SINGLE_TASK) != 0 && f->max > 1 ? 1 : f->max;
    *ret_n = r->class->kind == CTD_KIND_SOURCE && max > 1 ? 1 : max;
    if (!CTD_HAS(ops, fan_out)) {
        return 0;
    }
    ctd_error e;
    runner_error_preset(&e);
    enter_stage(r, LINK_STAGE_FAN_OUT);
    ctd_status status = ops->fan_out(&r->host.api, r->config, max, ret_n, &f->api, &e);
    runner_stage_leave(&r->stages, RUNNER_LANE_TASK);
    if (status != CTD_OK) {
        return runner_fail_call(fail, LINK_STAGE_FAN_OUT, status, &e);
    }
    if (f->failed == ERR_NOMEM) {
        return runner_fail_set(fail, LINK_STAGE_FAN_OUT, CTD_E_NOMEM, "out of memory");
    }
    if (f->failed != 0 || *ret_n > max) {
        return runner_fail_abi(fail, LINK_STAGE_FAN_OUT,
                               "fan_out() wants %u tasks or configures one beyond %u", *ret_n, max);
    }
    return 0;
}

static void handle_fan_out(struct runner *r, const struct link_frame *frame)
{
    struct err err = ERR_INIT;
    struct link_fan_out asked;
    struct runner_fail fail;
    if (link_get_fan_out(frame, &asked, &err) != 0 || asked.max_tasks > MAX_TASKS) {
        die(r, LINK_STAGE_FAN_OUT, ERR_DATA, "a FAN_OUT that cannot be read");
    }
    struct fan_out f = {.max = asked.max_tasks, .arena = arena_new(0)};
    f.api = (ctd_task_configs){.struct_size = sizeof(f.api), .priv = &f, .set = fan_out_set};
    f.tasks = f.arena != NULL ? arena_zalloc(f.arena, (f.max + 1) * sizeof(*f.tasks)) : NULL;
    uint32_t n = 0;
    int rc = f.tasks != NULL
                 ? call_fan_out(r, &f, &n, &fail)
                 : runner_fail_set(&fail, LINK_STAGE_FAN_OUT, CTD_E_NOMEM, "out of memory");
    if (rc == 0) {
        struct buf answer = BUF_INIT(LINK_CONTROL_MAX);
        link_put_tasks(&answer, &(struct link_tasks){.tasks = f.tasks, .n_tasks = n});
        runner_send_control(r, &answer);
        buf_free(&answer);
    } else {
        runner_send_fail(r, LINK_FAILED, LINK_NO_TASK, &fail);
    }
    arena_free(f.arena);
}

/* ---- frames ---- */

static void handle_answer(struct runner *r, const struct link_frame *f)
{
    struct err err = ERR_INIT;
    if (f->type == LINK_OFFSET) {
        struct link_offset o;
        struct runner_task *t = runner_task_get(r, f->task);
        if (t != NULL && link_get_offset(f, &o, &err) == 0) {
            runner_task_answer(t, o.request, f);
        }
        return;
    }
    struct link_topic topic;
    if (link_get_topic(f, &topic, &err) != 0) {
        die(r, LINK_STAGE_NONE, ERR_DATA, err.msg);
    }
    if (topic.request != 0) { /* the asking task is in the request's upper half, see topics.c */
        struct runner_task *t = runner_task_get(r, (uint32_t)(topic.request >> 32) - 1);
        if (t != NULL) {
            runner_task_answer(t, topic.request, f);
        }
        return;
    }
    for (uint32_t i = 0; i < r->hello.max_tasks; i++) {
        struct runner_task *t = runner_task_get(r, i);
        if (t != NULL) {
            runner_task_post(t, f);
        }
    }
}

static void handle_committed(struct runner *r, struct runner_task *t, struct arena *scratch,
                             const struct link_frame *f)
{
    struct err err = ERR_INIT;
    struct link_committed c;
    arena_reset(scratch);
    if (link_get_committed(f, scratch, &c, &err) != 0) {
        die(r, LINK_STAGE_NONE, err.code, err.msg);
    }
    runner_task_committed(t, &c);
}

static void handle_frame(struct runner *r, struct arena *scratch, const struct link_frame *f)
{
    struct err err = ERR_INIT;
    if (f->type == LINK_EXIT) {
#ifdef CONNECTD_SANITIZER
        exit(0); /* with the look for leaks */
#else
        _exit(0); /* a plugin's threads may still run: no exit handlers beside them */
#endif
    }
    if (f->type == LINK_FAN_OUT) {
        handle_fan_out(r, f);
        return;
    }
    if (f->type == LINK_TOPIC || f->type == LINK_OFFSET) {
        handle_answer(r, f);
        return;
    }
    struct runner_task *t = runner_task_get(r, f->task);
    if (t == NULL && f->type == LINK_START && f->task < r->hello.max_tasks) {
        if (runner_task_make(r, f->task, &err) != 0) {
            die(r, LINK_STAGE_CREATE, err.code, err.msg);
        }
        t = runner_task_get(r, f->task);
    }
    if (t == NULL) {
        if (f->type == LINK_STOP) { /* never started */
            runner_send_empty(r, LINK_STOPPED, f->task);
        }
        return;
    }
    if (f->type == LINK_COMMITTED) {
        handle_committed(r, t, scratch, f);
    } else if (f->type == LINK_STOP) {
        runner_task_stop(t, f);
    } else {
        runner_task_post(t, f);
    }
}

/* ---- the loop ---- */

/* ms until a stopping sink has to be looked at, or -1. */
static int watch_tasks(struct runner *r)
{
    int next = -1;
    for (uint32_t i = 0; i < r->hello.max_tasks; i++) {
        struct runner_task *t = runner_task_get(r, i);
        int ms = t != NULL ? runner_task_watch(t) : -1;
        if (ms >= 0 && (next < 0 || ms < next)) {
            next = ms;
        }
    }
    return next;
}

static _Noreturn void control_loop(struct runner *r)
{
    struct buf in = BUF_INIT(LINK_CONTROL_MAX + READ_BYTES);
    struct arena *scratch = arena_new(0);
    if (scratch == NULL) {
        die(r, LINK_STAGE_NONE, CTD_E_NOMEM, "out of memory");
    }
    for (;;) {
        struct pollfd p = {.fd = r->control_fd, .events = POLLIN};
        if (poll(&p, 1, watch_tasks(r)) <= 0) {
            continue;
        }
        uint8_t *room = buf_reserve(&in, READ_BYTES);
        if (room == NULL) {
            die(r, LINK_STAGE_NONE, CTD_E_NOMEM, "out of memory");
        }
        ssize_t n = recv(r->control_fd, room, READ_BYTES, 0);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            _exit(0); /* the host is gone */
        }
        in.len += n > 0 ? (size_t)n : 0;
        size_t at = 0;
        for (;;) {
            struct link_frame f;
            struct err err = ERR_INIT;
            size_t bytes = 0;
            int rc = link_frame_peek(in.data + at, in.len - at, LINK_CONTROL_MAX, &f, &bytes, &err);
            if (rc < 0) {
                die(r, LINK_STAGE_NONE, ERR_DATA, err.msg);
            }
            if (rc == 0) {
                break;
            }
            handle_frame(r, scratch, &f);
            at += bytes;
        }
        memmove(in.data, in.data + at, in.len - at);
        in.len -= at;
    }
}

int runner_run(void)
{
    static struct runner runner; /* reachable for as long as any thread runs */
    struct runner *r = &runner;
    struct err err = ERR_INIT;
    struct buf holds = BUF_INIT(256);
    runner_sandbox_begin(LINK_FD_LOCK);
    r->control_fd = LINK_FD_CONTROL;
    r->data_fd = LINK_FD_DATA;
    mutex_init(&r->control_lock);
    mutex_init(&r->data_lock);
    mutex_init(&r->tasks_lock);
    mutex_init(&r->log_lock);
    mutex_init(&r->hold_lock);
    r->arena = arena_new(0);
    if (r->arena == NULL) {
        die(r, LINK_STAGE_NONE, CTD_E_NOMEM, "out of memory");
    }
    take_hello(r);
    map_shared(r);
    take_lock(r);
    load_module(r, &holds);
    init_module(r);
    pthread_t data;
    if (thread_start(&data, "data", runner_data_thread, r, &err) != 0) {
        die(r, LINK_STAGE_NONE, err.code, err.msg);
    }
    say_ready(r, &holds);
    buf_free(&holds);
    control_loop(r);
}
