/*
 * Topics: made, grown, configured and deleted so that a crash at any point leaves a topic that exists
 * whole or not at all. A topic exists if and only if its partition 0's folder stands under its name:
 * creation makes that folder last (complete, by rename), deletion takes it away first (by rename to
 * "NAME-0.UUID-delete").
 *
 * Threads: every change holds admin_mu; the map changes under topics_mu.
 */
#include "plog/plog_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- ids: 16 random bytes, as 22 characters of unpadded URL-safe base64 like Kafka's ---- */

static const char b64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void plog_uuid_text(const uint8_t id[PLOG_ID_BYTES], char out[23])
{
    size_t o = 0;
    for (size_t i = 0; i < PLOG_ID_BYTES; i += 3) {
        uint32_t v = (uint32_t)id[i] << 16;
        v |= i + 1 < PLOG_ID_BYTES ? (uint32_t)id[i + 1] << 8 : 0;
        v |= i + 2 < PLOG_ID_BYTES ? id[i + 2] : 0;
        for (int shift = 18; shift >= 0 && o < 22; shift -= 6) {
            out[o++] = b64[v >> shift & 63];
        }
    }
    out[22] = '\0';
}

int plog_uuid_parse(const char *text, uint8_t id[PLOG_ID_BYTES])
{
    if (strlen(text) != 22) {
        return ERR_INVAL;
    }
    uint32_t acc = 0;
    int bits = 0;
    size_t n = 0;
    for (const char *c = text; *c != '\0'; c++) {
        const char *at = strchr(b64, *c);
        if (at == NULL) {
            return ERR_INVAL;
        }
        acc = acc << 6 | (uint32_t)(at - b64);
        bits += 6;
        if (bits >= 8 && n < PLOG_ID_BYTES) {
            bits -= 8;
            id[n++] = (uint8_t)(acc >> bits);
        }
    }
    return 0;
}

int plog_uuid_random(uint8_t id[PLOG_ID_BYTES], struct err *err)
{
    ssize_t n;
    do {
        n = getrandom(id, PLOG_ID_BYTES, 0);
    } while (n < 0 && errno == EINTR);
    if (n != PLOG_ID_BYTES) {
        return err_set_errno(err, ERR_IO, "getrandom");
    }
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x40); /* RFC 4122, version 4 */
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    return 0;
}

/* ---- objects ---- */

void plog_topic_free(void *topic)
{
    struct plog_topic *t = topic;
    if (t == NULL) {
        return;
    }
    for (int32_t i = 0; i < t->n; i++) {
        plog_partition_unref(t->parts[i]);
    }
    free(t->parts);
    map_free(t->config);
    free(t->name);
    free(t);
}

static struct plog_topic *topic_new(const char *name, const uint8_t id[PLOG_ID_BYTES])
{
    struct plog_topic *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return NULL;
    }
    memcpy(t->id, id, PLOG_ID_BYTES);
    t->name = strdup(name);
    t->config = map_new(free);
    if (t->name == NULL || t->config == NULL) {
        plog_topic_free(t);
        return NULL;
    }
    return t;
}

static struct plog_topic *find_topic(struct plog *p, const char *name)
{
    mutex_lock(&p->topics_mu);
    struct plog_topic *t = map_get(p->topics, name);
    mutex_unlock(&p->topics_mu);
    return t;
}

static int no_topic(const char *name, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "topic %.249s does not exist", name);
}

static int set_config(struct plog_topic *t, const struct plog_config_entry *config, size_t n,
                      struct err *err)
{
    struct map *m = map_new(free);
    for (size_t i = 0; m != NULL && i < n; i++) {
        char *value = strdup(config[i].value);
        if (value == NULL || map_put(m, config[i].key, value) != 0) {
            free(value);
            map_free(m);
            m = NULL;
        }
    }
    if (m == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    map_free(t->config);
    t->config = m;
    plog_config_apply(t);
    return 0;
}

/* ---- folders ---- */

/* "NAME-P.UUID-WHAT" in the log folder; long names are cut so that it stays a legal file name. */
static void aside_path(const struct plog *p, const char *topic, int32_t number, const char *what,
                       char out[PATH_MAX])
{
    uint8_t id[PLOG_ID_BYTES] = {0};
    char text[23];
    (void)!plog_uuid_random(id, NULL); /* only has to differ from its like */
    plog_uuid_text(id, text);
    (void)snprintf(out, PATH_MAX, "%s/%.200s-%d.%s-%s", p->log_dir, topic, (int)number, text, what);
}

/* Makes one partition's folder complete under a passing name, then gives it its own. */
static int make_folder(struct plog *p, struct plog_partition *t,
                       const struct plog_config_entry *config, size_t n_config, struct err *err)
{
    char temp[PATH_MAX];
    aside_path(p, t->topic, t->number, "new", temp);
    char *final = t->dir;
    t->dir = temp;
    int rc = plog_partition_make(p, t, err);
    if (rc == 0 && t->number == 0) {
        rc = plog_config_write(p, temp, config, n_config, err);
    }
    t->dir = final;
    if (rc == 0 && rename(temp, final) != 0) {
        rc = err_set_errno(err, ERR_IO, "%s: rename", final);
    }
    if (rc < 0) {
        (void)!file_remove_tree(temp, NULL);
    }
    return rc;
}

/* Renames the partition's folder out of the way; ret_path is where it went. */
static int set_aside(struct plog *p, const char *topic, int32_t number, const char *what,
                     char ret_path[PATH_MAX], struct err *err)
{
    char from[PATH_MAX];
    (void)snprintf(from, sizeof(from), "%s/%s-%d", p->log_dir, topic, (int)number);
    aside_path(p, topic, number, what, ret_path);
    if (rename(from, ret_path) != 0 && errno != ENOENT) {
        return err_set_errno(err, ERR_IO, "%s: rename", from);
    }
    return 0;
}

/* Takes the folders of a topic away, partition 0 first and durably before any other. */
static int remove_folders(struct plog *p, const char *name, int32_t n, struct err *err)
{
    char(*paths)[PATH_MAX] = calloc((size_t)n, sizeof(*paths));
    if (paths == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    int rc = 0;
    for (int32_t i = 0; i < n && rc == 0; i++) {
        rc = set_aside(p, name, i, "delete", paths[i], err);
        if (rc == 0 && (i == 0 || i == n - 1)) {
            rc = plog_io_sync_dir(p, p->log_dir, err);
        }
    }
    /* What stays behind from here on is removed at the next start. */
    for (int32_t i = n; i > 0 && rc == 0; i--) {
        rc = file_remove_tree(paths[i - 1], err);
    }
    free(paths);
    return rc;
}

/* ---- create, grow ---- */

struct known_args {
    struct plog_partition **parts;
    size_t n;
};

static int run_known(struct plog *p, void *arg, struct err *err)
{
    struct known_args *k = arg;
    return plog_commit_known(p, k->parts, k->n, err);
}

/* Partitions [from, to) of `t`, made from the highest down, so that 0 comes last. */
static int make_partitions(struct plog *p, struct plog_topic *t, int32_t from, int32_t to,
                           struct plog_partition **parts, const struct plog_config_entry *config,
                           size_t n_config, struct err *err)
{
    for (int32_t i = to - 1; i >= from; i--) {
        parts[i] = plog_partition_new(p, t->name, i, t->id);
        if (parts[i] == NULL) {
            return err_set(err, ERR_NOMEM, "out of memory");
        }
        if (i == 0 && to > 1) {
            TRY(plog_io_sync_dir(p, p->log_dir, err));
        }
        TRY(make_folder(p, parts[i], config, n_config, err));
    }
    TRY(plog_io_sync_dir(p, p->log_dir, err));
    struct known_args k = {parts + from, (size_t)(to - from)};
    return plog_control_run(p, run_known, &k, err);
}

static int check_new(struct plog *p, const char *name, int32_t partitions, struct err *err)
{
    if (!str_is_topic_name(name)) {
        return err_set(err, ERR_INVAL,
                       "'%.249s' is not a topic name: 1 to 249 of letters, digits, '.', '_', '-'",
                       name);
    }
    if (partitions < 1 || partitions > 10000) {
        return err_set(err, ERR_INVAL, "topic %s: %d partitions; 1 to 10000 are possible", name,
                       (int)partitions);
    }
    if (find_topic(p, name) != NULL) {
        return err_set(err, ERR_EXISTS, "topic %s exists already", name);
    }
    return 0;
}

static int create_locked(struct plog *p, const char *name, int32_t partitions,
                         const struct plog_config_entry *config, size_t n_config, struct err *err)
{
    TRY(check_new(p, name, partitions, err));
    TRY(plog_config_check(config, n_config, err));
    uint8_t id[PLOG_ID_BYTES];
    TRY(plog_uuid_random(id, err));
    struct plog_topic *t = topic_new(name, id);
    if (t == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    t->n = partitions;
    t->parts = calloc((size_t)partitions, sizeof(struct plog_partition *));
    int rc = t->parts == NULL ? err_set(err, ERR_NOMEM, "out of memory") : 0;
    int made = rc == 0;
    if (rc == 0) {
        rc = make_partitions(p, t, 0, partitions, t->parts, config, n_config, err);
    }
    if (rc == 0) {
        rc = set_config(t, config, n_config, err);
    }
    if (rc == 0) {
        mutex_lock(&p->topics_mu);
        rc = map_put(p->topics, name, t);
        mutex_unlock(&p->topics_mu);
        rc = rc == 0 ? 0 : err_set(err, rc, "out of memory");
    }
    if (rc < 0) {
        if (made) {
            (void)remove_folders(p, name, partitions, NULL);
        } else {
            t->n = 0;
        }
        plog_topic_free(t);
    }
    return rc;
}

int plog_topic_create(struct plog *p, const char *name, int32_t partitions,
                      const struct plog_config_entry *config, size_t n_config, struct err *err)
{
    mutex_lock(&p->admin_mu);
    int rc = create_locked(p, name, partitions, config, n_config, err);
    mutex_unlock(&p->admin_mu);
    return rc;
}

static int grow_locked(struct plog *p, const char *name, int32_t partitions, struct err *err)
{
    struct plog_topic *t = find_topic(p, name);
    if (t == NULL) {
        return no_topic(name, err);
    }
    if (partitions < t->n || partitions > 10000) {
        return err_set(err, ERR_INVAL,
                       "topic %s has %d partitions; it can grow to at most 10000, not become %d",
                       name, (int)t->n, (int)partitions);
    }
    if (partitions == t->n) {
        return 0;
    }
    struct plog_partition **parts = calloc((size_t)partitions, sizeof(*parts));
    if (parts == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    int32_t old = t->n;
    int rc = make_partitions(p, t, old, partitions, parts, NULL, 0, err);
    if (rc < 0) {
        for (int32_t i = partitions - 1; i >= old; i--) {
            if (parts[i] != NULL) {
                (void)!file_remove_tree(parts[i]->dir, NULL);
                plog_partition_unref(parts[i]);
            }
        }
        free(parts);
        return rc;
    }
    mutex_lock(&p->topics_mu);
    memcpy(parts, t->parts, (size_t)old * sizeof(*parts));
    free(t->parts);
    t->parts = parts;
    t->n = partitions;
    mutex_unlock(&p->topics_mu);
    plog_config_apply(t);
    return 0;
}

int plog_topic_grow(struct plog *p, const char *name, int32_t partitions, struct err *err)
{
    mutex_lock(&p->admin_mu);
    int rc = grow_locked(p, name, partitions, err);
    mutex_unlock(&p->admin_mu);
    return rc;
}

int plog_topic_configure(struct plog *p, const char *name, const struct plog_config_entry *config,
                         size_t n_config, struct err *err)
{
    TRY(plog_config_check(config, n_config, err));
    mutex_lock(&p->admin_mu);
    struct plog_topic *t = find_topic(p, name);
    int rc = t == NULL ? no_topic(name, err)
                       : plog_config_write(p, t->parts[0]->dir, config, n_config, err);
    if (rc == 0) {
        rc = set_config(t, config, n_config, err);
    }
    mutex_unlock(&p->admin_mu);
    return rc;
}

/* ---- delete ---- */

struct gone_args {
    struct plog_topic *topic;
    int deleted;
};

/* On the committer, so that no group is under way: units that come later find the mark. */
static int run_gone(struct plog *p, void *arg, struct err *err)
{
    (void)p;
    (void)err;
    struct gone_args *g = arg;
    for (int32_t i = 0; i < g->topic->n; i++) {
        struct plog_partition *t = g->topic->parts[i];
        mutex_lock(&t->mu);
        t->deleted = g->deleted;
        mutex_unlock(&t->mu);
        plog_partition_wake(t);
    }
    return 0;
}

static int delete_locked(struct plog *p, const char *name, struct err *err)
{
    struct gone_args g = {find_topic(p, name), 1};
    if (g.topic == NULL) {
        return no_topic(name, err);
    }
    TRY(plog_control_run(p, run_gone, &g, err));
    char path[PATH_MAX];
    int rc = set_aside(p, name, 0, "delete", path, err);
    if (rc < 0) { /* it still exists */
        g.deleted = 0;
        (void)!plog_control_run(p, run_gone, &g, NULL);
        return rc;
    }
    mutex_lock(&p->topics_mu);
    (void)map_del(p->topics, name);
    mutex_unlock(&p->topics_mu);
    rc = plog_io_sync_dir(p, p->log_dir, err);
    if (rc == 0) {
        rc = remove_folders(p, name, g.topic->n, err);
    }
    (void)!file_remove_tree(path, NULL);
    plog_topic_free(g.topic);
    return rc;
}

int plog_topic_delete(struct plog *p, const char *name, struct err *err)
{
    mutex_lock(&p->admin_mu);
    int rc = delete_locked(p, name, err);
    mutex_unlock(&p->admin_mu);
    return rc;
}

/* ---- asking ---- */

int plog_topic_info(struct plog *p, const char *name, struct plog_topic_info *ret, struct err *err)
{
    mutex_lock(&p->topics_mu);
    struct plog_topic *t = map_get(p->topics, name);
    if (t != NULL) {
        memcpy(ret->id, t->id, PLOG_ID_BYTES);
        ret->partitions = t->n;
        ret->max_batch_bytes = atomic_load(&t->parts[0]->limits.max_message_bytes);
    }
    mutex_unlock(&p->topics_mu);
    return t != NULL ? 0 : no_topic(name, err);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void plog_topic_list(struct plog *p, void (*each)(void *arg, const char *name), void *arg)
{
    mutex_lock(&p->topics_mu);
    size_t n = 0;
    char **names = calloc(map_count(p->topics) + 1, sizeof(char *));
    const char *name = NULL;
    for (size_t i = 0; names != NULL && map_next(p->topics, &i, &name, NULL);) {
        names[n] = strdup(name);
        n += names[n] != NULL;
    }
    mutex_unlock(&p->topics_mu);
    if (n > 0) {
        qsort(names, n, sizeof(char *), by_text);
    }
    for (size_t i = 0; i < n; i++) {
        each(arg, names[i]);
        free(names[i]);
    }
    free(names);
}

int plog_topic_config(struct plog *p, const char *name,
                      void (*each)(void *arg, const char *key, const char *value), void *arg,
                      struct err *err)
{
    mutex_lock(&p->admin_mu);
    struct plog_topic *t = find_topic(p, name);
    const char *key = NULL;
    void *value = NULL;
    for (size_t i = 0; t != NULL && map_next(t->config, &i, &key, &value);) {
        each(arg, key, value);
    }
    mutex_unlock(&p->admin_mu);
    return t != NULL ? 0 : no_topic(name, err);
}

int plog_partition_get(struct plog *p, const char *topic, int32_t partition,
                       struct plog_partition **ret, struct err *err)
{
    mutex_lock(&p->topics_mu);
    struct plog_topic *t = map_get(p->topics, topic);
    struct plog_partition *part = NULL;
    if (t != NULL && partition >= 0 && partition < t->n) {
        part = plog_partition_ref(t->parts[partition]);
    }
    mutex_unlock(&p->topics_mu);
    if (part == NULL) {
        return t == NULL ? no_topic(topic, err)
                         : err_set(err, ERR_NOT_FOUND, "topic %s has no partition %d", topic,
                                   (int)partition);
    }
    *ret = part;
    return 0;
}
