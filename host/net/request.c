/* A request as handlers see it: a copy of head and body, decoded on demand. */
#include "net/server_int.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The slice `s` of the head at `from`, moved into the copy at `to`. */
static struct slice moved(struct slice s, const char *from, const uint8_t *to)
{
    s.ptr = to + (s.ptr - (const uint8_t *)from);
    return s;
}

struct net_request *net_request_new(struct net_server *s, const struct net_head *head,
                                    const char *p, struct slice body)
{
    size_t bytes = sizeof(struct net_request) + head->bytes + body.len;
    struct net_request *r = malloc(bytes);
    if (r == NULL) {
        return NULL;
    }
    memset(r, 0, offsetof(struct net_request, data));
    r->server = s;
    r->bytes = bytes;
    memcpy(r->data, p, head->bytes);
    if (body.len > 0) {
        memcpy(r->data + head->bytes, body.ptr, body.len);
    }
    r->body = slice_of(r->data + head->bytes, body.len);
    r->head.bytes = head->bytes;
    r->head.method = head->method;
    r->head.path = moved(head->path, p, r->data);
    r->head.query = moved(head->query, p, r->data);
    r->head.n_headers = head->n_headers;
    for (size_t i = 0; i < head->n_headers; i++) {
        r->head.headers[i].name = moved(head->headers[i].name, p, r->data);
        r->head.headers[i].value = moved(head->headers[i].value, p, r->data);
    }
    buf_init(&r->reply, 0);
    return r;
}

void net_request_free(struct net_request *r)
{
    if (r == NULL) {
        return;
    }
    while (r->headers != NULL) {
        struct reply_header *next = r->headers->next;
        free(r->headers);
        r->headers = next;
    }
    buf_free(&r->reply);
    arena_free(r->arena);
    free(r);
}

enum net_method net_request_method(const struct net_request *r)
{
    return r->head.method;
}

struct slice net_request_path(const struct net_request *r)
{
    return r->head.path;
}

struct slice net_request_body(const struct net_request *r)
{
    return r->body;
}

int net_request_header(const struct net_request *r, const char *name, struct slice *ret)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < r->head.n_headers; i++) {
        const struct net_header *h = &r->head.headers[i];
        if (h->name.len == n && strncasecmp((const char *)h->name.ptr, name, n) == 0) {
            *ret = h->value;
            return 1;
        }
    }
    return 0;
}

/* Decoded text in the request's arena; NULL without memory. The escapes have been checked already. */
static const char *decode(struct net_request *r, struct slice text, int plus)
{
    if (r->arena == NULL) {
        r->arena = arena_new(4 * r->head.bytes + 4096);
    }
    struct buf out;
    buf_init(&out, text.len + 1);
    const char *ret = NULL;
    if (r->arena != NULL && net_unescape(text, plus, &out, NULL) == 0) {
        ret = arena_strndup(r->arena, buf_cstr(&out), out.len);
    }
    buf_free(&out);
    return ret;
}

int net_request_segments(struct net_request *r, const char **ret, int max)
{
    struct slice path = r->head.path;
    size_t at = 1;
    int n = 0;
    while (at < path.len) {
        const uint8_t *slash = memchr(path.ptr + at, '/', path.len - at);
        size_t end = slash == NULL ? path.len : (size_t)(slash - path.ptr);
        if (n == max) {
            return -1;
        }
        ret[n] = decode(r, slice_of(path.ptr + at, end - at), 0);
        if (ret[n] == NULL) {
            return -1;
        }
        n++;
        at = end + 1;
    }
    return n;
}

int net_request_query_next(struct net_request *r, size_t *at, const char **ret_name,
                           const char **ret_value)
{
    struct slice q = r->head.query;
    while (*at < q.len) {
        const uint8_t *amp = memchr(q.ptr + *at, '&', q.len - *at);
        size_t end = amp == NULL ? q.len : (size_t)(amp - q.ptr);
        struct slice pair = slice_of(q.ptr + *at, end - *at);
        *at = end + 1;
        if (pair.len == 0) {
            continue;
        }
        const uint8_t *is = memchr(pair.ptr, '=', pair.len);
        size_t n = is == NULL ? pair.len : (size_t)(is - pair.ptr);
        const char *name = decode(r, slice_of(pair.ptr, n), 1);
        const char *value =
            decode(r, is == NULL ? slice_of(pair.ptr, 0) : slice_of(is + 1, pair.len - n - 1), 1);
        if (name == NULL || value == NULL) {
            return 0;
        }
        *ret_name = name;
        *ret_value = value;
        return 1;
    }
    return 0;
}

const char *net_request_query(struct net_request *r, const char *name)
{
    const char *key = NULL;
    const char *value = NULL;
    for (size_t at = 0; net_request_query_next(r, &at, &key, &value);) {
        if (strcmp(key, name) == 0) {
            return value;
        }
    }
    return NULL;
}

void net_request_on_gone(struct net_request *r, void (*gone)(void *arg), void *arg)
{
    mutex_lock(&r->server->lock);
    r->gone = gone;
    r->gone_arg = arg;
    mutex_unlock(&r->server->lock);
}

void net_reply_header(struct net_request *r, const char *name, const char *value)
{
    size_t name_len = strlen(name);
    size_t value_len = strlen(value);
    for (size_t i = 0; i < value_len; i++) {
        if ((unsigned char)value[i] < ' ' || value[i] == 0x7f) {
            return;
        }
    }
    struct reply_header *h = malloc(sizeof(*h) + name_len + value_len);
    if (h == NULL) {
        return;
    }
    h->name_len = name_len;
    h->value_len = value_len;
    memcpy(h->text, name, name_len);
    memcpy(h->text + name_len, value, value_len);
    h->next = r->headers;
    r->headers = h;
}
