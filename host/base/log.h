/*
 * Logging: one key=value line an event, to stderr:
 *   ts=2026-01-01T00:00:00.000Z level=info module=plog msg="..."
 * Values are escaped, so a line break in user data cannot forge a line. Thread-safe; one write(2)
 * a line. Library code returns errors and does not log: the owner of a decision logs it once.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/err.h"

enum log_level { LOG_LEVEL_ERROR = 1, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_set_level(int level);
int log_get_level(void);
int log_level_parse(const char *text, int *ret) MUST_USE; /* "error" "warn" "info" "debug" */

/* `keys` is a preformatted, already escaped run of key=value pairs, or NULL. */
void log_write(int level, const char *module, const char *keys, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

#define LOG_ERROR(module, ...) log_write(LOG_LEVEL_ERROR, module, NULL, __VA_ARGS__)
#define LOG_WARN(module, ...)  log_write(LOG_LEVEL_WARN, module, NULL, __VA_ARGS__)
#define LOG_INFO(module, ...)  log_write(LOG_LEVEL_INFO, module, NULL, __VA_ARGS__)
#define LOG_DEBUG(module, ...) log_write(LOG_LEVEL_DEBUG, module, NULL, __VA_ARGS__)

#endif
