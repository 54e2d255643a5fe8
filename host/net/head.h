/*
 * The head of an HTTP/1 request, read again and strictly. h2o's own parser is lenient where requests can be
 * smuggled (it takes the last of two Hosts, prefers Transfer-Encoding over Content-Length, folds lines), and it hides the
 * headers that it uses itself; so the same bytes are checked here before a handler sees the request.
 * No state; any thread.
 */
#ifndef NET_HEAD_H
#define NET_HEAD_H

#include "net/net.h"

enum { NET_HEAD_MAX_HEADERS = 100 };

struct net_head_rules {
    size_t head_bytes, uri_bytes;
    const char *const
        *hosts; /* allowed beside the loopback ones, lower-case, ending in NULL; or NULL */
};

struct net_head {
    size_t bytes; /* up to the body */
    enum net_method method;
    struct slice path, query; /* query without '?' */
    struct net_header headers[NET_HEAD_MAX_HEADERS];
    size_t n_headers;
};

/* Parses p[0..n), which holds a whole head (a blank line ends it). Returns 0, or the HTTP status to refuse
 * with, and err says why. ret's slices point into p. */
int net_head_parse(const char *p, size_t n, const struct net_head_rules *rules,
                   struct net_head *ret, struct err *err) MUST_USE;

/* Decodes %XX (and '+' as a blank with `plus`). ERR_DATA: bad escape, NUL, not UTF-8. */
int net_unescape(struct slice in, int plus, struct buf *out, struct err *err) MUST_USE;

#endif
