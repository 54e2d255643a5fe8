/* Connectors, plugins and health: what the pipeline says, in Connect's shapes. */
#include "rest/rest_int.h"

#include <string.h>

static int is_true(const char *text, int def)
{
    int v = def;
    if (text != NULL && str_to_bool(text, &v) != 0) {
        return def;
    }
    return v;
}

static void no_pipeline(struct job *j)
{
    rest_job_reply_error(j, 404, "no connectors run here");
}

/* GET /connectors[?expand=status&expand=info], POST /connectors */
void rest_get_connectors(struct job *j)
{
    struct pipeline *p = j->rest->pipeline;
    if (p == NULL) {
        no_pipeline(j);
        return;
    }
    int with_status = 0;
    int with_info = 0;
    const char *name;
    const char *value;
    for (size_t at = 0; net_request_query_next(j->req, &at, &name, &value);) {
        with_status |= strcmp(name, "expand") == 0 && strcmp(value, "status") == 0;
        with_info |= strcmp(name, "expand") == 0 && strcmp(value, "info") == 0;
    }
    if (with_status || with_info) {
        rest_job_reply_json(j, 200, pipeline_connectors_expanded(p, with_status, with_info));
    } else {
        rest_job_reply_json(j, 200, pipeline_connector_names(p));
    }
}

/* The name that a POST /connectors would make, or NULL. Borrowed from *ret_body. */
static const char *posted_name(struct job *j, json_t **ret_body)
{
    struct slice text = net_request_body(j->req);
    *ret_body = codec_json_parse((const char *)text.ptr, text.len, NULL);
    return json_string_value(json_object_get(*ret_body, "name"));
}

/* POST /connectors, PUT and PATCH /connectors/C/config, DELETE /connectors/C. Connectors come from files
 * only, so far: one that exists is its file's, which is named, any other cannot be made here. */
void rest_change_connector(struct job *j)
{
    struct pipeline *p = j->rest->pipeline;
    if (p == NULL) {
        no_pipeline(j);
        return;
    }
    json_t *body = NULL;
    const char *name = j->n_seg > 1 ? j->seg[1] : posted_name(j, &body);
    char file[512] = "";
    int rc = name == NULL ? ERR_NOT_FOUND : pipeline_connector_file(p, name, file, sizeof(file));
    if (rc == 0) {
        rest_job_reply_error(j, 403, "Connector %s is defined in %s; change it there", name, file);
    } else if (rc == ERR_NOT_FOUND && (j->method == NET_PATCH || j->method == NET_DELETE)) {
        rest_job_reply_error(j, 404, "Connector %s not found", name);
    } else {
        net_reply_header(j->req, "Allow", "GET, HEAD, OPTIONS");
        rest_job_reply_error(j, 405, "connectors are made by files in connectors.dir");
    }
    json_decref(body);
}

static int task_number(const char *text, int *ret)
{
    int64_t v = 0;
    if (str_to_i64(text, &v) != 0 || v < 0 || v > INT32_MAX) {
        return ERR_NOT_FOUND;
    }
    *ret = (int)v;
    return 0;
}

/* GET /connectors/C, /config, /status, /tasks, /tasks/T/status */
void rest_get_connector(struct job *j)
{
    struct pipeline *p = j->rest->pipeline;
    if (p == NULL) {
        no_pipeline(j);
        return;
    }
    const char *name = j->seg[1];
    const char *what = j->n_seg > 2 ? j->seg[2] : "";
    struct err err = ERR_INIT;
    json_t *body = NULL;
    int task = 0;
    int rc;
    if (j->n_seg == 5) {
        rc = task_number(j->seg[3], &task);
        if (rc == 0) {
            rc = pipeline_task_status(p, name, task, &body, &err);
        }
    } else if (strcmp(what, "config") == 0) {
        rc = pipeline_connector_config(p, name, &body, &err);
    } else if (strcmp(what, "status") == 0) {
        rc = pipeline_connector_status(p, name, &body, &err);
    } else if (strcmp(what, "tasks") == 0) {
        rc = pipeline_connector_tasks(p, name, &body, &err);
    } else {
        rc = pipeline_connector_info(p, name, &body, &err);
    }
    if (rc == 0) {
        rest_job_reply_json(j, 200, body);
    } else if (rc == ERR_NOT_FOUND && j->n_seg == 5) {
        rest_job_reply_error(j, 404, "No status found for task %s-%s", name, j->seg[3]);
    } else if (rc == ERR_NOT_FOUND) {
        rest_job_reply_error(j, 404,
                             strcmp(what, "status") == 0 ? "No status found for connector %s"
                                                         : "Connector %s not found",
                             name);
    } else {
        rest_job_reply_err(j, &err);
    }
}

void rest_get_plugins(struct job *j)
{
    struct pipeline *p = j->rest->pipeline;
    if (p == NULL) {
        no_pipeline(j);
        return;
    }
    int only = is_true(net_request_query(j->req, "connectorsOnly"), 1);
    rest_job_reply_json(j, 200, pipeline_plugins(p, only));
}

void rest_get_health(struct job *j)
{
    if (j->rest->pipeline == NULL) {
        rest_job_reply_json(j, 200,
                            json_pack("{s:s, s:s, s:[]}", "status", "healthy", "message",
                                      "topics only", "problems"));
        return;
    }
    int status = 500;
    json_t *body = pipeline_health(j->rest->pipeline, &status);
    rest_job_reply_json(j, status, body);
}
