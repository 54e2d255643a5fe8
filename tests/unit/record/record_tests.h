/* record's tests: the groups of each file, run by test_record.c. */
#ifndef RECORD_TESTS_H
#define RECORD_TESTS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

int json_tests(void);
int converter_tests(void);

#endif
