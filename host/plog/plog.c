/*
 * Opening and closing the log: the order in which its parts start and stop.
 *
 * Start: recovery (alone), committer, checkpointer. Stop: committer (it finishes the queue),
 * checkpointer, then a last checkpoint marked clean, after which the journals are empty and gone.
 */
#include "plog/plog_int.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void close_partitions(struct plog *p)
{
    mutex_lock(&p->topics_mu);
    for (struct plog_partition *t = p->all; t != NULL; t = t->all_next) {
        for (size_t i = 0; i < t->n_segs; i++) {
            plog_segment_close_fd(t->segs[i]);
        }
        t->log = NULL; /* whoever still holds a reference frees memory only */
    }
    mutex_unlock(&p->topics_mu);
}

static void destroy(struct plog *p)
{
    void *topic = NULL;
    for (size_t i = 0; p->topics != NULL && map_next(p->topics, &i, NULL, &topic);) {
        plog_topic_free(topic);
    }
    map_free(p->topics);
    close_partitions(p);
    plog_journal_close(p->journal);
    plog_pool_free(p->pool);
    cond_destroy(&p->checkpoint_cond);
    cond_destroy(&p->done_cond);
    cond_destroy(&p->q_cond);
    mutex_destroy(&p->fd_mu);
    mutex_destroy(&p->q_mu);
    mutex_destroy(&p->topics_mu);
    mutex_destroy(&p->admin_mu);
    free(p->journal_dir);
    free(p->log_dir);
    free(p->dir);
    free(p);
}

static struct plog *new_log(const struct plog_options *o)
{
    struct plog *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return NULL;
    }
    p->o = *o;
    p->o.flush_interval_ms = o->flush_interval_ms > 0 ? o->flush_interval_ms : 1000;
    p->o.retry_ms = o->retry_ms > 0 ? o->retry_ms : 500;
    p->o.queue_bytes = o->queue_bytes > 0 ? o->queue_bytes : (size_t)64 << 20;
    p->o.journal_bytes = o->journal_bytes > 0 ? o->journal_bytes : (size_t)64 << 20;
    mutex_init(&p->admin_mu);
    mutex_init(&p->topics_mu);
    mutex_init(&p->q_mu);
    mutex_init(&p->fd_mu);
    cond_init(&p->q_cond);
    cond_init(&p->done_cond);
    cond_init(&p->checkpoint_cond);
    p->lru.lru_next = p->lru.lru_prev = &p->lru;
    p->next_seq = 1;
    p->dir = strdup(o->dir);
    p->o.dir = p->dir;
    p->log_dir = file_join(o->dir, "log");
    p->journal_dir = file_join(o->dir, "journal");
    p->topics = map_new(NULL);
    if (p->dir == NULL || p->log_dir == NULL || p->journal_dir == NULL || p->topics == NULL) {
        destroy(p);
        return NULL;
    }
    return p;
}

int plog_open(const struct plog_options *options, struct plog **ret, struct err *err)
{
    /* DATA/log/TOPIC-PARTITION/SEGMENT.log.fresh has to be a path. */
    if (strlen(options->dir) > PATH_MAX - 600) {
        return err_set(err, ERR_CONFIG, "data directory: its path is too long");
    }
    struct plog *p = new_log(options);
    if (p == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    int rc = plog_recover(p, err);
    if (rc == 0) {
        rc = plog_committer_start(p, err);
    }
    if (rc == 0) {
        rc = plog_checkpointer_start(p, err);
    }
    if (rc < 0) {
        plog_committer_stop(p);
        plog_checkpointer_stop(p);
        destroy(p);
        return rc;
    }
    *ret = p;
    return 0;
}

void plog_close(struct plog *p)
{
    if (p == NULL) {
        return;
    }
    plog_committer_stop(p);
    plog_checkpointer_stop(p);
    struct err err = ERR_INIT;
    if (plog_checkpoint_write_now(p, p->next_generation, 1, &err) < 0) {
        LOG_ERROR("plog", "the last checkpoint failed; the next start recovers: %s", err.msg);
    }
    destroy(p);
}
