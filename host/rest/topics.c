/* Topics: list, describe, create, delete. */
#include "rest/rest_int.h"

#include "base/log.h"
#include "pipeline/pipeline.h"

#include <string.h>

/* ---- list ---- */

struct names {
    json_t *list;
    int all;
};

static void add_name(void *arg, const char *name)
{
    struct names *n = arg;
    if (n->all || !topic_is_internal(name)) {
        (void)json_array_append_new(n->list, json_string(name));
    }
}

static void list_topics(struct job *j)
{
    struct names n = {json_array(), 0};
    struct err err = ERR_INIT;
    const char *all = net_request_query(j->req, "all");
    if (all != NULL && str_to_bool(all, &n.all) != 0) {
        json_decref(n.list);
        rest_job_reply_error(j, 400, "all must be true or false, not '%s'", all);
        return;
    }
    if (topic_list(j->rest->engine, add_name, &n, &err) != 0) {
        json_decref(n.list);
        rest_job_reply_err(j, &err);
        return;
    }
    rest_job_reply_json(j, 200, n.list);
}

/* ---- describe ---- */

static void add_config(void *arg, const char *key, const char *value)
{
    (void)json_object_set_new(arg, key, json_string(value));
}

static int add_partition(struct topic_engine *e, const char *name, int32_t i, json_t *list,
                         struct err *err)
{
    struct topic_partition_status s;
    TRY(topic_partition_status(e, name, i, &s, err));
    json_t *one = json_pack("{s:i, s:I, s:I, s:I, s:s, s:s?}", "partition", (int)i, "start_offset",
                            (json_int_t)s.start_offset, "end_offset", (json_int_t)s.end_offset,
                            "bytes", (json_int_t)s.bytes, "state", s.state, "error",
                            s.error[0] != '\0' ? s.error : NULL);
    if (one == NULL || json_array_append_new(list, one) != 0) {
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    return 0;
}

json_t *rest_describe_topic(struct topic_engine *e, const char *name, struct err *err)
{
    struct topic_info info;
    if (topic_resolve(e, name, &info, err) != 0) {
        return NULL;
    }
    json_t *partitions = json_array();
    json_t *config = json_object();
    int rc = partitions != NULL && config != NULL ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    for (int32_t i = 0; rc == 0 && i < info.partitions; i++) {
        rc = add_partition(e, name, i, partitions, err);
    }
    if (rc == 0) {
        rc = topic_get_config(e, name, add_config, config, err);
    }
    if (rc != 0) {
        json_decref(partitions);
        json_decref(config);
        return NULL;
    }
    json_t *ret =
        json_pack("{s:s, s:o, s:o}", "name", name, "partitions", partitions, "config", config);
    if (ret == NULL) {
        err_set(err, ERR_NOMEM, "out of memory");
    }
    return ret;
}

/* ---- create ---- */

enum { MAX_CONFIG = 64, MAX_PARTITIONS = 10000 };

/* A config value as text; numbers and booleans are taken as they are written. Borrowed from `v` or `room`. */
static const char *config_text(const json_t *v, char *room, size_t cap)
{
    if (json_is_string(v)) {
        return json_string_value(v);
    }
    if (json_is_integer(v)) {
        (void)snprintf(room, cap, "%lld", (long long)json_integer_value(v));
        return room;
    }
    return json_is_boolean(v) ? (json_is_true(v) ? "true" : "false") : NULL;
}

static int parse_config(json_t *config, struct topic_config *ret, char (*room)[24], size_t *ret_n,
                        struct err *err)
{
    size_t n = 0;
    const char *key;
    json_t *value;
    if (config != NULL && !json_is_object(config)) {
        return err_set(err, ERR_CONFIG, "config must be an object");
    }
    json_object_foreach(config, key, value)
    {
        if (n == MAX_CONFIG) {
            return err_set(err, ERR_CONFIG, "config has more than %d keys", MAX_CONFIG);
        }
        ret[n].key = key;
        ret[n].value = config_text(value, room[n], sizeof(room[n]));
        if (ret[n].value == NULL) {
            return err_set(err, ERR_CONFIG, "config %s must be text or a number", key);
        }
        n++;
    }
    *ret_n = n;
    return 0;
}

static int create(struct topic_engine *e, const json_t *body, struct err *err)
{
    struct topic_config config[MAX_CONFIG];
    char room[MAX_CONFIG][24];
    size_t n = 0;
    const char *name = json_string_value(json_object_get(body, "name"));
    json_t *partitions = json_object_get(body, "partitions");
    json_int_t count = json_integer_value(partitions);
    if (name == NULL || !str_is_topic_name(name)) {
        return err_set(err, ERR_CONFIG, "name must be 1 to 249 of a-z A-Z 0-9 . _ -");
    }
    if (!json_is_integer(partitions) || count < 1 || count > MAX_PARTITIONS) {
        return err_set(err, ERR_CONFIG, "partitions must be a number from 1 to %d", MAX_PARTITIONS);
    }
    TRY(parse_config(json_object_get(body, "config"), config, room, &n, err));
    for (size_t i = 0; i < n; i++) {
        if (pipeline_topic_config_check(config[i].key, config[i].value, err) != 0) {
            return err_prefix(err, "config %s", config[i].key);
        }
        if (pipeline_topic_config_idle(config[i].key, config[i].value)) {
            LOG_WARN("rest",
                     "topic %s: %s is kept but does nothing yet: the topic keeps everything", name,
                     config[i].key);
        }
    }
    return topic_create(e, name, (int32_t)count, config, n, err);
}

static void create_topic(struct job *j)
{
    struct slice text = net_request_body(j->req);
    struct err err = ERR_INIT;
    json_t *body = codec_json_parse((const char *)text.ptr, text.len, &err);
    const char *name = json_string_value(json_object_get(body, "name"));
    if (body == NULL) {
        rest_job_reply_error(j, 400, "the body is not JSON: %s", err.msg);
    } else if (name != NULL && topic_is_internal(name)) {
        rest_job_reply_error(j, 403, "%s is one of the host's own topics", name);
    } else if (create(j->rest->engine, body, &err) != 0) {
        rest_job_reply_err(j, &err);
    } else {
        json_t *made = rest_describe_topic(j->rest->engine, name, &err);
        rest_job_reply_json(j, 201, made);
    }
    json_decref(body);
}

/* ---- routes ---- */

void rest_topics(struct job *j)
{
    if (j->method == NET_POST) {
        create_topic(j);
    } else {
        list_topics(j);
    }
}

static void delete_topic(struct job *j)
{
    const char *name = j->seg[1];
    struct err err = ERR_INIT;
    if (topic_is_internal(name)) {
        rest_job_reply_error(j, 403, "%s is one of the host's own topics", name);
    } else if (topic_delete(j->rest->engine, name, &err) != 0) {
        rest_job_reply_err(j, &err);
    } else {
        rest_job_reply(j, 204, NULL, NULL);
    }
}

void rest_topic(struct job *j)
{
    if (j->method == NET_DELETE) {
        delete_topic(j);
        return;
    }
    struct err err = ERR_INIT;
    json_t *body = rest_describe_topic(j->rest->engine, j->seg[1], &err);
    if (body == NULL) {
        rest_job_reply_err(j, &err);
    } else {
        rest_job_reply_json(j, 200, body);
    }
}

void rest_records(struct job *j)
{
    if (j->method == NET_POST) {
        rest_write_records(j);
    } else {
        rest_read_records(j);
    }
}
