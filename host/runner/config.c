/*
 * A connector's (or converter's) options as a plugin reads them: texts, typed by the class's table, with
 * its defaults. Threads: filled by one thread; then only read, but for the cache of split lists, which is
 * why the ABI lets one thread at a time read ([ctl, task]).
 */
#include "runner_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_LIMIT ((size_t)16 << 20)

struct option_text {
    const char *key, *text; /* NUL-terminated, in the arena */
};
struct split_list {
    struct split_list *next;
    const char *key;
    ctd_slice *items;
    uint64_t n;
};
struct ctd_config {
    struct arena *arena;
    const ctd_class *class;
    struct option_text *set; /* `room` entries */
    uint32_t n, room;
    struct split_list *lists;
};

/* ---- making ---- */

static struct ctd_config *config_alloc(const ctd_class *class, uint32_t room)
{
    struct ctd_config *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return NULL;
    }
    c->class = class;
    c->room = room;
    c->arena = arena_new(CONFIG_LIMIT);
    c->set = c->arena != NULL ? arena_zalloc(c->arena, (room + 1) * sizeof(*c->set)) : NULL;
    if (c->set == NULL) {
        runner_config_free(c);
        return NULL;
    }
    return c;
}

static int config_add(struct ctd_config *c, const void *key, size_t key_len, const void *text,
                      size_t text_len)
{
    BUG_ON(c->n >= c->room);
    struct option_text *o = &c->set[c->n];
    o->key = arena_strndup(c->arena, key, key_len);
    o->text = arena_strndup(c->arena, text, text_len);
    if (o->key == NULL || o->text == NULL) {
        return ERR_NOMEM;
    }
    c->n++;
    return 0;
}

static int has_pair(const struct link_pair *pairs, uint32_t n, struct slice key)
{
    for (uint32_t i = 0; i < n; i++) {
        if (slice_eq(pairs[i].key, key)) {
            return 1;
        }
    }
    return 0;
}

/* A null value means that the key is absent. */
static int add_pairs(struct ctd_config *c, const struct link_pair *pairs, uint32_t n,
                     const struct link_pair *unless, uint32_t n_unless)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct link_pair *p = &pairs[i];
        if (p->key.ptr == NULL || p->value.ptr == NULL || has_pair(unless, n_unless, p->key)) {
            continue;
        }
        TRY(config_add(c, p->key.ptr, p->key.len, p->value.ptr, p->value.len));
    }
    return 0;
}

struct ctd_config *runner_config_new(const ctd_class *class, const struct link_pair *base,
                                     uint32_t n_base, const struct link_pair *extra,
                                     uint32_t n_extra)
{
    struct ctd_config *c = config_alloc(class, n_base + n_extra + 4);
    if (c == NULL || add_pairs(c, base, n_base, extra, n_extra) != 0 ||
        add_pairs(c, extra, n_extra, NULL, 0) != 0) {
        runner_config_free(c);
        return NULL;
    }
    return c;
}

struct ctd_config *runner_config_sub(const struct ctd_config *from, const char *prefix,
                                     const ctd_class *class)
{
    struct ctd_config *c = config_alloc(class, from->n + 4);
    size_t n = strlen(prefix);
    for (uint32_t i = 0; c != NULL && i < from->n; i++) {
        const struct option_text *o = &from->set[i];
        if (strncmp(o->key, prefix, n) == 0 && o->key[n] != '\0' &&
            config_add(c, o->key + n, strlen(o->key + n), o->text, strlen(o->text)) != 0) {
            runner_config_free(c);
            return NULL;
        }
    }
    return c;
}

void runner_config_free(struct ctd_config *c)
{
    if (c != NULL) {
        arena_free(c->arena);
        free(c);
    }
}

const char *runner_config_text(const struct ctd_config *c, const char *key)
{
    for (uint32_t i = 0; i < c->n; i++) {
        if (strcmp(c->set[i].key, key) == 0) {
            return c->set[i].text;
        }
    }
    return NULL;
}

int runner_config_default(struct ctd_config *c, const char *key, const char *value)
{
    if (runner_config_text(c, key) != NULL) {
        return 0;
    }
    return config_add(c, key, strlen(key), value, strlen(value));
}

/* ---- typed reading ---- */

static const ctd_config_key *find_key(const ctd_class *class, const char *key)
{
    const ctd_config_key *prefix = NULL;
    for (uint32_t i = 0; i < class->n_config; i++) {
        const ctd_config_key *k = runner_class_key(class, i);
        if ((k->flags & CTD_CFGF_PREFIX) != 0) {
            prefix = prefix == NULL && str_starts_with(key, k->name) ? k : prefix;
        } else if (strcmp(k->name, key) == 0) {
            return k;
        }
    }
    return prefix;
}

/* The value of `key` as text: as set, else the default; NULL when there is neither. *ret_type: of the
 * table, 0 when the key isn't in it. */
static const char *typed_text(const ctd_config *c, const char *key, int32_t *ret_type)
{
    const ctd_config_key *k = find_key(c->class, key);
    *ret_type = k != NULL ? k->type : 0;
    const char *text = runner_config_text(c, key);
    if (text == NULL && k != NULL && (k->flags & CTD_CFGF_PREFIX) == 0) {
        text = k->def;
    }
    return text;
}

/* Whether `text` is a value of that type; numbers and booleans in *ret. */
static int parse_i64(int32_t type, const char *text, int64_t *ret)
{
    int yes = 0;
    switch (type) {
    case CTD_CFG_BOOL:
        TRY(str_to_bool(text, &yes));
        *ret = yes;
        return 0;
    case CTD_CFG_I64:
    case CTD_CFG_DURATION_MS:
    case CTD_CFG_BYTES:
        return str_to_i64(text, ret);
    case 0: /* not in the table: whatever it can be read as */
        if (str_to_bool(text, &yes) == 0) {
            *ret = yes;
            return 0;
        }
        return str_to_i64(text, ret);
    default:
        return ERR_INVAL;
    }
}

static ctd_status cfg_i64(const ctd_host *host, const ctd_config *c, const char *key, int64_t *ret)
{
    (void)host;
    int32_t type;
    const char *text = typed_text(c, key, &type);
    return text != NULL && parse_i64(type, text, ret) == 0 ? CTD_OK : CTD_E_CONFIG;
}

static ctd_status cfg_f64(const ctd_host *host, const ctd_config *c, const char *key, double *ret)
{
    (void)host;
    int32_t type;
    const char *text = typed_text(c, key, &type);
    if (text == NULL || (type != 0 && type != CTD_CFG_F64 && type != CTD_CFG_I64)) {
        return CTD_E_CONFIG;
    }
    return str_to_f64(text, ret) == 0 ? CTD_OK : CTD_E_CONFIG;
}

static ctd_status cfg_str(const ctd_host *host, const ctd_config *c, const char *key,
                          ctd_slice *ret)
{
    (void)host;
    int32_t type;
    const char *text = typed_text(c, key, &type);
    if (text == NULL) {
        return CTD_E_CONFIG;
    }
    *ret = (ctd_slice){text, strlen(text)};
    return CTD_OK;
}

static int is_blank(char ch)
{
    return ch == ' ' || ch == '\t' || ch == '\n' || ch == '\r';
}

/* Splits at commas; blanks around elements and empty elements are dropped. */
static int split(struct arena *a, const char *text, struct split_list *list)
{
    size_t most = 1;
    for (const char *p = text; *p != '\0'; p++) {
        most += *p == ',';
    }
    list->items = arena_zalloc(a, most * sizeof(*list->items));
    if (list->items == NULL) {
        return ERR_NOMEM;
    }
    for (const char *p = text;;) {
        size_t n = strcspn(p, ",");
        const char *from = p;
        const char *to = p + n;
        while (from < to && is_blank(*from)) {
            from++;
        }
        while (to > from && is_blank(to[-1])) {
            to--;
        }
        if (to > from) {
            list->items[list->n++] = (ctd_slice){from, (uint64_t)(to - from)};
        }
        if (p[n] == '\0') {
            return 0;
        }
        p += n + 1;
    }
}

static ctd_status cfg_list(const ctd_host *host, const ctd_config *c, const char *key,
                           const ctd_slice **ret, uint64_t *ret_n)
{
    (void)host;
    int32_t type;
    const char *text = typed_text(c, key, &type);
    if (text == NULL || (type != 0 && type != CTD_CFG_LIST)) {
        return CTD_E_CONFIG;
    }
    ctd_config *own = (ctd_config *)(uintptr_t)c; /* the cache of split lists is ours to change */
    struct split_list *list = own->lists;
    while (list != NULL && strcmp(list->key, key) != 0) {
        list = list->next;
    }
    if (list == NULL) {
        list = arena_zalloc(own->arena, sizeof(*list));
        if (list == NULL || (list->key = arena_strdup(own->arena, key)) == NULL ||
            split(own->arena, text, list) != 0) {
            return CTD_E_NOMEM;
        }
        list->next = own->lists;
        own->lists = list;
    }
    *ret = list->items;
    *ret_n = list->n;
    return CTD_OK;
}

static ctd_status cfg_at(const ctd_host *host, const ctd_config *c, uint64_t i, ctd_slice *ret_key,
                         ctd_slice *ret_value)
{
    (void)host;
    if (i >= c->n) {
        return CTD_E_CONFIG;
    }
    *ret_key = (ctd_slice){c->set[i].key, strlen(c->set[i].key)};
    *ret_value = (ctd_slice){c->set[i].text, strlen(c->set[i].text)};
    return CTD_OK;
}

void runner_config_accessors(ctd_host *host)
{
    host->cfg_i64 = cfg_i64;
    host->cfg_f64 = cfg_f64;
    host->cfg_str = cfg_str;
    host->cfg_list = cfg_list;
    host->cfg_at = cfg_at;
}

/* ---- checking ---- */

struct findings {
    ctd_issues api; /* priv points back here */
    char text[1000];
    size_t len;
    int n;
};

static void add_finding(struct findings *f, const char *key, const char *what)
{
    f->n++;
    int n = snprintf(f->text + f->len, sizeof(f->text) - f->len, "%s%s: %s", f->n > 1 ? "; " : "",
                     key != NULL ? key : "config", what != NULL ? what : "is wrong");
    if (n > 0) {
        f->len += (size_t)n < sizeof(f->text) - f->len ? (size_t)n : sizeof(f->text) - f->len - 1;
    }
}

static void add_issue(ctd_issues *issues, const char *key, const char *message)
{
    add_finding(issues->priv, key, message);
}

static int is_allowed(const ctd_config_key *k, const char *text)
{
    if (k->allowed == NULL) {
        return 1;
    }
    for (const char *const *a = k->allowed; *a != NULL; a++) {
        if (strcmp(*a, text) == 0) {
            return 1;
        }
    }
    return 0;
}

static void check_value(struct findings *f, const ctd_config_key *k, const char *key,
                        const char *text)
{
    char what[256];
    int64_t number = 0;
    double real = 0;
    int numeric =
        k->type == CTD_CFG_I64 || k->type == CTD_CFG_DURATION_MS || k->type == CTD_CFG_BYTES;
    if (k->type == CTD_CFG_BOOL && parse_i64(k->type, text, &number) != 0) {
        add_finding(f, key, "must be true or false");
    } else if (numeric && parse_i64(k->type, text, &number) != 0) {
        add_finding(f, key, "must be a whole number");
    } else if (k->type == CTD_CFG_F64 && str_to_f64(text, &real) != 0) {
        add_finding(f, key, "must be a number");
    } else if (numeric && k->min <= k->max && (number < k->min || number > k->max)) {
        (void)snprintf(what, sizeof(what), "must be between %lld and %lld", (long long)k->min,
                       (long long)k->max);
        add_finding(f, key, what);
    } else if (k->type != CTD_CFG_LIST && !is_allowed(k, text)) {
        add_finding(f, key, "is none of the allowed values");
    }
}

static void check_table(const struct ctd_config *c, struct findings *f)
{
    for (uint32_t i = 0; i < c->class->n_config; i++) {
        const ctd_config_key *k = runner_class_key(c->class, i);
        if ((k->flags & CTD_CFGF_REQUIRED) != 0 && (k->flags & CTD_CFGF_PREFIX) == 0 &&
            k->def == NULL && runner_config_text(c, k->name) == NULL) {
            add_finding(f, k->name, "is required");
        }
    }
    for (uint32_t i = 0; i < c->n; i++) {
        const ctd_config_key *k = find_key(c->class, c->set[i].key);
        if (k != NULL) {
            check_value(f, k, c->set[i].key, c->set[i].text);
        }
    }
}

int runner_config_check(const struct ctd_config *c, const ctd_host *host, struct runner_fail *fail)
{
    struct findings f = {
        .api = {.struct_size = sizeof(ctd_issues), .priv = &f, .add = add_issue},
    };
    check_table(c, &f);
    if (f.n == 0 && CTD_HAS(c->class->ops, validate)) {
        ctd_status status = c->class->ops->validate(host, c, &f.api);
        if (status != CTD_OK && f.n == 0) {
            ctd_error e;
            runner_error_preset(&e);
            return runner_fail_call(fail, LINK_STAGE_VALIDATE, status, &e);
        }
    }
    return f.n == 0 ? 0 : runner_fail_set(fail, LINK_STAGE_VALIDATE, CTD_E_CONFIG, "%s", f.text);
}
