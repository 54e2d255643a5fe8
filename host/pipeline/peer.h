/*
 * peer: one runner process as the host sees it: its two sockets, its shared page, its death.
 *
 * Thread: the core loop's only. The callbacks run there too. Memory is bounded: control frames
 * waiting to be sent by LINK_CONTROL_MAX * 2 (a runner that does not read them is killed), data by
 * what its owner sends.
 */
#ifndef PIPELINE_PEER_H
#define PIPELINE_PEER_H

#include <sys/types.h>

#include "base/buf.h"
#include "link/link.h"
#include "pipeline/loop.h"

struct peer;

struct peer_options {
    const char *runner;    /* path of connectd-runner */
    const char *lock_path; /* DATA/run/NAME.lock */
    uint32_t n_slots;      /* tasks in the shared page */
    char *const *envp;     /* NULL-terminated */
    /* A whole frame. *body is the malloc'ed payload: the callback may take it by setting it NULL.
     * */
    void (*frame)(void *arg, const struct link_frame *f, uint8_t **body);
    /* The process ended and its sockets are read to their end; wait_status as waitpid() gives it.
     * The last callback. */
    void (*dead)(void *arg, int wait_status);
    /* Something was written to the process's standard error: one line, or a part of a long one. */
    void (*said)(void *arg, const char *text, size_t n);
    /* All data that was queued is in the socket. */
    void (*drained)(void *arg);
    void *arg;
};

/* Starts the process. ERR_BUSY when another process still holds the lock: its process group has
 * been killed, try again soon. */
int pipeline_peer_spawn(struct loop *l, const struct peer_options *o, struct peer **ret,
                        struct err *err) MUST_USE;
/* Kills the process if it lives, forgets it and frees everything; dead() is not called any more.
 * NULL-safe. */
void pipeline_peer_free(struct peer *p);
/* SIGKILL to its process group; dead() follows. */
void pipeline_peer_kill(struct peer *p);

/* Queues frames (encoded, any number); `frames` stays the caller's and is cleared. */
void pipeline_peer_send_control(struct peer *p, struct buf *frames);
/* Queues one frame and takes the buffer's memory. */
void pipeline_peer_send_data(struct peer *p, struct buf *frame);
size_t pipeline_peer_data_waiting(const struct peer *p); /* bytes queued, not yet in the socket */

const struct link_shared *pipeline_peer_shared(const struct peer *p);
uint32_t pipeline_peer_slots(const struct peer *p);
pid_t pipeline_peer_pid(const struct peer *p);
/* What it did against the rules of the link, for which it was killed here; NULL: nothing. */
const char *pipeline_peer_fault(const struct peer *p);

#endif
