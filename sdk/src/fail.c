/* Errors, logs and options for plugins. No state. */
#include <connectd/sdk.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Cuts at the last whole character when the text doesn't fit: messages are UTF-8. */
static void cut(char *text, size_t cap, int wanted)
{
    if (wanted < 0 || (size_t)wanted < cap) {
        return;
    }
    size_t n = cap - 1;
    size_t start = n;
    while (start > 0 && n - start < 3 && ((unsigned char)text[start - 1] & 0xC0) == 0x80) {
        start--;
    }
    if (start == 0 || (unsigned char)text[start - 1] < 0xC0) {
        return;
    }
    unsigned char lead = (unsigned char)text[start - 1];
    size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (n - (start - 1) < need) {
        text[start - 1] = '\0';
    }
}

static ctd_status fill(ctd_error *err, ctd_status status, const char *fmt, va_list ap)
{
    if (err == NULL) {
        return status;
    }
    *err = (ctd_error){.status = status, .record_index = -1, .retry_after_ms = -1};
    int n = vsnprintf(err->message, sizeof(err->message), fmt, ap);
    cut(err->message, sizeof(err->message), n);
    return status;
}

ctd_status ctd_fail(ctd_error *err, ctd_status status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fill(err, status, fmt, ap);
    va_end(ap);
    return status;
}

ctd_status ctd_fail_errno(ctd_error *err, ctd_status status, const char *fmt, ...)
{
    int saved = errno;
    va_list ap;
    va_start(ap, fmt);
    fill(err, status, fmt, ap);
    va_end(ap);
    if (err != NULL) {
        char text[128];
        size_t at = strlen(err->message);
        err->sys_errno = saved;
        int n = snprintf(err->message + at, sizeof(err->message) - at, ": %s",
                         strerror_r(saved, text, sizeof(text)));
        cut(err->message + at, sizeof(err->message) - at, n);
    }
    errno = saved;
    return status;
}

ctd_status ctd_fail_record(ctd_error *err, uint64_t index, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fill(err, CTD_E_DATA, fmt, ap);
    va_end(ap);
    if (err != NULL) {
        err->record_index = (int64_t)index;
    }
    return CTD_E_DATA;
}

ctd_status ctd_fail_retry(ctd_error *err, int64_t after_ms, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fill(err, CTD_E_RETRIABLE, fmt, ap);
    va_end(ap);
    if (err != NULL) {
        err->retry_after_ms = after_ms;
    }
    return CTD_E_RETRIABLE;
}

void ctd_log(const ctd_host *host, int32_t level, const char *fmt, ...)
{
    if (!host->log_enabled(host, level)) {
        return;
    }
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    cut(text, sizeof(text), n);
    host->log(host, level, text);
}

char *ctd_cfg_dup(const ctd_host *h, const ctd_config *c, const char *key, const char *otherwise)
{
    ctd_slice v = ctd_cfg_slice(h, c, key);
    if (v.ptr == NULL) {
        v = ctd_slice_str(otherwise);
    }
    if (v.ptr == NULL) {
        return NULL;
    }
    char *copy = malloc(v.len + 1);
    if (copy != NULL) {
        memcpy(copy, v.ptr, v.len);
        copy[v.len] = '\0';
    }
    return copy;
}
