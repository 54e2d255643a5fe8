/*
 * connectd SDK: what makes connectd/abi.h comfortable for the author of a plugin. Nothing here
 * crosses between host and plugin: it is compiled into the plugin (small things inline, the rest
 * from the static library connectd_sdk), so it may change while the ABI doesn't.
 *
 *   1 errors and logs   2 options   3 values   4 batches   5 JSON   6 the module
 *
 * Threads: no hidden state. A function may be called from wherever its arguments may be used.
 */
#ifndef CONNECTD_SDK_H
#define CONNECTD_SDK_H

#include <connectd/abi.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CTD_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

/* ======== 1. Errors and logs ======== */

/* Fills `err` (which may be NULL) and returns `status`, so that `return ctd_fail(...)` reads
 * well. */
ctd_status ctd_fail(ctd_error *err, ctd_status status, const char *fmt, ...) CTD_PRINTF(3, 4);
/* The same, with errno kept and ": <its text>" appended. */
ctd_status ctd_fail_errno(ctd_error *err, ctd_status status, const char *fmt, ...) CTD_PRINTF(3, 4);
/* The same for one record of the batch: CTD_E_DATA with its index. */
ctd_status ctd_fail_record(ctd_error *err, uint64_t index, const char *fmt, ...) CTD_PRINTF(3, 4);
/* CTD_E_RETRIABLE with a hint when to call again (-1: none). */
ctd_status ctd_fail_retry(ctd_error *err, int64_t after_ms, const char *fmt, ...) CTD_PRINTF(3, 4);

/* One line in the host's log; level is CTD_LOG_... . Cut at 1 KiB. */
void ctd_log(const ctd_host *host, int32_t level, const char *fmt, ...) CTD_PRINTF(3, 4);

/* ======== 2. Options ======== */

/* Rows of an option table:
 *   static const ctd_config_key keys[] = {
 *       CTD_KEY("file", CTD_CFG_STRING, CTD_CFGF_REQUIRED, NULL, "The file to read."),
 *       CTD_KEY_RANGE("batch.size", CTD_CFG_I64, 0, "2000", 1, 1000000, "Lines a poll at most."),
 *   };
 */
#define CTD_KEY(name, type, flags, def, doc) CTD_KEY_RANGE(name, type, flags, def, 1, 0, doc)
#define CTD_KEY_RANGE(name, type, flags, def, min, max, doc)                                       \
    {                                                                                              \
        sizeof(ctd_config_key), (type), (flags), 0, (name), (def), (doc), NULL, NULL, NULL, NULL,  \
            (min), (max), 0, 0                                                                     \
    }

/* The option's value (as set, or its default from the table), or `otherwise` when there is
 * neither. */
static inline int64_t ctd_cfg_i64(const ctd_host *h, const ctd_config *c, const char *key,
                                  int64_t otherwise)
{
    int64_t v;
    return h->cfg_i64(h, c, key, &v) == CTD_OK ? v : otherwise;
}

static inline int ctd_cfg_bool(const ctd_host *h, const ctd_config *c, const char *key,
                               int otherwise)
{
    return ctd_cfg_i64(h, c, key, otherwise != 0) != 0;
}

static inline double ctd_cfg_f64(const ctd_host *h, const ctd_config *c, const char *key,
                                 double otherwise)
{
    double v;
    return h->cfg_f64(h, c, key, &v) == CTD_OK ? v : otherwise;
}

/* Borrowed from the config; not NUL-terminated. {NULL, 0} when there is none. */
static inline ctd_slice ctd_cfg_slice(const ctd_host *h, const ctd_config *c, const char *key)
{
    ctd_slice none = {NULL, 0};
    ctd_slice v;
    return h->cfg_str(h, c, key, &v) == CTD_OK ? v : none;
}

/* A NUL-terminated copy, to be freed with free(). `otherwise` (copied too, or NULL) when there is
 * none. NULL when both are missing, or without memory. */
char *ctd_cfg_dup(const ctd_host *h, const ctd_config *c, const char *key, const char *otherwise);

/* ======== 3. Values ======== */

static inline ctd_slice ctd_slice_of(const void *ptr, uint64_t len)
{
    ctd_slice s;
    s.ptr = ptr;
    s.len = len;
    return s;
}

static inline ctd_slice ctd_slice_str(const char *s)
{
    return ctd_slice_of(s, s != NULL ? strlen(s) : 0);
}

static inline int ctd_slice_is(ctd_slice s, const char *text)
{
    return s.ptr != NULL && s.len == strlen(text) && memcmp(s.ptr, text, s.len) == 0;
}

/* These build values that borrow what they are given: it must live as long as the batch.
 * ctd_builder_... below copy into the batch. */
static inline ctd_value ctd_v_null(void)
{
    ctd_value v;
    v.type = CTD_NULL;
    v.flags = 0;
    v.reserved = 0;
    v.len = 0;
    v.u.i = 0;
    return v;
}

static inline ctd_value ctd_v_int(uint8_t type, int64_t i)
{
    ctd_value v = ctd_v_null();
    v.type = type;
    v.u.i = i;
    return v;
}

static inline ctd_value ctd_v_bool(int b)
{
    return ctd_v_int(CTD_BOOL, b != 0);
}

static inline ctd_value ctd_v_i32(int32_t i)
{
    return ctd_v_int(CTD_I32, i);
}

static inline ctd_value ctd_v_i64(int64_t i)
{
    return ctd_v_int(CTD_I64, i);
}

static inline ctd_value ctd_v_f64(double d)
{
    ctd_value v = ctd_v_null();
    v.type = CTD_F64;
    v.u.f64 = d;
    return v;
}

static inline ctd_value ctd_v_string(const char *s, uint32_t len)
{
    ctd_value v = ctd_v_null();
    v.type = CTD_STRING;
    v.len = len;
    v.u.str = s;
    return v;
}

/* NULL gives a null. */
static inline ctd_value ctd_v_cstr(const char *s)
{
    return s != NULL ? ctd_v_string(s, (uint32_t)strlen(s)) : ctd_v_null();
}

/* One whole JSON text that is known to be valid: goes out byte for byte unless it is touched. */
static inline ctd_value ctd_v_raw_json(const char *s, uint32_t len)
{
    ctd_value v = ctd_v_string(s, len);
    v.flags = CTD_VF_RAW_JSON;
    return v;
}

static inline ctd_value ctd_v_bytes(const void *p, uint32_t len)
{
    ctd_value v = ctd_v_null();
    v.type = CTD_BYTES;
    v.len = len;
    v.u.bytes = (const uint8_t *)p;
    return v;
}

static inline ctd_value ctd_v_array(const ctd_value *items, uint32_t n)
{
    ctd_value v = ctd_v_null();
    v.type = CTD_ARRAY;
    v.len = n;
    v.u.items = items;
    return v;
}

/* `pairs` holds key, value, key, value ...: 2 * n_pairs values. */
static inline ctd_value ctd_v_map(const ctd_value *pairs, uint32_t n_pairs)
{
    ctd_value v = ctd_v_null();
    v.type = CTD_MAP;
    v.len = n_pairs;
    v.u.items = pairs;
    return v;
}

static inline int ctd_v_is_null(const ctd_value *v)
{
    return v == NULL || v->type == CTD_NULL;
}

/* BOOL and the integers. */
static inline int ctd_v_is_int(const ctd_value *v)
{
    return v->type >= CTD_BOOL && v->type <= CTD_I64;
}

/* The value of a MAP's key, or NULL when it isn't a map or hasn't got the key. The last of equal
 * keys counts. */
const ctd_value *ctd_map_get(const ctd_value *map, const char *key);
/* The same for integers and strings, with a default. */
int64_t ctd_map_i64(const ctd_value *map, const char *key, int64_t otherwise);
ctd_slice ctd_map_str(const ctd_value *map, const char *key); /* {NULL, 0} when there is none */

/* 1 when both are of one type and content; integers of any width compare by value, maps in any
 * order. */
int ctd_v_equal(const ctd_value *a, const ctd_value *b);

/* ======== 4. Batches ========
 * The builder owns all memory of the batch that it builds, and hands it over whole:
 *
 *   ctd_builder *b = ctd_builder_new();                     once, in create()
 *   ...
 *   ctd_record *r = ctd_builder_add(b);                     in poll(), for each record
 *   if (r == NULL) { break; }
 *   r->topic = self->topic;                                 borrowed: must outlive the batch
 *   r->value = ctd_builder_string(b, line, len);            copied into the batch
 *   ...
 *   return ctd_builder_finish(b, out, err);                 out->release gives the memory back
 *   for the next poll
 *   ...
 *   ctd_builder_free(b);                                    in destroy(); batches still out stay
 *   valid
 *
 * A failed allocation is sticky and comes out of ctd_builder_finish(). One thread at a time per
 * builder; release() of its batches may run anywhere, at the same time. */
typedef struct ctd_builder ctd_builder;

ctd_builder *ctd_builder_new(void);    /* NULL without memory */
void ctd_builder_free(ctd_builder *b); /* NULL-safe; drops an unfinished batch */

/* One more record: no topic, partition -1, timestamp unset, offset -1, all else null. The pointer
 * is good until the next add or finish. NULL without memory. */
ctd_record *ctd_builder_add(ctd_builder *b);
/* The number of records so far. */
uint64_t ctd_builder_count(const ctd_builder *b);
/* Takes back the last record (what was copied for it stays until the batch is released). */
void ctd_builder_drop_last(ctd_builder *b);

/* Memory that lives as long as the batch, not zeroed; align is a power of two up to 16. NULL
 * without memory. */
void *ctd_builder_alloc(ctd_builder *b, uint64_t size, uint64_t align);
/* Copies into the batch. After a failure they give null; finish reports it. */
ctd_slice ctd_builder_slice(ctd_builder *b, const void *p, uint64_t len);
ctd_value ctd_builder_string(ctd_builder *b, const char *s, uint64_t len);
ctd_value ctd_builder_raw_json(ctd_builder *b, const char *s, uint64_t len);
ctd_value ctd_builder_bytes(ctd_builder *b, const void *p, uint64_t len);
ctd_value ctd_builder_copy(ctd_builder *b, const ctd_value *v); /* the whole tree */

/* Moves what was built into *out (with no record: n = 0, nothing to release) and starts anew.
 * CTD_E_NOMEM when an allocation failed since the last finish: the batch is dropped then. */
ctd_status ctd_builder_finish(ctd_builder *b, ctd_batch *out, ctd_error *err);
/* Drops what was built. */
void ctd_builder_reset(ctd_builder *b);

/* Releases a batch if it is live. */
static inline void ctd_batch_free(ctd_batch *b)
{
    if (b->release != NULL) {
        b->release(b);
    }
}

/* ======== 5. JSON ======== */

/* Growing text with a sticky error. Start from {0}; free with ctd_text_free(). */
typedef struct ctd_text {
    char *ptr; /* from realloc(); not NUL-terminated */
    uint64_t len, cap;
    uint64_t limit;    /* bytes at most; 0: 64 MiB */
    ctd_status status; /* CTD_E_NOMEM or CTD_E_DATA (the limit) once an append failed */
} ctd_text;

void ctd_text_append(ctd_text *t, const void *p, uint64_t n);
void ctd_text_free(ctd_text *t);

/* Appends the compact JSON text of a value. Maps keep their order, and one with keys that aren't
 * strings is an array of [key, value], as in Connect; BYTES go out as base64, doubles with few
 * digits that read back, strings marked CTD_VF_RAW_JSON byte for byte with outer whitespace
 * dropped. CTD_E_DATA for NaN, the infinities, strings that aren't UTF-8, depth above 64 and the
 * limit; CTD_E_UNSUPPORTED for structs. After a failure `t` ends where it did before. */
ctd_status ctd_json_write(ctd_text *t, const ctd_value *v, ctd_error *err);

/* ======== 6. The module ========
 * Defines ctd_module_v1() for a static array of classes:
 *   static const ctd_class classes[] = {{ .struct_size = sizeof(ctd_class), ... }};
 *   CTD_MODULE(classes, NULL)
 */
#ifdef __cplusplus
#define CTD_EXTERN_C extern "C"
#else
#define CTD_EXTERN_C
#endif
#define CTD_MODULE(class_array, init_fn)                                                           \
    CTD_EXTERN_C CTD_EXPORT const ctd_module *ctd_module_v1(void)                                  \
    {                                                                                              \
        static const ctd_module module = {                                                         \
            CTD_ABI_MAGIC_DRAFT,                                                                   \
            sizeof(ctd_module),                                                                    \
            CTD_ABI_MINOR,                                                                         \
            CTD_ABI_MINOR,                                                                         \
            sizeof(class_array) / sizeof((class_array)[0]),                                        \
            sizeof((class_array)[0]),                                                              \
            (class_array),                                                                         \
            (init_fn),                                                                             \
        };                                                                                         \
        return &module;                                                                            \
    }

#ifdef __cplusplus
}
#endif
#endif
