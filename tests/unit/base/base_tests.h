/* base's tests: the groups of each file, run by test_base.c. */
#ifndef BASE_TESTS_H
#define BASE_TESTS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

int text_tests(void);
int file_tests(void);

#endif
