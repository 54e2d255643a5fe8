/*
 * preflight: what only the plugin itself can say about a config (its validate()), asked without
 * starting anything: a runner loads the plugin, checks the config and is ended. Same code in the
 * runner as when it runs.
 */
#ifndef PIPELINE_PREFLIGHT_H
#define PIPELINE_PREFLIGHT_H

#include "pipeline/config.h"
#include "pipeline/plugins.h"

/* For every connector without findings so far; adds what comes back to `findings`. Blocking, one
 * runner after the other, each at most 10 s. ERR_IO when no runner can be started, ERR_NOMEM. */
int pipeline_preflight_all(const struct declared *d, const struct host_config *host,
                           const struct plugins *plugins, const char *runner,
                           struct findings *findings, struct err *err) MUST_USE;

#endif
