/*
 * The plugin file: dlopen() and every check of what it says about itself, with messages for its author.
 * A module is never unloaded: its threads, exit handlers and thread-local data may outlive its last call.
 * Threads: the control thread alone, before others start.
 */
#include "runner_int.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYMBOL      "ctd_module_v1"
#define MAX_CLASSES 256u
#define MAX_KEYS    4096u

int runner_module_open(const char *path, struct runner_fail *fail)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        struct err err = ERR_INIT;
        (void)err_set_errno(&err, ERR_IO, "%s: cannot be opened", path);
        return runner_fail_err(fail, LINK_STAGE_DLOPEN, &err);
    }
    struct stat st;
    unsigned char head[SELFMAG] = {0};
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        (void)close(fd);
        return runner_fail_set(fail, LINK_STAGE_DLOPEN, ERR_CONFIG, "%s: not a regular file", path);
    }
    if (pread(fd, head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
        memcmp(head, ELFMAG, SELFMAG) != 0) {
        (void)close(fd);
        return runner_fail_set(fail, LINK_STAGE_DLOPEN, ERR_CONFIG,
                               "%s: not a shared object: the file has no ELF header", path);
    }
    return fd;
}

/* dlerror() speaks of /proc/self/fd/N: says the file's name instead. */
static int fail_dlopen(struct runner_fail *fail, const char *path, const char *opened)
{
    const char *why = dlerror();
    why = why != NULL ? why : "no reason given";
    size_t n = strlen(opened);
    if (strncmp(why, opened, n) == 0 && strncmp(why + n, ": ", 2) == 0) {
        why += n + 2;
    }
    return runner_fail_set(fail, LINK_STAGE_DLOPEN, ERR_CONFIG, "%s: cannot be loaded: %s", path,
                           why);
}

const ctd_class *runner_module_class(const struct runner_module *m, uint32_t i)
{
    const unsigned char *first = (const void *)m->module->classes;
    return (const void *)(first + (size_t)i * m->module->class_stride);
}

const ctd_config_key *runner_class_key(const ctd_class *c, uint32_t i)
{
    const unsigned char *first = (const void *)c->config;
    return (const void *)(first + (size_t)i * c->config_stride);
}

const char *runner_kind_name(int32_t kind)
{
    static const char *const names[] = {
        [CTD_KIND_SOURCE] = "source",       [CTD_KIND_SINK] = "sink",
        [CTD_KIND_CONVERTER] = "converter", [CTD_KIND_TRANSFORM] = "transform",
        [CTD_KIND_PREDICATE] = "predicate",
    };
    return kind >= CTD_KIND_SOURCE && kind <= CTD_KIND_PREDICATE ? names[kind] : NULL;
}

#define WANT(kind, f)                                                                              \
    if (!CTD_HAS_OP((const kind *)ops, f)) {                                                       \
        return #f;                                                                                 \
    }

/* The name of the first function that a class of this kind must have and hasn't, or NULL. */
static const char *missing_op(int32_t kind, const ctd_class_ops *ops)
{
    if (!CTD_HAS(ops, create)) {
        return "create";
    }
    if (!CTD_HAS(ops, destroy)) {
        return "destroy";
    }
    switch (kind) {
    case CTD_KIND_SOURCE:
        WANT(ctd_source, start)
        WANT(ctd_source, poll)
        WANT(ctd_source, cancel)
        WANT(ctd_source, stop)
        break;
    case CTD_KIND_SINK:
        WANT(ctd_sink, start)
        WANT(ctd_sink, put)
        WANT(ctd_sink, stop)
        break;
    case CTD_KIND_CONVERTER:
        WANT(ctd_converter, encode)
        WANT(ctd_converter, decode)
        break;
    case CTD_KIND_TRANSFORM:
        WANT(ctd_transform, apply)
        break;
    default:
        WANT(ctd_predicate, test)
        break;
    }
    return NULL;
}

static int check_keys(const ctd_class *c, const char *path, struct runner_fail *fail)
{
    if (c->n_config == 0) {
        return 0;
    }
    if (c->config == NULL || c->n_config > MAX_KEYS || c->config_stride < sizeof(ctd_config_key)) {
        return runner_fail_abi(fail, LINK_STAGE_MODULE,
                               "%s: class %s: %u options with a stride of %u bytes (at least %zu)",
                               path, c->name, c->n_config, c->config_stride,
                               sizeof(ctd_config_key));
    }
    for (uint32_t i = 0; i < c->n_config; i++) {
        const ctd_config_key *k = runner_class_key(c, i);
        if (k->struct_size < sizeof(ctd_config_key) || k->name == NULL || k->name[0] == '\0' ||
            k->type < CTD_CFG_BOOL || k->type > CTD_CFG_REGEX) {
            return runner_fail_abi(fail, LINK_STAGE_MODULE,
                                   "%s: class %s: option %u has no name, an unknown type (%d) or a "
                                   "struct_size below %zu",
                                   path, c->name, i, k->type, sizeof(ctd_config_key));
        }
    }
    return 0;
}

static int check_class(const ctd_class *c, uint32_t i, const char *path, struct runner_fail *fail)
{
    if (c->struct_size < sizeof(ctd_class)) {
        return runner_fail_abi(fail, LINK_STAGE_MODULE,
                               "%s: class %u: struct_size is %u, at least %zu are needed", path, i,
                               c->struct_size, sizeof(ctd_class));
    }
    if (c->name == NULL || c->name[0] == '\0' || c->version == NULL) {
        return runner_fail_abi(fail, LINK_STAGE_MODULE, "%s: class %u has no name or no version",
                               path, i);
    }
    const char *kind = runner_kind_name(c->kind);
    if (kind == NULL) {
        return runner_fail_abi(fail, LINK_STAGE_MODULE, "%s: class %s is of unknown kind %d", path,
                               c->name, c->kind);
    }
    const char *missing = c->ops == NULL ? "ops" : missing_op(c->kind, c->ops);
    if (missing == NULL && c->kind == CTD_KIND_SINK &&
        (c->flags & CTD_CLASSF_OFFSETS_IN_TARGET) != 0 &&
        !CTD_HAS_OP((const ctd_sink *)(const void *)c->ops, alter_offsets)) {
        missing = "alter_offsets";
    }
    if (missing != NULL) {
        return runner_fail_abi(fail, LINK_STAGE_MODULE,
                               "%s: class %s: a %s needs %s() (NULL, or beyond struct_size)", path,
                               c->name, kind, missing);
    }
    return check_keys(c, path, fail);
}

/* One draft isn't another: until v1 the minors must be equal. */
static int check_version(const ctd_module *m, const char *path, struct runner_fail *fail)
{
    if (m->magic != CTD_ABI_MAGIC_DRAFT) {
        return runner_fail_abi(
            fail, LINK_STAGE_MODULE,
            "%s: made for another plugin ABI: its magic is 0x%08x, this connectd has 0x%08x (%s); "
            "build it with this connectd's headers",
            path, m->magic, CTD_ABI_MAGIC_DRAFT, "draft of v1");
    }
    if (m->abi_minor != CTD_ABI_MINOR || m->min_host_minor > CTD_ABI_MINOR) {
        return runner_fail_abi(
            fail, LINK_STAGE_MODULE,
            "%s: made for draft %u of the plugin ABI (host at least %u), this connectd has draft "
            "%u; build it with this connectd's headers",
            path, m->abi_minor, m->min_host_minor, CTD_ABI_MINOR);
    }
    return 0;
}

static int check_module(const ctd_module *m, const char *path, struct runner_fail *fail)
{
    if (m == NULL) {
        return runner_fail_abi(fail, LINK_STAGE_MODULE, "%s: %s() returned NULL", path, SYMBOL);
    }
    int rc = check_version(m, path, fail);
    if (rc != 0) {
        return rc;
    }
    if (m->struct_size < offsetof(ctd_module, init)) {
        return runner_fail_abi(fail, LINK_STAGE_MODULE,
                               "%s: the module's struct_size is %u, at least %zu are needed", path,
                               m->struct_size, offsetof(ctd_module, init));
    }
    if (m->n_classes == 0 || m->n_classes > MAX_CLASSES || m->classes == NULL ||
        m->class_stride < sizeof(ctd_class)) {
        return runner_fail_abi(fail, LINK_STAGE_MODULE,
                               "%s: %u classes with a stride of %u bytes: 1 to %u classes, a "
                               "stride of at least %zu",
                               path, m->n_classes, m->class_stride, MAX_CLASSES, sizeof(ctd_class));
    }
    const struct runner_module module = {m};
    for (uint32_t i = 0; i < m->n_classes; i++) {
        rc = check_class(runner_module_class(&module, i), i, path, fail);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int runner_module_load(int fd, const char *path, void (*stage)(void *arg, int stage), void *arg,
                       struct runner_module *ret, struct runner_fail *fail)
{
    char opened[64];
    (void)snprintf(opened, sizeof(opened), "/proc/self/fd/%d", fd);
    stage(arg, LINK_STAGE_DLOPEN);
    void *handle = dlopen(opened, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        return fail_dlopen(fail, path, opened);
    }
    stage(arg, LINK_STAGE_MODULE);
    const ctd_module *(*entry)(void) = NULL;
    void *symbol = dlsym(handle, SYMBOL);
    if (symbol == NULL) {
        return runner_fail_set(fail, LINK_STAGE_MODULE, ERR_CONFIG,
                               "%s: no symbol %s: not a connectd plugin, or one for another major "
                               "version of the ABI (this connectd has v1)",
                               path, SYMBOL);
    }
    memcpy(&entry, &symbol, sizeof(entry));
    const ctd_module *m = entry();
    int rc = check_module(m, path, fail);
    if (rc == 0) {
        ret->module = m;
    }
    return rc;
}

const ctd_class *runner_module_find(const struct runner_module *m, const char *name)
{
    for (uint32_t i = 0; i < m->module->n_classes; i++) {
        const ctd_class *c = runner_module_class(m, i);
        if (str_eq(c->name, name)) {
            return c;
        }
        for (const char *const *alias = c->aliases; alias != NULL && *alias != NULL; alias++) {
            if (str_eq(*alias, name)) {
                return c;
            }
        }
    }
    return NULL;
}
