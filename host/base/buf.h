/*
 * A growable byte buffer with a hard limit and a sticky error: append freely, check once.
 *
 * After the first failed append (limit reached or no memory) `error` holds ERR_LIMIT or ERR_NOMEM
 * and every further append does nothing. Not thread-safe.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct buf {
    uint8_t *data; /* NULL until the first append; owned */
    size_t len;
    size_t cap;
    size_t limit; /* bytes; 0 means 64 MiB */
    int error;    /* 0, ERR_LIMIT or ERR_NOMEM; sticky until buf_clear() */
};

#define BUF_INIT(limit_bytes)                                                                      \
    {                                                                                              \
        NULL, 0, 0, (limit_bytes), 0                                                               \
    }

void buf_init(struct buf *b, size_t limit_bytes);
void buf_clear(struct buf *b); /* keeps the memory, forgets the contents and the error */
void buf_free(struct buf *b);  /* NULL-safe; leaves an empty, usable buffer */

/* Makes room for `n` more bytes; NULL on failure (sticky). The room is not counted in len. */
uint8_t *buf_reserve(struct buf *b, size_t n);
/* Reserves and counts: the caller fills the returned `n` bytes. NULL on failure. */
uint8_t *buf_extend(struct buf *b, size_t n);

void buf_append(struct buf *b, const void *p, size_t n);
void buf_append_str(struct buf *b, const char *s);
void buf_append_u8(struct buf *b, uint8_t v);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Fixed-width little-endian (our own frames and files) and big-endian (Kafka's). */
void buf_append_le16(struct buf *b, uint16_t v);
void buf_append_le32(struct buf *b, uint32_t v);
void buf_append_le64(struct buf *b, uint64_t v);
void buf_append_be16(struct buf *b, uint16_t v);
void buf_append_be32(struct buf *b, uint32_t v);
void buf_append_be64(struct buf *b, uint64_t v);

/* Terminates with a NUL that is not counted in len; "" when empty or failed. Borrowed. */
const char *buf_cstr(struct buf *b);
/* Hands the memory to the caller (free()) and leaves the buffer empty; NULL if failed or empty. */
uint8_t *buf_take(struct buf *b, size_t *ret_len);

/* ---- reading: a cursor over borrowed bytes with a sticky error ---- */
struct cursor {
    const uint8_t *p;
    size_t left;
    int error; /* 0 or ERR_DATA: something asked for more than there was */
};

void cursor_init(struct cursor *c, const void *p, size_t n);
/* Each returns 0 (or NULL) once the cursor has failed. */
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_le16(struct cursor *c);
uint32_t cursor_le32(struct cursor *c);
uint64_t cursor_le64(struct cursor *c);
uint16_t cursor_be16(struct cursor *c);
uint32_t cursor_be32(struct cursor *c);
uint64_t cursor_be64(struct cursor *c);
const uint8_t *cursor_bytes(struct cursor *c, size_t n); /* borrowed; NULL on failure */

#endif
