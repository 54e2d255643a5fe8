/*
 * Connect's connector files, {"name": ..., "config": {...}}, to flat entries.
 *
 * jansson reads and judges the text; it keeps no places, so a second look over a text that is known
 * to be valid finds where the keys stand. No state.
 */
#include "codec/codec.h"

#include <stdlib.h>
#include <string.h>

#include "codec/entries.h"
#include "codec/json.h"

/* A key and its value in the text, at depth 1 or 2 of the document. */
struct spot {
    int depth;
    struct codec_place at, value_at;
    size_t value, value_end; /* bytes of a scalar value */
};

struct spots {
    struct spot *items;
    size_t n, cap;
    int error;
};

static void add_spot(struct spots *s, struct spot spot)
{
    if (s->n == s->cap) {
        size_t cap = s->cap != 0 ? 2 * s->cap : 32;
        struct spot *items = reallocarray(s->items, cap, sizeof(*items));
        if (items == NULL) {
            s->error = ERR_NOMEM;
            return;
        }
        s->items = items;
        s->cap = cap;
    }
    s->items[s->n++] = spot;
}

static size_t skip_string(const char *text, size_t n, size_t i)
{
    for (i++; i < n && text[i] != '"'; i++) {
        i += text[i] == '\\';
    }
    return i + 1;
}

static size_t skip_space(const char *text, size_t n, size_t i)
{
    while (i < n && strchr(" \t\r\n", text[i]) != NULL) {
        i++;
    }
    return i;
}

/* Notes the keys of the outer object and of the objects in it. A string is a key when a ':'
 * follows. */
static void find_spots(const char *text, size_t n, struct spots *out)
{
    int depth = 0;
    size_t counted = 0;
    struct codec_place here = {1, 1};
    for (size_t i = 0; i < n && out->error == 0;) {
        if (text[i] != '"') {
            depth += text[i] == '{' || text[i] == '[';
            depth -= text[i] == '}' || text[i] == ']';
            i++;
            continue;
        }
        size_t end = skip_string(text, n, i);
        size_t colon = skip_space(text, n, end);
        if (depth <= 2 && colon < n && text[colon] == ':') {
            struct spot spot = {.depth = depth};
            size_t value = skip_space(text, n, colon + 1);
            struct codec_place step = codec_place_of(text + counted, i - counted, i - counted);
            here =
                (struct codec_place){here.line + step.line - 1,
                                     step.line > 1 ? step.column : here.column + step.column - 1};
            counted = i;
            step = codec_place_of(text + i, value - i, value - i);
            spot.at = here;
            spot.value_at =
                (struct codec_place){here.line + step.line - 1,
                                     step.line > 1 ? step.column : here.column + step.column - 1};
            spot.value = value;
            spot.value_end = value;
            while (spot.value_end < n && strchr(" \t\r\n,}]", text[spot.value_end]) == NULL) {
                spot.value_end++;
            }
            add_spot(out, spot);
            i = colon + 1;
        } else {
            i = end;
        }
    }
}

static void add_value(struct codec_entries *e, const char *text, const char *name, const char *key,
                      const json_t *v, const struct spot *spot)
{
    const char *parts[] = {"connectors", name, key};
    char *number = NULL;
    const char *value = NULL;
    if (json_is_object(v) || json_is_array(v)) {
        codec_finding_add(e, spot->value_at, key,
                          "is %s: a config holds single values only (lists are joined with commas)",
                          json_is_object(v) ? "an object" : "an array");
        return;
    }
    if (json_is_string(v)) {
        value = json_string_value(v);
        if (strlen(value) != json_string_length(v)) {
            codec_finding_add(e, spot->value_at, key, "holds a NUL character: remove the \\u0000");
            return;
        }
    } else if (!json_is_null(v)) { /* a number or a boolean as it is written */
        number = strndup(text + spot->value, spot->value_end - spot->value);
        value = number;
        if (number == NULL) {
            e->error = ERR_NOMEM;
            return;
        }
    }
    codec_entry_add(e, parts, 3, value, spot->at, spot->value_at);
    free(number);
}

static void add_config(struct codec_entries *e, const char *text, const char *name, json_t *config,
                       const struct spot *spots, int depth)
{
    const char *key;
    json_t *v;
    if (json_object_size(config) == 0) { /* named, and nothing in it: as YAML has it */
        const char *parts[] = {"connectors", name};
        codec_entry_add(e, parts, 2, NULL, (struct codec_place){1, 1}, (struct codec_place){1, 1});
    }
    json_object_foreach(config, key, v)
    {
        while (spots->depth != depth) { /* below an array or object that is refused anyway */
            spots++;
        }
        if (key[0] == '\0') {
            codec_finding_add(e, spots->at, "", "an empty key: give it a name");
        } else if (strcmp(key, "name") == 0 && json_is_string(v) &&
                   strcmp(json_string_value(v), name) != 0) {
            codec_finding_add(e, spots->value_at, key, "is '%s', but the connector is named '%s'",
                              json_string_value(v), name);
        } else {
            add_value(e, text, name, key, v, spots);
        }
        spots++;
    }
}

static void read_document(struct codec_entries *e, const char *text, json_t *root,
                          const struct spots *spots)
{
    struct codec_place start = {1, 1};
    const char *name = json_string_value(json_object_get(root, "name"));
    json_t *config = json_object_get(root, "config");
    if (name == NULL || name[0] == '\0') {
        codec_finding_add(e, start, "name",
                          "is missing: write {\"name\": \"...\", \"config\": {...}}");
        return;
    }
    if (config == NULL && json_object_get(root, "connector.class") != NULL) {
        add_config(e, text, name, root, spots->items,
                   1); /* a bare config, as Connect takes it too */
        return;
    }
    if (!json_is_object(config)) {
        codec_finding_add(e, start, "config",
                          "is missing or no object: write {\"name\": \"...\", \"config\": {...}}");
        return;
    }
    const struct spot *spot = spots->items;
    const char *key;
    json_t *v;
    json_object_foreach(root, key, v)
    {
        while (spot->depth != 1) {
            spot++;
        }
        if (v == config) {
            add_config(e, text, name, config, spot + 1, 2);
        } else if (strcmp(key, "name") != 0 && strcmp(key, "tasks") != 0 &&
                   strcmp(key, "type") != 0) {
            codec_finding_add(
                e, spot->at, key,
                "is unknown beside name and config: move it into config or remove it");
        }
        spot++;
    }
}

/* The last line, column and text of jansson's complaint. */
static void refuse(struct codec_entries *e, const json_error_t *why, const char *text, size_t n)
{
    struct codec_place at = {why->line > 0 ? why->line : 1, why->column > 0 ? why->column : 1};
    if (n == 0 || skip_space(text, n, 0) == n) {
        codec_finding_add(e, (struct codec_place){1, 1}, "",
                          "is empty: write {\"name\": \"...\", \"config\": {...}}");
    } else {
        codec_finding_add(e, at, "", "not JSON: %s", why->text);
    }
    e->out->unparsable = 1;
}

int codec_connect_json_parse(const char *text, size_t n, struct codec_yaml *ret, struct err *err)
{
    struct codec_entries entries;
    struct spots spots = {0};
    json_error_t why;
    codec_entries_init(&entries, ret);
    if (n >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
        text += 3;
        n -= 3;
    }
    if (codec_text_ok(&entries, text, n)) {
        json_t *root =
            json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
        if (root == NULL) {
            refuse(&entries, &why, text, n);
        } else if (!json_is_object(root)) {
            codec_finding_add(&entries, (struct codec_place){1, 1}, "",
                              "expected an object: {\"name\": \"...\", \"config\": {...}}");
        } else {
            find_spots(text, n, &spots);
            entries.error = entries.error != 0 ? entries.error : spots.error;
            if (entries.error == 0) {
                read_document(&entries, text, root, &spots);
            }
        }
        json_decref(root);
    }
    free(spots.items);
    return codec_entries_finish(&entries, err);
}
