#include "tests.h"
int test_load(void)
{
    return 0;
}
