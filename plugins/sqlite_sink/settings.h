/* settings: the options of SqliteSink, read once and checked. Immutable after settings_read(); any
 * thread. */
#ifndef SQLITE_SINK_SETTINGS_H
#define SQLITE_SINK_SETTINGS_H

#include <stddef.h>
#include <stdint.h>

#include "connectd/abi.h"

enum insert_mode { INSERT_PLAIN = 0, INSERT_UPSERT, INSERT_UPDATE };
enum pk_mode { PK_NONE = 0, PK_KAFKA, PK_RECORD_KEY, PK_RECORD_VALUE };
enum { SETTINGS_MAX_PK = 64 };

struct settings {
    char *path; /* of the database file */
    char *table_format;
    enum insert_mode insert_mode;
    enum pk_mode pk_mode;
    char *pk_fields[SETTINGS_MAX_PK]; /* with PK_KAFKA always three */
    size_t n_pk_fields;
    int auto_create, auto_evolve, delete_enabled;
    uint64_t batch_size;
    int64_t busy_timeout_ms;
};

enum { SETTINGS_N_KEYS = 10 };
extern const ctd_config_key settings_keys[SETTINGS_N_KEYS];

/* Findings across options; each option by itself is checked by the host, from the table. Pure. */
ctd_status settings_validate(const ctd_host *host, const ctd_config *config, ctd_issues *issues);
/* CTD_E_CONFIG with the first finding, or CTD_E_NOMEM; `ret` is to be cleared in any case. */
ctd_status settings_read(const ctd_host *host, const ctd_config *config, struct settings *ret,
                         ctd_error *err);
void settings_clear(struct settings *s);

#endif
