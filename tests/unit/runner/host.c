/* The test's host. */
#include "host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

void host_init(struct host *h, const char *plugin, const char *class_name)
{
    memset(h, 0, sizeof(*h));
    h->plugin = plugin;
    h->class_name = class_name;
    h->runner = RUNNER_PATH;
    h->hold_bytes = 64 << 20;
    h->window_bytes = 16 << 20;
    h->version = LINK_VERSION;
    h->partitions = 2;
    h->max_batch_bytes = 1 << 20;
    h->lock_fd = h->control = h->data = -1;
    buf_init(&h->control_in, 0);
    buf_init(&h->data_in, (size_t)256 << 20);
    buf_init(&h->log, 0);
    h->arena = arena_new(0);
    h->stash_end = &h->stash;
    (void)snprintf(h->dir, sizeof(h->dir), "/tmp/connectd-runner-XXXXXX");
    assert_non_null(mkdtemp(h->dir));
    (void)snprintf(h->lock_path, sizeof(h->lock_path), "%s/name.lock", h->dir);
}

void host_set(struct host *h, const char *key, const char *value)
{
    assert_true(h->n_config < MAX_PAIRS);
    h->config[h->n_config++] = (struct link_pair){slice_str(key), slice_str(value)};
}

void host_setf(struct host *h, const char *key, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    host_set(h, key, arena_strdup(h->arena, text));
}

/* ---- the process ---- */

static void become(const struct host *h, int control, int data, int shared, int lock)
{
    int fds[4] = {control, data, shared, lock};
    for (int i = 0; i < 4; i++) {
        fds[i] = fcntl(fds[i], F_DUPFD, 64);
    }
    for (int i = 0; i < 4; i++) {
        (void)dup2(fds[i], LINK_FD_CONTROL + i);
    }
    (void)setsid();
    if (h->uid != 0 && (setgroups(0, NULL) != 0 || setgid(h->uid) != 0 || setuid(h->uid) != 0)) {
        _exit(99);
    }
    char name[] = "connectd-runner";
    char mode[] = "--run";
    char *argv[] = {name, mode, NULL};
    char *envp[] = {NULL};
    (void)execve(h->runner, argv, envp);
    _exit(98);
}

static void send_hello(struct host *h)
{
    struct buf out = BUF_INIT(0);
    link_put_hello(&out, &(struct link_hello){.version = h->version,
                                              .max_tasks = 4,
                                              .connector = slice_str("c1"),
                                              .plugin_path = slice_str(h->plugin),
                                              .class_name = slice_str(h->class_name),
                                              .data_dir = slice_str(h->data_dir),
                                              .memory_limit_bytes = h->memory_limit,
                                              .hold_bytes = h->hold_bytes,
                                              .window_bytes = h->window_bytes,
                                              .log_level = 4,
                                              .flags = h->flags,
                                              .config = h->config,
                                              .n_config = h->n_config});
    host_send(h, &out);
    buf_free(&out);
}

void host_spawn(struct host *h)
{
    int control[2];
    int data[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, data), 0);
    int shared = memfd_create("link", MFD_CLOEXEC);
    size_t bytes = link_shared_bytes(4);
    assert_int_equal(ftruncate(shared, (off_t)bytes), 0);
    h->shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
    assert_ptr_not_equal(h->shared, MAP_FAILED);
    int lock = open(h->lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(lock >= 0);
    h->pid = fork();
    assert_true(h->pid >= 0);
    if (h->pid == 0) {
        become(h, control[1], data[1], shared, lock);
    }
    (void)close(control[1]);
    (void)close(data[1]);
    (void)close(shared);
    if (h->lock_fd < 0) { /* closing it would give up a lock of ours */
        (void)close(lock);
    }
    h->control = control[0];
    h->data = data[0];
    send_hello(h);
}

int host_wait_exit(struct host *h)
{
    int pidfd = (int)syscall(SYS_pidfd_open, h->pid, 0);
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    int64_t deadline = clock_mono_ms() + WAIT_MS;
    while (poll(&p, 1, 5) == 0) { /* questions are answered meanwhile */
        struct link_frame f;
        assert_true(clock_mono_ms() < deadline);
        if (h->control >= 0) {
            (void)host_next(h, 5, &f);
        }
    }
    (void)close(pidfd);
    assert_int_equal(waitpid(h->pid, &h->status, 0), h->pid);
    h->pid = 0;
    return WIFEXITED(h->status) ? WEXITSTATUS(h->status) : 1000 + WTERMSIG(h->status);
}

void host_clear(struct host *h)
{
    if (h->pid > 0) {
        (void)kill(h->pid, SIGKILL);
        (void)waitpid(h->pid, NULL, 0);
    }
    if (h->control >= 0) {
        (void)close(h->control);
    }
    if (h->data >= 0) {
        (void)close(h->data);
    }
    if (h->lock_fd >= 0) {
        (void)close(h->lock_fd);
    }
    if (h->shared != NULL) {
        (void)munmap(h->shared, link_shared_bytes(4));
    }
    buf_free(&h->control_in);
    buf_free(&h->data_in);
    buf_free(&h->log);
    arena_free(h->arena);
    assert_int_equal(file_remove_tree(h->dir, NULL), 0);
}

/* ---- frames ---- */

void host_send(struct host *h, struct buf *frame)
{
    assert_int_equal(frame->error, 0);
    struct err err = ERR_INIT;
    assert_int_equal(file_write_full(h->control, frame->data, frame->len, "control", &err), 0);
    buf_clear(frame);
}

void host_send_empty(struct host *h, int type, uint32_t task)
{
    struct buf out = BUF_INIT(0);
    link_put_empty(&out, type, task);
    host_send(h, &out);
    buf_free(&out);
}

void host_start_task(struct host *h, uint32_t task)
{
    struct buf out = BUF_INIT(0);
    link_put_start(&out, task, &(struct link_start){.n_tasks = 1});
    host_send(h, &out);
    buf_free(&out);
}

void host_start(struct host *h)
{
    host_spawn(h);
    struct link_frame f = host_expect(h, LINK_READY);
    struct link_ready ready;
    assert_int_equal(link_get_ready(&f, &ready, NULL), 0);
    h->sandbox = arena_strndup(h->arena, (const char *)ready.sandbox.ptr, ready.sandbox.len);
    host_start_task(h, 0);
    (void)host_expect(h, LINK_STARTED);
}

static void answer_resolve(struct host *h, const struct link_frame *f)
{
    struct link_resolve ask;
    assert_int_equal(link_get_resolve(f, &ask, NULL), 0);
    struct buf out = BUF_INIT(0);
    link_put_topic(&out, &(struct link_topic){.request = ask.request,
                                              .status = h->resolve_status,
                                              .message = slice_str("no such luck"),
                                              .topic = ask.topic,
                                              .topic_id = {7},
                                              .partitions = h->partitions,
                                              .epoch = 3,
                                              .max_batch_bytes = h->max_batch_bytes});
    host_send(h, &out);
    buf_free(&out);
}

static void answer_offset(struct host *h, const struct link_frame *f)
{
    struct link_get_offset ask;
    assert_int_equal(link_get_get_offset(f, &ask, NULL), 0);
    struct buf out = BUF_INIT(0);
    link_put_offset(&out, f->task,
                    &(struct link_offset){.request = ask.request, .offset = slice_str(h->stored)});
    host_send(h, &out);
    buf_free(&out);
}

/* 1 when the frame was a question or a log line. */
static int handled(struct host *h, const struct link_frame *f)
{
    struct link_log line;
    switch (f->type) {
    case LINK_RESOLVE:
        answer_resolve(h, f);
        return 1;
    case LINK_GET_OFFSET:
        answer_offset(h, f);
        return 1;
    case LINK_LOG:
        assert_int_equal(link_get_log(f, &line, NULL), 0);
        buf_printf(&h->log, "%d %.*s\n", line.level, (int)line.text.len,
                   (const char *)line.text.ptr);
        return 1;
    default:
        return 0;
    }
}

/* A whole frame at *at of the buffer. */
static int take(struct buf *in, size_t *at, size_t max, struct link_frame *ret)
{
    size_t bytes = 0;
    int rc = link_frame_peek(in->data + *at, in->len - *at, max, ret, &bytes, NULL);
    assert_true(rc >= 0);
    *at += rc == 1 ? bytes : 0;
    return rc;
}

/* Reads what is there behind what is kept. 0 at the end of the stream. */
static int fill(int fd, struct buf *in, size_t *at)
{
    memmove(in->data, in->data + *at, in->len - *at);
    in->len -= *at;
    *at = 0;
    uint8_t *room = buf_reserve(in, 1 << 18);
    assert_non_null(room);
    ssize_t n = read(fd, room, 1 << 18);
    in->len += n > 0 ? (size_t)n : 0;
    return n > 0;
}

/* From the sockets. */
static int receive(struct host *h, int ms, struct link_frame *ret)
{
    int64_t deadline = clock_mono_ms() + ms;
    int closed = 0;
    (void)buf_reserve(&h->control_in, 1);
    (void)buf_reserve(&h->data_in, 1);
    for (;;) {
        while (take(&h->control_in, &h->control_at, LINK_CONTROL_MAX, ret)) {
            if (!handled(h, ret)) {
                return 1;
            }
        }
        if (take(&h->data_in, &h->data_at, LINK_DATA_MAX, ret)) {
            return 1;
        }
        int64_t left = deadline - clock_mono_ms();
        if (left <= 0 || closed) {
            return 0;
        }
        struct pollfd p[2] = {{.fd = h->control, .events = POLLIN},
                              {.fd = h->data, .events = POLLIN}};
        (void)poll(p, 2, (int)left);
        if (p[0].revents != 0) {
            closed |= !fill(h->control, &h->control_in, &h->control_at);
        }
        if (p[1].revents != 0) {
            closed |= !fill(h->data, &h->data_in, &h->data_at);
        }
    }
}

static void unstash(struct host *h, struct stashed **at, struct link_frame *ret)
{
    struct stashed *s = *at;
    *ret = s->frame;
    *at = s->next;
    if (*at == NULL) {
        h->stash_end = at;
    }
}

int host_next(struct host *h, int ms, struct link_frame *ret)
{
    if (h->stash != NULL) {
        unstash(h, &h->stash, ret);
        return 1;
    }
    return receive(h, ms, ret);
}

static void stash(struct host *h, const struct link_frame *f)
{
    struct stashed *s = arena_zalloc(h->arena, sizeof(*s));
    char *bytes = arena_strndup(h->arena, (const char *)f->payload.ptr, f->payload.len);
    s->frame = *f;
    s->frame.payload = slice_of(bytes, f->payload.len);
    *h->stash_end = s;
    h->stash_end = &s->next;
}

struct link_frame host_expect(struct host *h, int type)
{
    struct link_frame f = {0};
    for (struct stashed **at = &h->stash; *at != NULL; at = &(*at)->next) {
        if ((*at)->frame.type == type) {
            unstash(h, at, &f);
            return f;
        }
    }
    for (;;) {
        if (!receive(h, WAIT_MS, &f)) {
            fail_msg("no frame of type %d came; log:\n%s", type, buf_cstr(&h->log));
        }
        if (f.type == type) {
            return f;
        }
        if (f.type == LINK_FAILED) {
            struct link_failed failed;
            assert_int_equal(link_get_failed(&f, &failed, NULL), 0);
            fail_msg("FAILED came instead of %d: %.*s", type, (int)failed.message.len,
                     (const char *)failed.message.ptr);
        }
        if (f.type != LINK_NOTE && f.type != LINK_CREDIT && f.type != LINK_COMMIT) {
            fail_msg("frame of type %d came instead of %d", f.type, type);
        }
        stash(h, &f);
    }
}

static void answer_commit(struct host *h, const struct link_frame *f)
{
    struct link_commit c;
    assert_int_equal(link_get_commit(f, h->arena, &c, NULL), 0);
    host_committed(h, &c, 0, 0);
}

struct link_failed host_expect_failed(struct host *h)
{
    struct link_frame f = {0};
    do {
        if (!host_next(h, WAIT_MS, &f)) {
            fail_msg("no FAILED came; log:\n%s", buf_cstr(&h->log));
        }
        if (f.type == LINK_COMMIT) { /* a failing task waits for what it has sent */
            answer_commit(h, &f);
        }
    } while (f.type != LINK_FAILED);
    struct link_failed failed;
    assert_int_equal(link_get_failed(&f, &failed, NULL), 0);
    char *text = arena_strndup(h->arena, (const char *)failed.message.ptr, failed.message.len);
    failed.message = slice_str(text);
    return failed;
}

int host_logged(const struct host *h, const char *text)
{
    return h->log.len > 0 && memmem(h->log.data, h->log.len, text, strlen(text)) != NULL;
}

void host_wait_log(struct host *h, const char *text)
{
    struct link_frame f;
    int64_t deadline = clock_mono_ms() + WAIT_MS;
    while (!host_logged(h, text)) {
        assert_true(clock_mono_ms() < deadline);
        (void)host_next(h, 20, &f);
    }
}

/* ---- sources ---- */

struct link_commit host_expect_commit(struct host *h)
{
    struct link_frame f = host_expect(h, LINK_COMMIT);
    struct link_commit c;
    struct err err = ERR_INIT;
    assert_int_equal(link_get_commit(&f, h->arena, &c, &err), 0);
    for (uint32_t i = 0; i < c.n_appends; i++) {
        int64_t records = 0;
        int64_t batches = 0;
        if (record_batches_check(c.appends[i].batches.ptr, c.appends[i].batches.len,
                                 (size_t)h->max_batch_bytes, &records, &batches, &err) != 0) {
            fail_msg("%s", err.msg);
        }
        assert_int_equal(records, c.appends[i].n_records);
        assert_int_equal(c.appends[i].topic_id[0], 7);
        assert_int_equal(c.appends[i].epoch, 3);
    }
    return c;
}

void host_committed(struct host *h, const struct link_commit *c, int32_t status, int64_t base)
{
    struct link_commit_result results[64];
    assert_true(c->n_appends <= 64);
    for (uint32_t i = 0; i < c->n_appends; i++) {
        results[i].base_offset = base;
    }
    struct buf out = BUF_INIT(0);
    link_put_committed(&out, 0,
                       &(struct link_committed){.seq = c->seq,
                                                .status = status,
                                                .message = slice_str(status != 0 ? "full" : NULL),
                                                .results = results,
                                                .n_results = status == 0 ? c->n_appends : 0});
    host_send(h, &out);
    buf_free(&out);
}

/* ---- sinks ---- */

void host_open(struct host *h, int64_t generation, const char *topic, int32_t partitions,
               int64_t offset)
{
    struct link_part parts[16] = {{{NULL, 0}, {0}, 0, 0, 0}};
    for (int32_t i = 0; i < partitions; i++) {
        parts[i] = (struct link_part){.topic = slice_str(topic),
                                      .topic_id = {7},
                                      .partition = i,
                                      .epoch = 1,
                                      .offset = offset};
    }
    struct buf out = BUF_INIT(0);
    link_put_parts(&out, LINK_OPEN, 0,
                   &(struct link_parts){generation, parts, (uint32_t)partitions});
    host_send(h, &out);
    buf_free(&out);
}

void host_batch(struct buf *out, int64_t from, int n, const char *prefix)
{
    struct record_builder b;
    size_t at = out->len;
    record_builder_begin(&b, out);
    for (int i = 0; i < n; i++) {
        char key[32];
        char value[64];
        int k = snprintf(key, sizeof(key), "k%d", i % 3);
        int v = snprintf(value, sizeof(value), "%s%lld", prefix, (long long)from + i);
        record_builder_add(&b, 1000 + i, slice_of(key, (size_t)k), slice_of(value, (size_t)v), NULL,
                           0);
    }
    assert_true(record_builder_finish(&b, NULL) > 0);
    (void)record_batches_stamp(out->data + at, out->len - at, from, 0);
}

void host_records(struct host *h, int64_t generation, const char *topic, int32_t partition,
                  int64_t offset, int64_t next, const struct buf *batches)
{
    struct buf out = BUF_INIT(LINK_DATA_MAX);
    link_put_records_head(&out, 0,
                          &(struct link_records){.generation = generation,
                                                 .part = (uint32_t)partition,
                                                 .topic = slice_str(topic),
                                                 .partition = partition,
                                                 .offset = offset,
                                                 .next_offset = next,
                                                 .end_offset = next,
                                                 .batches = {NULL, batches->len}});
    buf_append(&out, batches->data, batches->len);
    assert_int_equal(out.error, 0);
    assert_int_equal(file_write_full(h->data, out.data, out.len, "data", NULL), 0);
    buf_free(&out);
}
