/* Strict reading of a request's head: see head.h. */
#include "net/head.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

static int is_digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}

static int hex_value(unsigned char c)
{
    if (is_digit(c)) {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 9110 token characters. */
static int is_token(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = s.ptr[i];
        int letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
        if (c == 0 || (!letter && !is_digit(c) && strchr("!#$%&'*+-.^_`|~", c) == NULL)) {
            return 0;
        }
    }
    return s.len > 0;
}

static int same_text(struct slice s, const char *text)
{
    size_t n = strlen(text);
    return s.len == n && strncasecmp((const char *)s.ptr, text, n) == 0;
}

static struct slice trim(struct slice s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) {
        s.ptr++;
        s.len--;
    }
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

/* Takes the next line off *at, without its CR LF. 0, or 400. */
static int next_line(struct slice *at, struct slice *ret, struct err *err)
{
    const uint8_t *lf = at->len == 0 ? NULL : memchr(at->ptr, '\n', at->len);
    if (lf == NULL) {
        err_set(err, ERR_DATA, "the request's head is cut off");
        return 400;
    }
    size_t n = (size_t)(lf - at->ptr);
    if (n == 0 || at->ptr[n - 1] != '\r') {
        err_set(err, ERR_DATA, "a line ends in a bare line feed");
        return 400;
    }
    *ret = slice_of(at->ptr, n - 1);
    at->ptr += n + 1;
    at->len -= n + 1;
    if (memchr(ret->ptr, '\r', ret->len) != NULL || memchr(ret->ptr, '\0', ret->len) != NULL) {
        err_set(err, ERR_DATA, "a carriage return or NUL inside a line");
        return 400;
    }
    return 0;
}

/* ---- the request line ---- */

static const struct {
    const char *name;
    enum net_method method;
} methods[] = {
    {"GET", NET_GET},     {"HEAD", NET_HEAD},     {"POST", NET_POST},       {"PUT", NET_PUT},
    {"PATCH", NET_PATCH}, {"DELETE", NET_DELETE}, {"OPTIONS", NET_OPTIONS},
};

static int parse_method(struct slice text, struct net_head *ret, struct err *err)
{
    if (!is_token(text)) {
        err_set(err, ERR_DATA, "the request line has no method");
        return 400;
    }
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (slice_eq(text, slice_str(methods[i].name))) {
            ret->method = methods[i].method;
            return 0;
        }
    }
    err_set(err, ERR_UNSUPPORTED, "method %.*s is not known", (int)(text.len < 32 ? text.len : 32),
            (const char *)text.ptr);
    return 501;
}

/* Escapes that are whole, none of them NUL, and UTF-8 once decoded. */
static int check_escapes(struct slice s, int plus, struct err *err)
{
    struct buf decoded;
    buf_init(&decoded, s.len + 1);
    int rc = net_unescape(s, plus, &decoded, err);
    buf_free(&decoded);
    return rc == 0 ? 0 : 400;
}

static int parse_target(struct slice target, struct net_head *ret, struct err *err)
{
    if (target.len == 0 || target.ptr[0] != '/') {
        err_set(err, ERR_DATA, "the request's target must be a path that starts with '/'");
        return 400;
    }
    for (size_t i = 0; i < target.len; i++) {
        unsigned char c = target.ptr[i];
        if (c <= ' ' || c >= 0x7f || c == '#') {
            err_set(err, ERR_DATA, "byte %zu of the request's target must be escaped", i);
            return 400;
        }
    }
    const uint8_t *mark = memchr(target.ptr, '?', target.len);
    size_t n = mark == NULL ? target.len : (size_t)(mark - target.ptr);
    ret->path = slice_of(target.ptr, n);
    ret->query = slice_of(target.ptr + n, 0);
    if (mark != NULL) {
        ret->query = slice_of(mark + 1, target.len - n - 1);
    }
    int rc = check_escapes(ret->path, 0, err);
    return rc != 0 ? rc : check_escapes(ret->query, 1, err);
}

static int parse_request_line(struct slice line, const struct net_head_rules *rules,
                              struct net_head *ret, int *ret_minor, struct err *err)
{
    const uint8_t *first = memchr(line.ptr, ' ', line.len);
    const uint8_t *last = memrchr(line.ptr, ' ', line.len);
    if (first == NULL || first == last) {
        err_set(err, ERR_DATA, "the request line must be: METHOD TARGET HTTP/1.1");
        return 400;
    }
    struct slice version = slice_of(last + 1, line.len - (size_t)(last + 1 - line.ptr));
    struct slice target = slice_of(first + 1, (size_t)(last - first) - 1);
    if (target.len > rules->uri_bytes) {
        err_set(err, ERR_LIMIT, "the request's target has %zu bytes, the limit is %zu", target.len,
                rules->uri_bytes);
        return 414;
    }
    if (slice_eq(version, slice_str("HTTP/1.1"))) {
        *ret_minor = 1;
    } else if (slice_eq(version, slice_str("HTTP/1.0"))) {
        *ret_minor = 0;
    } else {
        err_set(err, ERR_UNSUPPORTED, "only HTTP/1.1 and HTTP/1.0 are spoken here");
        return 505;
    }
    int rc = parse_method(slice_of(line.ptr, (size_t)(first - line.ptr)), ret, err);
    return rc != 0 ? rc : parse_target(target, ret, err);
}

/* ---- Host ---- */

/* Splits "host", "host:port", "[v6]:port" into the host in lower case. */
static int split_host(struct slice value, char *ret, size_t cap, struct err *err)
{
    const char *p = (const char *)value.ptr;
    size_t n = value.len;
    const char *colon = NULL;
    size_t skip = 0;
    if (n > 0 && p[0] == '[') {
        const char *end = memchr(p, ']', n);
        if (end == NULL || (end + 1 < p + n && end[1] != ':')) {
            goto bad;
        }
        skip = 1;
        colon = end + 1 < p + n ? end + 1 : NULL;
        n = (size_t)(end - p) - 1;
    } else {
        colon = n > 0 ? memchr(p, ':', n) : NULL;
        n = colon == NULL ? n : (size_t)(colon - p);
    }
    if (colon != NULL) {
        size_t digits = 0;
        for (const char *d = colon + 1; d < p + value.len; d++, digits++) {
            if (!is_digit((unsigned char)*d)) {
                goto bad;
            }
        }
        if (digits == 0 || digits > 5) {
            goto bad;
        }
    }
    if (n == 0 || n >= cap) {
        goto bad;
    }
    for (size_t i = 0; i < n; i++) {
        char c = p[skip + i];
        ret[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    ret[n] = '\0';
    return 0;
bad:
    err_set(err, ERR_DATA, "the Host header is malformed");
    return 400;
}

static int host_allowed(const char *host, const char *const *more)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (strcmp(host, "localhost") == 0) {
        return 1;
    }
    if (inet_pton(AF_INET, host, &v4) == 1 && (ntohl(v4.s_addr) >> 24) == 127) {
        return 1;
    }
    if (inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6)) {
        return 1;
    }
    for (; more != NULL && *more != NULL; more++) {
        if (strcasecmp(host, *more) == 0) {
            return 1;
        }
    }
    return 0;
}

static int check_host(struct slice value, const struct net_head_rules *rules, struct err *err)
{
    char host[256];
    int rc = split_host(value, host, sizeof(host), err);
    if (rc != 0) {
        return rc;
    }
    if (!host_allowed(host, rules->hosts)) {
        err_set(err, ERR_CONFIG,
                "the Host header names another host; use localhost or the address "
                "that is listened on");
        return 403;
    }
    return 0;
}

/* ---- headers ---- */

struct seen {
    int hosts, lengths, codings;
};

static int check_header(const struct net_header *h, int minor, const struct net_head_rules *rules,
                        struct seen *seen, struct err *err)
{
    if (same_text(h->name, "host")) {
        seen->hosts++;
        return seen->hosts > 1 ? 0 : check_host(h->value, rules, err);
    }
    if (same_text(h->name, "content-length")) {
        seen->lengths++;
        size_t digits = 0;
        while (digits < h->value.len && is_digit(h->value.ptr[digits])) {
            digits++;
        }
        if (digits == 0 || digits != h->value.len || digits > 18) {
            err_set(err, ERR_DATA, "Content-Length is not a number");
            return 400;
        }
    } else if (same_text(h->name, "transfer-encoding")) {
        seen->codings++;
        if (!same_text(h->value, "chunked") || minor == 0) {
            err_set(err, ERR_DATA, "Transfer-Encoding can only be chunked, in HTTP/1.1");
            return 400;
        }
    } else if (same_text(h->name, "content-encoding") && !same_text(h->value, "identity")) {
        err_set(err, ERR_UNSUPPORTED, "bodies with a Content-Encoding are not taken");
        return 415;
    } else if (same_text(h->name, "expect") && !same_text(h->value, "100-continue")) {
        err_set(err, ERR_UNSUPPORTED, "Expect can only be 100-continue");
        return 417;
    }
    return 0;
}

static int parse_header(struct slice line, struct net_head *ret, struct err *err)
{
    if (line.ptr[0] == ' ' || line.ptr[0] == '\t') {
        err_set(err, ERR_DATA, "a header is folded over lines");
        return 400;
    }
    const uint8_t *colon = memchr(line.ptr, ':', line.len);
    struct slice name = slice_of(line.ptr, colon == NULL ? 0 : (size_t)(colon - line.ptr));
    if (!is_token(name)) {
        err_set(err, ERR_DATA, "header %zu has no valid name", ret->n_headers + 1);
        return 400;
    }
    if (ret->n_headers == NET_HEAD_MAX_HEADERS) {
        err_set(err, ERR_LIMIT, "more than %d headers", NET_HEAD_MAX_HEADERS);
        return 431;
    }
    struct slice value = trim(slice_of(colon + 1, line.len - name.len - 1));
    for (size_t i = 0; i < value.len; i++) {
        if ((value.ptr[i] < ' ' && value.ptr[i] != '\t') || value.ptr[i] == 0x7f) {
            err_set(err, ERR_DATA, "a control character in header %zu", ret->n_headers + 1);
            return 400;
        }
    }
    ret->headers[ret->n_headers].name = name;
    ret->headers[ret->n_headers].value = value;
    ret->n_headers++;
    return 0;
}

/* What only shows when all headers are known. */
static int check_seen(const struct seen *seen, struct err *err)
{
    if (seen->hosts != 1) {
        err_set(err, ERR_DATA, "there must be exactly one Host header, here are %d", seen->hosts);
        return 400;
    }
    if (seen->lengths > 1 || seen->codings > 1) {
        err_set(err, ERR_DATA, "Content-Length or Transfer-Encoding stands there twice");
        return 400;
    }
    if (seen->lengths + seen->codings > 1) {
        err_set(err, ERR_DATA, "Content-Length together with Transfer-Encoding");
        return 400;
    }
    return 0;
}

int net_head_parse(const char *p, size_t n, const struct net_head_rules *rules,
                   struct net_head *ret, struct err *err)
{
    struct slice at = slice_of(p, n);
    struct slice line;
    ret->n_headers = 0;
    int rc = next_line(&at, &line, err);
    if (rc == 0 && line.len == 0) { /* one empty line before a request is allowed: RFC 9112, 2.2 */
        rc = next_line(&at, &line, err);
    }
    int minor = 0;
    if (rc == 0) {
        rc = parse_request_line(line, rules, ret, &minor, err);
    }
    struct seen seen = {0, 0, 0};
    while (rc == 0) {
        rc = next_line(&at, &line, err);
        if (rc != 0 || line.len == 0) {
            break;
        }
        if (n - at.len > rules->head_bytes) {
            err_set(err, ERR_LIMIT, "the request's head is larger than %zu bytes",
                    rules->head_bytes);
            return 431;
        }
        rc = parse_header(line, ret, err);
        if (rc == 0) {
            rc = check_header(&ret->headers[ret->n_headers - 1], minor, rules, &seen, err);
        }
    }
    if (rc != 0) {
        return rc;
    }
    ret->bytes = n - at.len;
    return check_seen(&seen, err);
}

int net_unescape(struct slice in, int plus, struct buf *out, struct err *err)
{
    size_t start = out->len;
    for (size_t i = 0; i < in.len; i++) {
        unsigned char c = in.ptr[i];
        if (c == '%') {
            int high = i + 2 < in.len ? hex_value(in.ptr[i + 1]) : -1;
            int low = i + 2 < in.len ? hex_value(in.ptr[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return err_set(err, ERR_DATA, "a bad %%XX escape in the request's target");
            }
            c = (unsigned char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        if (c == 0) {
            return err_set(err, ERR_DATA, "a NUL in the request's target");
        }
        buf_append_u8(out, c);
    }
    if (out->error != 0) {
        return err_set(err, out->error, "the request's target is too long");
    }
    if (out->len > start && !str_is_utf8(out->data + start, out->len - start)) {
        return err_set(err, ERR_DATA, "the request's target is not UTF-8 once unescaped");
    }
    return 0;
}
