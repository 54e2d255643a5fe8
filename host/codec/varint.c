/*
 * Zig-zag varints as Kafka's records have them: seven bits a byte, lowest first, the top bit set on
 * all but the last. No state.
 */
#include "codec/codec.h"

static size_t put(uint8_t *out, uint64_t v)
{
    size_t n = 0;
    while (v >= 0x80) {
        out[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    out[n++] = (uint8_t)v;
    return n;
}

static size_t size(uint64_t v)
{
    size_t n = 1;
    while (v >= 0x80) {
        v >>= 7;
        n++;
    }
    return n;
}

static uint64_t zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0);
}

static int64_t unzigzag(uint64_t v)
{
    return (int64_t)((v >> 1) ^ (0 - (v & 1)));
}

/* `bits` is 32 or 64: a value that needs more is refused, as is a sixth or eleventh byte. */
static size_t get(const uint8_t *p, size_t n, unsigned bits, uint64_t *ret)
{
    uint64_t v = 0;
    unsigned shift = 0;
    for (size_t i = 0; i < n && shift < bits; i++, shift += 7) {
        uint64_t part = p[i] & 0x7fu;
        if (bits - shift < 7 && part >> (bits - shift) != 0) {
            return 0;
        }
        v |= part << shift;
        if ((p[i] & 0x80) == 0) {
            *ret = v;
            return i + 1;
        }
    }
    return 0;
}

/* A zig-zagged int32 as 64 bits differs from its 32-bit form in nothing but zero bits on top. */
size_t codec_varint_put(uint8_t *out, int32_t v)
{
    return put(out, zigzag(v));
}

size_t codec_varlong_put(uint8_t *out, int64_t v)
{
    return put(out, zigzag(v));
}

size_t codec_varint_size(int32_t v)
{
    return size(zigzag(v));
}

size_t codec_varlong_size(int64_t v)
{
    return size(zigzag(v));
}

size_t codec_varint_get(const uint8_t *p, size_t n, int32_t *ret)
{
    if (n > 0 && p[0] < 0x80) { /* nearly all of a record's are one byte */
        *ret = (int32_t)unzigzag(p[0]);
        return 1;
    }
    uint64_t v;
    size_t used = get(p, n, 32, &v);
    if (used > 0) {
        *ret = (int32_t)unzigzag(v);
    }
    return used;
}

size_t codec_varlong_get(const uint8_t *p, size_t n, int64_t *ret)
{
    uint64_t v;
    size_t used = get(p, n, 64, &v);
    if (used > 0) {
        *ret = unzigzag(v);
    }
    return used;
}
