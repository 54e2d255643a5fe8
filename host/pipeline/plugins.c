/* The folders of plugin.path. */
#include "pipeline/plugins.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "codec/codec.h"

#define DESCRIBE_DEADLINE_MS 10000
#define PLUGIN_SIZE_LIMIT    ((size_t)512 << 20)

struct scan {
    const char *runner;
    const char *data_dir; /* or NULL */
    struct plugins *into;
};

static int refuse(struct plugins *p, const char *file, const char *reason)
{
    struct plugin_refusal *all = realloc(p->refused, (p->n_refused + 1) * sizeof(*all));
    if (all == NULL) {
        return ERR_NOMEM;
    }
    p->refused = all;
    all[p->n_refused] = (struct plugin_refusal){.file = strdup(file), .reason = strdup(reason)};
    if (all[p->n_refused].file == NULL || all[p->n_refused].reason == NULL) {
        free(all[p->n_refused].file);
        free(all[p->n_refused].reason);
        return ERR_NOMEM;
    }
    p->n_refused++;
    return 0;
}

/* A plugin is a regular file really below the folder, and nobody else may have written it. */
static int check_file(const char *folder, const char *file, struct err *err)
{
    char real_folder[PATH_MAX];
    char real_file[PATH_MAX];
    if (realpath(folder, real_folder) == NULL || realpath(file, real_file) == NULL) {
        return err_set_errno(err, ERR_CONFIG, "%s", file);
    }
    size_t n = strlen(real_folder);
    if (strncmp(real_file, real_folder, n) != 0 || (n > 1 && real_file[n] != '/')) {
        return err_set(err, ERR_CONFIG, "%s leads to %s, outside plugin.path; copy it there", file,
                       real_file);
    }
    struct stat st;
    if (stat(real_file, &st) != 0 || !S_ISREG(st.st_mode)) {
        return err_set(err, ERR_CONFIG, "%s is not a regular file", file);
    }
    if ((st.st_mode & S_IWOTH) != 0) {
        return err_set(err, ERR_CONFIG, "%s is writable by everybody; chmod o-w it", file);
    }
    struct stat dir;
    if (stat(real_folder, &dir) == 0 && (dir.st_mode & S_IWOTH) != 0 &&
        (dir.st_mode & S_ISVTX) == 0) {
        return err_set(err, ERR_CONFIG, "its folder %s is writable by everybody; chmod o-w it",
                       real_folder);
    }
    return 0;
}

/* Copies the bytes whose hash is `sha` to `to`; the hash is taken again of the copy. */
static int copy_file(const char *from, const char *to, const char *sha, struct err *err)
{
    struct buf bytes = BUF_INIT(PLUGIN_SIZE_LIMIT + 65536);
    int rc = file_read(from, PLUGIN_SIZE_LIMIT, &bytes, err);
    if (rc == 0) {
        rc = file_replace(to, bytes.data, bytes.len, err);
    }
    buf_free(&bytes);
    char again[65];
    if (rc == 0) {
        rc = codec_sha256_file(to, again, err);
    }
    if (rc == 0 && strcmp(sha, again) != 0) {
        (void)unlink(to);
        rc = err_set(err, ERR_RETRIABLE, "%s changed while it was copied", from);
    }
    if (rc == 0 && chmod(to, 0500) != 0) {
        rc = err_set_errno(err, ERR_IO, "%s: chmod", to);
    }
    return rc;
}

/* Where DATA/plugins/SHA/ is, made if need be, with the file's copy in it. */
static int keep_copy(const char *data_dir, const char *file, char *ret_dir, char *ret_copy,
                     struct err *err)
{
    char sha[65];
    TRY(codec_sha256_file(file, sha, err));
    const char *base = strrchr(file, '/');
    base = base != NULL ? base + 1 : file;
    int n = snprintf(ret_dir, PATH_MAX, "%s/plugins/%s", data_dir, sha);
    int m = snprintf(ret_copy, PATH_MAX, "%s/plugins/%s/%s", data_dir, sha, base);
    if (n < 0 || m < 0 || m >= PATH_MAX) {
        return err_set(err, ERR_CONFIG, "%s: path too long", file);
    }
    TRY(file_mkdirs(ret_dir, err));
    char have[65];
    struct err ignored = ERR_INIT;
    if (codec_sha256_file(ret_copy, have, &ignored) == 0 && strcmp(have, sha) == 0) {
        return 0;
    }
    return copy_file(file, ret_copy, sha, err);
}

static int describe_file(struct scan *s, const char *file, const char *dir, const char *copy,
                         struct buf *text, struct err *err)
{
    char cache[PATH_MAX + 16];
    (void)snprintf(cache, sizeof(cache), "%s/describe.json", dir);
    struct err ignored = ERR_INIT;
    if (dir[0] != '\0' && file_read(cache, (size_t)8 << 20, text, &ignored) == 0) {
        return 0;
    }
    buf_clear(text);
    int rc =
        pipeline_describe_run(s->runner, copy, clock_mono_ms() + DESCRIBE_DEADLINE_MS, text, err);
    if (rc == 0 && dir[0] != '\0') {
        rc = file_replace(cache, text->data, text->len, err);
    }
    (void)file;
    return rc;
}

static int take_classes(struct plugins *p, struct plugin_class *found, size_t n, struct err *err)
{
    struct plugin_class *all = realloc(p->classes, (p->n_classes + n + 1) * sizeof(*all));
    if (all == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    p->classes = all;
    for (size_t i = 0; i < n; i++) {
        all[p->n_classes++] = found[i];
    }
    return 0;
}

static int add_file(struct scan *s, const char *folder, const char *file)
{
    struct err err = ERR_INIT;
    char dir[PATH_MAX] = "";
    char copy[PATH_MAX];
    (void)snprintf(copy, sizeof(copy), "%s", file);
    struct buf text = BUF_INIT((size_t)8 << 20);
    struct plugin_class *found = NULL;
    size_t n = 0;
    int rc = check_file(folder, file, &err);
    if (rc == 0 && s->data_dir != NULL) {
        rc = keep_copy(s->data_dir, file, dir, copy, &err);
    }
    if (rc == 0) {
        rc = describe_file(s, file, dir, copy, &text, &err);
    }
    if (rc == 0) {
        rc = pipeline_describe_parse((const char *)text.data, text.len, file, copy, &found, &n,
                                     &err);
    }
    if (rc == 0) {
        rc = take_classes(s->into, found, n, &err);
    }
    free(found);
    buf_free(&text);
    if (rc == ERR_NOMEM) {
        return rc;
    }
    return rc != 0 ? refuse(s->into, file, err.msg) : 0;
}

static int not_hidden(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int scan_folder(struct scan *s, const char *root, const char *folder, int depth)
{
    struct dirent **names = NULL;
    int n = scandir(folder, &names, not_hidden, by_bytes);
    if (n < 0) {
        char reason[256];
        (void)snprintf(reason, sizeof(reason), "the folder cannot be read: %s", strerror(errno));
        return refuse(s->into, folder, reason);
    }
    int rc = 0;
    for (int i = 0; i < n; i++) {
        char *path = file_join(folder, names[i]->d_name);
        struct stat st;
        if (path == NULL) {
            rc = ERR_NOMEM;
        } else if (rc == 0 && str_ends_with(names[i]->d_name, ".so")) {
            rc = add_file(s, root, path);
        } else if (rc == 0 && depth == 0 && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
            rc = scan_folder(s, root, path, 1);
        }
        free(path);
        free(names[i]);
    }
    free(names);
    return rc;
}

int pipeline_plugins_load(const struct host_config *host, const char *runner, const char *data_dir,
                          struct plugins *ret, struct err *err)
{
    struct plugins p = {0};
    struct scan s = {.runner = runner, .data_dir = data_dir, .into = &p};
    for (size_t i = 0; i < host->n_plugin_path; i++) {
        if (scan_folder(&s, host->plugin_path[i], host->plugin_path[i], 0) != 0) {
            pipeline_plugins_free(&p);
            return err_set(err, ERR_NOMEM, "out of memory");
        }
    }
    *ret = p;
    return 0;
}

void pipeline_plugins_free(struct plugins *p)
{
    for (size_t i = 0; i < p->n_classes; i++) {
        pipeline_describe_clear(&p->classes[i]);
    }
    for (size_t i = 0; i < p->n_refused; i++) {
        free(p->refused[i].file);
        free(p->refused[i].reason);
    }
    free(p->classes);
    free(p->refused);
    memset(p, 0, sizeof(*p));
}

const struct plugin_class *pipeline_plugins_find(const struct plugins *p, const char *name)
{
    for (size_t i = 0; i < p->n_classes; i++) {
        const struct plugin_class *c = &p->classes[i];
        if (strcmp(c->name, name) == 0) {
            return c;
        }
        for (size_t k = 0; c->aliases != NULL && c->aliases[k] != NULL; k++) {
            if (strcmp(c->aliases[k], name) == 0) {
                return c;
            }
        }
    }
    return NULL;
}

const char *pipeline_plugins_nearest(const struct plugins *p, const char *name)
{
    const char *names[256];
    size_t n = 0;
    for (size_t i = 0; i < p->n_classes && n < 256; i++) {
        names[n++] = p->classes[i].name;
    }
    return str_nearest(name, names, n);
}
