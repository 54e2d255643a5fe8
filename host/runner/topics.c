/*
 * Topics as a source task knows them: asked for once by RESOLVE, kept up to date by the host's news. One list a
 * task, used by its thread alone.
 */
#include "runner_int.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_PARTITIONS = 100000 };

static void parts_free(struct runner_topic *t)
{
    for (int32_t i = 0; i < t->partitions; i++) {
        buf_free(&t->parts[i].bytes);
    }
    free(t->parts);
    t->parts = NULL;
    t->partitions = 0;
}

static int topic_set(struct runner_topic *t, const struct link_topic *f, struct err *err)
{
    if (f->partitions < 1 || f->partitions > MAX_PARTITIONS || f->max_batch_bytes < 1) {
        return err_set(err, ERR_DATA,
                       "topic %s: the host says %d partitions, batches of %lld bytes", t->name,
                       f->partitions, (long long)f->max_batch_bytes);
    }
    if (f->partitions != t->partitions) {
        struct runner_part *parts = calloc((size_t)f->partitions, sizeof(*parts));
        if (parts == NULL) {
            return err_set(err, ERR_NOMEM, "out of memory");
        }
        parts_free(t);
        for (int32_t i = 0; i < f->partitions; i++) {
            parts[i].bytes.limit = LINK_DATA_MAX;
        }
        t->parts = parts;
        t->partitions = f->partitions;
        t->sticky %= f->partitions;
    }
    memcpy(t->id, f->topic_id, sizeof(t->id));
    t->epoch = f->epoch;
    t->max_batch_bytes = f->max_batch_bytes;
    return 0;
}

static struct runner_topic *find(struct runner_topic *list, struct slice name)
{
    while (list != NULL && !slice_eq(list->slice, name)) {
        list = list->next;
    }
    return list;
}

static void topic_free(struct runner_topic *t)
{
    parts_free(t);
    free(t->name);
    free(t);
}

static struct runner_topic *topic_new(struct slice name, int32_t sticky)
{
    struct runner_topic *t = calloc(1, sizeof(*t));
    if (t != NULL) {
        t->name = strndup((const char *)name.ptr, name.len);
        if (t->name == NULL) {
            free(t);
            return NULL;
        }
        t->slice = slice_str(t->name);
        t->sticky = sticky;
    }
    return t;
}

/* Asks the host. `t` is new and not in a list yet. */
static int resolve(struct runner_task *task, struct runner_topic *t, struct runner_fail *fail)
{
    struct err err = ERR_INIT;
    /* Requests of all tasks share one space: the host answers a topic to the connector. */
    uint64_t request = ((uint64_t)task->index + 1) << 32 | (++task->next_request & 0xffffffffu);
    struct buf question = BUF_INIT(4096);
    link_put_resolve(&question, task->index,
                     &(struct link_resolve){.request = request, .topic = t->slice});
    struct runner_cmd *answer = runner_task_ask(task, request, &question);
    buf_free(&question);
    if (answer == NULL) {
        return runner_fail_set(fail, LINK_STAGE_POLL, CTD_E_CANCELLED, "the task is being stopped");
    }
    struct link_topic f;
    int rc = link_get_topic(&answer->frame, &f, &err);
    if (rc == 0 && f.status != 0) {
        rc = err_set(&err, f.status, "topic %s: %.*s", t->name, (int)f.message.len,
                     f.message.ptr != NULL ? (const char *)f.message.ptr : "");
    }
    if (rc == 0) {
        rc = topic_set(t, &f, &err);
    }
    free(answer);
    return rc == 0 ? 0 : runner_fail_err(fail, LINK_STAGE_POLL, &err);
}

int runner_topic_get(struct runner_task *t, struct runner_topic **list, struct slice name,
                     struct runner_topic **ret, struct runner_fail *fail)
{
    struct runner_topic *topic = find(*list, name);
    if (topic == NULL) {
        if (name.ptr == NULL || name.len == 0 || name.len > 249) {
            return runner_fail_abi(fail, LINK_STAGE_POLL,
                                   "a record names no topic, or one of %zu bytes", name.len);
        }
        topic = topic_new(name, (int32_t)(t->index & 0xffff));
        int rc = topic != NULL
                     ? resolve(t, topic, fail)
                     : runner_fail_set(fail, LINK_STAGE_POLL, CTD_E_NOMEM, "out of memory");
        if (rc != 0) {
            if (topic != NULL) {
                topic_free(topic);
            }
            return rc;
        }
        topic->sticky %= topic->partitions;
        topic->next = *list;
        *list = topic;
    }
    *ret = topic;
    return 0;
}

int runner_topic_news(struct runner_topic *list, const struct link_frame *f, struct err *err)
{
    struct link_topic news;
    TRY(link_get_topic(f, &news, err));
    struct runner_topic *t = find(list, news.topic);
    if (t == NULL || news.status != 0) {
        return 0; /* not ours yet, or gone: the next commit hears of it */
    }
    return topic_set(t, &news, err);
}

void runner_topics_free(struct runner_topic *list)
{
    while (list != NULL) {
        struct runner_topic *next = list->next;
        topic_free(list);
        list = next;
    }
}
