/* SqliteSink: tables, columns, modes, errors. */
#include "sqlite_fixture.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct harness H;
char db_path[160];
static const char *pairs[32];

int sqlite_setup(void **state)
{
    (void)state;
    harness_open(&H);
    (void)snprintf(db_path, sizeof(db_path), "%s", harness_path(&H, "out.db"));
    memset(pairs, 0, sizeof(pairs));
    option("connection.url", db_path);
    harness_use(&H, "SqliteSink", pairs);
    return 0;
}

int sqlite_teardown(void **state)
{
    (void)state;
    harness_close(&H);
    return 0;
}

void option(const char *key, const char *value)
{
    size_t i = 0;
    while (pairs[i] != NULL && strcmp(pairs[i], key) != 0) {
        i += 2;
    }
    pairs[i] = key;
    pairs[i + 1] = value;
}

const ctd_sink *sink(void)
{
    return (const ctd_sink *)(const void *)H.class->ops;
}

ctd_status make_and_start(void)
{
    ctd_status rc = harness_create(&H);
    return rc == CTD_OK ? sink()->start(H.self, &H.err) : rc;
}

int64_t open_part(int32_t partition, int64_t epoch, int64_t offset)
{
    ctd_assignment a = {.topic = ctd_slice_str("t"),
                        .topic_id = {1, 2, 3},
                        .partition = partition,
                        .epoch = epoch,
                        .offset = offset};
    ctd_status rc = sink()->open(H.self, &a, 1, &H.err);
    return rc == CTD_OK ? a.offset : rc;
}

void begin(void)
{
    assert_int_equal(make_and_start(), CTD_OK);
    assert_int_equal(open_part(0, 1, 0), 0);
}

void crash(void)
{
    harness_destroy(&H);
}

ctd_record record(int64_t offset, ctd_value key, ctd_value value)
{
    return (ctd_record){.topic = ctd_slice_str("t"),
                        .offset = offset,
                        .key = key,
                        .value = value,
                        .original_topic = ctd_slice_str("t")};
}

static void nothing(ctd_batch *b)
{
    b->release = NULL;
}

ctd_status put(const ctd_record *records, uint64_t n)
{
    ctd_batch b = {.n = n, .records = records, .release = nothing};
    H.err = (ctd_error){.record_index = -1};
    return sink()->put(H.self, &b, &H.err);
}

ctd_status put_value(int64_t offset, ctd_value value)
{
    ctd_record r = record(offset, ctd_v_null(), value);
    return put(&r, 1);
}

const char *query(const char *sql)
{
    static char text[8192];
    size_t at = 0;
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    text[0] = '\0';
    assert_int_equal(sqlite3_open(db_path, &db), SQLITE_OK);
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK) {
        (void)snprintf(text, sizeof(text), "error: %s", sqlite3_errmsg(db));
    }
    while (s != NULL && sqlite3_step(s) == SQLITE_ROW) {
        for (int i = 0; i < sqlite3_column_count(s); i++) {
            const char *v = (const char *)sqlite3_column_text(s, i);
            at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", i > 0 ? "|" : "",
                                   v != NULL ? v : "(null)");
        }
        at += (size_t)snprintf(text + at, sizeof(text) - at, "\n");
    }
    (void)sqlite3_finalize(s);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return text;
}

static void test_types(void **state)
{
    (void)state;
    option("auto.create", "true");
    begin();
    const ctd_value items[] = {I(1), S("x")};
    ctd_value v = MAP(S("i"), I(-7), S("r"), ctd_v_f64(1.5), S("s"), S("text"), S("b"),
                      ctd_v_bool(1), S("o"), MAP(S("k"), I(1)), S("a"), ctd_v_array(items, 2),
                      S("y"), ctd_v_bytes("\x01\x02", 2), S("n"), NONE);
    assert_int_equal(put_value(0, v), CTD_OK);
    assert_string_equal(query("SELECT name, type FROM pragma_table_info('t')"),
                        "i|INTEGER\nr|REAL\ns|TEXT\nb|INTEGER\no|TEXT\na|TEXT\ny|BLOB\nn|\n");
    assert_string_equal(query("SELECT i, r, s, b, o, a, hex(y), n FROM t"),
                        "-7|1.5|text|1|{\"k\":1}|[1,\"x\"]|0102|(null)\n");
    assert_string_equal(
        query("SELECT typeof(i), typeof(r), typeof(s), typeof(b), typeof(y) FROM t"),
        "integer|real|text|integer|blob\n");
}

static void test_column_by_first_non_null(void **state)
{
    (void)state;
    option("auto.create", "true");
    begin();
    const ctd_record r[] = {record(0, NONE, MAP(S("id"), I(1), S("felt"), NONE)),
                            record(1, NONE, MAP(S("id"), I(2), S("felt"), ctd_v_f64(2.5)))};
    assert_int_equal(put(r, 2), CTD_OK);
    assert_string_equal(query("SELECT name, type FROM pragma_table_info('t')"),
                        "id|INTEGER\nfelt|REAL\n");
    assert_string_equal(query("SELECT * FROM t"), "1|(null)\n2|2.5\n");
}

static void test_column_deferred_until_non_null(void **state)
{
    (void)state;
    option("auto.create", "true");
    option("auto.evolve", "true");
    begin();
    assert_int_equal(put_value(0, MAP(S("id"), I(1), S("felt"), NONE)), CTD_OK);
    assert_string_equal(query("SELECT name FROM pragma_table_info('t')"), "id\n");
    assert_int_equal(put_value(1, MAP(S("id"), I(2), S("felt"), NONE)), CTD_OK);
    assert_int_equal(put_value(2, MAP(S("id"), I(3), S("felt"), S("x"))), CTD_OK);
    assert_int_equal(put_value(3, MAP(S("id"), I(4), S("felt"), NONE)), CTD_OK);
    assert_string_equal(query("SELECT name, type FROM pragma_table_info('t')"),
                        "id|INTEGER\nfelt|TEXT\n");
    assert_string_equal(query("SELECT * FROM t"), "1|(null)\n2|(null)\n3|x\n4|(null)\n");
}

static void test_missing_table(void **state)
{
    (void)state;
    begin();
    assert_int_equal(put_value(0, MAP(S("id"), I(1))), CTD_E_CONFIG);
    assert_non_null(strstr(H.err.message, "auto.create"));
    /* Somebody makes it: the same record goes in. */
    assert_string_equal(query("CREATE TABLE t(id)"), "");
    assert_int_equal(put_value(0, MAP(S("id"), I(1))), CTD_OK);
    assert_string_equal(query("SELECT * FROM t"), "1\n");
}

static void test_evolve(void **state)
{
    (void)state;
    option("auto.create", "true");
    begin();
    assert_int_equal(put_value(0, MAP(S("id"), I(1))), CTD_OK);
    const ctd_record r[] = {record(1, NONE, MAP(S("id"), I(2))),
                            record(2, NONE, MAP(S("id"), I(3), S("x\"y"), I(4)))};
    assert_int_equal(put(r, 2), CTD_E_DATA);
    assert_int_equal(H.err.record_index, 1);
    assert_non_null(strstr(H.err.message, "auto.evolve"));
    assert_string_equal(query("SELECT * FROM t"), "1\n"); /* the whole transaction is undone */
    option("auto.evolve", "true");
    assert_int_equal(make_and_start(), CTD_OK);
    assert_int_equal(open_part(0, 2, 0), 1);
    assert_int_equal(put(r, 2), CTD_OK);
    assert_string_equal(query("SELECT id, \"x\"\"y\" FROM t"), "1|(null)\n2|(null)\n3|4\n");
}

static void test_undone_evolution_is_forgotten(void **state)
{
    (void)state;
    option("auto.create", "true");
    option("auto.evolve", "true");
    begin();
    assert_int_equal(put_value(0, MAP(S("id"), I(1))), CTD_OK);
    const ctd_record r[] = {record(1, NONE, MAP(S("id"), I(2), S("new"), I(5))),
                            record(2, NONE, S("not an object"))};
    assert_int_equal(put(r, 2), CTD_E_DATA);
    assert_string_equal(query("SELECT name FROM pragma_table_info('t')"), "id\n");
    assert_int_equal(put(r, 1), CTD_OK);
    assert_string_equal(query("SELECT * FROM t"), "1|(null)\n2|5\n");
}

/* A table that a roll back takes away again was never made: the log must not say so. */
static void test_made_is_told_after_the_commit(void **state)
{
    (void)state;
    option("auto.create", "true");
    begin();
    const ctd_record r[] = {record(0, NONE, MAP(S("id"), I(1))),
                            record(1, NONE, S("not an object"))};
    assert_int_equal(put(r, 2), CTD_E_DATA);
    assert_string_equal(query("SELECT count(*) FROM sqlite_schema WHERE name='t'"), "0\n");
    assert_int_equal(harness_logged(&H, "made table"), 0);
    assert_int_equal(put(r, 1), CTD_OK);
    assert_int_equal(harness_logged(&H, "made table t"), 1);
    assert_int_equal(put_value(1, MAP(S("id"), I(2))), CTD_OK);
    assert_int_equal(harness_logged(&H, "made table"), 1);
}

static void test_schema_changed_by_others(void **state)
{
    (void)state;
    option("auto.create", "true");
    option("auto.evolve", "true");
    begin();
    assert_int_equal(put_value(0, MAP(S("id"), I(1))), CTD_OK);
    assert_string_equal(query("ALTER TABLE t ADD COLUMN x"), "");
    assert_int_equal(put_value(1, MAP(S("id"), I(2), S("x"), I(3))), CTD_OK);
    assert_string_equal(query("DROP TABLE t"), "");
    assert_int_equal(put_value(2, MAP(S("id"), I(4))), CTD_OK);
    assert_string_equal(query("SELECT * FROM t"), "4\n");
}

static void upsert_options(void)
{
    option("auto.create", "true");
    option("insert.mode", "upsert");
    option("pk.mode", "record_value");
    option("pk.fields", "id");
}

static void test_upsert(void **state)
{
    (void)state;
    upsert_options();
    begin();
    const ctd_record r[] = {record(0, NONE, MAP(S("id"), S("a"), S("n"), I(1), S("m"), I(9))),
                            record(1, NONE, MAP(S("id"), S("b"), S("n"), I(2), S("m"), I(9))),
                            record(2, NONE, MAP(S("id"), S("a"), S("n"), I(3)))};
    assert_int_equal(put(r, 3), CTD_OK);
    /* Only the fields that came change; REPLACE would have made m null. */
    assert_string_equal(query("SELECT id, n, m FROM t ORDER BY id"), "a|3|9\nb|2|9\n");
    assert_string_equal(query("SELECT name, pk FROM pragma_table_info('t')"), "id|1\nn|0\nm|0\n");
    assert_int_equal(put_value(3, MAP(S("n"), I(1))), CTD_E_DATA);
    assert_non_null(strstr(H.err.message, "no field \"id\""));
    assert_int_equal(put_value(3, MAP(S("id"), NONE, S("n"), I(1))), CTD_E_DATA);
    assert_int_equal(put_value(3, MAP(S("id"), S("b"))), CTD_OK); /* nothing but the key */
    assert_string_equal(query("SELECT count(*) FROM t"), "2\n");
}

static void test_upsert_needs_index(void **state)
{
    (void)state;
    upsert_options();
    assert_string_equal(query("CREATE TABLE t(id, n)"), "");
    begin();
    assert_int_equal(put_value(0, MAP(S("id"), I(1), S("n"), I(1))), CTD_E_CONFIG);
    assert_non_null(strstr(H.err.message, "unique index"));
}

static void test_update(void **state)
{
    (void)state;
    upsert_options();
    option("insert.mode", "update");
    assert_string_equal(query("CREATE TABLE t(id PRIMARY KEY, n)"), "");
    assert_string_equal(query("INSERT INTO t VALUES(1, 1)"), "");
    begin();
    const ctd_record r[] = {record(0, NONE, MAP(S("id"), I(1), S("n"), I(5))),
                            record(1, NONE, MAP(S("id"), I(2), S("n"), I(6)))};
    assert_int_equal(put(r, 2), CTD_OK);
    assert_string_equal(query("SELECT * FROM t"), "1|5\n");
}

static void test_record_key_and_delete(void **state)
{
    (void)state;
    option("auto.create", "true");
    option("insert.mode", "upsert");
    option("pk.mode", "record_key");
    option("pk.fields", "k");
    option("delete.enabled", "true");
    begin();
    const ctd_record r[] = {
        record(0, S("x"), NONE), /* no table yet: nothing to delete */
        record(1, S("a"), MAP(S("n"), I(1), S("k"), S("the key wins"))),
        record(2, S("b"), MAP(S("n"), I(2))),
        record(3, S("a"), NONE),
        record(4, S("a"), MAP(S("n"), I(3))),
        record(5, S("b"), NONE),
    };
    assert_int_equal(put(r, 6), CTD_OK);
    assert_string_equal(query("SELECT k, n FROM t"), "a|3\n");
    const ctd_record null_key = record(6, NONE, MAP(S("n"), I(1)));
    assert_int_equal(put(&null_key, 1), CTD_E_DATA);
}

static void test_map_key(void **state)
{
    (void)state;
    option("auto.create", "true");
    option("pk.mode", "record_key");
    begin();
    const ctd_record r = record(0, MAP(S("a"), I(1), S("b"), S("x")), MAP(S("n"), I(1)));
    assert_int_equal(put(&r, 1), CTD_OK);
    assert_string_equal(query("SELECT name, pk FROM pragma_table_info('t')"), "a|1\nb|2\nn|0\n");
    const ctd_record primitive = record(1, S("k"), MAP(S("n"), I(1)));
    assert_int_equal(put(&primitive, 1), CTD_E_CONFIG);
    assert_non_null(strstr(H.err.message, "pk.fields"));
    const ctd_record again = record(2, MAP(S("a"), I(1), S("b"), S("x")), MAP(S("n"), I(2)));
    assert_int_equal(put(&again, 1), CTD_E_DATA); /* insert: the key is there already */
    assert_int_equal(H.err.record_index, 0);
}

static void test_kafka_key(void **state)
{
    (void)state;
    option("auto.create", "true");
    option("pk.mode", "kafka");
    option("table.name.format", "from_${topic}_x");
    begin();
    assert_int_equal(put_value(7, MAP(S("n"), I(1))), CTD_OK);
    assert_string_equal(query("SELECT __connect_topic, __connect_partition, __connect_offset, n "
                              "FROM from_t_x"),
                        "t|0|7|1\n");
}

static void test_big_numbers(void **state)
{
    (void)state;
    option("auto.create", "true");
    assert_string_equal(query("CREATE TABLE t(i INTEGER, s TEXT)"), "");
    begin();
    ctd_value big = ctd_v_raw_json("123456789012345678901234567890", 30);
    assert_int_equal(put_value(0, MAP(S("s"), big)), CTD_OK);
    assert_string_equal(query("SELECT s FROM t"), "123456789012345678901234567890\n");
    assert_int_equal(put_value(1, MAP(S("i"), big)), CTD_E_DATA);
    assert_non_null(strstr(H.err.message, "beyond 64 bits"));
}

/* The sink does not know its converter: it says what came and what it takes, and sets no key. */
static void test_values_that_are_no_object(void **state)
{
    (void)state;
    static const ctd_value items[] = {{.type = CTD_I64, .u.i = 1}};
    const struct {
        ctd_value value;
        const char *called;
    } cases[] = {
        {S("text"), "a string"},
        {I(1), "a number"},
        {ctd_v_f64(1.5), "a number"},
        {ctd_v_raw_json("123456789012345678901234567890", 30), "a number"},
        {ctd_v_bool(1), "a boolean"},
        {ctd_v_bytes("x", 1), "bytes"},
        {ctd_v_array(items, 1), "an array"},
    };
    option("auto.create", "true");
    begin();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char said[64];
        (void)snprintf(said, sizeof(said), "the value is %s; ", cases[i].called);
        assert_int_equal(put_value(0, cases[i].value), CTD_E_DATA);
        assert_non_null(strstr(H.err.message, said));
        assert_non_null(strstr(H.err.message, "JSON object"));
        assert_null(strstr(H.err.message, "JsonConverter"));
    }
}

static void test_bad_values(void **state)
{
    (void)state;
    option("auto.create", "true");
    begin();
    assert_int_equal(put_value(0, NONE), CTD_E_DATA);
    assert_int_equal(put_value(0, MAP(S("a"), I(1), S("A"), I(2))), CTD_E_DATA);
    assert_non_null(strstr(H.err.message, "share a column"));
    assert_int_equal(put_value(0, MAP(I(1), I(2))), CTD_E_DATA);
    assert_int_equal(put_value(0, MAP(S("a"), ctd_v_f64(0.0 / 0.0))), CTD_E_DATA);
    assert_int_equal(put_value(0, MAP(S("a"), NONE)), CTD_OK); /* a column of no type */
    assert_int_equal(put_value(1, MAP(S("a"), I(1), S("a"), I(2))), CTD_OK); /* the later counts */
    assert_string_equal(query("SELECT a FROM t"), "(null)\n2\n");
    assert_string_equal(query("CREATE TABLE u(a INTEGER PRIMARY KEY CHECK(a < 5))"), "");
    ctd_record r = record(2, NONE, MAP(S("a"), I(9)));
    r.topic = ctd_slice_str("u");
    assert_int_equal(put(&r, 1), CTD_E_DATA);
    assert_non_null(strstr(H.err.message, "CHECK"));
    r.value = MAP(S("a"), S("x"));
    assert_int_equal(put(&r, 1), CTD_E_DATA);
    r.topic = ctd_slice_str("_connectd_offsets");
    assert_int_equal(put(&r, 1), CTD_E_CONFIG);
}

/* More shapes than are kept: each record still finds its statement. */
static void test_many_shapes(void **state)
{
    (void)state;
    option("auto.create", "true");
    option("auto.evolve", "true");
    begin();
    char names[400][16];
    for (int i = 0; i < 400; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "c%d", i);
    }
    int64_t offset = 0;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 400; i++) {
            ctd_value v = MAP(S("id"), I(i), S(names[i]), I(round));
            assert_int_equal(put_value(offset++, v), CTD_OK);
        }
    }
    assert_string_equal(query("SELECT count(*), sum(c0), sum(c399) FROM t"), "800|1|1\n");
}

static void test_bad_files(void **state)
{
    (void)state;
    option("connection.url", H.folder);
    assert_int_equal(make_and_start(), CTD_E_IO);
    assert_non_null(strstr(H.err.message, H.folder));
    option("connection.url", harness_path(&H, "none/x.db"));
    assert_int_equal(make_and_start(), CTD_E_IO);
    const char *text = harness_path(&H, "text.db");
    write_file(text, "this is no database, but a text that is longer than a header would be\n");
    option("connection.url", text);
    assert_int_equal(make_and_start(), CTD_E_FATAL);
    assert_non_null(strstr(H.err.message, "not a SQLite database"));
}

static void test_urls(void **state)
{
    (void)state;
    char url[200];
    for (int i = 0; i < 2; i++) {
        (void)snprintf(url, sizeof(url), "%s%s", i == 0 ? "sqlite:" : "jdbc:sqlite:", db_path);
        option("connection.url", url);
        assert_int_equal(make_and_start(), CTD_OK);
        struct stat st;
        assert_int_equal(stat(db_path, &st), 0);
        crash();
        assert_int_equal(unlink(db_path), 0);
    }
    option("connection.url", "jdbc:postgresql://x/y");
    assert_int_equal(harness_create(&H), CTD_E_CONFIG);
    assert_non_null(strstr(H.err.message, "connection.url: only SQLite"));
}

static void check_findings(const char *want)
{
    char *have = harness_validate(&H);
    for (char *colon = have; (colon = strstr(colon, ": ")) != NULL;) {
        char *end = strchr(colon, '\n');
        memmove(colon, end, strlen(end) + 1);
        colon++;
    }
    assert_string_equal(have, want);
    free(have);
}

static void test_validate(void **state)
{
    (void)state;
    check_findings("");
    option("insert.mode", "upsert");
    check_findings("pk.mode\n");
    option("pk.mode", "record_value");
    check_findings("pk.fields\n");
    option("pk.fields", "a,b,A");
    check_findings("pk.fields\n");
    option("pk.fields", "a,b");
    check_findings("");
    option("delete.enabled", "true");
    check_findings("delete.enabled\n");
    option("pk.mode", "kafka");
    check_findings("pk.fields\ndelete.enabled\n");
    option("connection.url", "sqlite:");
    check_findings("connection.url\npk.fields\ndelete.enabled\n");
    option("connection.url", db_path);
    option("insert.mode",
           "replace"); /* the host checks this by the table; create() does not rely on it */
    assert_int_equal(harness_create(&H), CTD_E_CONFIG);
    assert_non_null(strstr(H.err.message, "must be one of insert, upsert, update"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, sqlite_setup, sqlite_teardown)
int sqlite_tests(void)
{
    const struct CMUnitTest tests[] = {
        T(test_types),
        T(test_column_by_first_non_null),
        T(test_column_deferred_until_non_null),
        T(test_missing_table),
        T(test_evolve),
        T(test_undone_evolution_is_forgotten),
        T(test_made_is_told_after_the_commit),
        T(test_schema_changed_by_others),
        T(test_upsert),
        T(test_upsert_needs_index),
        T(test_update),
        T(test_record_key_and_delete),
        T(test_map_key),
        T(test_kafka_key),
        T(test_big_numbers),
        T(test_values_that_are_no_object),
        T(test_bad_values),
        T(test_many_shapes),
        T(test_bad_files),
        T(test_urls),
        T(test_validate),
    };
    return cmocka_run_group_tests_name("SqliteSink", tests, NULL, NULL);
}
