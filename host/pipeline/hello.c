/* The first frame that a runner gets. */
#include "pipeline/hello.h"

#include <stdlib.h>

#include "link/link.h"

int pipeline_hello_put(const struct hello *h, struct buf *out, struct err *err)
{
    struct link_hello f = {
        .version = LINK_VERSION,
        .max_tasks = (uint32_t)h->max_tasks,
        .connector = slice_str(h->connector),
        .plugin_path = slice_str(h->class_->copy),
        .class_name = slice_str(h->class_->name),
        .data_dir = slice_str(h->data_dir),
        .memory_limit_bytes = (uint64_t)h->memory_limit_bytes,
        .hold_bytes = (uint64_t)h->hold_bytes,
        .window_bytes = h->window_bytes,
        .log_level = (uint32_t)h->log_level,
        .n_config = (uint32_t)h->effective->n,
    };
#ifdef CONNECTD_SANITIZER
    f.memory_limit_bytes = 0;
#endif
    f.config = calloc(h->effective->n + 1, sizeof(*f.config));
    if (f.config == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < h->effective->n; i++) {
        f.config[i].key = slice_str(h->effective->items[i].key);
        f.config[i].value = slice_str(h->effective->items[i].value);
    }
    link_put_hello(out, &f);
    free(f.config);
    return out->error != 0 ? err_set(err, out->error, "the connector's config is too large") : 0;
}
