/* Values as JSON text. No state. */
#include <connectd/sdk.h>

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define DEFAULT_LIMIT ((uint64_t)64 << 20)
enum { MAX_DEPTH = 64 };

/* Room for n more bytes, not counted in len; NULL after the sticky error. */
static char *reserve(ctd_text *t, uint64_t n)
{
    if (t->status != CTD_OK) {
        return NULL;
    }
    uint64_t limit = t->limit != 0 ? t->limit : DEFAULT_LIMIT;
    if (n > limit || t->len > limit - n) {
        t->status = CTD_E_DATA;
        return NULL;
    }
    if (t->len + n > t->cap) {
        uint64_t cap = t->cap != 0 ? t->cap : 256;
        while (cap < t->len + n) {
            cap *= 2;
        }
        cap = cap > limit ? limit : cap;
        char *ptr = realloc(t->ptr, cap);
        if (ptr == NULL) {
            t->status = CTD_E_NOMEM;
            return NULL;
        }
        t->ptr = ptr;
        t->cap = cap;
    }
    return t->ptr + t->len;
}

void ctd_text_append(ctd_text *t, const void *p, uint64_t n)
{
    char *at = n > 0 ? reserve(t, n) : NULL;
    if (at != NULL) {
        memcpy(at, p, n);
        t->len += n;
    }
}

void ctd_text_free(ctd_text *t)
{
    free(t->ptr);
    *t = (ctd_text){.limit = t->limit};
}

static void put_char(ctd_text *t, char c)
{
    ctd_text_append(t, &c, 1);
}

/* Bytes at the start of s that go out as they are: ASCII without controls, quote and backslash. */
static size_t plain_length(const unsigned char *s, size_t n)
{
    const uint64_t ones = 0x0101010101010101u;
    const uint64_t tops = 0x8080808080808080u;
    size_t i = 0;
    for (; n - i >= 8; i += 8) {
        uint64_t w;
        memcpy(&w, s + i, 8);
        uint64_t quote = w ^ (ones * '"');
        uint64_t slash = w ^ (ones * '\\');
        /* A byte's top bit in each: below 0x20, equal to zero, not ASCII. */
        uint64_t odd =
            ((w - ones * 0x20) & ~w) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash) | w;
        if ((odd & tops) != 0) {
            break;
        }
    }
    while (i < n && s[i] >= 0x20 && s[i] < 0x80 && s[i] != '"' && s[i] != '\\') {
        i++;
    }
    return i;
}

/* Length of the well-formed UTF-8 sequence beyond ASCII at s, or 0. */
static size_t utf8_length(const unsigned char *s, size_t n)
{
    unsigned char c = s[0];
    size_t need = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
    if (c < 0xC2 || c > 0xF4 || n < need) {
        return 0;
    }
    for (size_t i = 1; i < need; i++) {
        if ((s[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    if ((c == 0xE0 && s[1] < 0xA0) || (c == 0xED && s[1] > 0x9F) || (c == 0xF0 && s[1] < 0x90) ||
        (c == 0xF4 && s[1] > 0x8F)) {
        return 0;
    }
    return need;
}

static void put_escape(ctd_text *t, unsigned char c)
{
    static const char letters[] = "btn fr"; /* 0x08 to 0x0d; 0x0b has none */
    char out[8];
    if (c == '"' || c == '\\') {
        out[0] = '\\';
        out[1] = (char)c;
        ctd_text_append(t, out, 2);
    } else if (c >= 0x08 && c <= 0x0d && c != 0x0b) {
        out[0] = '\\';
        out[1] = letters[c - 0x08];
        ctd_text_append(t, out, 2);
    } else {
        int n = snprintf(out, sizeof(out), "\\u%04x", c);
        ctd_text_append(t, out, (uint64_t)n);
    }
}

static ctd_status put_string(ctd_text *t, const char *str, size_t n, ctd_error *err)
{
    const unsigned char *s = (const unsigned char *)str;
    (void)reserve(t, n + 2);
    put_char(t, '"');
    for (size_t i = 0; i < n;) {
        size_t run = plain_length(s + i, n - i);
        if (run == 0 && s[i] >= 0x80) {
            run = utf8_length(s + i, n - i);
            if (run == 0) {
                return ctd_fail(err, CTD_E_DATA,
                                "a string is not valid UTF-8 at byte %zu: JSON can't hold it", i);
            }
        }
        if (run > 0) {
            ctd_text_append(t, s + i, run);
            i += run;
        } else {
            put_escape(t, s[i++]);
        }
    }
    put_char(t, '"');
    return CTD_OK;
}

static void put_base64(ctd_text *t, const uint8_t *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *out = reserve(t, (n + 2) / 3 * 4 + 2);
    if (out == NULL) {
        return;
    }
    char *at = out;
    *at++ = '"';
    for (size_t i = 0; i < n; i += 3) {
        uint32_t w = (uint32_t)p[i] << 16;
        w |= i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0;
        w |= i + 2 < n ? p[i + 2] : 0;
        *at++ = digits[w >> 18];
        *at++ = digits[(w >> 12) & 63];
        *at++ = i + 1 < n ? digits[(w >> 6) & 63] : '=';
        *at++ = i + 2 < n ? digits[w & 63] : '=';
    }
    *at++ = '"';
    t->len += (uint64_t)(at - out);
}

static void put_i64(ctd_text *t, int64_t v)
{
    char digits[24];
    char *end = digits + sizeof(digits);
    char *at = end;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    do {
        *--at = (char)('0' + u % 10);
        u /= 10;
    } while (u != 0);
    if (v < 0) {
        *--at = '-';
    }
    ctd_text_append(t, at, (uint64_t)(end - at));
}

/* Most doubles in data are short decimals: v = r / 10^k with r below 2^53 and k up to 15. Both are
 * exact, so the division rounds as reading the text back does. 0 when v isn't one. */
static int put_short_decimal(ctd_text *t, double v)
{
    static const double powers[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    double a = fabs(v);
    for (size_t k = 1; k < sizeof(powers) / sizeof(powers[0]); k++) {
        double scaled = a * powers[k];
        if (!(scaled < 9007199254740991.0)) {
            return 0;
        }
        uint64_t r = (uint64_t)(scaled + 0.5);
        double back = (double)r / powers[k];
        if (back < a || back > a) {
            continue;
        }
        char out[40];
        uint64_t whole = r / (uint64_t)powers[k];
        uint64_t part = r % (uint64_t)powers[k];
        int n = snprintf(out, sizeof(out), "%s%" PRIu64 ".%0*" PRIu64, signbit(v) ? "-" : "", whole,
                         (int)k, part);
        ctd_text_append(t, out, (uint64_t)n);
        return 1;
    }
    return 0;
}

/* `single`: the digits need to read back as a float only. */
static ctd_status put_f64(ctd_text *t, double v, int single, ctd_error *err)
{
    if (!isfinite(v)) {
        return ctd_fail(err, CTD_E_DATA, "JSON has no %s", isnan(v) ? "NaN" : "infinity");
    }
    double a = fabs(v);
    if (!single && (a < 1e15 && (a >= 1e-3 || !(a > 0))) && put_short_decimal(t, v)) {
        return CTD_OK;
    }
    char out[40];
    int n = 0;
    /* 15 digits (6 of a float) tell all decimals of so many apart, and %g drops the zeros at their
     * end; the subnormal ones have fewer. */
    int least = a < (single ? (double)FLT_MIN : DBL_MIN) ? 1 : single ? 6 : 15;
    for (int digits = least; digits <= (single ? 9 : 17); digits++) {
        n = snprintf(out, sizeof(out), "%.*g", digits, v);
        double back = single ? (double)strtof(out, NULL) : strtod(out, NULL);
        if (!(back < v) && !(back > v)) {
            break;
        }
    }
    ctd_text_append(t, out, (uint64_t)n);
    if (strpbrk(out, ".e") == NULL) { /* keeps it a double when it is read back */
        ctd_text_append(t, ".0", 2);
    }
    return CTD_OK;
}

static void put_raw(ctd_text *t, const char *s, size_t n)
{
    while (n > 0 && strchr(" \t\r\n", s[0]) != NULL && s[0] != '\0') {
        s++;
        n--;
    }
    while (n > 0 && strchr(" \t\r\n", s[n - 1]) != NULL && s[n - 1] != '\0') {
        n--;
    }
    ctd_text_append(t, s, n);
}

static ctd_status put_value(ctd_text *t, const ctd_value *v, int depth, ctd_error *err);

/* As Connect has it: an object when every key is a string, else an array of [key, value]. */
static ctd_status put_map(ctd_text *t, const ctd_value *v, int depth, ctd_error *err)
{
    int object = 1;
    for (size_t i = 0; i < v->len && object; i++) {
        object = v->u.items[2 * i].type == CTD_STRING;
    }
    put_char(t, object ? '{' : '[');
    for (size_t i = 0; i < v->len; i++) {
        const ctd_value *key = &v->u.items[2 * i];
        if (i > 0) {
            put_char(t, ',');
        }
        if (!object) {
            put_char(t, '[');
        }
        ctd_status rc =
            object ? put_string(t, key->u.str, key->len, err) : put_value(t, key, depth + 1, err);
        if (rc == CTD_OK) {
            put_char(t, object ? ':' : ',');
            rc = put_value(t, key + 1, depth + 1, err);
        }
        if (rc != CTD_OK) {
            return rc;
        }
        if (!object) {
            put_char(t, ']');
        }
    }
    put_char(t, object ? '}' : ']');
    return CTD_OK;
}

static ctd_status put_array(ctd_text *t, const ctd_value *v, int depth, ctd_error *err)
{
    put_char(t, '[');
    for (size_t i = 0; i < v->len; i++) {
        if (i > 0) {
            put_char(t, ',');
        }
        ctd_status rc = put_value(t, &v->u.items[i], depth + 1, err);
        if (rc != CTD_OK) {
            return rc;
        }
    }
    put_char(t, ']');
    return CTD_OK;
}

static ctd_status put_value(ctd_text *t, const ctd_value *v, int depth, ctd_error *err)
{
    if (depth > MAX_DEPTH) {
        return ctd_fail(err, CTD_E_DATA, "a value is nested deeper than %d", MAX_DEPTH);
    }
    switch (v->type) {
    case CTD_NULL:
        ctd_text_append(t, "null", 4);
        return CTD_OK;
    case CTD_BOOL:
        ctd_text_append(t, v->u.i != 0 ? "true" : "false", v->u.i != 0 ? 4 : 5);
        return CTD_OK;
    case CTD_I8:
    case CTD_I16:
    case CTD_I32:
    case CTD_I64:
        put_i64(t, v->u.i);
        return CTD_OK;
    case CTD_F32:
        return put_f64(t, (double)v->u.f32, 1, err);
    case CTD_F64:
        return put_f64(t, v->u.f64, 0, err);
    case CTD_STRING:
        if ((v->flags & CTD_VF_RAW_JSON) != 0) {
            put_raw(t, v->u.str, v->len);
            return CTD_OK;
        }
        return put_string(t, v->u.str, v->len, err);
    case CTD_BYTES:
        put_base64(t, v->u.bytes, v->len);
        return CTD_OK;
    case CTD_ARRAY:
        return put_array(t, v, depth, err);
    case CTD_MAP:
        return put_map(t, v, depth, err);
    case CTD_STRUCT:
        return ctd_fail(err, CTD_E_UNSUPPORTED, "a struct as JSON needs its schema: not built yet");
    default:
        return ctd_fail(err, CTD_E_DATA, "a value of unknown type %d", v->type);
    }
}

ctd_status ctd_json_write(ctd_text *t, const ctd_value *v, ctd_error *err)
{
    uint64_t start = t->len;
    ctd_status rc = put_value(t, v, 0, err);
    if (rc == CTD_OK && t->status == CTD_E_NOMEM) {
        rc = ctd_fail(err, CTD_E_NOMEM, "no memory for a JSON text");
    } else if (rc == CTD_OK && t->status != CTD_OK) {
        rc = ctd_fail(err, CTD_E_DATA, "a JSON text exceeds its limit of %" PRIu64 " bytes",
                      t->limit != 0 ? t->limit : DEFAULT_LIMIT);
    }
    if (rc != CTD_OK) {
        t->len = start;
    }
    return rc;
}
