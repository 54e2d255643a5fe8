/* The client against the server. */
#include "net_test.h"

#include <stdio.h>
#include <string.h>

static void gets_and_posts(void **state)
{
    (void)state;
    struct site s;
    site_start(&s, NULL, NULL);
    const struct net_client_options o = {.body_bytes = 10000};
    struct net_client *c = NULL;
    struct err err = ERR_INIT;
    struct net_response r;
    char url[128];
    char header[16];
    assert_int_equal(net_client_open(&o, &c, &err), 0);
    (void)snprintf(url, sizeof(url), "http://%s/a/b", net_server_authority(s.server));
    assert_int_equal(net_get(c, url, &r, &err), 0);
    assert_int_equal(r.status, 200);
    assert_string_equal(buf_cstr(&r.body), "[a][b]");
    assert_int_equal(net_response_header(&r, "x-calls", header, sizeof(header)), 1);
    assert_string_equal(header, "yes");
    assert_int_equal(net_response_header(&r, "x-call", header, sizeof(header)), 0);
    net_response_free(&r);

    (void)snprintf(url, sizeof(url), "http://%s/echo", net_server_authority(s.server));
    assert_int_equal(net_post(c, url, "text/plain", "a\0b", 3, &r, &err), 0);
    assert_int_equal(r.body.len, 3);
    assert_memory_equal(r.body.data, "a\0b", 3);
    net_response_free(&r);

    (void)snprintf(url, sizeof(url), "http://%s/big/10001", net_server_authority(s.server));
    assert_int_equal(net_get(c, url, &r, &err), ERR_LIMIT);
    net_response_free(&r);
    assert_int_equal(net_get(c, "ftp://127.0.0.1/", &r, &err), ERR_CONFIG);
    net_response_free(&r);
    site_stop(&s);
    assert_int_equal(net_get(c, url, &r, &err), ERR_IO);
    net_response_free(&r);
    net_client_close(c);
}

static void waits_no_longer_than_told(void **state)
{
    (void)state;
    struct site s;
    site_start(&s, NULL, NULL);
    const struct net_client_options o = {.total_ms = 100};
    struct net_client *c = NULL;
    struct err err = ERR_INIT;
    struct net_response r;
    char url[128];
    assert_int_equal(net_client_open(&o, &c, &err), 0);
    (void)snprintf(url, sizeof(url), "http://%s/keep", net_server_authority(s.server));
    assert_int_equal(net_get(c, url, &r, &err), ERR_TIMEOUT);
    net_response_free(&r);
    net_client_close(c);
    site_wait(&s, &s.gone, 1);
    net_reply_error(s.kept[0], 500, "nobody");
    site_stop(&s);
}

static void escapes(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 0);
    net_escape(&b, "a-b/c d\xc3\xa4%");
    assert_string_equal(buf_cstr(&b), "a-b%2Fc%20d%C3%A4%25");
    buf_free(&b);
}

int run_client_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gets_and_posts),
        cmocka_unit_test(waits_no_longer_than_told),
        cmocka_unit_test(escapes),
    };
    return cmocka_run_group_tests_name("net: client", tests, NULL, NULL);
}
