/* files: one pipeline file (YAML, Connect JSON, .properties) into declarations. No state. */
#ifndef PIPELINE_FILES_H
#define PIPELINE_FILES_H

#include "pipeline/config.h"

/* Reads `path` (shown as `given` in findings). Host keys go to `host_keys`; NULL: they are not
 * allowed here.
 * A file that cannot be read is a finding. ERR_NOMEM only. */
int pipeline_files_read(const char *path, const char *given, struct kv_list *host_keys,
                        struct declared *into, struct findings *findings, struct err *err) MUST_USE;
/* Every *.yaml, *.yml, *.json, *.properties directly in `dir`, by byte order of their names. */
int pipeline_files_read_dir(const char *dir, const char *given, struct declared *into,
                            struct findings *findings, struct err *err) MUST_USE;
/* Two declarations of one topic that differ, a connector name used twice: findings at the later
 * place; the later ones are dropped. */
void pipeline_files_merge(struct declared *d, struct findings *findings);

#endif
