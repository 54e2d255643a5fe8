/*
 * Sockets and the shared page. Whole frames are written under a mutex a socket, blocking; there is nothing to
 * do without a host, so its absence ends the process at once.
 * Threads: any.
 */
#include "runner_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

enum { LOG_LINES_A_SECOND = 200, LOG_LINE_MAX = 4096 };

/* ---- sockets ---- */

static _Noreturn void host_is_gone(void)
{
    _exit(0);
}

static void send_frame(int fd, struct mutex *lock, struct buf *frame)
{
    mutex_lock(lock);
    size_t done = 0;
    while (done < frame->len) {
        ssize_t n = send(fd, frame->data + done, frame->len - done, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) {
            host_is_gone();
        }
        done += n > 0 ? (size_t)n : 0;
    }
    mutex_unlock(lock);
    buf_clear(frame);
}

void runner_send_control(struct runner *r, struct buf *frame)
{
    send_frame(r->control_fd, &r->control_lock, frame);
}

void runner_send_data(struct runner *r, struct buf *frame)
{
    send_frame(r->data_fd, &r->data_lock, frame);
}

void runner_read_full(int fd, void *p, size_t n)
{
    unsigned char *at = p;
    while (n > 0) {
        ssize_t got = read(fd, at, n);
        if (got == 0 || (got < 0 && errno != EINTR)) {
            host_is_gone();
        }
        if (got > 0) {
            at += got;
            n -= (size_t)got;
        }
    }
}

void runner_send_empty(struct runner *r, int type, uint32_t task)
{
    struct buf frame = BUF_INIT(64);
    link_put_empty(&frame, type, task);
    BUG_ON(frame.error == ERR_LIMIT);
    runner_send_control(r, &frame);
    buf_free(&frame);
}

void runner_send_fail(struct runner *r, int type, uint32_t task, const struct runner_fail *f)
{
    struct buf frame = BUF_INIT(LINK_CONTROL_MAX);
    link_put_failed(&frame, type, task,
                    &(struct link_failed){.status = f->status,
                                          .stage = f->stage,
                                          .sys_errno = f->sys_errno,
                                          .abi = f->abi,
                                          .record_index = f->record_index,
                                          .retry_after_ms = f->retry_after_ms,
                                          .message = slice_str(f->message)});
    runner_send_control(r, &frame);
    buf_free(&frame);
}

void runner_die(struct runner *r, const struct runner_fail *f)
{
    runner_send_fail(r, LINK_FAILED, LINK_NO_TASK, f);
    _exit(1);
}

/* ---- log lines: bounded a second, the rest is counted and said with the next line ---- */

static int log_admit(struct runner *r, uint32_t *ret_dropped)
{
    int64_t second = clock_mono_ms() / 1000;
    int admit = 0;
    mutex_lock(&r->log_lock);
    if (second != r->log_second) {
        r->log_second = second;
        r->log_lines = 0;
    }
    if (r->log_lines < LOG_LINES_A_SECOND) {
        r->log_lines++;
        *ret_dropped = r->log_dropped;
        r->log_dropped = 0;
        admit = 1;
    } else {
        r->log_dropped++;
    }
    mutex_unlock(&r->log_lock);
    return admit;
}

static void send_line(struct runner *r, uint32_t task, int level, const char *text)
{
    struct buf frame = BUF_INIT(LOG_LINE_MAX + 256);
    struct slice s = {(const uint8_t *)text, strnlen(text, LOG_LINE_MAX)};
    link_put_log(&frame, task, &(struct link_log){.level = level, .text = s});
    if (frame.error == 0) {
        runner_send_control(r, &frame);
    }
    buf_free(&frame);
}

void runner_send_log(struct runner *r, uint32_t task, int level, const char *text)
{
    uint32_t dropped = 0;
    if (level > r->log_level || !log_admit(r, &dropped)) {
        return;
    }
    if (dropped > 0) {
        char line[96];
        (void)snprintf(line, sizeof(line), "%u log lines were dropped: more than %d a second",
                       dropped, LOG_LINES_A_SECOND);
        send_line(r, task, CTD_LOG_WARN, line);
    }
    send_line(r, task, level, text);
}

/* ---- stages ---- */

void runner_stages_init(struct runner_stages *s, struct link_slot *slot)
{
    memset(s, 0, sizeof(*s));
    mutex_init(&s->lock);
    s->slot = slot;
}

/* Shows the call that has been running longest. The time goes first on entry, so that a reader never takes an
 * old time for a new call. */
static void publish(struct runner_stages *s)
{
    int stage = LINK_STAGE_NONE;
    int64_t since_ms = 0;
    for (int i = 0; i < RUNNER_LANES; i++) {
        if (s->stage[i] != LINK_STAGE_NONE &&
            (stage == LINK_STAGE_NONE || s->since_ms[i] < since_ms)) {
            stage = s->stage[i];
            since_ms = s->since_ms[i];
        }
    }
    if (stage != LINK_STAGE_NONE) {
        atomic_store(&s->slot->since_ms, since_ms);
    }
    atomic_store(&s->slot->stage, stage);
}

void runner_stage_enter(struct runner_stages *s, enum runner_lane lane, int stage)
{
    int64_t now = clock_mono_ms();
    mutex_lock(&s->lock);
    s->stage[lane] = stage;
    s->since_ms[lane] = now;
    publish(s);
    mutex_unlock(&s->lock);
}

void runner_stage_leave(struct runner_stages *s, enum runner_lane lane)
{
    mutex_lock(&s->lock);
    s->stage[lane] = LINK_STAGE_NONE;
    publish(s);
    mutex_unlock(&s->lock);
}

void runner_stage_progress(struct runner_stages *s)
{
    int64_t now = clock_mono_ms();
    mutex_lock(&s->lock);
    for (int i = 0; i < RUNNER_LANES; i++) {
        s->since_ms[i] = now;
    }
    publish(s);
    mutex_unlock(&s->lock);
}

void runner_stage_moved(struct runner_stages *s, uint64_t records)
{
    atomic_fetch_add(&s->slot->records, (int64_t)records);
    atomic_store(&s->slot->moved_ms, clock_mono_ms());
}
