/*
 * Sink tasks: which partitions they have, what they are sent, how far they are.
 *
 * Assignment changes stop the world of one task only: what is open is closed (the runner flushes,
 * commits and closes), then everything that it has now is opened anew under the next link
 * generation. So every RECORDS frame of a generation fits the parts of one OPEN, and a late frame
 * can't be taken for a new one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "pipeline/pipeline_int.h"

#define RESET_KEY "consumer.override.auto.offset.reset"

static void events(struct task *t);

/* ---- parts ---- */

static void part_close(struct part *p)
{
    topic_reader_close(p->reader);
    p->reader = NULL;
    pipeline_loop_post_cancel(&p->task->connector->p->loop, &p->wake);
}

static void part_free(struct part *p)
{
    part_close(p);
    free(p->topic);
    free(p);
}

static void close_parts(struct task *t)
{
    for (size_t i = 0; i < t->n_parts; i++) {
        part_close(t->parts[i]);
    }
}

/* Forgets the parts that were revoked. */
static void drop_revoked(struct task *t)
{
    size_t kept = 0;
    for (size_t i = 0; i < t->n_parts; i++) {
        if (t->parts[i]->revoked) {
            part_free(t->parts[i]);
        } else {
            t->parts[kept++] = t->parts[i];
        }
    }
    t->n_parts = kept;
    if (t->revoke_pending) {
        t->revoke_pending = 0;
        topic_member_revoked(t->member);
    }
}

static void wake_on_core(struct loop_post *post)
{
    struct part *p = (struct part *)(void *)((char *)post - offsetof(struct part, wake));
    pipeline_sink_pump(p->task);
}

/* [engine thread] */
static void part_wake(void *arg)
{
    struct part *p = arg;
    pipeline_loop_post(&p->task->connector->p->loop, &p->wake);
}

static int add_part(struct task *t, const struct topic_assignment *a)
{
    struct part **all = realloc(t->parts, (t->n_parts + 1) * sizeof(*all));
    if (all == NULL) {
        return ERR_NOMEM;
    }
    t->parts = all;
    struct part *p = calloc(1, sizeof(*p));
    if (p == NULL || (p->topic = strdup(a->topic)) == NULL) {
        free(p);
        return ERR_NOMEM;
    }
    p->task = t;
    memcpy(p->topic_id, a->topic_id, sizeof(p->topic_id));
    p->partition = a->partition;
    p->epoch = a->epoch;
    p->committed = a->committed;
    p->wake.run = wake_on_core;
    all[t->n_parts++] = p;
    return 0;
}

/* ---- opening and closing in the runner ---- */

static void send_parts(struct task *t, int type)
{
    struct link_parts f = {.generation = t->link_generation, .n_parts = (uint32_t)t->n_parts};
    f.parts = calloc(t->n_parts + 1, sizeof(*f.parts));
    struct buf out = BUF_INIT(LINK_CONTROL_MAX);
    for (size_t i = 0; f.parts != NULL && i < t->n_parts; i++) {
        const struct part *p = t->parts[i];
        f.parts[i] = (struct link_part){.topic = slice_str(p->topic),
                                        .partition = p->partition,
                                        .epoch = p->epoch,
                                        .offset = p->next};
        memcpy(f.parts[i].topic_id, p->topic_id, sizeof(p->topic_id));
    }
    if (f.parts != NULL) {
        link_put_parts(&out, type, t->id, &f);
    }
    if (f.parts == NULL || out.error != 0) {
        pipeline_connector_kill(t->connector, KILL_STOP, LINK_STAGE_OPEN, "out of memory");
    } else {
        pipeline_connector_send(t->connector, &out);
    }
    free(f.parts);
    buf_free(&out);
}

/* The group's first position in a partition, made durable before anything is read: "latest" must not
 * be found out again after a crash. Waits for the disk, once in the life of a group's partition. */
static int commit_start(struct task *t, struct part *p, const char *group, struct err *err)
{
    struct topic_group_offset offset = {p->topic, p->partition, p->next};
    struct topic_unit unit = {.group = group,
                              .generation = t->generation,
                              .group_offsets = &offset,
                              .n_group_offsets = 1};
    TRY(topic_commit(t->connector->p->engine, &unit, err));
    p->committed = p->next;
    return 0;
}

/* Where the host would start a partition: the group's offset, or the end or start of the topic.
 * ERR_NOT_FOUND: the topic that was assigned is gone, whoever has its name now. */
static int start_offset(struct task *t, struct part *p, struct err *err)
{
    struct topic_engine *e = t->connector->p->engine;
    char group[TOPIC_NAME_MAX + 16];
    (void)snprintf(group, sizeof(group), "connect-%s", t->connector->name);
    struct topic_info info;
    struct topic_partition_status st;
    TRY(topic_resolve(e, p->topic, &info, err));
    if (memcmp(info.id, p->topic_id, sizeof(info.id)) != 0) {
        return err_set(err, ERR_NOT_FOUND, "topic %s was deleted and made again", p->topic);
    }
    TRY(topic_partition_status(e, p->topic, p->partition, &st, err));
    p->end = st.end_offset;
    int64_t offset = -1;
    int rc = topic_group_offset(e, group, p->topic, p->partition, &offset, err);
    if (rc != 0 && rc != ERR_NOT_FOUND) {
        return rc;
    }
    p->committed = rc == 0 ? offset : -1;
    if (rc == 0 && offset >= st.start_offset && offset <= st.end_offset) {
        p->next = offset;
        return 0;
    }
    const char *reset = pipeline_kv_get(&t->connector->effective, RESET_KEY);
    int latest = reset != NULL && strcmp(reset, "latest") == 0;
    p->next = latest ? st.end_offset : st.start_offset;
    return latest ? commit_start(t, p, group, err) : 0;
}

/* Where each part starts; a part whose topic is gone is forgotten (the group takes it away too). */
static int find_starts(struct task *t, struct err *err)
{
    size_t kept = 0;
    int rc = 0;
    for (size_t i = 0; i < t->n_parts; i++) {
        struct part *p = t->parts[i];
        int found = rc == 0 ? start_offset(t, p, err) : 0;
        if (found == ERR_NOT_FOUND) {
            part_free(p);
            continue;
        }
        rc = rc != 0 ? rc : found;
        p->index = (uint32_t)kept;
        t->parts[kept++] = p;
    }
    t->n_parts = kept;
    return rc;
}

static void open_all(struct task *t)
{
    struct err err = ERR_INIT;
    t->phase = SINK_IDLE;
    if (find_starts(t, &err) != 0) {
        pipeline_connector_kill_err(t->connector, LINK_STAGE_OPEN, &err);
        return;
    }
    if (t->n_parts == 0) {
        return;
    }
    t->link_generation++;
    t->phase = SINK_OPENING;
    send_parts(t, LINK_OPEN);
}

static void close_all(struct task *t)
{
    t->phase = SINK_CLOSING;
    close_parts(t);
    send_parts(t, LINK_CLOSE);
}

/* ---- membership ---- */

static void member_on_core(struct loop_post *post)
{
    struct task *t = (struct task *)(void *)((char *)post - offsetof(struct task, member_post));
    events(t);
}

/* [engine thread] */
static void member_wake(void *arg)
{
    struct task *t = arg;
    pipeline_loop_post(&t->connector->p->loop, &t->member_post);
}

static void mark_revoked(struct task *t, const struct topic_event *e)
{
    for (size_t i = 0; i < e->n; i++) {
        for (size_t k = 0; k < t->n_parts; k++) {
            struct part *p = t->parts[k];
            if (p->partition == e->partitions[i].partition &&
                strcmp(p->topic, e->partitions[i].topic) == 0) {
                p->revoked = 1;
            }
        }
    }
    t->revoke_pending = 1;
}

/* Takes what the group says; while partitions are being opened or closed it waits. */
static void events(struct task *t)
{
    if (t->member == NULL || t->phase == SINK_OPENING || t->phase == SINK_CLOSING) {
        return;
    }
    struct topic_event e;
    int changed = 0;
    while (!t->revoke_pending && topic_member_poll(t->member, &e) == 1) {
        changed = 1;
        t->generation = e.generation;
        if (e.kind == TOPIC_EVENT_REVOKED) {
            mark_revoked(t, &e);
        }
        for (size_t i = 0; e.kind == TOPIC_EVENT_ASSIGNED && i < e.n; i++) {
            if (add_part(t, &e.partitions[i]) != 0) {
                struct err err = {.code = ERR_NOMEM, .msg = "out of memory"};
                pipeline_sink_leave(t); /* what it does not know of it must not own */
                pipeline_connector_kill_err(t->connector, LINK_STAGE_OPEN, &err);
                return;
            }
        }
        if (t->revoke_pending && t->phase != SINK_OPEN) {
            drop_revoked(t);
        }
    }
    if (!changed) {
        return;
    }
    if (t->phase == SINK_OPEN) {
        close_all(t);
    } else if (t->live && t->state == STATE_RUNNING) {
        open_all(t);
    }
}

int pipeline_sink_join(struct task *t, struct err *err)
{
    const char *list = pipeline_kv_get(&t->connector->effective, "topics");
    char *copy = strdup(list != NULL ? list : "");
    const char **topics = calloc(strlen(list != NULL ? list : "") + 1, sizeof(*topics));
    size_t n = 0;
    char *state = NULL;
    for (char *p = copy; copy != NULL && topics != NULL; p = NULL) {
        char *name = strtok_r(p, ", ", &state);
        if (name == NULL) {
            break;
        }
        topics[n++] = name;
    }
    char group[TOPIC_NAME_MAX + 16];
    (void)snprintf(group, sizeof(group), "connect-%s", t->connector->name);
    t->member_post.run = member_on_core;
    int rc = copy == NULL || topics == NULL
                 ? err_set(err, ERR_NOMEM, "out of memory")
                 : topic_member_join(t->connector->p->engine, group, topics, n, member_wake, t,
                                     &t->member, err);
    free(copy);
    free(topics);
    return rc;
}

void pipeline_sink_started(struct task *t)
{
    struct err err = ERR_INIT;
    t->phase = SINK_IDLE;
    if (t->member == NULL && pipeline_sink_join(t, &err) != 0) {
        pipeline_connector_kill_err(t->connector, LINK_STAGE_OPEN, &err);
        return;
    }
    events(t);
    if (t->phase == SINK_IDLE && t->n_parts > 0) {
        open_all(t); /* it kept its partitions while it was down */
    }
}

void pipeline_sink_down(struct task *t)
{
    close_parts(t);
    t->phase = SINK_IDLE;
    t->closed_pending = 0;
    if (t->member != NULL) {
        drop_revoked(t);
        events(t); /* what came while partitions were being opened or closed */
    }
}

void pipeline_sink_leave(struct task *t)
{
    topic_member_leave(t->member);
    t->member = NULL;
    t->revoke_pending = 0;
    pipeline_loop_post_cancel(&t->connector->p->loop, &t->member_post);
    for (size_t i = 0; i < t->n_parts; i++) {
        part_free(t->parts[i]);
    }
    free(t->parts);
    t->parts = NULL;
    t->n_parts = 0;
}

/* ---- answers of the runner ---- */

static int open_reader(struct part *p, int64_t offset, struct err *err)
{
    struct topic_partition_status st;
    struct topic_engine *e = p->task->connector->p->engine;
    BUG_ON(p->reader != NULL);
    TRY(topic_partition_status(e, p->topic, p->partition, &st, err));
    if (offset > st.end_offset) {
        return err_set(
            err, ERR_FATAL,
            "the target holds offset %lld of %s-%d, but the log ends at %lld: it is not the log "
            "that the target was filled from; reset the target's offsets or restore the log",
            (long long)offset, p->topic, (int)p->partition, (long long)st.end_offset);
    }
    p->next = offset < st.start_offset ? st.start_offset : offset;
    p->end = st.end_offset;
    return topic_reader_open(e, p->topic, p->partition, part_wake, p, &p->reader, err);
}

void pipeline_sink_opened(struct task *t, const struct link_frame *f)
{
    struct err err = ERR_INIT;
    struct arena *a = arena_new(LINK_CONTROL_MAX * 4);
    struct link_parts opened = {0};
    int rc =
        a != NULL ? link_get_parts(f, a, &opened, &err) : err_set(&err, ERR_NOMEM, "out of memory");
    if (rc == 0 && (t->phase != SINK_OPENING || opened.generation != t->link_generation ||
                    opened.n_parts != t->n_parts)) {
        rc = err_set(&err, ERR_DATA, "it opened what it was not asked to open");
    }
    if (rc != 0) {
        arena_free(a);
        pipeline_connector_kill(t->connector, KILL_ABI, LINK_STAGE_OPEN, err.msg);
        return;
    }
    t->phase = SINK_OPEN;
    for (size_t i = 0; rc == 0 && i < t->n_parts; i++) {
        int64_t offset = opened.parts[i].offset;
        rc = open_reader(t->parts[i], offset >= 0 ? offset : t->parts[i]->next, &err);
        rc = rc == ERR_NOT_FOUND ? 0 : rc; /* deleted: the group takes it away */
    }
    arena_free(a);
    if (rc != 0) {
        pipeline_connector_kill_err(t->connector, LINK_STAGE_OPEN, &err);
        return;
    }
    events(t);
    pipeline_sink_pump(t);
}

/* The partitions are closed and their last offsets durable: they may go elsewhere now. */
static void after_close(struct task *t)
{
    t->closed_pending = 0;
    t->phase = SINK_IDLE;
    drop_revoked(t);
    events(t);
    if (t->phase == SINK_IDLE && t->live && !t->stopping) {
        open_all(t);
    }
}

void pipeline_sink_closed(struct task *t, const struct link_frame *f)
{
    (void)f;
    if (t->phase != SINK_CLOSING) {
        return;
    }
    t->closed_pending = 1;
    if (t->commits == NULL) {
        after_close(t);
    }
}

void pipeline_sink_drained(struct task *t)
{
    if (t->closed_pending) {
        after_close(t);
    }
}

void pipeline_sink_credit(struct task *t, const struct link_frame *f)
{
    struct link_credit credit;
    struct err err = ERR_INIT;
    if (link_get_credit(f, &credit, &err) != 0) {
        pipeline_connector_kill(t->connector, KILL_ABI, LINK_STAGE_PUT, err.msg);
        return;
    }
    if (credit.bytes > (uint64_t)t->outstanding) {
        pipeline_connector_kill(t->connector, KILL_ABI, LINK_STAGE_PUT,
                                "it gave back more than it was sent");
        return;
    }
    t->outstanding -= (int64_t)credit.bytes;
    t->credit += (int64_t)credit.bytes;
    pipeline_sink_pump(t);
}

void pipeline_sink_committed(struct task *t, const struct commit *c)
{
    for (size_t i = 0; i < c->unit.n_group_offsets; i++) {
        const struct topic_group_offset *g = &c->unit.group_offsets[i];
        for (size_t k = 0; k < t->n_parts; k++) {
            if (t->parts[k]->partition == g->partition &&
                strcmp(t->parts[k]->topic, g->topic) == 0) {
                t->parts[k]->committed = g->offset;
            }
        }
    }
}

/* ---- delivery ---- */

/* Reads once from a part and sends it; 1 if something was sent, 0 nothing there, negative: failed.
 * */
static int send_some(struct task *t, struct part *p, struct err *err)
{
    struct link_records f = {.generation = t->link_generation,
                             .part = p->index,
                             .topic = slice_str(p->topic),
                             .partition = p->partition,
                             .offset = p->next};
    struct buf out = BUF_INIT(LINK_DATA_MAX);
    link_put_records_head(&out, t->id, &f);
    size_t head = out.len;
    struct topic_read read;
    int rc = topic_read(p->reader, p->next, SINK_READ_BYTES, &out, &read, err);
    p->end = rc == 0 || rc == ERR_LIMIT ? read.end_offset : p->end;
    if (rc == ERR_LIMIT && p->next < read.start_offset) {
        LOG_WARN("pipeline", "%s-%d: offset %lld is gone, connector %s goes on at %lld", p->topic,
                 (int)p->partition, (long long)p->next, t->connector->name,
                 (long long)read.start_offset);
        p->next = read.start_offset;
        buf_free(&out);
        return 1;
    }
    if (rc == ERR_CORRUPT) { /* costs only its own offsets; the log names file and offset */
        LOG_ERROR("pipeline", "connector %s: %s; skipped to offset %lld", t->connector->name,
                  err->msg, (long long)read.next_offset);
        pipeline_failure_set(&t->failure, "data", LINK_STAGE_NONE, err->msg, -1);
        p->next = read.next_offset;
        buf_free(&out);
        return 1;
    }
    if (rc != 0 || read.bytes == 0) {
        buf_free(&out);
        return rc;
    }
    f.next_offset = read.next_offset;
    f.end_offset = read.end_offset;
    f.batches = slice_of(out.data + head, read.bytes);
    struct buf again = BUF_INIT(0);
    link_put_records_head(&again, t->id, &f);
    BUG_ON(again.error != 0 || again.len != head);
    memcpy(out.data, again.data, head);
    buf_free(&again);
    p->next = read.next_offset;
    t->credit -= (int64_t)read.bytes;
    t->outstanding += (int64_t)read.bytes;
    pipeline_peer_send_data(t->connector->peer, &out);
    return 1;
}

void pipeline_sink_pump(struct task *t)
{
    size_t idle = 0;
    while (t->phase == SINK_OPEN && t->credit > 0 && idle < t->n_parts &&
           t->connector->peer != NULL && t->connector->kill_cause == KILL_NONE &&
           pipeline_peer_data_waiting(t->connector->peer) < (size_t)SINK_CREDIT_BYTES) {
        struct part *p = t->parts[t->next_part++ % t->n_parts];
        struct err err = ERR_INIT;
        int rc = p->reader != NULL ? send_some(t, p, &err) : 0;
        if (rc == ERR_NOT_FOUND) { /* deleted: the group takes it away */
            part_close(p);
            rc = 0;
        }
        if (rc < 0) {
            pipeline_connector_kill_err(t->connector, LINK_STAGE_NONE, &err);
            return;
        }
        idle = rc > 0 ? 0 : idle + 1;
    }
}

int64_t pipeline_sink_lag(struct task *t)
{
    int64_t lag = t->member != NULL ? 0 : -1;
    for (size_t i = 0; i < t->n_parts; i++) {
        struct part *p = t->parts[i];
        struct topic_partition_status st;
        if (topic_partition_status(t->connector->p->engine, p->topic, p->partition, &st, NULL) ==
            0) {
            int64_t from = p->committed >= 0 ? p->committed : st.start_offset;
            lag += st.end_offset > from ? st.end_offset - from : 0;
        }
    }
    return lag;
}
