/* Open hashing over an insertion-ordered entry array (deleted entries stay as holes until a
 * resize). */
#include "base/map.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    char *key; /* NULL: a hole */
    void *value;
    uint64_t hash;
};

struct map {
    struct entry *entries;
    size_t n_entries; /* holes included */
    size_t cap;
    size_t live;
    uint32_t *slots; /* entry index + 1, or 0; n_slots is a power of two */
    size_t n_slots;
    void (*free_value)(void *);
};

/* FNV-1a, 64 bits. */
static uint64_t hash_text(const char *s)
{
    uint64_t h = 14695981039346656037u;
    for (; *s != '\0'; s++) {
        h = (h ^ (unsigned char)*s) * 1099511628211u;
    }
    return h;
}

struct map *map_new(void (*free_value)(void *))
{
    struct map *m = calloc(1, sizeof(*m));
    if (m != NULL) {
        m->free_value = free_value;
    }
    return m;
}

void map_free(struct map *m)
{
    if (m == NULL) {
        return;
    }
    for (size_t i = 0; i < m->n_entries; i++) {
        if (m->entries[i].key != NULL && m->free_value != NULL) {
            m->free_value(m->entries[i].value);
        }
        free(m->entries[i].key);
    }
    free(m->entries);
    free(m->slots);
    free(m);
}

/* The slot that holds `key`, or the empty one where it would go; SIZE_MAX when there are no slots.
 * */
static size_t find_slot(const struct map *m, const char *key, uint64_t hash)
{
    if (m->n_slots == 0) {
        return SIZE_MAX;
    }
    size_t mask = m->n_slots - 1;
    for (size_t s = (size_t)hash & mask;; s = (s + 1) & mask) {
        uint32_t at = m->slots[s];
        if (at == 0) {
            return s;
        }
        const struct entry *e = &m->entries[at - 1];
        if (e->key != NULL && e->hash == hash && strcmp(e->key, key) == 0) {
            return s;
        }
    }
}

void *map_get(const struct map *m, const char *key)
{
    size_t s = find_slot(m, key, hash_text(key));
    if (s == SIZE_MAX || m->slots[s] == 0) {
        return NULL;
    }
    return m->entries[m->slots[s] - 1].value;
}

/* Drops holes and makes room for one more entry. */
static int rebuild(struct map *m)
{
    size_t cap = m->live * 2 + 8;
    size_t n_slots = 16;
    while (n_slots < cap * 2) {
        n_slots *= 2;
    }
    struct entry *entries = calloc(cap, sizeof(*entries));
    uint32_t *slots = calloc(n_slots, sizeof(*slots));
    if (entries == NULL || slots == NULL) {
        free(entries);
        free(slots);
        return ERR_NOMEM;
    }
    size_t n = 0;
    for (size_t i = 0; i < m->n_entries; i++) {
        if (m->entries[i].key == NULL) {
            continue;
        }
        entries[n] = m->entries[i];
        size_t s = (size_t)entries[n].hash & (n_slots - 1);
        while (slots[s] != 0) {
            s = (s + 1) & (n_slots - 1);
        }
        slots[s] = (uint32_t)++n;
    }
    free(m->entries);
    free(m->slots);
    m->entries = entries;
    m->n_entries = n;
    m->cap = cap;
    m->slots = slots;
    m->n_slots = n_slots;
    return 0;
}

int map_put(struct map *m, const char *key, void *value)
{
    uint64_t hash = hash_text(key);
    size_t s = find_slot(m, key, hash);
    if (s != SIZE_MAX && m->slots[s] != 0) {
        struct entry *e = &m->entries[m->slots[s] - 1];
        if (m->free_value != NULL && e->value != value) {
            m->free_value(e->value);
        }
        e->value = value;
        return 0;
    }
    if (m->n_entries == m->cap) {
        TRY(rebuild(m));
        s = find_slot(m, key, hash);
    }
    char *copy = strdup(key);
    if (copy == NULL) {
        return ERR_NOMEM;
    }
    m->entries[m->n_entries] = (struct entry){.key = copy, .value = value, .hash = hash};
    m->slots[s] = (uint32_t)++m->n_entries;
    m->live++;
    return 0;
}

int map_del(struct map *m, const char *key)
{
    size_t s = find_slot(m, key, hash_text(key));
    if (s == SIZE_MAX || m->slots[s] == 0) {
        return 0;
    }
    struct entry *e = &m->entries[m->slots[s] - 1];
    if (m->free_value != NULL) {
        m->free_value(e->value);
    }
    free(e->key);
    e->key = NULL;
    e->value = NULL;
    m->live--;
    return 1;
}

size_t map_count(const struct map *m)
{
    return m->live;
}

int map_next(const struct map *m, size_t *i, const char **ret_key, void **ret_value)
{
    while (*i < m->n_entries) {
        const struct entry *e = &m->entries[(*i)++];
        if (e->key != NULL) {
            if (ret_key != NULL) {
                *ret_key = e->key;
            }
            if (ret_value != NULL) {
                *ret_value = e->value;
            }
            return 1;
        }
    }
    return 0;
}
