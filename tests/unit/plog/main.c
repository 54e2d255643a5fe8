/* Unit tests of host/plog. Each group returns how many of its tests failed. With --write-topics DIR it only
 * writes logs, for tests/kafka_tools. */
#include <stdlib.h>
#include <string.h>

#include "tests.h"
#include "util.h"

int main(int argc, char **argv)
{
    if (getenv("PLOG_TEST_LOG") == NULL) {
        log_set_level(0); /* what is provoked on purpose need not be printed */
    }
    if (getenv("PLOG_TEST") != NULL) {
        cmocka_set_test_filter(getenv("PLOG_TEST")); /* a pattern over test names */
    }
    if (argc == 3 && strcmp(argv[1], "--write-topics") == 0) {
        return write_topics(argv[2]);
    }
    int failed = 0;
    failed += run_basic_tests();
    failed += run_recover_tests();
    failed += run_fault_tests();
    failed += run_crash_tests();
    failed += run_stress_tests();
    return failed != 0;
}
