/*
 * The built-in converters, written on the plugin ABI as anybody's would be: StringConverter,
 * ByteArrayConverter, JsonConverter.
 *
 * Threads: an instance belongs to one task. What is given back lives in the caller's arena or is
 * borrowed from the input, so it outlives the instance's next call.
 */
#include "record/record.h"

#include <stdlib.h>
#include <strings.h>

#include "record/java_text.h"
#include "record/record_json.h"

/* Connect gives every converter this one: "key", "value" or "header". */
#define TYPE_KEY                                                                                   \
    CTD_KEY("converter.type", CTD_CFG_STRING, CTD_CFGF_INTERNAL, NULL,                             \
            "What it converts; set by the host.")

/* Copies what `t` holds into the arena. */
static ctd_status to_arena(const ctd_text *t, ctd_arena *arena, ctd_slice *ret, ctd_error *err)
{
    char *copy = arena->alloc(arena, t->len + 1, 1);
    if (copy == NULL) {
        return ctd_fail(err, CTD_E_NOMEM, "no memory for a value of %llu bytes",
                        (unsigned long long)t->len);
    }
    memcpy(copy, t->ptr, t->len);
    *ret = ctd_slice_of(copy, t->len);
    return CTD_OK;
}

/* Outer blanks don't belong to a raw JSON text. */
static ctd_slice raw_json(const ctd_value *v)
{
    const char *s = v->u.str;
    uint64_t n = v->len;
    while (n > 0 && (*s == ' ' || *s == '\t' || *s == '\n' || *s == '\r')) {
        s++;
        n--;
    }
    while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\t' || s[n - 1] == '\n' || s[n - 1] == '\r')) {
        n--;
    }
    return ctd_slice_of(s, n);
}

static ctd_status too_long(ctd_slice bytes, ctd_error *err)
{
    return ctd_fail(err, CTD_E_DATA, "%llu bytes: a value holds at most 4 GiB",
                    (unsigned long long)bytes.len);
}

/* What the String and JSON converters keep: the text they write into, reused from record to
 * record. */
static ctd_status create_text(void **ret_self, ctd_error *err)
{
    ctd_text *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return ctd_fail(err, CTD_E_NOMEM, "no memory for a converter");
    }
    *ret_self = t;
    return CTD_OK;
}

static void destroy_text(void *self)
{
    if (self != NULL) {
        ctd_text_free(self);
        free(self);
    }
}

/* ---- StringConverter ---- */

static int is_utf8_name(ctd_slice name)
{
    return (name.len == 5 && strncasecmp(name.ptr, "UTF-8", 5) == 0) ||
           (name.len == 4 && strncasecmp(name.ptr, "UTF8", 4) == 0);
}

#define ENCODING_TEXT                                                                              \
    "converter.encoding: only UTF-8 is built; set it to UTF-8, or use ByteArrayConverter to pass " \
    "bytes as they are"

static ctd_status string_validate(const ctd_host *host, const ctd_config *config,
                                  ctd_issues *issues)
{
    ctd_slice encoding = ctd_cfg_slice(host, config, "converter.encoding");
    if (encoding.ptr != NULL && !is_utf8_name(encoding)) {
        issues->add(issues, "converter.encoding", ENCODING_TEXT);
    }
    return CTD_OK;
}

static ctd_status string_create(const ctd_host *host, const ctd_config *config, void **ret_self,
                                ctd_error *err)
{
    ctd_slice encoding = ctd_cfg_slice(host, config, "converter.encoding");
    if (encoding.ptr != NULL && !is_utf8_name(encoding)) {
        return ctd_fail(err, CTD_E_UNSUPPORTED, ENCODING_TEXT);
    }
    return create_text(ret_self, err);
}

static ctd_status string_encode(void *self, ctd_arena *arena, int32_t is_key, const ctd_record *in,
                                const ctd_schema *schema, const ctd_value *v, ctd_slice *ret,
                                ctd_error *err)
{
    ctd_text *t = self;
    (void)is_key;
    (void)in;
    (void)schema;
    if (v->type == CTD_NULL) {
        *ret = ctd_slice_of(NULL, 0);
        return CTD_OK;
    }
    if (v->type == CTD_STRING) {
        *ret = (v->flags & CTD_VF_RAW_JSON) != 0 ? raw_json(v) : ctd_slice_of(v->u.str, v->len);
        return CTD_OK;
    }
    t->len = 0;
    t->status = CTD_OK;
    ctd_status rc = record_java_text(t, v, err);
    return rc == CTD_OK ? to_arena(t, arena, ret, err) : rc;
}

/* The bytes are not looked at: what isn't UTF-8 passes through to a sink that takes bytes. */
static ctd_status string_decode(void *self, ctd_arena *arena, int32_t is_key, const ctd_record *in,
                                ctd_slice bytes, const ctd_schema **ret_schema, ctd_value *ret,
                                ctd_error *err)
{
    (void)self;
    (void)arena;
    (void)is_key;
    (void)in;
    if (bytes.len > UINT32_MAX) {
        return too_long(bytes, err);
    }
    *ret_schema = NULL;
    *ret = bytes.ptr != NULL ? ctd_v_string(bytes.ptr, (uint32_t)bytes.len) : ctd_v_null();
    return CTD_OK;
}

static const ctd_config_key string_keys[] = {
    CTD_KEY("converter.encoding", CTD_CFG_STRING, 0, "UTF-8",
            "The character encoding of the stored bytes. Only UTF-8 is built."),
    TYPE_KEY,
};
static const char *const string_aliases[] = {"org.apache.kafka.connect.storage.StringConverter",
                                             NULL};
static const ctd_converter string_ops = {
    .base = {.struct_size = sizeof(ctd_converter),
             .validate = string_validate,
             .create = string_create,
             .destroy = destroy_text},
    .encode = string_encode,
    .decode = string_decode,
};

/* ---- ByteArrayConverter ---- */

static ctd_status bytes_create(const ctd_host *host, const ctd_config *config, void **ret_self,
                               ctd_error *err)
{
    (void)host;
    (void)config;
    return create_text(ret_self, err);
}

static ctd_status bytes_encode(void *self, ctd_arena *arena, int32_t is_key, const ctd_record *in,
                               const ctd_schema *schema, const ctd_value *v, ctd_slice *ret,
                               ctd_error *err)
{
    (void)self;
    (void)arena;
    (void)in;
    (void)schema;
    if (v->type != CTD_NULL && v->type != CTD_BYTES) {
        const char *side = is_key != 0 ? "key" : "value";
        return ctd_fail(err, CTD_E_DATA,
                        "ByteArrayConverter takes bytes, and the %s is of type %s: set "
                        "%s.converter to StringConverter or JsonConverter",
                        side, record_type_name(v->type), side);
    }
    *ret = v->type == CTD_BYTES ? ctd_slice_of(v->u.bytes, v->len) : ctd_slice_of(NULL, 0);
    return CTD_OK;
}

static ctd_status bytes_decode(void *self, ctd_arena *arena, int32_t is_key, const ctd_record *in,
                               ctd_slice bytes, const ctd_schema **ret_schema, ctd_value *ret,
                               ctd_error *err)
{
    (void)self;
    (void)arena;
    (void)is_key;
    (void)in;
    if (bytes.len > UINT32_MAX) {
        return too_long(bytes, err);
    }
    *ret_schema = NULL;
    *ret = bytes.ptr != NULL ? ctd_v_bytes(bytes.ptr, (uint32_t)bytes.len) : ctd_v_null();
    return CTD_OK;
}

static const ctd_config_key bytes_keys[] = {TYPE_KEY};
static const char *const bytes_aliases[] = {
    "org.apache.kafka.connect.converters.ByteArrayConverter", NULL};
static const ctd_converter bytes_ops = {
    .base = {.struct_size = sizeof(ctd_converter), .create = bytes_create, .destroy = destroy_text},
    .encode = bytes_encode,
    .decode = bytes_decode,
};

/* ---- JsonConverter ---- */

#define SCHEMAS_TEXT                                                                               \
    "schemas.enable=true (what JsonConverter has by default) is not built yet: set "               \
    "value.converter.schemas.enable: false (for keys: key.converter.schemas.enable: false)"

static ctd_status json_validate(const ctd_host *host, const ctd_config *config, ctd_issues *issues)
{
    if (ctd_cfg_bool(host, config, "schemas.enable", 1)) {
        issues->add(issues, "schemas.enable", SCHEMAS_TEXT);
    }
    return CTD_OK;
}

static ctd_status json_create(const ctd_host *host, const ctd_config *config, void **ret_self,
                              ctd_error *err)
{
    if (ctd_cfg_bool(host, config, "schemas.enable", 1)) {
        return ctd_fail(err, CTD_E_UNSUPPORTED, SCHEMAS_TEXT);
    }
    return create_text(ret_self, err);
}

static ctd_status json_encode(void *self, ctd_arena *arena, int32_t is_key, const ctd_record *in,
                              const ctd_schema *schema, const ctd_value *v, ctd_slice *ret,
                              ctd_error *err)
{
    ctd_text *t = self;
    (void)is_key;
    (void)in;
    (void)schema;
    if (v->type == CTD_NULL) {
        *ret = ctd_slice_of(NULL, 0);
        return CTD_OK;
    }
    if (v->type == CTD_STRING && (v->flags & CTD_VF_RAW_JSON) != 0) {
        *ret = raw_json(v);
        return CTD_OK;
    }
    t->len = 0;
    t->status = CTD_OK;
    ctd_status rc = ctd_json_write(t, v, err);
    return rc == CTD_OK ? to_arena(t, arena, ret, err) : rc;
}

static ctd_status json_decode(void *self, ctd_arena *arena, int32_t is_key, const ctd_record *in,
                              ctd_slice bytes, const ctd_schema **ret_schema, ctd_value *ret,
                              ctd_error *err)
{
    (void)self;
    (void)is_key;
    (void)in;
    *ret_schema = NULL;
    if (bytes.ptr == NULL) {
        *ret = ctd_v_null();
        return CTD_OK;
    }
    return record_json_to_value(bytes.ptr, bytes.len, arena, ret, err);
}

static const char *const decimal_formats[] = {"BASE64", "NUMERIC", NULL};
static const ctd_config_key json_keys[] = {
    CTD_KEY("schemas.enable", CTD_CFG_BOOL, 0, "true",
            "Whether each text carries its schema in an envelope. true is not built yet."),
    CTD_KEY("schemas.cache.size", CTD_CFG_I64, 0, "1000",
            "Accepted; without an envelope there is no schema to cache."),
    {.struct_size = sizeof(ctd_config_key),
     .type = CTD_CFG_STRING,
     .importance = 2,
     .name = "decimal.format",
     .def = "BASE64",
     .doc = "Accepted; without an envelope there are no decimals.",
     .allowed = decimal_formats,
     .min = 1},
    CTD_KEY("replace.null.with.default", CTD_CFG_BOOL, 0, "true",
            "Accepted; without an envelope there are no defaults."),
    TYPE_KEY,
};
static const char *const json_aliases[] = {"org.apache.kafka.connect.json.JsonConverter", NULL};
static const ctd_converter json_ops = {
    .base = {.struct_size = sizeof(ctd_converter),
             .validate = json_validate,
             .create = json_create,
             .destroy = destroy_text},
    .encode = json_encode,
    .decode = json_decode,
};

/* ---- the list ---- */

#define CONVERTER(class_name, keys, alias_list, operations, text)                                  \
    {                                                                                              \
        .struct_size = sizeof(ctd_class), .kind = CTD_KIND_CONVERTER, .name = (class_name),        \
        .version = "0.1.0", .doc = (text), .aliases = (alias_list), .config = (keys),              \
        .n_config = sizeof(keys) / sizeof((keys)[0]), .config_stride = sizeof((keys)[0]),          \
        .ops = &(operations).base                                                                  \
    }

static const ctd_class string_class =
    CONVERTER("StringConverter", string_keys, string_aliases, string_ops,
              "Text as UTF-8; other values as Java prints them.");
static const ctd_class bytes_class =
    CONVERTER("ByteArrayConverter", bytes_keys, bytes_aliases, bytes_ops, "Bytes, as they are.");
static const ctd_class json_class =
    CONVERTER("JsonConverter", json_keys, json_aliases, json_ops, "JSON texts without a schema.");

static const ctd_class *const all[] = {&string_class, &bytes_class, &json_class};
enum { N_ALL = sizeof(all) / sizeof(all[0]) };

const ctd_class *const *record_converters(size_t *ret_n)
{
    *ret_n = N_ALL;
    return all;
}

const ctd_class *record_converter_find(const char *name)
{
    for (size_t i = 0; i < N_ALL; i++) {
        if (strcmp(name, all[i]->name) == 0) {
            return all[i];
        }
        for (const char *const *alias = all[i]->aliases; *alias != NULL; alias++) {
            if (strcmp(name, *alias) == 0) {
                return all[i];
            }
        }
    }
    return NULL;
}
