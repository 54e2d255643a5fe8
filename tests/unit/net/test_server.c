/* The server's behaviour: bodies, delayed replies, hang-ups, time-outs, limits, stop. */
#include "net_test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOST "Host: localhost\r\n"

static struct net_request *take_kept(struct site *s, int i)
{
    mutex_lock(&s->lock);
    struct net_request *r = s->kept[i];
    mutex_unlock(&s->lock);
    return r;
}

static void answer(struct net_request *r, const char *text)
{
    struct buf body;
    buf_init(&body, 0);
    buf_append_str(&body, text);
    net_reply(r, 200, "text/plain", &body);
    assert_null(body.data);
}

static void paths_and_queries_are_decoded(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"/", ""},
        {"/a%20b/%2Fc/", "[a b][/c]"},
        {"/a//b", "[a][][b]"},
        {"/query?x=1&y=a%26b+c&z&&=q", "x=1;y=a&b c;z=;=q;"},
    };
    struct site s;
    site_start(&s, NULL, NULL);
    int fd = raw_connect(net_server_port(s.server));
    struct buf body;
    buf_init(&body, 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[256];
        (void)snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\n" HOST "\r\n", cases[i][0]);
        raw_send_text(fd, text);
        assert_int_equal(raw_read_response(fd, &body), 200);
        assert_string_equal(buf_cstr(&body), cases[i][1]);
    }
    buf_free(&body);
    close(fd);
    site_stop(&s);
}

/* Up to the limit bodies come through whole, by length and chunked; one byte more is 413, and the client
 * sees it although it is still sending. */
static void bodies_up_to_the_limit(void **state)
{
    (void)state;
    const struct net_limits limits = {.body_bytes = 3 << 20};
    struct site s;
    site_start(&s, &limits, NULL);
    for (int chunked = 0; chunked < 2; chunked++) {
        for (int over = 0; over < 2; over++) {
            size_t n = limits.body_bytes + (size_t)over;
            struct buf text;
            struct buf body;
            buf_init(&text, 0);
            buf_init(&body, 0);
            buf_printf(&text, "POST /echo HTTP/1.1\r\n" HOST);
            buf_printf(&text,
                       chunked ? "Transfer-Encoding: chunked\r\n\r\n%zx\r\n"
                               : "Content-Length: %zu\r\n\r\n",
                       n);
            size_t start = text.len;
            uint8_t *p = buf_extend(&text, n);
            for (size_t i = 0; i < n; i++) {
                p[i] = (uint8_t)(i * 2654435761u >> 24);
            }
            buf_append_str(&text, chunked ? "\r\n0\r\n\r\n" : "");
            int fd = raw_connect(net_server_port(s.server));
            raw_send(fd, text.data, text.len);
            int status = raw_read_response(fd, &body);
            assert_int_equal(status, over ? 413 : 200);
            if (!over) {
                assert_int_equal(body.len, n);
                assert_memory_equal(body.data, text.data + start, n);
            } else {
                assert_int_equal(raw_count(&body, "\"error_code\":413"), 1);
            }
            buf_free(&text);
            buf_free(&body);
            close(fd);
        }
    }
    site_stop(&s);
}

static void head_has_no_body(void **state)
{
    (void)state;
    struct site s;
    site_start(&s, NULL, NULL);
    int fd = raw_connect(net_server_port(s.server));
    struct buf all;
    buf_init(&all, 0);
    raw_send_text(fd, "HEAD /big/1000 HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    assert_true(raw_read_all(fd, &all));
    assert_int_equal(raw_status(&all), 200);
    assert_int_equal(raw_count(&all, "Content-Length: 1000\r\n"), 1);
    assert_int_equal(raw_count(&all, "xx"), 0);
    buf_free(&all);
    close(fd);
    site_stop(&s);
}

static void *answer_from_thread(void *arg)
{
    answer(arg, "later");
    return NULL;
}

/* Kept requests are answered from other threads, in any order, and hold nobody up. */
static void delayed_replies(void **state)
{
    (void)state;
    enum { N = 32 };
    struct site s;
    site_start(&s, NULL, NULL);
    int fds[N];
    for (int i = 0; i < N; i++) {
        fds[i] = raw_connect(net_server_port(s.server));
        raw_send_text(fds[i], "GET /keep HTTP/1.1\r\n" HOST "\r\n");
        site_wait(&s, &s.n_kept, i + 1);
    }
    assert_serves(&s);
    for (int i = N - 1; i >= 0; i--) {
        pthread_t t;
        assert_int_equal(pthread_create(&t, NULL, answer_from_thread, take_kept(&s, i)), 0);
        struct buf body;
        buf_init(&body, 0);
        assert_int_equal(raw_read_response(fds[i], &body), 200);
        assert_string_equal(buf_cstr(&body), "later");
        buf_free(&body);
        assert_int_equal(pthread_join(t, NULL), 0);
        /* the connection goes on */
        raw_send_text(fds[i], "GET / HTTP/1.1\r\n" HOST "\r\n");
        assert_int_equal(raw_read_response(fds[i], NULL), 200);
        close(fds[i]);
    }
    assert_int_equal(site_read(&s, &s.gone), 0);
    site_stop(&s);
}

/* A pipelined request waits for the kept one before it. */
static void pipelined_behind_a_kept_one(void **state)
{
    (void)state;
    struct site s;
    site_start(&s, NULL, NULL);
    int fd = raw_connect(net_server_port(s.server));
    raw_send_text(fd, "GET /keep HTTP/1.1\r\n" HOST "\r\nGET /x HTTP/1.1\r\n" HOST "\r\n");
    site_wait(&s, &s.n_kept, 1);
    raw_send_text(fd, "GET /y HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    assert_serves(&s);
    assert_int_equal(site_read(&s, &s.calls), 2); /* /keep and the one above */
    answer(take_kept(&s, 0), "first");
    struct buf all;
    buf_init(&all, 0);
    assert_true(raw_read_all(fd, &all));
    const char *text = buf_cstr(&all);
    assert_int_equal(raw_count(&all, "HTTP/1.1 200 "), 3);
    assert_true(strstr(text, "first") < strstr(text, "[x]"));
    assert_true(strstr(text, "[x]") < strstr(text, "[y]"));
    buf_free(&all);
    close(fd);
    site_stop(&s);
}

/* A client that hangs up is told of; the late reply goes nowhere. One that only shut down its sending
 * side still gets its answer. */
static void hang_up_is_told(void **state)
{
    (void)state;
    struct site s;
    site_start(&s, NULL, NULL);
    int fd = raw_connect(net_server_port(s.server));
    raw_send_text(fd, "GET /keep HTTP/1.1\r\n" HOST "\r\n");
    site_wait(&s, &s.n_kept, 1);
    assert_int_equal(site_read(&s, &s.gone), 0);
    close(fd);
    site_wait(&s, &s.gone, 1);
    answer(take_kept(&s, 0), "nobody");

    fd = raw_connect(net_server_port(s.server));
    raw_send_text(fd, "GET /keep HTTP/1.1\r\n" HOST "\r\n");
    (void)shutdown(fd, SHUT_WR);
    site_wait(&s, &s.n_kept, 2);
    site_wait(&s, &s.gone, 2);
    answer(take_kept(&s, 1), "somebody");
    struct buf body;
    buf_init(&body, 0);
    assert_int_equal(raw_read_response(fd, &body), 200);
    assert_string_equal(buf_cstr(&body), "somebody");
    buf_free(&body);
    close(fd);
    assert_serves(&s);
    site_stop(&s);
}

/* Kept requests are limited by their bytes, all together. */
static void kept_bytes_are_limited(void **state)
{
    (void)state;
    const struct net_limits limits = {.kept_bytes = 200000};
    struct site s;
    site_start(&s, &limits, NULL);
    static char body[100000];
    memset(body, 'a', sizeof(body));
    int fds[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = raw_connect(net_server_port(s.server));
        raw_send_text(fds[i], "POST /keep HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n");
        raw_send(fds[i], body, sizeof(body));
        if (i == 0) {
            site_wait(&s, &s.n_kept, 1);
        }
    }
    struct buf all;
    buf_init(&all, 0);
    assert_int_equal(raw_read_all(fds[1], &all), 1);
    assert_int_equal(raw_status(&all), 503);
    assert_int_equal(raw_count(&all, "retry-after: 1"), 1);
    buf_free(&all);
    answer(take_kept(&s, 0), "done");
    assert_int_equal(raw_read_response(fds[0], NULL), 200);
    close(fds[0]);
    close(fds[1]);
    assert_serves(&s);
    site_stop(&s);
}

/* Slow clients of three kinds lose their connection, others are served meanwhile. */
static void slow_clients(void **state)
{
    (void)state;
    const struct net_limits limits = {.head_ms = 150, .body_ms = 150, .idle_ms = 150};
    static const struct {
        const char *text;
        int status;
    } cases[] = {
        {"", 0},
        {"GET / HT", 408},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n123", 408},
    };
    struct site s;
    site_start(&s, &limits, NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = raw_connect(net_server_port(s.server));
        raw_send_text(fd, cases[i].text);
        assert_serves(&s);
        struct buf all;
        buf_init(&all, 0);
        assert_true(raw_read_all(fd, &all));
        assert_int_equal(raw_status(&all), cases[i].status);
        if (cases[i].status != 0) {
            const char *end = strstr(buf_cstr(&all), "\r\n\r\n");
            assert_non_null(end);
            assert_int_equal(strlen(end + 4), 65); /* as its Content-Length says */
        }
        buf_free(&all);
        close(fd);
    }
    /* a handler's time is not the client's: a kept request stays, however long it takes */
    int fd = raw_connect(net_server_port(s.server));
    raw_send_text(fd, "GET /keep HTTP/1.1\r\n" HOST "\r\n");
    site_wait(&s, &s.n_kept, 1);
    int idle = raw_connect(net_server_port(s.server));
    struct buf none;
    buf_init(&none, 0);
    assert_true(raw_read_all(idle, &none)); /* an idle one times out meanwhile */
    buf_free(&none);
    answer(take_kept(&s, 0), "patience");
    assert_int_equal(raw_read_response(fd, NULL), 200);
    close(idle);
    close(fd);
    site_stop(&s);
}

/* A client that takes nothing of a large response is dropped. */
static void client_that_does_not_read(void **state)
{
    (void)state;
    const struct net_limits limits = {.write_ms = 200};
    struct site s;
    site_start(&s, &limits, NULL);
    int fd = raw_connect(net_server_port(s.server));
    int small = 4096;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    raw_send_text(fd, "GET /big/16000000 HTTP/1.1\r\n" HOST "\r\n");
    site_wait(&s, &s.calls, 1);
    /* The other end closes: sending fails in the end, without a byte having been read. */
    int64_t deadline = clock_mono_ms() + DEADLINE_MS;
    int dropped = 0;
    while (!dropped && clock_mono_ms() < deadline) {
        assert_serves(&s);
        dropped = send(fd, "x", 1, MSG_NOSIGNAL) < 0;
    }
    assert_true(dropped);
    close(fd);
    site_stop(&s);
}

/* At the limit of connections, idle ones make room. */
static void idle_connections_make_room(void **state)
{
    (void)state;
    enum { LIMIT = 50, N = 300 };
    const struct net_limits limits = {.connections = LIMIT, .idle_ms = 60000};
    struct site s;
    site_start(&s, &limits, NULL);
    int fds[N];
    for (int i = 0; i < N; i++) {
        fds[i] = raw_connect(net_server_port(s.server));
    }
    assert_serves(&s);
    int open = 0;
    for (int i = 0; i < N; i++) {
        char byte;
        open += recv(fds[i], &byte, 1, MSG_DONTWAIT) < 0;
        close(fds[i]);
    }
    assert_true(open <= LIMIT);
    assert_serves(&s);
    site_stop(&s);
}

static void many_idle_connections(void **state)
{
    (void)state;
    enum { N = 400 };
    struct site s;
    site_start(&s, NULL, NULL);
    int fds[N];
    for (int i = 0; i < N; i++) {
        fds[i] = raw_connect(net_server_port(s.server));
        raw_send_text(fds[i], "GET / HTTP/1.1\r\n" HOST "\r\n");
        assert_int_equal(raw_read_response(fds[i], NULL), 200);
    }
    assert_serves(&s);
    for (int i = 0; i < N; i += 37) { /* all are alive still */
        raw_send_text(fds[i], "GET / HTTP/1.1\r\n" HOST "\r\n");
        assert_int_equal(raw_read_response(fds[i], NULL), 200);
    }
    for (int i = 0; i < N; i++) {
        close(fds[i]);
    }
    site_stop(&s);
}

/* Stop answers kept requests; their owners reply into nothing, even after the server is gone. */
static void stop_with_kept_requests(void **state)
{
    (void)state;
    struct site s;
    site_start(&s, NULL, NULL);
    int fd = raw_connect(net_server_port(s.server));
    int idle = raw_connect(net_server_port(s.server));
    raw_send_text(fd, "POST /keep HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc");
    site_wait(&s, &s.n_kept, 1);
    struct net_request *r = take_kept(&s, 0);
    net_server_stop(s.server);
    s.server = NULL;
    assert_int_equal(site_read(&s, &s.gone), 1);
    assert_memory_equal(net_request_body(r).ptr, "abc", 3);
    answer(r, "too late");
    struct buf all;
    buf_init(&all, 0);
    assert_true(raw_read_all(fd, &all));
    assert_int_equal(raw_status(&all), 503);
    buf_clear(&all);
    assert_true(raw_read_all(idle, &all));
    buf_free(&all);
    close(fd);
    close(idle);
    site_stop(&s);
}

/* Starting and stopping leaves no descriptor behind. */
static int count_fds(void)
{
    int n = 0;
    for (int fd = 0; fd < 1024; fd++) {
        char path[64];
        char target[8];
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        n += readlink(path, target, sizeof(target)) >= 0;
    }
    return n;
}

static void stop_leaves_nothing(void **state)
{
    (void)state;
    int before = count_fds();
    for (int i = 0; i < 5; i++) {
        struct site s;
        site_start(&s, NULL, NULL);
        assert_serves(&s);
        site_stop(&s);
    }
    assert_int_equal(count_fds(), before);
}

static void unused(void *arg, struct net_request *r)
{
    (void)arg;
    net_reply(r, 204, NULL, NULL);
}

static void taken_port_and_bad_address(void **state)
{
    (void)state;
    struct site s;
    site_start(&s, NULL, NULL);
    struct net_server *other = NULL;
    struct err err = ERR_INIT;
    struct net_server_options o = {
        .address = "127.0.0.1", .port = net_server_port(s.server), .handle = unused};
    assert_int_equal(net_server_start(&o, &other, &err), ERR_BUSY);
    assert_non_null(strstr(err.msg, "127.0.0.1"));
    o.port = 0;
    o.address = "999.1.1.1";
    assert_true(net_server_start(&o, &other, &err) < 0);
    assert_null(other);
    o.address = "0.0.0.0";
    assert_int_equal(net_server_start(&o, &other, &err), 0);
    int fd = raw_connect(net_server_port(other));
    raw_send_text(fd, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    assert_int_equal(raw_read_response(fd, NULL), 204);
    raw_send_text(fd, "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_int_equal(raw_read_response(fd, NULL), 403);
    close(fd);
    net_server_stop(other);
    site_stop(&s);
}

static void further_hosts(void **state)
{
    (void)state;
    static const char *const hosts[] = {"events.example", NULL};
    struct site s;
    site_start(&s, NULL, hosts);
    int fd = raw_connect(net_server_port(s.server));
    raw_send_text(fd, "GET / HTTP/1.1\r\nHost: events.example:80\r\n\r\n");
    assert_int_equal(raw_read_response(fd, NULL), 200);
    close(fd);
    assert_serves(&s);
    site_stop(&s);
}

int run_server_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_and_queries_are_decoded),
        cmocka_unit_test(bodies_up_to_the_limit),
        cmocka_unit_test(head_has_no_body),
        cmocka_unit_test(delayed_replies),
        cmocka_unit_test(pipelined_behind_a_kept_one),
        cmocka_unit_test(hang_up_is_told),
        cmocka_unit_test(kept_bytes_are_limited),
        cmocka_unit_test(slow_clients),
        cmocka_unit_test(client_that_does_not_read),
        cmocka_unit_test(idle_connections_make_room),
        cmocka_unit_test(many_idle_connections),
        cmocka_unit_test(stop_with_kept_requests),
        cmocka_unit_test(stop_leaves_nothing),
        cmocka_unit_test(taken_port_and_bad_address),
        cmocka_unit_test(further_hosts),
    };
    return cmocka_run_group_tests_name("net: server", tests, NULL, NULL);
}
