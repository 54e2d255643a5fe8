/*
 * A task's converters: made from "key.converter" and "value.converter", used by its task thread alone.
 */
#include "runner_int.h"

#include <stdio.h>
#include <string.h>

/* The name and the sub-config; a connector that names none gets String keys and plain JSON values. */
static int configure(struct runner_converter *c, const struct ctd_config *config, int is_key,
                     const ctd_class **ret_class, struct runner_fail *fail)
{
    const char *option = is_key ? "key.converter" : "value.converter";
    const char *named = runner_config_text(config, option);
    const char *name = named != NULL ? named : is_key ? "StringConverter" : "JsonConverter";
    const ctd_class *class = record_converter_find(name);
    if (class == NULL) {
        return runner_fail_set(fail, LINK_STAGE_CREATE, CTD_E_CONFIG, "no converter named %s",
                               name);
    }
    char prefix[32];
    (void)snprintf(prefix, sizeof(prefix), "%s.", option);
    c->config = runner_config_sub(config, prefix, class);
    if (c->config == NULL || (named == NULL && !is_key &&
                              runner_config_default(c->config, "schemas.enable", "false") != 0)) {
        return runner_fail_set(fail, LINK_STAGE_CREATE, CTD_E_NOMEM, "out of memory");
    }
    *ret_class = class;
    return 0;
}

int runner_converter_make(struct runner_converter *c, const struct ctd_config *config,
                          const ctd_host *host, int is_key, struct runner_fail *fail)
{
    memset(c, 0, sizeof(*c));
    const ctd_class *class = NULL;
    int rc = configure(c, config, is_key, &class, fail);
    if (rc == 0) {
        rc = runner_config_check(c->config, host, fail);
    }
    if (rc == 0) {
        ctd_error e;
        runner_error_preset(&e);
        ctd_status status = class->ops->create(host, c->config, &c->self, &e);
        c->ops = status == CTD_OK ? (const ctd_converter *)(const void *)class->ops : NULL;
        rc = status == CTD_OK ? 0 : runner_fail_call(fail, LINK_STAGE_CREATE, status, &e);
    }
    if (rc != 0) {
        runner_fail_prefix(fail, is_key ? "key.converter" : "value.converter");
        runner_converter_free(c);
    }
    return rc;
}

void runner_converter_free(struct runner_converter *c)
{
    if (c->ops != NULL) {
        c->ops->base.destroy(c->self);
    }
    runner_config_free(c->config);
    memset(c, 0, sizeof(*c));
}

int runner_header_encode(const ctd_value *v, struct arena *a, struct slice *ret, struct err *err)
{
    if (v->type == CTD_NULL) {
        *ret = (struct slice){NULL, 0};
        return 0;
    }
    if (v->type == CTD_STRING || v->type == CTD_BYTES) {
        *ret = (struct slice){v->u.bytes, v->len};
        return 0;
    }
    struct buf text = BUF_INIT(0);
    int rc = record_json_write(v, &text, err);
    uint8_t *copy = rc == 0 ? arena_alloc(a, text.len + 1, 1) : NULL;
    if (rc == 0 && copy == NULL) {
        rc = err_set(err, ERR_NOMEM, "out of memory");
    }
    if (rc == 0) {
        memcpy(copy, text.data, text.len);
        *ret = (struct slice){copy, text.len};
    }
    buf_free(&text);
    return rc;
}
