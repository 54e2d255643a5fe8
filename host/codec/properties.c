/*
 * Java's .properties, as java.util.Properties.load() reads it, but for four things: the text is
 * UTF-8 (not Latin-1), a key set twice is a finding, so is a bad \u escape, and blanks at the end
 * of a value are dropped, as Connect drops them when it reads an option. No state.
 */
#include "codec/codec.h"

#include <string.h>

#include "codec/entries.h"

struct reader {
    struct codec_entries *entries;
    const char *text;
    size_t n, at;
    struct codec_place now; /* of text[at] */
};

static int more(const struct reader *r)
{
    return r->at < r->n;
}

static char peek(const struct reader *r)
{
    return r->at < r->n ? r->text[r->at] : '\0';
}

static int is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\f';
}

static int is_line_end(char c)
{
    return c == '\n' || c == '\r';
}

static char take(struct reader *r)
{
    char c = r->text[r->at++];
    if (c == '\n' || (c == '\r' && peek(r) != '\n')) {
        r->now.line++;
        r->now.column = 1;
    } else if (((unsigned char)peek(r) & 0xC0) != 0x80) {
        r->now.column++;
    }
    return c;
}

static void skip_blanks(struct reader *r)
{
    while (more(r) && is_blank(peek(r))) {
        (void)take(r);
    }
}

static void skip_line_end(struct reader *r)
{
    if (more(r) && take(r) == '\r' && peek(r) == '\n') {
        (void)take(r);
    }
}

static void skip_line(struct reader *r)
{
    while (more(r) && !is_line_end(peek(r))) {
        (void)take(r);
    }
}

/* Four hexadecimal digits, or -1. */
static int take_hex4(struct reader *r)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = peek(r);
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) {
            return -1;
        }
        v = v * 16 + digit;
        (void)take(r);
    }
    return v;
}

static void put_utf8(struct buf *out, uint32_t c)
{
    if (c < 0x80) {
        buf_append_u8(out, (uint8_t)c);
        return;
    }
    if (c < 0x800) {
        buf_append_u8(out, (uint8_t)(0xC0 | c >> 6));
    } else if (c < 0x10000) {
        buf_append_u8(out, (uint8_t)(0xE0 | c >> 12));
        buf_append_u8(out, (uint8_t)(0x80 | (c >> 6 & 63)));
    } else {
        buf_append_u8(out, (uint8_t)(0xF0 | c >> 18));
        buf_append_u8(out, (uint8_t)(0x80 | (c >> 12 & 63)));
        buf_append_u8(out, (uint8_t)(0x80 | (c >> 6 & 63)));
    }
    buf_append_u8(out, (uint8_t)(0x80 | (c & 63)));
}

/* What follows "\u": one UTF-16 unit, or two that belong together. */
static void take_unicode(struct reader *r, struct buf *out, struct codec_place at)
{
    int unit = take_hex4(r);
    uint32_t c = (uint32_t)unit;
    if (unit >= 0xD800 && unit < 0xDC00 && peek(r) == '\\' && r->at + 1 < r->n &&
        r->text[r->at + 1] == 'u') {
        (void)take(r);
        (void)take(r);
        int low = take_hex4(r);
        if (low >= 0xDC00 && low < 0xE000) {
            c = 0x10000 + (((uint32_t)unit - 0xD800) << 10) + ((uint32_t)low - 0xDC00);
        } else {
            unit = -1;
        }
    } else if (unit >= 0xD800 && unit < 0xE000) {
        unit = -1;
    }
    if (unit <= 0) {
        codec_finding_add(r->entries, at, "",
                          "a bad \\u escape: write \\u and four hexadecimal digits of a character");
        return;
    }
    put_utf8(out, c);
}

/* What follows a backslash. */
static void take_escape(struct reader *r, struct buf *out, struct codec_place at)
{
    if (!more(r)) {
        return;
    }
    if (is_line_end(peek(r))) { /* the line goes on in the next one, without its leading blanks */
        skip_line_end(r);
        skip_blanks(r);
        return;
    }
    char c = take(r);
    switch (c) {
    case 'u':
        take_unicode(r, out, at);
        break;
    case 't':
        buf_append_u8(out, '\t');
        break;
    case 'n':
        buf_append_u8(out, '\n');
        break;
    case 'r':
        buf_append_u8(out, '\r');
        break;
    case 'f':
        buf_append_u8(out, '\f');
        break;
    default:
        buf_append_u8(out, (uint8_t)c);
        break;
    }
}

static void take_key(struct reader *r, struct buf *out)
{
    while (more(r) && !is_line_end(peek(r))) {
        struct codec_place at = r->now;
        char c = peek(r);
        if (c == '=' || c == ':' || is_blank(c)) {
            return;
        }
        (void)take(r);
        if (c == '\\') {
            take_escape(r, out, at);
        } else {
            buf_append_u8(out, (uint8_t)c);
        }
    }
}

static void take_value(struct reader *r, struct buf *out)
{
    size_t end = 0; /* behind the last character that isn't a bare blank */
    while (more(r) && !is_line_end(peek(r))) {
        struct codec_place at = r->now;
        char c = take(r);
        if (c == '\\') {
            size_t was = out->len;
            take_escape(r, out, at);
            end = out->len > was ? out->len : end;
        } else {
            buf_append_u8(out, (uint8_t)c);
            end = is_blank(c) ? end : out->len;
        }
    }
    if (out->error == 0) {
        out->len = end;
    }
}

static void take_pair(struct reader *r, struct buf *key, struct buf *value)
{
    struct codec_place at = r->now;
    buf_clear(key);
    buf_clear(value);
    take_key(r, key);
    skip_blanks(r);
    if (peek(r) == '=' || peek(r) == ':') {
        (void)take(r);
        skip_blanks(r);
    }
    struct codec_place value_at = r->now;
    take_value(r, value);
    const char *name = buf_cstr(key);
    const char *text = buf_cstr(value);
    if (key->error != 0 || value->error != 0) {
        r->entries->error = ERR_NOMEM;
    } else if (key->len == 0) {
        codec_finding_add(r->entries, at, "", "an empty key: write a name before the '='");
    } else {
        codec_entry_add(r->entries, &name, 1, text, at, value_at);
    }
}

int codec_properties_parse(const char *text, size_t n, struct codec_yaml *ret, struct err *err)
{
    struct codec_entries entries;
    codec_entries_init(&entries, ret);
    if (codec_text_ok(&entries, text, n)) {
        struct reader r = {.entries = &entries, .text = text, .n = n, .now = {1, 1}};
        struct buf key = BUF_INIT(n + 1);
        struct buf value = BUF_INIT(n + 1);
        r.at = n >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
        while (more(&r) && entries.error == 0) {
            skip_blanks(&r);
            if (peek(&r) == '#' || peek(&r) == '!') {
                skip_line(&r);
            } else if (more(&r) && !is_line_end(peek(&r))) {
                take_pair(&r, &key, &value);
            }
            skip_line_end(&r);
        }
        buf_free(&key);
        buf_free(&value);
    }
    return codec_entries_finish(&entries, err);
}
