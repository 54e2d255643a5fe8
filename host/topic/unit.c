/*
 * A commit unit of the log's engine: appends, state and group offsets become one plog unit, so that all of
 * it is there after a crash or nothing.
 *
 * Threads: submit on any; done on the log's committer.
 * Memory: one block a unit, as long as its arrays, and the encoded offsets.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "topic/plog_engine.h"

#define UNIT_APPENDS_MAX ((size_t)1 << 20)
#define UNIT_OFFSETS_MAX ((size_t)1 << 20)
#define OFFSETS_BYTES    ((size_t)64 << 20)

/* Written for a unit whose offsets all are of topics that are gone: forgets what nobody has, so that the
 * unit goes its ordinary way. */
static const struct topic_group_offset nothing = {
    .topic = "_nothing", .partition = 0, .offset = -1};

struct job {
    struct plog_unit unit;
    struct topic_unit *u;
    struct topic_plog *e;
    struct topic_ticket ticket;
    int ticketed;
    struct buf offsets;
    size_t n;                     /* of appends, that have a reference */
    struct plog_append appends[]; /* then ticket.kept, then ticket.parts */
};

static int job_new(struct topic_plog *e, struct topic_unit *u, struct job **ret, struct err *err)
{
    if (u->n_appends > UNIT_APPENDS_MAX || u->n_state > UNIT_APPENDS_MAX ||
        u->n_group_offsets > UNIT_OFFSETS_MAX) {
        return err_set(err, ERR_INVAL, "a commit unit with too many parts");
    }
    size_t n = u->n_appends + u->n_state + 1;
    size_t at_kept = sizeof(struct job) + n * sizeof(struct plog_append);
    size_t at_parts = at_kept + u->n_group_offsets * sizeof(struct topic_group_offset);
    struct job *j = calloc(1, at_parts + u->n_group_offsets * sizeof(struct topic_group_part *));
    if (j == NULL) {
        return err_set(err, ERR_NOMEM, "no memory for a commit unit");
    }
    j->u = u;
    j->e = e;
    j->ticket.kept = (struct topic_group_offset *)(void *)((char *)j + at_kept);
    j->ticket.parts = (struct topic_group_part **)(void *)((char *)j + at_parts);
    buf_init(&j->offsets, OFFSETS_BYTES);
    *ret = j;
    return 0;
}

/* Ends what was begun; `committed` as topic_coord_end(). */
static void job_end(struct job *j, int committed)
{
    if (j->ticketed) {
        topic_coord_end(j->e->coord, &j->ticket, committed);
    }
    for (size_t i = 0; i < j->n; i++) {
        plog_partition_unref(j->appends[i].partition);
    }
    buf_free(&j->offsets);
    free(j);
}

static void job_done(struct plog_unit *unit, const struct err *err)
{
    struct job *j = unit->arg;
    struct topic_unit *u = j->u;
    if (err->code == 0) {
        for (size_t i = 0; i < u->n_appends; i++) {
            u->appends[i].ret_base_offset = j->appends[i].ret_base_offset;
        }
        for (size_t i = 0; i < u->n_state; i++) {
            u->state[i].ret_base_offset = j->appends[u->n_appends + i].ret_base_offset;
        }
        u->ret_flush = unit->ret_flush;
    }
    u->engine_ = NULL;
    job_end(j, err->code == 0);
    u->done(u, err);
}

/* The partition first, the id after it: whoever knows an id has learnt it before the call, so a match means
 * that the partition is of that topic or of one deleted since, which the log refuses by itself. */
static int add_append(struct job *j, struct topic_append *a, struct err *err)
{
    struct plog_append *p = &j->appends[j->n];
    TRY(plog_partition_get(j->e->log, a->topic, a->partition, &p->partition, err));
    j->n++;
    if (a->topic_id != NULL) {
        struct topic_info info;
        TRY(topic_coord_topic_get(j->e->coord, a->topic, &info, err));
        if (memcmp(info.id, a->topic_id, sizeof(info.id)) != 0) {
            return err_set(err, ERR_STALE, "topic %s was deleted and made again: resolve it anew",
                           a->topic);
        }
    }
    p->batches = a->batches;
    p->len = a->len;
    p->n_records = a->n_records;
    return 0;
}

static int add_offsets(struct job *j, struct err *err)
{
    const struct topic_unit *u = j->u;
    TRY(topic_coord_begin(j->e->coord, u, &j->ticket, err));
    j->ticketed = 1;
    const struct topic_group_offset *v = j->ticket.kept;
    size_t n = j->ticket.n_kept;
    if (n == 0) {
        if (j->n > 0) {
            return 0;
        }
        v = &nothing;
        n = 1;
    }
    struct plog_append *p = &j->appends[j->n];
    TRY(topic_offsets_encode(&j->offsets, u->group, v, n, clock_wall_ms(), &p->n_records, err));
    p->partition = plog_partition_ref(j->e->offsets);
    p->batches = j->offsets.data;
    p->len = j->offsets.len;
    j->n++;
    return 0;
}

static int fill(struct job *j, struct err *err)
{
    struct topic_unit *u = j->u;
    for (size_t i = 0; i < u->n_appends; i++) {
        TRY(add_append(j, &u->appends[i], err));
    }
    for (size_t i = 0; i < u->n_state; i++) {
        TRY(add_append(j, &u->state[i], err));
    }
    if (u->n_group_offsets > 0) {
        TRY(add_offsets(j, err));
    }
    return 0;
}

int topic_plog_submit(struct topic_engine *engine, struct topic_unit *u, struct err *err)
{
    struct topic_plog *e = (struct topic_plog *)engine;
    struct job *j = NULL;
    TRY(job_new(e, u, &j, err));
    int rc = fill(j, err);
    if (rc == 0) {
        j->unit.appends = j->appends;
        j->unit.n_appends = j->n;
        j->unit.stream =
            u->stream != NULL ? &((struct topic_plog_stream *)u->stream)->stream : NULL;
        j->unit.done = job_done;
        j->unit.arg = j;
        u->engine_ = j;
        rc = plog_submit(e->log, &j->unit, err);
    }
    if (rc < 0) {
        u->engine_ = NULL;
        job_end(j, 0);
    }
    return rc;
}
