/* Errors and broken invariants. No state. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int err_set(struct err *e, int code, const char *fmt, ...)
{
    if (e == NULL) {
        return code;
    }
    va_list ap;
    va_start(ap, fmt);
    e->code = code;
    e->sys_errno = 0;
    (void)vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    return code;
}

int err_set_errno(struct err *e, int code, const char *fmt, ...)
{
    int saved = errno;
    if (saved == ENOSPC || saved == EDQUOT) {
        code = ERR_NOSPC;
    }
    if (e == NULL) {
        return code;
    }
    va_list ap;
    va_start(ap, fmt);
    e->code = code;
    e->sys_errno = saved;
    int n = vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof(e->msg)) {
        char text[128];
        (void)snprintf(e->msg + n, sizeof(e->msg) - (size_t)n, ": %s",
                       strerror_r(saved, text, sizeof(text)));
    }
    errno = saved;
    return code;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
    if (e == NULL) {
        return ERR_FATAL;
    }
    char old[sizeof(e->msg)];
    memcpy(old, e->msg, sizeof(old));
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    size_t at = n > 0 ? (size_t)n : 0;
    if (at + 3 < sizeof(e->msg)) {
        size_t room = sizeof(e->msg) - at - 3;
        size_t len = strnlen(old, room);
        memcpy(e->msg + at, ": ", 2);
        memcpy(e->msg + at + 2, old, len);
        e->msg[at + 2 + len] = '\0';
    }
    return e->code;
}

void err_clear(struct err *e)
{
    if (e != NULL) {
        e->code = 0;
        e->sys_errno = 0;
        e->msg[0] = '\0';
    }
}

void err_copy(struct err *dst, const struct err *src)
{
    if (dst != NULL && src != NULL) {
        *dst = *src;
    }
}

const char *err_name(int code)
{
    switch (code) {
    case ERR_OK:
        return "ok";
    case ERR_CONFIG:
        return "config";
    case ERR_DATA:
        return "data";
    case ERR_IO:
        return "io";
    case ERR_RETRIABLE:
        return "retriable";
    case ERR_CANCELLED:
        return "cancelled";
    case ERR_NOMEM:
        return "nomem";
    case ERR_UNSUPPORTED:
        return "unsupported";
    case ERR_FENCED:
        return "fenced";
    case ERR_NOT_FOUND:
        return "not_found";
    case ERR_EXISTS:
        return "exists";
    case ERR_NOSPC:
        return "no_space";
    case ERR_CORRUPT:
        return "corrupt";
    case ERR_TIMEOUT:
        return "timeout";
    case ERR_LIMIT:
        return "limit";
    case ERR_STALE:
        return "stale";
    case ERR_INVAL:
        return "invalid";
    case ERR_BUSY:
        return "busy";
    default:
        return "fatal";
    }
}

_Noreturn void err_bug(const char *file, int line, const char *what)
{
    char text[512];
    int n = snprintf(text, sizeof(text), "BUG %s:%d: %s\n", file, line, what);
    if (n > 0) {
        size_t len = (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
        ssize_t ignored = write(STDERR_FILENO, text, len);
        (void)ignored;
    }
    abort();
}
