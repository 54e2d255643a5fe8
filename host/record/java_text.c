/* Values as Java's toString() prints them. No state. */
#include "record/java_text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_DEPTH = 64 };

const char *record_type_name(uint8_t type)
{
    static const char *const names[] = {"null",  "boolean", "int8",    "int16",  "int32",
                                        "int64", "float32", "float64", "string", "bytes",
                                        "array", "map",     "struct"};
    return type < sizeof(names) / sizeof(names[0]) ? names[type] : "unknown";
}

static void put(ctd_text *t, const char *s)
{
    ctd_text_append(t, s, strlen(s));
}

/* The fewest significant digits that read back (of at least two, as Java chooses them), without
 * zeros at their end, and the decimal exponent of the first. */
static size_t shortest(double a, int single, char digits[20], int *ret_exponent)
{
    char text[40];
    for (int n = 1; n < 17; n++) {
        (void)snprintf(text, sizeof(text), "%.*e", n, a);
        double back = single ? (double)strtof(text, NULL) : strtod(text, NULL);
        if (!(back < a) && !(back > a)) {
            break;
        }
    }
    size_t n = 0;
    const char *p = text;
    for (; *p != 'e'; p++) {
        if (*p != '.') {
            digits[n++] = *p;
        }
    }
    *ret_exponent = (int)strtol(p + 1, NULL, 10);
    while (n > 1 && digits[n - 1] == '0') {
        n--;
    }
    digits[n] = '\0';
    return n;
}

/* Double.toString and Float.toString: plain from 10^-3 up to below 10^7, else d.dddE±n; always a
 * digit behind the point. */
static void put_double(ctd_text *t, double v, int single)
{
    if (!isfinite(v)) {
        put(t, isnan(v) ? "NaN" : v > 0 ? "Infinity" : "-Infinity");
        return;
    }
    if (signbit(v)) {
        put(t, "-");
    }
    double a = fabs(v);
    char digits[20];
    int e = 0;
    size_t n = shortest(a, single, digits, &e);
    char out[64];
    if (!(a > 0)) {
        put(t, "0.0");
    } else if (a < 1e-3 || a >= 1e7) {
        (void)snprintf(out, sizeof(out), "%c.%sE%d", digits[0], n > 1 ? digits + 1 : "0", e);
        put(t, out);
    } else if (e < 0) {
        (void)snprintf(out, sizeof(out), "0.%.*s%s", -e - 1, "00", digits);
        put(t, out);
    } else {
        size_t whole = (size_t)e + 1;
        for (size_t i = 0; i < whole; i++) {
            ctd_text_append(t, i < n ? &digits[i] : "0", 1);
        }
        put(t, ".");
        put(t, n > whole ? digits + whole : "0");
    }
}

static ctd_status put_value(ctd_text *t, const ctd_value *v, int depth, ctd_error *err);

static ctd_status put_items(ctd_text *t, const ctd_value *v, int depth, ctd_error *err)
{
    int map = v->type == CTD_MAP;
    put(t, map ? "{" : "[");
    for (size_t i = 0; i < v->len; i++) {
        const ctd_value *item = &v->u.items[map ? 2 * i : i];
        if (i > 0) {
            put(t, ", ");
        }
        ctd_status rc = put_value(t, item, depth + 1, err);
        if (rc == CTD_OK && map) {
            put(t, "=");
            rc = put_value(t, item + 1, depth + 1, err);
        }
        if (rc != CTD_OK) {
            return rc;
        }
    }
    put(t, map ? "}" : "]");
    return CTD_OK;
}

static ctd_status put_value(ctd_text *t, const ctd_value *v, int depth, ctd_error *err)
{
    char out[24];
    if (depth > MAX_DEPTH) {
        return ctd_fail(err, CTD_E_DATA, "a value is nested deeper than %d", MAX_DEPTH);
    }
    switch (v->type) {
    case CTD_NULL:
        put(t, "null");
        return CTD_OK;
    case CTD_BOOL:
        put(t, v->u.i != 0 ? "true" : "false");
        return CTD_OK;
    case CTD_I8:
    case CTD_I16:
    case CTD_I32:
    case CTD_I64:
        (void)snprintf(out, sizeof(out), "%" PRId64, v->u.i);
        put(t, out);
        return CTD_OK;
    case CTD_F32:
        put_double(t, (double)v->u.f32, 1);
        return CTD_OK;
    case CTD_F64:
        put_double(t, v->u.f64, 0);
        return CTD_OK;
    case CTD_STRING:
        ctd_text_append(t, v->u.str, v->len);
        return CTD_OK;
    case CTD_ARRAY:
    case CTD_MAP:
        return put_items(t, v, depth, err);
    case CTD_BYTES:
        return ctd_fail(err, CTD_E_DATA,
                        "StringConverter can't print bytes: use ByteArrayConverter for them");
    default:
        return ctd_fail(err, CTD_E_UNSUPPORTED,
                        "StringConverter can't print a value of type %s yet",
                        record_type_name(v->type));
    }
}

ctd_status record_java_text(ctd_text *t, const ctd_value *v, ctd_error *err)
{
    ctd_status rc = put_value(t, v, 0, err);
    if (rc == CTD_OK && t->status != CTD_OK) {
        return ctd_fail(err, t->status, "a value's text needs more memory than it may have");
    }
    return rc;
}
