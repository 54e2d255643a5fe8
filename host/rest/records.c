/* Records as JSON text: stored bytes as they are, never parsed. */
#include "rest/rest_int.h"

#include "codec/codec.h"

static void json_text(struct buf *out, struct slice s)
{
    size_t from = 0;
    buf_append_u8(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (c >= ' ' && c != '"' && c != '\\') {
            continue;
        }
        buf_append(out, s.ptr + from, i - from);
        from = i + 1;
        switch (c) {
        case '\n':
            buf_append(out, "\\n", 2);
            break;
        case '\r':
            buf_append(out, "\\r", 2);
            break;
        case '\t':
            buf_append(out, "\\t", 2);
            break;
        case '"':
        case '\\':
            buf_append_u8(out, '\\');
            buf_append_u8(out, c);
            break;
        default:
            buf_printf(out, "\\u%04x", c);
        }
    }
    if (s.len > from) {
        buf_append(out, s.ptr + from, s.len - from);
    }
    buf_append_u8(out, '"');
}

void rest_json_bytes(struct buf *out, struct slice s)
{
    if (s.ptr == NULL) {
        buf_append(out, "null", 4);
    } else if (str_is_utf8(s.ptr, s.len)) {
        json_text(out, s);
    } else {
        buf_append_str(out, "{\"base64\":\"");
        codec_base64_put(out, s.ptr, s.len);
        buf_append_str(out, "\"}");
    }
}

int rest_record_json(struct buf *out, const char *topic, int32_t partition,
                     const struct record_view *v, struct err *err)
{
    size_t start = out->len;
    buf_append_str(out, "{\"topic\":");
    json_text(out, slice_str(topic));
    buf_printf(out, ",\"partition\":%d,\"offset\":%lld,\"timestamp\":%lld,\"key\":", (int)partition,
               (long long)v->offset, (long long)v->timestamp_ms);
    rest_json_bytes(out, v->key);
    buf_append_str(out, ",\"value\":");
    rest_json_bytes(out, v->value);
    buf_append_str(out, ",\"headers\":[");
    struct cursor at;
    cursor_init(&at, v->headers, v->headers_len);
    struct record_header h;
    int more = 0;
    for (int32_t i = 0; i < v->n_headers; i++) {
        more = record_headers_next(&at, &h);
        if (more != 1) {
            out->len = start;
            return err_set(err, ERR_DATA, "record %lld: malformed headers", (long long)v->offset);
        }
        buf_append_str(out, i == 0 ? "[" : ",[");
        rest_json_bytes(out, h.name);
        buf_append_u8(out, ',');
        rest_json_bytes(out, h.value);
        buf_append_u8(out, ']');
    }
    buf_append_str(out, "]}");
    return 0;
}
