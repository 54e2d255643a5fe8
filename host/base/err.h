/*
 * Errors: a function that can fail returns 0 or a negative ERR_* and takes, as its last parameter,
 * a caller-owned `struct err`. On failure the callee fills it; each caller may put its own context
 * in front with err_prefix(). Nothing in here is allocated, so nothing has to be freed.
 *
 * An `err` argument may be NULL wherever it appears: the code alone is then returned.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdint.h>

#define MUST_USE                __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))

/* The first ten are the plugin ABI's own status codes (connectd/abi.h), number for number. */
enum err_code {
    ERR_OK = 0,
    ERR_CONFIG = -1,    /* the user wrote something that cannot work */
    ERR_DATA = -2,      /* a record, file or frame is malformed */
    ERR_IO = -3,        /* the operating system refused; sys_errno says how */
    ERR_RETRIABLE = -4, /* the same call may succeed later */
    ERR_FATAL = -5,
    ERR_CANCELLED = -6,
    ERR_NOMEM = -7,
    ERR_UNSUPPORTED = -8,
    ERR_FENCED = -9, /* a newer owner exists */
    ERR_NOT_FOUND = -20,
    ERR_EXISTS = -21,
    ERR_NOSPC = -22,   /* disk or quota full */
    ERR_CORRUPT = -23, /* stored bytes fail their checksum or shape */
    ERR_TIMEOUT = -24,
    ERR_LIMIT = -25, /* a byte or count limit was reached */
    ERR_STALE = -26, /* the caller acted on an older epoch or topic id */
    ERR_INVAL = -27, /* a programming error or an argument out of range */
    ERR_BUSY = -28,  /* somebody else holds it */
};

struct err {
    int code;
    int sys_errno; /* errno behind ERR_IO and ERR_NOSPC, else 0 */
    char msg[1024];
};

/* Starts as "no error". */
#define ERR_INIT                                                                                   \
    {                                                                                              \
        0, 0,                                                                                      \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }

/* Each of these returns `code` (err_prefix: e's code), so that `return err_set(...)` reads well. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Appends ": <strerror(errno)>" and keeps errno; ENOSPC and EDQUOT become ERR_NOSPC whatever `code`
 * says, so that every full disk is recognised the same way. */
int err_set_errno(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Puts "<fmt>: " in front of what is there. */
int err_prefix(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

void err_clear(struct err *e);
void err_copy(struct err *dst, const struct err *src);

/* "io", "retriable", ... : a stable lower-case word for a code, never NULL. */
const char *err_name(int code);

/* Returns from the calling function when `x` fails. Only where nothing has to be cleaned up. */
#define TRY(x)                                                                                     \
    do {                                                                                           \
        int try_rc_ = (x);                                                                         \
        if (try_rc_ < 0) {                                                                         \
            return try_rc_;                                                                        \
        }                                                                                          \
    } while (0)

/* A broken invariant of our own (never a plugin's or a user's fault): stops the process, in release
 * builds too, because going on could damage data. */
_Noreturn void err_bug(const char *file, int line, const char *what);
#define BUG_ON(cond)                                                                               \
    do {                                                                                           \
        if (cond) {                                                                                \
            err_bug(__FILE__, __LINE__, #cond);                                                    \
        }                                                                                          \
    } while (0)

#endif
