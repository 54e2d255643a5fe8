/*
 * The committer: one thread that takes what is queued, writes it as a group, syncs, publishes and calls
 * done. While it syncs, the queue gathers the next group: the disk's pace sets the group's size.
 *
 * Failure: the whole group is rolled back. If it failed by one partition's fault, that partition is marked
 * failed and the units are tried again one by one; otherwise all fail and the log cannot write until a
 * probe or a later unit succeeds. If the journal could not be synced or cut back it is dead: nothing is
 * acked until a checkpoint has put a new generation in its place.
 *
 * Threads: plog_submit() and plog_control_run() from any; the rest is the committer.
 */
#include "plog/plog_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct plog_commit_state {
    struct plog_group group;
    struct plog_unit **units; /* taken from the queue, in order */
    size_t n, cap;
};

/* ---- health ---- */

void plog_health_set(struct plog *p, int writable, const char *reason)
{
    mutex_lock(&p->q_mu);
    int was = p->writable;
    p->writable = writable;
    (void)snprintf(p->reason, sizeof(p->reason), "%s", writable ? "" : reason);
    p->next_probe_ms = clock_mono_ms() + p->o.retry_ms;
    mutex_unlock(&p->q_mu);
    if (was && !writable) {
        LOG_ERROR("plog", "the log cannot write, nothing is acknowledged: %s", reason);
    } else if (!was && writable) {
        LOG_INFO("plog", "the log can write again");
    }
}

int plog_writable(struct plog *p, char *ret_reason, size_t reason_len)
{
    mutex_lock(&p->q_mu);
    int ok = p->writable;
    if (!ok && ret_reason != NULL) {
        (void)snprintf(ret_reason, reason_len, "%s", p->reason);
    }
    mutex_unlock(&p->q_mu);
    return ok;
}

/* Whether the disk takes 64 KiB, durably. */
static int probe(struct plog *p, struct err *err)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/probe", p->journal_dir);
    int fd = -1;
    TRY(plog_io_create(p, path, &fd, err));
    void *zeros = calloc(1, 65536);
    struct iovec iov = {.iov_base = zeros, .iov_len = 65536};
    int rc = zeros == NULL ? err_set(err, ERR_NOMEM, "out of memory")
                           : plog_io_pwritev(p, fd, &iov, 1, 0, path, err);
    if (rc == 0) {
        rc = plog_io_sync(p, fd, path, err);
    }
    free(zeros);
    (void)close(fd);
    (void)unlink(path);
    return rc;
}

/* ---- submitting ---- */

int plog_submit(struct plog *p, struct plog_unit *u, struct err *err)
{
    size_t bytes = sizeof(*u);
    for (size_t i = 0; i < u->n_appends; i++) {
        bytes += u->appends[i].len;
    }
    int rc = 0;
    mutex_lock(&p->q_mu);
    if (p->closing) {
        rc = err_set(err, ERR_CANCELLED, "the log is closing");
    } else if (p->q_bytes >= p->o.queue_bytes) {
        rc = err_set(err, ERR_LIMIT, "%zu bytes wait for the disk already", p->q_bytes);
    } else {
        u->bytes_ = bytes;
        u->indefinite = 0;
        u->next_ = NULL;
        p->q_bytes += bytes;
        if (p->q_tail != NULL) {
            p->q_tail->next_ = u;
        } else {
            p->q_head = u;
            cond_signal(&p->q_cond);
        }
        p->q_tail = u;
    }
    mutex_unlock(&p->q_mu);
    return rc;
}

void plog_stream_reset(struct plog_stream *s)
{
    __atomic_store_n(&s->failed, 0, __ATOMIC_RELEASE);
}

struct waiter {
    struct mutex mu;
    struct cond cond;
    int done;
    struct err err;
};

static void wake_waiter(struct plog_unit *u, const struct err *err)
{
    struct waiter *w = u->arg;
    mutex_lock(&w->mu);
    w->done = 1;
    err_copy(&w->err, err);
    cond_signal(&w->cond);
    mutex_unlock(&w->mu);
}

int plog_commit(struct plog *p, struct plog_unit *u, struct err *err)
{
    struct waiter w = {.err = ERR_INIT};
    void (*done)(struct plog_unit *, const struct err *) = u->done;
    void *arg = u->arg;
    mutex_init(&w.mu);
    cond_init(&w.cond);
    u->done = wake_waiter;
    u->arg = &w;
    int rc = plog_submit(p, u, err);
    if (rc == 0) {
        mutex_lock(&w.mu);
        while (!w.done) {
            cond_wait(&w.cond, &w.mu);
        }
        mutex_unlock(&w.mu);
        rc = w.err.code;
        if (rc < 0) {
            err_copy(err, &w.err);
        }
    }
    u->done = done;
    u->arg = arg;
    cond_destroy(&w.cond);
    mutex_destroy(&w.mu);
    return rc;
}

int plog_control_run(struct plog *p, int (*run)(struct plog *p, void *arg, struct err *err),
                     void *arg, struct err *err)
{
    struct plog_control c = {.run = run, .arg = arg, .err = ERR_INIT};
    mutex_lock(&p->q_mu);
    if (!p->committer_runs) {
        mutex_unlock(&p->q_mu);
        return err_set(err, ERR_CANCELLED, "the log is closing");
    }
    struct plog_control **at = &p->controls;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = &c;
    cond_signal(&p->q_cond);
    while (!c.finished) {
        cond_wait(&p->done_cond, &p->q_mu);
    }
    mutex_unlock(&p->q_mu);
    if (c.rc < 0) {
        err_copy(err, &c.err);
    }
    return c.rc;
}

/* ---- telling the outcome ---- */

static void finish(struct plog *p, struct plog_unit *u, const struct err *err)
{
    size_t bytes = u->bytes_;
    u->ret_flush = p->o.flush;
    u->done(u, err); /* the unit may be gone afterwards */
    mutex_lock(&p->q_mu);
    p->q_bytes -= bytes;
    mutex_unlock(&p->q_mu);
}

static int stream_failed(const struct plog_unit *u)
{
    return u->stream != NULL && __atomic_load_n(&u->stream->failed, __ATOMIC_ACQUIRE);
}

static void fail(struct plog *p, struct plog_unit *u, const struct err *err, int indefinite)
{
    u->indefinite = indefinite;
    if (stream_failed(u)) {
        struct err cancelled = ERR_INIT;
        (void)err_set(&cancelled, ERR_CANCELLED, "an earlier unit of the stream failed");
        finish(p, u, &cancelled);
        return;
    }
    if (u->stream != NULL) {
        __atomic_store_n(&u->stream->failed, 1, __ATOMIC_RELEASE);
    }
    finish(p, u, err);
}

static void mark_dead(struct plog *p, const char *why)
{
    char reason[256];
    (void)snprintf(reason, sizeof(reason), "journal: %.200s", why);
    mutex_lock(&p->q_mu);
    p->dead_generation = p->journal->generation;
    mutex_unlock(&p->q_mu);
    plog_health_set(p, 0, reason);
    plog_checkpoint_request(p);
}

/* ---- controls: on purpose losing data, so that a crash test can show that it would notice ---- */

static void pause_ms(long ms)
{
    struct timespec t = {.tv_sec = 0, .tv_nsec = ms * 1000000};
    (void)nanosleep(&t, NULL);
}

static void drop_copy(struct plog_unit *u, const struct err *err)
{
    (void)err;
    for (size_t i = 0; i < u->n_appends; i++) {
        free(u->appends[i].batches);
    }
    free(u->appends);
    free(u);
}

/* control_ack_before_write: tells the unit that it is durable while only a copy in memory is. */
static struct plog_unit *ack_too_early(struct plog *p, struct plog_unit *u)
{
    struct plog_unit *copy = calloc(1, sizeof(*copy));
    struct plog_append *appends = calloc(u->n_appends + 1, sizeof(*appends));
    BUG_ON(copy == NULL || appends == NULL);
    for (size_t i = 0; i < u->n_appends; i++) {
        struct plog_append *a = &u->appends[i];
        appends[i] = *a;
        appends[i].batches = malloc(a->len + 1);
        BUG_ON(appends[i].batches == NULL);
        memcpy(appends[i].batches, a->batches, a->len);
        mutex_lock(&a->partition->mu);
        a->ret_base_offset = a->partition->end;
        mutex_unlock(&a->partition->mu);
        for (size_t j = 0; j < i; j++) {
            if (u->appends[j].partition == a->partition) {
                a->ret_base_offset = u->appends[j].ret_base_offset + u->appends[j].n_records;
            }
        }
    }
    *copy = (struct plog_unit){.appends = appends, .n_appends = u->n_appends, .done = drop_copy};
    struct err ok = ERR_INIT;
    finish(p, u, &ok);
    pause_ms(5);
    return copy;
}

/* ---- one group ---- */

static int64_t journal_used(const struct plog *p)
{
    return p->journal->len - plog_journal_first();
}

/* Whether journals have gathered beyond what checkpoints should have freed. */
static int journals_full(struct plog *p)
{
    return journal_used(p) + atomic_load(&p->retired_bytes) > 4 * (int64_t)p->o.journal_bytes;
}

/* After a failed write: back to the published state; whether to try the units again one by one. */
static int recover_group(struct plog *p, struct plog_group *g, struct err *err, int *ret_dead)
{
    struct plog_partition *fault = g->fault_part;
    *ret_dead = plog_group_rollback(p, g);
    if (*ret_dead) {
        mark_dead(p, err->msg);
        return 0;
    }
    if (fault == NULL) {
        plog_health_set(p, 0, err->msg);
        if (journal_used(p) > 0) {
            plog_checkpoint_request(p); /* old journals may be the space that is missing */
        }
        return 0;
    }
    LOG_ERROR("plog", "%s: the partition takes no records until its segment is made afresh",
              err->msg);
    plog_partition_set_error(fault, 1, err->msg);
    mutex_lock(&fault->mu);
    fault->segs[fault->n_segs - 1]->dirty = 1;
    mutex_unlock(&fault->mu);
    plog_checkpoint_request(p);
    return g->n_units > 1;
}

/* Stages units[from..to) until one cannot be admitted; returns how many were. */
static size_t gather(struct plog *p, struct plog_group *g, struct plog_unit **units, size_t n,
                     int *ret_rc, struct err *err)
{
    *ret_rc = 0;
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && (stream_failed(units[i]) || plog_group_admit(units[i], NULL) < 0)) {
            return i; /* it comes first in the next group, and fails there */
        }
        if (i == 0) {
            if (stream_failed(units[0])) {
                return 0;
            }
            int rc = plog_group_admit(units[0], err);
            if (rc < 0) {
                return 0;
            }
        }
        int rc = plog_group_stage(g, units[i], err);
        if (rc < 0) {
            *ret_rc = rc;
            return i + 1;
        }
    }
    (void)p;
    return n;
}

/* Whether nothing can be acked now, with the reason in err. */
static int refuses(struct plog *p, struct err *err)
{
    mutex_lock(&p->q_mu);
    int dead = p->dead_generation != 0;
    int full = p->checkpoint_failed && journals_full(p);
    if (dead) {
        (void)err_set(err, ERR_IO, "%s", p->reason);
    } else if (full) {
        (void)err_set(err, ERR_IO, "the journal cannot be retired: %s", p->checkpoint_error);
    }
    mutex_unlock(&p->q_mu);
    if (full && !dead) {
        plog_health_set(p, 0, err->msg);
    }
    return dead || full;
}

static void probe_health(struct plog *p)
{
    struct err err = ERR_INIT;
    int ok = !refuses(p, &err) && probe(p, &err) == 0;
    plog_health_set(p, ok, err.msg);
}

static int write_and_sync(struct plog *p, struct plog_group *g, struct err *err)
{
    TRY(plog_group_write(p, g, err));
    if (p->o.flush != PLOG_FLUSH_ALWAYS || p->o.control_ack_before_sync) {
        return 0;
    }
    return plog_group_sync(p, g, err);
}

/* Commits at most units[0..n); returns how many were dealt with (0: try again one by one). */
static size_t commit_some(struct plog *p, struct plog_unit **units, size_t n)
{
    struct plog_group *g = &p->commit->group;
    struct err err = ERR_INIT;
    plog_group_clear(g);
    if (refuses(p, &err)) {
        fail(p, units[0], &err, 0);
        return 1;
    }
    int rc = 0;
    size_t taken = gather(p, g, units, n, &rc, &err);
    if (taken == 0) {
        fail(p, units[0], &err, 0);
        return 1;
    }
    if (rc == 0) {
        rc = write_and_sync(p, g, &err);
    }
    if (rc == 0) {
        plog_group_publish(p, g);
        plog_group_clear(g);
        atomic_store(&p->uncheckpointed, 1);
        mutex_lock(&p->q_mu);
        int sick = !p->writable;
        mutex_unlock(&p->q_mu);
        if (sick) {
            plog_health_set(p, 1, "");
        }
        struct err ok = ERR_INIT;
        for (size_t i = 0; i < taken; i++) {
            finish(p, units[i], &ok);
        }
        if (p->o.control_ack_before_sync) {
            pause_ms(5);
            g->journal_touched = 1;
            (void)!plog_group_sync(p, g, NULL);
            g->journal_touched = 0;
        }
        return taken;
    }
    int dead = 0;
    int again = recover_group(p, g, &err, &dead);
    plog_group_clear(g);
    if (again) {
        return 0;
    }
    for (size_t i = 0; i < taken; i++) {
        fail(p, units[i], &err, dead);
    }
    return taken;
}

static void commit_all(struct plog *p, struct plog_unit **units, size_t n)
{
    size_t single_until = 0;
    for (size_t i = 0; i < n;) {
        if (p->o.control_ack_before_write) {
            units[i] = ack_too_early(p, units[i]);
        }
        int single = i < single_until || p->o.control_ack_before_write;
        size_t done = commit_some(p, units + i, single ? 1 : n - i);
        if (done == 0) {
            single_until = n;
        }
        i += done;
    }
}

int plog_commit_known(struct plog *p, struct plog_partition **parts, size_t n, struct err *err)
{
    struct plog_group *g = &p->commit->group;
    if (refuses(p, err)) {
        return ERR_IO;
    }
    plog_group_clear(g);
    int rc = plog_group_stage_known(g, parts, n, err);
    if (rc == 0) {
        rc = plog_group_write(p, g, err);
    }
    if (rc == 0) {
        rc = plog_group_sync(p, g, err);
    }
    if (rc == 0) {
        plog_group_publish(p, g);
        atomic_store(&p->uncheckpointed, 1);
    } else if (plog_group_rollback(p, g)) {
        mark_dead(p, err->msg);
    }
    plog_group_clear(g);
    return rc;
}

/* ---- the thread ---- */

/* q_mu held on entry and return. */
static void run_controls(struct plog *p)
{
    while (p->controls != NULL) {
        struct plog_control *c = p->controls;
        p->controls = c->next;
        mutex_unlock(&p->q_mu);
        c->rc = c->run(p, c->arg, &c->err);
        mutex_lock(&p->q_mu);
        c->finished = 1;
        cond_broadcast(&p->done_cond);
    }
}

/* Takes a group's worth from the queue; q_mu held. */
static void take_units(struct plog *p)
{
    struct plog_commit_state *st = p->commit;
    size_t bytes = 0;
    st->n = 0;
    while (p->q_head != NULL && bytes < PLOG_GROUP_BYTES) {
        if (st->n == st->cap) {
            size_t cap = st->cap * 2 + 256;
            struct plog_unit **units = realloc(st->units, cap * sizeof(*units));
            if (units == NULL) {
                BUG_ON(st->n == 0);
                return;
            }
            st->units = units;
            st->cap = cap;
        }
        struct plog_unit *u = p->q_head;
        p->q_head = u->next_;
        if (p->q_head == NULL) {
            p->q_tail = NULL;
        }
        bytes += u->bytes_;
        st->units[st->n++] = u;
    }
}

/* More journal than checkpoints keep up with: they have to catch up first; q_mu held. */
static int must_wait(struct plog *p)
{
    int wait = !p->checkpoint_failed && p->dead_generation == 0 && p->checkpointer_runs &&
               journals_full(p);
    if (wait) {
        p->want_checkpoint = 1;
        cond_signal(&p->checkpoint_cond);
    }
    return wait;
}

static void ask_for_checkpoint(struct plog *p)
{
    if (journal_used(p) > (int64_t)p->o.journal_bytes || p->straight_bytes > PLOG_STRAIGHT_TOTAL) {
        plog_checkpoint_request(p);
    }
}

static void *committer_main(void *arg)
{
    struct plog *p = arg;
    mutex_lock(&p->q_mu);
    for (;;) {
        run_controls(p);
        if (p->q_head != NULL && !must_wait(p)) {
            take_units(p);
            mutex_unlock(&p->q_mu);
            commit_all(p, p->commit->units, p->commit->n);
            ask_for_checkpoint(p);
            mutex_lock(&p->q_mu);
            continue;
        }
        if (p->q_head == NULL && p->closing) {
            break;
        }
        if (p->writable || p->dead_generation != 0) {
            cond_wait(&p->q_cond, &p->q_mu);
        } else if (clock_mono_ms() < p->next_probe_ms) {
            (void)cond_wait_until(&p->q_cond, &p->q_mu, p->next_probe_ms);
        } else {
            mutex_unlock(&p->q_mu);
            probe_health(p);
            mutex_lock(&p->q_mu);
        }
    }
    p->committer_runs = 0;
    while (p->controls != NULL) {
        struct plog_control *c = p->controls;
        p->controls = c->next;
        c->rc = err_set(&c->err, ERR_CANCELLED, "the log is closing");
        c->finished = 1;
    }
    cond_broadcast(&p->done_cond);
    mutex_unlock(&p->q_mu);
    return NULL;
}

int plog_committer_start(struct plog *p, struct err *err)
{
    p->commit = calloc(1, sizeof(*p->commit));
    if (p->commit == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    p->writable = 1;
    p->committer_runs = 1;
    int rc = thread_start(&p->committer, "plog-commit", committer_main, p, err);
    if (rc < 0) {
        p->committer_runs = 0;
        free(p->commit);
        p->commit = NULL;
    }
    return rc;
}

void plog_committer_stop(struct plog *p)
{
    if (p->commit == NULL) {
        return;
    }
    mutex_lock(&p->q_mu);
    p->closing = 1;
    cond_broadcast(&p->q_cond);
    mutex_unlock(&p->q_mu);
    thread_join(p->committer);
    plog_group_free(&p->commit->group);
    free(p->commit->units);
    free(p->commit);
    p->commit = NULL;
}
