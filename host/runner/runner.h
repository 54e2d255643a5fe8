/*
 * runner: the process that runs one connector's plugin. It is the only caller of dlopen() and of plugin
 * functions. The host starts it as
 *   connectd-runner --run              speaks link (link/link.h) on descriptors 3 to 6
 *   connectd-runner --describe FILE    prints what a plugin file holds as one JSON object
 *
 * Threads of --run: see README.md.
 */
#ifndef RUNNER_RUNNER_H
#define RUNNER_RUNNER_H

/* The whole of --run. Returns the process's exit status; often it doesn't return at all: a host that has
 * gone ends the process on the spot. */
int runner_run(void);

/* The whole of --describe: JSON to stdout and 0, or one line to stderr and 1. */
int runner_describe(const char *path);

#endif
