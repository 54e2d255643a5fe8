/* DATA/run.json. */
#include "daemon/runfile.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "codec/json.h"

enum { MAX_BYTES = 4096 };

static char *path_of(const char *data_dir, struct err *err)
{
    char *path = file_join(data_dir, "run.json");
    if (path == NULL) {
        err_set(err, ERR_NOMEM, "out of memory");
    }
    return path;
}

int runfile_write(const char *data_dir, const char *rest, const char *version, struct err *err)
{
    char *path = path_of(data_dir, err);
    if (path == NULL) {
        return ERR_NOMEM;
    }
    struct buf text;
    buf_init(&text, MAX_BYTES);
    json_t *v =
        json_pack("{s:i, s:s, s:s}", "pid", (int)getpid(), "rest", rest, "version", version);
    int rc = v == NULL ? err_set(err, ERR_INVAL, "%s: %s is not UTF-8", path, rest) : 0;
    if (rc == 0) {
        codec_json_write(v, &text);
        buf_append_u8(&text, '\n');
        rc = text.error != 0 ? err_set(err, text.error, "%s: too long", path)
                             : file_replace(path, text.data, text.len, err);
    }
    json_decref(v);
    buf_free(&text);
    free(path);
    return rc;
}

static int parse(const char *path, const struct buf *text, struct runfile *ret, struct err *err)
{
    struct runfile r = {0};
    json_t *v = codec_json_parse((const char *)text->data, text->len, err);
    const char *rest = json_string_value(json_object_get(v, "rest"));
    const char *version = json_string_value(json_object_get(v, "version"));
    r.pid = (long)json_integer_value(json_object_get(v, "pid"));
    int rc = 0;
    if (rest == NULL || r.pid <= 0) {
        rc = err_set(err, ERR_DATA, "%s: not a connectd run file; remove it if none runs", path);
    } else {
        (void)snprintf(r.rest, sizeof(r.rest), "%s", rest);
        (void)snprintf(r.version, sizeof(r.version), "%s", version == NULL ? "" : version);
        *ret = r;
    }
    json_decref(v);
    return rc;
}

int runfile_read(const char *data_dir, struct runfile *ret, struct err *err)
{
    char *path = path_of(data_dir, err);
    if (path == NULL) {
        return ERR_NOMEM;
    }
    struct buf text;
    buf_init(&text, 2 * 65536);
    int rc = file_read(path, MAX_BYTES, &text, err);
    if (rc == 0) {
        rc = parse(path, &text, ret, err);
    }
    buf_free(&text);
    free(path);
    return rc;
}

void runfile_remove(const char *data_dir)
{
    char *path = path_of(data_dir, NULL);
    if (path != NULL) {
        (void)unlink(path);
    }
    free(path);
}
