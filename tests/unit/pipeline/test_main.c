/* Unit tests of host/pipeline. */
#include "pipeline/pipeline_tests.h"

int main(void)
{
    return loop_tests() + config_tests() + validate_tests() + restart_tests();
}
