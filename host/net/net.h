/*
 * net: HTTP/1.1 in (h2o, on one thread of its own) and HTTP out (libcurl). All checks of what arrives are
 * here: framing, sizes, Host, escapes. A handler sees a whole, checked request and answers it once, now
 * or later, from any thread. README.md has the list of refusals.
 *
 * Threads: a server has one thread, which calls the handler; whatever it does there holds up all other
 * requests, so work that blocks goes elsewhere. A net_request has one owner at a time.
 */
#ifndef NET_NET_H
#define NET_NET_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

/* ---- server ---- */

struct net_server;
struct net_request;

enum net_method {
    NET_GET = 1,
    NET_HEAD,
    NET_POST,
    NET_PUT,
    NET_PATCH,
    NET_DELETE,
    NET_OPTIONS,
};

struct net_header {
    struct slice name, value; /* as received, the value without blanks around it */
};

/* 0 stands for the default in brackets. */
struct net_limits {
    size_t head_bytes;  /* request line and headers [65536]; above: 431 */
    size_t uri_bytes;   /* the request's target [8192]; above: 414 */
    size_t body_bytes;  /* [1 MiB]; above: 413 */
    size_t kept_bytes;  /* requests that wait for their reply, all together [64 MiB]; above: 503 */
    size_t connections; /* [1024]; at the limit the longest idle one is closed, then clients wait */
    int64_t head_ms;    /* for a whole head, from its first byte [10000] */
    int64_t body_ms;    /* for a whole body [30000] */
    int64_t idle_ms;    /* between requests [60000] */
    int64_t write_ms;   /* a response of which the client takes nothing [30000] */
};

struct net_server_options {
    const char *address; /* a numeric address, or a name to resolve; "0.0.0.0" and "::" are all */
    uint16_t port;       /* 0: any free one, see net_server_port() */
    /* On the net thread. Replies at once, or keeps the request: every one is replied to exactly once. */
    void (*handle)(void *arg, struct net_request *r);
    void *arg;
    /* Further values allowed in Host, without port, ending in NULL; or NULL. localhost, loopback addresses, and the
     * address that is listened on (behind a wildcard: that of the connection) always are. */
    const char *const *hosts;
    struct net_limits limits;
};

/* Listens and starts the thread. ERR_BUSY: the port is taken. */
int net_server_start(const struct net_server_options *o, struct net_server **ret,
                     struct err *err) MUST_USE;
uint16_t net_server_port(const struct net_server *s);
/* "127.0.0.1:8083", "[::1]:8083": what clients of this machine connect to. Borrowed. */
const char *net_server_authority(const struct net_server *s);
/* Stops listening, answers kept requests with 503 (their owners still call net_reply(), which then only
 * frees), lets responses under way finish for at most a second, ends the thread. The handler does not run
 * afterwards. Not from the net thread. NULL-safe. */
void net_server_stop(struct net_server *s);

/* ---- a request: everything is borrowed from it until net_reply() ---- */

enum net_method net_request_method(const struct net_request *r);
struct slice net_request_path(const struct net_request *r); /* raw; its escapes are well-formed */
struct slice net_request_body(const struct net_request *r);
/* 1 with the value of the first header of that name, else 0. */
int net_request_header(const struct net_request *r, const char *name, struct slice *ret);
/* The path's segments, decoded, without empty one at the end ("/a/b%20c/": "a", "b c"; "/": none). Returns their
 * number, or -1 when there are more than max or no memory. */
int net_request_segments(struct net_request *r, const char **ret, int max);
/* The first query parameter of that name, decoded ("" without a value), or NULL. */
const char *net_request_query(struct net_request *r, const char *name);
/* for (size_t at = 0; net_request_query_next(r, &at, &name, &value);) */
int net_request_query_next(struct net_request *r, size_t *at, const char **ret_name,
                           const char **ret_value);

/* Has gone(arg) called, on the net thread, when the client hangs up or the server stops before the reply. It still
 * has to be replied to. Call it from the handler only. gone must not block and not call net_*; it does not
 * run once net_reply() has returned. */
void net_request_on_gone(struct net_request *r, void (*gone)(void *arg), void *arg);

/* Adds a response header; copied. A value with control characters is dropped. */
void net_reply_header(struct net_request *r, const char *name, const char *value);
/* Sends the response and takes the request, and the memory of `body` (may be NULL), which is left empty.
 * Any thread; does not block. */
void net_reply(struct net_request *r, int status, const char *content_type, struct buf *body);
/* {"error_code":status,"message":"..."} */
void net_reply_error(struct net_request *r, int status, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The JSON text of the error body above; also used for what the server refuses by itself. */
void net_error_body(struct buf *out, int status, const char *message);

/* ---- client ---- */

/* Keeps its connection alive between requests. One thread at a time. */
struct net_client;
struct net_client_options {
    int64_t connect_ms; /* 0: 5000 */
    int64_t total_ms;   /* a whole request; 0: 30000 */
    size_t body_bytes;  /* of a response; 0: 16 MiB; above: ERR_LIMIT */
};
struct net_response {
    int status;
    struct buf head; /* "name: value\r\n" lines */
    struct buf body;
};

int net_client_open(const struct net_client_options *o, struct net_client **ret,
                    struct err *err) MUST_USE;
void net_client_close(struct net_client *c); /* NULL-safe */
/* Any status is success. ERR_IO: no connection; ERR_TIMEOUT; ERR_CONFIG: no http URL. `ret` is initialised by this call
 * in every case; net_response_free() it. Redirects are not followed, proxies not used. */
int net_client_request(struct net_client *c, const char *method, const char *url,
                       const char *content_type, const void *body, size_t n,
                       struct net_response *ret, struct err *err) MUST_USE;
int net_get(struct net_client *c, const char *url, struct net_response *ret,
            struct err *err) MUST_USE;
int net_post(struct net_client *c, const char *url, const char *content_type, const void *body,
             size_t n, struct net_response *ret, struct err *err) MUST_USE;
/* 1 with the first header of that name copied to ret (cut at cap - 1), else 0. */
int net_response_header(const struct net_response *r, const char *name, char *ret, size_t cap);
void net_response_free(struct net_response *r);

/* Appends `text` with everything but unreserved characters escaped: for a path segment or a query value. */
void net_escape(struct buf *out, const char *text);

#endif
