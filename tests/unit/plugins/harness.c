/* See harness.h. */
#include "harness.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "base/str.h"

static struct harness *of(const ctd_host *host)
{
    return host->priv;
}

static const char *text_of(const struct harness *h, const char *key)
{
    for (size_t i = 0; h->pairs != NULL && h->pairs[i] != NULL; i += 2) {
        if (strcmp(h->pairs[i], key) == 0) {
            return h->pairs[i + 1];
        }
    }
    for (uint32_t i = 0; i < h->class->n_config; i++) {
        if (strcmp(h->class->config[i].name, key) == 0) {
            return h->class->config[i].def;
        }
    }
    fail_msg("%s: not in the option table", key);
    return NULL;
}

static ctd_status cfg_i64(const ctd_host *host, const ctd_config *c, const char *key, int64_t *ret)
{
    (void)c;
    const char *text = text_of(of(host), key);
    int b = 0;
    if (text != NULL && str_to_bool(text, &b) == 0) {
        *ret = b;
        return CTD_OK;
    }
    return text != NULL && str_to_i64(text, ret) == 0 ? CTD_OK : CTD_E_CONFIG;
}

static ctd_status cfg_f64(const ctd_host *host, const ctd_config *c, const char *key, double *ret)
{
    (void)c;
    const char *text = text_of(of(host), key);
    return text != NULL && str_to_f64(text, ret) == 0 ? CTD_OK : CTD_E_CONFIG;
}

static ctd_status cfg_str(const ctd_host *host, const ctd_config *c, const char *key,
                          ctd_slice *ret)
{
    (void)c;
    const char *text = text_of(of(host), key);
    if (text == NULL) {
        return CTD_E_CONFIG;
    }
    *ret = ctd_slice_str(text);
    return CTD_OK;
}

static ctd_status cfg_list(const ctd_host *host, const ctd_config *c, const char *key,
                           const ctd_slice **ret, uint64_t *ret_n)
{
    (void)c;
    struct harness *h = of(host);
    const char *at = text_of(h, key);
    uint64_t n = 0;
    while (at != NULL && *at != '\0' && n < 16) {
        size_t len = strcspn(at, ",");
        h->list[n++] = ctd_slice_of(at, len);
        at += len + (at[len] == ',');
    }
    *ret = h->list;
    *ret_n = n;
    return CTD_OK;
}

static ctd_status cfg_at(const ctd_host *host, const ctd_config *c, uint64_t i, ctd_slice *k,
                         ctd_slice *v)
{
    (void)host;
    (void)c;
    (void)i;
    (void)k;
    (void)v;
    return CTD_E_CONFIG;
}

static int32_t log_enabled(const ctd_host *host, int32_t level)
{
    (void)host;
    (void)level;
    return 1;
}

static void log_line(const ctd_host *host, int32_t level, const char *message)
{
    struct harness *h = of(host);
    (void)pthread_mutex_lock(&h->lock);
    size_t n = strlen(message);
    h->logged = realloc(h->logged, h->logged_len + n + 4);
    assert_non_null(h->logged);
    h->logged_len +=
        (size_t)snprintf(h->logged + h->logged_len, n + 4, "%d %s\n", (int)level, message);
    (void)pthread_mutex_unlock(&h->lock);
}

static void progress(const ctd_host *host)
{
    (void)host;
}

static ctd_status get_offset(const ctd_host *host, const ctd_value *partition, ctd_value *ret,
                             ctd_error *err)
{
    (void)err;
    assert_int_equal(partition->type, CTD_MAP);
    assert_int_equal(partition->len, 1);
    *ret = of(host)->stored;
    return CTD_OK;
}

static const void *extension(const ctd_host *host, const char *id)
{
    static const ctd_offsets offsets = {.struct_size = sizeof(offsets), .get = get_offset};
    (void)host;
    return strcmp(id, CTD_EXT_OFFSETS) == 0 ? &offsets : NULL;
}

void harness_open(struct harness *h)
{
    *h = (struct harness){.stored = {.type = CTD_NULL}};
    h->host = (ctd_host){.struct_size = sizeof(ctd_host),
                         .abi_minor = CTD_ABI_MINOR,
                         .priv = h,
                         .product = "test",
                         .version = "0",
                         .connector = "c1",
                         .n_tasks = 1,
                         .log_enabled = log_enabled,
                         .log = log_line,
                         .progress = progress,
                         .cfg_i64 = cfg_i64,
                         .cfg_f64 = cfg_f64,
                         .cfg_str = cfg_str,
                         .cfg_list = cfg_list,
                         .cfg_at = cfg_at,
                         .extension = extension};
    assert_int_equal(pthread_mutex_init(&h->lock, NULL), 0);
    (void)snprintf(h->folder, sizeof(h->folder), "/tmp/connectd-plugins-XXXXXX");
    assert_non_null(mkdtemp(h->folder));
}

void harness_destroy(struct harness *h)
{
    if (h->class != NULL) {
        h->class->ops->destroy(h->self);
    }
    h->self = NULL;
}

void harness_close(struct harness *h)
{
    harness_destroy(h);
    struct err err = ERR_INIT;
    assert_int_equal(file_remove_tree(h->folder, &err), 0);
    free(h->logged);
    (void)pthread_mutex_destroy(&h->lock);
}

const char *harness_path(struct harness *h, const char *name)
{
    static char buffers[8][160];
    static unsigned next;
    char *b = buffers[next++ % 8];
    (void)snprintf(b, sizeof(buffers[0]), "%s/%s", h->folder, name);
    return b;
}

void harness_use(struct harness *h, const char *name, const char *const *pairs)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s.so", PLUGIN_DIR, name);
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* never closed, as in a runner */
    if (so == NULL) {
        fail_msg("%s", dlerror());
    }
    const ctd_module *(*entry)(void) = NULL;
    void *symbol = dlsym(so, "ctd_module_v1");
    assert_non_null(symbol);
    memcpy(&entry, &symbol, sizeof(entry));
    const ctd_module *module = entry();
    assert_int_equal(module->magic, CTD_ABI_MAGIC_DRAFT);
    assert_int_equal(module->n_classes, 1);
    h->class = module->classes;
    h->pairs = pairs;
}

ctd_status harness_create(struct harness *h)
{
    harness_destroy(h);
    h->err = (ctd_error){.record_index = -1, .retry_after_ms = -1};
    return h->class->ops->create(&h->host, NULL, &h->self, &h->err);
}

int harness_logged(struct harness *h, const char *text)
{
    int n = 0;
    (void)pthread_mutex_lock(&h->lock);
    for (const char *at = h->logged; at != NULL && (at = strstr(at, text)) != NULL; at++) {
        n++;
    }
    (void)pthread_mutex_unlock(&h->lock);
    return n;
}

static void add_issue(ctd_issues *issues, const char *key, const char *message)
{
    ctd_text *t = issues->priv;
    ctd_text_append(t, key, strlen(key));
    ctd_text_append(t, ": ", 2);
    ctd_text_append(t, message, strlen(message));
    ctd_text_append(t, "\n", 1);
}

char *harness_validate(struct harness *h)
{
    ctd_text t = {0};
    ctd_issues issues = {.struct_size = sizeof(issues), .priv = &t, .add = add_issue};
    assert_int_equal(h->class->ops->validate(&h->host, NULL, &issues), CTD_OK);
    ctd_text_append(&t, "", 1);
    return t.ptr;
}

void append_file(const char *path, const void *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, p, n), (ssize_t)n);
    assert_int_equal(close(fd), 0);
}

void write_file(const char *path, const char *text)
{
    append_file(path, text, strlen(text));
}

char *read_file(const char *path)
{
    struct buf b = BUF_INIT(0);
    struct err err = ERR_INIT;
    assert_int_equal(file_read(path, 64 << 20, &b, &err), 0);
    char *copy = strdup(buf_cstr(&b));
    buf_free(&b);
    assert_non_null(copy);
    return copy;
}
