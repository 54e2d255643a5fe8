/* The raw client and the recording server. */
#include "net_test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

static void count(struct site *s, int *counter)
{
    mutex_lock(&s->lock);
    ++*counter;
    cond_broadcast(&s->changed);
    mutex_unlock(&s->lock);
}

static void on_gone(void *arg)
{
    struct site *s = arg;
    count(s, &s->gone);
}

static void keep(struct site *s, struct net_request *r)
{
    net_request_on_gone(r, on_gone, s);
    mutex_lock(&s->lock);
    assert_true(s->n_kept < 64);
    s->kept[s->n_kept++] = r;
    cond_broadcast(&s->changed);
    mutex_unlock(&s->lock);
}

/* /echo answers with the body, /keep is kept, /big has N bytes, /query lists its parameters. */
static void handle(void *arg, struct net_request *r)
{
    struct site *s = arg;
    const char *seg[4];
    int n = net_request_segments(r, seg, 4);
    count(s, &s->calls);
    struct buf body;
    buf_init(&body, 32 << 20);
    const char *first = n > 0 ? seg[0] : "";
    if (strcmp(first, "canary") == 0) {
        count(s, &s->canaries);
        buf_append_str(&body, "canary");
    } else if (strcmp(first, "keep") == 0) {
        keep(s, r);
        return;
    } else if (strcmp(first, "echo") == 0) {
        struct slice in = net_request_body(r);
        buf_append(&body, in.ptr, in.len);
    } else if (strcmp(first, "big") == 0) {
        size_t size = (size_t)strtoul(seg[1], NULL, 10);
        memset(buf_extend(&body, size), 'x', size);
    } else if (strcmp(first, "query") == 0) {
        const char *name;
        const char *value;
        for (size_t at = 0; net_request_query_next(r, &at, &name, &value);) {
            buf_printf(&body, "%s=%s;", name, value);
        }
    } else {
        for (int i = 0; i < n; i++) {
            buf_printf(&body, "[%s]", seg[i]);
        }
    }
    net_reply_header(r, "X-Calls", "yes");
    net_reply(r, 200, "text/plain", &body);
}

void site_start(struct site *s, const struct net_limits *limits, const char *const *hosts)
{
    memset(s, 0, sizeof(*s));
    mutex_init(&s->lock);
    cond_init(&s->changed);
    struct net_server_options o = {
        .address = "127.0.0.1", .handle = handle, .arg = s, .hosts = hosts};
    if (limits != NULL) {
        o.limits = *limits;
    }
    struct err err = ERR_INIT;
    if (net_server_start(&o, &s->server, &err) != 0) {
        fail_msg("%s", err.msg);
    }
}

void site_stop(struct site *s)
{
    net_server_stop(s->server);
    cond_destroy(&s->changed);
    mutex_destroy(&s->lock);
}

void site_wait(struct site *s, const int *counter, int n)
{
    int64_t deadline = clock_mono_ms() + DEADLINE_MS;
    mutex_lock(&s->lock);
    while (*counter < n) {
        if (cond_wait_until(&s->changed, &s->lock, deadline) == ERR_TIMEOUT && *counter < n) {
            mutex_unlock(&s->lock);
            fail_msg("waited in vain for %d", n);
        }
    }
    mutex_unlock(&s->lock);
}

int site_read(struct site *s, const int *counter)
{
    mutex_lock(&s->lock);
    int ret = *counter;
    mutex_unlock(&s->lock);
    return ret;
}

int raw_connect(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    return fd;
}

/* A server that has refused already may have closed: what cannot be sent any more is dropped. */
void raw_send(int fd, const void *p, size_t n)
{
    const char *at = p;
    while (n > 0) {
        ssize_t done = send(fd, at, n, MSG_NOSIGNAL);
        if (done < 0 && errno != EINTR) {
            return;
        }
        if (done > 0) {
            at += done;
            n -= (size_t)done;
        }
    }
}

void raw_send_text(int fd, const char *text)
{
    raw_send(fd, text, strlen(text));
}

/* Reads what is there into out: its length, 0 at the end, -1 at the deadline. */
static ssize_t read_some(int fd, struct buf *out, int64_t deadline)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = deadline - clock_mono_ms();
        if (left <= 0 || poll(&p, 1, (int)left) == 0) {
            return -1;
        }
        uint8_t *room = buf_reserve(out, 65536);
        assert_non_null(room);
        ssize_t n = recv(fd, room, 65536, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return 0;
        }
        out->len += (size_t)n;
        return n;
    }
}

int raw_read_all(int fd, struct buf *out)
{
    int64_t deadline = clock_mono_ms() + DEADLINE_MS;
    for (;;) {
        ssize_t n = read_some(fd, out, deadline);
        if (n <= 0) {
            return n == 0;
        }
    }
}

int raw_status(const struct buf *b)
{
    return b->len > 12 && memcmp(b->data, "HTTP/1.1 ", 9) == 0 ? atoi((const char *)b->data + 9)
                                                               : 0;
}

int raw_count(const struct buf *b, const char *needle)
{
    int n = 0;
    const uint8_t *p = b->data;
    size_t left = b->len;
    size_t len = strlen(needle);
    while (left >= len && p != NULL) {
        const uint8_t *at = memmem(p, left, needle, len);
        if (at == NULL) {
            break;
        }
        n++;
        left -= (size_t)(at + len - p);
        p = at + len;
    }
    return n;
}

int raw_read_response(int fd, struct buf *ret_body)
{
    struct buf b;
    buf_init(&b, 64 << 20);
    int64_t deadline = clock_mono_ms() + DEADLINE_MS;
    const char *end = NULL;
    size_t want = SIZE_MAX;
    while (b.len < want) {
        if (read_some(fd, &b, deadline) <= 0) {
            break;
        }
        if (end == NULL && (end = memmem(b.data, b.len, "\r\n\r\n", 4)) != NULL) {
            size_t head = (size_t)(end - (const char *)b.data) + 4;
            const char *length = strcasestr(buf_cstr(&b), "\r\nContent-Length: ");
            want = head + (length == NULL ? 0 : (size_t)strtoul(length + 18, NULL, 10));
            if (ret_body != NULL) {
                ret_body->len = 0;
            }
        }
    }
    int status = b.len >= want ? raw_status(&b) : 0;
    if (ret_body != NULL && status != 0) {
        const uint8_t *p = memmem(b.data, b.len, "\r\n\r\n", 4);
        buf_clear(ret_body);
        buf_append(ret_body, p + 4, b.len - (size_t)(p + 4 - b.data));
    }
    buf_free(&b);
    return status;
}

void assert_serves(struct site *s)
{
    int fd = raw_connect(net_server_port(s->server));
    struct buf body;
    buf_init(&body, 0);
    raw_send_text(fd, "GET /a/b HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_int_equal(raw_read_response(fd, &body), 200);
    assert_string_equal(buf_cstr(&body), "[a][b]");
    buf_free(&body);
    close(fd);
}
