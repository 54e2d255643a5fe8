/*
 * Topics at open: what stands in DATA/log becomes topics; what a crash left behind is removed; what is
 * neither is set aside and said so, never deleted while it holds records.
 *
 * Threads: plog_open() only.
 */
#include "plog/plog_int.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct found { /* one folder TOPIC-P */
    char *topic;
    int32_t number;
};

struct listing {
    struct found *dirs;
    size_t n, cap;
    char **gone; /* names of -delete and -new folders */
    size_t n_gone, cap_gone;
};

static void listing_free(struct listing *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->dirs[i].topic);
    }
    for (size_t i = 0; i < l->n_gone; i++) {
        free(l->gone[i]);
    }
    free(l->dirs);
    free(l->gone);
}

/* "TOPIC-P" in two; 0 if the name is not of that form. */
static int split_name(const char *name, char topic[256], int32_t *ret_number)
{
    const char *dash = strrchr(name, '-');
    int64_t number = 0;
    if (dash == NULL || dash == name || dash - name > 249 ||
        dash[1 + strspn(dash + 1, "0123456789")] != '\0' || str_to_i64(dash + 1, &number) != 0 ||
        number >= 10000 || (dash[1] == '0' && dash[2] != '\0')) {
        return 0;
    }
    memcpy(topic, name, (size_t)(dash - name));
    topic[dash - name] = '\0';
    *ret_number = (int32_t)number;
    return str_is_topic_name(topic);
}

static int add_dir(struct listing *l, const char *topic, int32_t number)
{
    if (l->n == l->cap) {
        size_t cap = l->cap * 2 + 16;
        struct found *dirs = realloc(l->dirs, cap * sizeof(*dirs));
        if (dirs == NULL) {
            return ERR_NOMEM;
        }
        l->dirs = dirs;
        l->cap = cap;
    }
    char *copy = strdup(topic);
    if (copy == NULL) {
        return ERR_NOMEM;
    }
    l->dirs[l->n++] = (struct found){copy, number};
    return 0;
}

static int add_gone(struct listing *l, const char *name)
{
    if (l->n_gone == l->cap_gone) {
        size_t cap = l->cap_gone * 2 + 16;
        char **gone = realloc(l->gone, cap * sizeof(char *));
        if (gone == NULL) {
            return ERR_NOMEM;
        }
        l->gone = gone;
        l->cap_gone = cap;
    }
    char *copy = strdup(name);
    if (copy == NULL) {
        return ERR_NOMEM;
    }
    l->gone[l->n_gone++] = copy;
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const struct found *x = a;
    const struct found *y = b;
    int order = strcmp(x->topic, y->topic);
    return order != 0 ? order : x->number < y->number ? -1 : x->number > y->number;
}

static int list_folders(struct plog *p, struct listing *l, struct err *err)
{
    DIR *d = opendir(p->log_dir);
    if (d == NULL) {
        return err_set_errno(err, ERR_IO, "%s", p->log_dir);
    }
    int rc = 0;
    struct dirent *e;
    while (rc == 0 && (e = readdir(d)) != NULL) {
        char topic[256];
        int32_t number = 0;
        if (str_ends_with(e->d_name, "-delete") || str_ends_with(e->d_name, "-new")) {
            rc = add_gone(l, e->d_name);
        } else if (split_name(e->d_name, topic, &number)) {
            rc = add_dir(l, topic, number);
        } else if (e->d_name[0] != '.' && !str_ends_with(e->d_name, "-stray")) {
            LOG_WARN("plog", "%s/%s is no partition's folder: left alone", p->log_dir, e->d_name);
        }
    }
    (void)closedir(d);
    if (l->n > 0) {
        qsort(l->dirs, l->n, sizeof(*l->dirs), by_place);
    }
    return rc == 0 ? 0 : err_set(err, rc, "out of memory");
}

/* Whether partition 0 of the topic was taken away by a deletion that did not finish. */
static int was_deleted(const struct listing *l, const char *topic)
{
    char prefix[256];
    (void)snprintf(prefix, sizeof(prefix), "%.200s-0.", topic);
    for (size_t i = 0; i < l->n_gone; i++) {
        if (str_starts_with(l->gone[i], prefix) && str_ends_with(l->gone[i], "-delete")) {
            return 1;
        }
    }
    return 0;
}

static int64_t bytes_in(struct plog_partition *t)
{
    int64_t bytes = 0;
    for (size_t i = 0; i < t->n_segs; i++) {
        bytes += t->segs[i]->pub.size;
    }
    return bytes;
}

/* A folder that belongs to no topic: removed if a creation or deletion left it, else set aside. */
static int clear_orphan(struct plog *p, const struct listing *l, struct plog_partition *t,
                        const char *why, struct err *err)
{
    if (bytes_in(t) == 0 || was_deleted(l, t->topic)) {
        LOG_INFO("plog", "%s: %s: removed", t->dir, why);
        return file_remove_tree(t->dir, err);
    }
    uint8_t id[PLOG_ID_BYTES];
    char text[23];
    TRY(plog_uuid_random(id, err));
    plog_uuid_text(id, text);
    char to[PATH_MAX];
    (void)snprintf(to, sizeof(to), "%s/%.200s-%d.%s-stray", p->log_dir, t->topic, (int)t->number,
                   text);
    if (rename(t->dir, to) != 0) {
        return err_set_errno(err, ERR_IO, "%s: rename", t->dir);
    }
    LOG_ERROR("plog", "%s: %s: it holds records, so it is kept as %s", t->dir, why, to);
    return 0;
}

/* Fills slot `number` of the topic: the folder that was found, or a new one where it is missing. */
static int take_partition(struct plog *p, struct plog_topic *t, int32_t number, int present,
                          struct plog_partition **slot, struct err *err)
{
    struct plog_partition *part = plog_partition_new(p, t->name, number, t->id);
    if (part == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    *slot = part;
    if (!present) {
        LOG_ERROR("plog", "%s: the partition's folder is missing; an empty one takes its place",
                  part->dir);
        part->r_touched = 1;
        return plog_partition_make(p, part, err);
    }
    return plog_partition_load_segments(part, err);
}

/* Writes the metadata again where a crash or damage took it. */
static int mend_metadata(struct plog_partition *part, struct err *err)
{
    char id[23];
    char text[64];
    char path[PATH_MAX];
    plog_uuid_text(part->id, id);
    (void)snprintf(text, sizeof(text), "version: 0\ntopic_id: %s\n", id);
    (void)snprintf(path, sizeof(path), "%s/partition.metadata", part->dir);
    LOG_WARN("plog", "%s: missing or unreadable, written again", path);
    return file_replace(path, text, strlen(text), err);
}

/* The topic's id from partition 0; where that is lost, the checkpoint's, or a new one. */
static int topic_id(struct plog *p, const struct plog_checkpoint *c, const char *name,
                    uint8_t id[PLOG_ID_BYTES], struct err *err)
{
    struct plog_partition probe = {.log = p};
    char dir[PATH_MAX];
    (void)snprintf(dir, sizeof(dir), "%s/%s-0", p->log_dir, name);
    probe.dir = dir;
    if (plog_partition_metadata_read(&probe, id, NULL) == 0) {
        return 0;
    }
    for (size_t i = 0; i < c->n; i++) {
        if (str_eq(c->entries[i].topic, name)) {
            memcpy(id, c->entries[i].id, PLOG_ID_BYTES);
            return 0;
        }
    }
    return plog_uuid_random(id, err);
}

/* One topic from dirs[0..n), of which the first is partition 0. */
static int load_topic(struct plog *p, const struct plog_checkpoint *c, const struct listing *l,
                      const struct found *dirs, size_t n, struct err *err)
{
    struct plog_topic *t = calloc(1, sizeof(*t));
    int rc = t == NULL ? err_set(err, ERR_NOMEM, "out of memory") : 0;
    if (rc == 0) {
        t->name = strdup(dirs[0].topic);
        t->config = map_new(free);
        t->parts = calloc((size_t)dirs[n - 1].number + 1, sizeof(struct plog_partition *));
        rc = t->name == NULL || t->config == NULL || t->parts == NULL
                 ? err_set(err, ERR_NOMEM, "out of memory")
                 : topic_id(p, c, dirs[0].topic, t->id, err);
    }
    for (size_t i = 0; i < n && rc == 0; i++) {
        uint8_t id[PLOG_ID_BYTES];
        struct plog_partition *part = NULL;
        while (rc == 0 && t->n < dirs[i].number) {
            rc = take_partition(p, t, t->n, 0, &t->parts[t->n], err);
            t->n += t->parts[t->n] != NULL;
        }
        if (rc == 0) {
            rc = take_partition(p, t, dirs[i].number, 1, &part, err);
        }
        int known = rc == 0 && plog_partition_metadata_read(part, id, NULL) == 0;
        if (known && memcmp(id, t->id, PLOG_ID_BYTES) != 0) {
            rc = clear_orphan(p, l, part, "has another topic's id", err);
            plog_partition_unref(part);
            continue;
        }
        if (rc == 0 && !known) {
            rc = mend_metadata(part, err);
        }
        if (part != NULL) {
            t->parts[t->n++] = part;
        }
    }
    if (rc == 0) {
        rc = plog_config_read(t->parts[0]->dir, t->config, err);
        if (rc == ERR_CORRUPT) {
            LOG_ERROR("plog", "%s: the topic goes on with default configs", err->msg);
            rc = 0;
        }
    }
    if (rc == 0) {
        plog_config_apply(t);
        rc = map_put(p->topics, t->name, t) == 0 ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    }
    if (rc < 0) {
        plog_topic_free(t);
    }
    return rc;
}

static int clear_headless(struct plog *p, const struct listing *l, const struct found *dirs,
                          size_t n, struct err *err)
{
    static const uint8_t no_id[PLOG_ID_BYTES];
    for (size_t i = 0; i < n; i++) {
        struct plog_partition *part = plog_partition_new(p, dirs[i].topic, dirs[i].number, no_id);
        int rc = part == NULL ? err_set(err, ERR_NOMEM, "out of memory")
                              : plog_partition_load_segments(part, err);
        if (rc == 0) {
            rc = clear_orphan(p, l, part, "its topic has no partition 0", err);
        }
        plog_partition_unref(part);
        TRY(rc);
    }
    return 0;
}

static int remove_gone(struct plog *p, const struct listing *l, struct err *err)
{
    for (size_t i = 0; i < l->n_gone; i++) {
        char path[PATH_MAX];
        (void)snprintf(path, sizeof(path), "%s/%s", p->log_dir, l->gone[i]);
        TRY(file_remove_tree(path, err));
    }
    return 0;
}

int plog_topics_load(struct plog *p, const struct plog_checkpoint *c, struct err *err)
{
    struct listing l = {0};
    int rc = list_folders(p, &l, err);
    for (size_t i = 0; i < l.n && rc == 0;) {
        size_t n = 1;
        while (i + n < l.n && strcmp(l.dirs[i].topic, l.dirs[i + n].topic) == 0) {
            n++;
        }
        rc = l.dirs[i].number == 0 ? load_topic(p, c, &l, &l.dirs[i], n, err)
                                   : clear_headless(p, &l, &l.dirs[i], n, err);
        i += n;
    }
    if (rc == 0) {
        rc = file_sync_dir(p->log_dir, err);
    }
    /* Last, since they tell what a deletion left behind. */
    if (rc == 0) {
        rc = remove_gone(p, &l, err);
    }
    listing_free(&l);
    return rc;
}
