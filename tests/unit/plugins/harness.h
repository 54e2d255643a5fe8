/*
 * harness: what a plugin sees of a host, within one process: options from pairs of text, a log that
 * is kept, offsets that are kept. The built .so is loaded with dlopen, so that what is tested is
 * what is shipped.
 */
#ifndef TESTS_PLUGINS_HARNESS_H
#define TESTS_PLUGINS_HARNESS_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <connectd/sdk.h>

struct harness {
    ctd_host host;
    const ctd_class *class;
    const char *const *pairs; /* key, value, ... NULL */
    void *self;
    char folder[64]; /* of its own, removed by harness_close() */
    ctd_error err;

    ctd_slice list[16]; /* backs cfg_list */
    pthread_mutex_t lock;
    char *logged; /* all lines, each with its level in front */
    size_t logged_len;

    ctd_value stored_items[6]; /* what ctd.offsets/1 answers */
    ctd_value stored;
    uint64_t seen; /* records taken from a source */
};

/* A new folder, nothing loaded yet. */
void harness_open(struct harness *h);
void harness_close(struct harness *h); /* destroys the instance too */
/* folder/name, in one of a few static buffers. */
const char *harness_path(struct harness *h, const char *name);
/* Loads plugins/NAME.so; pairs are borrowed until the instance is destroyed. */
void harness_use(struct harness *h, const char *name, const char *const *pairs);
ctd_status harness_create(struct harness *h);
void harness_destroy(struct harness *h);
/* How many times the log holds this text. */
int harness_logged(struct harness *h, const char *text);
/* The findings of validate(), each "key: text" and a newline. To be freed. */
char *harness_validate(struct harness *h);

void write_file(const char *path, const char *text);
void append_file(const char *path, const void *p, size_t n);
char *read_file(const char *path); /* to be freed */

int source_tests(void);
int file_sink_tests(void);
int sqlite_tests(void);
int sqlite_offset_tests(void);

#endif
