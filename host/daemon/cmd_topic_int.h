/*
 * What the files of `connectd topic` share: the arguments, the host that it talks to, and stdout.
 * cmd_topic.c has the arguments and the short verbs, cmd_topic_host.c the host, cmd_topic_io.c
 * `read` and `write`.
 */
#ifndef DAEMON_CMD_TOPIC_INT_H
#define DAEMON_CMD_TOPIC_INT_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/json.h"
#include "daemon/lock.h"
#include "net/net.h"

enum { CMD_TOPIC_MAX_CONFIG = 64 };

struct topic_args {
    const char *verb;
    const char *topic;
    const char *url;
    const char *data;
    int64_t partition; /* -1: not given, as below */
    int64_t offset;
    int64_t max_messages;
    int64_t timeout_ms;
    int64_t partitions;
    int from_beginning, until_end, all;
    const char *format;
    const char *separator;
    char *config[CMD_TOPIC_MAX_CONFIG];
    size_t n_config;
};

struct plog;
struct topic_engine;
struct rest;

struct topic_host {
    char url[300]; /* without a slash at the end */
    struct net_client *client;
    struct lock lock; /* and what follows: only without a host */
    struct plog *log;
    struct topic_engine *engine;
    struct rest *rest;
};

/* Set by SIGINT and SIGTERM when the log is ours, so that it is closed. */
extern volatile sig_atomic_t cmd_topic_interrupted;

int cmd_topic_find_host(struct topic_host *h, const struct topic_args *a, struct err *err) MUST_USE;
void cmd_topic_leave_host(struct topic_host *h);
/* A request; a host that is still starting is waited for. Any status but `want` is an error; `ret`
 * is freed then. */
int cmd_topic_ask(struct topic_host *h, const char *method, const char *path,
                  const struct buf *body, int want, struct net_response *ret,
                  struct err *err) MUST_USE;
int cmd_topic_ask_json(struct topic_host *h, const char *method, const char *path,
                       const struct buf *body, int want, json_t **ret, struct err *err) MUST_USE;
/* GET /topics/TOPIC */
int cmd_topic_describe(struct topic_host *h, const char *topic, json_t **ret,
                       struct err *err) MUST_USE;
int64_t cmd_topic_number(const json_t *object, const char *key);
/* Writes to stdout at once. A reader that has gone ends the command quietly: an err without a
 * message. */
int cmd_topic_put(const void *p, size_t n, struct err *err) MUST_USE;
int cmd_topic_put_json(const json_t *v, struct err *err) MUST_USE;

int cmd_topic_read(struct topic_host *h, const struct topic_args *a, struct err *err) MUST_USE;
int cmd_topic_write(struct topic_host *h, const struct topic_args *a, struct err *err) MUST_USE;

#endif
