/* The lists of tests. Each returns how many failed. */
#ifndef TEST_RUNNER_TESTS_H
#define TEST_RUNNER_TESTS_H

int test_load(void);
int test_source(void);
int test_fault(void);
int test_sink(void);
int test_sandbox(void);

#endif
