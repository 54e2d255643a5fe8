/* Runs every case on every engine that it is for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "suite.h"

struct bound { /* one case on one engine */
    const struct suite_case *c;
    const struct engine_kind *kind;
    struct fixture fixture;
    char name[200];
};

static int setup(void **state)
{
    struct bound *b = *state;
    b->fixture.kind = b->kind;
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

int main(int argc, char **argv)
{
    const struct suite_case *lists[] = {topic_cases, unit_cases, group_cases, log_cases};
    const size_t counts[] = {n_topic_cases, n_unit_cases, n_group_cases, n_log_cases};
    size_t total = 0;
    for (size_t i = 0; i < 4; i++) {
        total += counts[i] * n_engine_kinds;
    }
    struct bound *bound = calloc(total, sizeof(*bound));
    struct CMUnitTest *tests = calloc(total, sizeof(*tests));
    if (bound == NULL || tests == NULL) {
        return 1;
    }
    log_set_level(getenv("TOPIC_TEST_DEBUG") != NULL ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
    size_t n = 0;
    for (size_t e = 0; e < n_engine_kinds; e++) {
        for (size_t i = 0; i < 4; i++) {
            for (size_t j = 0; j < counts[i]; j++) {
                struct bound *b = &bound[n];
                if (!(lists[i][j].engines & engine_kinds[e].flag)) {
                    continue;
                }
                b->c = &lists[i][j];
                b->kind = &engine_kinds[e];
                (void)snprintf(b->name, sizeof(b->name), "%s: %s", b->kind->name, b->c->name);
                if (argc > 1 && strstr(b->name, argv[1]) == NULL) {
                    continue;
                }
                tests[n++] = (struct CMUnitTest){b->name, run, setup, teardown, b};
            }
        }
    }
    int failed = _cmocka_run_group_tests("topic", tests, n, NULL, NULL);
    free(tests);
    free(bound);
    return failed;
}
