/* JSON texts of values, over the SDK's writer and over simdjson (json_values.cc). No state. */
#include "record/record.h"

#include "base/arena.h"
#include "record/record_json.h"

static void *alloc_in_arena(ctd_arena *a, uint64_t size, uint64_t align)
{
    return arena_alloc(a->priv, size, align);
}

void record_abi_arena(struct arena *a, ctd_arena *out)
{
    *out = (ctd_arena){.struct_size = sizeof(*out), .priv = a, .alloc = alloc_in_arena};
}

int record_json_parse(const void *p, size_t n, struct arena *a, ctd_value *ret, struct err *err)
{
    ctd_arena arena;
    record_abi_arena(a, &arena);
    ctd_error why;
    ctd_status rc = record_json_to_value(p, n, &arena, ret, &why);
    return rc == CTD_OK ? 0 : err_set(err, rc, "%s", why.message);
}

int record_json_write(const ctd_value *v, struct buf *out, struct err *err)
{
    if (out->error != 0) {
        return err_set(err, out->error, "no room for a JSON text");
    }
    /* Both grow by realloc(), so the writer may work on the buffer's own memory. */
    ctd_text text = {
        .ptr = (char *)out->data, .len = out->len, .cap = out->cap, .limit = out->limit};
    ctd_error why;
    ctd_status rc = ctd_json_write(&text, v, &why);
    out->data = (uint8_t *)text.ptr;
    out->len = text.len;
    out->cap = text.cap;
    if (rc == CTD_OK) {
        return 0;
    }
    return err_set(err, text.status == CTD_E_DATA ? ERR_LIMIT : rc, "%s", why.message);
}
