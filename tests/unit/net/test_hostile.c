/*
 * Hostile requests on raw sockets. Behind each one stands a second request, the canary, on the same
 * connection: it must never reach the handler, since whoever sees it would have been smuggled to. After each, a
 * normal request on a new connection is served.
 */
#include "net_test.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOST   "Host: localhost\r\n"
#define CANARY "GET /canary HTTP/1.1\r\nHost: localhost\r\n\r\n"
#define ANY    (-1) /* refused with whatever 4xx or 5xx, or closed without a word */

struct hostile {
    const char *name;
    int status;
    const char *text;
    size_t n; /* 0: strlen */
};

#define TEXT(s) s, sizeof(s) - 1

static const struct hostile hostile[] = {
    {"CL and TE", 400,
     TEXT("POST /echo HTTP/1.1\r\n" HOST
          "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")},
    {"TE and CL", 400,
     TEXT("POST /echo HTTP/1.1\r\n" HOST
          "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n")},
    {"two CLs that differ", 400,
     TEXT("POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab")},
    {"two CLs that agree", 400,
     TEXT("POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 1\r\n\r\na")},
    {"CL list", 400, TEXT("POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1, 1\r\n\r\na")},
    {"negative CL", 400, TEXT("POST /echo HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n")},
    {"signed CL", 400, TEXT("POST /echo HTTP/1.1\r\n" HOST "Content-Length: +1\r\n\r\na")},
    {"hexadecimal CL", 400, TEXT("POST /echo HTTP/1.1\r\n" HOST "Content-Length: 0x1\r\n\r\na")},
    {"empty CL", 400, TEXT("POST /echo HTTP/1.1\r\n" HOST "Content-Length: \r\n\r\na")},
    {"CL beyond 64 bits", ANY,
     TEXT("POST /echo HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551617\r\n\r\na")},
    {"CL over the limit", 413,
     TEXT("POST /echo HTTP/1.1\r\n" HOST "Content-Length: 99999999\r\n\r\n")},
    {"TE xchunked", 400,
     TEXT("POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n")},
    {"TE gzip, chunked", 400,
     TEXT("POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")},
    {"TE identity", 400,
     TEXT("POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: identity\r\n\r\n")},
    {"TE with a vertical tab", 400,
     TEXT("POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: \x0b"
          "chunked\r\n\r\n0\r\n\r\n")},
    {"TE name with a blank", 400,
     TEXT("POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n")},
    {"TE twice", 400,
     TEXT("POST /echo HTTP/1.1\r\n" HOST
          "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n")},
    {"TE in HTTP/1.0", 400,
     TEXT("POST /echo HTTP/1.0\r\n" HOST
          "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")},
    {"bad chunk size", 400,
     TEXT("POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n")},
    {"negative chunk size", 400,
     TEXT("POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n")},
    {"chunk size beyond 64 bits", 400,
     TEXT("POST /echo HTTP/1.1\r\n" HOST
          "Transfer-Encoding: chunked\r\n\r\n10000000000000001\r\na\r\n0\r\n\r\n")},
    {"chunk longer than said", 400,
     TEXT("POST /echo HTTP/1.1\r\n" HOST
          "Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n")},
    {"no Host", 400, TEXT("GET /echo HTTP/1.1\r\n\r\n")},
    {"no Host in HTTP/1.0", 400, TEXT("GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")},
    {"two Hosts", 400, TEXT("GET /echo HTTP/1.1\r\n" HOST "Host: localhost\r\n\r\n")},
    {"allowed Host behind a foreign one", ANY,
     TEXT("GET /echo HTTP/1.1\r\nHost: evil.example\r\n" HOST "\r\n")},
    {"foreign Host", 403, TEXT("GET /echo HTTP/1.1\r\nHost: evil.example\r\n\r\n")},
    {"bad port in Host", 400, TEXT("GET /echo HTTP/1.1\r\nHost: localhost:8x\r\n\r\n")},
    {"bare LF in the request line", 400, TEXT("GET /echo HTTP/1.1\n" HOST "\r\n")},
    {"bare LF in a header", 400, TEXT("GET /echo HTTP/1.1\r\nX: a\nHost: localhost\r\n\r\n")},
    {"bare LF at the end", 400, TEXT("GET /echo HTTP/1.1\r\n" HOST "\n")},
    {"bare CR in a header", 400, TEXT("GET /echo HTTP/1.1\r\n" HOST "X: a\rb\r\n\r\n")},
    {"folded header", 400, TEXT("GET /echo HTTP/1.1\r\n" HOST "X: a\r\n b\r\n\r\n")},
    {"folded Content-Length", 400,
     TEXT("POST /echo HTTP/1.1\r\n" HOST "Content-Length:\r\n 1\r\n\r\na")},
    {"folded first header", 400, TEXT("GET /echo HTTP/1.1\r\n Host: localhost\r\n\r\n")},
    {"NUL in a header", 400, TEXT("GET /echo HTTP/1.1\r\n" HOST "X: a\0b\r\n\r\n")},
    {"NUL in the target", 400, TEXT("GET /ec\0ho HTTP/1.1\r\n" HOST "\r\n")},
    {"header without a name", 400, TEXT("GET /echo HTTP/1.1\r\n" HOST ": a\r\n\r\n")},
    {"header without a colon", 400, TEXT("GET /echo HTTP/1.1\r\n" HOST "what\r\n\r\n")},
    {"escape cut off", 400, TEXT("GET /ech%6 HTTP/1.1\r\n" HOST "\r\n")},
    {"escape of no digits", 400, TEXT("GET /%zz HTTP/1.1\r\n" HOST "\r\n")},
    {"escaped NUL", 400, TEXT("GET /echo%00 HTTP/1.1\r\n" HOST "\r\n")},
    {"escape that is not UTF-8", 400, TEXT("GET /%c0%af HTTP/1.1\r\n" HOST "\r\n")},
    {"raw byte above 127", 400, TEXT("GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n")},
    {"absolute target", 400, TEXT("GET http://localhost/echo HTTP/1.1\r\n" HOST "\r\n")},
    {"target without a slash", 400, TEXT("GET echo HTTP/1.1\r\n" HOST "\r\n")},
    {"asterisk", 400, TEXT("OPTIONS * HTTP/1.1\r\n" HOST "\r\n")},
    {"fragment", 400, TEXT("GET /echo#x HTTP/1.1\r\n" HOST "\r\n")},
    {"unknown method", 501, TEXT("BREW /echo HTTP/1.1\r\n" HOST "\r\n")},
    {"CONNECT", ANY, TEXT("CONNECT localhost:1 HTTP/1.1\r\n" HOST "\r\n")},
    {"TRACE", 501, TEXT("TRACE /echo HTTP/1.1\r\n" HOST "\r\n")},
    {"no version", ANY, TEXT("GET /echo\r\n" HOST "\r\n")},
    {"HTTP/1.9", 505, TEXT("GET /echo HTTP/1.9\r\n" HOST "\r\n")},
    {"HTTP/2 preface", ANY, TEXT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")},
    {"h2c upgrade with a body over the limit", 413,
     TEXT("POST /echo HTTP/1.1\r\n" HOST "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
          "HTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 99999999\r\n\r\n")},
    {"compressed body", 415,
     TEXT("POST /echo HTTP/1.1\r\n" HOST "Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\na")},
    {"unknown expectation", 417,
     TEXT("POST /echo HTTP/1.1\r\n" HOST "Expect: x\r\nContent-Length: 1\r\n\r\na")},
    {"TLS hello", ANY, TEXT("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")},
};

static void one(struct site *s, const struct hostile *h)
{
    int fd = raw_connect(net_server_port(s->server));
    struct buf all;
    buf_init(&all, 0);
    raw_send(fd, h->text, h->n);
    raw_send_text(fd, CANARY);
    (void)shutdown(fd, SHUT_WR);
    if (!raw_read_all(fd, &all)) {
        fail_msg("%s: the connection stays open", h->name);
    }
    int status = raw_status(&all);
    int ok = h->status == ANY ? status == 0 || status >= 400 : status == h->status;
    if (!ok || raw_count(&all, "\nContent-Length: ") > 1 || site_read(s, &s->canaries) != 0) {
        fail_msg("%s: status %d, not %d; canaries %d\n%s", h->name, status, h->status,
                 site_read(s, &s->canaries), buf_cstr(&all));
    }
    buf_free(&all);
    close(fd);
    assert_serves(s);
}

static void refused_and_never_smuggled(void **state)
{
    (void)state;
    struct site s;
    site_start(&s, NULL, NULL);
    size_t n = sizeof(hostile) / sizeof(hostile[0]);
    assert_true(n >= 50);
    for (size_t i = 0; i < n; i++) {
        one(&s, &hostile[i]);
    }
    site_stop(&s);
}

/* The control: behind a good request the canary is answered, so the test above can fail. */
static void canary_sings_behind_a_good_request(void **state)
{
    (void)state;
    struct site s;
    site_start(&s, NULL, NULL);
    int fd = raw_connect(net_server_port(s.server));
    struct buf all;
    buf_init(&all, 0);
    raw_send_text(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nab" CANARY);
    raw_send_text(fd, "POST /echo HTTP/1.1\r\n" HOST
                      "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\n" CANARY);
    (void)shutdown(fd, SHUT_WR);
    assert_true(raw_read_all(fd, &all));
    assert_int_equal(raw_count(&all, "HTTP/1.1 200 "), 4);
    assert_int_equal(site_read(&s, &s.canaries), 2);
    buf_free(&all);
    close(fd);
    site_stop(&s);
}

/* Cut off anywhere, a request is not answered, and nothing is left behind. */
static void cut_off_requests(void **state)
{
    (void)state;
    static const char text[] = "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n123456789";
    struct site s;
    site_start(&s, NULL, NULL);
    for (size_t n = 0; n < sizeof(text); n += 5) {
        int fd = raw_connect(net_server_port(s.server));
        struct buf all;
        buf_init(&all, 0);
        raw_send(fd, text, n);
        (void)shutdown(fd, SHUT_WR);
        assert_true(raw_read_all(fd, &all));
        assert_int_equal(all.len, 0);
        buf_free(&all);
        close(fd);
    }
    assert_int_equal(site_read(&s, &s.calls), 0);
    assert_serves(&s);
    site_stop(&s);
}

/* Over-long heads: the status comes through although the client was still sending. */
static void long_heads(void **state)
{
    (void)state;
    static const struct {
        const char *before, *after;
        size_t fill;
        int status;
    } cases[] = {
        {"GET /", " HTTP/1.1\r\n" HOST "\r\n", 8192, 414},
        {"GET /", " HTTP/1.1\r\n" HOST "\r\n", 200000, 414},
        {"GET / HTTP/1.1\r\n" HOST "X: ", "\r\n\r\n", 70000, 431},
        {"GET / HTTP/1.1\r\n" HOST "X: ", "\r\n\r\n", 2 << 20, ANY},
    };
    struct site s;
    site_start(&s, NULL, NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf text;
        struct buf all;
        buf_init(&text, 0);
        buf_init(&all, 0);
        buf_append_str(&text, cases[i].before);
        memset(buf_extend(&text, cases[i].fill), 'a', cases[i].fill);
        buf_append_str(&text, cases[i].after);
        int fd = raw_connect(net_server_port(s.server));
        raw_send(fd, text.data, text.len);
        (void)shutdown(fd, SHUT_WR);
        assert_true(raw_read_all(fd, &all));
        int status = raw_status(&all);
        assert_true(cases[i].status == ANY ? status == 0 || status >= 400
                                           : status == cases[i].status);
        buf_free(&text);
        buf_free(&all);
        close(fd);
        assert_serves(&s);
    }
    assert_int_equal(site_read(&s, &s.canaries), 0);
    site_stop(&s);
}

int run_hostile_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_and_never_smuggled),
        cmocka_unit_test(canary_sings_behind_a_good_request),
        cmocka_unit_test(cut_off_requests),
        cmocka_unit_test(long_heads),
    };
    return cmocka_run_group_tests_name("net: hostile", tests, NULL, NULL);
}
