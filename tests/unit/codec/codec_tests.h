/* codec's tests: the groups of each file, run by test_codec.c. */
#ifndef CODEC_TESTS_H
#define CODEC_TESTS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

int yaml_tests(void);
int text_tests(void);

#endif
