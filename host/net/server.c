/*
 * The server's thread: start, loop, time-outs, stop.
 *
 * h2o's timers follow the wall clock and know one time-out for everything, so they are set beyond reach and
 * a sweep over the connections, on the monotonic clock, does the work; it runs only while there are any.
 */
#include "net/server_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"

enum { BACKLOG = 1024, DRAIN_MS = 1000, STOP_MS = 5000 };
#define H2O_NEVER_MS ((uint64_t)24 * 3600 * 1000)

/* ---- listening ---- */

static int bind_one(const struct addrinfo *a, const char *address, unsigned port, int *ret,
                    struct err *err)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return err_set_errno(err, ERR_IO, "listening on %s:%u", address, port);
    }
    int on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int code = errno == EADDRINUSE ? ERR_BUSY : ERR_IO;
        (void)err_set_errno(err, code, "listening on %s:%u", address, port);
        (void)close(fd);
        return code;
    }
    *ret = fd;
    return 0;
}

static int bind_address(const char *address, unsigned port, int *ret, struct err *err)
{
    char service[8];
    (void)snprintf(service, sizeof(service), "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(address, service, &hints, &found);
    if (rc != 0) {
        return err_set(err, ERR_CONFIG, "listening on %s: %s", address, gai_strerror(rc));
    }
    rc = bind_one(found, address, port, ret, err);
    freeaddrinfo(found);
    return rc;
}

/* Learns what was bound: port, authority, and the address as the last allowed Host. */
static int learn_address(struct net_server *s, int fd, const char **ret_host, struct err *err)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    char host[INET6_ADDRSTRLEN] = "";
    if (getsockname(fd, (struct sockaddr *)&sa, &len) != 0) {
        return err_set_errno(err, ERR_IO, "listening");
    }
    if (sa.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&sa;
        s->port = ntohs(v6->sin6_port);
        s->wildcard = IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr);
        (void)inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
        (void)snprintf(s->authority, sizeof(s->authority), "[%s]:%u", s->wildcard ? "::1" : host,
                       s->port);
    } else {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&sa;
        s->port = ntohs(v4->sin_port);
        s->wildcard = v4->sin_addr.s_addr == htonl(INADDR_ANY);
        (void)inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
        (void)snprintf(s->authority, sizeof(s->authority), "%s:%u",
                       s->wildcard ? "127.0.0.1" : host, s->port);
    }
    *ret_host = strdup(host);
    return *ret_host != NULL ? 0 : err_set(err, ERR_NOMEM, "out of memory");
}

static int copy_hosts(struct net_server *s, const char *const *hosts, int fd, struct err *err)
{
    size_t n = 0;
    while (hosts != NULL && hosts[n] != NULL) {
        n++;
    }
    s->hosts = calloc(n + 2, sizeof(*s->hosts));
    for (size_t i = 0; s->hosts != NULL && i < n; i++) {
        s->hosts[i] = strdup(hosts[i]);
        if (s->hosts[i] == NULL) {
            return err_set(err, ERR_NOMEM, "out of memory");
        }
    }
    if (s->hosts == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    return learn_address(s, fd, &s->hosts[n], err);
}

/* ---- time-outs ---- */

static int64_t sweep_every_ms(const struct net_limits *l)
{
    int64_t least = l->head_ms;
    least = l->body_ms < least ? l->body_ms : least;
    least = l->idle_ms < least ? l->idle_ms : least;
    least = l->write_ms < least ? l->write_ms : least;
    least /= 4;
    return least < 20 ? 20 : least > 1000 ? 1000 : least;
}

static int phase_of(const struct conn *c, const h2o_req_t *req)
{
    if (c->request != NULL) {
        return PHASE_HANDLER;
    }
    if (h2o_socket_is_writing(c->sock)) {
        return PHASE_WRITE;
    }
    if (c->sock->input->size == 0) {
        return PHASE_IDLE;
    }
    return req->version == 0 ? PHASE_HEAD : PHASE_BODY;
}

static int64_t limit_of(const struct net_limits *l, int phase)
{
    switch (phase) {
    case PHASE_HEAD:
        return l->head_ms;
    case PHASE_BODY:
        return l->body_ms;
    case PHASE_WRITE:
        return l->write_ms;
    case PHASE_IDLE:
        return l->idle_ms;
    default:
        return INT64_MAX;
    }
}

/* h2o sees the end of its input and closes. */
static void expire(struct conn *c)
{
    static const char text[] =
        "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
        "Content-Length: 65\r\n\r\n"
        "{\"error_code\":408,\"message\":\"the request did not come in time.\"}\n";
    int fd = h2o_socket_get_fd(c->sock);
    if (c->phase == PHASE_HEAD || c->phase == PHASE_BODY) {
        (void)send(fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        net_server_conn_linger(c);
        (void)shutdown(fd, SHUT_RD);
        return;
    }
    (void)shutdown(fd, SHUT_RDWR);
}

struct sweep {
    int64_t now_ms;
    size_t buffered_bytes;
    struct conn *largest;
};

static int sweep_one(h2o_req_t *req, void *arg)
{
    struct sweep *w = arg;
    struct conn *c = net_server_conn_of(req);
    int phase = phase_of(c, req);
    int unsent = 0;
    if (phase == PHASE_WRITE) {
        (void)ioctl(h2o_socket_get_fd(c->sock), SIOCOUTQ, &unsent);
    }
    if (phase != c->phase || unsent != c->unsent) {
        c->phase = phase;
        c->unsent = unsent;
        c->phase_since_ms = w->now_ms;
    } else if (w->now_ms - c->phase_since_ms >= limit_of(&c->server->limits, phase)) {
        expire(c);
    }
    if (phase == PHASE_HEAD || phase == PHASE_BODY) {
        w->buffered_bytes += c->sock->input->size;
        if (w->largest == NULL || c->sock->input->size > w->largest->sock->input->size) {
            w->largest = c;
        }
    }
    return 0;
}

static void sweep(struct net_server *s)
{
    int64_t now = clock_mono_ms();
    if (now < s->next_sweep_ms) {
        return;
    }
    s->next_sweep_ms = now + sweep_every_ms(&s->limits);
    struct sweep w = {now, 0, NULL};
    (void)s->config.http1.callbacks.foreach_request(&s->ctx, sweep_one, &w);
    if (w.buffered_bytes > s->limits.kept_bytes) {
        expire(w.largest);
    }
    net_server_lingers_close(s, now);
    if (s->accept_paused && !s->stopping && s->n_conns < s->limits.connections) {
        s->accept_paused = 0;
        h2o_socket_read_start(s->listener, net_server_on_accept);
    }
}

/* ---- the thread ---- */

static void set_up(struct net_server *s, int fd)
{
    h2o_config_init(&s->config);
    s->config.server_name.len = 0;
    s->config.http1.upgrade_to_http2 = 0;
    s->config.http1.req_timeout = H2O_NEVER_MS;
    s->config.max_request_entity_size = s->limits.body_bytes + 1; /* h2o refuses from here on */
    h2o_hostconf_t *host =
        h2o_config_register_host(&s->config, h2o_iovec_init("default", 7), 65535);
    h2o_handler_t *handler = h2o_create_handler(&host->fallback_path, sizeof(*handler));
    handler->on_req = net_server_on_request;
    h2o_filter_t *filter = h2o_create_filter(&host->fallback_path, sizeof(*filter));
    filter->on_setup_ostream = net_server_on_setup_ostream;

    s->loop = h2o_evloop_create();
    h2o_context_init(&s->ctx, s->loop, &s->config);
    s->queue = s->ctx.queue;
    h2o_multithread_register_receiver(s->queue, &s->receiver, net_server_on_messages);
    s->accept_ctx.ctx = &s->ctx;
    s->accept_ctx.hosts = s->config.hosts;
    s->listener = h2o_evloop_socket_create(s->loop, fd, H2O_SOCKET_FLAG_DONT_READ);
    s->listener->data = s;
    h2o_socket_read_start(s->listener, net_server_on_accept);
}

/* Kept requests lose their connection, which gets a 503. */
static void detach_requests(struct net_server *s)
{
    for (struct conn *c = s->conns; c != NULL; c = c->next) {
        struct net_request *r = c->request;
        if (r == NULL) {
            continue;
        }
        net_server_conn_gone(c);
        h2o_req_t *req = r->h2o;
        r->conn = NULL;
        r->h2o = NULL;
        c->request = NULL;
        net_server_conn_unwatch(c);
        net_server_refuse(c, req, 503, "connectd is stopping");
    }
}

static void drain(struct net_server *s)
{
    h2o_socket_close(s->listener);
    detach_requests(s);
    int64_t start = clock_mono_ms();
    int64_t now = start;
    while (s->conns != NULL && now < start + STOP_MS) {
        for (struct conn *c = s->conns; c != NULL; c = c->next) {
            if (now >= start + DRAIN_MS || !h2o_socket_is_writing(c->sock)) {
                (void)shutdown(h2o_socket_get_fd(c->sock), SHUT_RDWR);
            }
        }
        (void)h2o_evloop_run(s->loop, 10);
        now = clock_mono_ms();
    }
    mutex_lock(&s->lock);
    s->detached = 1;
    mutex_unlock(&s->lock);
    (void)h2o_evloop_run(s->loop, 0); /* replies that were posted before that */
    net_server_lingers_close(s, INT64_MAX);
}

/* h2o 2.2 leaves behind: the queue itself, the epoll descriptor, and what the thread keeps for reuse. */
static void free_leftovers(struct net_server *s, int epoll_fd)
{
    free(s->queue);
    (void)close(epoll_fd);
    while (h2o_socket_buffer_prototype.allocator.cnt > 0) {
        free(h2o_mem_alloc_recycle(&h2o_socket_buffer_prototype.allocator, 1));
    }
    /* The pool's spare chunks: take them into one pool and free its list by hand (`next` comes first). */
    enum { SPARE_CHUNKS = 17, CHUNK_BYTES = 1000, PER_CHUNK = 4 };
    h2o_mem_pool_t pool;
    h2o_mem_init_pool(&pool);
    for (int i = 0; i < SPARE_CHUNKS * PER_CHUNK; i++) {
        (void)h2o_mem_alloc_pool(&pool, CHUNK_BYTES);
    }
    for (void *chunk = pool.chunks; chunk != NULL;) {
        void *next = *(void **)chunk;
        free(chunk);
        chunk = next;
    }
}

/* The epoll descriptor stands behind the loop's public part; -1 if it is not one after all. */
static int loop_epoll_fd(const h2o_evloop_t *loop)
{
    int fd = -1;
    memcpy(&fd, (const char *)loop + sizeof(*loop), sizeof(fd));
    char path[64];
    char target[64] = "";
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    return n > 0 && strstr(target, "eventpoll") != NULL ? fd : -1;
}

static void tear_down(struct net_server *s)
{
    int epoll_fd = loop_epoll_fd(s->loop);
    if (s->conns != NULL) {
        LOG_ERROR("net", "%zu connections did not close", s->n_conns);
        return; /* leaked: they still point into the loop */
    }
    h2o_multithread_unregister_receiver(s->queue, &s->receiver);
    h2o_context_dispose(&s->ctx);
    h2o_config_dispose(&s->config);
    h2o_evloop_destroy(s->loop);
    free_leftovers(s, epoll_fd);
}

struct start {
    struct net_server *server;
    int fd;
    struct mutex lock;
    struct cond ready_cond;
    int ready;
};

static int is_stopping(struct net_server *s)
{
    mutex_lock(&s->lock);
    int ret = s->stopping;
    mutex_unlock(&s->lock);
    return ret;
}

static void *run(void *arg)
{
    struct start *start = arg;
    struct net_server *s = start->server;
    set_up(s, start->fd);
    mutex_lock(&start->lock);
    s->thread = pthread_self();
    start->ready = 1;
    cond_signal(&start->ready_cond);
    mutex_unlock(&start->lock);
    while (!is_stopping(s)) {
        int64_t wait = INT32_MAX;
        if (s->conns != NULL || s->lingers != NULL || s->accept_paused) {
            wait = s->next_sweep_ms - clock_mono_ms();
            wait = wait < 0 ? 0 : wait;
        }
        (void)h2o_evloop_run(s->loop, (int32_t)wait);
        sweep(s);
    }
    drain(s);
    tear_down(s);
    net_server_unref(s);
    return NULL;
}

static int start_thread(struct net_server *s, int fd, struct err *err)
{
    struct start start = {.server = s, .fd = fd};
    mutex_init(&start.lock);
    cond_init(&start.ready_cond);
    s->refs = 2;
    pthread_t thread;
    int rc = thread_start(&thread, "net", run, &start, err);
    if (rc == 0) {
        mutex_lock(&start.lock);
        while (!start.ready) {
            cond_wait(&start.ready_cond, &start.lock);
        }
        mutex_unlock(&start.lock);
    }
    cond_destroy(&start.ready_cond);
    mutex_destroy(&start.lock);
    return rc;
}

static void free_server(struct net_server *s)
{
    for (size_t i = 0; s->hosts != NULL && s->hosts[i] != NULL; i++) {
        free((void *)(uintptr_t)s->hosts[i]);
    }
    free(s->hosts);
    mutex_destroy(&s->lock);
    free(s);
}

void net_server_unref(struct net_server *s)
{
    mutex_lock(&s->lock);
    size_t left = --s->refs;
    mutex_unlock(&s->lock);
    if (left == 0) {
        free_server(s);
    }
}

static size_t or_size(size_t v, size_t def)
{
    return v != 0 ? v : def;
}

static int64_t or_ms(int64_t v, int64_t def)
{
    return v != 0 ? v : def;
}

static void set_limits(struct net_limits *to, const struct net_limits *from)
{
    to->head_bytes = or_size(from->head_bytes, 65536);
    to->uri_bytes = or_size(from->uri_bytes, 8192);
    to->body_bytes = or_size(from->body_bytes, (size_t)1 << 20);
    to->kept_bytes = or_size(from->kept_bytes, (size_t)64 << 20);
    to->connections = or_size(from->connections, 1024);
    to->head_ms = or_ms(from->head_ms, 10000);
    to->body_ms = or_ms(from->body_ms, 30000);
    to->idle_ms = or_ms(from->idle_ms, 60000);
    to->write_ms = or_ms(from->write_ms, 30000);
}

int net_server_start(const struct net_server_options *o, struct net_server **ret, struct err *err)
{
    struct net_server *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    mutex_init(&s->lock);
    s->handle = o->handle;
    s->arg = o->arg;
    set_limits(&s->limits, &o->limits);
    int fd = -1;
    int rc = bind_address(o->address, o->port, &fd, err);
    if (rc == 0) {
        rc = copy_hosts(s, o->hosts, fd, err);
    }
    if (rc == 0) {
        rc = start_thread(s, fd, err);
    }
    if (rc != 0) {
        if (fd >= 0) {
            (void)close(fd);
        }
        free_server(s);
        return rc;
    }
    *ret = s;
    return 0;
}

uint16_t net_server_port(const struct net_server *s)
{
    return s->port;
}

const char *net_server_authority(const struct net_server *s)
{
    return s->authority;
}

void net_server_stop(struct net_server *s)
{
    if (s == NULL) {
        return;
    }
    mutex_lock(&s->lock);
    s->stopping = 1;
    h2o_multithread_send_message(&s->receiver, NULL);
    pthread_t thread = s->thread;
    mutex_unlock(&s->lock);
    thread_join(thread);
    net_server_unref(s);
}
