/* The log's engine from the inside. Private to topic_plog.c and unit.c. */
#ifndef TOPIC_PLOG_ENGINE_H
#define TOPIC_PLOG_ENGINE_H

#include "base/thread.h"
#include "plog/plog.h"
#include "topic/coord.h"
#include "topic/topic_int.h"

struct topic_plog {
    struct topic_engine base;
    struct plog *log; /* borrowed */
    struct topic_coord *coord;
    struct plog_partition *offsets; /* __consumer_offsets-0 */
    struct mutex admin;             /* creating, growing, deleting: one at a time */
};

struct topic_plog_stream {
    struct topic_stream base;
    struct plog_stream stream;
};

/* unit.c */
int topic_plog_submit(struct topic_engine *e, struct topic_unit *u, struct err *err) MUST_USE;

#endif
