/* head.c alone: every refusal's status, and what is taken. */
#include "net_test.h"

#include <stdio.h>
#include <string.h>

#include "net/head.h"

static const char *const allowed[] = {"gateway.example", "10.1.2.3", NULL};
static const struct net_head_rules rules = {4096, 256, allowed};

static int parse(const char *text, struct net_head *head, struct err *err)
{
    return net_head_parse(text, strlen(text), &rules, head, err);
}

#define HOST "Host: localhost\r\n"

static void takes_what_is_right(void **state)
{
    (void)state;
    static const char *const good[] = {
        "GET / HTTP/1.1\r\n" HOST "\r\n",
        "\r\nGET / HTTP/1.1\r\n" HOST "\r\n",
        "GET / HTTP/1.0\r\n" HOST "\r\n",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:8083\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 127.9.9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: LOCALHOST:1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]:8083\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n",
        "GET / HTTP/1.1\r\nhost:\tGateway.Example:80 \r\n\r\n",
        "GET / HTTP/1.1\r\nHost: 10.1.2.3\r\n\r\n",
        "GET /%41%c3%a4?x=%20+&y HTTP/1.1\r\n" HOST "\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n\r\n",
        "POST / HTTP/1.1\r\n" HOST "Content-Encoding: identity\r\nExpect: 100-continue\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct net_head head;
        struct err err = ERR_INIT;
        int status = parse(good[i], &head, &err);
        if (status != 0) {
            fail_msg("%s -> %d %s", good[i], status, err.msg);
        }
        assert_int_equal(head.bytes, strlen(good[i]));
    }
}

static void refuses_with_the_right_status(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *text;
    } bad[] = {
        {400, "GET / HTTP/1.1\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST HOST "\r\n"},
        {400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: localhost:\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: localhost:8x\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"},
        {403, "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"},
        {403, "GET / HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n"},
        {403, "GET / HTTP/1.1\r\nHost: localhost,evil.example\r\n\r\n"},
        {403, "GET / HTTP/1.1\r\nHost: 127.1\r\n\r\n"},
        {403, "GET / HTTP/1.1\r\nHost: 128.0.0.1\r\n\r\n"},
        {400, "GET / HTTP/1.1\n" HOST "\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: localhost\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST "\n"},
        {400, "GET / HTTP/1.1\r\n" HOST "X: a\r\n b\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST "X : a\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST ": a\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST "nocolon\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST "X: a\rb\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST "X: \x01\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST "Content-Length: +1\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST "Content-Length: 1 1\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST "Content-Length: 0x1\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST "Content-Length: 1, 1\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST "Content-Length:\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 1\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 2\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST
              "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"},
        {400, "GET / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"},
        {400, "GET http://localhost/ HTTP/1.1\r\n" HOST "\r\n"},
        {400, "GET * HTTP/1.1\r\n" HOST "\r\n"},
        {400, "GET  HTTP/1.1\r\n" HOST "\r\n"},
        {400, "GET /a b HTTP/1.1\r\n" HOST "\r\n"},
        {400, "GET /a#b HTTP/1.1\r\n" HOST "\r\n"},
        {400, "GET /\x80 HTTP/1.1\r\n" HOST "\r\n"},
        {400, "GET /%zz HTTP/1.1\r\n" HOST "\r\n"},
        {400, "GET /%4 HTTP/1.1\r\n" HOST "\r\n"},
        {400, "GET /% HTTP/1.1\r\n" HOST "\r\n"},
        {400, "GET /%00 HTTP/1.1\r\n" HOST "\r\n"},
        {400, "GET /%ff HTTP/1.1\r\n" HOST "\r\n"},
        {400, "GET /?x=%c0%80 HTTP/1.1\r\n" HOST "\r\n"},
        {400, "GET /\r\n" HOST "\r\n"},
        {400, "G(T / HTTP/1.1\r\n" HOST "\r\n"},
        {501, "BREW / HTTP/1.1\r\n" HOST "\r\n"},
        {501, "get / HTTP/1.1\r\n" HOST "\r\n"},
        {501, "TRACE / HTTP/1.1\r\n" HOST "\r\n"},
        {505, "GET / HTTP/1.2\r\n" HOST "\r\n"},
        {505, "GET / HTTP/2.0\r\n" HOST "\r\n"},
        {505, "GET / http/1.1\r\n" HOST "\r\n"},
        {415, "GET / HTTP/1.1\r\n" HOST "Content-Encoding: gzip\r\n\r\n"},
        {417, "GET / HTTP/1.1\r\n" HOST "Expect: the-unexpected\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n" HOST},
        {400, ""},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct net_head head;
        struct err err = ERR_INIT;
        int status = parse(bad[i].text, &head, &err);
        if (status != bad[i].status || err.msg[0] == '\0') {
            fail_msg("%s -> %d (%s), not %d", bad[i].text, status, err.msg, bad[i].status);
        }
    }
}

static void holds_the_limits(void **state)
{
    (void)state;
    struct buf b;
    struct net_head head;
    struct err err = ERR_INIT;
    for (int over = 0; over < 2; over++) {
        buf_init(&b, 0);
        buf_append_str(&b, "GET /");
        for (size_t i = 1; i < rules.uri_bytes + (size_t)over; i++) {
            buf_append_u8(&b, 'a');
        }
        buf_append_str(&b, " HTTP/1.1\r\n" HOST "\r\n");
        assert_int_equal(parse(buf_cstr(&b), &head, &err), over ? 414 : 0);
        buf_free(&b);
    }
    buf_init(&b, 0);
    buf_append_str(&b, "GET / HTTP/1.1\r\n" HOST);
    for (int i = 0; i < 200; i++) {
        buf_printf(&b, "X-%d: y\r\n", i);
    }
    buf_append_str(&b, "\r\n");
    assert_int_equal(parse(buf_cstr(&b), &head, &err), 431);
    buf_clear(&b);
    buf_append_str(&b, "GET / HTTP/1.1\r\n" HOST "X: ");
    for (int i = 0; i < 5000; i++) {
        buf_append_u8(&b, 'y');
    }
    buf_append_str(&b, "\r\n\r\n");
    assert_int_equal(parse(buf_cstr(&b), &head, &err), 431);
    buf_free(&b);
}

/* Any prefix and any single changed byte of a good head ends in a verdict, never outside the bytes. */
static void survives_mutations(void **state)
{
    (void)state;
    static const char good[] =
        "POST /a%20b/c?d=e%20f&g HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 12\r\n"
        "Transfer-Encoding: chunked\r\nX-y: \tz \r\n\r\n";
    char copy[sizeof(good)];
    struct net_head head;
    for (size_t n = 0; n < sizeof(good); n++) {
        struct buf exact; /* of exactly n bytes, so that a sanitizer sees a read behind it */
        buf_init(&exact, 0);
        buf_append(&exact, good, n);
        assert_int_not_equal(net_head_parse((const char *)exact.data, n, &rules, &head, NULL), 0);
        buf_free(&exact);
    }
    for (size_t i = 0; i < sizeof(good) - 1; i++) {
        for (int c = 0; c < 256; c += 7) {
            memcpy(copy, good, sizeof(good));
            copy[i] = (char)c;
            int status = net_head_parse(copy, sizeof(good) - 1, &rules, &head, NULL);
            assert_true(status == 0 || (status >= 400 && status <= 505));
        }
    }
}

int run_head_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_what_is_right),
        cmocka_unit_test(refuses_with_the_right_status),
        cmocka_unit_test(holds_the_limits),
        cmocka_unit_test(survives_mutations),
    };
    return cmocka_run_group_tests_name("net: head", tests, NULL, NULL);
}
