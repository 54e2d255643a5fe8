/*
 * Responses: a handler's reply brought to the net thread, refusals, and h2o's own error pages given the
 * body that all our errors have.
 */
#include "net/server_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/json.h"

static const struct {
    int status;
    const char *reason;
} reasons[] = {
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {303, "See Other"},
    {304, "Not Modified"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {422, "Unprocessable Content"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
    {505, "HTTP Version Not Supported"},
};

static const char *reason_of(int status)
{
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].status == status) {
            return reasons[i].reason;
        }
    }
    return "Status";
}

void net_error_body(struct buf *out, int status, const char *message)
{
    json_t *body = json_pack("{s:i, s:s}", "error_code", status, "message", message);
    if (body == NULL) { /* the message is not UTF-8 */
        body = json_pack("{s:i, s:s}", "error_code", status, "message", reason_of(status));
    }
    if (body != NULL) {
        codec_json_write(body, out);
        json_decref(body);
    }
}

/* ---- sending ---- */

static void add_header(h2o_req_t *req, const char *name, size_t name_len, const char *value,
                       size_t value_len)
{
    h2o_iovec_t n = h2o_strdup(&req->pool, name, name_len);
    h2o_iovec_t v = h2o_strdup(&req->pool, value, value_len);
    h2o_strtolower(n.base, n.len);
    h2o_add_header_by_str(&req->pool, &req->res.headers, n.base, n.len, 1, NULL, v.base, v.len);
}

/* `body` lives as long as the request's pool. */
static void respond(struct conn *c, h2o_req_t *req, int status, const char *content_type,
                    h2o_iovec_t body)
{
    static h2o_generator_t generator = {NULL, NULL};
    req->res.status = status;
    req->res.reason = reason_of(status);
    req->res.content_length = status == 204 || status == 304 ? SIZE_MAX : body.len;
    if (content_type != NULL && content_type[0] != '\0' && status != 204) {
        add_header(req, "content-type", strlen("content-type"), content_type, strlen(content_type));
    }
    if (!req->http1_is_persistent) {
        net_server_conn_linger(c);
    }
    c->ours = 1;
    h2o_start_response(req, &generator);
    c->ours = 0;
    int head = h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD"));
    h2o_send(req, &body, head || body.len == 0 || status == 204 ? 0 : 1, H2O_SEND_STATE_FINAL);
}

static h2o_iovec_t error_text(h2o_req_t *req, int status, const char *message)
{
    struct buf text;
    buf_init(&text, 8192);
    net_error_body(&text, status, message);
    h2o_iovec_t ret = h2o_strdup(&req->pool, buf_cstr(&text), text.len);
    buf_free(&text);
    return ret;
}

void net_server_refuse(struct conn *c, h2o_req_t *req, int status, const char *message)
{
    req->http1_is_persistent = 0;
    if (status == 503) {
        add_header(req, "retry-after", strlen("retry-after"), "1", 1);
    }
    respond(c, req, status, "application/json", error_text(req, status, message));
}

static void free_body(void *slot)
{
    free(*(uint8_t **)slot);
}

static void send_to(struct conn *c, struct net_request *r)
{
    h2o_req_t *req = r->h2o;
    net_server_conn_unwatch(c);
    c->request = NULL;
    if (r->reply.error != 0) { /* built beyond its limit, or without memory */
        net_server_refuse(c, req, 500, "the answer is too large");
        return;
    }
    for (const struct reply_header *h = r->headers; h != NULL; h = h->next) {
        add_header(req, h->text, h->name_len, h->text + h->name_len, h->value_len);
    }
    size_t len = 0;
    uint8_t **slot = h2o_mem_alloc_shared(&req->pool, sizeof(*slot), free_body);
    *slot = buf_take(&r->reply, &len);
    respond(c, req, r->status, r->content_type, h2o_iovec_init(*slot, *slot == NULL ? 0 : len));
}

/* Gives back what the request holds of the server; any thread. */
static void finish(struct net_request *r)
{
    struct net_server *s = r->server;
    mutex_lock(&s->lock);
    s->kept_bytes -= r->bytes;
    mutex_unlock(&s->lock);
    net_request_free(r);
    net_server_unref(s);
}

void net_server_send(struct net_request *r)
{
    if (r->conn != NULL) {
        send_to(r->conn, r);
    }
    finish(r);
}

void net_server_on_messages(h2o_multithread_receiver_t *receiver, h2o_linklist_t *messages)
{
    (void)receiver;
    while (!h2o_linklist_is_empty(messages)) {
        struct net_request *r =
            H2O_STRUCT_FROM_MEMBER(struct net_request, message.link, messages->next);
        h2o_linklist_unlink(&r->message.link);
        net_server_send(r);
    }
}

/* ---- replying, from any thread ---- */

void net_reply(struct net_request *r, int status, const char *content_type, struct buf *body)
{
    struct net_server *s = r->server;
    r->status = status;
    if (content_type != NULL) {
        (void)snprintf(r->content_type, sizeof(r->content_type), "%s", content_type);
    }
    if (body != NULL) {
        r->reply = *body;
        buf_init(body, body->limit);
    }
    mutex_lock(&s->lock);
    BUG_ON(r->replied);
    r->replied = 1;
    int here = pthread_equal(pthread_self(), s->thread);
    int detached = s->detached;
    if (!here && !detached) {
        h2o_multithread_send_message(&s->receiver, &r->message);
    }
    mutex_unlock(&s->lock);
    if (detached) {
        finish(r);
    } else if (here) {
        net_server_send(r);
    }
}

void net_reply_error(struct net_request *r, int status, const char *fmt, ...)
{
    char message[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);
    struct buf body;
    buf_init(&body, 16384);
    net_error_body(&body, status, message);
    net_reply(r, status, "application/json", &body);
    buf_free(&body);
}

/* ---- h2o's own error pages ---- */

struct error_stream {
    h2o_ostream_t super;
    h2o_iovec_t body;
};

static void error_send(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t n,
                       h2o_send_state_t state)
{
    (void)bufs;
    struct error_stream *e = (struct error_stream *)self;
    h2o_ostream_send_next(self, req, &e->body, n == 0 ? 0 : 1, state);
}

void net_server_on_setup_ostream(h2o_filter_t *self, h2o_req_t *req, h2o_ostream_t **slot)
{
    (void)self;
    struct conn *c = net_server_conn_of(req);
    if (!c->ours) {
        /* Bad framing or a body over the limit: h2o never asked the handler, and closes. */
        struct error_stream *e = (struct error_stream *)h2o_add_ostream(req, sizeof(*e), slot);
        e->super.do_send = error_send;
        const char *text = req->res.status == 413   ? "the body is larger than allowed"
                           : req->res.status == 417 ? "Expect can only be 100-continue"
                                                    : "the body's framing is broken";
        e->body = error_text(req, req->res.status, text);
        req->res.content_length = e->body.len;
        req->res.reason = reason_of(req->res.status);
        memset(&req->res.headers, 0, sizeof(req->res.headers));
        add_header(req, "content-type", strlen("content-type"), "application/json",
                   strlen("application/json"));
        net_server_conn_linger(c);
        slot = &e->super.next;
    }
    h2o_setup_next_ostream(req, slot);
}
