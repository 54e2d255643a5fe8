/*
 * Connections: accepted, asked for requests by h2o, watched while a handler has theirs, closed softly.
 * All on the net thread.
 */
#include "net/server_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"

enum { ACCEPT_BATCH = 64, LINGER_MS = 2000, LINGER_BYTES = 64 << 20 };

struct conn *net_server_conn_of(h2o_req_t *req)
{
    return req->conn->callbacks->get_socket(req->conn)->on_close.data;
}

/* ---- soft close ---- */

static void linger_free(struct closing *l)
{
    h2o_socket_close(l->sock);
    free(l);
}

/* Input is taken off the socket and forgotten, without buffering it. */
static void linger_on_read(h2o_socket_t *sock, const char *err)
{
    struct closing *l = sock->data;
    char sink[4096];
    ssize_t n = err != NULL ? 0 : 1;
    while (n > 0 && l->left_bytes > 0) {
        n = recv(h2o_socket_get_fd(sock), sink, sizeof(sink), MSG_DONTWAIT);
        l->left_bytes -= n > 0 && (size_t)n < l->left_bytes ? (size_t)n : n > 0 ? l->left_bytes : 0;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    h2o_socket_read_stop(sock);
    l->until_ms = 0; /* the next look at the list frees it */
    l->server->next_sweep_ms = 0;
}

void net_server_lingers_close(struct net_server *s, int64_t now_ms)
{
    for (struct closing **at = &s->lingers; *at != NULL;) {
        struct closing *l = *at;
        if (l->until_ms > now_ms) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        linger_free(l);
    }
}

static void linger_start(struct net_server *s, int fd)
{
    struct closing *l = calloc(1, sizeof(*l));
    if (l == NULL || shutdown(fd, SHUT_WR) != 0) {
        free(l);
        (void)close(fd);
        return;
    }
    l->server = s;
    l->until_ms = clock_mono_ms() + LINGER_MS;
    l->left_bytes = LINGER_BYTES;
    l->sock = h2o_evloop_socket_create(s->loop, fd, 0);
    l->sock->data = l;
    l->next = s->lingers;
    s->lingers = l;
    h2o_socket_dont_read(l->sock, 1);
    h2o_socket_read_start(l->sock, linger_on_read);
}

void net_server_conn_linger(struct conn *c)
{
    if (c->linger_fd < 0) {
        c->linger_fd = fcntl(h2o_socket_get_fd(c->sock), F_DUPFD_CLOEXEC, 3);
    }
}

/* ---- accept and close ---- */

static void on_close(void *arg)
{
    struct conn *c = arg;
    struct net_server *s = c->server;
    if (c->prev != NULL) {
        c->prev->next = c->next;
    } else {
        s->conns = c->next;
    }
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
    s->n_conns--;
    if (c->linger_fd >= 0) {
        linger_start(s, c->linger_fd);
    }
    free(c);
    if (s->accept_paused) {
        s->next_sweep_ms = 0;
    }
}

/* Makes room for a client who waits: the connection that has been idle longest goes. */
static void close_idle(struct net_server *s)
{
    struct conn *oldest = NULL;
    for (struct conn *c = s->conns; c != NULL; c = c->next) {
        if (c->phase == PHASE_IDLE && c->request == NULL && c->sock->input->size == 0 &&
            !h2o_socket_is_writing(c->sock) &&
            (oldest == NULL || c->phase_since_ms < oldest->phase_since_ms)) {
            oldest = c;
        }
    }
    if (oldest != NULL) {
        (void)shutdown(h2o_socket_get_fd(oldest->sock), SHUT_RDWR);
    }
}

static void conn_open(struct net_server *s, h2o_socket_t *sock)
{
    struct conn *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        h2o_socket_close(sock);
        return;
    }
    c->server = s;
    c->sock = sock;
    c->linger_fd = -1;
    c->phase_since_ms = clock_mono_ms();
    c->next = s->conns;
    if (s->conns != NULL) {
        s->conns->prev = c;
    }
    s->conns = c;
    s->n_conns++;
    sock->on_close.cb = on_close;
    sock->on_close.data = c;
    struct timeval now;
    (void)gettimeofday(&now, NULL);
    h2o_http1_accept(&s->accept_ctx, sock, now);
}

void net_server_on_accept(h2o_socket_t *listener, const char *err)
{
    struct net_server *s = listener->data;
    for (int i = 0; err == NULL && i < ACCEPT_BATCH; i++) {
        errno = 0;
        h2o_socket_t *sock =
            s->n_conns < s->limits.connections ? h2o_evloop_socket_accept(listener) : NULL;
        if (sock != NULL) {
            conn_open(s, sock);
            continue;
        }
        if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR) {
            return;
        }
        /* At the limit, or out of descriptors: the sweep listens again. */
        s->accept_paused = 1;
        h2o_socket_read_stop(listener);
        close_idle(s);
        return;
    }
}

/* ---- watching for a hang-up ---- */

void net_server_conn_gone(struct conn *c)
{
    struct net_request *r = c->request;
    struct net_server *s = c->server;
    mutex_lock(&s->lock);
    if (r != NULL && !r->replied && r->gone != NULL) {
        r->gone(r->gone_arg);
        r->gone = NULL;
    }
    mutex_unlock(&s->lock);
}

void net_server_conn_unwatch(struct conn *c)
{
    if (c->watching) {
        c->watching = 0;
        h2o_socket_read_stop(c->sock);
        h2o_socket_dont_read(c->sock, 0);
    }
}

/* Something came while the handler has the request: the end, or a request that may wait. */
static void on_watch(h2o_socket_t *sock, const char *err)
{
    struct conn *c = sock->on_close.data;
    char byte;
    ssize_t n = err != NULL ? 0 : recv(h2o_socket_get_fd(sock), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    net_server_conn_unwatch(c);
    if (n <= 0) {
        net_server_conn_gone(c);
    }
}

static void watch(struct conn *c)
{
    c->watching = 1;
    h2o_socket_dont_read(c->sock, 1);
    h2o_socket_read_start(c->sock, on_watch);
}

/* ---- requests ---- */

/* Behind a wildcard address the allowed Host is the address that this client connected to. */
static void local_address(struct conn *c, char *ret, size_t cap)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    ret[0] = '\0';
    if (getsockname(h2o_socket_get_fd(c->sock), (struct sockaddr *)&sa, &len) != 0) {
        return;
    }
    if (sa.ss_family == AF_INET) {
        (void)inet_ntop(AF_INET, &((struct sockaddr_in *)&sa)->sin_addr, ret, (socklen_t)cap);
    } else if (sa.ss_family == AF_INET6) {
        struct in6_addr *a = &((struct sockaddr_in6 *)&sa)->sin6_addr;
        if (IN6_IS_ADDR_V4MAPPED(a)) {
            (void)inet_ntop(AF_INET, &a->s6_addr[12], ret, (socklen_t)cap);
        } else {
            (void)inet_ntop(AF_INET6, a, ret, (socklen_t)cap);
        }
    }
}

static int parse_head(struct conn *c, struct net_head *ret, struct err *err)
{
    struct net_server *s = c->server;
    struct net_head_rules rules = {s->limits.head_bytes, s->limits.uri_bytes, s->hosts};
    int status = net_head_parse(c->sock->input->bytes, c->sock->input->size, &rules, ret, err);
    if (status == 403 && s->wildcard) {
        char address[INET6_ADDRSTRLEN];
        local_address(c, address, sizeof(address));
        const char *const here[] = {address, NULL};
        rules.hosts = here;
        status = net_head_parse(c->sock->input->bytes, c->sock->input->size, &rules, ret, err);
    }
    return status;
}

/* Takes a reference and room for r. 0 when too much is kept already or the server stops. */
static int admit(struct net_server *s, struct net_request *r)
{
    mutex_lock(&s->lock);
    int ok = !s->stopping && s->kept_bytes + r->bytes <= s->limits.kept_bytes;
    if (ok) {
        s->kept_bytes += r->bytes;
        s->refs++;
    }
    mutex_unlock(&s->lock);
    return ok;
}

int net_server_on_request(h2o_handler_t *self, h2o_req_t *req)
{
    (void)self;
    struct conn *c = net_server_conn_of(req);
    struct net_server *s = c->server;
    struct net_head head;
    struct err err = ERR_INIT;
    c->phase = PHASE_HANDLER;
    int status = parse_head(c, &head, &err);
    struct slice body = slice_of(req->entity.base, req->entity.base == NULL ? 0 : req->entity.len);
    if (status == 0 && body.len > s->limits.body_bytes) {
        status = 413;
        err_set(&err, ERR_LIMIT, "the body is larger than %zu bytes", s->limits.body_bytes);
    }
    if (status != 0) {
        net_server_refuse(c, req, status, err.msg);
        return 0;
    }
    struct net_request *r = net_request_new(s, &head, c->sock->input->bytes, body);
    if (r == NULL || !admit(s, r)) {
        net_request_free(r);
        net_server_refuse(c, req, 503, "too many requests wait for their answer; try again");
        return 0;
    }
    r->conn = c;
    r->h2o = req;
    c->request = r;
    s->handle(s->arg, r);
    /* Replied to already, it is gone; h2o may even have closed the connection, but not freed it yet. */
    if (c->request != NULL) {
        watch(c);
    }
    return 0;
}
