/*
 * The coordinator: topics, the right to commit, offsets, and the thread that assigns and wakes.
 *
 * Invariants: a part with units in flight is never freed and never given to another; the lock is never
 * held over a call into the log or into a callback.
 */
#include "topic/coord.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "topic/group.h"

#define RETRY_MS 100 /* an assignment that found no memory */

/* ---- the thread ---- */

/* Assigns every group that needs it; groups that nobody needs any more go. @locks lock */
static int assign_all(struct topic_coord *c)
{
    int failed = 0;
    const char *name;
    void *value;
    for (size_t i = 0; map_next(c->groups, &i, &name, &value);) {
        struct topic_group *g = value;
        if (!g->dirty) {
            continue;
        }
        if (g->n_members == 0 && g->in_flight == 0) {
            (void)map_del(c->groups, name);
            continue;
        }
        g->dirty = 0;
        if (topic_group_assign(c, g) < 0) {
            g->dirty = 1;
            failed = 1;
        }
    }
    return failed;
}

static struct topic_group_member *wake_due(struct topic_coord *c)
{
    void *value;
    for (size_t i = 0; map_next(c->groups, &i, NULL, &value);) {
        const struct topic_group *g = value;
        for (struct topic_group_member *m = g->members; m != NULL; m = m->next) {
            if (m->wake_due) {
                return m;
            }
        }
    }
    return NULL;
}

/* @locks lock, left while a wake runs */
static void run_wakes(struct topic_coord *c)
{
    struct topic_group_member *m;
    while ((m = wake_due(c)) != NULL) {
        void (*wake)(void *arg) = m->wake;
        m->wake_due = 0;
        if (wake == NULL) {
            continue;
        }
        m->waking = 1; /* the member stays while it is set */
        mutex_unlock(&c->lock);
        wake(m->arg);
        mutex_lock(&c->lock);
        m->waking = 0;
        cond_broadcast(&c->settled);
    }
}

static void *run(void *arg)
{
    struct topic_coord *c = arg;
    mutex_lock(&c->lock);
    while (!c->closing) {
        if (!c->dirty) {
            cond_wait(&c->changed, &c->lock);
            continue;
        }
        c->dirty = 0;
        int failed = assign_all(c);
        run_wakes(c);
        if (failed) {
            LOG_WARN("topic", "no memory for a group's assignment: trying again");
            (void)cond_wait_until(&c->changed, &c->lock, clock_mono_ms() + RETRY_MS);
            c->dirty = 1;
        }
    }
    mutex_unlock(&c->lock);
    return NULL;
}

static void coord_free(struct topic_coord *c)
{
    map_free(c->topics);
    map_free(c->groups);
    topic_offsets_free(c->offsets);
    cond_destroy(&c->settled);
    cond_destroy(&c->changed);
    mutex_destroy(&c->lock);
    free(c);
}

int topic_coord_open(struct topic_engine *engine, int64_t incarnation,
                     struct topic_offsets **offsets, struct topic_coord **ret, struct err *err)
{
    struct topic_coord *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return err_set(err, ERR_NOMEM, "no memory for the coordinator");
    }
    c->engine = engine;
    c->incarnation = incarnation;
    mutex_init(&c->lock);
    cond_init(&c->changed);
    cond_init(&c->settled);
    c->topics = map_new(free);
    c->groups = map_new(topic_group_free);
    int rc = 0;
    if (c->topics == NULL || c->groups == NULL) {
        rc = err_set(err, ERR_NOMEM, "no memory for the coordinator");
    }
    if (rc == 0) {
        rc = thread_start(&c->thread, "topic-groups", run, c, err);
    }
    if (rc < 0) {
        coord_free(c);
        return rc;
    }
    c->offsets = *offsets;
    *offsets = NULL;
    *ret = c;
    return 0;
}

void topic_coord_close(struct topic_coord *c)
{
    if (c == NULL) {
        return;
    }
    mutex_lock(&c->lock);
    c->closing = 1;
    cond_broadcast(&c->changed);
    mutex_unlock(&c->lock);
    thread_join(c->thread);
    coord_free(c);
}

/* ---- topics ---- */

/* @locks lock */
static void mark_all(struct topic_coord *c)
{
    void *value;
    for (size_t i = 0; map_next(c->groups, &i, NULL, &value);) {
        topic_group_mark(c, value);
    }
}

int topic_coord_topic_set(struct topic_coord *c, const char *name, const struct topic_info *info,
                          struct err *err)
{
    struct topic_info *copy = malloc(sizeof(*copy));
    if (copy == NULL) {
        return err_set(err, ERR_NOMEM, "no memory for topic %s", name);
    }
    *copy = *info;
    mutex_lock(&c->lock);
    int rc = map_put(c->topics, name, copy);
    if (rc == 0) {
        mark_all(c);
    }
    mutex_unlock(&c->lock);
    if (rc < 0) {
        free(copy);
        return err_set(err, rc, "no memory for topic %s", name);
    }
    return 0;
}

void topic_coord_topic_gone(struct topic_coord *c, const char *name)
{
    mutex_lock(&c->lock);
    (void)map_del(c->topics, name);
    mark_all(c);
    /* Units from here on count in the other phase, so waiting for this one ends. Deletions come one at a
     * time, so the other phase was left empty by the last one but for what has begun since. */
    int old = c->phase;
    c->phase = !old;
    while (c->in_flight[old] > 0) {
        cond_wait(&c->settled, &c->lock);
    }
    mutex_unlock(&c->lock);
}

int topic_coord_topic_get(struct topic_coord *c, const char *name, struct topic_info *ret,
                          struct err *err)
{
    mutex_lock(&c->lock);
    const struct topic_info *info = map_get(c->topics, name);
    if (info != NULL) {
        *ret = *info;
    }
    mutex_unlock(&c->lock);
    return info != NULL ? 0 : err_set(err, ERR_NOT_FOUND, "there is no topic %s", name);
}

void topic_coord_topic_offsets(struct topic_coord *c, const char *name,
                               void (*each)(void *arg, const char *group, int32_t partition),
                               void *arg)
{
    mutex_lock(&c->lock);
    topic_offsets_of_topic(c->offsets, name, each, arg);
    mutex_unlock(&c->lock);
}

void topic_coord_topic_forget(struct topic_coord *c, const char *name)
{
    mutex_lock(&c->lock);
    topic_offsets_drop_topic(c->offsets, name);
    mutex_unlock(&c->lock);
}

/* ---- units ---- */

/* Whether `generation` may commit this offset. *ret_part: the part to hold, or NULL. @locks lock */
static int check_owner(const struct topic_unit *u, const struct topic_group *g,
                       const struct topic_group_offset *o, struct topic_group_part **ret_part,
                       struct err *err)
{
    struct topic_group_part *p = g != NULL ? topic_group_find(g, o->topic, o->partition) : NULL;
    if (u->generation < 0) {
        *ret_part = p; /* unchecked, but a next owner waits for it all the same */
        return 0;
    }
    if (p == NULL || p->owner == NULL ||
        p->owner->slot != (uint32_t)(u->generation & (TOPIC_GROUP_SLOTS - 1)) ||
        u->generation >> 16 < p->owner_counter) {
        return err_set(err, ERR_FENCED,
                       "group %.200s: partition %s-%d is no longer this member's (generation %lld)",
                       u->group, o->topic, o->partition, (long long)u->generation);
    }
    *ret_part = p;
    return 0;
}

/* @locks lock */
static int begin_locked(struct topic_coord *c, const struct topic_unit *u, struct topic_ticket *t,
                        struct err *err)
{
    struct topic_group *g = map_get(c->groups, u->group);
    for (size_t i = 0; i < u->n_group_offsets; i++) {
        const struct topic_group_offset *o = &u->group_offsets[i];
        struct topic_group_part *p = NULL;
        TRY(check_owner(u, g, o, &p, err));
        const struct topic_info *info = map_get(c->topics, o->topic);
        int gone = info == NULL || (p != NULL && p->topic->gone);
        if (gone && u->generation < 0 && o->offset >= 0) {
            return err_set(err, ERR_NOT_FOUND, "there is no topic %s to keep an offset of",
                           o->topic);
        }
        if (gone) {
            continue;
        }
        if (topic_offsets_reserve(c->offsets, u->group, o->topic, o->partition) < 0) {
            return err_set(err, ERR_NOMEM, "no memory for an offset of group %.200s", u->group);
        }
        t->kept[t->n_kept++] = *o;
        if (p != NULL) {
            t->parts[t->n_parts++] = p;
        }
    }
    for (size_t i = 0; i < t->n_parts; i++) {
        t->parts[i]->in_flight++;
    }
    if (t->n_parts > 0) {
        g->in_flight++;
    }
    t->phase = c->phase;
    c->in_flight[t->phase]++;
    return 0;
}

int topic_coord_begin(struct topic_coord *c, const struct topic_unit *u, struct topic_ticket *ret,
                      struct err *err)
{
    ret->group = u->group;
    ret->n_kept = 0;
    ret->n_parts = 0;
    mutex_lock(&c->lock);
    int rc = begin_locked(c, u, ret, err);
    mutex_unlock(&c->lock);
    return rc;
}

void topic_coord_end(struct topic_coord *c, struct topic_ticket *t, int committed)
{
    mutex_lock(&c->lock);
    for (size_t i = 0; committed && i < t->n_kept; i++) {
        const struct topic_group_offset *o = &t->kept[i];
        /* topic_coord_begin() made room, and a topic's entries go only after its units. */
        BUG_ON(topic_offsets_put(c->offsets, t->group, o->topic, o->partition, o->offset) < 0);
    }
    struct topic_group *g = t->n_parts > 0 ? map_get(c->groups, t->group) : NULL;
    for (size_t i = 0; i < t->n_parts; i++) {
        struct topic_group_part *p = t->parts[i];
        if (--p->in_flight == 0 && p->owner == NULL) {
            topic_group_mark(c, g);
        }
    }
    if (g != NULL && --g->in_flight == 0 && g->n_members == 0) {
        topic_group_mark(c, g);
    }
    if (--c->in_flight[t->phase] == 0) {
        cond_broadcast(&c->settled);
    }
    mutex_unlock(&c->lock);
}

int topic_coord_offset(struct topic_coord *c, const char *group, const char *topic,
                       int32_t partition, int64_t *ret, struct err *err)
{
    mutex_lock(&c->lock);
    int rc = topic_offsets_get(c->offsets, group, topic, partition, ret);
    mutex_unlock(&c->lock);
    if (rc < 0) {
        return err_set(err, rc, "group %.200s has no offset of %s-%d", group, topic, partition);
    }
    return 0;
}
