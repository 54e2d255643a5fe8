/* Unit tests of host/plog. Each group returns how many of its tests failed. */
#include <stdlib.h>

#include "base/log.h"
#include "tests.h"

int main(void)
{
    if (getenv("PLOG_TEST_LOG") == NULL) {
        log_set_level(0); /* what is provoked on purpose need not be printed */
    }
    int failed = 0;
    failed += run_basic_tests();
    failed += run_recover_tests();
    return failed != 0;
}
