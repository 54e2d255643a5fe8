/*
 * Members of groups: joining, leaving, and the queue of events between the coordinator and a member.
 *
 * Invariant: an event that is not polled yet, or a REVOKED that is not answered, only names parts that its member
 * owns, so the parts live. Bounded: a part is in at most one ASSIGNED and one REVOKED of its owner.
 */
#include "topic/group.h"

#include <stdlib.h>
#include <string.h>

/* ---- parts ---- */

static void group_topic_free(void *p)
{
    struct topic_group_topic *t = p;
    for (size_t i = 0; i < t->n_parts; i++) {
        free(t->parts[i]);
    }
    free(t->parts);
    free(t->name);
    free(t);
}

void topic_group_free(void *group)
{
    struct topic_group *g = group;
    if (g != NULL) {
        map_free(g->topics);
        free(g->name);
        free(g);
    }
}

static struct topic_group *group_new(const char *name)
{
    struct topic_group *g = calloc(1, sizeof(*g));
    if (g != NULL) {
        g->name = strdup(name);
        g->topics = map_new(group_topic_free);
        if (g->name == NULL || g->topics == NULL) {
            topic_group_free(g);
            g = NULL;
        }
    }
    return g;
}

struct topic_group_part *topic_group_find(const struct topic_group *g, const char *topic,
                                          int32_t partition)
{
    const struct topic_group_topic *t = map_get(g->topics, topic);
    if (t == NULL || partition < 0 || (size_t)partition >= t->n_parts) {
        return NULL;
    }
    return t->parts[partition];
}

void topic_group_mark(struct topic_coord *c, struct topic_group *g)
{
    g->dirty = 1;
    c->dirty = 1;
    cond_signal(&c->changed);
}

int topic_group_subscribes(const struct topic_group_member *m, const char *topic)
{
    for (size_t i = 0; i < m->n_topics; i++) {
        if (strcmp(m->topics[i], topic) == 0) {
            return 1;
        }
    }
    return 0;
}

/* ---- events ---- */

void topic_group_event_free(struct topic_group_event *e)
{
    if (e != NULL) {
        free(e->parts);
        free(e->view);
        free(e);
    }
}

int topic_group_event_add(struct topic_group_event **event, int kind, struct topic_group_part *p)
{
    struct topic_group_event *e = *event;
    if (e == NULL) {
        e = calloc(1, sizeof(*e));
        if (e == NULL) {
            return ERR_NOMEM;
        }
        e->kind = kind;
        *event = e;
    }
    if (p == NULL) {
        return 0;
    }
    if (e->n == e->cap) {
        size_t cap = e->cap != 0 ? 2 * e->cap : 8;
        struct topic_group_part **parts =
            realloc(e->parts, cap * sizeof(struct topic_group_part *));
        if (parts == NULL) {
            return ERR_NOMEM;
        }
        e->parts = parts;
        e->cap = cap;
    }
    e->parts[e->n++] = p;
    return 0;
}

void topic_group_event_push(struct topic_group_member *m, struct topic_group_event *e)
{
    e->next = NULL;
    *m->events_tail = e;
    m->events_tail = &e->next;
    m->wake_due = 1;
}

/* What the caller sees: assignments and their topics' names in one block, so that both outlive the
 * parts. */
static int event_view(struct topic_coord *c, const struct topic_group *g,
                      struct topic_group_event *e)
{
    size_t names = 0;
    const struct topic_group_topic *last = NULL;
    for (size_t i = 0; i < e->n; i++) {
        if (e->parts[i]->topic != last) {
            last = e->parts[i]->topic;
            names += strlen(last->name) + 1;
        }
    }
    e->view = malloc(e->n * sizeof(*e->view) + names + 1);
    if (e->view == NULL) {
        return ERR_NOMEM;
    }
    char *at = (char *)(e->view + e->n);
    const char *name = at;
    last = NULL;
    for (size_t i = 0; i < e->n; i++) {
        const struct topic_group_part *p = e->parts[i];
        if (p->topic != last) {
            last = p->topic;
            size_t len = strlen(last->name) + 1;
            memcpy(at, last->name, len);
            name = at;
            at += len;
        }
        struct topic_assignment *v = &e->view[i];
        *v = (struct topic_assignment){
            .topic = name, .partition = p->partition, .epoch = p->epoch, .committed = -1};
        memcpy(v->topic_id, last->id, sizeof(v->topic_id));
        if (topic_offsets_get(c->offsets, g->name, last->name, p->partition, &v->committed) < 0) {
            v->committed = -1;
        }
    }
    return 0;
}

/* @locks lock */
static int poll_locked(struct topic_group_member *m, struct topic_event *ret)
{
    if (m->current != NULL && m->current != m->unanswered) {
        topic_group_event_free(m->current);
    }
    m->current = NULL;
    struct topic_group_event *e = m->events;
    if (e == NULL || m->unanswered != NULL) {
        return 0;
    }
    if (event_view(m->coord, m->group, e) < 0) {
        m->wake_due = 1; /* it stays at the head; the member is asked again */
        m->coord->dirty = 1;
        cond_signal(&m->coord->changed);
        return 0;
    }
    m->events = e->next;
    if (m->events == NULL) {
        m->events_tail = &m->events;
    }
    m->current = e;
    if (e->kind == TOPIC_EVENT_REVOKED) {
        m->unanswered = e;
    }
    *ret = (struct topic_event){.kind = e->kind,
                                .generation = e->counter << 16 | m->slot,
                                .partitions = e->view,
                                .n = e->n};
    return 1;
}

int topic_coord_poll(struct topic_member *member, struct topic_event *ret)
{
    struct topic_group_member *m = (struct topic_group_member *)member;
    mutex_lock(&m->coord->lock);
    int rc = poll_locked(m, ret);
    mutex_unlock(&m->coord->lock);
    return rc;
}

static void release(struct topic_group_part *p)
{
    p->owner = NULL;
    p->revoking = 0;
}

void topic_coord_revoked(struct topic_member *member)
{
    struct topic_group_member *m = (struct topic_group_member *)member;
    struct topic_coord *c = m->coord;
    mutex_lock(&c->lock);
    struct topic_group_event *e = m->unanswered;
    if (e != NULL) {
        for (size_t i = 0; i < e->n; i++) {
            release(e->parts[i]);
        }
        m->unanswered = NULL;
        if (e != m->current) {
            topic_group_event_free(e);
        }
        m->wake_due = m->events != NULL;
        topic_group_mark(c, m->group);
    }
    mutex_unlock(&c->lock);
}

/* ---- members ---- */

static void member_free(struct topic_group_member *m)
{
    for (size_t i = 0; i < m->n_topics; i++) {
        free(m->topics[i]);
    }
    free(m->topics);
    if (m->current != m->unanswered) {
        topic_group_event_free(m->current);
    }
    topic_group_event_free(m->unanswered);
    while (m->events != NULL) {
        struct topic_group_event *e = m->events;
        m->events = e->next;
        topic_group_event_free(e);
    }
    free(m);
}

static struct topic_group_member *member_new(const char *const *topics, size_t n_topics)
{
    struct topic_group_member *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        return NULL;
    }
    m->events_tail = &m->events;
    m->topics = calloc(n_topics + 1, sizeof(char *));
    for (size_t i = 0; m->topics != NULL && i < n_topics; i++) {
        m->topics[i] = strdup(topics[i]);
        if (m->topics[i] == NULL) {
            break;
        }
        m->n_topics++;
    }
    if (m->topics == NULL || m->n_topics < n_topics) {
        member_free(m);
        return NULL;
    }
    return m;
}

/* The lowest slot that no member has; members are few. */
static uint32_t free_slot(const struct topic_group *g)
{
    for (uint32_t slot = 0;; slot++) {
        int used = 0;
        for (const struct topic_group_member *m = g->members; m != NULL && !used; m = m->next) {
            used = m->slot == slot;
        }
        if (!used) {
            return slot;
        }
    }
}

/* @locks lock */
static int join_locked(struct topic_coord *c, const char *group, struct topic_group_member *m,
                       struct err *err)
{
    struct topic_group *g = map_get(c->groups, group);
    if (g == NULL) {
        g = group_new(group);
        if (g == NULL || map_put(c->groups, group, g) < 0) {
            topic_group_free(g);
            return err_set(err, ERR_NOMEM, "no memory for group %.200s", group);
        }
    }
    if (g->n_members >= TOPIC_GROUP_SLOTS) {
        return err_set(err, ERR_LIMIT, "group %.200s has %d members already", group,
                       TOPIC_GROUP_SLOTS);
    }
    m->slot = free_slot(g);
    m->group = g;
    struct topic_group_member **at = &g->members;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = m;
    g->n_members++;
    topic_group_mark(c, g);
    return 0;
}

int topic_coord_join(struct topic_coord *c, const char *group, const char *const *topics,
                     size_t n_topics, void (*wake)(void *arg), void *arg, struct topic_member **ret,
                     struct err *err)
{
    if (strlen(group) > TOPIC_GROUP_MAX) {
        return err_set(err, ERR_INVAL, "a group's name has at most %d bytes", TOPIC_GROUP_MAX);
    }
    struct topic_group_member *m = member_new(topics, n_topics);
    if (m == NULL) {
        return err_set(err, ERR_NOMEM, "no memory for a member of group %.200s", group);
    }
    m->base.engine = c->engine;
    m->coord = c;
    m->wake = wake;
    m->arg = arg;
    mutex_lock(&c->lock);
    int rc = join_locked(c, group, m, err);
    if (rc == 0) {
        *ret = &m->base; /* before the wake can come */
    }
    mutex_unlock(&c->lock);
    if (rc < 0) {
        member_free(m);
    }
    return rc;
}

/* @locks lock */
static void forget_member(struct topic_group *g, const struct topic_group_member *m)
{
    void *value;
    for (size_t i = 0; map_next(g->topics, &i, NULL, &value);) {
        const struct topic_group_topic *t = value;
        for (size_t j = 0; j < t->n_parts; j++) {
            struct topic_group_part *p = t->parts[j];
            if (p->owner == m) {
                release(p);
            }
            if (p->target == m) {
                p->target = NULL;
            }
        }
    }
}

void topic_coord_leave(struct topic_member *member)
{
    struct topic_group_member *m = (struct topic_group_member *)member;
    struct topic_coord *c = m->coord;
    struct topic_group *g = m->group;
    mutex_lock(&c->lock);
    m->wake = NULL; /* none starts from here on */
    while (m->waking) {
        cond_wait(&c->settled, &c->lock);
    }
    struct topic_group_member **at = &g->members;
    while (*at != m) {
        at = &(*at)->next;
    }
    *at = m->next;
    g->n_members--;
    forget_member(g, m);
    topic_group_mark(c, g);
    mutex_unlock(&c->lock);
    member_free(m);
}
