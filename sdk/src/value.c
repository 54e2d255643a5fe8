/* Reading values. No state. */
#include <connectd/sdk.h>

const ctd_value *ctd_map_get(const ctd_value *map, const char *key)
{
    if (map == NULL || map->type != CTD_MAP) {
        return NULL;
    }
    size_t n = strlen(key);
    for (uint32_t i = map->len; i > 0; i--) {
        const ctd_value *k = &map->u.items[2 * (size_t)(i - 1)];
        if (k->type == CTD_STRING && k->len == n && memcmp(k->u.str, key, n) == 0) {
            return k + 1;
        }
    }
    return NULL;
}

int64_t ctd_map_i64(const ctd_value *map, const char *key, int64_t otherwise)
{
    const ctd_value *v = ctd_map_get(map, key);
    return v != NULL && ctd_v_is_int(v) ? v->u.i : otherwise;
}

ctd_slice ctd_map_str(const ctd_value *map, const char *key)
{
    const ctd_value *v = ctd_map_get(map, key);
    return v != NULL && v->type == CTD_STRING ? ctd_slice_of(v->u.str, v->len)
                                              : ctd_slice_of(NULL, 0);
}

static int bytes_equal(const void *a, const void *b, size_t n)
{
    return n == 0 || memcmp(a, b, n) == 0;
}

static int maps_equal(const ctd_value *a, const ctd_value *b)
{
    for (size_t i = 0; i < a->len; i++) {
        int found = 0;
        for (size_t j = 0; j < b->len && !found; j++) {
            found = ctd_v_equal(&a->u.items[2 * i], &b->u.items[2 * j]) &&
                    ctd_v_equal(&a->u.items[2 * i + 1], &b->u.items[2 * j + 1]);
        }
        if (!found) {
            return 0;
        }
    }
    return 1;
}

int ctd_v_equal(const ctd_value *a, const ctd_value *b)
{
    int integers =
        a->type >= CTD_I8 && a->type <= CTD_I64 && b->type >= CTD_I8 && b->type <= CTD_I64;
    if (a->type != b->type && !integers) {
        return 0;
    }
    switch (a->type) {
    case CTD_NULL:
        return 1;
    case CTD_F32:
        return !(a->u.f32 < b->u.f32) && !(a->u.f32 > b->u.f32);
    case CTD_F64:
        return !(a->u.f64 < b->u.f64) && !(a->u.f64 > b->u.f64);
    case CTD_STRING:
    case CTD_BYTES:
        return a->len == b->len && bytes_equal(a->u.bytes, b->u.bytes, a->len);
    case CTD_MAP:
        return a->len == b->len && maps_equal(a, b);
    case CTD_ARRAY:
    case CTD_STRUCT:
        if (a->len != b->len) {
            return 0;
        }
        for (size_t i = 0; i < a->len; i++) {
            if (!ctd_v_equal(&a->u.items[i], &b->u.items[i])) {
                return 0;
            }
        }
        return 1;
    default:
        return a->u.i == b->u.i;
    }
}
