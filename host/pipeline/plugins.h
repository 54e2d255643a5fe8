/* plugins: the folders of plugin.path, what was found there and what was refused. Read once at
 * start. */
#ifndef PIPELINE_PLUGINS_H
#define PIPELINE_PLUGINS_H

#include "pipeline/config.h"
#include "pipeline/describe.h"

struct plugin_refusal {
    char *file, *reason;
};
struct plugins {
    struct plugin_class *classes;
    size_t n_classes;
    struct plugin_refusal *refused;
    size_t n_refused;
};

/* Looks at every *.so directly in a folder of plugin.path or one folder deep. With `data_dir` each
 * file is first copied to DATA/plugins/SHA256/ and its description kept there; NULL: nothing is
 * written. A file that cannot be a plugin is a refusal, not an error. Blocking; ERR_NOMEM only. */
int pipeline_plugins_load(const struct host_config *host, const char *runner, const char *data_dir,
                          struct plugins *ret, struct err *err) MUST_USE;
void pipeline_plugins_free(struct plugins *p);

/* By name or alias; NULL when unknown. */
const struct plugin_class *pipeline_plugins_find(const struct plugins *p, const char *name);
/* The nearest class name, or NULL. */
const char *pipeline_plugins_nearest(const struct plugins *p, const char *name);

#endif
