/*
 * YAML to flat entries, over libyaml's events.
 *
 * Two passes: events become a tree of nodes (in an arena, with their places), which is then walked
 * into entries. An alias points to the node of its anchor, so each expansion is a visit of the
 * walk, and the walk counts them.
 *
 * Invariants: the tree is at most MAX_DEPTH deep, counted before libyaml sees more; a walk ends at
 * the first limit that it meets; libyaml's recursion-free event parser is all of it that runs.
 */
#include "codec/codec.h"

#include <string.h>
#include <yaml.h>

#include "base/arena.h"
#include "codec/entries.h"

enum { MAX_DEPTH = 64, MAX_EXPANSIONS = 100 };
#define MAX_EXPANDED_BYTES ((size_t)1 << 20)

enum node_kind { NODE_SCALAR, NODE_SEQUENCE, NODE_MAP, NODE_ALIAS };

struct node {
    enum node_kind kind;
    struct codec_place at;
    const char *text; /* scalar */
    size_t len;
    int plain;                 /* scalar without quotes or a tag: may be null or a merge key */
    int is_null;               /* by its tag */
    int open;                  /* its end has not been seen yet */
    struct node *target;       /* alias */
    struct node *first, *last; /* children; of a map: key, value, key, value */
    struct node *next;
};

struct loader {
    struct codec_entries *entries;
    struct arena *arena;
    const char *text;
    size_t n;
    struct map *anchors;
    struct node *stack[MAX_DEPTH];
    size_t depth;
    struct node *root;
    int failed; /* stop: a finding says why */
};

static struct codec_place place(const yaml_mark_t *m)
{
    return (struct codec_place){(int)m->line + 1, (int)m->column + 1};
}

/* ---- what libyaml says, in words that help ---- */

static const struct {
    const char *problem; /* how libyaml's begins */
    const char *text;
} remedies[] = {
    {"mapping values are not allowed",
     "a ':' where no key may stand: put a value that holds ': ' in quotes, or mend the indent"},
    {"could not find expected ':'", "expected 'key: value': a ':' and a blank are missing"},
    {"did not find expected key",
     "expected a key at this indent: mend the indent or a missing quote above"},
    {"did not find expected '-' indicator",
     "expected another '- ' element: mend the indent of this line"},
    {"did not find expected ',' or ']'", "a list in brackets goes on: a ',' or ']' is missing"},
    {"did not find expected ',' or '}'", "a map in braces goes on: a ',' or '}' is missing"},
    {"found unexpected end of stream", "the text ends inside quotes: close them"},
    {"found unexpected document indicator", "'---' or '...' inside quotes: close them before"},
    {"found unknown escape character",
     "unknown escape: write \\\\ for a backslash, or use single quotes"},
    {"block sequence entries are not allowed",
     "a '- ' element where none may stand: put it on a line of its own, indented below its key"},
    {"block mapping keys are not allowed",
     "a key where none may stand: put it on a line of its own"},
    {"found a tab character", "a tab can't indent YAML: use spaces"},
    {"control characters are not allowed",
     "a control character: remove it, or write it as an escape in quotes"},
};

static void explain(struct loader *l, const yaml_parser_t *p)
{
    const char *problem = p->problem != NULL ? p->problem : "unknown problem";
    struct codec_place at = place(&p->problem_mark);
    size_t byte = p->problem_offset;
    if (p->error != YAML_READER_ERROR) {
        byte = l->n; /* found by its line and column below */
        for (size_t i = 0, line = 0; i < l->n; i++) {
            if (line == p->problem_mark.line) {
                size_t column = p->problem_mark.column;
                for (; column > 0 && i < l->n; column--) {
                    i++;
                    while (i < l->n && ((unsigned char)l->text[i] & 0xC0) == 0x80) {
                        i++;
                    }
                }
                byte = i;
                break;
            }
            line += l->text[i] == '\n';
        }
    } else {
        at = codec_place_of(l->text, l->n, byte);
    }
    char c = byte < l->n ? l->text[byte] : '\0';
    if (strncmp(problem, "found character that cannot start any token", 43) == 0) {
        if (c == '\t') {
            codec_finding_add(l->entries, at, "", "a tab can't indent YAML: use spaces");
        } else {
            codec_finding_add(l->entries, at, "", "a value can't begin with '%c': put it in quotes",
                              c);
        }
        return;
    }
    for (size_t i = 0; i < sizeof(remedies) / sizeof(remedies[0]); i++) {
        if (strncmp(problem, remedies[i].problem, strlen(remedies[i].problem)) != 0) {
            continue;
        }
        if (p->context != NULL && p->context_mark.line != p->problem_mark.line) {
            codec_finding_add(l->entries, at, "", "%s (what it belongs to begins in line %zu)",
                              remedies[i].text, p->context_mark.line + 1);
        } else {
            codec_finding_add(l->entries, at, "", "%s", remedies[i].text);
        }
        return;
    }
    codec_finding_add(l->entries, at, "", "not YAML: %s", problem);
}

/* ---- first pass: events to nodes ---- */

static void no_memory(struct loader *l)
{
    l->entries->error = ERR_NOMEM;
    l->failed = 1;
}

static struct node *add_node(struct loader *l, enum node_kind kind, struct codec_place at)
{
    struct node *node = arena_zalloc(l->arena, sizeof(*node));
    if (node == NULL) {
        no_memory(l);
        return NULL;
    }
    node->kind = kind;
    node->at = at;
    struct node *parent = l->depth > 0 ? l->stack[l->depth - 1] : NULL;
    if (parent == NULL) {
        l->root = node;
    } else if (parent->last == NULL) {
        parent->first = node;
    } else {
        parent->last->next = node;
    }
    if (parent != NULL) {
        parent->last = node;
    }
    return node;
}

static void set_anchor(struct loader *l, struct node *node, const yaml_char_t *anchor)
{
    if (anchor != NULL && map_put(l->anchors, (const char *)anchor, node) != 0) {
        no_memory(l);
    }
}

/* Tags of YAML's own simple types change nothing but null; others would ask for a type that
 * isn't there. */
static void check_tag(struct loader *l, struct node *node, const yaml_char_t *yaml_tag)
{
    static const char *const known[] = {"str", "int", "float", "bool", "null", "map", "seq"};
    const char prefix[] = "tag:yaml.org,2002:";
    const char *tag = (const char *)yaml_tag;
    if (tag == NULL) {
        return;
    }
    node->plain = 0;
    if (strcmp(tag, "!") == 0) {
        return;
    }
    if (strncmp(tag, prefix, sizeof(prefix) - 1) == 0) {
        const char *name = tag + sizeof(prefix) - 1;
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
            if (strcmp(name, known[i]) == 0) {
                node->is_null = strcmp(name, "null") == 0;
                return;
            }
        }
    }
    codec_finding_add(l->entries, node->at, "", "the tag '%s' is unknown here: remove it", tag);
}

static void on_scalar(struct loader *l, const yaml_event_t *event)
{
    struct node *node = add_node(l, NODE_SCALAR, place(&event->start_mark));
    if (node == NULL) {
        return;
    }
    node->len = event->data.scalar.length;
    node->text = arena_strndup(l->arena, (const char *)event->data.scalar.value, node->len);
    node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (node->text == NULL) {
        no_memory(l);
        return;
    }
    if (memchr(node->text, '\0', node->len) != NULL) {
        codec_finding_add(l->entries, node->at, "", "a NUL character in a text: remove the \\0");
    }
    check_tag(l, node, event->data.scalar.tag);
    set_anchor(l, node, event->data.scalar.anchor);
}

static void on_start(struct loader *l, enum node_kind kind, const yaml_event_t *event,
                     const yaml_char_t *anchor, const yaml_char_t *tag)
{
    struct codec_place at = place(&event->start_mark);
    if (l->depth == MAX_DEPTH) {
        codec_finding_add(l->entries, at, "", "nested deeper than %d: make it flatter", MAX_DEPTH);
        l->failed = 1;
        return;
    }
    struct node *node = add_node(l, kind, at);
    if (node == NULL) {
        return;
    }
    node->open = 1;
    check_tag(l, node, tag);
    set_anchor(l, node, anchor);
    l->stack[l->depth++] = node;
}

static void on_alias(struct loader *l, const yaml_event_t *event)
{
    const char *name = (const char *)event->data.alias.anchor;
    struct codec_place at = place(&event->start_mark);
    struct node *target = map_get(l->anchors, name);
    if (target == NULL) {
        codec_finding_add(l->entries, at, "",
                          "'*%s' names no anchor above: write '&%s' before a value", name, name);
    } else if (target->open) {
        codec_finding_add(l->entries, at, "", "'*%s' stands inside of what it names", name);
        target = NULL;
    }
    struct node *node = add_node(l, NODE_ALIAS, at);
    if (node != NULL) {
        node->target = target;
    }
}

/* Returns 0 when the stream is over, or nothing more is to be read. */
static int on_event(struct loader *l, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (l->root == NULL) {
            return 1;
        }
        codec_finding_add(l->entries, place(&event->start_mark), "",
                          "a second document: keep one per file (remove this '---')");
        return 0;
    case YAML_SCALAR_EVENT:
        on_scalar(l, event);
        break;
    case YAML_SEQUENCE_START_EVENT:
        on_start(l, NODE_SEQUENCE, event, event->data.sequence_start.anchor,
                 event->data.sequence_start.tag);
        break;
    case YAML_MAPPING_START_EVENT:
        on_start(l, NODE_MAP, event, event->data.mapping_start.anchor,
                 event->data.mapping_start.tag);
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        l->stack[--l->depth]->open = 0;
        break;
    case YAML_ALIAS_EVENT:
        on_alias(l, event);
        break;
    case YAML_STREAM_END_EVENT:
        return 0;
    default:
        break;
    }
    return !l->failed;
}

static void load(struct loader *l)
{
    yaml_parser_t parser;
    if (yaml_parser_initialize(&parser) == 0) {
        no_memory(l);
        return;
    }
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)(l->n > 0 ? l->text : ""), l->n);
    for (int more = 1; more;) {
        yaml_event_t event;
        if (yaml_parser_parse(&parser, &event) == 0) {
            if (parser.error == YAML_MEMORY_ERROR) {
                no_memory(l);
            } else {
                explain(l, &parser);
            }
            l->failed = 1;
            break;
        }
        more = on_event(l, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    /* What is still open has its children so far; walking those would only add findings. */
    l->entries->out->unparsable |= l->failed;
}

/* ---- second pass: nodes to entries ---- */

struct walker {
    struct codec_entries *entries;
    struct arena *arena;
    const char *parts[MAX_DEPTH];
    size_t n_parts;
    int in_alias; /* how many aliases this place is inside of */
    int expansions;
    size_t expanded_bytes;
    size_t depth;
    int stopped; /* a limit was met */
};

static const char *path(struct walker *w)
{
    const char *text = "";
    for (size_t i = 0; i < w->n_parts; i++) {
        text = i == 0 ? w->parts[0] : arena_printf(w->arena, "%s.%s", text, w->parts[i]);
        if (text == NULL) {
            w->entries->error = ERR_NOMEM;
            return "";
        }
    }
    return text;
}

static int is_null(const struct node *node)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    for (size_t i = 0; node->plain && i < sizeof(nulls) / sizeof(nulls[0]); i++) {
        if (strcmp(node->text, nulls[i]) == 0) {
            return 1;
        }
    }
    return node->is_null;
}

/* Counts text that is there through an alias. */
static void expand(struct walker *w, size_t bytes, struct codec_place at)
{
    w->expanded_bytes += w->in_alias > 0 ? bytes : 0;
    if (w->expanded_bytes > MAX_EXPANDED_BYTES && !w->stopped) {
        codec_finding_add(w->entries, at, path(w),
                          "aliases expand to more than 1 MiB: write less of it");
        w->stopped = 1;
    }
}

/* Follows aliases, counting. NULL when there is nothing to follow. Each step in sets in_alias;
 * the caller restores it. */
static const struct node *resolve(struct walker *w, const struct node *node)
{
    if (node->kind != NODE_ALIAS) {
        return node;
    }
    w->in_alias++;
    if (++w->expansions > MAX_EXPANSIONS && !w->stopped) {
        codec_finding_add(w->entries, node->at, path(w),
                          "more than %d expansions of aliases: use fewer", MAX_EXPANSIONS);
        w->stopped = 1;
    }
    return w->stopped ? NULL : node->target;
}

/* The elements joined with commas, in the arena; NULL after a finding. */
static const char *join_sequence(struct walker *w, const struct node *sequence)
{
    struct buf text = BUF_INIT(0);
    const char *joined = NULL;
    int ok = 1;
    for (const struct node *item = sequence->first; item != NULL && !w->stopped;
         item = item->next) {
        int in_alias = w->in_alias;
        const struct node *value = resolve(w, item);
        if (value != NULL && (value->kind != NODE_SCALAR || is_null(value))) {
            codec_finding_add(w->entries, item->at, path(w),
                              "a list holds single values only, which are joined with commas: this "
                              "element is %s",
                              value->kind == NODE_SCALAR     ? "empty"
                              : value->kind == NODE_SEQUENCE ? "a list"
                                                             : "a map");
            ok = 0;
        } else if (value != NULL) {
            expand(w, value->len, item->at);
            buf_append_str(&text, item != sequence->first ? "," : "");
            buf_append(&text, value->text, value->len);
        } else {
            ok = 0;
        }
        w->in_alias = in_alias;
    }
    if (ok && !w->stopped) {
        joined = text.error == 0 ? arena_strdup(w->arena, buf_cstr(&text)) : NULL;
        w->entries->error = joined == NULL ? ERR_NOMEM : w->entries->error;
    }
    buf_free(&text);
    return joined;
}

static void walk_map(struct walker *w, const struct node *map);

static void walk_value(struct walker *w, const struct node *key, const struct node *item)
{
    int in_alias = w->in_alias;
    const struct node *value = resolve(w, item);
    if (value == NULL) {
        w->in_alias = in_alias;
        return; /* a finding says why */
    }
    if (value->kind == NODE_SCALAR) {
        expand(w, value->len, item->at);
        codec_entry_add(w->entries, w->parts, w->n_parts, is_null(value) ? NULL : value->text,
                        key->at, item->at);
    } else if (value->kind == NODE_SEQUENCE) {
        const char *text = join_sequence(w, value);
        if (text != NULL) {
            codec_entry_add(w->entries, w->parts, w->n_parts, text, key->at, item->at);
        }
    } else if (value->first == NULL) { /* an empty map is as a null: named, and nothing in it */
        codec_entry_add(w->entries, w->parts, w->n_parts, NULL, key->at, item->at);
    } else if (codec_map_note(w->entries, w->parts, w->n_parts, key->at) == 0) {
        walk_map(w, value);
    }
    w->in_alias = in_alias;
}

/* Finding, or 0 when the key is one. */
static int check_key(struct walker *w, const struct node *key)
{
    const char *wrong = NULL;
    if (key->kind != NODE_SCALAR) {
        wrong = key->kind == NODE_ALIAS ? "an alias can't be a key: write the name itself"
                                        : "a key must be a single value";
    } else if (key->plain && strcmp(key->text, "<<") == 0) {
        wrong = "merge keys ('<<') are not supported: write the keys out";
    } else if (key->len == 0) {
        wrong = "an empty key: write a name before the ':'";
    } else if (strlen(key->text) != key->len) {
        return ERR_DATA; /* a NUL, found while loading */
    }
    if (wrong != NULL) {
        codec_finding_add(w->entries, key->at, path(w), "%s", wrong);
        return ERR_DATA;
    }
    return 0;
}

/* The same key twice in one map. The first counts; the second may be of another kind. */
static int check_twice(struct walker *w, struct map *keys, const struct node *key,
                       const struct node *value)
{
    const struct node *first = map_get(keys, key->text);
    if (first == NULL) {
        if (map_put(keys, key->text, (void *)(uintptr_t)key) != 0) {
            w->entries->error = ERR_NOMEM;
        }
        return 0;
    }
    w->parts[w->n_parts++] = key->text;
    if ((first->next->kind == NODE_MAP) != (value->kind == NODE_MAP)) {
        codec_finding_add(w->entries, key->at, path(w),
                          "is %s here and %s in line %d: keep one of the two",
                          value->kind == NODE_MAP ? "a map" : "a single value",
                          value->kind == NODE_MAP ? "a single value" : "a map", first->at.line);
    } else {
        codec_finding_add(w->entries, key->at, path(w),
                          "is set a second time (first in line %d): remove one of the two",
                          first->at.line);
    }
    w->n_parts--;
    return ERR_EXISTS;
}

static void walk_map(struct walker *w, const struct node *map)
{
    if (w->depth == MAX_DEPTH) { /* only through aliases: the tree itself is flatter */
        codec_finding_add(w->entries, map->at, path(w), "nested deeper than %d: make it flatter",
                          MAX_DEPTH);
        w->stopped = 1;
        return;
    }
    struct map *keys = map_new(NULL);
    if (keys == NULL) {
        w->entries->error = ERR_NOMEM;
        return;
    }
    w->depth++;
    for (const struct node *key = map->first; key != NULL && key->next != NULL;
         key = key->next->next) {
        if (w->stopped || w->entries->error != 0) {
            break;
        }
        if (check_key(w, key) != 0 || check_twice(w, keys, key, key->next) != 0) {
            continue;
        }
        expand(w, key->len, key->at);
        if (w->n_parts == 0) {
            w->entries->top = key->at;
        }
        w->parts[w->n_parts++] = key->text;
        walk_value(w, key, key->next);
        w->n_parts--;
    }
    w->depth--;
    map_free(keys);
}

static void walk(struct loader *l)
{
    const struct node *root = l->root;
    if (root == NULL || (root->kind == NODE_SCALAR && is_null(root))) {
        return;
    }
    if (root->kind != NODE_MAP) {
        codec_finding_add(l->entries, root->at, "", "expected 'key: value' lines, found %s",
                          root->kind == NODE_SEQUENCE ? "a list" : "a single value");
        return;
    }
    struct walker w = {.entries = l->entries, .arena = l->arena};
    walk_map(&w, root);
}

int codec_yaml_parse(const char *text, size_t n, struct codec_yaml *ret, struct err *err)
{
    struct codec_entries entries;
    codec_entries_init(&entries, ret);
    if (n >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) { /* libyaml would count it as a column */
        text += 3;
        n -= 3;
    }
    if (codec_text_ok(&entries, text, n)) {
        size_t limit = ((size_t)64 << 20) + 256 * n; /* a node takes more than its text */
        struct loader l = {.entries = &entries,
                           .arena = arena_new(limit),
                           .text = text,
                           .n = n,
                           .anchors = map_new(NULL)};
        if (l.arena == NULL || l.anchors == NULL) {
            no_memory(&l);
        } else {
            load(&l);
        }
        if (!l.failed) {
            walk(&l);
        }
        map_free(l.anchors);
        arena_free(l.arena);
    }
    return codec_entries_finish(&entries, err);
}
