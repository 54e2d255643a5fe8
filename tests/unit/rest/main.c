/* Tests of host/rest: routes and shapes over a fake pipeline, topics over a real log. */
#include "rest_test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void world_open(struct world *w, int starting)
{
    struct err err = ERR_INIT;
    memset(w, 0, sizeof(*w));
    (void)snprintf(w->dir, sizeof(w->dir), "/tmp/rest-test-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    struct rest_options o = {
        .address = "127.0.0.1", .version = "1.2.3", .commit = "abc", .cluster_id = "cluster"};
    assert_int_equal(rest_start(&o, &w->rest, &err), 0);
    const struct net_client_options c = {0};
    assert_int_equal(net_client_open(&c, &w->client, &err), 0);
    if (!starting) {
        world_ready(w);
    }
}

void world_ready(struct world *w)
{
    struct err err = ERR_INIT;
    struct plog_options p = {.dir = w->dir};
    if (plog_open(&p, &w->log, &err) != 0) {
        fail_msg("%s", err.msg);
    }
    struct topic_plog_options t = {.log = w->log};
    assert_int_equal(topic_open_plog(&t, &w->engine, &err), 0);
    rest_set_ready(w->rest, (struct pipeline *)w, w->engine); /* the fake looks at no pipeline */
}

void world_close(struct world *w)
{
    net_client_close(w->client);
    rest_stop(w->rest);
    topic_close(w->engine);
    plog_close(w->log);
    assert_int_equal(file_remove_tree(w->dir, NULL), 0);
}

int world_ask(struct world *w, const char *method, const char *path, const char *body,
              json_t **ret_body)
{
    char url[1024];
    struct net_response r;
    struct err err = ERR_INIT;
    (void)snprintf(url, sizeof(url), "http://%s%s", rest_authority(w->rest), path);
    int rc = net_client_request(w->client, method, url, body != NULL ? "application/json" : NULL,
                                body, body != NULL ? strlen(body) : 0, &r, &err);
    if (rc != 0) {
        fail_msg("%s %s: %s", method, path, err.msg);
    }
    if (ret_body != NULL) {
        *ret_body = codec_json_parse((const char *)r.body.data, r.body.len, NULL);
    }
    int status = r.status;
    net_response_free(&r);
    return status;
}

void world_expect(struct world *w, const char *method, const char *path, const char *body,
                  int status, const char *json)
{
    json_t *got = NULL;
    int code = world_ask(w, method, path, body, &got);
    char *text = got == NULL ? strdup("") : json_dumps(got, JSON_COMPACT | JSON_ENCODE_ANY);
    if (code != status || strcmp(text, json) != 0) {
        fail_msg("%s %s: %d %s\nnot %d %s", method, path, code, text, status, json);
    }
    free(text);
    json_decref(got);
}

void world_refuses(struct world *w, const char *method, const char *path, const char *body,
                   int status, const char *part)
{
    json_t *got = NULL;
    int code = world_ask(w, method, path, body, &got);
    const char *message = json_string_value(json_object_get(got, "message"));
    if (code != status || message == NULL || strstr(message, part) == NULL ||
        json_integer_value(json_object_get(got, "error_code")) != status) {
        fail_msg("%s %s: %d %s\nnot %d %s", method, path, code, message, status, part);
    }
    json_decref(got);
}

int world_send(struct world *w, const char *method, const char *path, const char *headers,
               const char *body)
{
    struct buf text;
    buf_init(&text, 0);
    buf_printf(&text, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s", method, path,
               headers);
    buf_printf(&text, "Content-Length: %zu\r\n\r\n%s", strlen(body), body);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(rest_port(w->rest))};
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(send(fd, text.data, text.len, MSG_NOSIGNAL), (ssize_t)text.len);
    buf_free(&text);
    return fd;
}

int world_receive(int fd, struct buf *ret_all)
{
    for (;;) {
        uint8_t *room = buf_reserve(ret_all, 65536);
        ssize_t n = recv(fd, room, 65536, 0);
        if (n <= 0) {
            break;
        }
        ret_all->len += (size_t)n;
    }
    close(fd);
    return ret_all->len > 12 ? atoi(buf_cstr(ret_all) + 9) : 0;
}

int world_raw(struct world *w, const char *method, const char *path, const char *headers,
              const char *body, struct buf *ret_all)
{
    return world_receive(world_send(w, method, path, headers, body), ret_all);
}

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    int failed = run_route_tests();
    failed += run_topic_tests();
    return failed == 0 ? 0 : 1;
}
