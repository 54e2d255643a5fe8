/* The partitions that a sink task has. The task thread alone. */
#include "runner_int.h"

#include <stdlib.h>
#include <string.h>

struct runner_sink_part *runner_parts_find(struct runner_parts *p, struct slice topic,
                                           int32_t partition)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->part[i].partition == partition && slice_eq(p->part[i].topic, topic)) {
            return &p->part[i];
        }
    }
    return NULL;
}

int runner_parts_add(struct runner_parts *p, const struct link_part *from, int64_t generation,
                     int64_t position)
{
    struct runner_sink_part *part = runner_parts_find(p, from->topic, from->partition);
    if (part == NULL) {
        struct runner_sink_part *all = realloc(p->part, (p->n + 1) * sizeof(*all));
        if (all == NULL) {
            return ERR_NOMEM;
        }
        p->part = all;
        part = &all[p->n];
        memset(part, 0, sizeof(*part));
        part->name = strndup((const char *)from->topic.ptr, from->topic.len);
        if (part->name == NULL) {
            return ERR_NOMEM;
        }
        part->topic = slice_str(part->name);
        p->n++;
    }
    memcpy(part->topic_id, from->topic_id, sizeof(part->topic_id));
    part->partition = from->partition;
    part->epoch = from->epoch;
    part->generation = generation;
    part->position = position;
    part->sent = from->offset;
    return 0;
}

void runner_parts_remove(struct runner_parts *p, struct runner_sink_part *part)
{
    free(part->name);
    *part = p->part[--p->n];
}

void runner_parts_free(struct runner_parts *p)
{
    while (p->n > 0) {
        runner_parts_remove(p, &p->part[p->n - 1]);
    }
    free(p->part);
    p->part = NULL;
}

void runner_part_assignment(const struct runner_sink_part *part, int64_t offset,
                            ctd_assignment *out)
{
    memset(out, 0, sizeof(*out));
    out->topic = (ctd_slice){part->topic.ptr, part->topic.len};
    memcpy(out->topic_id, part->topic_id, sizeof(out->topic_id));
    out->partition = part->partition;
    out->epoch = part->epoch;
    out->offset = offset;
}

/* What a plugin may not change in an assignment that it is given to fill in. */
int runner_assignment_same(const ctd_assignment *a, const ctd_assignment *b)
{
    return a->partition == b->partition && a->topic.len == b->topic.len &&
           memcmp(a->topic.ptr, b->topic.ptr, a->topic.len) == 0 &&
           memcmp(a->topic_id, b->topic_id, sizeof(a->topic_id)) == 0 && a->epoch == b->epoch;
}
