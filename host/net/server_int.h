/*
 * The server's inside, shared by server*.c and request.c.
 *
 * Threads: everything is the net thread's but what stands under `lock`, and a request's own fields, which
 * belong to whoever owns the request.
 * Lifetimes: a connection is h2o's, with a struct conn beside it from accept to close. A request is a copy
 * of all that a handler may look at, so it outlives its connection and, if it must, the server's thread.
 */
#ifndef NET_SERVER_INT_H
#define NET_SERVER_INT_H

#include <pthread.h>

#include <h2o.h>
#include <h2o/http1.h>

#include "base/arena.h"
#include "base/thread.h"
#include "net/head.h"
#include "net/net.h"

enum phase { PHASE_IDLE, PHASE_HEAD, PHASE_BODY, PHASE_HANDLER, PHASE_WRITE };

struct conn {
    struct net_server *server;
    h2o_socket_t *sock;
    struct net_request *request; /* with the handler; or NULL */
    int ours;                    /* the response being set up is not one that h2o made up */
    int watching;                /* for a hang-up while the handler has the request */
    int linger_fd;               /* a second descriptor of the socket, to close it softly; or -1 */
    int phase;
    int unsent; /* bytes in the socket when last looked at */
    int64_t phase_since_ms;
    struct conn *prev, *next;
};

/* A closed connection that is read on until the client has seen the response: closing a socket with unread
 * input resets it, and the client would lose what was sent. */
struct closing {
    struct net_server *server;
    h2o_socket_t *sock;
    int64_t until_ms;
    size_t left_bytes;
    struct closing *next;
};

struct net_server {
    pthread_t thread;
    h2o_globalconf_t config;
    h2o_context_t ctx;
    h2o_evloop_t *loop;
    h2o_accept_ctx_t accept_ctx;
    h2o_multithread_receiver_t receiver;
    h2o_multithread_queue_t *queue;
    h2o_socket_t *listener;
    int accept_paused;
    struct conn *conns; /* newest first */
    size_t n_conns;
    struct closing *lingers;
    int64_t next_sweep_ms;

    void (*handle)(void *arg, struct net_request *r);
    void *arg;
    struct net_limits limits;
    const char **hosts; /* owned, with the strings; the last but NULL is the bound address */
    int wildcard;       /* the bound address says nothing: take each connection's own */
    uint16_t port;
    char authority[80];

    struct mutex lock;
    int stopping;      /* asked for by net_server_stop() */
    int detached;      /* the thread takes no more replies */
    size_t refs;       /* the owner, the thread and each request */
    size_t kept_bytes; /* of all requests that are not replied to */
};

struct reply_header {
    struct reply_header *next;
    size_t name_len, value_len;
    char text[]; /* name, value */
};

struct net_request {
    h2o_multithread_message_t message;
    struct net_server *server; /* a reference */
    struct conn *conn;         /* NULL once detached; the net thread's */
    h2o_req_t *h2o;            /* likewise */
    void (*gone)(void *arg);   /* under the server's lock */
    void *gone_arg;
    int replied;          /* under the server's lock */
    size_t bytes;         /* of this allocation */
    struct arena *arena;  /* of decoded text; made when needed */
    struct net_head head; /* slices into data */
    struct slice body;
    int status;
    char content_type[64];
    struct reply_header *headers;
    struct buf reply;
    uint8_t data[];
};

/* server.c */
void net_server_unref(struct net_server *s);

/* server_conn.c */
void net_server_on_accept(h2o_socket_t *listener, const char *err);
int net_server_on_request(h2o_handler_t *self, h2o_req_t *req);
struct conn *net_server_conn_of(h2o_req_t *req);
void net_server_conn_unwatch(struct conn *c);
void net_server_conn_gone(struct conn *c);
/* The socket is closed softly once h2o has closed it. */
void net_server_conn_linger(struct conn *c);
void net_server_lingers_close(struct net_server *s, int64_t now_ms);

/* server_reply.c */
void net_server_on_messages(h2o_multithread_receiver_t *receiver, h2o_linklist_t *messages);
void net_server_on_setup_ostream(h2o_filter_t *self, h2o_req_t *req, h2o_ostream_t **slot);
/* Answers with an error body and closes the connection. */
void net_server_refuse(struct conn *c, h2o_req_t *req, int status, const char *message);
/* Sends r's reply, if it still has a connection, and frees it. */
void net_server_send(struct net_request *r);

/* request.c: NULL without memory. */
struct net_request *net_request_new(struct net_server *s, const struct net_head *head,
                                    const char *p, struct slice body);
void net_request_free(struct net_request *r);

#endif
