/*
 * JSON text to value trees: the only file that knows simdjson. Exceptions are off.
 *
 * simdjson refuses a text with numbers beyond int64, uint64 and double. Such a text is parsed once
 * more with quotes around those numbers, and the tree then has their text, marked as raw JSON.
 *
 * Threads: a parser and its buffers per thread; dropped after a large text, so that they don't stay
 * with the thread for ever.
 *
 * Invariant: nothing in a tree points into the text or into the parser.
 */
#include "record/record_json.h"

#define SIMDJSON_EXCEPTIONS 0
#include <simdjson.h>

#include <cerrno>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace
{

constexpr size_t MAX_DEPTH = 64;
constexpr size_t FIRST_CAPACITY = 4096;
constexpr size_t KEEP_BYTES = 1 << 20;
constexpr size_t DOM_SIZE_CAP = 0xFFFFFF; /* where the size of an array or object saturates */

struct memory {
    char *data = nullptr;
    size_t cap = 0;

    ~memory()
    {
        std::free(data);
    }

    bool reserve(size_t n)
    {
        if (n <= cap) {
            return true;
        }
        char *grown = static_cast<char *>(std::realloc(data, 2 * n));
        if (grown == nullptr) {
            return false;
        }
        data = grown;
        cap = 2 * n;
        return true;
    }

    void drop()
    {
        std::free(data);
        data = nullptr;
        cap = 0;
    }
};

struct state {
    simdjson::dom::parser parser;
    bool ready = false;
    memory input;  /* the text and the padding that the parser reads beyond it */
    memory quoted; /* the same with quotes around numbers beyond all types */
    size_t quoted_len = 0;
    memory beyond; /* size_t: which strings of `quoted` those are */
    size_t n_beyond = 0;

    void drop()
    {
        parser = simdjson::dom::parser();
        ready = false;
        input.drop();
        quoted.drop();
        beyond.drop();
    }
};

thread_local state parser_state;

/* Builds in the arena. All strings of a document, unescaped, are no longer than the document: one
 * block holds them. */
struct builder {
    ctd_arena *arena;
    char *text;
    const size_t *beyond; /* the strings that are numbers, ascending */
    size_t n_beyond;
    size_t at_beyond;
    size_t strings; /* built so far, keys included */

    bool start(size_t n)
    {
        text = static_cast<char *>(arena->alloc(arena, n + 1, 1));
        return text != nullptr;
    }

    ctd_value *items(size_t n)
    {
        return static_cast<ctd_value *>(
            arena->alloc(arena, n > 0 ? n * sizeof(ctd_value) : 1, alignof(ctd_value)));
    }

    ctd_value string(std::string_view s)
    {
        std::memcpy(text, s.data(), s.size());
        ctd_value v = ctd_v_string(text, static_cast<uint32_t>(s.size()));
        text += s.size();
        if (at_beyond < n_beyond && beyond[at_beyond] == strings) {
            v.flags = CTD_VF_RAW_JSON;
            at_beyond++;
        }
        strings++;
        return v;
    }

    ctd_value number(uint64_t u)
    {
        char digits[24];
        size_t n = static_cast<size_t>(std::snprintf(digits, sizeof(digits), "%" PRIu64, u));
        std::memcpy(text, digits, n);
        ctd_value v = ctd_v_raw_json(text, static_cast<uint32_t>(n));
        text += n;
        return v;
    }
};

/* ---- the usual way ---- */

bool build(builder &b, simdjson::dom::element e, ctd_value *ret);

bool build_array(builder &b, simdjson::dom::array array, ctd_value *ret)
{
    size_t n = array.size();
    if (n >= DOM_SIZE_CAP) {
        n = 0;
        for (auto it = array.begin(); it != array.end(); ++it) {
            n++;
        }
    }
    ctd_value *items = b.items(n);
    if (items == nullptr) {
        return false;
    }
    size_t i = 0;
    for (simdjson::dom::element e : array) {
        if (!build(b, e, &items[i++])) {
            return false;
        }
    }
    *ret = ctd_v_array(items, static_cast<uint32_t>(n));
    return true;
}

bool build_object(builder &b, simdjson::dom::object object, ctd_value *ret)
{
    size_t n = object.size();
    if (n >= DOM_SIZE_CAP) {
        n = 0;
        for (auto it = object.begin(); it != object.end(); ++it) {
            n++;
        }
    }
    ctd_value *pairs = b.items(2 * n);
    if (pairs == nullptr) {
        return false;
    }
    size_t i = 0;
    for (auto it = object.begin(); it != object.end(); ++it, i += 2) {
        pairs[i] = b.string(it.key());
        if (!build(b, it.value(), &pairs[i + 1])) {
            return false;
        }
    }
    *ret = ctd_v_map(pairs, static_cast<uint32_t>(n));
    return true;
}

bool build(builder &b, simdjson::dom::element e, ctd_value *ret)
{
    using simdjson::dom::element_type;
    switch (e.type()) {
    case element_type::STRING:
        *ret = b.string(e.get_string().value_unsafe());
        return true;
    case element_type::INT64:
        *ret = ctd_v_i64(e.get_int64().value_unsafe());
        return true;
    case element_type::DOUBLE:
        *ret = ctd_v_f64(e.get_double().value_unsafe());
        return true;
    case element_type::BOOL:
        *ret = ctd_v_bool(e.get_bool().value_unsafe());
        return true;
    case element_type::OBJECT:
        return build_object(b, e.get_object().value_unsafe(), ret);
    case element_type::ARRAY:
        return build_array(b, e.get_array().value_unsafe(), ret);
    case element_type::UINT64: /* beyond int64, or it would be one */
        *ret = b.number(e.get_uint64().value_unsafe());
        return true;
    default:
        *ret = ctd_v_null();
        return true;
    }
}

/* ---- numbers that no type holds ---- */

bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

size_t digits_at(const char *s, size_t i, size_t n)
{
    size_t start = i;
    while (i < n && is_digit(s[i])) {
        i++;
    }
    return i - start;
}

/* Whether s[0..n) is a number as JSON has it; *ret_integer: no fraction and no exponent. */
bool is_number(const char *s, size_t n, bool *ret_integer)
{
    size_t i = n > 0 && s[0] == '-' ? 1 : 0;
    size_t whole = digits_at(s, i, n);
    if (whole == 0 || (whole > 1 && s[i] == '0')) {
        return false;
    }
    i += whole;
    *ret_integer = i == n;
    if (i < n && s[i] == '.') {
        size_t part = digits_at(s, i + 1, n);
        if (part == 0) {
            return false;
        }
        i += 1 + part;
    }
    if (i < n && (s[i] == 'e' || s[i] == 'E')) {
        i++;
        i += i < n && (s[i] == '+' || s[i] == '-') ? 1 : 0;
        size_t part = digits_at(s, i, n);
        if (part == 0) {
            return false;
        }
        i += part;
    }
    return i == n;
}

/* Whether the well-formed number is beyond what the parser takes. The text goes on behind it with a
 * byte that is no part of a number. */
bool is_beyond(const char *s, bool integer)
{
    if (!integer) {
        return std::isinf(std::strtod(s, nullptr));
    }
    errno = 0;
    if (s[0] == '-') {
        (void)std::strtoll(s, nullptr, 10);
    } else {
        (void)std::strtoull(s, nullptr, 10);
    }
    return errno == ERANGE;
}

/* Length of the string that begins at s[0] == '"', quotes included; up to n when it has no end. */
size_t string_at(const char *s, size_t n)
{
    size_t i = 1;
    while (i < n && s[i] != '"') {
        i += s[i] == '\\' ? 2 : 1;
    }
    return i < n ? i + 1 : n;
}

/* Puts quotes around numbers beyond all types and notes which of the text's strings these are,
 * counted from 0. False without memory. */
bool quote_numbers(state &st, const char *s, size_t n)
{
    if (!st.quoted.reserve(2 * n + simdjson::SIMDJSON_PADDING)) {
        return false;
    }
    char *out = st.quoted.data;
    size_t strings = 0;
    size_t count = 0;
    for (size_t i = 0; i < n;) {
        size_t len = 1;
        bool quote = false;
        if (s[i] == '"') {
            len = string_at(s + i, n - i);
            strings++;
        } else if (s[i] == '-' || is_digit(s[i])) {
            while (i + len < n &&
                   (is_digit(s[i + len]) || std::strchr("+-.eE", s[i + len]) != nullptr) &&
                   s[i + len] != '\0') {
                len++;
            }
            bool integer = false;
            quote = is_number(s + i, len, &integer) && is_beyond(s + i, integer);
        }
        if (quote) {
            if (!st.beyond.reserve((count + 1) * sizeof(size_t))) {
                return false;
            }
            std::memcpy(st.beyond.data + count * sizeof(size_t), &strings, sizeof(size_t));
            count++;
            strings++;
            *out++ = '"';
        }
        std::memcpy(out, s + i, len);
        out += len;
        i += len;
        if (quote) {
            *out++ = '"';
        }
    }
    std::memset(out, 0, simdjson::SIMDJSON_PADDING);
    st.quoted_len = static_cast<size_t>(out - st.quoted.data);
    st.n_beyond = count;
    return true;
}

ctd_status parse(state &st, const void *p, size_t n, ctd_arena *arena, ctd_value *ret,
                 ctd_error *err)
{
    if (n > UINT32_MAX) {
        return ctd_fail(err, CTD_E_DATA, "JSON text of %zu bytes: at most 4 GiB are allowed", n);
    }
    builder b = {arena, nullptr, nullptr, 0, 0, 0};
    if (!st.input.reserve(n + simdjson::SIMDJSON_PADDING) || !b.start(n)) {
        return ctd_fail(err, CTD_E_NOMEM, "no memory for a JSON text of %zu bytes", n);
    }
    char *text = st.input.data;
    if (n > 0) {
        std::memcpy(text, p, n);
    }
    std::memset(text + n, 0, simdjson::SIMDJSON_PADDING);
    simdjson::dom::element root;
    simdjson::error_code error = st.parser.parse(text, n, false).get(root);
    if (error == simdjson::NUMBER_ERROR) {
        if (!quote_numbers(st, text, n)) {
            return ctd_fail(err, CTD_E_NOMEM, "no memory for a JSON text of %zu bytes", n);
        }
        if (st.n_beyond > 0) {
            b.beyond = reinterpret_cast<const size_t *>(st.beyond.data);
            b.n_beyond = st.n_beyond;
            error = st.parser.parse(st.quoted.data, st.quoted_len, false).get(root);
        }
    }
    if (error != simdjson::SUCCESS) {
        return ctd_fail(err, error == simdjson::MEMALLOC ? CTD_E_NOMEM : CTD_E_DATA,
                        "not a JSON text: %s", simdjson::error_message(error));
    }
    if (!build(b, root, ret)) {
        return ctd_fail(err, CTD_E_NOMEM,
                        "a JSON text of %zu bytes needs more memory than its arena has", n);
    }
    return CTD_OK;
}

} // namespace

extern "C" ctd_status record_json_to_value(const void *p, size_t n, ctd_arena *arena,
                                           ctd_value *ret, ctd_error *err)
{
    state &st = parser_state;
    if (!st.ready && st.parser.allocate(FIRST_CAPACITY, MAX_DEPTH) != simdjson::SUCCESS) {
        return ctd_fail(err, CTD_E_NOMEM, "no memory for a JSON parser");
    }
    st.ready = true;
    ctd_value v = ctd_v_null();
    ctd_status rc = parse(st, p, n, arena, &v, err);
    if (rc == CTD_OK) {
        *ret = v;
    }
    if (n > KEEP_BYTES) {
        st.drop();
    }
    return rc;
}
