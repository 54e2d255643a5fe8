/* Replies: bodies, and which HTTP status an error is. */
#include "rest/rest_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { BODY_LIMIT = 64 << 20 };

static void job_free(struct job *j)
{
    struct rest *r = j->rest;
    if (j->free_data != NULL) {
        j->free_data(j->data);
    }
    free(j);
    mutex_lock(&r->lock);
    r->n_jobs--;
    if (r->stopping) {
        cond_broadcast(&r->work);
    }
    mutex_unlock(&r->lock);
}

void rest_job_reply(struct job *j, int status, const char *content_type, struct buf *body)
{
    net_reply(j->req, status, content_type, body);
    job_free(j);
}

void rest_reply_json(struct net_request *req, int status, json_t *body)
{
    if (body == NULL) {
        net_reply_error(req, 500, "out of memory");
        return;
    }
    struct buf text;
    buf_init(&text, BODY_LIMIT);
    codec_json_write(body, &text);
    json_decref(body);
    net_reply(req, status, REST_JSON, &text);
    buf_free(&text);
}

void rest_job_reply_json(struct job *j, int status, json_t *body)
{
    rest_reply_json(j->req, status, body);
    job_free(j);
}

void rest_job_reply_error(struct job *j, int status, const char *fmt, ...)
{
    char message[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);
    if (status == 429 || status == 503) {
        net_reply_header(j->req, "Retry-After", "1");
    }
    net_reply_error(j->req, status, "%s", message);
    job_free(j);
}

static int status_of(int code)
{
    switch (code) {
    case ERR_NOT_FOUND:
        return 404;
    case ERR_CONFIG:
    case ERR_INVAL:
    case ERR_DATA:
        return 400;
    case ERR_EXISTS:
        return 409;
    case ERR_LIMIT:
        return 429;
    case ERR_NOSPC:
    case ERR_IO:
    case ERR_RETRIABLE:
    case ERR_TIMEOUT:
    case ERR_CANCELLED:
        return 503;
    default:
        return 500;
    }
}

void rest_job_reply_err(struct job *j, const struct err *err)
{
    rest_job_reply_error(j, status_of(err->code), "%s", err->msg);
}
