/* Shared by the tests of net: a raw client, and a server whose handler records what reached it. */
#ifndef NET_TEST_H
#define NET_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"
#include "net/net.h"

enum { DEADLINE_MS = 10000 };

/* What the handler of a test server did; under `lock`. */
struct site {
    struct net_server *server;
    struct mutex lock;
    struct cond changed;
    int calls, canaries, gone;
    struct net_request *kept[64]; /* of /keep, in order of arrival */
    int n_kept;
};

void site_start(struct site *s, const struct net_limits *limits, const char *const *hosts);
void site_stop(struct site *s);
/* Waits until *counter (one of the site's) is at least n. */
void site_wait(struct site *s, const int *counter, int n);
int site_read(struct site *s, const int *counter);

/* A connected socket. */
int raw_connect(uint16_t port);
void raw_send(int fd, const void *p, size_t n);
void raw_send_text(int fd, const char *text);
/* Reads to the end of the connection (1) or until the deadline (0); a reset counts as the end. */
int raw_read_all(int fd, struct buf *out);
/* Reads one response with a Content-Length (or without a body); returns its status, 0 if there is none. */
int raw_read_response(int fd, struct buf *ret_body);
/* The first status line's code in what was read, or 0. */
int raw_status(const struct buf *b);
int raw_count(const struct buf *b, const char *needle);

/* A well-behaved request on a new connection is answered. */
void assert_serves(struct site *s);

int run_head_tests(void);
int run_hostile_tests(void);
int run_server_tests(void);
int run_client_tests(void);

#endif
