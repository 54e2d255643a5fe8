/* jansson behind this project's errors and buffers. No state. */
#include "codec/json.h"

static int append(const char *text, size_t n, void *out)
{
    buf_append(out, text, n);
    return 0; /* the buffer's error is sticky */
}

json_t *codec_json_parse(const char *text, size_t n, struct err *err)
{
    json_error_t why;
    json_t *v =
        json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    if (v == NULL) {
        int code = json_error_code(&why) == json_error_out_of_memory ? ERR_NOMEM : ERR_DATA;
        (void)err_set(err, code, "not a JSON text: line %d, column %d: %s", why.line, why.column,
                      why.text);
    }
    return v;
}

void codec_json_write(const json_t *v, struct buf *out)
{
    (void)json_dump_callback(v, append, out, JSON_COMPACT | JSON_ENCODE_ANY);
}
