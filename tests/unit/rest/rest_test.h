/* Shared by the tests of rest: a rest over a fake pipeline and a real log in a temporary folder. */
#ifndef REST_TEST_H
#define REST_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"
#include "codec/json.h"
#include "net/net.h"
#include "plog/plog.h"
#include "rest/rest.h"
#include "topic/topic.h"

struct world {
    char dir[64];
    struct plog *log;
    struct topic_engine *engine;
    struct rest *rest;
    struct net_client *client;
};

/* Not ready yet, when `starting`. */
void world_open(struct world *w, int starting);
void world_ready(struct world *w);
void world_close(struct world *w);

/* Sends a request and returns the status; *ret_body (if wanted) is the parsed JSON answer or NULL. */
int world_ask(struct world *w, const char *method, const char *path, const char *body,
              json_t **ret_body);
/* The answer must have this status and, as text with sorted keys, this body. */
void world_expect(struct world *w, const char *method, const char *path, const char *body,
                  int status, const char *json);
/* The status, and an error body whose message holds `part`. */
void world_refuses(struct world *w, const char *method, const char *path, const char *body,
                   int status, const char *part);
/* A request with further header lines ("A: b\r\n"), on a raw socket; the whole answer. */
int world_raw(struct world *w, const char *method, const char *path, const char *headers,
              const char *body, struct buf *ret_all);
/* A raw socket that has sent a request. */
int world_send(struct world *w, const char *method, const char *path, const char *headers,
               const char *body);
int world_receive(int fd, struct buf *ret_all);

int run_route_tests(void);
int run_topic_tests(void);

#endif
