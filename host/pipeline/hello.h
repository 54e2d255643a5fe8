/* hello: the first frame that a runner gets. No state. */
#ifndef PIPELINE_HELLO_H
#define PIPELINE_HELLO_H

#include "base/buf.h"
#include "pipeline/config.h"
#include "pipeline/plugins.h"

struct hello {
    const char *connector;
    const struct plugin_class *class_;
    const struct kv_list *effective;
    const char *data_dir; /* hidden from the plugin; "" hides nothing */
    int32_t max_tasks;
    int64_t memory_limit_bytes; /* 0: none; sanitizer builds never have one */
    int64_t hold_bytes;
    uint64_t window_bytes;
    int log_level;
};
/* Appends the HELLO frame. ERR_LIMIT when the config does not fit one. */
int pipeline_hello_put(const struct hello *h, struct buf *out, struct err *err) MUST_USE;

#endif
