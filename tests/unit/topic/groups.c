/* Groups: for every engine. owners checks at each event that a partition has one owner and a growing epoch. */
#include <string.h>

#include "suite.h"

static const char *const topics[] = {"t"};

struct spread { /* all partitions owned, loads differ by at most one */
    struct sink *const *sinks;
    size_t n;
    int partitions;
};

static int is_spread(void *arg)
{
    const struct spread *w = arg;
    int sum = 0;
    int low = PARTITIONS_MAX;
    int high = 0;
    for (size_t i = 0; i < w->n; i++) {
        int n = w->sinks[i]->n_owned;
        if (w->sinks[i]->assigned_events == 0 || w->sinks[i]->revoking) {
            return 0;
        }
        sum += n;
        low = n < low ? n : low;
        high = n > high ? n : high;
    }
    return sum == w->partitions && high - low <= 1;
}

static void settle(struct owners *o, struct sink *const *sinks, size_t n, int partitions)
{
    struct spread w = {sinks, n, partitions};
    pump_until(o, sinks, n, is_spread, &w);
}

static void members_share(struct fixture *f)
{
    struct owners o;
    struct sink a;
    struct sink b;
    struct sink c;
    struct sink *const all[] = {&a, &b, &c};
    struct sink *const but_first[] = {&b, &c};
    owners_init(&o);
    f->kind->make_topic(f, "t", 4);
    sink_join(f, &a, &o, "g", topics, 1);
    settle(&o, all, 1, 4);
    assert_int_equal(a.committed[0], -1);
    sink_join(f, &b, &o, "g", topics, 1);
    settle(&o, all, 2, 4);
    sink_join(f, &c, &o, "g", topics, 1);
    settle(&o, all, 3, 4);
    sink_leave(&a);
    settle(&o, but_first, 2, 4);
    sink_leave(&b);
    sink_leave(&c);
    signal_destroy(&o.signal);
}

static int has_all(void *arg)
{
    const struct sink *s = arg;
    return s->n_owned == 4;
}

static int is_revoking(void *arg)
{
    const struct sink *s = arg;
    return s->revoking;
}

static int has_some(void *arg)
{
    const struct sink *s = arg;
    return s->n_owned > 0;
}

static void revocation_waits_for_the_answer(struct fixture *f)
{
    struct owners o;
    struct sink a;
    struct sink b;
    struct sink *const first[] = {&a};
    struct sink *const all[] = {&a, &b};
    owners_init(&o);
    f->kind->make_topic(f, "t", 4);
    sink_join(f, &a, &o, "g", topics, 1);
    pump_until(&o, first, 1, has_all, &a);
    int64_t first_generation = a.generation;
    a.keep = 1;
    sink_join(f, &b, &o, "g", topics, 1);
    pump_until(&o, all, 2, is_revoking, &a);
    int32_t given = -1;
    for (int32_t p = 0; p < 4; p++) {
        given = a.to_return[p] ? p : given;
    }
    assert_true(given >= 0);
    struct topic_event e;
    assert_int_equal(topic_member_poll(a.member, &e), 0); /* nothing before the answer */
    /* Still the owner: under the generation that it read with, and under the new one. */
    OK(commit_offset(f, "g", first_generation, "t", given, 7, &err));
    OK(commit_offset(f, "g", a.generation, "t", given, 8, &err));
    sink_pump(&b);
    assert_int_equal(b.n_owned, 0);
    sink_answer(&a);
    pump_until(&o, all, 2, has_some, &b);
    settle(&o, all, 2, 4);
    assert_true(b.owned[given]);
    assert_int_equal(b.committed[given], 8);
    /* And no longer: whatever generation it has. */
    assert_int_equal(commit_offset(f, "g", first_generation, "t", given, 9, NULL), ERR_FENCED);
    assert_int_equal(commit_offset(f, "g", a.generation, "t", given, 9, NULL), ERR_FENCED);
    OK(commit_offset(f, "g", b.generation, "t", given, 10, &err));
    sink_leave(&a);
    sink_leave(&b);
    signal_destroy(&o.signal);
}

static void offsets_survive_members(struct fixture *f)
{
    struct owners o;
    struct sink a;
    struct sink *const first[] = {&a};
    int64_t offset = -1;
    owners_init(&o);
    f->kind->make_topic(f, "t", 4);
    assert_int_equal(topic_group_offset(f->engine, "g", "t", 0, &offset, NULL), ERR_NOT_FOUND);
    sink_join(f, &a, &o, "g", topics, 1);
    pump_until(&o, first, 1, has_all, &a);
    struct topic_group_offset v[] = {{"t", 0, 10}, {"t", 3, 13}};
    struct topic_unit u = {
        .group = "g", .generation = a.generation, .group_offsets = v, .n_group_offsets = 2};
    OK(topic_commit(f->engine, &u, &err));
    OK(topic_group_offset(f->engine, "g", "t", 3, &offset, &err));
    assert_int_equal(offset, 13);
    assert_int_equal(topic_group_offset(f->engine, "g", "t", 1, &offset, NULL), ERR_NOT_FOUND);
    assert_int_equal(topic_group_offset(f->engine, "other", "t", 0, &offset, NULL), ERR_NOT_FOUND);
    sink_leave(&a);
    sink_join(f, &a, &o, "g", topics, 1);
    pump_until(&o, first, 1, has_all, &a);
    assert_int_equal(a.committed[0], 10);
    assert_int_equal(a.committed[1], -1);
    assert_int_equal(a.committed[3], 13);
    sink_leave(&a);
    reopen(f);
    OK(topic_group_offset(f->engine, "g", "t", 0, &offset, &err));
    assert_int_equal(offset, 10);
    memset(&o.last_epoch, 0, sizeof(o.last_epoch));
    sink_join(f, &a, &o, "g", topics, 1);
    pump_until(&o, first, 1, has_all, &a);
    assert_int_equal(a.committed[3], 13);
    sink_leave(&a);
    signal_destroy(&o.signal);
}

static void offsets_from_outside(struct fixture *f)
{
    int64_t offset = -1;
    f->kind->make_topic(f, "t", 1);
    OK(commit_offset(f, "idle", -1, "t", 0, 42, &err));
    OK(topic_group_offset(f->engine, "idle", "t", 0, &offset, &err));
    assert_int_equal(offset, 42);
}

static void appends_and_offsets_in_a_unit(struct fixture *f)
{
    struct owners o;
    struct sink a;
    struct sink *const first[] = {&a};
    struct rec r = {NULL, "out", 1, NULL, 0};
    struct buf b = BUF_INIT(4096);
    int64_t offset = -1;
    owners_init(&o);
    f->kind->make_topic(f, "t", 4);
    f->kind->make_topic(f, "out", 1);
    sink_join(f, &a, &o, "g", topics, 1);
    pump_until(&o, first, 1, has_all, &a);
    struct topic_append append = append_of(&b, "out", 0, &r, 1);
    struct topic_group_offset v = {"t", 2, 5};
    struct topic_unit u = {.appends = &append,
                           .n_appends = 1,
                           .group = "g",
                           .generation = a.generation,
                           .group_offsets = &v,
                           .n_group_offsets = 1};
    f->kind->break_next(f);
    assert_true(topic_commit(f->engine, &u, NULL) < 0);
    f->kind->heal(f);
    assert_int_equal(topic_group_offset(f->engine, "g", "t", 2, &offset, NULL), ERR_NOT_FOUND);
    assert_int_equal(end_offset(f, "out", 0), 0);
    OK(topic_commit(f->engine, &u, &err));
    OK(topic_group_offset(f->engine, "g", "t", 2, &offset, &err));
    assert_int_equal(offset, 5);
    assert_int_equal(end_offset(f, "out", 0), 1);
    sink_leave(&a);
    buf_free(&b);
    signal_destroy(&o.signal);
}

struct idle_one {
    struct sink *a, *b;
};

static int one_is_idle(void *arg)
{
    const struct idle_one *w = arg;
    return w->a->n_owned + w->b->n_owned == 1 && w->b->assigned_events > 0;
}

static void beyond_the_partitions_idle(struct fixture *f)
{
    struct owners o;
    struct sink a;
    struct sink b;
    struct sink *const all[] = {&a, &b};
    struct idle_one w = {&a, &b};
    static const char *const narrow[] = {"narrow"};
    owners_init(&o);
    f->kind->make_topic(f, "narrow", 1);
    sink_join(f, &a, &o, "g", narrow, 1);
    pump_until(&o, all, 1, has_some, &a);
    sink_join(f, &b, &o, "g", narrow, 1);
    pump_until(&o, all, 2, one_is_idle, &w);
    sink_leave(&a);
    pump_until(&o, &all[1], 1, has_some, &b);
    sink_leave(&b);
    signal_destroy(&o.signal);
}

const struct suite_case group_cases[] = {
    {"one_two_and_three_members_share_four_partitions", members_share, ON_ALL, 1},
    {"a_revocation_waits_for_its_answer", revocation_waits_for_the_answer, ON_ALL, 1},
    {"offsets_survive_members_and_engines", offsets_survive_members, ON_ALL, 1},
    {"offsets_are_set_from_outside_a_group", offsets_from_outside, ON_ALL, 0},
    {"appends_and_offsets_in_one_unit", appends_and_offsets_in_a_unit, ON_ALL, 1},
    {"members_beyond_the_partitions_are_idle", beyond_the_partitions_idle, ON_ALL, 1},
};
const size_t n_group_cases = sizeof(group_cases) / sizeof(group_cases[0]);
