#include "tests.h"
int test_sandbox(void)
{
    return 0;
}
