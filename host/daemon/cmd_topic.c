/*
 * connectd topic: a client of the host's REST. Arguments, and the verbs that are one request.
 *
 * Threads: the main one (and, without a host, those of the log and REST: cmd_topic_host.c).
 */
#include "daemon/cmd_topic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "daemon/cmd_topic_int.h"

/* ---- arguments ---- */

enum option_kind { OPT_FLAG, OPT_TEXT, OPT_NUMBER, OPT_CONFIG };

struct option {
    const char *name;
    const char *verbs; /* that take it, with blanks around each */
    enum option_kind kind;
    size_t at; /* in struct topic_args */
};

#define AT(field) offsetof(struct topic_args, field)
#define ALL_VERBS " read write create delete list describe "
static const struct option options[] = {
    {"--url", ALL_VERBS, OPT_TEXT, AT(url)},
    {"--data", ALL_VERBS, OPT_TEXT, AT(data)},
    {"--partition", " read write ", OPT_NUMBER, AT(partition)},
    {"--from-beginning", " read ", OPT_FLAG, AT(from_beginning)},
    {"--offset", " read ", OPT_NUMBER, AT(offset)},
    {"--max-messages", " read ", OPT_NUMBER, AT(max_messages)},
    {"--until-end", " read ", OPT_FLAG, AT(until_end)},
    {"--timeout-ms", " read ", OPT_NUMBER, AT(timeout_ms)},
    {"--format", " read list describe ", OPT_TEXT, AT(format)},
    {"--key-separator", " write ", OPT_TEXT, AT(separator)},
    {"--partitions", " create ", OPT_NUMBER, AT(partitions)},
    {"--config", " create ", OPT_CONFIG, 0},
    {"--all", " list ", OPT_FLAG, AT(all)},
};
enum { N_OPTIONS = sizeof(options) / sizeof(options[0]) };

static const char where_help[] =
    "  --url URL      the host's REST, http://127.0.0.1:8083; else\n"
    "  --data DIR     the host's data directory; CONNECTD_DATA_DIR or ./data by default. With no\n"
    "                 host running there, the command opens the log itself.\n";

static const struct verb {
    const char *name;
    const char *help;
} verbs[] = {
    {"read",
     "Usage: connectd topic read TOPIC [options]\n\n"
     "Prints records, one a line. Starts at the end and follows, until it is stopped.\n\n"
     "  --partition P       only this one\n"
     "  --from-beginning    from the first record kept\n"
     "  --offset N          from this offset; with several partitions also --partition\n"
     "  --max-messages N    stop after N records\n"
     "  --until-end         stop at what is the end now\n"
     "  --timeout-ms T      stop after T ms without a record\n"
     "  --format FORMAT     json (default): "
     "{\"topic\",\"partition\",\"offset\",\"timestamp\",\"key\",\n"
     "                      \"value\",\"headers\"}; value: the value's bytes and a line feed\n"},
    {"write", "Usage: connectd topic write TOPIC [options]\n\n"
              "Writes each line of stdin as a record and prints "
              "{\"topic\",\"partition\",\"offset\"} when it is\n"
              "durable. Without --partition the key decides, as Kafka's producers do it.\n\n"
              "  --key-separator S   a line is KEY S VALUE; without it there is no key\n"
              "  --partition P       all to this one\n"},
    {"create", "Usage: connectd topic create TOPIC --partitions N [options]\n\n"
               "  --partitions N      1 to 10000\n"
               "  --config KEY=VALUE  a topic config of Kafka's; repeatable\n"},
    {"delete", "Usage: connectd topic delete TOPIC [options]\n\n"},
    {"list", "Usage: connectd topic list [options]\n\n"
             "Prints the topics' names, one a line.\n\n"
             "  --all               the host's own topics too\n"
             "  --format json       a JSON list\n"},
    {"describe",
     "Usage: connectd topic describe TOPIC [options]\n\n"
     "  --format json       {\"name\",\"partitions\":[{\"partition\",\"start_offset\",\n"
     "                      \"end_offset\",\"bytes\",\"state\",\"error\"}],\"config\":{}}\n"},
};
enum { N_VERBS = sizeof(verbs) / sizeof(verbs[0]) };

static void print_help(const struct verb *v)
{
    (void)printf("%s%s", v->help, where_help);
}

static void print_usage(FILE *out)
{
    (void)fputs("Usage: connectd topic read|write|create|delete|describe TOPIC [options]\n"
                "       connectd topic list [options]\n\n"
                "connectd topic read --help (and so on) names the options.\n",
                out);
}

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < N_VERBS; i++) {
        if (strcmp(verbs[i].name, name) == 0) {
            return &verbs[i];
        }
    }
    return NULL;
}

static int wrong_usage(const struct topic_args *a, const char *what, const char *which)
{
    (void)fprintf(stderr, "connectd topic %s: %s%s\n", a->verb, what, which);
    (void)fprintf(stderr, "Try: connectd topic %s --help\n", a->verb);
    return 2;
}

static const struct option *find_option(const char *verb, const char *text, size_t len)
{
    char word[32];
    (void)snprintf(word, sizeof(word), " %s ", verb);
    for (size_t i = 0; i < N_OPTIONS; i++) {
        if (strlen(options[i].name) == len && strncmp(options[i].name, text, len) == 0 &&
            strstr(options[i].verbs, word) != NULL) {
            return &options[i];
        }
    }
    return NULL;
}

/* The option that is nearest to `text` among those of the verb, or NULL. */
static const char *nearest_option(const char *verb, const char *text)
{
    const char *names[N_OPTIONS];
    size_t n = 0;
    for (size_t i = 0; i < N_OPTIONS; i++) {
        const char *name = options[i].name;
        if (find_option(verb, name, strlen(name)) != NULL) {
            names[n++] = name;
        }
    }
    return str_nearest(text, names, n);
}

static int set_option(struct topic_args *a, const struct option *o, char *value)
{
    void *slot = (char *)a + o->at;
    if (o->kind == OPT_TEXT) {
        *(const char **)slot = value;
    } else if (o->kind == OPT_CONFIG) {
        if (strchr(value, '=') == NULL || a->n_config == CMD_TOPIC_MAX_CONFIG) {
            return wrong_usage(a, "--config is KEY=VALUE, not ", value);
        }
        a->config[a->n_config++] = value;
    } else if (str_to_i64(value, (int64_t *)slot) != 0 || *(int64_t *)slot < 0) {
        (void)fprintf(stderr, "connectd topic %s: ", a->verb);
        (void)fprintf(stderr, "%s '%s' is not a number from 0\n", o->name, value);
        return 2;
    }
    return 0;
}

/* One argument, and its value if it has one. 0 or 2. */
static int parse_arg(struct topic_args *a, int argc, char **argv, int *i)
{
    char *text = argv[*i];
    if (strncmp(text, "--", 2) != 0) {
        if (a->topic != NULL || strcmp(a->verb, "list") == 0) {
            return wrong_usage(a, "one argument too many: ", text);
        }
        a->topic = text;
        return 0;
    }
    char *is = strchr(text, '=');
    size_t len = is != NULL ? (size_t)(is - text) : strlen(text);
    const struct option *o = find_option(a->verb, text, len);
    if (o == NULL) {
        const char *near = nearest_option(a->verb, text);
        (void)fprintf(stderr, "connectd topic %s: no option %s%s%s%s\n", a->verb, text,
                      near != NULL ? " (did you mean " : "", near != NULL ? near : "",
                      near != NULL ? "?)" : "");
        return wrong_usage(a, "wrong usage", "");
    }
    if (o->kind == OPT_FLAG) {
        *(int *)((char *)a + o->at) = 1;
        return is == NULL ? 0 : wrong_usage(a, o->name, " takes no value");
    }
    if (is == NULL && *i + 1 == argc) {
        return wrong_usage(a, o->name, " needs a value");
    }
    return set_option(a, o, is != NULL ? is + 1 : argv[++*i]);
}

static int check_args(const struct topic_args *a)
{
    int read = strcmp(a->verb, "read") == 0;
    if (a->topic == NULL && strcmp(a->verb, "list") != 0) {
        return wrong_usage(a, "TOPIC is missing", "");
    }
    if (a->topic != NULL && !str_is_topic_name(a->topic)) {
        return wrong_usage(a, "not a topic's name: ", a->topic);
    }
    if (a->from_beginning && a->offset >= 0) {
        return wrong_usage(a, "--from-beginning and --offset exclude each other", "");
    }
    if (a->format != NULL && strcmp(a->format, "json") != 0 &&
        strcmp(a->format, read ? "value" : "text") != 0) {
        return wrong_usage(a, read ? "--format is json or value, not " : "--format is json, not ",
                           a->format);
    }
    if (a->separator != NULL && a->separator[0] == '\0') {
        return wrong_usage(a, "--key-separator is empty", "");
    }
    if (strcmp(a->verb, "create") == 0 && a->partitions < 1) {
        return wrong_usage(a, "--partitions N is missing, or not at least 1", "");
    }
    return 0;
}

/* ---- list, describe, create, delete ---- */

static int run_list(struct topic_host *h, const struct topic_args *a, struct err *err)
{
    json_t *names = NULL;
    TRY(cmd_topic_ask_json(h, "GET", a->all ? "/topics?all=true" : "/topics", NULL, 200, &names,
                           err));
    int rc = 0;
    if (a->format != NULL && strcmp(a->format, "json") == 0) {
        rc = cmd_topic_put_json(names, err);
    } else {
        struct buf lines;
        buf_init(&lines, 0);
        for (size_t i = 0; i < json_array_size(names); i++) {
            buf_printf(&lines, "%s\n", json_string_value(json_array_get(names, i)));
        }
        rc = cmd_topic_put(lines.data, lines.len, err);
        buf_free(&lines);
    }
    json_decref(names);
    return rc;
}

static int put_description(json_t *t, struct err *err)
{
    struct buf text;
    const char *key;
    json_t *value;
    buf_init(&text, 0);
    buf_printf(&text, "topic %s\n", json_string_value(json_object_get(t, "name")));
    json_t *list = json_object_get(t, "partitions");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *p = json_array_get(list, i);
        const char *error = json_string_value(json_object_get(p, "error"));
        buf_printf(&text, "partition %lld: offsets %lld to %lld, %lld bytes, %s%s%s\n",
                   (long long)cmd_topic_number(p, "partition"),
                   (long long)cmd_topic_number(p, "start_offset"),
                   (long long)cmd_topic_number(p, "end_offset"),
                   (long long)cmd_topic_number(p, "bytes"),
                   json_string_value(json_object_get(p, "state")), error != NULL ? ": " : "",
                   error != NULL ? error : "");
    }
    json_object_foreach(json_object_get(t, "config"), key, value)
    {
        buf_printf(&text, "config %s=%s\n", key, json_string_value(value));
    }
    int rc = cmd_topic_put(text.data, text.len, err);
    buf_free(&text);
    return rc;
}

static int run_describe(struct topic_host *h, const struct topic_args *a, struct err *err)
{
    json_t *t = NULL;
    TRY(cmd_topic_describe(h, a->topic, &t, err));
    int rc = a->format != NULL && strcmp(a->format, "json") == 0 ? cmd_topic_put_json(t, err)
                                                                 : put_description(t, err);
    json_decref(t);
    return rc;
}

static int run_create(struct topic_host *h, const struct topic_args *a, struct err *err)
{
    json_t *config = json_object();
    for (size_t i = 0; i < a->n_config; i++) {
        char *is = strchr(a->config[i], '=');
        *is = '\0';
        (void)json_object_set_new(config, a->config[i], json_string(is + 1));
    }
    json_t *body = json_pack("{s:s, s:I, s:o}", "name", a->topic, "partitions",
                             (json_int_t)a->partitions, "config", config);
    struct buf text;
    struct net_response r;
    buf_init(&text, 0);
    int rc = body == NULL ? err_set(err, ERR_CONFIG, "a config is not UTF-8") : 0;
    if (rc == 0) {
        codec_json_write(body, &text);
        rc = cmd_topic_ask(h, "POST", "/topics", &text, 201, &r, err);
    }
    if (rc == 0) {
        net_response_free(&r);
    }
    json_decref(body);
    buf_free(&text);
    return rc;
}

static int run_delete(struct topic_host *h, const struct topic_args *a, struct err *err)
{
    char path[300];
    struct net_response r;
    (void)snprintf(path, sizeof(path), "/topics/%s", a->topic);
    TRY(cmd_topic_ask(h, "DELETE", path, NULL, 204, &r, err));
    net_response_free(&r);
    return 0;
}

/* ---- the verb ---- */

static int run_verb(struct topic_host *h, const struct topic_args *a, struct err *err)
{
    switch (a->verb[0]) {
    case 'r':
        return cmd_topic_read(h, a, err);
    case 'w':
        return cmd_topic_write(h, a, err);
    case 'c':
        return run_create(h, a, err);
    case 'l':
        return run_list(h, a, err);
    default:
        return strcmp(a->verb, "delete") == 0 ? run_delete(h, a, err) : run_describe(h, a, err);
    }
}

static int run(const struct topic_args *a)
{
    struct topic_host h = {.lock = LOCK_NONE};
    struct err err = ERR_INIT;
    int rc = cmd_topic_find_host(&h, a, &err);
    if (rc == 0) {
        rc = run_verb(&h, a, &err);
    }
    cmd_topic_leave_host(&h);
    if (rc != 0 && err.msg[0] != '\0') {
        (void)fprintf(stderr, "connectd topic %s: %s\n", a->verb, err.msg);
    }
    return rc == 0 ? 0 : 1;
}

int cmd_topic(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "--help") == 0) {
        print_usage(stdout);
        return 0;
    }
    const struct verb *verb = argc < 2 ? NULL : find_verb(argv[1]);
    if (verb == NULL) {
        print_usage(stderr);
        return 2;
    }
    const char *data = getenv("CONNECTD_DATA_DIR"); /* as for `connectd run` */
    struct topic_args a = {.verb = verb->name,
                           .data = data != NULL && data[0] != '\0' ? data : "./data",
                           .partition = -1,
                           .offset = -1,
                           .max_messages = -1,
                           .timeout_ms = -1,
                           .partitions = -1};
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            print_help(verb);
            return 0;
        }
    }
    int rc = 0;
    for (int i = 2; i < argc && rc == 0; i++) {
        rc = parse_arg(&a, argc, argv, &i);
    }
    if (rc == 0) {
        rc = check_args(&a);
    }
    return rc != 0 ? rc : run(&a);
}
