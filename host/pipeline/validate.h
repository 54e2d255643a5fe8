/* validate: one connector's config against the framework's options and its class's. No state. */
#ifndef PIPELINE_VALIDATE_H
#define PIPELINE_VALIDATE_H

#include "pipeline/config.h"
#include "pipeline/plugins.h"

/* Adds every problem to `findings` (with the connector's name); returns how many. */
size_t pipeline_validate_connector(const struct decl_connector *c, const struct host_config *host,
                                   const struct plugins *plugins, struct findings *findings);
/* Every connector and every plugin that was refused and is asked for. Returns how many findings. */
size_t pipeline_validate_all(const struct declared *d, const struct host_config *host,
                             const struct plugins *plugins, struct findings *findings);
/* Makes the class's paths absolute against the working directory. ERR_NOMEM. */
int pipeline_validate_paths(const struct plugin_class *class_, struct kv_list *config) MUST_USE;
/* What the runner is given: the connector's own keys, "name", and the host's converters and
 * intervals where it names none. ERR_NOMEM. */
int pipeline_validate_effective(const struct decl_connector *c, const struct host_config *host,
                                struct kv_list *ret) MUST_USE;

#endif
