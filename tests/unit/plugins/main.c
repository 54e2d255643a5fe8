/* The plugins' tests: all groups, one after the other. */
#include "harness.h"

int main(void)
{
    return source_tests() + file_sink_tests() + sqlite_tests() + sqlite_offset_tests() == 0 ? 0 : 1;
}
