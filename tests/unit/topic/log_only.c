/*
 * What only the built-in log can or must do: atomic units, deletion with its offsets, exact hand-over, epochs
 * over restarts. Kafka's engine is not asked: its mock cluster has no admin calls, and its units are
 * not atomic (README of host/kafka).
 */
#include <string.h>

#include "suite.h"

static const char *const topics[] = {"t"};

static int has_all(void *arg)
{
    const struct sink *s = arg;
    return s->n_owned == 4;
}

static int has_one(void *arg)
{
    const struct sink *s = arg;
    return s->n_owned == 1;
}

static int has_none(void *arg)
{
    const struct sink *s = arg;
    return s->n_owned == 0;
}

static void config_entry(void *arg, const char *key, const char *value)
{
    buf_printf(arg, "%s=%s,", key, value);
}

static void internal_topics_are_there(struct fixture *f)
{
    static const char *const names[] = {"__consumer_offsets", "connect-configs", "connect-offsets",
                                        "connect-status", "_schemas"};
    struct topic_info info;
    for (size_t i = 0; i < 5; i++) {
        struct buf b = BUF_INIT(4096);
        assert_true(topic_is_internal(names[i]));
        OK(topic_resolve(f->engine, names[i], &info, &err));
        assert_int_equal(info.partitions, 1);
        OK(topic_get_config(f->engine, names[i], config_entry, &b, &err));
        assert_non_null(strstr(buf_cstr(&b), "cleanup.policy=compact"));
        assert_int_equal(topic_delete(f->engine, names[i], NULL), ERR_INVAL);
        assert_int_equal(topic_grow(f->engine, names[i], 2, NULL), ERR_INVAL);
        buf_free(&b);
    }
    assert_false(topic_is_internal("connect-offsets2"));
}

/* The bytes that Kafka's own offsets formatter reads. */
static void offsets_are_kafkas_records(struct fixture *f)
{
    static const uint8_t key[] = {0, 1, 0, 1, 'g', 0, 1, 't', 0, 0, 0, 2};
    static const uint8_t head[] = {0, 3, 0, 0, 0, 0, 0, 0, 1, 2, 0xff, 0xff, 0xff, 0xff, 0, 0};
    struct buf bytes = BUF_INIT(1 << 20);
    struct got got[3];
    f->kind->make_topic(f, "t", 4);
    OK(commit_offset(f, "g", -1, "t", 2, 258, &err));
    OK(commit_offset(f, "g", -1, "t", 2, -1, &err));
    read_records(f, "__consumer_offsets", 0, 0, &bytes, got, 3); /* the first: the incarnation */
    assert_int_equal(got[1].key.len, sizeof(key));
    assert_memory_equal(got[1].key.ptr, key, sizeof(key));
    assert_int_equal(got[1].value.len, sizeof(head) + 8);
    assert_memory_equal(got[1].value.ptr, head, sizeof(head));
    assert_memory_equal(got[2].key.ptr, key, sizeof(key));
    assert_null(got[2].value.ptr);
    int64_t offset = 0;
    assert_int_equal(topic_group_offset(f->engine, "g", "t", 2, &offset, NULL), ERR_NOT_FOUND);
    reopen(f);
    assert_int_equal(topic_group_offset(f->engine, "g", "t", 2, &offset, NULL), ERR_NOT_FOUND);
    buf_free(&bytes);
}

static void epochs_grow_over_restarts(struct fixture *f)
{
    struct owners o; /* checks that they grow */
    struct sink a;
    struct sink *const first[] = {&a};
    owners_init(&o);
    f->kind->make_topic(f, "t", 4);
    int64_t last = 0;
    for (int i = 0; i < 3; i++) {
        sink_join(f, &a, &o, "g", topics, 1);
        pump_until(&o, first, 1, has_all, &a);
        assert_true(a.epoch[0] >> 32 > last >> 32);
        last = a.epoch[0];
        sink_leave(&a);
        sink_join(f, &a, &o, "g", topics, 1);
        pump_until(&o, first, 1, has_all, &a);
        assert_true(a.epoch[0] > last);
        assert_int_equal(a.epoch[0] >> 32, last >> 32);
        sink_leave(&a);
        reopen(f);
    }
    signal_destroy(&o.signal);
}

static void a_failed_unit_is_nowhere(struct fixture *f)
{
    struct rec r = {"k", "v", 1, NULL, 0};
    struct buf b[3] = {BUF_INIT(4096), BUF_INIT(4096), BUF_INIT(4096)};
    int64_t offset = 0;
    f->kind->make_topic(f, "t", 2);
    struct topic_append a[2] = {append_of(&b[0], "t", 0, &r, 1), append_of(&b[1], "t", 1, &r, 1)};
    struct topic_append state = append_of(&b[2], "connect-offsets", 0, &r, 1);
    struct topic_group_offset v = {"t", 0, 1};
    struct topic_unit u = {.appends = a,
                           .n_appends = 2,
                           .state = &state,
                           .n_state = 1,
                           .group = "g",
                           .generation = -1,
                           .group_offsets = &v,
                           .n_group_offsets = 1};
    f->kind->break_next(f);
    assert_int_equal(topic_commit(f->engine, &u, NULL), ERR_NOSPC);
    f->kind->heal(f);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(end_offset(f, "t", 0), 0);
        assert_int_equal(end_offset(f, "t", 1), 0);
        assert_int_equal(end_offset(f, "connect-offsets", 0), 0);
        assert_int_equal(topic_group_offset(f->engine, "g", "t", 0, &offset, NULL), ERR_NOT_FOUND);
        reopen(f);
    }
    OK(topic_commit(f->engine, &u, &err)); /* the control: it was the disk */
    reopen(f);
    assert_int_equal(end_offset(f, "t", 1), 1);
    assert_int_equal(end_offset(f, "connect-offsets", 0), 1);
    OK(topic_group_offset(f->engine, "g", "t", 0, &offset, &err));
    for (int i = 0; i < 3; i++) {
        buf_free(&b[i]);
    }
}

static void a_deleted_topic_is_forgotten(struct fixture *f)
{
    struct owners o;
    struct sink a;
    struct sink *const first[] = {&a};
    struct signal s;
    struct topic_reader *r = NULL;
    struct topic_read tr;
    struct topic_info old;
    struct topic_info new;
    struct buf out = BUF_INIT(1 << 20);
    int64_t offset = 0;
    signal_init(&s);
    owners_init(&o);
    f->kind->make_topic(f, "t", 4);
    OK(topic_resolve(f->engine, "t", &old, &err));
    sink_join(f, &a, &o, "g", topics, 1);
    pump_until(&o, first, 1, has_all, &a);
    OK(commit_offset(f, "g", a.generation, "t", 0, 3, &err));
    OK(commit_offset(f, "other", -1, "t", 1, 4, &err));
    OK(topic_reader_open(f->engine, "t", 0, signal_raise, &s, &r, &err));
    int seen = signal_count(&s);
    OK(topic_read(r, 0, 1000, &out, &tr, &err));
    a.keep = 1;
    OK(topic_delete(f->engine, "t", &err));
    signal_wait(&s, seen);
    assert_int_equal(topic_read(r, 0, 1000, &out, &tr, NULL), ERR_NOT_FOUND);
    topic_reader_close(r);
    assert_int_equal(topic_group_offset(f->engine, "g", "t", 0, &offset, NULL), ERR_NOT_FOUND);
    while (!a.revoking) {
        int n = signal_count(&o.signal);
        sink_pump(&a);
        if (!a.revoking) {
            signal_wait(&o.signal, n);
        }
    }
    OK(commit_offset(f, "g", a.generation, "t", 0, 9, &err)); /* its last flush: kept nowhere */
    assert_int_equal(commit_offset(f, "g", -1, "t", 0, 9, NULL), ERR_NOT_FOUND);
    f->kind->make_topic(f, "t", 1); /* made again before the answer */
    OK(topic_resolve(f->engine, "t", &new, &err));
    assert_memory_not_equal(old.id, new.id, sizeof(old.id));
    OK(commit_offset(f, "g", a.generation, "t", 0, 9, &err)); /* of the old one still */
    assert_int_equal(topic_group_offset(f->engine, "g", "t", 0, &offset, NULL), ERR_NOT_FOUND);
    a.keep = 0;
    sink_answer(&a);
    assert_true(has_none(&a));
    pump_until(&o, first, 1, has_one, &a);
    assert_int_equal(a.committed[0], -1);
    sink_leave(&a);
    reopen(f);
    assert_int_equal(topic_group_offset(f->engine, "g", "t", 0, &offset, NULL), ERR_NOT_FOUND);
    assert_int_equal(topic_group_offset(f->engine, "other", "t", 1, &offset, NULL), ERR_NOT_FOUND);
    buf_free(&out);
    signal_destroy(&o.signal);
    signal_destroy(&s);
}

static void topics_come_and_grow(struct fixture *f)
{
    struct owners o;
    struct sink a;
    struct sink *const first[] = {&a};
    owners_init(&o);
    sink_join(f, &a, &o, "g", topics, 1);
    while (a.assigned_events == 0) { /* nothing to own, but known */
        int seen = signal_count(&o.signal);
        sink_pump(&a);
        if (a.assigned_events == 0) {
            signal_wait(&o.signal, seen);
        }
    }
    assert_int_equal(a.n_owned, 0);
    f->kind->make_topic(f, "t", 1);
    pump_until(&o, first, 1, has_one, &a);
    int64_t generation = a.generation;
    OK(topic_grow(f->engine, "t", 4, &err));
    pump_until(&o, first, 1, has_all, &a);
    struct topic_info info;
    OK(topic_resolve(f->engine, "t", &info, &err));
    assert_int_equal(info.epoch, 4);
    /* What it read before still counts, for what it had then. */
    OK(commit_offset(f, "g", generation, "t", 0, 1, &err));
    assert_int_equal(commit_offset(f, "g", generation, "t", 3, 1, NULL), ERR_FENCED);
    assert_int_equal(topic_grow(f->engine, "t", 2, NULL), ERR_INVAL);
    sink_leave(&a);
    signal_destroy(&o.signal);
}

static void fencing(struct fixture *f)
{
    struct owners o;
    struct sink a;
    struct sink b;
    struct sink *const first[] = {&a};
    struct sink *const second[] = {&b};
    owners_init(&o);
    f->kind->make_topic(f, "t", 4);
    assert_int_equal(commit_offset(f, "g", 0, "t", 0, 1, NULL), ERR_FENCED); /* nobody's */
    sink_join(f, &a, &o, "g", topics, 1);
    pump_until(&o, first, 1, has_all, &a);
    OK(commit_offset(f, "g", a.generation, "t", 0, 1, &err));
    assert_int_equal(commit_offset(f, "g", a.generation - (1 << 16), "t", 0, 2, NULL), ERR_FENCED);
    assert_int_equal(commit_offset(f, "g", a.generation + 1, "t", 0, 2, NULL), ERR_FENCED);
    assert_int_equal(commit_offset(f, "h", a.generation, "t", 0, 2, NULL), ERR_FENCED);
    assert_int_equal(commit_offset(f, "g", a.generation, "t", 4, 2, NULL), ERR_FENCED);
    int64_t old = a.generation;
    sink_leave(&a);
    assert_int_equal(commit_offset(f, "g", old, "t", 0, 2, NULL), ERR_FENCED);
    sink_join(f, &b, &o, "g", topics, 1); /* the same slot */
    pump_until(&o, second, 1, has_all, &b);
    assert_int_equal(commit_offset(f, "g", old, "t", 0, 2, NULL), ERR_FENCED);
    assert_int_equal(b.committed[0], 1);
    /* One fenced offset fences the unit. */
    struct topic_group_offset v[] = {{"t", 0, 5}, {"t", 9, 5}};
    struct topic_unit u = {
        .group = "g", .generation = b.generation, .group_offsets = v, .n_group_offsets = 2};
    assert_int_equal(topic_commit(f->engine, &u, NULL), ERR_FENCED);
    int64_t offset = 0;
    OK(topic_group_offset(f->engine, "g", "t", 0, &offset, &err));
    assert_int_equal(offset, 1);
    sink_leave(&b);
    signal_destroy(&o.signal);
}

struct late {
    struct signal done;
    int code;
};

static void late_done(struct topic_unit *u, const struct err *err)
{
    struct late *l = u->arg;
    l->code = err->code;
    signal_raise(&l->done);
}

/* A member goes while its unit is on its way to the disk: its successor starts behind that unit. */
static void successors_wait_for_units_in_flight(struct fixture *f)
{
    struct owners o;
    struct owners other;
    struct sink a;
    struct sink b;
    struct sink c;
    struct sink *const first[] = {&a};
    struct sink *const second[] = {&b};
    struct sink *const third[] = {&c};
    static const char *const side[] = {"side"};
    struct late late = {.code = 1};
    owners_init(&o);
    owners_init(&other);
    signal_init(&late.done);
    f->kind->make_topic(f, "t", 4);
    f->kind->make_topic(f, "side", 1);
    sink_join(f, &a, &o, "g", topics, 1);
    pump_until(&o, first, 1, has_all, &a);
    mutex_lock(&f->disk.lock);
    f->disk.hold = 1;
    mutex_unlock(&f->disk.lock);
    struct topic_group_offset v = {"t", 1, 77};
    struct topic_unit u = {.group = "g",
                           .generation = a.generation,
                           .group_offsets = &v,
                           .n_group_offsets = 1,
                           .done = late_done,
                           .arg = &late};
    OK(topic_submit(f->engine, &u, &err));
    sink_leave(&a);
    sink_join(f, &b, &o, "g", topics, 1);
    while (b.n_owned < 3) { /* the others move at once */
        int seen = signal_count(&o.signal);
        sink_pump(&b);
        if (b.n_owned < 3) {
            signal_wait(&o.signal, seen);
        }
    }
    /* The coordinator has been through every group by the time that this one has its partition. */
    sink_join(f, &c, &other, "h", side, 1);
    pump_until(&other, third, 1, has_one, &c);
    sink_pump(&b);
    assert_int_equal(b.n_owned, 3);
    assert_false(b.owned[1]);
    mutex_lock(&f->disk.lock);
    f->disk.hold = 0;
    cond_broadcast(&f->disk.cond);
    mutex_unlock(&f->disk.lock);
    signal_wait(&late.done, 0);
    assert_int_equal(late.code, 0);
    pump_until(&o, second, 1, has_all, &b);
    assert_int_equal(b.committed[1], 77);
    sink_leave(&b);
    sink_leave(&c);
    signal_destroy(&late.done);
    signal_destroy(&o.signal);
    signal_destroy(&other.signal);
}

/* A member that has not answered yet is told nothing else, though something waits for it. */
static void no_event_before_the_answer(struct fixture *f)
{
    struct owners o; /* two, so that each has its own signal */
    struct owners of_b;
    struct sink a;
    struct sink b;
    struct sink *const first[] = {&a};
    struct sink *const second[] = {&b};
    struct topic_event e;
    owners_init(&o);
    owners_init(&of_b);
    f->kind->make_topic(f, "t", 4);
    sink_join(f, &a, &o, "g", topics, 1);
    pump_until(&o, first, 1, has_all, &a);
    a.keep = 1;
    sink_join(f, &b, &of_b, "g", topics, 1);
    while (!a.revoking) {
        int seen = signal_count(&o.signal);
        sink_pump(&a);
        if (!a.revoking) {
            signal_wait(&o.signal, seen);
        }
    }
    OK(topic_grow(f->engine, "t", 8, &err));
    while (b.n_owned == 0) { /* given out in the same pass as what waits for a */
        int seen = signal_count(&of_b.signal);
        sink_pump(&b);
        if (b.n_owned == 0) {
            signal_wait(&of_b.signal, seen);
        }
    }
    assert_int_equal(topic_member_poll(a.member, &e), 0);
    int before = signal_count(&o.signal);
    sink_answer(&a);
    signal_wait(&o.signal, before); /* what waited is announced again */
    pump_until(&o, first, 1, has_all, &a);
    pump_until(&of_b, second, 1, has_all, &b);
    sink_leave(&a);
    sink_leave(&b);
    signal_destroy(&o.signal);
    signal_destroy(&of_b.signal);
}

/* Two topics, members that may have only one of them. */
struct mixed {
    struct sink *a, *b;
};

static int is_mixed(void *arg)
{
    const struct mixed *w = arg;
    return w->a->n_owned + w->b->n_owned == 5 && w->b->n_owned >= 2;
}

static void subscriptions_differ(struct fixture *f)
{
    static const char *const wide[] = {"w"};
    static const char *const both[] = {"w", "t"};
    struct owners o;
    struct sink a;
    struct sink b;
    struct sink *const all[] = {&a, &b};
    struct mixed w = {&a, &b};
    owners_init(&o);
    f->kind->make_topic(f, "w", 5); /* t is never made */
    sink_join(f, &a, &o, "g", wide, 1);
    sink_join(f, &b, &o, "g", both, 2);
    pump_until(&o, all, 2, is_mixed, &w);
    sink_leave(&b);
    sink_leave(&a);
    signal_destroy(&o.signal);
}

const struct suite_case log_cases[] = {
    {"internal_topics_are_made", internal_topics_are_there, ON_LOG, 0},
    {"group_offsets_are_Kafkas_own_records", offsets_are_kafkas_records, ON_LOG, 0},
    {"epochs_grow_over_restarts", epochs_grow_over_restarts, ON_LOG, 0},
    {"a_failed_unit_is_nowhere", a_failed_unit_is_nowhere, ON_LOG, 0},
    {"a_deleted_topic_is_forgotten", a_deleted_topic_is_forgotten, ON_LOG, 0},
    {"topics_come_and_grow", topics_come_and_grow, ON_LOG, 0},
    {"generations_fence_by_ownership", fencing, ON_LOG, 0},
    {"successors_wait_for_units_in_flight", successors_wait_for_units_in_flight, ON_LOG, 0},
    {"no_event_before_the_answer", no_event_before_the_answer, ON_LOG, 0},
    {"subscriptions_differ", subscriptions_differ, ON_LOG, 0},
};
const size_t n_log_cases = sizeof(log_cases) / sizeof(log_cases[0]);
