/*
 * The assignment of a group: sticky and cooperative. A partition stays with its owner unless it must move;
 * loads differ by at most one among members that may have the same topics; what moves is revoked
 * first and given on when its owner has answered.
 *
 * Threads: the coordinator's, under its lock.
 */
#include <stdlib.h>
#include <string.h>

#include "topic/group.h"

/* ---- topics ---- */

static int wanted(const struct topic_group *g, const char *topic)
{
    for (const struct topic_group_member *m = g->members; m != NULL; m = m->next) {
        if (topic_group_subscribes(m, topic)) {
            return 1;
        }
    }
    return 0;
}

static int idle(const struct topic_group_topic *t)
{
    for (size_t i = 0; i < t->n_parts; i++) {
        if (t->parts[i]->owner != NULL || t->parts[i]->in_flight > 0) {
            return 0;
        }
    }
    return 1;
}

static int extend(struct topic_group_topic *t, size_t n)
{
    if (n <= t->n_parts) {
        return 0;
    }
    struct topic_group_part **parts = realloc(t->parts, n * sizeof(struct topic_group_part *));
    if (parts == NULL) {
        return ERR_NOMEM;
    }
    t->parts = parts;
    while (t->n_parts < n) {
        struct topic_group_part *p = calloc(1, sizeof(*p));
        if (p == NULL) {
            return ERR_NOMEM;
        }
        p->topic = t;
        p->partition = (int32_t)t->n_parts;
        t->parts[t->n_parts++] = p;
    }
    return 0;
}

static struct topic_group_topic *add_topic(struct topic_group *g, const char *name,
                                           const struct topic_info *info)
{
    struct topic_group_topic *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return NULL;
    }
    t->name = strdup(name);
    memcpy(t->id, info->id, sizeof(t->id));
    if (t->name == NULL || map_put(g->topics, name, t) < 0) {
        free(t->name);
        free(t);
        return NULL;
    }
    return t;
}

/* A topic that was deleted (and perhaps made again) leaves when its last part is free; only then does its
 * successor enter, so that a name and a number always mean one part. */
static int refresh_topics(struct topic_coord *c, struct topic_group *g)
{
    const char *name;
    void *value;
    for (size_t i = 0; map_next(g->topics, &i, &name, &value);) {
        struct topic_group_topic *t = value;
        const struct topic_info *info = map_get(c->topics, name);
        t->gone = info == NULL || memcmp(info->id, t->id, sizeof(t->id)) != 0 || !wanted(g, name);
        if (t->gone && idle(t)) {
            (void)map_del(g->topics, name);
        }
    }
    for (const struct topic_group_member *m = g->members; m != NULL; m = m->next) {
        for (size_t i = 0; i < m->n_topics; i++) {
            const struct topic_info *info = map_get(c->topics, m->topics[i]);
            if (info == NULL) {
                continue;
            }
            struct topic_group_topic *t = map_get(g->topics, m->topics[i]);
            if (t == NULL) {
                t = add_topic(g, m->topics[i], info);
            }
            if (t == NULL || (!t->gone && extend(t, (size_t)info->partitions) < 0)) {
                return ERR_NOMEM;
            }
        }
    }
    return 0;
}

/* ---- targets ---- */

/* All parts that may have an owner, in a stable order. */
static struct topic_group_part **list_parts(const struct topic_group *g, size_t *ret_n)
{
    size_t n = 0;
    void *value;
    for (size_t i = 0; map_next(g->topics, &i, NULL, &value);) {
        n += ((const struct topic_group_topic *)value)->n_parts;
    }
    struct topic_group_part **parts = calloc(n + 1, sizeof(struct topic_group_part *));
    if (parts == NULL) {
        return NULL;
    }
    n = 0;
    for (size_t i = 0; map_next(g->topics, &i, NULL, &value);) {
        const struct topic_group_topic *t = value;
        for (size_t j = 0; !t->gone && j < t->n_parts; j++) {
            parts[n++] = t->parts[j];
        }
    }
    *ret_n = n;
    return parts;
}

static struct topic_group_member *least_loaded(const struct topic_group *g, const char *topic)
{
    struct topic_group_member *best = NULL;
    for (struct topic_group_member *m = g->members; m != NULL; m = m->next) {
        if (topic_group_subscribes(m, topic) && (best == NULL || m->load < best->load)) {
            best = m;
        }
    }
    return best;
}

/* Moves one part from `heavy` to `light`: one that nobody holds yet if there is one. */
static int move_one(struct topic_group_part **parts, size_t n, struct topic_group_member *heavy,
                    struct topic_group_member *light)
{
    struct topic_group_part *pick = NULL;
    for (size_t i = n; i-- > 0 && (pick == NULL || pick->owner == heavy);) {
        struct topic_group_part *p = parts[i];
        if (p->target == heavy && (pick == NULL || p->owner != heavy) &&
            topic_group_subscribes(light, p->topic->name)) {
            pick = p;
        }
    }
    if (pick == NULL) {
        return 0;
    }
    pick->target = light;
    heavy->load--;
    light->load++;
    return 1;
}

static int balance_step(const struct topic_group *g, struct topic_group_part **parts, size_t n)
{
    for (struct topic_group_member *heavy = g->members; heavy != NULL; heavy = heavy->next) {
        for (struct topic_group_member *light = g->members; light != NULL; light = light->next) {
            if (heavy->load >= light->load + 2 && move_one(parts, n, heavy, light)) {
                return 1;
            }
        }
    }
    return 0;
}

static void find_targets(const struct topic_group *g, struct topic_group_part **parts, size_t n)
{
    for (struct topic_group_member *m = g->members; m != NULL; m = m->next) {
        m->load = 0;
    }
    for (size_t i = 0; i < n; i++) {
        struct topic_group_part *p = parts[i];
        if (p->owner != NULL && !p->revoking) {
            p->target = p->owner;
        }
        if (p->target != NULL && !topic_group_subscribes(p->target, p->topic->name)) {
            p->target = NULL;
        }
        if (p->target != NULL) {
            p->target->load++;
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (parts[i]->target == NULL) {
            parts[i]->target = least_loaded(g, parts[i]->topic->name);
            if (parts[i]->target != NULL) {
                parts[i]->target->load++;
            }
        }
    }
    while (balance_step(g, parts, n)) {
    }
}

/* ---- events ---- */

static int queue_part(struct topic_coord *c, struct topic_group_part *p)
{
    if (p->owner != NULL) {
        if (p->revoking || (!p->topic->gone && p->target == p->owner)) {
            return 0;
        }
        TRY(topic_group_event_add(&p->owner->taken, TOPIC_EVENT_REVOKED, p));
        p->revoking = 1;
        return 0;
    }
    if (p->topic->gone || p->target == NULL || p->in_flight > 0) {
        return 0;
    }
    struct topic_group_member *m = p->target;
    int fresh = m->added == NULL;
    TRY(topic_group_event_add(&m->added, TOPIC_EVENT_ASSIGNED, p));
    if (fresh) {
        m->added->counter = ++c->counter;
    }
    p->owner = m;
    p->owner_counter = m->added->counter;
    p->epoch = c->incarnation << 32 | m->added->counter;
    return 0;
}

/* Sends what has been gathered. A new member that gets nothing is told so, once. */
static int send_events(struct topic_coord *c, const struct topic_group *g)
{
    int rc = 0;
    for (struct topic_group_member *m = g->members; m != NULL; m = m->next) {
        if (m->added == NULL && !m->known && m->load == 0) {
            if (topic_group_event_add(&m->added, TOPIC_EVENT_ASSIGNED, NULL) < 0) {
                rc = ERR_NOMEM;
            }
        }
        if (m->added != NULL) {
            if (m->added->counter == 0) { /* no part got into it */
                m->added->counter = ++c->counter;
            }
            topic_group_event_push(m, m->added);
            m->added = NULL;
            m->known = 1;
        }
        if (m->taken != NULL) { /* behind, with the higher generation */
            m->taken->counter = ++c->counter;
            topic_group_event_push(m, m->taken);
            m->taken = NULL;
        }
    }
    return rc;
}

int topic_group_assign(struct topic_coord *c, struct topic_group *g)
{
    int rc = refresh_topics(c, g);
    size_t n = 0;
    struct topic_group_part **parts = list_parts(g, &n);
    if (parts == NULL) {
        return ERR_NOMEM;
    }
    find_targets(g, parts, n);
    free(parts);
    void *value;
    for (size_t i = 0; rc == 0 && map_next(g->topics, &i, NULL, &value);) {
        const struct topic_group_topic *t = value;
        for (size_t j = 0; rc == 0 && j < t->n_parts; j++) {
            rc = queue_part(c, t->parts[j]);
        }
    }
    int sent = send_events(c, g);
    return rc < 0 ? rc : sent;
}
