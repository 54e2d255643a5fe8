/* The SDK's tests: the groups of each file, run by test_sdk.c. */
#ifndef SDK_TESTS_H
#define SDK_TESTS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

int builder_tests(void);

#endif
