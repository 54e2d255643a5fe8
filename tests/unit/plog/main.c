/* Unit tests of host/plog. Each group returns how many of its tests failed. */
#include <stdlib.h>

#include "tests.h"
#include "util.h"

int main(void)
{
    if (getenv("PLOG_TEST_LOG") == NULL) {
        log_set_level(0); /* what is provoked on purpose need not be printed */
    }
    if (getenv("PLOG_TEST") != NULL) {
        cmocka_set_test_filter(getenv("PLOG_TEST")); /* a pattern over test names */
    }
    int failed = 0;
    failed += run_basic_tests();
    failed += run_recover_tests();
    failed += run_fault_tests();
    failed += run_crash_tests();
    return failed != 0;
}
