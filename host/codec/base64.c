/* Base64 of RFC 4648, section 4, with padding; decoding takes nothing else: no blanks, no bits
 * left over. No state. */
#include "codec/codec.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void codec_base64_put(struct buf *out, const void *p, size_t n)
{
    const uint8_t *in = p;
    uint8_t *at = n / 3 < SIZE_MAX / 4 - 1 ? buf_extend(out, (n + 2) / 3 * 4) : NULL;
    if (at == NULL) {
        return;
    }
    for (size_t i = 0; i < n; i += 3) {
        uint32_t w = (uint32_t)in[i] << 16;
        w |= i + 1 < n ? (uint32_t)in[i + 1] << 8 : 0;
        w |= i + 2 < n ? in[i + 2] : 0;
        *at++ = (uint8_t)digits[w >> 18];
        *at++ = (uint8_t)digits[(w >> 12) & 63];
        *at++ = (uint8_t)(i + 1 < n ? digits[(w >> 6) & 63] : '=');
        *at++ = (uint8_t)(i + 2 < n ? digits[w & 63] : '=');
    }
}

/* The six bits of a digit, or -1. */
static int bits_of(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int codec_base64_get(const char *text, size_t n, struct buf *out, struct err *err)
{
    if (n % 4 != 0) {
        return err_set(err, ERR_DATA, "base64 of %zu characters: not a multiple of 4", n);
    }
    size_t pad = 0;
    while (pad < 2 && pad < n && text[n - 1 - pad] == '=') {
        pad++;
    }
    size_t was = out->len;
    uint8_t *to = n > 0 ? buf_extend(out, n / 4 * 3 - pad) : NULL;
    if (n > 0 && to == NULL) {
        return err_set(err, out->error, "no room for base64 of %zu characters", n);
    }
    uint32_t w = 0;
    for (size_t i = 0; i < n; i++) {
        int bits = i >= n - pad ? 0 : bits_of(text[i]);
        if (bits < 0) {
            out->len = was;
            return err_set(err, ERR_DATA, "base64: bad character at %zu", i);
        }
        w = w << 6 | (uint32_t)bits;
        if (i % 4 != 3) {
            continue;
        }
        size_t drop = i == n - 1 ? pad : 0;
        if ((w & ((1u << (8 * drop)) - 1)) != 0) {
            out->len = was;
            return err_set(err, ERR_DATA, "base64: bits left over at its end");
        }
        *to++ = (uint8_t)(w >> 16);
        if (drop < 2) {
            *to++ = (uint8_t)(w >> 8);
        }
        if (drop < 1) {
            *to++ = (uint8_t)w;
        }
        w = 0;
    }
    return 0;
}
