/* Growable byte buffer and reading cursor. */
#include "base/buf.h"

#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_DEFAULT_LIMIT ((size_t)64 << 20)

void buf_init(struct buf *b, size_t limit_bytes)
{
    *b = (struct buf)BUF_INIT(limit_bytes);
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->error = 0;
}

void buf_free(struct buf *b)
{
    if (b == NULL) {
        return;
    }
    free(b->data);
    b->data = NULL;
    b->len = 0;
    b->cap = 0;
    b->error = 0;
}

uint8_t *buf_reserve(struct buf *b, size_t n)
{
    if (b->error != 0) {
        return NULL;
    }
    size_t limit = b->limit != 0 ? b->limit : BUF_DEFAULT_LIMIT;
    if (n > limit || b->len > limit - n) {
        b->error = ERR_LIMIT;
        return NULL;
    }
    size_t need = b->len + n;
    if (need <= b->cap) {
        return b->data + b->len;
    }
    size_t cap = b->cap != 0 ? b->cap : 256;
    while (cap < need) {
        cap *= 2;
    }
    if (cap > limit) {
        cap = limit;
    }
    uint8_t *data = realloc(b->data, cap);
    if (data == NULL) {
        b->error = ERR_NOMEM;
        return NULL;
    }
    b->data = data;
    b->cap = cap;
    return b->data + b->len;
}

uint8_t *buf_extend(struct buf *b, size_t n)
{
    uint8_t *p = buf_reserve(b, n);
    if (p != NULL) {
        b->len += n;
    }
    return p;
}

void buf_append(struct buf *b, const void *p, size_t n)
{
    if (n == 0) {
        return;
    }
    uint8_t *dst = buf_extend(b, n);
    if (dst != NULL) {
        memcpy(dst, p, n);
    }
}

void buf_append_str(struct buf *b, const char *s)
{
    buf_append(b, s, strlen(s));
}

void buf_append_u8(struct buf *b, uint8_t v)
{
    buf_append(b, &v, 1);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n >= 0) {
        uint8_t *dst = buf_reserve(b, (size_t)n + 1);
        if (dst != NULL) {
            (void)vsnprintf((char *)dst, (size_t)n + 1, fmt, again);
            b->len += (size_t)n;
        }
    }
    va_end(again);
}

void buf_append_le16(struct buf *b, uint16_t v)
{
    v = htole16(v);
    buf_append(b, &v, sizeof(v));
}

void buf_append_le32(struct buf *b, uint32_t v)
{
    v = htole32(v);
    buf_append(b, &v, sizeof(v));
}

void buf_append_le64(struct buf *b, uint64_t v)
{
    v = htole64(v);
    buf_append(b, &v, sizeof(v));
}

void buf_append_be16(struct buf *b, uint16_t v)
{
    v = htobe16(v);
    buf_append(b, &v, sizeof(v));
}

void buf_append_be32(struct buf *b, uint32_t v)
{
    v = htobe32(v);
    buf_append(b, &v, sizeof(v));
}

void buf_append_be64(struct buf *b, uint64_t v)
{
    v = htobe64(v);
    buf_append(b, &v, sizeof(v));
}

const char *buf_cstr(struct buf *b)
{
    uint8_t *end = buf_reserve(b, 1);
    if (end == NULL) {
        return "";
    }
    *end = '\0';
    return (const char *)b->data;
}

uint8_t *buf_take(struct buf *b, size_t *ret_len)
{
    uint8_t *data = b->error == 0 ? b->data : NULL;
    if (ret_len != NULL) {
        *ret_len = data != NULL ? b->len : 0;
    }
    if (data == NULL) {
        buf_free(b);
        return NULL;
    }
    b->data = NULL;
    b->len = 0;
    b->cap = 0;
    return data;
}

void cursor_init(struct cursor *c, const void *p, size_t n)
{
    c->p = p;
    c->left = n;
    c->error = 0;
}

const uint8_t *cursor_bytes(struct cursor *c, size_t n)
{
    if (c->error != 0 || n > c->left) {
        c->error = ERR_DATA;
        return NULL;
    }
    const uint8_t *p = c->p;
    c->p += n;
    c->left -= n;
    return p;
}

uint8_t cursor_u8(struct cursor *c)
{
    const uint8_t *p = cursor_bytes(c, 1);
    return p != NULL ? *p : 0;
}

/* Copies n bytes into `out`, which stays zero when there are not that many. */
static void cursor_copy(struct cursor *c, void *out, size_t n)
{
    const uint8_t *p = cursor_bytes(c, n);
    if (p != NULL) {
        memcpy(out, p, n);
    }
}

uint16_t cursor_le16(struct cursor *c)
{
    uint16_t v = 0;
    cursor_copy(c, &v, sizeof(v));
    return le16toh(v);
}

uint32_t cursor_le32(struct cursor *c)
{
    uint32_t v = 0;
    cursor_copy(c, &v, sizeof(v));
    return le32toh(v);
}

uint64_t cursor_le64(struct cursor *c)
{
    uint64_t v = 0;
    cursor_copy(c, &v, sizeof(v));
    return le64toh(v);
}

uint16_t cursor_be16(struct cursor *c)
{
    uint16_t v = 0;
    cursor_copy(c, &v, sizeof(v));
    return be16toh(v);
}

uint32_t cursor_be32(struct cursor *c)
{
    uint32_t v = 0;
    cursor_copy(c, &v, sizeof(v));
    return be32toh(v);
}

uint64_t cursor_be64(struct cursor *c)
{
    uint64_t v = 0;
    cursor_copy(c, &v, sizeof(v));
    return be64toh(v);
}
