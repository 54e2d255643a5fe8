/* What a plugin file holds. */
#include "pipeline/describe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "connectd/abi.h"
#include "pipeline/options.h"

#define OUTPUT_LIMIT ((size_t)8 << 20)

/* ---- running the describer ---- */

static int start(const char *runner, const char *so, int out_fd, int err_fd, pid_t *ret)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    BUG_ON(posix_spawn_file_actions_init(&actions) != 0 || posix_spawnattr_init(&attr) != 0);
    sigset_t none;
    sigset_t all;
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    int rc = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    rc = rc != 0 ? rc : posix_spawn_file_actions_adddup2(&actions, out_fd, 1);
    rc = rc != 0 ? rc : posix_spawn_file_actions_adddup2(&actions, err_fd, 2);
    rc = rc != 0 ? rc : posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    rc = rc != 0 ? rc : posix_spawnattr_setsigmask(&attr, &none);
    rc = rc != 0 ? rc : posix_spawnattr_setsigdefault(&attr, &all);
    rc = rc != 0 ? rc
                 : posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                       POSIX_SPAWN_SETSID);
    char name[] = "connectd-runner";
    char mode[] = "--describe";
    char *argv[] = {name, mode, (char *)(uintptr_t)so, NULL};
    char *envp[] = {NULL};
    rc = rc != 0 ? rc : posix_spawn(ret, runner, &actions, &attr, argv, envp);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)posix_spawnattr_destroy(&attr);
    return rc;
}

/* Reads both pipes until they end or the deadline passes. */
static int drain(int out_fd, int err_fd, int64_t deadline_ms, struct buf *out, struct buf *errors)
{
    struct pollfd fds[2] = {{.fd = out_fd, .events = POLLIN}, {.fd = err_fd, .events = POLLIN}};
    struct buf *to[2] = {out, errors};
    while (fds[0].fd >= 0 || fds[1].fd >= 0) {
        int64_t left = deadline_ms - clock_mono_ms();
        if (left <= 0) {
            return ERR_TIMEOUT;
        }
        if (poll(fds, 2, (int)left) < 0 && errno != EINTR) {
            return ERR_IO;
        }
        for (int i = 0; i < 2; i++) {
            if (fds[i].fd < 0 || fds[i].revents == 0) {
                continue;
            }
            uint8_t *room = buf_reserve(to[i], 16384);
            if (room == NULL) {
                return ERR_LIMIT;
            }
            ssize_t n = read(fds[i].fd, room, 16384);
            if (n > 0) {
                to[i]->len += (size_t)n;
            } else if (n == 0 || errno != EINTR) {
                fds[i].fd = -1;
            }
        }
    }
    return 0;
}

static int finish(pid_t pid, int rc, const char *so, struct buf *errors, struct err *err)
{
    if (rc != 0) {
        (void)kill(pid, SIGKILL);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (rc == ERR_TIMEOUT) {
        return err_set(err, ERR_TIMEOUT, "%s did not describe itself in time", so);
    }
    if (rc != 0) {
        return err_set(err, rc, "%s: its description is too long or cannot be read", so);
    }
    if (WIFSIGNALED(status)) {
        return err_set(err, ERR_CONFIG, "%s ended by signal %s while it was loaded", so,
                       sigabbrev_np(WTERMSIG(status)));
    }
    if (WEXITSTATUS(status) != 0) {
        const char *text = buf_cstr(errors);
        return err_set(err, ERR_CONFIG, "%.*s", (int)strcspn(text, "\n"),
                       *text != '\0' ? text : "the describer failed without a word");
    }
    return 0;
}

int pipeline_describe_run(const char *runner, const char *so, int64_t deadline_ms, struct buf *out,
                          struct err *err)
{
    int out_pipe[2] = {-1, -1};
    int err_pipe[2] = {-1, -1};
    struct buf errors = BUF_INIT(1 << 20);
    struct buf text = BUF_INIT(OUTPUT_LIMIT);
    pid_t pid = -1;
    int rc = 0;
    if (pipe2(out_pipe, O_CLOEXEC) != 0 || pipe2(err_pipe, O_CLOEXEC) != 0) {
        rc = err_set_errno(err, ERR_IO, "pipe");
        goto out;
    }
    errno = start(runner, so, out_pipe[1], err_pipe[1], &pid);
    if (errno != 0) {
        rc = err_set_errno(err, ERR_IO, "cannot start %s", runner);
        goto out;
    }
    (void)close(out_pipe[1]);
    (void)close(err_pipe[1]);
    out_pipe[1] = err_pipe[1] = -1;
    rc = drain(out_pipe[0], err_pipe[0], deadline_ms, &text, &errors);
    rc = finish(pid, rc, so, &errors, err);
    if (rc == 0) {
        buf_append(out, text.data, text.len);
        rc = out->error;
    }
out:
    for (int i = 0; i < 2; i++) {
        if (out_pipe[i] >= 0) {
            (void)close(out_pipe[i]);
        }
        if (err_pipe[i] >= 0) {
            (void)close(err_pipe[i]);
        }
    }
    buf_free(&errors);
    buf_free(&text);
    return rc;
}

/* ---- reading its answer ---- */

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static int kind_of(const char *text)
{
    static const struct {
        const char *text;
        int kind;
    } kinds[] = {{"source", CTD_KIND_SOURCE},
                 {"sink", CTD_KIND_SINK},
                 {"converter", CTD_KIND_CONVERTER},
                 {"transform", CTD_KIND_TRANSFORM},
                 {"predicate", CTD_KIND_PREDICATE}};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (str_eq(text, kinds[i].text)) {
            return kinds[i].kind;
        }
    }
    return 0;
}

static int type_of(const char *text)
{
    static const struct {
        const char *text;
        int type;
    } types[] = {{"BOOLEAN", OPTION_BOOL},   {"INT", OPTION_I64},    {"SHORT", OPTION_I64},
                 {"LONG", OPTION_I64},       {"DOUBLE", OPTION_F64}, {"LIST", OPTION_LIST},
                 {"PASSWORD", OPTION_SECRET}};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (str_eq(text, types[i].text)) {
            return types[i].type;
        }
    }
    return OPTION_STRING;
}

/* A NULL-terminated array of the texts in a JSON array; NULL when it is none or memory is out. */
static const char **text_list(const json_t *array)
{
    if (!json_is_array(array) || json_array_size(array) == 0) {
        return NULL;
    }
    const char **list = calloc(json_array_size(array) + 1, sizeof(*list));
    size_t n = 0;
    for (size_t i = 0; list != NULL && i < json_array_size(array); i++) {
        const char *text = json_string_value(json_array_get(array, i));
        if (text != NULL) {
            list[n++] = text;
        }
    }
    return list;
}

static void parse_option(const json_t *o, struct class_option *ret)
{
    ret->name = text_of(o, "name");
    ret->type = type_of(text_of(o, "type"));
    ret->def = text_of(o, "default");
    ret->required = json_is_true(json_object_get(o, "required"));
    ret->prefix = json_is_true(json_object_get(o, "prefix"));
    ret->path = json_is_true(json_object_get(o, "path"));
    ret->min = 1;
    ret->max = 0;
    const json_t *min = json_object_get(o, "min");
    const json_t *max = json_object_get(o, "max");
    if (json_is_integer(min) && json_is_integer(max)) {
        ret->min = json_integer_value(min);
        ret->max = json_integer_value(max);
    }
    ret->allowed = text_list(json_object_get(o, "allowed"));
}

static int parse_class(json_t *o, const char *file, const char *copy, struct plugin_class *ret,
                       struct err *err)
{
    memset(ret, 0, sizeof(*ret));
    ret->name = text_of(o, "name");
    ret->version = text_of(o, "version");
    ret->kind = kind_of(text_of(o, "kind"));
    ret->flags = (uint32_t)json_integer_value(json_object_get(o, "flags"));
    if (ret->name == NULL || ret->kind == 0) {
        return err_set(err, ERR_DATA, "%s: a class without name or kind", file);
    }
    ret->json = json_incref(o);
    ret->file = strdup(file);
    ret->copy = strdup(copy);
    ret->aliases = text_list(json_object_get(o, "aliases"));
    const json_t *config = json_object_get(o, "config");
    size_t n = json_array_size(config);
    ret->options = calloc(n + 1, sizeof(*ret->options));
    if (ret->file == NULL || ret->copy == NULL || ret->options == NULL) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        struct class_option *option = &ret->options[ret->n_options];
        parse_option(json_array_get(config, i), option);
        if (option->name != NULL) {
            ret->n_options++;
        } else {
            free(option->allowed);
        }
    }
    return 0;
}

int pipeline_describe_parse(const char *text, size_t n, const char *file, const char *copy,
                            struct plugin_class **ret, size_t *ret_n, struct err *err)
{
    json_t *doc = codec_json_parse(text, n, err);
    if (doc == NULL) {
        return err_prefix(err, "%s: its description", file);
    }
    json_t *list = json_object_get(doc, "classes");
    size_t count = json_array_size(list);
    struct plugin_class *classes = calloc(count + 1, sizeof(*classes));
    int rc = classes != NULL ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    size_t made = 0;
    while (rc == 0 && made < count) {
        rc = parse_class(json_array_get(list, made), file, copy, &classes[made], err);
        made++;
    }
    json_decref(doc);
    if (rc != 0) {
        for (size_t i = 0; i < made; i++) {
            pipeline_describe_clear(&classes[i]);
        }
        free(classes);
        return rc;
    }
    *ret = classes;
    *ret_n = count;
    return 0;
}

void pipeline_describe_clear(struct plugin_class *c)
{
    for (size_t i = 0; i < c->n_options; i++) {
        free(c->options[i].allowed);
    }
    free(c->options);
    free(c->aliases);
    free(c->file);
    free(c->copy);
    json_decref(c->json);
    memset(c, 0, sizeof(*c));
}
