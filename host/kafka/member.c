/*
 * Members of consumer groups: one librdkafka consumer each, which joins, owns and commits but does not
 * fetch (readers do). Cooperative: partitions that stay are not touched by a rebalance.
 *
 * Threads: rebalances come in on the event thread; the worker asks for committed offsets and closes
 * consumers, since both wait for the network. A rebalance is answered once (incremental assign or unassign), so
 * a member has at most one on its way.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "kafka/kafka_int.h"

#define SLOTS     65536 /* as topic's coordinator: a generation is counter << 16 | slot */
#define COMMIT_MS 5000
#define RETRY_MS  200

struct part {
    char *topic;
    int32_t partition;
    int64_t counter; /* of the event that gave it */
};

struct event {
    struct event *next;
    int assigned;
    int64_t counter;
    rd_kafka_topic_partition_list_t *list; /* owned; the view's names are its */
    struct kafka_assignment *view;
};

struct kafka_member {
    struct kafka_member *next;
    struct kafka *k;
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;   /* rebalances */
    rd_kafka_queue_t *commits; /* answers to commits */
    char *group;
    uint32_t slot;
    struct part *parts;
    size_t n_parts, cap_parts;
    void (*wake)(void *arg);
    void *arg;
    int known, wake_due, waking, leaving;
    uint32_t committing;
    struct event *events, **events_tail;
    struct event *current, *unanswered;
    struct kafka_task assign_task, close_task;
    rd_kafka_topic_partition_list_t *assigning; /* what assign_task works on */
};

/* ---- parts and events; all @locks lock ---- */

static struct part *find_part(const struct kafka_member *m, const char *topic, int32_t partition)
{
    for (size_t i = 0; i < m->n_parts; i++) {
        if (m->parts[i].partition == partition && strcmp(m->parts[i].topic, topic) == 0) {
            return &m->parts[i];
        }
    }
    return NULL;
}

static int add_part(struct kafka_member *m, const char *topic, int32_t partition, int64_t counter)
{
    if (m->n_parts == m->cap_parts) {
        size_t cap = m->cap_parts != 0 ? 2 * m->cap_parts : 8;
        struct part *parts = realloc(m->parts, cap * sizeof(*parts));
        if (parts == NULL) {
            return ERR_NOMEM;
        }
        m->parts = parts;
        m->cap_parts = cap;
    }
    char *copy = strdup(topic);
    if (copy == NULL) {
        return ERR_NOMEM;
    }
    m->parts[m->n_parts++] = (struct part){copy, partition, counter};
    return 0;
}

static void drop_parts(struct kafka_member *m, const rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++) {
        struct part *p = find_part(m, list->elems[i].topic, list->elems[i].partition);
        if (p != NULL) {
            free(p->topic);
            *p = m->parts[--m->n_parts];
        }
    }
}

static void event_free(struct event *e)
{
    if (e != NULL) {
        rd_kafka_topic_partition_list_destroy(e->list);
        free(e->view);
        free(e);
    }
}

/* Takes `list`. librdkafka itself stops the process without memory, so its lists are never NULL; ours may. */
static struct event *event_new(struct kafka *k, int assigned, rd_kafka_topic_partition_list_t *list,
                               int64_t epoch)
{
    struct event *e = calloc(1, sizeof(*e));
    size_t n = (size_t)list->cnt;
    if (e != NULL) {
        e->view = calloc(n + 1, sizeof(*e->view));
    }
    if (e == NULL || e->view == NULL) {
        free(e);
        rd_kafka_topic_partition_list_destroy(list);
        return NULL;
    }
    e->assigned = assigned;
    e->list = list;
    e->counter = ++k->counter;
    for (size_t i = 0; i < n; i++) {
        const rd_kafka_topic_partition_t *p = &list->elems[i];
        e->view[i] = (struct kafka_assignment){.topic = p->topic,
                                               .partition = p->partition,
                                               .epoch = epoch,
                                               .committed = p->offset >= 0 ? p->offset : -1};
    }
    return e;
}

static void push_event(struct kafka_member *m, struct event *e)
{
    *m->events_tail = e;
    m->events_tail = &e->next;
    m->wake_due = 1;
    m->known = m->known || e->assigned;
}

/* The group's generation. librdkafka 2.0 tells it only inside the serialised group metadata; that what is
 * picked out is the generation is checked by building the same bytes from it. -1 if it is not. */
static int64_t group_generation(const struct kafka_member *m)
{
    static const char magic[] = "CGMDv2:";
    rd_kafka_consumer_group_metadata_t *md = rd_kafka_consumer_group_metadata(m->rk);
    void *bytes = NULL;
    size_t n = 0;
    int64_t found = -1;
    if (md == NULL) {
        return -1;
    }
    rd_kafka_error_t *e = rd_kafka_consumer_group_metadata_write(md, &bytes, &n);
    char *id = rd_kafka_memberid(m->rk);
    int32_t generation = -1;
    if (e == NULL && id != NULL && n >= sizeof(magic) - 1 + sizeof(generation) &&
        memcmp(bytes, magic, sizeof(magic) - 1) == 0) {
        memcpy(&generation, (const char *)bytes + sizeof(magic) - 1, sizeof(generation));
        rd_kafka_consumer_group_metadata_t *same =
            rd_kafka_consumer_group_metadata_new_with_genid(m->group, generation, id, NULL);
        void *again = NULL;
        size_t n_again = 0;
        rd_kafka_error_t *e2 = rd_kafka_consumer_group_metadata_write(same, &again, &n_again);
        if (e2 == NULL && n == n_again && memcmp(bytes, again, n) == 0) {
            found = generation;
        }
        rd_kafka_error_destroy(e2);
        rd_kafka_mem_free(m->rk, again);
        rd_kafka_consumer_group_metadata_destroy(same);
    }
    rd_kafka_error_destroy(e);
    rd_kafka_mem_free(m->rk, bytes);
    rd_kafka_mem_free(m->rk, id);
    rd_kafka_consumer_group_metadata_destroy(md);
    return found;
}

/* ---- rebalances ---- */

static void answered(rd_kafka_error_t *e, const char *what)
{
    if (e != NULL) {
        LOG_WARN("kafka", "%s: %s", what, rd_kafka_error_string(e));
        rd_kafka_error_destroy(e);
    }
}

/* Gives what was assigned to the member and to librdkafka, which shall not fetch. @locks lock */
static void assign(struct kafka_member *m, rd_kafka_topic_partition_list_t *list)
{
    answered(rd_kafka_incremental_assign(m->rk, list), "assigning partitions");
    if (list->cnt > 0) {
        (void)rd_kafka_pause_partitions(m->rk, list);
    } else if (m->known) {
        rd_kafka_topic_partition_list_destroy(list);
        return;
    }
    int64_t generation = list->cnt > 0 ? group_generation(m) : 0;
    if (generation < 0) {
        LOG_ERROR("kafka", "group %s: librdkafka does not tell the generation: not assigning",
                  m->group);
        rd_kafka_topic_partition_list_destroy(list);
        return;
    }
    struct event *e = event_new(m->k, 1, list, generation);
    int ok = e != NULL;
    for (int i = 0; ok && i < list->cnt; i++) {
        ok = add_part(m, list->elems[i].topic, list->elems[i].partition, e->counter) == 0;
    }
    if (!ok) {
        LOG_ERROR("kafka", "group %s: no memory for an assignment", m->group);
        event_free(e);
        return;
    }
    push_event(m, e);
}

/* 1 when the cluster has said for every partition where the group stands. */
static int ask_committed(struct kafka_member *m, rd_kafka_topic_partition_list_t *list)
{
    if (rd_kafka_committed(m->rk, list, COMMIT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return 0;
    }
    for (int i = 0; i < list->cnt; i++) {
        if (list->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            return 0;
        }
    }
    return 1;
}

/* On the worker: asks until the cluster answers, since a guess would read everything again. */
static void run_assign(struct kafka *k, void *arg)
{
    struct kafka_member *m = arg;
    rd_kafka_topic_partition_list_t *list = m->assigning;
    int known = ask_committed(m, list);
    mutex_lock(&k->lock);
    while (!known && !m->leaving && !k->closing) {
        (void)cond_wait_until(&k->settled, &k->lock, clock_mono_ms() + RETRY_MS);
        mutex_unlock(&k->lock);
        known = ask_committed(m, list);
        mutex_lock(&k->lock);
    }
    m->assigning = NULL;
    assign(m, list);
    mutex_unlock(&k->lock);
    kafka_kick(k);
}

/* @locks lock */
static void rebalance(struct kafka *k, struct kafka_member *m, rd_kafka_event_t *ev)
{
    rd_kafka_topic_partition_list_t *list =
        rd_kafka_topic_partition_list_copy(rd_kafka_event_topic_partition_list(ev));
    if (rd_kafka_event_error(ev) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        if (list->cnt == 0) {
            assign(m, list);
            return;
        }
        m->assigning = list;
        m->assign_task.run = run_assign;
        m->assign_task.arg = m;
        kafka_task_add(k, &m->assign_task);
        return;
    }
    if (rd_kafka_assignment_lost(m->rk)) {
        drop_parts(m, list); /* another may have them already */
    }
    struct event *e = list->cnt > 0 ? event_new(k, 0, list, 0) : NULL;
    if (e == NULL) {
        /* Nothing to hand back, or no memory to ask for it: then they are gone at once. */
        drop_parts(m, rd_kafka_event_topic_partition_list(ev));
        answered(rd_kafka_incremental_unassign(m->rk, rd_kafka_event_topic_partition_list(ev)),
                 "taking partitions back");
        if (list->cnt == 0) {
            rd_kafka_topic_partition_list_destroy(list);
        }
        return;
    }
    push_event(m, e);
}

/* ---- commits ---- */

/* Ends the job that an answer to a commit belongs to. */
static void commit_answer(rd_kafka_event_t *ev)
{
    struct kafka_job *j = rd_kafka_event_opaque(ev);
    struct err err = ERR_INIT;
    rd_kafka_resp_err_t e = rd_kafka_event_error(ev);
    if (e != RD_KAFKA_RESP_ERR_NO_ERROR) {
        (void)kafka_err(&err, e, "committing group offsets");
    }
    const rd_kafka_topic_partition_list_t *list = rd_kafka_event_topic_partition_list(ev);
    for (int i = 0; list != NULL && err.code == 0 && i < list->cnt; i++) {
        if (list->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            e = list->elems[i].err;
            (void)kafka_err(&err, e, "committing the group offset of %s-%d", list->elems[i].topic,
                            list->elems[i].partition);
        }
    }
    if (e == RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS) {
        kafka_job_commit_again(j, &err);
    } else {
        kafka_job_committed(j, &err);
    }
}

/* Offsets set or forgotten from outside a member. */
static void admin_answer(rd_kafka_event_t *ev)
{
    struct err err = ERR_INIT;
    size_t n = 0;
    const rd_kafka_group_result_t **r = NULL;
    rd_kafka_resp_err_t e = rd_kafka_event_error(ev);
    if (e != RD_KAFKA_RESP_ERR_NO_ERROR) {
        (void)err_set(&err, kafka_code(e), "group offsets: %s (Kafka's %s)",
                      rd_kafka_event_error_string(ev), rd_kafka_err2name(e));
    } else if (rd_kafka_event_type(ev) == RD_KAFKA_EVENT_ALTERCONSUMERGROUPOFFSETS_RESULT) {
        r = rd_kafka_AlterConsumerGroupOffsets_result_groups(
            rd_kafka_event_AlterConsumerGroupOffsets_result(ev), &n);
    } else if (rd_kafka_event_type(ev) == RD_KAFKA_EVENT_DELETECONSUMERGROUPOFFSETS_RESULT) {
        r = rd_kafka_DeleteConsumerGroupOffsets_result_groups(
            rd_kafka_event_DeleteConsumerGroupOffsets_result(ev), &n);
    }
    for (size_t i = 0; i < n && err.code == 0; i++) {
        const rd_kafka_error_t *ge = rd_kafka_group_result_error(r[i]);
        const rd_kafka_topic_partition_list_t *list = rd_kafka_group_result_partitions(r[i]);
        if (ge != NULL) {
            (void)kafka_err(&err, rd_kafka_error_code(ge), "offsets of group %s",
                            rd_kafka_group_result_name(r[i]));
        }
        for (int p = 0; list != NULL && err.code == 0 && p < list->cnt; p++) {
            if (list->elems[p].err != RD_KAFKA_RESP_ERR_NO_ERROR) {
                (void)kafka_err(&err, list->elems[p].err, "offset of group %s in %s-%d",
                                rd_kafka_group_result_name(r[i]), list->elems[p].topic,
                                list->elems[p].partition);
            }
        }
    }
    kafka_job_committed(rd_kafka_event_opaque(ev), &err);
}

static rd_kafka_topic_partition_list_t *list_of(const struct kafka_unit *u)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)u->n_offsets);
    for (size_t i = 0; i < u->n_offsets; i++) {
        rd_kafka_topic_partition_list_add(list, u->offsets[i].topic, u->offsets[i].partition)
            ->offset = u->offsets[i].offset;
    }
    return list;
}

static size_t count_forgotten(const struct kafka_unit *u)
{
    size_t n = 0;
    for (size_t i = 0; i < u->n_offsets; i++) {
        n += u->offsets[i].offset < 0;
    }
    return n;
}

static void commit_outside(struct kafka *k, struct kafka_job *j, const struct kafka_unit *u)
{
    rd_kafka_topic_partition_list_t *list = list_of(u);
    if (count_forgotten(u) == 0) {
        rd_kafka_AdminOptions_t *o =
            kafka_admin_options(k, RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS);
        rd_kafka_AlterConsumerGroupOffsets_t *a =
            rd_kafka_AlterConsumerGroupOffsets_new(u->group, list);
        rd_kafka_AdminOptions_set_opaque(o, j);
        rd_kafka_AlterConsumerGroupOffsets(k->admin, &a, 1, o, k->admin_queue);
        rd_kafka_AlterConsumerGroupOffsets_destroy(a);
        rd_kafka_AdminOptions_destroy(o);
    } else {
        rd_kafka_AdminOptions_t *o =
            kafka_admin_options(k, RD_KAFKA_ADMIN_OP_DELETECONSUMERGROUPOFFSETS);
        rd_kafka_DeleteConsumerGroupOffsets_t *d =
            rd_kafka_DeleteConsumerGroupOffsets_new(u->group, list);
        rd_kafka_AdminOptions_set_opaque(o, j);
        rd_kafka_DeleteConsumerGroupOffsets(k->admin, &d, 1, o, k->admin_queue);
        rd_kafka_DeleteConsumerGroupOffsets_destroy(d);
        rd_kafka_AdminOptions_destroy(o);
    }
    rd_kafka_topic_partition_list_destroy(list);
}

/* The member that may commit all of the unit's offsets; NULL and ERR_FENCED if there is none. @locks lock */
static struct kafka_member *committer(struct kafka *k, const struct kafka_unit *u, struct err *err)
{
    struct kafka_member *m = k->members;
    uint32_t slot = (uint32_t)(u->generation & (SLOTS - 1));
    while (m != NULL && (m->slot != slot || strcmp(m->group, u->group) != 0)) {
        m = m->next;
    }
    for (size_t i = 0; i < u->n_offsets; i++) {
        const struct kafka_offset *o = &u->offsets[i];
        const struct part *p = m != NULL ? find_part(m, o->topic, o->partition) : NULL;
        if (p == NULL || u->generation >> 16 < p->counter) {
            (void)err_set(err, ERR_FENCED,
                          "group %.200s: partition %s-%d is no longer this member's", u->group,
                          o->topic, o->partition);
            return NULL;
        }
    }
    return m;
}

int kafka_members_check(struct kafka *k, const struct kafka_unit *u, struct err *err)
{
    size_t forgotten = count_forgotten(u);
    if (forgotten > 0 && (u->generation >= 0 || forgotten < u->n_offsets)) {
        return err_set(err, ERR_UNSUPPORTED,
                       "Kafka forgets group offsets only from outside the group, and not in one "
                       "unit with others that are set");
    }
    return u->generation < 0 || committer(k, u, err) != NULL ? 0 : ERR_FENCED;
}

void kafka_offsets_commit(struct kafka *k, struct kafka_job *j, const struct kafka_unit *u)
{
    if (u->generation < 0) {
        commit_outside(k, j, u);
        return;
    }
    struct err err = ERR_INIT;
    rd_kafka_resp_err_t e = RD_KAFKA_RESP_ERR_NO_ERROR;
    mutex_lock(&k->lock);
    struct kafka_member *m = committer(k, u, &err);
    if (m != NULL) {
        rd_kafka_topic_partition_list_t *list = list_of(u);
        m->committing++;
        e = rd_kafka_commit_queue(m->rk, list, m->commits, NULL, j);
        m->committing -= e != RD_KAFKA_RESP_ERR_NO_ERROR;
        rd_kafka_topic_partition_list_destroy(list);
    }
    mutex_unlock(&k->lock);
    if (e != RD_KAFKA_RESP_ERR_NO_ERROR) {
        (void)kafka_err(&err, e, "committing group offsets");
    }
    if (err.code != 0) {
        kafka_job_committed(j, &err);
    }
}

/* ---- the event thread ---- */

/* @locks lock, left while answers are passed on */
static void serve_commits(struct kafka *k, struct kafka_member *m)
{
    rd_kafka_event_t *ev;
    while ((ev = rd_kafka_queue_poll(m->commits, 0)) != NULL) {
        m->committing--;
        mutex_unlock(&k->lock);
        commit_answer(ev);
        rd_kafka_event_destroy(ev);
        mutex_lock(&k->lock);
    }
}

/* @locks lock */
static void serve_queue(struct kafka *k, struct kafka_member *m)
{
    rd_kafka_event_t *ev;
    while ((ev = rd_kafka_queue_poll(m->queue, 0)) != NULL) {
        if (rd_kafka_event_type(ev) == RD_KAFKA_EVENT_REBALANCE) {
            rebalance(k, m, ev);
        } else if (rd_kafka_event_type(ev) == RD_KAFKA_EVENT_ERROR) {
            LOG_DEBUG("kafka", "group %s: %s", m->group, rd_kafka_event_error_string(ev));
        }
        rd_kafka_event_destroy(ev);
    }
}

static struct kafka_member *wake_due(struct kafka *k)
{
    struct kafka_member *m = k->members;
    while (m != NULL && !m->wake_due) {
        m = m->next;
    }
    return m;
}

void kafka_members_serve(struct kafka *k)
{
    rd_kafka_event_t *ev;
    while ((ev = rd_kafka_queue_poll(k->admin_queue, 0)) != NULL) {
        if (rd_kafka_event_opaque(ev) != NULL) {
            admin_answer(ev);
        }
        rd_kafka_event_destroy(ev);
    }
    mutex_lock(&k->lock);
    for (struct kafka_member *m = k->members; m != NULL; m = m->next) {
        serve_queue(k, m);
        m->waking = 1; /* it stays while the lock is left */
        serve_commits(k, m);
        m->waking = 0;
    }
    struct kafka_member *m;
    while ((m = wake_due(k)) != NULL) {
        void (*wake)(void *arg) = m->wake;
        m->wake_due = 0;
        if (wake != NULL) {
            m->waking = 1;
            mutex_unlock(&k->lock);
            wake(m->arg);
            mutex_lock(&k->lock);
            m->waking = 0;
        }
    }
    cond_broadcast(&k->settled);
    mutex_unlock(&k->lock);
}

/* ---- members ---- */

static void member_free(struct kafka_member *m)
{
    if (m->queue != NULL) {
        rd_kafka_queue_destroy(m->queue);
    }
    if (m->commits != NULL) {
        rd_kafka_queue_destroy(m->commits);
    }
    if (m->rk != NULL) {
        rd_kafka_destroy(m->rk);
    }
    if (m->current != m->unanswered) {
        event_free(m->current);
    }
    event_free(m->unanswered);
    while (m->events != NULL) {
        struct event *e = m->events;
        m->events = e->next;
        event_free(e);
    }
    for (size_t i = 0; i < m->n_parts; i++) {
        free(m->parts[i].topic);
    }
    free(m->parts);
    free(m->group);
    free(m);
}

static int connect_member(struct kafka_member *m, const char *const *topics, size_t n_topics,
                          struct err *err)
{
    const char *const ours[] = {"group.id",
                                m->group,
                                "enable.auto.commit",
                                "false",
                                "enable.auto.offset.store",
                                "false",
                                "partition.assignment.strategy",
                                "cooperative-sticky",
                                "allow.auto.create.topics",
                                "false",
                                "max.poll.interval.ms",
                                "86400000", /* deadlines of tasks are the pipeline's */
                                NULL};
    rd_kafka_conf_t *conf = kafka_conf(m->k, ours, err);
    if (conf == NULL) {
        return ERR_CONFIG;
    }
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_OFFSET_COMMIT |
                                       RD_KAFKA_EVENT_ERROR);
    m->rk = kafka_handle(RD_KAFKA_CONSUMER, conf, err);
    if (m->rk == NULL) {
        return ERR_CONFIG;
    }
    (void)rd_kafka_poll_set_consumer(m->rk);
    m->queue = rd_kafka_queue_get_consumer(m->rk);
    m->commits = rd_kafka_queue_new(m->rk);
    kafka_queue_kicks(m->k, m->queue);
    kafka_queue_kicks(m->k, m->commits);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)n_topics);
    for (size_t i = 0; i < n_topics; i++) {
        rd_kafka_topic_partition_list_add(list, topics[i], RD_KAFKA_PARTITION_UA);
    }
    rd_kafka_resp_err_t e = rd_kafka_subscribe(m->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    return e == RD_KAFKA_RESP_ERR_NO_ERROR
               ? 0
               : kafka_err(err, e, "subscribing for group %s", m->group);
}

/* The lowest slot that no member has. @locks lock */
static uint32_t free_slot(const struct kafka *k)
{
    for (uint32_t slot = 0;; slot++) {
        int used = 0;
        for (const struct kafka_member *m = k->members; m != NULL && !used; m = m->next) {
            used = m->slot == slot;
        }
        if (!used) {
            return slot;
        }
    }
}

int kafka_member_join(struct kafka *k, const char *group, const char *const *topics,
                      size_t n_topics, void (*wake)(void *arg), void *arg,
                      struct kafka_member **ret, struct err *err)
{
    if (n_topics == 0 || n_topics > INT32_MAX) {
        return err_set(err, ERR_INVAL, "a member of group %.200s needs topics", group);
    }
    struct kafka_member *m = calloc(1, sizeof(*m));
    if (m == NULL || (m->group = strdup(group)) == NULL) {
        free(m);
        return err_set(err, ERR_NOMEM, "no memory for a member of group %.200s", group);
    }
    m->k = k;
    m->wake = wake;
    m->arg = arg;
    m->events_tail = &m->events;
    int rc = connect_member(m, topics, n_topics, err);
    if (rc < 0) {
        member_free(m);
        return rc;
    }
    mutex_lock(&k->lock);
    m->slot = free_slot(k);
    m->next = k->members;
    k->members = m;
    *ret = m;
    mutex_unlock(&k->lock);
    kafka_kick(k);
    return 0;
}

int kafka_member_poll(struct kafka_member *m, struct kafka_event *ret)
{
    struct kafka *k = m->k;
    mutex_lock(&k->lock);
    if (m->current != m->unanswered) {
        event_free(m->current);
    }
    m->current = NULL;
    struct event *e = m->unanswered == NULL ? m->events : NULL;
    if (e != NULL) {
        m->events = e->next;
        if (m->events == NULL) {
            m->events_tail = &m->events;
        }
        m->current = e;
        if (!e->assigned) {
            m->unanswered = e;
        }
        *ret = (struct kafka_event){.assigned = e->assigned,
                                    .generation = e->counter << 16 | m->slot,
                                    .partitions = e->view,
                                    .n = (size_t)e->list->cnt};
    }
    mutex_unlock(&k->lock);
    return e != NULL;
}

void kafka_member_revoked(struct kafka_member *m)
{
    struct kafka *k = m->k;
    mutex_lock(&k->lock);
    struct event *e = m->unanswered;
    if (e != NULL) {
        drop_parts(m, e->list);
        answered(rd_kafka_incremental_unassign(m->rk, e->list), "giving partitions back");
        m->unanswered = NULL;
        if (e != m->current) {
            event_free(e);
        }
        m->wake_due = m->events != NULL;
    }
    mutex_unlock(&k->lock);
    kafka_kick(k);
}

/* On the worker: leaves the group, which waits for the cluster, and ends what the member still awaited. */
static void run_close(struct kafka *k, void *arg)
{
    struct kafka_member *m = arg;
    rd_kafka_event_t *ev;
    rd_kafka_queue_cb_event_enable(m->queue, NULL, NULL);
    rd_kafka_queue_cb_event_enable(m->commits, NULL, NULL);
    if (m->unanswered != NULL) {
        answered(rd_kafka_incremental_unassign(m->rk, m->unanswered->list), "leaving");
    }
    for (struct event *e = m->events; e != NULL; e = e->next) {
        if (!e->assigned) {
            answered(rd_kafka_incremental_unassign(m->rk, e->list), "leaving");
        }
    }
    while ((ev = rd_kafka_queue_poll(m->queue, 0)) != NULL) {
        if (rd_kafka_event_type(ev) == RD_KAFKA_EVENT_REBALANCE) {
            int given = rd_kafka_event_error(ev) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
            rd_kafka_topic_partition_list_t *list = rd_kafka_event_topic_partition_list(ev);
            answered(given ? rd_kafka_incremental_assign(m->rk, list)
                           : rd_kafka_incremental_unassign(m->rk, list),
                     "leaving");
        }
        rd_kafka_event_destroy(ev);
    }
    (void)rd_kafka_consumer_close(m->rk);
    while (m->committing > 0 && (ev = rd_kafka_queue_poll(m->commits, KAFKA_WAIT_MS)) != NULL) {
        m->committing--;
        commit_answer(ev);
        rd_kafka_event_destroy(ev);
    }
    BUG_ON(m->committing > 0); /* every commit is answered, a closed consumer's too */
    kafka_kick(k);
    member_free(m);
}

void kafka_member_leave(struct kafka_member *m)
{
    struct kafka *k = m->k;
    mutex_lock(&k->lock);
    m->wake = NULL;
    m->leaving = 1;
    while (m->waking) {
        cond_wait(&k->settled, &k->lock);
    }
    struct kafka_member **at = &k->members;
    while (*at != m) {
        at = &(*at)->next;
    }
    *at = m->next;
    m->close_task.run = run_close;
    m->close_task.arg = m;
    kafka_task_add(k, &m->close_task); /* behind an assignment that the worker still has */
    mutex_unlock(&k->lock);
}

/* ---- offsets ---- */

int kafka_group_offset(struct kafka *k, const char *group, const char *topic, int32_t partition,
                       int64_t *ret, struct err *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, partition);
    rd_kafka_ListConsumerGroupOffsets_t *l = rd_kafka_ListConsumerGroupOffsets_new(group, list);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_queue_t *q = rd_kafka_queue_new(k->admin);
    rd_kafka_AdminOptions_t *o = kafka_admin_options(k, RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS);
    rd_kafka_ListConsumerGroupOffsets(k->admin, &l, 1, o, q);
    rd_kafka_event_t *ev = NULL;
    int rc = kafka_admin_wait(q, "asking for group offsets", &ev, err);
    if (rc == 0) {
        size_t n = 0;
        const rd_kafka_group_result_t **r = rd_kafka_ListConsumerGroupOffsets_result_groups(
            rd_kafka_event_ListConsumerGroupOffsets_result(ev), &n);
        const rd_kafka_error_t *ge = n > 0 ? rd_kafka_group_result_error(r[0]) : NULL;
        const rd_kafka_topic_partition_list_t *got =
            n > 0 && ge == NULL ? rd_kafka_group_result_partitions(r[0]) : NULL;
        if (ge != NULL) {
            rc = kafka_err(err, rd_kafka_error_code(ge), "offsets of group %s", group);
        } else if (got != NULL && got->cnt > 0 && got->elems[0].err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            rc = kafka_err(err, got->elems[0].err, "offset of group %s", group);
        } else if (got == NULL || got->cnt == 0 || got->elems[0].offset < 0) {
            rc = err_set(err, ERR_NOT_FOUND, "group %.200s has no offset of %s-%d", group, topic,
                         partition);
        } else {
            *ret = got->elems[0].offset;
        }
        rd_kafka_event_destroy(ev);
    }
    rd_kafka_AdminOptions_destroy(o);
    rd_kafka_queue_destroy(q);
    rd_kafka_ListConsumerGroupOffsets_destroy(l);
    return rc;
}
