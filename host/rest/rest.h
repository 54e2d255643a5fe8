/*
 * rest: Kafka Connect's REST API, /health, topics. It answers before anything else of the host is up: `/` as
 * ever, /health and all others with 503 "starting", until rest_set_ready().
 *
 * Threads: requests arrive on net's thread, which only matches routes; two workers do what may block. A request
 * that waits (a long poll, a write on its way to the disk) holds no thread.
 */
#ifndef REST_REST_H
#define REST_REST_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "record/record.h"

struct rest;
struct pipeline;
struct topic_engine;

struct rest_options {
    const char *address; /* as net_server_options */
    uint16_t port;
    const char *version, *commit, *cluster_id; /* copied */
};

/* Listens. ERR_BUSY: the port is taken. */
int rest_start(const struct rest_options *o, struct rest **ret, struct err *err) MUST_USE;
uint16_t rest_port(const struct rest *r);
const char *rest_authority(const struct rest *r); /* "127.0.0.1:8083"; borrowed */
/* What /health says while starting: "recovering the log". Copied, cut at 63 bytes. */
void rest_set_stage(struct rest *r, const char *stage);
/* From now on requests are served. Both are borrowed and outlive rest_stop(). A NULL pipeline: topics only. */
void rest_set_ready(struct rest *r, struct pipeline *pipeline, struct topic_engine *engine);
/* Ends the port, answers what waits, joins the workers. The engine must still complete its units. NULL-safe. */
void rest_stop(struct rest *r);

/* One record as `topic read` prints it, without a line end. Errors are sticky in `out`; ERR_DATA when the record's
 * headers are malformed (nothing is appended then). */
int rest_record_json(struct buf *out, const char *topic, int32_t partition,
                     const struct record_view *v, struct err *err) MUST_USE;

#endif
