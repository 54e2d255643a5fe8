#include "tests.h"
int test_sink(void)
{
    return 0;
}
