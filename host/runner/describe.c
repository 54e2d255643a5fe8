/*
 * --describe: what a plugin file holds, as JSON. It runs the module's entry function and nothing else of the
 * plugin, inside the same sandbox as --run. One thread.
 */
#include "runner.h"

#include "runner_int.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define DESCRIBE_MEMORY ((uint64_t)256 << 20)

static void put_text(struct buf *out, const char *s)
{
    if (s == NULL) {
        buf_append_str(out, "null");
        return;
    }
    buf_append_u8(out, '"');
    for (const unsigned char *p = (const unsigned char *)s; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\') {
            buf_append_u8(out, '\\');
            buf_append_u8(out, *p);
        } else if (*p < 0x20) {
            buf_printf(out, "\\u%04x", *p);
        } else {
            buf_append_u8(out, *p);
        }
    }
    buf_append_u8(out, '"');
}

static void put_member(struct buf *out, const char *name, const char *value)
{
    buf_printf(out, ",\"%s\":", name);
    put_text(out, value);
}

/* `empty`: what stands for a NULL list. */
static void put_list(struct buf *out, const char *name, const char *const *list, const char *empty)
{
    buf_printf(out, ",\"%s\":", name);
    if (list == NULL) {
        buf_append_str(out, empty);
        return;
    }
    buf_append_u8(out, '[');
    for (size_t i = 0; list[i] != NULL; i++) {
        if (i > 0) {
            buf_append_u8(out, ',');
        }
        put_text(out, list[i]);
    }
    buf_append_u8(out, ']');
}

static const char *type_name(int32_t type)
{
    switch (type) {
    case CTD_CFG_BOOL:
        return "BOOLEAN";
    case CTD_CFG_I64:
    case CTD_CFG_DURATION_MS:
    case CTD_CFG_BYTES:
        return "LONG";
    case CTD_CFG_F64:
        return "DOUBLE";
    case CTD_CFG_LIST:
        return "LIST";
    case CTD_CFG_SECRET:
        return "PASSWORD";
    default:
        return "STRING";
    }
}

static void put_key(struct buf *out, const ctd_config_key *k)
{
    static const char *const importance[] = {"HIGH", "MEDIUM", "LOW"};
    buf_append_str(out, "{\"name\":");
    put_text(out, k->name);
    put_member(out, "type", type_name(k->type));
    put_member(out, "default", k->def);
    buf_printf(out, ",\"required\":%s", (k->flags & CTD_CFGF_REQUIRED) != 0 ? "true" : "false");
    buf_printf(out, ",\"prefix\":%s", (k->flags & CTD_CFGF_PREFIX) != 0 ? "true" : "false");
    buf_printf(out, ",\"path\":%s", (k->flags & CTD_CFGF_PATH) != 0 ? "true" : "false");
    buf_printf(out, ",\"internal\":%s", (k->flags & CTD_CFGF_INTERNAL) != 0 ? "true" : "false");
    buf_printf(out, ",\"deprecated\":%s", (k->flags & CTD_CFGF_DEPRECATED) != 0 ? "true" : "false");
    put_member(out, "importance",
               importance[k->importance >= 0 && k->importance <= 2 ? k->importance : 2]);
    put_member(out, "group", k->group);
    put_member(out, "display", k->display != NULL ? k->display : k->name);
    put_member(out, "doc", k->doc != NULL ? k->doc : "");
    put_list(out, "allowed", k->allowed, "null");
    put_list(out, "dependents", k->dependents, "[]");
    if (k->min <= k->max && k->type != CTD_CFG_STRING && k->type != CTD_CFG_LIST &&
        k->type != CTD_CFG_BOOL && k->type != CTD_CFG_SECRET && k->type != CTD_CFG_REGEX) {
        buf_printf(out, ",\"min\":%" PRId64 ",\"max\":%" PRId64, k->min, k->max);
    } else {
        buf_append_str(out, ",\"min\":null,\"max\":null");
    }
    buf_printf(out, ",\"order\":%d,\"width\":%d}", k->order, k->width);
}

static void put_class(struct buf *out, const ctd_class *c)
{
    buf_append_str(out, "{\"name\":");
    put_text(out, c->name);
    put_list(out, "aliases", c->aliases, "[]");
    put_member(out, "kind", runner_kind_name(c->kind));
    put_member(out, "version", c->version);
    put_member(out, "doc", c->doc != NULL ? c->doc : "");
    buf_printf(out, ",\"flags\":%u,\"config\":[", c->flags);
    for (uint32_t i = 0; i < c->n_config; i++) {
        if (i > 0) {
            buf_append_u8(out, ',');
        }
        put_key(out, runner_class_key(c, i));
    }
    buf_append_str(out, "]}");
}

static void no_stage(void *arg, int stage)
{
    (void)arg;
    (void)stage;
}

static int refuse(const char *message)
{
    struct buf line = BUF_INIT(8192);
    buf_printf(&line, "%s", message);
    for (size_t i = 0; i < line.len; i++) {
        if (line.data[i] < 0x20) {
            line.data[i] = ' ';
        }
    }
    buf_append_u8(&line, '\n');
    (void)!write(STDERR_FILENO, line.data, line.len);
    buf_free(&line);
    return 1;
}

int runner_describe(const char *path)
{
    struct runner_fail fail;
    struct runner_module m = {0};
    struct buf holds = BUF_INIT(256);
    struct err err = ERR_INIT;
    runner_sandbox_begin(2);
    int fd = runner_module_open(path, &fail);
    if (fd < 0) {
        return refuse(fail.message);
    }
    int rc = runner_sandbox_enter(DESCRIBE_MEMORY, NULL, &holds, &err);
    buf_free(&holds);
    if (rc != 0) {
        return refuse(err.msg);
    }
    if (runner_module_load(fd, path, no_stage, NULL, &m, &fail) != 0) {
        return refuse(fail.message);
    }
    struct buf out = BUF_INIT(0);
    buf_printf(&out, "{\"abi_minor\":%u,\"min_host_minor\":%u,\"classes\":[", m.module->abi_minor,
               m.module->min_host_minor);
    for (uint32_t i = 0; i < m.module->n_classes; i++) {
        if (i > 0) {
            buf_append_u8(&out, ',');
        }
        put_class(&out, runner_module_class(&m, i));
    }
    buf_append_str(&out, "]}\n");
    if (out.error != 0) {
        rc = refuse("the description is too long");
    } else if (!str_is_utf8(out.data, out.len)) {
        rc = refuse("a text of the module isn't UTF-8");
    } else if (file_write_full(STDOUT_FILENO, out.data, out.len, "stdout", &err) != 0) {
        rc = refuse(err.msg);
    }
    buf_free(&out);
    return rc;
}
