/* Log lines to stderr. The level is the only state, and it is atomic. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static _Atomic int current_level = LOG_LEVEL_INFO;
static const char *const level_names[] = {"", "error", "warn", "info", "debug"};

void log_set_level(int level)
{
    atomic_store(&current_level, level);
}

int log_get_level(void)
{
    return atomic_load(&current_level);
}

int log_level_parse(const char *text, int *ret)
{
    for (int i = LOG_LEVEL_ERROR; i <= LOG_LEVEL_DEBUG; i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *ret = i;
            return 0;
        }
    }
    return ERR_INVAL;
}

/* Writes `text` escaped into out[at..cap) and returns the new end; always leaves 3 bytes of room.
 * */
static size_t escape(char *out, size_t at, size_t cap, const char *text)
{
    for (; *text != '\0' && at + 8 < cap; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            out[at++] = '\\';
            out[at++] = (char)c;
        } else if (c == '\n') {
            out[at++] = '\\';
            out[at++] = 'n';
        } else if (c < 0x20 || c == 0x7f) {
            at += (size_t)snprintf(out + at, cap - at, "\\x%02x", c);
        } else {
            out[at++] = (char)c;
        }
    }
    return at;
}

void log_write(int level, const char *module, const char *keys, const char *fmt, ...)
{
    if (level > atomic_load_explicit(&current_level, memory_order_relaxed)) {
        return;
    }
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);

    struct timespec now;
    struct tm tm;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &tm);
    char stamp[32];
    (void)strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);

    char line[4096];
    int n = snprintf(line, sizeof(line) / 2, "ts=%s.%03ldZ level=%s module=%s %s%smsg=\"", stamp,
                     now.tv_nsec / 1000000, level_names[level], module, keys != NULL ? keys : "",
                     keys != NULL ? " " : "");
    size_t at = n < 0 ? 0 : (size_t)n < sizeof(line) / 2 ? (size_t)n : sizeof(line) / 2 - 1;
    at = escape(line, at, sizeof(line), text);
    line[at++] = '"';
    line[at++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, at);
    (void)ignored;
}
