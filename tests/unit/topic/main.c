/*
 * Runs every case on every engine that it is for.
 *
 * Cases of groups on Kafka mostly wait (a mock group takes seconds to rebalance), so each of them runs in a process
 * of its own beside the others; what it printed is printed when the rest is done.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "suite.h"

enum { N_LISTS = 5 };

struct bound { /* one case on one engine */
    const struct suite_case *c;
    const struct engine_kind *kind;
    struct fixture fixture;
    char name[200];
};

struct apart { /* one that runs in its own process */
    pid_t pid;
    FILE *output;
};

static int setup(void **state)
{
    struct bound *b = *state;
    b->fixture.kind = b->kind;
    b->fixture.slow = b->c->slow;
    b->kind->open(&b->fixture);
    return 0;
}

static int teardown(void **state)
{
    struct bound *b = *state;
    b->kind->close(&b->fixture);
    b->kind->destroy(&b->fixture);
    return 0;
}

static void run(void **state)
{
    struct bound *b = *state;
    b->c->run(&b->fixture);
}

/* Before any thread is made. */
static int start_apart(const struct CMUnitTest *test, struct apart *ret)
{
    ret->output = tmpfile();
    (void)fflush(NULL);
    ret->pid = ret->output != NULL ? fork() : -1;
    if (ret->pid == 0) {
        (void)dup2(fileno(ret->output), STDOUT_FILENO);
        (void)dup2(fileno(ret->output), STDERR_FILENO);
        int failed = _cmocka_run_group_tests("topic", test, 1, NULL, NULL);
        (void)fflush(NULL);
        exit(failed != 0);
    }
    return ret->pid > 0 ? 0 : 1;
}

static int finish_apart(struct apart *a)
{
    int status = 0;
    char text[4096];
    size_t n;
    int failed = waitpid(a->pid, &status, 0) != a->pid || status != 0;
    rewind(a->output);
    while ((n = fread(text, 1, sizeof(text), a->output)) > 0) {
        (void)fwrite(text, 1, n, stdout);
    }
    (void)fclose(a->output);
    return failed;
}

static int run_all(struct CMUnitTest *tests, size_t n)
{
    struct apart apart[64];
    size_t n_apart = 0;
    size_t n_here = 0;
    int failed = 0;
    for (size_t i = 0; i < n; i++) {
        const struct bound *b = tests[i].initial_state;
        if (b->c->slow && b->kind->flag == ON_KAFKA && n_apart < 64) {
            failed += start_apart(&tests[i], &apart[n_apart]);
            n_apart += apart[n_apart].pid > 0;
        } else {
            tests[n_here++] = tests[i];
        }
    }
    if (n_here > 0) {
        failed += _cmocka_run_group_tests("topic", tests, n_here, NULL, NULL);
    }
    for (size_t i = 0; i < n_apart; i++) {
        failed += finish_apart(&apart[i]);
    }
    return failed;
}

/* With an argument only the cases whose name has it inside. */
int main(int argc, char **argv)
{
    const struct suite_case *lists[] = {topic_cases, unit_cases, group_cases, log_cases,
                                        kafka_cases};
    const size_t counts[] = {n_topic_cases, n_unit_cases, n_group_cases, n_log_cases,
                             n_kafka_cases};
    size_t total = 0;
    for (size_t i = 0; i < N_LISTS; i++) {
        total += counts[i] * n_engine_kinds;
    }
    struct bound *bound = calloc(total, sizeof(*bound));
    struct CMUnitTest *tests = calloc(total, sizeof(*tests));
    if (bound == NULL || tests == NULL) {
        return 1;
    }
    log_set_level(getenv("TOPIC_TEST_DEBUG") != NULL ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
    size_t n = 0;
    for (size_t i = 0; i < n_engine_kinds * N_LISTS; i++) {
        const struct engine_kind *kind = &engine_kinds[i / N_LISTS];
        for (size_t j = 0; j < counts[i % N_LISTS]; j++) {
            struct bound *b = &bound[n];
            b->c = &lists[i % N_LISTS][j];
            b->kind = kind;
            (void)snprintf(b->name, sizeof(b->name), "%s.%s", kind->name, b->c->name);
            if ((b->c->engines & kind->flag) && (argc < 2 || strstr(b->name, argv[1]) != NULL)) {
                tests[n++] = (struct CMUnitTest){b->name, run, setup, teardown, b};
            }
        }
    }
    int failed = run_all(tests, n);
    free(tests);
    free(bound);
    return failed;
}
