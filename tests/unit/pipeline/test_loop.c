/* The core loop: timers in order, posts from other threads, descriptors that vanish while events are handled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/thread.h"
#include "pipeline/loop.h"
#include "pipeline/pipeline_tests.h"

static struct loop loop;
static char order[16];

static void note(char c)
{
    size_t n = strlen(order);
    order[n] = c;
    order[n + 1] = '\0';
}

static int setup(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    memset(order, 0, sizeof(order));
    return pipeline_loop_init(&loop, &err);
}

static int teardown(void **state)
{
    (void)state;
    pipeline_loop_destroy(&loop);
    return 0;
}

static void fire_a(struct loop_timer *t)
{
    (void)t;
    note('a');
}

static void fire_b(struct loop_timer *t)
{
    (void)t;
    note('b');
}

static void fire_stop(struct loop_timer *t)
{
    (void)t;
    pipeline_loop_stop(&loop);
}

static void timers_fire_in_order_and_only_when_set(void **state)
{
    (void)state;
    struct loop_timer a = {.fire = fire_a};
    struct loop_timer b = {.fire = fire_b};
    struct loop_timer cleared = {.fire = fire_a};
    struct loop_timer end = {.fire = fire_stop};
    pipeline_loop_timer_set(&loop, &end, 20);
    pipeline_loop_timer_set(&loop, &b, 10);
    pipeline_loop_timer_set(&loop, &a, 1);
    pipeline_loop_timer_set(&loop, &cleared, 2);
    pipeline_loop_timer_clear(&loop, &cleared);
    pipeline_loop_run(&loop);
    assert_string_equal(order, "ab");
    assert_int_equal(a.due_ms, 0);
}

static void a_timer_set_again_fires_once_at_the_later_time(void **state)
{
    (void)state;
    struct loop_timer a = {.fire = fire_a};
    struct loop_timer b = {.fire = fire_b};
    struct loop_timer end = {.fire = fire_stop};
    pipeline_loop_timer_set(&loop, &a, 1);
    pipeline_loop_timer_set(&loop, &a, 12);
    pipeline_loop_timer_set(&loop, &b, 5);
    pipeline_loop_timer_set(&loop, &end, 25);
    pipeline_loop_run(&loop);
    assert_string_equal(order, "ba");
}

struct counted {
    struct loop_post post;
    int runs;
};

static _Atomic int enough; /* the loop stops: the other thread may too */

static void count_post(struct loop_post *p)
{
    struct counted *c = (struct counted *)(void *)p;
    if (++c->runs == 1000) {
        atomic_store(&enough, 1);
        pipeline_loop_stop(&loop);
    } else if (c->runs % 2 == 0) {
        pipeline_loop_post(&loop, p); /* from within */
    }
}

static struct counted counted;

static void *poster(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100000 && !atomic_load(&enough); i++) {
        pipeline_loop_post(&loop, &counted.post);
    }
    return NULL;
}

static void posts_of_another_thread_run_here(void **state)
{
    (void)state;
    pthread_t t;
    struct err err = ERR_INIT;
    memset(&counted, 0, sizeof(counted));
    atomic_store(&enough, 0);
    counted.post.run = count_post;
    struct loop_timer end = {.fire = fire_stop};
    pipeline_loop_timer_set(&loop, &end, 5000);
    assert_int_equal(thread_start(&t, "poster", poster, NULL, &err), 0);
    pipeline_loop_run(&loop);
    thread_join(t);
    assert_true(counted.runs > 0);
    pipeline_loop_post_cancel(&loop, &counted.post);
    assert_int_equal(counted.post.queued, 0);
}

static void note_post(struct loop_post *p)
{
    (void)p;
    note('p');
}

static void a_cancelled_post_does_not_run_and_the_others_do(void **state)
{
    (void)state;
    struct loop_post first = {.run = note_post};
    struct loop_post gone = {.run = note_post};
    struct loop_post last = {.run = note_post};
    struct loop_timer end = {.fire = fire_stop};
    pipeline_loop_post(&loop, &first);
    pipeline_loop_post(&loop, &gone);
    pipeline_loop_post_cancel(&loop, &gone);
    pipeline_loop_post(&loop, &last);
    pipeline_loop_timer_set(&loop, &end, 5);
    pipeline_loop_run(&loop);
    assert_string_equal(order, "pp");
}

static struct loop_io ios[2];
static int pairs[2][2];

/* Whichever comes first removes the other, whose event is already in the same turn. */
static void remove_other(struct loop_io *io, uint32_t events)
{
    (void)events;
    note('i');
    struct loop_io *other = io == &ios[0] ? &ios[1] : &ios[0];
    pipeline_loop_remove(&loop, other);
    pipeline_loop_remove(&loop, io);
    pipeline_loop_stop(&loop);
}

static void a_descriptor_removed_in_a_turn_is_not_called_in_it(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pairs[i]), 0);
        assert_int_equal(write(pairs[i][1], "x", 1), 1);
        ios[i] = (struct loop_io){.fd = pairs[i][0], .ready = remove_other};
        assert_int_equal(pipeline_loop_add(&loop, &ios[i], EPOLLIN, &err), 0);
    }
    pipeline_loop_run(&loop);
    assert_string_equal(order, "i");
    for (int i = 0; i < 2; i++) {
        (void)close(pairs[i][0]);
        (void)close(pairs[i][1]);
    }
}

int loop_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(timers_fire_in_order_and_only_when_set, setup, teardown),
        cmocka_unit_test_setup_teardown(a_timer_set_again_fires_once_at_the_later_time, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(posts_of_another_thread_run_here, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cancelled_post_does_not_run_and_the_others_do, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_descriptor_removed_in_a_turn_is_not_called_in_it, setup,
                                        teardown),
    };
    return cmocka_run_group_tests_name("pipeline loop", tests, NULL, NULL);
}
