/* HTTP out over libcurl: one connection kept alive, plain http, no proxy, no redirects. */
#include "net/net.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct net_client {
    CURL *curl;
    struct net_client_options o;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_ready;

static void init_curl(void)
{
    curl_ready = curl_global_init(CURL_GLOBAL_DEFAULT);
}

int net_client_open(const struct net_client_options *o, struct net_client **ret, struct err *err)
{
    (void)pthread_once(&curl_once, init_curl);
    struct net_client *c = calloc(1, sizeof(*c));
    if (c == NULL || curl_ready != CURLE_OK || (c->curl = curl_easy_init()) == NULL) {
        free(c);
        return err_set(err, ERR_NOMEM, "cannot start the HTTP client");
    }
    c->o = *o;
    c->o.connect_ms = o->connect_ms != 0 ? o->connect_ms : 5000;
    c->o.total_ms = o->total_ms != 0 ? o->total_ms : 30000;
    c->o.body_bytes = o->body_bytes != 0 ? o->body_bytes : (size_t)16 << 20;
    *ret = c;
    return 0;
}

void net_client_close(struct net_client *c)
{
    if (c != NULL) {
        curl_easy_cleanup(c->curl);
        free(c);
    }
}

/* What curl hands over goes into the buffer; a short count makes it stop. */
static size_t on_bytes(char *p, size_t size, size_t n, void *arg)
{
    struct buf *b = arg;
    buf_append(b, p, size * n);
    return b->error == 0 ? size * n : 0;
}

/* Header lines of one response; an interim one ("100 Continue") is dropped when the next begins. */
static size_t on_head(char *p, size_t size, size_t n, void *arg)
{
    struct buf *b = arg;
    if (size * n > 5 && memcmp(p, "HTTP/", 5) == 0) {
        buf_clear(b);
        return size * n;
    }
    return on_bytes(p, size, n, arg);
}

static int fail(const struct net_response *r, CURLcode code, const char *url, struct err *err)
{
    if (r->body.error == ERR_LIMIT || r->head.error == ERR_LIMIT) {
        return err_set(err, ERR_LIMIT, "%s: the answer is larger than allowed", url);
    }
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        return err_set(err, ERR_TIMEOUT, "%s: no answer in time", url);
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return err_set(err, ERR_CONFIG, "%s: not an http:// URL", url);
    case CURLE_OUT_OF_MEMORY:
        return err_set(err, ERR_NOMEM, "out of memory");
    default:
        return err_set(err, ERR_IO, "%s: %s", url, curl_easy_strerror(code));
    }
}

static void set_options(struct net_client *c, const char *method, const char *url,
                        struct net_response *ret)
{
    CURL *h = c->curl;
    curl_easy_reset(h);
    curl_easy_setopt(h, CURLOPT_URL, url);
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(h, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, (long)c->o.connect_ms);
    curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, (long)c->o.total_ms);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, &ret->body);
    curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_head);
    curl_easy_setopt(h, CURLOPT_HEADERDATA, &ret->head);
    if (strcmp(method, "HEAD") == 0) {
        curl_easy_setopt(h, CURLOPT_NOBODY, 1L);
    } else if (strcmp(method, "GET") != 0) {
        curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, method);
    }
}

int net_client_request(struct net_client *c, const char *method, const char *url,
                       const char *content_type, const void *body, size_t n,
                       struct net_response *ret, struct err *err)
{
    ret->status = 0;
    buf_init(&ret->head, 256 << 10);
    buf_init(&ret->body, c->o.body_bytes);
    set_options(c, method, url, ret);
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    char line[160];
    if (content_type != NULL) {
        (void)snprintf(line, sizeof(line), "Content-Type: %s", content_type);
        headers = curl_slist_append(headers, line);
    }
    if (body != NULL) {
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, (const char *)body);
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)n);
    }
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
    CURLcode code = curl_easy_perform(c->curl);
    curl_slist_free_all(headers);
    if (code != CURLE_OK) {
        return fail(ret, code, url, err);
    }
    long status = 0;
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    ret->status = (int)status;
    return 0;
}

int net_get(struct net_client *c, const char *url, struct net_response *ret, struct err *err)
{
    return net_client_request(c, "GET", url, NULL, NULL, 0, ret, err);
}

int net_post(struct net_client *c, const char *url, const char *content_type, const void *body,
             size_t n, struct net_response *ret, struct err *err)
{
    return net_client_request(c, "POST", url, content_type, body == NULL ? "" : body, n, ret, err);
}

int net_response_header(const struct net_response *r, const char *name, char *ret, size_t cap)
{
    size_t n = strlen(name);
    const char *p = (const char *)r->head.data;
    const char *end = p == NULL ? p : p + r->head.len;
    while (p < end) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));
        const char *stop = lf == NULL ? end : lf;
        if ((size_t)(stop - p) > n && p[n] == ':' && strncasecmp(p, name, n) == 0) {
            const char *value = p + n + 1;
            while (value < stop && (*value == ' ' || *value == '\t')) {
                value++;
            }
            while (stop > value && (stop[-1] == '\r' || stop[-1] == ' ')) {
                stop--;
            }
            (void)snprintf(ret, cap, "%.*s", (int)(stop - value), value);
            return 1;
        }
        p = lf == NULL ? end : lf + 1;
    }
    return 0;
}

void net_response_free(struct net_response *r)
{
    buf_free(&r->head);
    buf_free(&r->body);
}

void net_escape(struct buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        int plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                    strchr("-._~", c) != NULL;
        if (plain) {
            buf_append_u8(out, c);
        } else {
            buf_printf(out, "%%%02X", c);
        }
    }
}
